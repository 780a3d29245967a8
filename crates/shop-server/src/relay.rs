//! Passes the bytes of a WebSocket on, both ways, within the limits.
//!
//! Both ends are plain sockets and nothing is kept between them: bytes are read when the one end has some and
//! go into the other end's socket at once. What does not fit there is all that is ever held, and until it has
//! gone nothing more is read, so a slow reader slows down its writer. An idle connection has no buffer at all.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clients::Slot;
use crate::frames::{Frames, Violation};
use crate::settings::Limits;

/// What is read at a time.
const CHUNK: usize = 16 << 10;
/// For what is still under way when one end has closed.
const LINGER: Duration = Duration::from_secs(1);

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// One of the ends closed it.
    Closed,
    /// An end is gone.
    Broken,
    /// Nothing was said for too long.
    Idle,
    /// A frame did not end in time.
    Unfinished,
    /// The frames are not what we pass on.
    Violation(Violation),
    /// The server stops.
    Stopped,
}

impl Ending {
    /// A word for metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Unfinished => "unfinished",
            Self::Violation(_) => "violation",
            Self::Stopped => "stopped",
        }
    }

    /// The status of the close frame that tells the visitor; RFC 6455, section 7.4.1.
    fn close_code(self) -> Option<u16> {
        match self {
            Self::Closed | Self::Broken => None,
            Self::Idle | Self::Stopped => Some(1001),
            Self::Unfinished | Self::Violation(Violation::Control) => Some(1002),
            Self::Violation(Violation::TooLarge) => Some(1009),
        }
    }
}

/// The two ends, with what each has said already.
pub(crate) struct Ends {
    pub(crate) visitor: TcpStream,
    pub(crate) visitor_first: Vec<u8>,
    pub(crate) node: TcpStream,
    pub(crate) node_first: Vec<u8>,
}

/// What both directions share.
struct Progress {
    start: Instant,
    /// Milliseconds from the start to the last byte.
    last: AtomicU64,
    up: Direction,
    down: Direction,
}

/// One direction.
#[derive(Default)]
struct Direction {
    /// Milliseconds from the start to when the message that is under way began, and one; 0 if none is.
    began: AtomicU64,
    /// Whether a frame is under way.
    in_frame: AtomicBool,
    bytes: AtomicU64,
}

impl Progress {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn moved(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }
}

/// Relays until one end closes or a limit is reached; says how it ended, and the bytes from and to the visitor.
pub(crate) async fn run(
    ends: Ends,
    slot: &Arc<Slot>,
    limits: Limits,
    stop: &CancellationToken,
) -> (Ending, u64, u64) {
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
            () = stop.cancelled() => Ending::Stopped,
        };
        ending
    };
    if let Some(code) = ending.close_code() {
        say_goodbye(&visitor, code, &progress).await;
    }
    (ending, progress.up.bytes.load(Ordering::Relaxed), progress.down.bytes.load(Ordering::Relaxed))
}

/// Lets the other direction finish after one has closed.
async fn drain(ending: Ending, other: impl Future<Output = Ending>) -> Ending {
    if ending == Ending::Closed {
        // How that one ends does not matter any more.
        drop(timeout(LINGER, other).await);
    }
    ending
}

/// Ends when there was no byte, or a message under way, for too long.
async fn overdue(limits: Limits, progress: &Progress) -> Ending {
    let (idle, frame) = (u64::from(limits.idle_secs) * 1000, u64::from(limits.frame_secs) * 1000);
    loop {
        // Often enough that neither limit is passed by more than a quarter.
        sleep(Duration::from_millis((idle.min(frame) / 4).max(50))).await;
        let now = progress.now();
        if now.saturating_sub(progress.last.load(Ordering::Relaxed)) >= idle {
            return Ending::Idle;
        }
        for direction in [&progress.up, &progress.down] {
            let began = direction.began.load(Ordering::Relaxed);
            if began > 0 && now.saturating_sub(began - 1) >= frame {
                return Ending::Unfinished;
            }
        }
    }
}

/// What came of moving some bytes.
enum Moved {
    /// All of them went on.
    All(usize),
    /// These did not fit yet, of so many.
    Left(Vec<u8>, usize),
    /// There is nothing to read.
    Nothing,
    /// There never will be.
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
) -> Ending {
    let mut frames = Frames::new(limits.frame_bytes);
    let outcome: Result<Ending, io::Error> = async {
        for chunk in first.chunks(CHUNK) {
            if let Err(violation) = follow(&mut frames, chunk, progress, direction) {
                return Ok(Ending::Violation(violation));
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
                Err(violation) => return Ok(Ending::Violation(violation)),
            };
            let length = match moved {
                Moved::Nothing => continue,
                Moved::End => {
                    // The other end learns that no more comes; it may be gone already.
                    shutdown(to.as_raw_fd(), Shutdown::Write).ok();
                    return Ok(Ending::Closed);
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
    outcome.unwrap_or(Ending::Broken)
}

/// Moves what is there to read. Not async, so that its buffer is on the stack and not in every connection.
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

/// Notes what is about to be passed on.
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
    Ok(())
}

/// Notes what has been passed on.
fn arrived(frames: &Frames, length: usize, progress: &Progress, direction: &Direction) {
    progress.moved();
    direction.bytes.fetch_add(length as u64, Ordering::Relaxed);
    if frames.between_messages() {
        direction.began.store(0, Ordering::Relaxed);
    }
    direction.in_frame.store(!frames.between_frames(), Ordering::Relaxed);
}

/// Waits until the client may use so many more bytes.
async fn spend(slot: &Slot, bytes: usize, progress: &Progress) {
    while let Some(wait) = slot.spend(bytes) {
        sleep(wait).await;
        // It was we who kept silent.
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

/// Tells the visitor why it ends, if no frame of the node's is under way, and gives them a moment to hear it: closing
/// a socket with something unread in it would take back what was sent.
async fn say_goodbye(visitor: &TcpStream, code: u16, progress: &Progress) {
    if progress.down.in_frame.load(Ordering::Relaxed) {
        return;
    }
    let [high, low] = code.to_be_bytes();
    // What does not fit into the socket now is not worth waiting for.
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
    drop(timeout(LINGER, read_away).await);
}

fn read_some(from: &TcpStream) -> io::Result<usize> {
    from.try_read(&mut [0; CHUNK])
}
