//! The protocol of the supervisor's unix socket, and its client.
//!
//! A connection carries one request, a line of JSON, and its answer in JSON lines. `"follow"` is answered by all progress
//! lines up to the last, as they come (see [`lnplaylive_core::progress::Line`]); `"status"` by one [`Status`];
//! `{"desk": ACTION}` by one [`Answer`].

use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use lnplaylive_core::desk::{Action, Answer, Refusal};
use lnplaylive_core::health::REPORT_VERSION;
use lnplaylive_core::{NodeId, version};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Take};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::state::{MAX_SIZE, StateDir};
use crate::{bitcoind, child, names, node};

/// The supervisor answers at once, unless the start of 64 nodes keeps both cores busy.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time that a supervisor takes to end on SIGTERM: the nodes stop, then bitcoind, then followers read the last
/// lines.
pub const SHUTDOWN_TIMEOUT: Duration =
    node::GRACE.saturating_add(bitcoind::GRACE).saturating_add(Duration::from_secs(10));

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Sends progress until the environment is up or has failed.
    Follow,
    /// Sends the environment's status.
    Status,
    /// Carries out an action of the organiser's desk.
    Desk(Action),
}

/// The phase of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing runs.
    Down,
    /// It is coming up.
    Starting,
    /// It is up, though single daemons may be restarting.
    Ready,
    /// It could not be brought up and is being taken down.
    Failed,
}

/// The status of an environment, as `lnplay status` prints it. The shop reads it as
/// [`lnplaylive_core::health::Report`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of this format.
    pub version: u32,
    /// Its phase.
    pub phase: Phase,
    /// True if it is up and every daemon answers.
    pub ready: bool,
    /// Its name; `None` if there is no environment.
    pub environment: Option<String>,
    /// The height of the chain; `None` if bitcoind does not answer.
    pub block_height: Option<u32>,
    /// True if no blocks come by themselves.
    #[serde(default)]
    pub blocks_paused: bool,
    /// bitcoind.
    pub bitcoind: child::Status,
    /// The nodes of the spec, node 0 first.
    pub nodes: Vec<NodeStatus>,
}

/// The status of one node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number, from 0.
    pub index: u32,
    /// Its alias.
    pub name: String,
    /// Its public key, once it has one.
    pub node_id: Option<NodeId>,
    /// The height of the last block that it has seen; `None` if it does not answer.
    pub block_height: Option<u32>,
    /// True if the organiser has switched it off.
    #[serde(default)]
    pub off: bool,
    /// The fingerprint of its rune, see [`lnplaylive_core::desk::fingerprint`].
    #[serde(default)]
    pub card: Option<String>,
    /// Its process.
    #[serde(flatten)]
    pub child: child::Status,
}

/// The answer to a request, line by line.
pub struct Answers(Lines<BufReader<Take<UnixStream>>>);

impl Answers {
    /// The next line; `None` after the last one, and if the supervisor is gone.
    pub async fn next(&mut self) -> anyhow::Result<Option<String>> {
        match self.0.next_line().await {
            Err(error) if is_gone(&error) => Ok(None),
            other => other.context("reading from the supervisor"),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | BrokenPipe | ConnectionReset)
}

/// Sends a request to the supervisor; `None` if there is none.
pub async fn ask(dir: &StateDir, request: Request) -> anyhow::Result<Option<Answers>> {
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    let connected = async {
        let mut stream = UnixStream::connect(dir.control()).await?;
        stream.write_all(&line).await?;
        Ok(stream)
    };
    match connected.await {
        Ok(stream) => Ok(Some(Answers(BufReader::new(stream.take(MAX_SIZE)).lines()))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("asking the supervisor on {}", dir.control().display()))
        }
    }
}

/// The environment's status, from the supervisor or, if there is none, from the state directory.
pub async fn status(dir: &StateDir) -> anyhow::Result<Status> {
    if let Some(mut answers) = ask(dir, Request::Status).await? {
        let line =
            timeout(ANSWER_TIMEOUT, answers.next()).await.context("the supervisor does not answer")??;
        // One that closes the connection without an answer was just ending.
        if let Some(line) = line {
            return serde_json::from_str(&line).context("the supervisor's answer cannot be read");
        }
    }
    let spec = dir.stored_spec()?;
    let node_status = |index: u32, name: Option<&String>| NodeStatus {
        index,
        name: name.map_or_else(|| names::default_name(index).to_owned(), Clone::clone),
        node_id: node::stored_identity(dir, index).ok().flatten().map(|identity| identity.node_id),
        block_height: None,
        off: false,
        card: None,
        child: child::Status::default(),
    };
    let nodes = spec
        .iter()
        .flat_map(|s| (0..s.node_count).map(|i| node_status(i, s.names.get(i as usize))))
        .collect();
    Ok(Status {
        version: REPORT_VERSION,
        phase: Phase::Down,
        ready: false,
        environment: spec.map(|spec| spec.environment),
        block_height: None,
        blocks_paused: false,
        bitcoind: child::Status::default(),
        nodes,
    })
}

/// The most bytes of a request: an action with a long id.
const MAX_REQUEST: u64 = 1024;

/// The longest that the supervisor takes for an action, and for a look at the environment after it.
const DESK_TIMEOUT: Duration = Duration::from_secs(75);

/// Has the supervisor carry out an action of the organiser's desk, which is JSON. Whatever fails is an answer too.
pub async fn desk(dir: &StateDir, action: &[u8]) -> Answer {
    let refused = |reason, message: String| Answer::Refused { reason, message };
    let action: Action = match version::read(action) {
        Ok(action) => action,
        Err(error) => return refused(Refusal::Invalid, error.to_string()),
    };
    let ask = async {
        let Some(mut answers) = ask(dir, Request::Desk(action)).await? else { return Ok(None) };
        let Some(line) = answers.next().await? else { return Ok(None) };
        version::read(line.as_bytes()).map(Some).context("the supervisor's answer cannot be read")
    };
    match timeout(DESK_TIMEOUT, ask).await {
        Ok(Ok(Some(answer))) => answer,
        Ok(Ok(None)) => refused(Refusal::NotRunning, "the environment does not run".to_owned()),
        Ok(Err(error)) => refused(Refusal::Failed, format!("{error:#}")),
        Err(_) => refused(Refusal::Late, format!("no answer after {} s", DESK_TIMEOUT.as_secs())),
    }
}

/// Reads a request, on the supervisor's side.
pub async fn read_request(stream: &mut UnixStream) -> anyhow::Result<Request> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(MAX_REQUEST));
    timeout(ANSWER_TIMEOUT, reader.read_line(&mut line)).await.context("no request came")??;
    match serde_json::from_str(&line) {
        Ok(request) => Ok(request),
        Err(_) => bail!("not a request: {line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use lnplaylive_core::Health;
    use lnplaylive_core::health::{Answer, Condition, Report};

    use super::*;

    /// The shop learns from the answer which nodes are down.
    #[test]
    fn a_status_is_read_by_the_shop() {
        let node = |index: u32, height: Option<u32>| NodeStatus {
            index,
            name: format!("node {index}"),
            node_id: None,
            block_height: height,
            off: false,
            card: None,
            child: child::Status::default(),
        };
        let status = |phase, second: Option<u32>| Status {
            version: REPORT_VERSION,
            phase,
            ready: false,
            environment: None,
            block_height: Some(101),
            blocks_paused: false,
            bitcoind: child::Status::default(),
            nodes: vec![node(0, Some(101)), node(1, second)],
        };
        let health = |status: &Status| {
            let json = serde_json::to_vec(status).expect("JSON");
            let answer = Answer::Report(Report::parse(&json).expect("a report"));
            Health::new(Condition::Unknown, jiff::Timestamp::UNIX_EPOCH)
                .after(answer, jiff::Timestamp::UNIX_EPOCH)
        };
        assert_eq!(health(&status(Phase::Ready, Some(101))).condition, Condition::Ok);
        let down = health(&status(Phase::Ready, None)).condition;
        assert_eq!(down.nodes_down().iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["node 1"]);
        assert_eq!(health(&status(Phase::Starting, None)).condition, Condition::Unknown);
    }
}
