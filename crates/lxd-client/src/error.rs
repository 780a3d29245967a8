//! What can go wrong with a call, sorted by what a caller can do about it.

use std::{error::Error as StdError, time::Duration};

use crate::{Fingerprint, tls::PinMismatch};

/// A call that failed: which call, on which object, on which remote, and how.
///
/// `Display` gives all of it in one line but leaves out the source, which says how the connection failed.
#[derive(Debug, thiserror::Error)]
#[error("remote {remote:?}: {action}: {kind}")]
pub struct Error {
    remote: String,
    action: String,
    kind: Box<ErrorKind>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server says that the object does not exist.
    #[error("not found ({0})")]
    NotFound(String),
    /// The object exists already, was changed by somebody else meanwhile (`ETag`), or is still in use.
    #[error("conflict with what is on the server ({0})")]
    Conflict(String),
    /// The server does not trust our client certificate, or refuses this call to anyone.
    #[error("the server refuses it ({0}); is this client enrolled and allowed to do this?")]
    Forbidden(String),
    /// Our own client certificate is out of date, so no server trusts it whatever its operator did.
    #[error("our client certificate has expired at {0}; make a new one and enrol it")]
    ClientCertificateExpired(jiff::Timestamp),
    /// No connection, or it broke. Whether a change was made is unknown: look before trying again.
    #[error("the server could not be reached or dropped the connection")]
    Unreachable,
    /// No answer in the time given. Whether a change was made is unknown: look before trying again.
    #[error("no end after {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The server accepted the request, worked on it, and failed. The text is the server's.
    #[error("the server tried and failed ({0})")]
    OperationFailed(String),
    /// The server has no room left for it: its storage pool is full, or a quota is used up. The text is the server's.
    #[error("the server has no room left for it ({0})")]
    NoSpace(String),
    /// The operation ended while nobody was asking, and the server has forgotten how. Look at the object.
    #[error("the server no longer knows how this ended; look at the object")]
    OperationForgotten,
    /// Somebody cancelled the operation.
    #[error("the operation was cancelled")]
    OperationCancelled,
    /// Another certificate than the pinned one: another server behind the address, or a new certificate.
    #[error(
        "the server's certificate has the fingerprint {got}, pinned is {expected}; \
         if its certificate was renewed on purpose, pin the new fingerprint"
    )]
    CertificateMismatch {
        /// What was pinned.
        expected: Fingerprint,
        /// What the server showed.
        got: Fingerprint,
    },
    /// Something answers at this address, but not the LXD or Incus API.
    #[error("what answers there is not LXD or Incus ({0})")]
    NotLxd(String),
    /// The answer is longer than [`crate::Limits::answer_bytes`].
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The bound that was passed, in bytes.
        limit: usize,
    },
    /// Any other refusal, with the HTTP status and the server's text.
    #[error("the server answered {status} ({text})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The server's own words.
        text: String,
    },
    /// The call cannot be made at all: a name that cannot stand in a path, an unreadable file, a wrong URL.
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

    /// How the call failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The remote's name, as given in [`crate::ClientConfig::name`].
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// Which call on which object, for example `create instance lnplay in project p`.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Whether the server itself said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound(_))
    }

    /// Whether the object was there already, changed meanwhile, or is in use.
    pub fn is_conflict(&self) -> bool {
        matches!(*self.kind, ErrorKind::Conflict(_))
    }

    /// Whether there was no connection, so that nothing was sent.
    pub(crate) fn is_no_connection(&self) -> bool {
        let cause = self.source.as_deref().and_then(|s| s.downcast_ref::<reqwest::Error>());
        *self.kind == ErrorKind::Unreachable && cause.is_some_and(reqwest::Error::is_connect)
    }

    /// Whether there was a connection, and it broke.
    pub(crate) fn is_broken_connection(&self) -> bool {
        let cause = self.source.as_deref().and_then(|s| s.downcast_ref::<reqwest::Error>());
        *self.kind == ErrorKind::Unreachable && cause.is_some_and(|e| !e.is_connect())
    }

    /// Whether the same call may well work later, with nothing changed on our side.
    ///
    /// Passing: no connection, no answer in time, a forgotten operation, answers 429 and 5xx (LXD answers 500
    /// where its database is busy). Final: everything the server decided, and a certificate that is not the pinned one.
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

/// Turns "not found" into `None`, where absence is an answer and not a failure.
pub trait Found<T> {
    /// `Ok(None)` if the server says that the object does not exist; every other error stays one.
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

/// Sorts an HTTP status of 400 and up by the server's text.
///
/// LXD 5.0 answers "already exists" with 409 or 500 by the object, "Instance is running" to a deletion with 400, and
/// "Only empty projects can be removed" with 500; Incus 6.0 lets its database's "UNIQUE constraint failed" through.
pub(crate) fn from_status(status: u16, text: String) -> ErrorKind {
    match status {
        404 => ErrorKind::NotFound(text),
        401 | 403 => ErrorKind::Forbidden(text),
        409 | 412 => ErrorKind::Conflict(text),
        _ if is_conflict_text(&text) => ErrorKind::Conflict(text),
        _ => ErrorKind::Rejected { status, text },
    }
}

/// Sorts the text of an operation that ended in failure.
pub(crate) fn from_operation(text: String) -> ErrorKind {
    match text.as_str() {
        // What Incus 6.0 makes of an image alias that does not exist.
        "Image not provided for instance creation" => ErrorKind::NotFound(text),
        _ if is_no_space_text(&text) => ErrorKind::NoSpace(text),
        _ if is_conflict_text(&text) => ErrorKind::Conflict(text),
        _ => ErrorKind::OperationFailed(text),
    }
}

/// What the kernel says (ENOSPC, EDQUOT), and what ZFS, btrfs and LVM tools make of it.
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

/// Sorts a failure below HTTP: what the connection, TLS or the HTTP library made of it.
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
    // A connection that is not there in time is as good as one that is refused.
    if error.is_timeout() && !error.is_connect() {
        ErrorKind::TimedOut(Duration::ZERO)
    } else if error.is_builder() {
        ErrorKind::Invalid("the request cannot be made".into())
    } else {
        ErrorKind::Unreachable
    }
}

/// The chain of causes. An `io::Error` made from another error hides that one from `source()`, so it is opened here.
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
    fn a_message_names_remote_call_and_object() {
        let text = error(from_status(404, "Instance not found".into())).to_string();
        assert_eq!(
            text,
            "remote \"eu-1\": create instance lnplay in project p: not found (Instance not found)"
        );
    }

    #[test]
    fn answers_are_sorted_into_passing_and_final() {
        let table = [
            (from_status(404, String::new()), false, "NotFound"),
            (from_status(403, "not authorized".into()), false, "Forbidden"),
            (from_status(401, String::new()), false, "Forbidden"),
            (from_status(409, String::new()), false, "Conflict"),
            (from_status(412, "ETag doesn't match: a vs b".into()), false, "Conflict"),
            (from_status(500, "Only empty projects can be removed".into()), false, "Conflict"),
            (from_status(500, "This \"instances\" entry already exists".into()), false, "Conflict"),
            (from_status(400, "Instance is running".into()), false, "Conflict"),
            (from_status(500, "UNIQUE constraint failed: projects.name".into()), false, "Conflict"),
            (from_status(500, "database is locked".into()), true, "Rejected"),
            (from_status(501, "not implemented".into()), false, "Rejected"),
            (from_status(503, String::new()), true, "Rejected"),
            (from_status(400, "No name provided".into()), false, "Rejected"),
            (from_operation("Failed: This \"instances\" entry already exists".into()), false, "Conflict"),
            (from_operation("Image not provided for instance creation".into()), false, "NotFound"),
            (from_operation("write rootfs/a: no space left on device".into()), false, "NoSpace"),
            (from_operation("No root device could be found".into()), false, "OperationFailed"),
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
