//! A single HTTP call: sends it, limits and counts it, and unwraps the API's envelope around the answer.

use std::{
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{Method, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use crate::{
    Error, ErrorKind, Limits, Result,
    error::{from_connection, from_status, one_line},
};

/// The version of an object, for updates that must not overwrite other clients' changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

/// A call.
pub(crate) struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    payload: Payload,
    /// The action and its object, for messages.
    action: String,
    timeout: Option<Duration>,
}

pub(crate) enum Payload {
    None,
    Json(Value),
    Stream { body: reqwest::Body, length: u64 },
    Form(reqwest::multipart::Form),
}

impl Payload {
    /// A copy for a second attempt; `None` if the call can be sent only once.
    fn again(&self) -> Option<Self> {
        match self {
            Self::None => Some(Self::None),
            Self::Json(body) => Some(Self::Json(body.clone())),
            Self::Stream { .. } | Self::Form(_) => None,
        }
    }
}

impl Call {
    pub(crate) fn new(method: Method, path: &[&str], action: impl Into<String>) -> Self {
        Self {
            method,
            path: path.iter().map(|&s| s.to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            payload: Payload::None,
            action: action.into(),
            timeout: None,
        }
    }

    pub(crate) fn get(path: &[&str], action: impl Into<String>) -> Self {
        Self::new(Method::GET, path, action)
    }

    pub(crate) fn post(path: &[&str], body: Value, action: impl Into<String>) -> Self {
        Self::new(Method::POST, path, action).payload(Payload::Json(body))
    }

    pub(crate) fn put(path: &[&str], body: Value, action: impl Into<String>) -> Self {
        Self::new(Method::PUT, path, action).payload(Payload::Json(body))
    }

    pub(crate) fn patch(path: &[&str], body: Value, action: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path, action).payload(Payload::Json(body))
    }

    pub(crate) fn delete(path: &[&str], action: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, action)
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn project(self, project: &str) -> Self {
        self.query("project", project)
    }

    pub(crate) fn header(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((key, value.into()));
        self
    }

    pub(crate) fn if_match(self, etag: Option<&ETag>) -> Self {
        match etag {
            Some(etag) => self.header("If-Match", etag.0.clone()),
            None => self,
        }
    }

    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Replaces [`Limits::total`] for this call.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// An answer, without its envelope.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) metadata: Value,
    /// The id of the operation, if the call started one.
    pub(crate) operation: Option<String>,
    pub(crate) etag: Option<ETag>,
    /// As in [`Call`].
    pub(crate) action: String,
}

/// The envelope of every answer, <https://documentation.ubuntu.com/lxd/en/stable-5.0/rest-api/#return-values>.
#[derive(Deserialize)]
struct Envelope {
    r#type: EnvelopeType,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: u16,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum EnvelopeType {
    Sync,
    Async,
    Error,
}

/// Time-out for the acknowledgement of sent data. The kernel's default for a host that has disappeared is a quarter of an
/// hour.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection to one server, or to a cluster through any of its members.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) remote: String,
    endpoints: RwLock<Endpoints>,
    http: reqwest::Client,
    limits: Limits,
    calls: AtomicU64,
    /// Expiry date of the client's certificate.
    valid_until: Option<Timestamp>,
    clock_ahead: Mutex<Option<SignedDuration>>,
}

/// URLs of the API; never empty. The first is in use.
#[derive(Debug)]
struct Endpoints(Vec<Url>);

impl Endpoints {
    fn current(&self) -> &Url {
        &self.0[0]
    }

    /// Moves an endpoint that did not answer to the end, if it is still in use.
    fn demote(&mut self, endpoint: &Url) {
        if self.current() == endpoint {
            self.0.rotate_left(1);
        }
    }

    /// Replaces the list; the endpoint in use stays in use if the new list contains it.
    fn replace(&mut self, endpoints: Vec<Url>) {
        if endpoints.is_empty() {
            return;
        }
        let current = endpoints.iter().position(|endpoint| endpoint == self.current());
        self.0 = endpoints;
        self.0.rotate_left(current.unwrap_or(0));
    }
}

/// Avoids an endpoint if a call on it is dropped before it has ended, which happens when the caller's time-out is reached.
struct Watched<'a> {
    transport: &'a Transport,
    endpoint: &'a Url,
    answered: bool,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.transport.demote(self.endpoint);
        }
    }
}

impl Transport {
    pub(crate) fn new(
        remote: String,
        base: Url,
        tls: rustls::ClientConfig,
        limits: Limits,
        valid_until: Option<Timestamp>,
    ) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .connect_timeout(limits.connect)
            // Servers drop idle connections after half a minute or more. This is well below, because a change that is sent on a
            // connection while it is dropped fails, and is not repeated.
            .pool_idle_timeout(Duration::from_secs(10))
            .tcp_user_timeout(UNACKNOWLEDGED_TIMEOUT)
            .tcp_keepalive(UNACKNOWLEDGED_TIMEOUT)
            // A redirect could lead to another server, and a retry could repeat a change.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent(concat!("lnplaylive/", env!("CARGO_PKG_VERSION")))
            .build();
        match http {
            Ok(http) => Ok(Self {
                remote,
                endpoints: RwLock::new(Endpoints(vec![base])),
                http,
                limits,
                calls: AtomicU64::new(0),
                valid_until,
                clock_ahead: Mutex::default(),
            }),
            Err(e) => {
                let kind = ErrorKind::Invalid("the HTTP client cannot be set up".into());
                Err(Error::new(&remote, "set up", kind).with_source(e))
            }
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sets the endpoints for further calls. All of them have the pinned certificate.
    pub(crate) fn set_endpoints(&self, endpoints: Vec<Url>) {
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).replace(endpoints);
    }

    /// The endpoints, the one in use first.
    pub(crate) fn endpoints(&self) -> Vec<Url> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn demote(&self, endpoint: &Url) {
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).demote(endpoint);
    }

    pub(crate) fn calls_made(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The time by which the server's clock was ahead of ours at the last answer with a date.
    pub(crate) fn clock_ahead(&self) -> Option<SignedDuration> {
        *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_clock(&self, date: Option<&header::HeaderValue>) {
        let date = date.and_then(|value| DateTimeParser::new().parse_timestamp(value.as_bytes()).ok());
        if let Some(theirs) = date {
            let ahead = theirs.duration_since(Timestamp::now());
            *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
    }

    /// Makes a call and parses the metadata of its answer.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<(T, Option<ETag>)> {
        let ApiResponse { metadata, etag, action, .. } = self.send(call).await?;
        self.parse(metadata, &action).map(|value| (value, etag))
    }

    /// Parses metadata. A failure means that the server is not LXD or Incus.
    pub(crate) fn parse<T: DeserializeOwned>(&self, metadata: Value, action: &str) -> Result<T> {
        serde_json::from_value(metadata)
            .map_err(|e| self.error(action, ErrorKind::NotLxd("unexpected metadata".into())).with_source(e))
    }

    /// Makes a call. If an endpoint cannot be reached, it uses the next one. The call's time-out covers all attempts.
    pub(crate) async fn send(&self, mut call: Call) -> Result<ApiResponse> {
        let time = call.timeout.unwrap_or(self.limits.total);
        let action = std::mem::take(&mut call.action);
        let timed_out = || self.error(&action, ErrorKind::TimedOut(time));
        let (status, etag, body) = match tokio::time::timeout(time, self.try_endpoints(call, &action)).await {
            Err(_) => return Err(timed_out()),
            Ok(Err(e)) if matches!(e.kind(), ErrorKind::TimedOut(_)) => {
                return Err(timed_out().with_source(e));
            }
            Ok(Err(e)) if matches!(e.kind(), ErrorKind::Forbidden(_)) => {
                self.check_client_certificate(&action)?;
                return Err(e);
            }
            Ok(result) => result?,
        };
        self.open(status, etag, &body, action)
    }

    async fn try_endpoints(&self, mut call: Call, action: &str) -> Result<(u16, Option<ETag>, Vec<u8>)> {
        let endpoints = self.endpoints();
        let (mut at, mut broken) = (0, false);
        loop {
            let endpoint = &endpoints[at % endpoints.len()];
            let url = self.url(endpoint, &call, action)?;
            let again = call.payload.again();
            let payload = std::mem::replace(&mut call.payload, Payload::None);
            let request = self.request(call.method.clone(), &url, &call.headers, payload);
            let mut watched = Watched { transport: self, endpoint, answered: false };
            let result = self.attempt(request, action).await;
            watched.answered = !matches!(&result, Err(e) if *e.kind() == ErrorKind::Unreachable);
            drop(watched);
            let Err(error) = result else { return result };
            // The server closed a kept-alive connection at this moment, or the connection broke: a GET can be repeated.
            let ask_again = error.is_broken_connection() && call.method == Method::GET && !broken;
            // Nothing was sent, so even a change can be sent to another endpoint.
            let elsewhere = error.is_no_connection() && at + 1 < endpoints.len();
            match again {
                Some(payload) if ask_again || elsewhere => call.payload = payload,
                _ => return Err(error),
            }
            tracing::debug!(remote = %self.remote, %endpoint, %action, "the connection failed or broke; trying again");
            broken |= ask_again;
            at += 1;
        }
    }

    /// Returns an error if the client's certificate has expired, which explains why a server does not trust this client.
    pub(crate) fn check_client_certificate(&self, action: &str) -> Result<()> {
        match self.valid_until {
            Some(end) if end < Timestamp::now() => {
                Err(self.error(action, ErrorKind::ClientCertificateExpired(end)))
            }
            _ => Ok(()),
        }
    }

    fn request(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&'static str, String)],
        payload: Payload,
    ) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, url.clone());
        for (key, value) in headers {
            request = request.header(*key, value);
        }
        match payload {
            Payload::None => request,
            Payload::Json(body) => request.json(&body),
            Payload::Stream { body, length } => request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, length)
                .body(body),
            Payload::Form(form) => request.multipart(form),
        }
    }

    /// Sends a request once; returns the answer's status, `ETag` and body, whose size is limited.
    async fn attempt(
        &self,
        request: reqwest::RequestBuilder,
        action: &str,
    ) -> Result<(u16, Option<ETag>, Vec<u8>)> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let broken = |e: reqwest::Error| self.error(action, from_connection(&e)).with_source(e.without_url());
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status().as_u16();
        self.note_clock(response.headers().get(header::DATE));
        let etag = response.headers().get(header::ETAG).and_then(|v| v.to_str().ok());
        let etag = etag.map(|v| ETag(v.to_owned()));
        let limit = self.limits.answer_bytes;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > limit {
                return Err(self.error(action, ErrorKind::TooLarge { limit }));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, etag, body))
    }

    /// Unwraps the envelope.
    fn open(&self, status: u16, etag: Option<ETag>, body: &[u8], action: String) -> Result<ApiResponse> {
        let envelope: Envelope = match serde_json::from_slice(body) {
            Ok(envelope) => envelope,
            Err(e) => {
                let start: String = String::from_utf8_lossy(body).chars().take(80).collect();
                let kind = match status {
                    // Answers of a proxy in front of a server that is down.
                    502..=504 => ErrorKind::Rejected { status, text: one_line(&start) },
                    _ => ErrorKind::NotLxd(format!("status {status}, {start:?}")),
                };
                return Err(self.error(&action, kind).with_source(e));
            }
        };
        if envelope.r#type == EnvelopeType::Error || status >= 400 {
            let status = if envelope.error_code == 0 { status } else { envelope.error_code };
            let kind = from_status(status, &envelope.error);
            if matches!(kind, ErrorKind::Forbidden(_)) {
                self.check_client_certificate(&action)?;
            }
            return Err(self.error(&action, kind));
        }
        let operation = match envelope.r#type {
            EnvelopeType::Async => Some(operation_id(&envelope.operation).ok_or_else(|| {
                self.error(&action, ErrorKind::NotLxd("an operation without a path".into()))
            })?),
            _ => None,
        };
        Ok(ApiResponse { metadata: envelope.metadata, operation, etag, action })
    }

    fn url(&self, endpoint: &Url, call: &Call, action: &str) -> Result<Url> {
        let mut url = endpoint.clone();
        {
            let Ok(mut path) = url.path_segments_mut() else {
                return Err(self.error(action, ErrorKind::Invalid("the URL has no path".into())));
            };
            path.pop_if_empty().push("1.0");
            for segment in &call.path {
                // An empty or dotted segment could turn the deletion of an object into a call on the whole collection.
                if matches!(segment.as_str(), "" | "." | "..") {
                    let text = format!("{segment:?} is not a valid name");
                    return Err(self.error(action, ErrorKind::Invalid(text)));
                }
                path.push(segment);
            }
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Ok(url)
    }

    pub(crate) fn error(&self, action: &str, kind: ErrorKind) -> Error {
        Error::new(&self.remote, action, kind)
    }
}

/// Extracts the id from `/1.0/operations/<id>?project=…`.
fn operation_id(address: &str) -> Option<String> {
    let path = address.split('?').next()?;
    let id = path.rsplit('/').next()?;
    (!id.is_empty()).then(|| id.to_owned())
}
