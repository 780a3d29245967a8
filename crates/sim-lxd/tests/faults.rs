//! The client's errors for a remote that fails, hangs, drops connections or is something else: one kind of error for each fault.

mod support;

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use lxd_client::{Client, ClientConfig, ConfigMap, ErrorKind, Found as _, Limits, Token};
use sim_lxd::{Fault, SimRemote};
use support::{LONG, World, client_config, spec};

/// Short enough to wait for, long enough for a busy machine.
const SHORT: Limits = Limits {
    connect: Duration::from_millis(700),
    total: Duration::from_millis(1500),
    answer_bytes: 8 * 1024 * 1024,
};

/// A second client of the same remote with other limits, already enrolled.
async fn client_with(remote: &SimRemote, limits: Limits) -> Client {
    let token = Token::parse(&remote.token("test")).expect("a token");
    let config = client_config(&remote.url(), &token);
    let patient = Client::new(config.clone()).expect("a client");
    patient.enrol(&token).await.expect("enrolled");
    Client::new(ClientConfig { limits, ..config }).expect("a client")
}

fn calls(remote: &SimRemote) -> usize {
    remote.faults().calls().len()
}

#[tokio::test]
async fn errors_name_remote_action_and_object() {
    let World { remote, client, .. } = World::new().await;
    remote.faults().on("*", "/1.0/projects/*", 1, Fault::Error(500, "database is locked".into()));
    let error = client.project("p").await.expect_err("a failure");
    assert_eq!(
        error.to_string(),
        "remote \"sim\": read project p: the server answered 500 (database is locked)"
    );
    assert!(error.is_transient());
    assert!(client.project("p").await.found().expect("the fault was for one call").is_none());
}

#[tokio::test]
async fn a_hanging_call_times_out() {
    let World { remote, .. } = World::new().await;
    let client = client_with(&remote, SHORT).await;
    client.server().await.expect("an answer");
    remote.faults().on_call(1, Fault::Hang);
    let begin = Instant::now();
    let error = client.projects().await.expect_err("no answer");
    assert_eq!(*error.kind(), ErrorKind::TimedOut(SHORT.total));
    assert!(error.is_transient());
    assert!(begin.elapsed() < SHORT.total * 2, "{:?}", begin.elapsed());
    client.projects().await.expect("only that call hung");
}

#[tokio::test]
async fn a_slow_answer_is_an_answer() {
    let World { remote, client, .. } = World::new().await;
    let delay = Duration::from_millis(300);
    remote.faults().on_call(1, Fault::Delay(delay));
    let begin = Instant::now();
    client.projects().await.expect("an answer");
    assert!(begin.elapsed() >= delay);
}

#[tokio::test]
async fn a_get_is_repeated_once_if_the_connection_breaks() {
    let World { remote, client, .. } = World::new().await;
    for fault in [Fault::DropBefore, Fault::DropAfter] {
        let (before, made) = (calls(&remote), client.calls_made());
        remote.faults().on_call(1, fault.clone());
        client.projects().await.expect("the second try");
        assert_eq!((calls(&remote) - before, client.calls_made() - made), (2, 2));

        remote.faults().on("GET", "/1.0/projects", 2, fault);
        let error = client.projects().await.expect_err("no third try");
        assert_eq!(*error.kind(), ErrorKind::Unreachable);
        assert!(error.is_transient());
        assert_eq!(calls(&remote) - before, 4);
    }
}

#[tokio::test]
async fn a_change_is_never_sent_twice() {
    let World { remote, client, .. } = World::new().await;
    for (fault, done) in [(Fault::DropBefore, false), (Fault::DropAfter, true)] {
        let before = calls(&remote);
        remote.faults().on("POST", "/1.0/projects", 1, fault);
        let error = client.create_project("p", "", &ConfigMap::new()).await.expect_err("no answer");
        assert_eq!(*error.kind(), ErrorKind::Unreachable);
        assert_eq!(calls(&remote) - before, 1);
        assert_eq!(remote.projects().iter().any(|p| p.name == "p"), done);
    }
}

#[tokio::test]
async fn enrolment_can_be_repeated_after_a_lost_answer() {
    let World { remote, .. } = World::new().await;
    let token = Token::parse(&remote.token("test")).expect("a token");
    let client = Client::new(client_config(&remote.url(), &token)).expect("a client");
    remote.faults().on("POST", "/1.0/certificates", 1, Fault::DropAfter);
    assert_eq!(*client.enrol(&token).await.expect_err("no answer").kind(), ErrorKind::Unreachable);
    assert_eq!(client.enrol(&token).await.expect("trusted"), lxd_client::Enrolment::AlreadyTrusted);
}

#[tokio::test]
async fn an_operation_can_fail_or_never_end() {
    let World { remote, client, .. } = World::new().await;
    let create = || Fault::FailOperation("no space left on device".into());
    remote.faults().on("POST", "/1.0/instances", 1, create());
    let error = client.create_instance("default", &spec("i"), LONG).await.expect_err("failed");
    assert_eq!(*error.kind(), ErrorKind::NoSpace("no space left on device".into()));
    assert!(!error.is_transient());
    assert!(client.instances("default").await.expect("a list").is_empty());

    remote.faults().on("POST", "/1.0/instances", 1, Fault::HangOperation);
    let within = Duration::from_millis(1500);
    let begin = Instant::now();
    let error = client.create_instance("default", &spec("i"), within).await.expect_err("no end");
    assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error}");
    assert!(begin.elapsed() < within * 2, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_failed_wait_is_not_a_failed_operation() {
    let World { remote, client, .. } = World::new().await;
    remote.faults().on("GET", "/1.0/operations/*/wait", 1, Fault::DropBefore);
    client.create_instance("default", &spec("i"), LONG).await.expect("created");
    // The wait fails, not the operation: the error is transient, and differs from a failure of the operation.
    remote.faults().on("POST", "/1.0/instances", 1, Fault::HangOperation);
    remote.faults().on("GET", "/1.0/operations/*/wait", 1, Fault::Error(500, "database is locked".into()));
    let error = client.create_instance("default", &spec("j"), LONG).await.expect_err("not waited for");
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn answers_have_a_maximum_length() {
    let World { remote, .. } = World::new().await;
    let client = client_with(&remote, Limits { answer_bytes: 1000, ..Limits::default() }).await;
    remote.faults().on_call(1, Fault::Raw(200, "x".repeat(1001)));
    let error = client.projects().await.expect_err("too long");
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 1000 });
}

#[tokio::test]
async fn an_endless_answer_ends() {
    let World { remote, .. } = World::new().await;
    let client = client_with(&remote, SHORT).await;
    remote.faults().on_call(1, Fault::Flood);
    let error = client.projects().await.expect_err("too long");
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: SHORT.answer_bytes });
    remote.faults().on_call(1, Fault::Drip);
    let error = client.projects().await.expect_err("too slow");
    assert_eq!(*error.kind(), ErrorKind::TimedOut(SHORT.total));
    client.projects().await.expect("only those calls");
}

/// In a log or on a terminal it could pass for something else.
#[tokio::test]
async fn an_error_is_one_line_whatever_the_server_says() {
    let World { remote, client, .. } = World::new().await;
    let text = "no\n2026-11-30 all is well\u{1b}[2J";
    for fault in
        [Fault::Error(500, text.into()), Fault::Error(404, text.into()), Fault::Raw(503, text.into())]
    {
        remote.faults().on_call(1, fault.clone());
        let error = client.projects().await.expect_err("an error").to_string();
        assert!(error.contains("all is well") && !error.contains(char::is_control), "{fault:?}: {error:?}");
    }
}

/// Not even without TLS, to where anybody may listen.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let World { remote, client, .. } = World::new().await;
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("it can");
    let url = format!("http://{}/1.0/projects", elsewhere.local_addr().expect("an address"));
    remote.faults().on_call(1, Fault::Redirect(url));
    let error = client.projects().await.expect_err("no answer of the API");
    assert!(matches!(error.kind(), ErrorKind::NotLxd(_)), "{error}");
    let came = elsewhere.accept().expect_err("nobody");
    assert_eq!(came.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn other_servers_are_recognised() {
    let World { remote, client, .. } = World::new().await;
    for body in ["<html>", "", "{}", "[]", r#"{"type":"sync","metadata":7}"#] {
        remote.faults().on_call(1, Fault::Raw(200, body.into()));
        let error = client.projects().await.expect_err("rubbish");
        assert!(matches!(error.kind(), ErrorKind::NotLxd(_)), "{body:?}: {error}");
        assert!(!error.is_transient());
    }
    remote.faults().on_call(1, Fault::Raw(502, "<html>Bad Gateway".into()));
    let error = client.projects().await.expect_err("the server is away");
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_client_that_is_no_longer_trusted_gets_forbidden() {
    let World { remote, client, .. } = World::new().await;
    remote.distrust_all();
    let error = client.projects().await.expect_err("not trusted");
    assert!(matches!(error.kind(), ErrorKind::Forbidden(_)), "{error}");
}

#[tokio::test]
async fn a_changed_certificate_is_refused() {
    let World { remote, client, dir: _dir } = World::new().await;
    let address = remote.url().trim_start_matches("https://").parse().expect("an address");
    let pinned = remote.fingerprint().to_owned();
    remote.stop().await;
    let made = client.calls_made();
    let error = client.server().await.expect_err("nobody there");
    assert_eq!(*error.kind(), ErrorKind::Unreachable);
    // A broken kept-alive connection is replaced; a refused one is not retried.
    assert!(client.calls_made() - made <= 2);
    let made = client.calls_made();
    client.server().await.expect_err("nobody there");
    assert_eq!(client.calls_made() - made, 1);

    let other = tempfile::tempdir().expect("a directory");
    let config = sim_lxd::SimRemoteConfig {
        listen: address,
        ..sim_lxd::SimRemoteConfig::new(other.path(), support::program("true"))
    };
    let impostor = SimRemote::start(config).await.expect("a remote");
    let error = client.server().await.expect_err("another certificate");
    let text = error.to_string();
    assert!(matches!(error.kind(), ErrorKind::CertificateMismatch { .. }), "{text}");
    assert!(text.contains(&pinned) && text.contains(impostor.fingerprint()), "{text}");
    assert!(calls(&impostor) == 0, "not a word was said to it");
}

/// A server of another kind: a thread that answers every connection with some bytes, or not at all.
fn not_lxd(answer: Option<&'static [u8]>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            if let Some(answer) = answer {
                // Read the hello first: closing would otherwise reset the connection before the answer is seen.
                let _length = stream.read(&mut [0; 4096]).expect("a hello");
                stream.write_all(answer).ok();
            }
            kept.push(stream);
        }
    });
    format!("https://{address}")
}

#[tokio::test]
async fn a_server_without_tls_is_not_lxd_and_a_silent_one_is_unreachable() {
    let World { remote, .. } = World::new().await;
    let token = Token::parse(&remote.token("test")).expect("a token");
    let config = ClientConfig { limits: SHORT, ..client_config(&remote.url(), &token) };
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let url = not_lxd(Some(answer)).parse().expect("a URL");
        let client = Client::new(ClientConfig { url, ..config.clone() }).expect("a client");
        let error = client.server().await.expect_err("no TLS");
        assert!(matches!(error.kind(), ErrorKind::NotLxd(_)), "{error}");
    }
    let url = not_lxd(None).parse().expect("a URL");
    let client = Client::new(ClientConfig { url, ..config.clone() }).expect("a client");
    let begin = Instant::now();
    let error = client.server().await.expect_err("silence");
    assert_eq!(*error.kind(), ErrorKind::Unreachable);
    assert!(begin.elapsed() < SHORT.total * 2, "{:?}", begin.elapsed());

    let url = "http://127.0.0.1:1".parse().expect("a URL");
    let error = Client::new(ClientConfig { url, ..config }).expect_err("no TLS in the URL");
    assert!(matches!(error.kind(), ErrorKind::Invalid(_)), "{error}");
}

/// Presents a certificate without having its key, as anybody can who once connected to the real server.
#[derive(Debug)]
struct Copied(std::sync::Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Copied {
    fn resolve(
        &self,
        _hello: rustls::server::ClientHello<'_>,
    ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[tokio::test]
async fn a_copy_of_the_pinned_certificate_is_not_enough() {
    let World { remote, .. } = World::new().await;
    let make = || rcgen::KeyPair::generate().expect("a key");
    let (key, other) = (make(), make());
    let params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate").der().clone();
    let fingerprint = lxd_client::Fingerprint::of_der(&certificate);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let der = rustls::pki_types::PrivateKeyDer::try_from(other.serialize_der()).expect("a key");
        let signer = rustls::crypto::ring::sign::any_supported_type(&der).expect("a key");
        let copied = rustls::sign::CertifiedKey::new(vec![certificate.clone()], signer);
        let provider = rustls::crypto::ring::default_provider().into();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("a version")
            .with_no_client_auth()
            .with_cert_resolver(std::sync::Arc::new(Copied(copied.into())));
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            acceptor.accept(stream).await.is_err()
        });
        let token = Token::parse(&remote.token("test")).expect("a token");
        let config = ClientConfig { server_fingerprint: fingerprint, ..client_config(&url, &token) };
        let error = Client::new(config).expect("a client").server().await.expect_err("an impostor");
        assert!(matches!(error.kind(), ErrorKind::NotLxd(text) if text.contains("BadSignature")), "{error}");
        assert!(serving.await.expect("no panic"), "TLS must not stand");
    }
}
