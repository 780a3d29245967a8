//! A line to a server that goes dead after a chosen record, so that whoever uses it can be killed there.
//!
//! TLS hides the calls but not their number: each one begins with a record from the client. Some records belong to the
//! handshake; going dead after those is as good a moment as any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lxd_client::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{Culler, HOUR, Project, snapshot};

/// Has one project culled over and over, killing the culler at one record later each time, from the `first` one on. What
/// there was besides is there and runs when the next pass is done. Returns how often it was killed.
pub(crate) async fn kill_at_every_call(client: &Client, culler: &Culler, url: &str, first: usize) -> usize {
    let before = snapshot(client).await;
    for records in first..60 {
        Project::ending(-HOUR).make_running(client).await;
        let line = Line::new(url, records).await;
        culler.redirect(url, &line.url);
        let mut run = culler.command().spawn().expect("it runs");
        let ended = tokio::select! {
            () = line.dead() => None,
            status = run.wait() => Some(status.expect("it is ours")),
        };
        run.kill().await.expect("it is ours");
        culler.redirect(&line.url, url);
        culler.run(&[]).await.expect_status(0);
        assert_eq!(snapshot(client).await, before, "killed after {records} records, {ended:?}");
        if let Some(status) = ended {
            assert!(status.success(), "nothing was in its way: {status}");
            return records - first;
        }
    }
    panic!("it never comes to its end");
}

/// TLS: type, version, length.
const HEADER: usize = 5;

/// The line.
struct Line {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    /// Client's records that may still pass.
    left: AtomicUsize,
    dead: Notify,
}

impl Line {
    /// A line to the server at `url` on which `records` of the client's pass. The server answers the last one, and the
    /// answer does not arrive: by then what was asked for is done, or under way.
    async fn new(url: &str, records: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let target = url.trim_start_matches("https://").to_owned();
        let shared = Arc::new(Shared { target, left: AtomicUsize::new(records), dead: Notify::new() });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Self { url: format!("https://{address}"), shared }
    }

    /// Returns when the line is dead.
    async fn dead(&self) {
        self.shared.dead.notified().await;
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(&shared.target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(up(from_client, to_server, &shared), down(from_server, to_client, &shared));
}

/// Passes the client's records on.
async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut record = vec![0; HEADER];
    loop {
        record.resize(HEADER, 0);
        if from.read_exact(&mut record).await.is_err() {
            return;
        }
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(HEADER + length, 0);
        if from.read_exact(&mut record[HEADER..]).await.is_err() {
            return;
        }
        let left = shared.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            // The server had nothing to say to the last one.
            shared.dead.notify_one();
            std::future::pending::<()>().await;
        }
        if to.write_all(&record).await.is_err() {
            return;
        }
    }
}

/// Passes the server's answers on, until one is to the last record.
async fn down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if shared.left.load(Ordering::SeqCst) == 0 {
            shared.dead.notify_one();
            std::future::pending::<()>().await;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}
