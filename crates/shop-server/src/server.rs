//! Listens, lets visitors in within the limits, and stops in good order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
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
use crate::metrics::Held;
use crate::settings::Settings;
use crate::site::{Shared, Site};

/// A request's head must be here by then; also how long a connection may wait for its next request.
const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// What was sent must be taken by then, or the connection is given up.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// For what is under way when the server stops.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How often clients that are as good as new are forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How long to wait when the machine has no room for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What the server listens on.
#[derive(Debug)]
pub struct Listeners {
    site: TcpListener,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Listens where the settings say.
    pub async fn bind(settings: &Settings) -> Result<Self, Error> {
        let site = bind("listen", settings.listen).await?;
        let metrics = match settings.metrics_listen {
            Some(address) => Some(bind("metrics_listen", address).await?),
            None => None,
        };
        Ok(Self { site, metrics })
    }

    /// Where the site is.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.site.local_addr()
    }

    /// Where metrics are, if they have an address of their own.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

impl From<TcpListener> for Listeners {
    /// The site on a listener that is there already; metrics nowhere else.
    fn from(site: TcpListener) -> Self {
        Self { site, metrics: None }
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}

impl Site {
    /// Serves until `shutdown` is over, then lets what is under way finish, for ten seconds at most.
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
        if timeout(STOPS_WITHIN, shared.tasks.wait()).await.is_err() {
            tracing::warn!(
                connections = shared.tasks.len(),
                "connections were cut: they did not end in time"
            );
        }
    }
}

async fn tidy(shared: &Shared) {
    let mut ticks = interval(TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.clients.tidy();
    }
}

/// Metrics on a listener of their own, for whoever can reach it.
async fn metrics(shared: &Arc<Shared>, listener: Option<TcpListener>) {
    let Some(listener) = listener else { return std::future::pending().await };
    let all = Arc::clone(shared);
    let router = Router::new().route("/metrics", get(async move || all.metrics.respond()));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("metrics are not served any more: {error}");
        std::future::pending::<()>().await;
    }
}

async fn accept(shared: &Arc<Shared>, router: &Router, listener: &TcpListener) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or memory, or a visitor that has gone again.
                tracing::warn!("accepting a connection: {error}");
                sleep(ACCEPT_AGAIN).await;
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
                    turn_away(shared, &stream, refusal);
                    continue;
                }
            }
        };
        shared.tasks.spawn(connection(Arc::clone(shared), router.clone(), stream, origin));
    }
}

/// Says why before anything was asked: cheaper than to listen.
fn turn_away(shared: &Shared, stream: &TcpStream, refusal: Refusal) {
    shared.metrics.refused(refusal.word());
    let body = format!("{{\"error\":\"{refusal}\"}}");
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nRetry-After: 10\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // A new socket has room for it; if not, being closed says enough.
    stream.try_write(answer.as_bytes()).ok();
}

async fn connection(shared: Arc<Shared>, router: Router, stream: TcpStream, origin: Origin) {
    let _held = Held::new(&shared.metrics.connections);
    // Without these it works as well, only slower to answer and to notice that somebody is gone.
    stream.set_nodelay(true).ok();
    let millis = u32::try_from(TAKEN_WITHIN.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&stream, sockopt::TcpUserTimeout, &millis).ok();

    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
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
