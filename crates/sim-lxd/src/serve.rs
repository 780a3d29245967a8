//! Connections: TLS, HTTP, and faults outside the API.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
};
use hyper::{Request, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    api::{Entry, Peer, error},
    faults::Fault,
    member::Member,
    operations::{OperationFault, SERVING, Serving},
    tls,
};

/// The common state of a member's connections.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) router: Router,
    pub(crate) member: Arc<Member>,
}

impl Server {
    /// Serves until it is stopped, which closes all connections.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let work = self.clone().connection(stream);
                        tasks.spawn(stop.clone().run_until_cancelled_owned(work));
                    }
                    Err(error) => {
                        // For example, no free file descriptors: other connections will close and free some.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accept).await;
        tasks.close();
        tasks.wait().await;
    }

    async fn connection(self, stream: TcpStream) {
        stream.set_nodelay(true).ok();
        let stream = match self.acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "the TLS handshake with a client failed"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
        let peer = Peer(certificate.map(|der| tls::fingerprint(der)));
        // With this a call can drop its connection.
        let drop = CancellationToken::new();
        let service = service_fn(|request| self.clone().call(request, peer.clone(), drop.clone()));
        let serve = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        if let Some(Err(error)) = drop.run_until_cancelled(serve).await {
            tracing::debug!(%error, "a connection broke");
        }
    }

    async fn call(
        self,
        mut request: Request<Incoming>,
        peer: Peer,
        drop: CancellationToken,
    ) -> std::io::Result<Response> {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Entry(self.member.clone()));
        let (uri, faults) = (request.uri(), &self.member.faults);
        let fault = faults.arrived(request.method(), uri.path(), uri.query().unwrap_or_default());
        let answer = async {
            self.router.clone().oneshot(request.map(Body::new)).await.unwrap_or_else(|e| match e {})
        };
        let Some(mut answer) = carry_out(&self.member, fault, answer).await else {
            drop.cancel();
            return std::future::pending().await;
        };
        if let Some(date) = faults.date().and_then(|date| date.parse().ok()) {
            answer.headers_mut().insert(header::DATE, date);
        }
        Ok(answer)
    }
}

/// Lets a member execute a call, with a fault; `None` if the connection is to be dropped.
pub(crate) async fn carry_out(
    member: &Arc<Member>,
    fault: Option<Fault>,
    answer: impl Future<Output = Response>,
) -> Option<Response> {
    let spoiled = match &fault {
        Some(Fault::FailOperation(text)) => Some(OperationFault::Fail(text.clone())),
        Some(Fault::HangOperation) => Some(OperationFault::Hang),
        Some(Fault::HalfMade) => Some(OperationFault::HalfMade),
        _ => None,
    };
    let code = |status| StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match fault {
        Some(Fault::Error(status, text)) => return Some(error(code(status), &text)),
        Some(Fault::Raw(status, body)) => return Some((code(status), body).into_response()),
        Some(Fault::Redirect(url)) => {
            return Some((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response());
        }
        Some(Fault::Drip) => return Some(endless(b" ", DRIP)),
        Some(Fault::Flood) => return Some(endless(&[b' '; 8 << 10], Duration::ZERO)),
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::DropBefore) => return None,
        Some(Fault::Hang) => {
            member.faults.cleared().await;
            return None;
        }
        _ => {}
    }
    let answer = SERVING.scope(Serving { member: member.clone(), spoiled }, answer).await;
    (fault != Some(Fault::DropAfter)).then_some(answer)
}

/// Time between the bytes of [`Fault::Drip`].
const DRIP: Duration = Duration::from_millis(100);

/// An answer of these pieces, which go well with JSON, one after each pause.
fn endless(piece: &'static [u8], pause: Duration) -> Response {
    let pieces = futures_util::stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(piece), ()))
    });
    Body::from_stream(pieces).into_response()
}

/// A TLS acceptor with the remote's certificate.
pub(crate) fn acceptor(config: Arc<rustls::ServerConfig>) -> TlsAcceptor {
    TlsAcceptor::from(config)
}
