//! Accepts connections within the limits, and shuts down gracefully.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower::Service as _;

use crate::clients::{Origin, Refusal};
use crate::error::Error;
use crate::metrics::GaugeGuard;
use crate::settings::Settings;
use crate::site::{Shared, Site};

/// Time-out for the head of a request, and for the next request on a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// Time-out for sent data to be acknowledged.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Time-out for a graceful shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which inactive clients are forgotten.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// Delay before accepting again when there are no resources for another connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The server's listeners.
#[derive(Debug)]
pub struct Listeners {
    site: TcpListener,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds the addresses in the settings.
    pub async fn bind(settings: &Settings) -> Result<Self, Error> {
        let site = bind("listen", settings.listen).await?;
        let metrics = match settings.metrics_listen {
            Some(address) => Some(bind("metrics_listen", address).await?),
            None => None,
        };
        Ok(Self { site, metrics })
    }

    /// Address of the site.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.site.local_addr()
    }

    /// Address of the metrics, if they have their own.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

impl From<TcpListener> for Listeners {
    /// Serves the site on an existing listener, without a separate one for metrics.
    fn from(site: TcpListener) -> Self {
        Self { site, metrics: None }
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}

impl Site {
    /// Serves until `shutdown` completes, then waits for current requests and relays, for at most ten seconds.
    pub async fn serve(self, listeners: Listeners, shutdown: impl Future<Output = ()>) {
        let (shared, router) = self.into_router();
        let accept = accept(&shared, &router, &listeners.site);
        let metrics = metrics(&shared, listeners.metrics);
        let tidy = tidy(&shared);
        tokio::select! {
            () = accept => {}
            () = metrics => {}
            () = tidy => {}
            () = shutdown => {}
        }
        drop(listeners.site);
        shared.stop.cancel();
        shared.tasks.close();
        if timeout(SHUTDOWN_TIMEOUT, shared.tasks.wait()).await.is_err() {
            tracing::warn!(connections = shared.tasks.len(), "closed connections that did not end in time");
        }
    }
}

async fn tidy(shared: &Shared) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.clients.tidy();
    }
}

/// Serves metrics on their own listener. The site itself has none, so that no proxy can pass them on.
async fn metrics(shared: &Arc<Shared>, listener: Option<TcpListener>) {
    let Some(listener) = listener else { return std::future::pending().await };
    let shared = Arc::clone(shared);
    metrics_endpoint::serve(listener, move || shared.metrics.text(&shared.clients)).await;
}

async fn accept(shared: &Arc<Shared>, router: &Router, listener: &TcpListener) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // No file descriptors or memory, or a visitor who left at once.
                tracing::warn!("accepting a connection: {error}");
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let address = peer.ip().to_canonical();
        let origin = if shared.clients.trusts(address) {
            Origin::Proxied(address)
        } else {
            match shared.clients.admit(address) {
                Ok(slot) => Origin::Direct(address, Arc::new(slot)),
                Err(refusal) => {
                    refuse(shared, &stream, refusal);
                    continue;
                }
            }
        };
        shared.tasks.spawn(connection(Arc::clone(shared), router.clone(), stream, origin));
    }
}

/// Sends a refusal without reading the request, which is cheaper.
fn refuse(shared: &Shared, stream: &TcpStream, refusal: Refusal) {
    shared.metrics.refused(refusal.metric_label());
    let body = format!("{{\"error\":\"{refusal}\"}}");
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nRetry-After: 10\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // A new socket has room for it. If not, closing is enough.
    stream.try_write(answer.as_bytes()).ok();
}

async fn connection(shared: Arc<Shared>, router: Router, stream: TcpStream, origin: Origin) {
    let _held = GaugeGuard::new(&shared.metrics.connections);
    // Failures only delay answers, and the detection of visitors who left.
    stream.set_nodelay(true).ok();
    let millis = u32::try_from(SEND_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&stream, sockopt::TcpUserTimeout, &millis).ok();

    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
