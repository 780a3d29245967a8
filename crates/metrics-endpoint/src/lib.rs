//! Metrics for this machine's Prometheus: over HTTP on loopback, or as a file for its node exporter.
//!
//! Metrics tell how much is sold and what is owed, so they are for this machine only: callers bind loopback addresses, which the
//! settings check.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Path of the metrics.
pub const PATH: &str = "/metrics";

/// The format of [`text`]: OpenMetrics.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Maximum number of connections. Prometheus uses one.
const MAX_CONNECTIONS: usize = 8;
/// Time-out for a connection, from its first byte to its last answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// Delay before accepting again when there are no resources for another connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// All metrics of a registry, in OpenMetrics' text format.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("a string takes all");
    text
}

/// Writes metrics for the textfile collector of Prometheus's node exporter, readable by everybody on this machine.
///
/// The collector reads an older format, in which a counter's name is that of its samples: use gauges.
pub fn write_file(path: &Path, registry: &Registry) -> io::Result<()> {
    atomic_file::replace(path, text(registry).as_bytes(), 0o644)
}

/// Answers `GET /metrics` with what `metrics` returns then, for ever. Connections are limited in number, time and size.
pub async fn serve(listener: TcpListener, metrics: impl Fn() -> String + Send + Sync + 'static) {
    let metrics = Arc::new(metrics);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                tokio::spawn(async move {
                    // A caller that is slow or has left does not matter.
                    drop(timeout(CONNECTION_TIMEOUT, connection(stream, &*metrics)).await);
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("accepting a connection for metrics: {error}");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, metrics: impl Fn() -> String) -> Result<(), hyper::Error> {
    let answer = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn respond(method: &Method, path: &str, metrics: impl Fn() -> String) -> Response<String> {
    let (status, body) = match (path, method) {
        (PATH, &Method::GET) => (StatusCode::OK, metrics()),
        (PATH, _) => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    response
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::with_prefix("test");
        let gauge: Gauge = Gauge::default();
        gauge.set(7);
        registry.register("answer", "The answer", gauge);
        registry
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    #[tokio::test]
    async fn only_the_metrics_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, || text(&registry())));
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(FORMAT), "{answer}");
        assert!(answer.contains("\ntest_answer 7\n") && answer.ends_with("# EOF\n"), "{answer}");
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let answer = ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_say_nothing_do_not_keep_others_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, || text(&registry())));
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[test]
    fn a_file_can_be_read_by_everybody() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("test.prom");
        write_file(&path, &registry()).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert!(text.contains("\ntest_answer 7\n"), "{text}");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
