//! Enrolment tokens, as issued by `lxc config trust add` and `incus config trust add`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::Fingerprint;

/// An enrolment token. It enrols one client, once, and contains the fingerprint of the server's certificate.
///
/// The holder of a token can enrol, so `Debug` shows neither the token nor its secret.
#[derive(Clone)]
pub struct Token {
    text: String,
    content: Content,
}

/// The JSON in a token.
#[derive(Clone, Deserialize)]
struct Content {
    client_name: String,
    fingerprint: Fingerprint,
    #[serde(default)]
    addresses: Vec<String>,
    /// Parsed only to check that it exists; the server uses it.
    #[expect(dead_code, reason = "its presence is what is checked")]
    secret: String,
    #[serde(default)]
    expires_at: Option<jiff::Timestamp>,
}

/// Text that is not an enrolment token. The error does not repeat it, because it may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("not an enrolment token: expected base64 of a JSON object with client_name, fingerprint and secret")]
pub struct InvalidToken(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Token {
    /// Parses a token as the server prints it, ignoring surrounding white space.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim().to_owned();
        let json = STANDARD.decode(&text).map_err(|e| InvalidToken(e.into()))?;
        let content = serde_json::from_slice(&json).map_err(|e| InvalidToken(e.into()))?;
        Ok(Self { text, content })
    }

    /// The name under which the server will list this client.
    pub fn client_name(&self) -> &str {
        &self.content.client_name
    }

    /// The fingerprint of the server's certificate.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.content.fingerprint
    }

    /// The addresses on which the server listens, as `host:port`.
    pub fn addresses(&self) -> &[String] {
        &self.content.addresses
    }

    /// Expiry date of the token; `None` if it never expires.
    pub fn expires_at(&self) -> Option<jiff::Timestamp> {
        // The server writes year 1 for "never".
        self.content.expires_at.filter(|at| *at > jiff::Timestamp::UNIX_EPOCH)
    }

    /// The token in the server's format.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("client_name", &self.content.client_name)
            .field("fingerprint", &self.content.fingerprint)
            .field("addresses", &self.content.addresses)
            .field("expires_at", &self.content.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(json: &str) -> String {
        STANDARD.encode(json)
    }

    #[test]
    fn tokens_of_lxd_are_parsed() {
        let json = format!(
            r#"{{"client_name":"shop","fingerprint":"{}","addresses":["10.0.0.7:8443"],"secret":"hush","expires_at":"0001-01-01T00:00:00Z"}}"#,
            "ab".repeat(32)
        );
        let token = Token::parse(&format!(" {}\n", encoded(&json))).expect("a token");
        assert_eq!(token.client_name(), "shop");
        assert_eq!(token.fingerprint().to_string(), "ab".repeat(32));
        assert_eq!(token.addresses(), ["10.0.0.7:8443"]);
        assert_eq!(token.expires_at(), None);
        let shown = format!("{token:?}");
        assert!(!shown.contains("hush") && !shown.contains(token.text()), "{shown}");
    }

    #[test]
    fn invalid_tokens_are_refused_and_not_repeated() {
        for text in ["", "no base64!", &encoded("[]"), &encoded(r#"{"client_name":"a","secret":"hush"}"#)] {
            let error = Token::parse(text).expect_err("no token");
            let shown = format!("{error} {error:?}");
            assert!(text.is_empty() || !shown.contains(text), "{shown}");
            assert!(!shown.contains("hush"), "{shown}");
        }
    }
}
