//! The API without `lxd-client`, for calls that it does not have, and for answers as they are.

use lxd_client::{Client, ClientConfig, Identity, Token};
use serde_json::Value;

/// A client of one URL that takes any certificate.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    url: String,
}

impl Api {
    /// Makes a client and has it trusted with an unused token. Clones of it for other URLs of a cluster are trusted as well.
    pub(crate) async fn enrol(url: &str, token: &str) -> Self {
        Self::enrol_both(url, token).await.0
    }

    /// The same, and a client of `lxd-client` with the same identity.
    pub(crate) async fn enrol_both(url: &str, token: &str) -> (Self, Client) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        let (certificate, key) =
            (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem());
        let token = Token::parse(token).expect("a token");
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("an identity");
        let config = ClientConfig::new("tested", url.parse().expect("a URL"), identity, *token.fingerprint());
        let client = Client::new(config).expect("a client");
        client.enrol(&token).await.expect("enrolled");
        // Another test of the process may have been first.
        rustls::crypto::ring::default_provider().install_default().ok();
        let pem = certificate + &key;
        let http = reqwest::Client::builder()
            .identity(reqwest::Identity::from_pem(pem.as_bytes()).expect("an identity"))
            .tls_danger_accept_invalid_certs(true)
            .build();
        (Self { http: http.expect("a client"), url: url.to_owned() }, client)
    }

    /// The same client for another URL.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { http: self.http.clone(), url: url.to_owned() }
    }

    /// Status and body of an answer.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> reqwest::Result<(u16, Value)> {
        let request = self.http.request(method.parse().expect("a method"), format!("{}{path}", self.url));
        let answer = request.json(&body).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Value::Null).await.expect("an answer")
    }

    /// The metadata of a good answer.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let (status, answer) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer["metadata"].clone()
    }

    /// Makes a change and waits for its operation, if it is one; the error is the server's text.
    pub(crate) async fn change(&self, method: &str, path: &str, body: Value) -> Result<(), String> {
        let (status, answer) = self.call(method, path, body).await.expect("an answer");
        match status {
            202 => self.end_of(&answer).await,
            200..300 => Ok(()),
            _ => Err(reason(&answer, "error")),
        }
    }

    /// Waits for the operation that an answer tells of.
    pub(crate) async fn end_of(&self, answer: &Value) -> Result<(), String> {
        let operation = answer["operation"].as_str().expect("an operation");
        let (_, answer) = self.get(&format!("{operation}/wait")).await;
        let end = &answer["metadata"];
        // LXD answers with the operation that failed, Incus with an error (and the status 200).
        if answer["type"] == "error" {
            Err(reason(&answer, "error"))
        } else if end["status"] == "Success" {
            Ok(())
        } else {
            Err(reason(end, "err"))
        }
    }
}

fn reason(answer: &Value, key: &str) -> String {
    answer[key].as_str().unwrap_or_default().to_owned()
}
