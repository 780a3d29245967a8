//! The client itself: what it is made of, and enrolment.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::json;
use url::Url;

use crate::{
    Error, ErrorKind, Fingerprint, Identity, Operation, Result, Token, tls,
    transport::{Call, Transport},
};

/// Bounds on every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until TCP and TLS stand. 5 s: two lost SYN packets (1 s and 2 s) and a slow handshake.
    pub connect: Duration,
    /// Until the answer is read, for calls that start or look at something. 30 s: a busy LXD server takes seconds
    /// for its database; uploads and operations are given their own time by the caller.
    pub total: Duration,
    /// Length of an answer. 8 MiB: a listing of 1,000 instances with all their keys is about 4 MB.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(30),
            answer_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What a [`Client`] is made from.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// What the remote is called in messages.
    pub name: String,
    /// Where the API is, `https://host:port`.
    pub url: Url,
    /// Who we are.
    pub identity: Identity,
    /// The only certificate that the server may show.
    pub server_fingerprint: Fingerprint,
    /// Bounds on every call.
    pub limits: Limits,
}

impl ClientConfig {
    /// A configuration with the default [`Limits`].
    pub fn new(
        name: impl Into<String>,
        url: Url,
        identity: Identity,
        server_fingerprint: Fingerprint,
    ) -> Self {
        Self { name: name.into(), url, identity, server_fingerprint, limits: Limits::default() }
    }
}

/// How [`Client::enrol`] ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// The token was used up for this client.
    Enrolled,
    /// The server trusted this client before; the token was not used.
    AlreadyTrusted,
}

/// A client of one server or cluster. Cheap to clone; clones share connections and the count of calls.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    server_fingerprint: Fingerprint,
}

impl Client {
    /// Sets a client up. Nothing is sent yet.
    pub fn new(config: ClientConfig) -> Result<Self> {
        let ClientConfig { name, url, identity, server_fingerprint, limits } = config;
        if url.scheme() != "https" || url.host().is_none() {
            let kind = ErrorKind::Invalid(format!("the URL must be https://host:port, not {url}"));
            return Err(Error::new(&name, "set up", kind));
        }
        let tls = tls::config(&identity, server_fingerprint).map_err(|e| {
            let kind = ErrorKind::Invalid("the client's certificate cannot be used".into());
            Error::new(&name, "set up", kind).with_source(e)
        })?;
        let transport = Arc::new(Transport::new(name, url, tls, limits, identity.valid_until())?);
        Ok(Self { transport, server_fingerprint })
    }

    /// The remote's name, as configured.
    pub fn name(&self) -> &str {
        &self.transport.remote
    }

    /// Lets calls go to any of these URLs, the API of one cluster's members, which show the same pinned certificate.
    ///
    /// A call goes to the one that answered last; where there is no connection, to the next. An empty list changes
    /// nothing.
    pub fn set_endpoints(&self, endpoints: Vec<Url>) {
        self.transport.set_endpoints(endpoints);
    }

    /// The URLs that calls may go to, the one in use first.
    pub fn endpoints(&self) -> Vec<Url> {
        self.transport.endpoints()
    }

    /// How many HTTP requests this client and its clones have sent, second tries and waits included.
    pub fn calls_made(&self) -> u64 {
        self.transport.calls_made()
    }

    /// How far the server's clock is ahead of this machine's, as its last answer to this client and its clones told
    /// (to about a second; the time that the answer took counts as well). `None` until one has.
    pub fn server_clock_ahead(&self) -> Option<jiff::SignedDuration> {
        self.transport.clock_ahead()
    }

    /// Makes the server trust this client, with a token from its operator.
    ///
    /// A client that is trusted already keeps its token. If the answer to the enrolment is lost, calling this again is
    /// safe. A wrong, used or expired token is [`ErrorKind::Forbidden`]; a token of another server than the pinned one is
    /// [`ErrorKind::CertificateMismatch`], and nothing is sent.
    pub async fn enrol(&self, token: &Token) -> Result<Enrolment> {
        let action = format!("enrol with the token for {:?}", token.client_name());
        if *token.fingerprint() != self.server_fingerprint {
            let (expected, got) = (self.server_fingerprint, *token.fingerprint());
            return Err(self.transport.error(&action, ErrorKind::CertificateMismatch { expected, got }));
        }
        if self.server().await?.is_trusted() {
            return Ok(Enrolment::AlreadyTrusted);
        }
        // LXD 5.0 wants the token where a password was, Incus and later LXD want it in a field of its own. Incus 6.0 does not
        // announce that (`explicit_trust_token`) and says what it is to trusted clients only; each ignores the other's field.
        let token_text = token.text();
        let name = token.client_name();
        let body = json!({"type": "client", "name": name, "password": token_text, "trust_token": token_text});
        match self.transport.send(Call::post(&["certificates"], body, action)).await {
            Ok(_) => Ok(Enrolment::Enrolled),
            // Another process with the same key may have been first.
            Err(error) if !error.is_transient() && self.server().await?.is_trusted() => {
                Ok(Enrolment::AlreadyTrusted)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the server for an enrolment token for another client, which will be listed as `client_name`.
    ///
    /// Cancelling the operation withdraws the token.
    pub async fn issue_token(&self, client_name: &str) -> Result<(Token, Operation)> {
        use base64::Engine as _;
        let action = format!("issue a token for {client_name:?}");
        let body = json!({"type": "client", "name": client_name, "token": true});
        let (operation, state) = self.start(Call::post(&["certificates"], body, action.clone())).await?;
        // The server hands out the parts; its own command-line client puts them together like this.
        let content = json!({
            "client_name": client_name,
            "fingerprint": state.metadata["fingerprint"],
            "addresses": state.metadata["addresses"],
            "secret": state.metadata["secret"],
            "expires_at": state.metadata.get("expiresAt").cloned().unwrap_or_else(|| json!("0001-01-01T00:00:00Z")),
        });
        let text = base64::engine::general_purpose::STANDARD.encode(content.to_string());
        let token = Token::parse(&text).map_err(|e| {
            self.transport
                .error(&action, ErrorKind::NotLxd("a token without its parts".into()))
                .with_source(e)
        })?;
        Ok((token, operation))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.transport.remote)
            .field("server_fingerprint", &self.server_fingerprint)
            .finish_non_exhaustive()
    }
}
