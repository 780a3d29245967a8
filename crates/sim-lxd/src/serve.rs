//! Connections: TLS, HTTP, and the faults that come before and after the API.

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
    api::{Peer, error},
    faults::{Fault, Faults},
    operations::{SPOILED, Spoiled},
    tls,
};

/// What every connection is served with.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) router: Router,
    pub(crate) faults: Faults,
}

impl Server {
    /// Serves until stopped; connections end with it.
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
                        // For example no file descriptors left: others will end and give theirs back.
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
            Err(error) => return tracing::debug!(%error, "no TLS with a client"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
        let peer = Peer(certificate.map(|der| tls::fingerprint(der)));
        // Lets a call drop the connection it came on.
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
        let uri = request.uri();
        let fault = self.faults.arrived(request.method(), uri.path(), uri.query().unwrap_or_default());
        let spoiled = match &fault {
            Some(Fault::FailOperation(text)) => Some(Spoiled::Fail(text.clone())),
            Some(Fault::HangOperation) => Some(Spoiled::Hang),
            _ => None,
        };
        let dropped = async {
            drop.cancel();
            std::future::pending().await
        };
        let code = |status| StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match fault {
            Some(Fault::Error(status, text)) => return Ok(error(code(status), &text)),
            Some(Fault::Raw(status, body)) => return Ok((code(status), body).into_response()),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::DropBefore) => return dropped.await,
            Some(Fault::Hang) => {
                self.faults.cleared().await;
                return dropped.await;
            }
            _ => {}
        }
        let answer = SPOILED.scope(spoiled, self.router.oneshot(request.map(Body::new))).await;
        if fault == Some(Fault::DropAfter) {
            return dropped.await;
        }
        let Ok(mut answer) = answer;
        if let Some(date) = self.faults.date().and_then(|date| date.parse().ok()) {
            answer.headers_mut().insert(header::DATE, date);
        }
        Ok(answer)
    }
}

/// An acceptor for the remote's certificate.
pub(crate) fn acceptor(config: Arc<rustls::ServerConfig>) -> TlsAcceptor {
    TlsAcceptor::from(config)
}
