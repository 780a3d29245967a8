//! The supervisor's unix socket: the others ask on it, it answers in JSON lines.
//!
//! One request a connection, a line: `"follow"` is answered by the progress lines from the first on and as they come,
//! up to the last (see [`lnplaylive_core::progress::Line`]); `"status"` by one [`Status`].

use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use lnplaylive_core::NodeId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Take};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::child;
use crate::names;
use crate::state::{MAX_SIZE, StateDir};

/// The supervisor answers at once, but for the start of 64 nodes that may keep both cores busy.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Progress, until it is up or has failed.
    Follow,
    /// How it is.
    Status,
}

/// How far an environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing runs.
    Down,
    /// It is coming up.
    Starting,
    /// It was handed over.
    Ready,
    /// It could not be brought up and is being taken down.
    Failed,
}

/// What `lnplay status` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// How far it is.
    pub phase: Phase,
    /// It was handed over, and every daemon answers.
    pub ready: bool,
    /// The environment's name; `None` when there never was one.
    pub environment: Option<String>,
    /// The height of the chain; `None` when bitcoind does not say.
    pub block_height: Option<u32>,
    /// bitcoind.
    pub bitcoind: child::Status,
    /// The nodes of the spec, node 0 first.
    pub nodes: Vec<NodeStatus>,
}

/// How one node is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number, from 0.
    pub index: u32,
    /// Its alias.
    pub name: String,
    /// Its public key, once it has one.
    pub node_id: Option<NodeId>,
    /// The last block that it has seen; `None` when it does not say.
    pub block_height: Option<u32>,
    /// Its process.
    #[serde(flatten)]
    pub child: child::Status,
}

/// A connection to the supervisor on which a request was made; its answers, a line each.
pub struct Answers(Lines<BufReader<Take<UnixStream>>>);

impl Answers {
    /// The next line; `None` when the supervisor has no more to say, or is gone.
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

/// Asks the supervisor; `None` when there is none.
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

/// How the environment is.
pub async fn status(dir: &StateDir) -> anyhow::Result<Status> {
    if let Some(mut answers) = ask(dir, Request::Status).await? {
        let line =
            timeout(ANSWER_LIMIT, answers.next()).await.context("the supervisor does not answer")??;
        // Without an answer it was just ending.
        if let Some(line) = line {
            return serde_json::from_str(&line).context("the supervisor's answer makes no sense");
        }
    }
    let spec = dir.stored_spec()?;
    let node = |index: u32, name: Option<&String>| NodeStatus {
        index,
        name: name.map_or_else(|| names::default_name(index).to_owned(), Clone::clone),
        node_id: crate::node::stored_identity(dir, index).ok().flatten().map(|identity| identity.node_id),
        block_height: None,
        child: child::Status::default(),
    };
    let nodes =
        spec.iter().flat_map(|s| (0..s.node_count).map(|i| node(i, s.names.get(i as usize)))).collect();
    Ok(Status {
        phase: Phase::Down,
        ready: false,
        environment: spec.map(|spec| spec.environment),
        block_height: None,
        bitcoind: child::Status::default(),
        nodes,
    })
}

/// Reads a request, on the supervisor's side.
pub async fn read_request(stream: &mut UnixStream) -> anyhow::Result<Request> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(64));
    timeout(ANSWER_LIMIT, reader.read_line(&mut line)).await.context("no request came")??;
    match serde_json::from_str(&line) {
        Ok(request) => Ok(request),
        Err(_) => bail!("not a request: {line:?}"),
    }
}
