//! Relays the bytes of a WebSocket in both directions, within the limits.
//!
//! Both ends are plain sockets, and nothing is buffered between them: bytes from one end are written to the other at once. Bytes
//! that do not fit into its socket are held, and nothing more is read until they are written, so a slow reader slows down its
//! writer. An idle connection has no buffer.
//!
//! A relay of messages with axum's WebSocket and tokio-tungstenite would be less code, but each of its connections has two buffers.
//! With 5,000 idle WebSockets `benches/server.rs` measured 9.1 kB for each here, 277.5 kB with tungstenite's default buffers and
//! 18.2 kB with buffers of 4 kB (unoptimised build, November 2026). Besides, tungstenite does not show incomplete frames, so
//! [`Limits::frame_secs`] could not be enforced.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use strum::{IntoStaticStr, VariantNames};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clients::Slot;
use crate::frames::{Frames, Violation};
use crate::settings::Limits;

/// Bytes that a node has sent when the Lightning handshake is half done: act two of BOLT 8. It sends more only after a valid act
/// three, so the node judges the visitor's bytes.
const ACT_TWO: u64 = 50;
/// Size of a read.
const CHUNK: usize = 16 << 10;
/// Time-out for the other direction after one end has closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum EndReason {
    /// One end closed it.
    Closed,
    /// A connection broke.
    Broken,
    /// There was no traffic for too long.
    Idle,
    /// The Lightning handshake was not done in time.
    NoHandshake,
    /// The environment has ended.
    #[strum(serialize = "environment_over")]
    Over,
    /// A frame took too long.
    Unfinished,
    /// A frame violated the limits.
    Violation(Violation),
    /// The server is stopping.
    Stopped,
}

impl EndReason {
    /// The label in metrics.
    pub(crate) fn metric_label(self) -> &'static str {
        self.into()
    }

    /// Status code of the close frame for the visitor; RFC 6455, section 7.4.1.
    fn close_code(self) -> Option<u16> {
        match self {
            Self::Closed | Self::Broken => None,
            Self::Idle | Self::Stopped => Some(1001),
            Self::Over => Some(1000),
            Self::NoHandshake | Self::Unfinished | Self::Violation(Violation::Control) => Some(1002),
            Self::Violation(Violation::TooLarge) => Some(1009),
        }
    }
}

/// The two ends, with the bytes that have already been read from them.
pub(crate) struct Ends {
    pub(crate) visitor: TcpStream,
    pub(crate) visitor_first: Vec<u8>,
    pub(crate) node: TcpStream,
    pub(crate) node_first: Vec<u8>,
}

/// State shared by both directions.
struct Progress {
    start: Instant,
    /// Time of the last byte, in milliseconds since the start.
    last: AtomicU64,
    up: Direction,
    down: Direction,
}

/// The state of one direction.
#[derive(Default)]
struct Direction {
    /// Time at which the current message began, in milliseconds since the start, plus one; 0 between messages.
    began: AtomicU64,
    /// True within a frame.
    in_frame: AtomicBool,
    bytes: AtomicU64,
    /// Bytes in data frames.
    data: AtomicU64,
}

impl Progress {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn moved(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }
}

/// Relays until one end closes, a limit is reached, or `over` completes. Returns the reason, and the bytes from and to the visitor.
pub(crate) async fn run(
    ends: Ends,
    slot: &Arc<Slot>,
    limits: Limits,
    over: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> (EndReason, u64, u64) {
    let Ends { visitor, visitor_first, node, node_first } = ends;
    let progress = Progress {
        start: Instant::now(),
        last: AtomicU64::new(0),
        up: Direction::default(),
        down: Direction::default(),
    };
    let ending = {
        let up = pump((&visitor, &node), visitor_first, slot, limits, &progress, &progress.up);
        let down = pump((&node, &visitor), node_first, slot, limits, &progress, &progress.down);
        tokio::pin!(up, down);
        let ending = tokio::select! {
            ending = &mut up => { drain(ending, down).await }
            ending = &mut down => { drain(ending, up).await }
            ending = overdue(limits, &progress) => ending,
            () = no_handshake(limits, &progress) => EndReason::NoHandshake,
            () = over => EndReason::Over,
            () = stop.cancelled() => EndReason::Stopped,
        };
        ending
    };
    if let Some(code) = ending.close_code() {
        send_close(&visitor, code, &progress).await;
    }
    (ending, progress.up.bytes.load(Ordering::Relaxed), progress.down.bytes.load(Ordering::Relaxed))
}

/// Lets the other direction finish after one has closed.
async fn drain(ending: EndReason, other: impl Future<Output = EndReason>) -> EndReason {
    if ending == EndReason::Closed {
        // Its result does not matter any more.
        drop(timeout(LINGER_TIMEOUT, other).await);
    }
    ending
}

/// Returns at the deadline of the Lightning handshake, if it is not done.
async fn no_handshake(limits: Limits, progress: &Progress) {
    sleep(Duration::from_secs(limits.handshake_secs.into())).await;
    if progress.down.data.load(Ordering::Relaxed) > ACT_TWO {
        std::future::pending::<()>().await;
    }
}

/// Returns when there was no byte for too long, or a message takes too long.
async fn overdue(limits: Limits, progress: &Progress) -> EndReason {
    let (idle, frame) = (u64::from(limits.idle_secs) * 1000, u64::from(limits.frame_secs) * 1000);
    loop {
        // Neither limit is exceeded by more than a quarter.
        sleep(Duration::from_millis((idle.min(frame) / 4).max(50))).await;
        let now = progress.now();
        if now.saturating_sub(progress.last.load(Ordering::Relaxed)) >= idle {
            return EndReason::Idle;
        }
        for direction in [&progress.up, &progress.down] {
            let began = direction.began.load(Ordering::Relaxed);
            if began > 0 && now.saturating_sub(began - 1) >= frame {
                return EndReason::Unfinished;
            }
        }
    }
}

/// The result of moving bytes once.
enum Moved {
    /// All bytes were written; their number.
    All(usize),
    /// The bytes that could not be written yet, and the number of bytes read.
    Left(Vec<u8>, usize),
    /// Nothing to read at the moment.
    Nothing,
    /// The source has closed.
    End,
}

/// Moves bytes in one direction until its source closes.
async fn pump(
    (from, to): (&TcpStream, &TcpStream),
    first: Vec<u8>,
    slot: &Slot,
    limits: Limits,
    progress: &Progress,
    direction: &Direction,
) -> EndReason {
    let mut frames = Frames::new(limits.frame_bytes);
    let outcome: Result<EndReason, io::Error> = async {
        for chunk in first.chunks(CHUNK) {
            if let Err(violation) = follow(&mut frames, chunk, progress, direction) {
                return Ok(EndReason::Violation(violation));
            }
            spend(slot, chunk.len(), progress).await;
            write_all(to, chunk, progress).await?;
            arrived(&frames, chunk.len(), progress, direction);
        }
        drop(first);
        loop {
            from.readable().await?;
            let moved = match move_some(from, to, &mut frames, progress, direction)? {
                Ok(moved) => moved,
                Err(violation) => return Ok(EndReason::Violation(violation)),
            };
            let length = match moved {
                Moved::Nothing => continue,
                Moved::End => {
                    // Tells the other end that no more bytes follow; it may have closed already.
                    shutdown(to.as_raw_fd(), Shutdown::Write).ok();
                    return Ok(EndReason::Closed);
                }
                Moved::All(length) => length,
                Moved::Left(left, length) => {
                    write_all(to, &left, progress).await?;
                    length
                }
            };
            arrived(&frames, length, progress, direction);
            spend(slot, length, progress).await;
        }
    }
    .await;
    outcome.unwrap_or(EndReason::Broken)
}

/// Moves the available bytes. Not async, so that its buffer is on the stack instead of in every connection.
fn move_some(
    from: &TcpStream,
    to: &TcpStream,
    frames: &mut Frames,
    progress: &Progress,
    direction: &Direction,
) -> io::Result<Result<Moved, Violation>> {
    let mut buffer = [0; CHUNK];
    let bytes = match from.try_read(&mut buffer) {
        Ok(0) => return Ok(Ok(Moved::End)),
        Ok(length) => &buffer[..length],
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Ok(Moved::Nothing)),
        Err(error) => return Err(error),
    };
    if let Err(violation) = follow(frames, bytes, progress, direction) {
        return Ok(Err(violation));
    }
    let written = match to.try_write(bytes) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    Ok(Ok(if written == bytes.len() {
        Moved::All(written)
    } else {
        Moved::Left(bytes[written..].to_vec(), bytes.len())
    }))
}

/// Records bytes before they are passed on.
fn follow(
    frames: &mut Frames,
    bytes: &[u8],
    progress: &Progress,
    direction: &Direction,
) -> Result<(), Violation> {
    progress.moved();
    frames.follow(bytes)?;
    if direction.began.load(Ordering::Relaxed) == 0 && !frames.between_messages() {
        direction.began.store(progress.now() + 1, Ordering::Relaxed);
    }
    direction.in_frame.store(true, Ordering::Relaxed);
    direction.data.store(frames.data(), Ordering::Relaxed);
    Ok(())
}

/// Records bytes after they have been passed on.
fn arrived(frames: &Frames, length: usize, progress: &Progress, direction: &Direction) {
    progress.moved();
    direction.bytes.fetch_add(length as u64, Ordering::Relaxed);
    if frames.between_messages() {
        direction.began.store(0, Ordering::Relaxed);
    }
    direction.in_frame.store(!frames.between_frames(), Ordering::Relaxed);
}

/// Waits until the client may use this many more bytes.
async fn spend(slot: &Slot, bytes: usize, progress: &Progress) {
    while let Some(wait) = slot.spend(bytes) {
        sleep(wait).await;
        // The delay is ours, so it does not count as idle time.
        progress.moved();
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8], progress: &Progress) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => {
                bytes = &bytes[written..];
                progress.moved();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells the visitor why the connection ends, unless a frame of the node is incomplete, and waits a moment until it is read:
/// closing a socket with unread data discards what was sent.
async fn send_close(visitor: &TcpStream, code: u16, progress: &Progress) {
    if progress.down.in_frame.load(Ordering::Relaxed) {
        return;
    }
    let [high, low] = code.to_be_bytes();
    // If the socket has no room now, do without.
    if visitor.try_write(&[0x88, 2, high, low]).is_err() {
        return;
    }
    shutdown(visitor.as_raw_fd(), Shutdown::Write).ok();
    let read_away = async {
        loop {
            if visitor.readable().await.is_err() {
                return;
            }
            match read_some(visitor) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    drop(timeout(LINGER_TIMEOUT, read_away).await);
}

fn read_some(from: &TcpStream) -> io::Result<usize> {
    from.try_read(&mut [0; CHUNK])
}
