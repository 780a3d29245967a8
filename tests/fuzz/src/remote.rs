//! Answers of an LXD or Incus server.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use lxd_client::{Client, ClientConfig, Collection, Fingerprint, Identity};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Longest time for a call to end.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server that answers every request with the same document.
struct Server {
    runtime: Runtime,
    client: Client,
    /// The status code and the document.
    answer: Arc<Mutex<(u16, Vec<u8>)>>,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let fingerprint = Fingerprint::of_der(&certificate);
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a key and its certificate");
        let answer = Arc::new(Mutex::new((200, Vec::new())));
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("any port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&answer)));
        let identity = Identity::generate("fuzz").expect("a key");
        let url = format!("https://{address}").parse().expect("a URL");
        let client = Client::new(ClientConfig::new("fuzz", url, identity, fingerprint)).expect("a client");
        Self { runtime, client, answer }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, answer: Arc<Mutex<(u16, Vec<u8>)>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("the client connects");
        let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                if !request.ends_with(b"\r\n\r\n") {
                    continue;
                }
                request.clear();
                let (status, body) = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let head = format!(
                    "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The first byte chooses the call, the second the status code, and the rest is the body of the answer. Every call ends in time,
/// with a value or an error that is one line.
pub(crate) fn remote_answer(input: &[u8]) {
    static SERVER: LazyLock<Server> = LazyLock::new(Server::start);
    let [call, status, body @ ..] = input else { return };
    let Server { runtime, client, answer } = &*SERVER;
    let statuses = [200, 200, 200, 202, 400, 403, 404, 409, 412, 500, 503];
    let status = statuses[usize::from(*status) % statuses.len()];
    *answer.lock().unwrap_or_else(PoisonError::into_inner) = (status, body.to_vec());
    let calls = async {
        match call % 12 {
            0 => client.server().await.map(drop),
            1 => client.project("p").await.map(drop),
            2 => client.projects().await.map(drop),
            3 => client.instance("p", "i").await.map(drop),
            4 => client.instances("p").await.map(drop),
            5 => client.instance_state("p", "i").await.map(drop),
            6 => client.locations(None).await.map(drop),
            7 => client.resources().await.map(drop),
            8 => client.cluster_members().await.map(drop),
            9 => client.image_alias("p", "lnplay").await.map(drop),
            10 => client.list(&Collection::Profiles, "p").await.map(drop),
            _ => client.storage_space("pool", None).await.map(drop),
        }
    };
    let result = runtime.block_on(async { timeout(TIMEOUT, calls).await.expect("every call ends in time") });
    if let Err(error) = result {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    }
}
