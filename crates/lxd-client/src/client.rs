//! The client, its configuration, and enrolment.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::json;
use url::Url;

use crate::{
    Error, ErrorKind, Fingerprint, Identity, Operation, Result, Token, tls,
    transport::{Call, Transport},
};

/// Limits on every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time-out for the TCP and TLS handshakes. 5 s: two lost SYN packets (1 s and 2 s) and a slow handshake.
    pub connect: Duration,
    /// Time-out for a complete answer. 30 s: a busy LXD server needs seconds for its database. Uploads and operations have
    /// time-outs of their own, given by the caller.
    pub total: Duration,
    /// Maximum length of an answer. 8 MiB: a listing of 1,000 instances with all their keys is about 4 MB.
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

/// Configuration of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Name of the remote, for messages.
    pub name: String,
    /// URL of the API, `https://host:port`.
    pub url: Url,
    /// This client's certificate and key.
    pub identity: Identity,
    /// Fingerprint of the only certificate that is accepted from the server.
    pub server_fingerprint: Fingerprint,
    /// Limits on every call.
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

/// The result of a successful [`Client::enrol`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// The client was enrolled, and the token is used up.
    Enrolled,
    /// The server already trusted this client; the token was not used.
    AlreadyTrusted,
}

/// A client of one server or cluster. Cheap to clone; clones share connections and the count of calls.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    server_fingerprint: Fingerprint,
}

impl Client {
    /// Creates a client. Sends nothing yet.
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

    /// Sets the URLs of a cluster's members, all of which have the pinned certificate.
    ///
    /// A call goes to the member that answered last, or, without a connection, to the next one. An empty list changes
    /// nothing.
    pub fn set_endpoints(&self, endpoints: Vec<Url>) {
        self.transport.set_endpoints(endpoints);
    }

    /// The URLs for calls, the one in use first.
    pub fn endpoints(&self) -> Vec<Url> {
        self.transport.endpoints()
    }

    /// The number of HTTP requests that this client and its clones have sent, including repeated requests and waits.
    pub fn calls_made(&self) -> u64 {
        self.transport.calls_made()
    }

    /// The time by which the server's clock is ahead of ours, according to its last answer to this client or its clones.
    /// Accurate to about a second, plus the time that the answer took. `None` before the first answer.
    pub fn server_clock_ahead(&self) -> Option<jiff::SignedDuration> {
        self.transport.clock_ahead()
    }

    /// Makes the server trust this client, with a token from its operator.
    ///
    /// If the client is already trusted, the token is not used. If the answer is lost, it is safe to call this again. A wrong,
    /// used or expired token is [`ErrorKind::Forbidden`]. A token of a server other than the pinned one is
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
        // LXD 5.0 expects the token in the password field; Incus and later LXD have a separate field. Incus 6.0 does not announce
        // it (`explicit_trust_token`), and describes itself only to trusted clients. Each ignores the other's field.
        let token_text = token.text();
        let name = token.client_name();
        let body = json!({"type": "client", "name": name, "password": token_text, "trust_token": token_text});
        match self.transport.send(Call::post(&["certificates"], body, action)).await {
            Ok(_) => Ok(Enrolment::Enrolled),
            // Another process with the same key may have enrolled meanwhile.
            Err(error) if !error.is_transient() && self.server().await?.is_trusted() => {
                Ok(Enrolment::AlreadyTrusted)
            }
            Err(error) => Err(error),
        }
    }

    /// Requests an enrolment token for another client, which will be listed as `client_name`.
    ///
    /// Cancelling the operation revokes the token.
    pub async fn issue_token(&self, client_name: &str) -> Result<(Token, Operation)> {
        use base64::Engine as _;
        let action = format!("issue a token for {client_name:?}");
        let body = json!({"type": "client", "name": client_name, "token": true});
        let (operation, state) = self.start(Call::post(&["certificates"], body, action.clone())).await?;
        // The server returns the parts; its command-line client assembles them like this.
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
                .error(&action, ErrorKind::NotLxd("a token with parts missing".into()))
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
