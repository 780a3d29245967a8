//! Errors of calls, classified by what a caller can do about them.

use std::{error::Error as StdError, time::Duration};

use crate::{Fingerprint, tls::PinMismatch};

/// A failed call, with its action, object and remote.
///
/// `Display` gives all of that in one line. It leaves out the source, which says how the connection failed.
#[derive(Debug, thiserror::Error)]
#[error("remote {remote:?}: {action}: {kind}")]
pub struct Error {
    remote: String,
    action: String,
    kind: Box<ErrorKind>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server says that the object does not exist.
    #[error("not found ({0})")]
    NotFound(String),
    /// The object already exists, was changed by another client (`ETag`), or is in use.
    #[error("conflict with an object on the server ({0})")]
    Conflict(String),
    /// The server does not trust our client certificate, or refuses this call to everybody.
    #[error("the server refuses the request ({0}); is this client enrolled and allowed to do this?")]
    Forbidden(String),
    /// Our client certificate has expired, so no server trusts it.
    #[error("our client certificate has expired at {0}; create a new one and enrol it")]
    ClientCertificateExpired(jiff::Timestamp),
    /// The connection could not be made, or broke. A change may or may not have been made: check before trying again.
    #[error("the server could not be reached or dropped the connection")]
    Unreachable,
    /// The time-out was reached. A change may or may not have been made: check before trying again.
    #[error("timed out after {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The server accepted the request, but the operation failed. The text is the server's.
    #[error("the operation failed on the server ({0})")]
    OperationFailed(String),
    /// The server has no space left: its storage pool is full, or a quota is used up. The text is the server's.
    #[error("the server has no space left ({0})")]
    NoSpace(String),
    /// The operation ended while nobody was waiting, and the server has forgotten its result. Look at the object.
    #[error("the server no longer knows the result of the operation; look at the object")]
    OperationForgotten,
    /// Somebody cancelled the operation.
    #[error("the operation was cancelled")]
    OperationCancelled,
    /// The certificate differs from the pinned one: the address leads to another server, or the server has a new certificate.
    #[error(
        "the server's certificate has the fingerprint {got}, but {expected} is pinned; \
         if the certificate was renewed on purpose, pin the new fingerprint"
    )]
    CertificateMismatch {
        /// The pinned fingerprint.
        expected: Fingerprint,
        /// The fingerprint of the server's certificate.
        got: Fingerprint,
    },
    /// The address is not that of an LXD or Incus API.
    #[error("the server at this address is not LXD or Incus ({0})")]
    NotLxd(String),
    /// The answer is longer than [`crate::Limits::answer_bytes`].
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Any other refusal, with the HTTP status and the server's text.
    #[error("the server answered {status} ({text})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The server's text.
        text: String,
    },
    /// The request is invalid and was not sent: a name that cannot be part of a path, an unreadable file, a wrong URL.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn new(remote: &str, action: &str, kind: ErrorKind) -> Self {
        Self { remote: remote.to_owned(), action: action.to_owned(), kind: Box::new(kind), source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The remote's name, as given in [`crate::ClientConfig::name`].
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// The action and its object, for example `create instance lnplay in project p`.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Returns whether the server itself said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound(_))
    }

    /// Returns whether the object already exists, was changed meanwhile, or is in use.
    pub fn is_conflict(&self) -> bool {
        matches!(*self.kind, ErrorKind::Conflict(_))
    }

    /// Returns whether there was no connection, so that nothing was sent.
    pub(crate) fn is_no_connection(&self) -> bool {
        let cause = self.source.as_deref().and_then(|s| s.downcast_ref::<reqwest::Error>());
        *self.kind == ErrorKind::Unreachable && cause.is_some_and(reqwest::Error::is_connect)
    }

    /// Returns whether there was a connection, and it broke.
    pub(crate) fn is_broken_connection(&self) -> bool {
        let cause = self.source.as_deref().and_then(|s| s.downcast_ref::<reqwest::Error>());
        *self.kind == ErrorKind::Unreachable && cause.is_some_and(|e| !e.is_connect())
    }

    /// Returns whether the same call may succeed later without a change on our side.
    ///
    /// Transient: no connection, a time-out, a forgotten operation, and answers 429 and 5xx (LXD answers 500 while its database is
    /// busy). Final: every decision of the server, and a certificate that is not the pinned one.
    pub fn is_transient(&self) -> bool {
        match *self.kind {
            ErrorKind::Unreachable | ErrorKind::TimedOut(_) | ErrorKind::OperationForgotten => true,
            ErrorKind::Rejected { status, .. } => {
                status == 429 || (500..600).contains(&status) && status != 501
            }
            ErrorKind::NotFound(_)
            | ErrorKind::Conflict(_)
            | ErrorKind::Forbidden(_)
            | ErrorKind::ClientCertificateExpired(_)
            | ErrorKind::OperationFailed(_)
            | ErrorKind::NoSpace(_)
            | ErrorKind::OperationCancelled
            | ErrorKind::CertificateMismatch { .. }
            | ErrorKind::NotLxd(_)
            | ErrorKind::TooLarge { .. }
            | ErrorKind::Invalid(_) => false,
        }
    }
}

/// Converts "not found" to `None`, for callers that expect absence.
pub trait Found<T> {
    /// `Ok(None)` if the server says that the object does not exist. Other errors are returned unchanged.
    fn found(self) -> Result<Option<T>, Error>;
}

impl<T> Found<T> for Result<T, Error> {
    fn found(self) -> Result<Option<T>, Error> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A server's text as one line: it goes to logs and terminals, which control characters in it could forge or change.
pub(crate) fn one_line(text: &str) -> String {
    let parts = text.split(char::is_control).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

/// Classifies an HTTP status of 400 or higher, by the server's text.
///
/// LXD 5.0 answers "already exists" with 409 or 500 by the object, "Instance is running" to a deletion with 400, and
/// "Only empty projects can be removed" with 500; Incus 6.0 lets its database's "UNIQUE constraint failed" through.
pub(crate) fn from_status(status: u16, text: &str) -> ErrorKind {
    let text = one_line(text);
    match status {
        404 => ErrorKind::NotFound(text),
        401 | 403 => ErrorKind::Forbidden(text),
        409 | 412 => ErrorKind::Conflict(text),
        _ if is_conflict_text(&text) => ErrorKind::Conflict(text),
        _ => ErrorKind::Rejected { status, text },
    }
}

/// Classifies the text of a failed operation.
pub(crate) fn from_operation(text: &str) -> ErrorKind {
    let text = one_line(text);
    match text.as_str() {
        // Incus 6.0's text for an image alias that does not exist.
        "Image not provided for instance creation" => ErrorKind::NotFound(text),
        _ if is_no_space_text(&text) => ErrorKind::NoSpace(text),
        _ if is_conflict_text(&text) => ErrorKind::Conflict(text),
        _ => ErrorKind::OperationFailed(text),
    }
}

/// Matches the kernel's texts (ENOSPC, EDQUOT), and those of ZFS, btrfs and LVM.
fn is_no_space_text(text: &str) -> bool {
    has_any(
        text,
        &[
            "no space left on device",
            "disk quota exceeded",
            "quota exceeded",
            "out of space",
            "insufficient free space",
        ],
    )
}

fn has_any(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|w| text.contains(w))
}

fn is_conflict_text(text: &str) -> bool {
    let words = [
        "already exists",
        "currently in use",
        "instance is running",
        "only empty projects can be removed",
        "unique constraint failed",
    ];
    has_any(text, &words)
}

/// Classifies a failure below HTTP: of the connection, of TLS or of the HTTP library.
pub(crate) fn from_connection(error: &reqwest::Error) -> ErrorKind {
    use rustls::{AlertDescription as Alert, Error as Tls};
    for cause in causes(error) {
        let Some(tls) = cause.downcast_ref::<Tls>() else { continue };
        return match tls {
            Tls::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                match other.0.downcast_ref::<PinMismatch>() {
                    Some(&PinMismatch { expected, got }) => ErrorKind::CertificateMismatch { expected, got },
                    None => ErrorKind::NotLxd(tls.to_string()),
                }
            }
            Tls::AlertReceived(
                Alert::AccessDenied
                | Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRequired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::UnsupportedCertificate,
            ) => ErrorKind::Forbidden(format!("our client certificate: {tls}")),
            _ => ErrorKind::NotLxd(tls.to_string()),
        };
    }
    // A connection that times out is treated like one that is refused.
    if error.is_timeout() && !error.is_connect() {
        ErrorKind::TimedOut(Duration::ZERO)
    } else if error.is_builder() {
        ErrorKind::Invalid("the request cannot be made".into())
    } else {
        ErrorKind::Unreachable
    }
}

/// The chain of causes. An `io::Error` that wraps another error does not show it in `source()`, so it is unwrapped here.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| {
        match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> Error {
        Error::new("eu-1", "create instance lnplay in project p", kind)
    }

    #[test]
    fn messages_name_remote_action_and_object() {
        let text = error(from_status(404, "Instance not found")).to_string();
        assert_eq!(
            text,
            "remote \"eu-1\": create instance lnplay in project p: not found (Instance not found)"
        );
    }

    #[test]
    fn answers_are_classified_as_transient_or_final() {
        let table = [
            (from_status(404, ""), false, "NotFound"),
            (from_status(403, "not authorized"), false, "Forbidden"),
            (from_status(401, ""), false, "Forbidden"),
            (from_status(409, ""), false, "Conflict"),
            (from_status(412, "ETag doesn't match: a vs b"), false, "Conflict"),
            (from_status(500, "Only empty projects can be removed"), false, "Conflict"),
            (from_status(500, "This \"instances\" entry already exists"), false, "Conflict"),
            (from_status(400, "Instance is running"), false, "Conflict"),
            (from_status(500, "UNIQUE constraint failed: projects.name"), false, "Conflict"),
            (from_status(500, "database is locked"), true, "Rejected"),
            (from_status(501, "not implemented"), false, "Rejected"),
            (from_status(503, ""), true, "Rejected"),
            (from_status(400, "No name provided"), false, "Rejected"),
            (from_operation("Failed: This \"instances\" entry already exists"), false, "Conflict"),
            (from_operation("Image not provided for instance creation"), false, "NotFound"),
            (from_operation("write rootfs/a: no space left on device"), false, "NoSpace"),
            (from_operation("No root device could be found"), false, "OperationFailed"),
            (ErrorKind::Unreachable, true, "Unreachable"),
            (ErrorKind::TimedOut(Duration::from_secs(1)), true, "TimedOut"),
            (ErrorKind::OperationForgotten, true, "OperationForgotten"),
            (ErrorKind::NotLxd(String::new()), false, "NotLxd"),
        ];
        for (kind, transient, name) in table {
            assert!(format!("{kind:?}").starts_with(name), "{kind:?} should be {name}");
            assert_eq!(error(kind.clone()).is_transient(), transient, "{kind:?}");
        }
    }
}
