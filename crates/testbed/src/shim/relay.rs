//! The shim's program: relays between lightningd and the plugin, and between the plugin and lightningd's socket.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, stdin, stdout};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Sender, channel};

use super::{Call, DIR, PLUGIN, Plan, WRITES, When, files};

/// In both protocols messages end with an empty line, and contain none.
const END: &[u8] = b"\n\n";

/// Runs the plugin named in the environment until it exits, lightningd closes it, or the plan kills it; returns the shim's exit
/// status.
pub async fn run() -> anyhow::Result<i32> {
    let variable = |name: &str| std::env::var_os(name).with_context(|| format!("{name} is not set"));
    let (program, dir): (OsString, PathBuf) = (variable(PLUGIN)?, variable(DIR)?.into());
    let mut plugin = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let (to_plugin, from_plugin) = (plugin.stdin.take(), plugin.stdout.take());
    let (Some(to_plugin), Some(mut from_plugin)) = (to_plugin, from_plugin) else {
        anyhow::bail!("the plugin has no pipes")
    };
    let (strike, mut stricken) = channel(1);
    // Runs until stdin ends. Then the plugin's stdin closes, which is how lightningd stops a plugin.
    let inbound = tokio::spawn(async move { relay_inbound(to_plugin, &dir, strike).await });
    let mut out = stdout();
    let outbound = async {
        copy(&mut from_plugin, &mut out).await?;
        out.flush().await
    };
    let ended = tokio::select! {
        Some(()) = stricken.recv() => {
            plugin.kill().await.context("killing the plugin")?;
            return Ok(128 + 9);
        }
        copied = outbound => {
            copied.context("passing on the plugin's output")?;
            plugin.wait().await?
        }
    };
    // Messages that lightningd may still have sent do not matter, but a failure to set up does.
    if inbound.is_finished() {
        inbound.await??;
    }
    Ok(ended.code().unwrap_or(1))
}

/// Passes lightningd's messages to the plugin, with `init` changed so that the plugin uses our socket.
async fn relay_inbound(
    mut to_plugin: impl AsyncWrite + Unpin,
    dir: &Path,
    strike: Sender<()>,
) -> anyhow::Result<()> {
    let mut from = Messages::new(stdin());
    while let Some(message) = from.next().await? {
        let Some((changed, node)) = redirected(&message, &files::socket(dir)) else {
            to_plugin.write_all(&message).await?;
            continue;
        };
        let tally = Tally::open(dir, strike)?;
        let socket = files::socket(dir);
        // Left by an earlier shim.
        std::fs::remove_file(&socket).or_else(|error| {
            if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
        })?;
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
        tokio::spawn(serve(listener, node, Arc::new(tally)));
        to_plugin.write_all(&changed).await?;
        // After `init` messages are passed on unread.
        to_plugin.write_all(&from.buffer).await?;
        copy(&mut from.stream, &mut to_plugin).await?;
        return Ok(());
    }
    Ok(())
}

/// The `init` message with our socket instead of the node's, and the node's socket; `None` for other messages.
///
/// `rpc-file` may be absolute, because it is resolved relative to `lightning-dir`. The plugin's own files stay where they are.
fn redirected(message: &[u8], socket: &Path) -> Option<(Vec<u8>, PathBuf)> {
    let mut init: Value = serde_json::from_slice(message).ok()?;
    if init["method"] != "init" {
        return None;
    }
    let configuration = &mut init["params"]["configuration"];
    let node = Path::new(configuration["lightning-dir"].as_str()?).join(configuration["rpc-file"].as_str()?);
    configuration["rpc-file"] = json!(socket);
    Some(([init.to_string().as_bytes(), END].concat(), node))
}

async fn serve(listener: UnixListener, node: PathBuf, tally: Arc<Tally>) {
    // Accepting fails only without free descriptors. Then the plugin's call fails, as it would at the node.
    while let Ok((plugin, _)) = listener.accept().await {
        let (node, tally) = (node.clone(), Arc::clone(&tally));
        tokio::spawn(async move {
            // A connection that fails is closed, as a failing node would do.
            if let Err(error) = connection(plugin, &node, &tally).await {
                eprintln!("plugin-shim: a call of the plugin's: {error:#}");
            }
        });
    }
}

/// A connection of the plugin: requests and answers in turn, until either side closes.
async fn connection(plugin: UnixStream, node: &Path, tally: &Tally) -> anyhow::Result<()> {
    let (from_plugin, mut to_plugin) = plugin.into_split();
    let (from_node, mut to_node) =
        UnixStream::connect(node).await.context("connecting to the node")?.into_split();
    let (mut from_plugin, mut from_node) = (Messages::new(from_plugin), Messages::new(from_node));
    while let Some(request) = from_plugin.next().await? {
        let planned = tally.note(&request).await?;
        if planned == Some(When::Before) {
            return tally.strike().await;
        }
        to_node.write_all(&request).await?;
        let answer = tokio::select! {
            answer = from_node.next() => answer?,
            // The plugin stopped waiting, for example after a time-out.
            () = from_plugin.closed() => None,
        };
        match planned {
            Some(When::After) => return tally.strike().await,
            Some(When::Lost) => return tally.withdraw(),
            Some(When::Before) | None => {}
        }
        let Some(answer) = answer else { return Ok(()) };
        to_plugin.write_all(&answer).await?;
    }
    Ok(())
}

/// Counts the writes and follows the plan.
struct Tally {
    calls: PathBuf,
    plan: PathBuf,
    strike: Sender<()>,
    seen: Mutex<TallyState>,
}

struct TallyState {
    count: usize,
    stricken: bool,
}

impl Tally {
    fn open(dir: &Path, strike: Sender<()>) -> anyhow::Result<Self> {
        let (calls, plan) = (files::calls(dir), files::plan(dir));
        let count = files::read_calls(&calls).context("reading the calls before this start")?.len();
        Ok(Self { calls, plan, strike, seen: Mutex::new(TallyState { count, stricken: false }) })
    }

    /// Records a request if it writes. Returns whether the plugin is to be killed at it.
    async fn note(&self, request: &[u8]) -> anyhow::Result<Option<When>> {
        let Some(call) = written(request) else { return Ok(None) };
        let mut seen = self.seen.lock().await;
        if seen.stricken {
            // The plugin is being killed: nothing that it sends in parallel may get through.
            std::future::pending::<()>().await;
        }
        let mut file = std::fs::File::options().append(true).create(true).open(&self.calls)?;
        file.write_all(format!("{}\n", serde_json::to_string(&call)?).as_bytes())?;
        seen.count += 1;
        let Ok(plan) = std::fs::read(&self.plan) else { return Ok(None) };
        let plan: Plan = serde_json::from_slice(&plan).context("reading the plan")?;
        if plan.kill != seen.count {
            return Ok(None);
        }
        // Stops later calls. Earlier ones may still be in progress, as in any crash.
        seen.stricken = plan.when != When::Lost;
        Ok(Some(plan.when))
    }

    /// Removes the plan, so that it is carried out once.
    fn withdraw(&self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.plan).context("withdrawing the plan")
    }

    /// Kills the plugin.
    async fn strike(&self) -> anyhow::Result<()> {
        self.withdraw()?;
        self.strike.send(()).await?;
        std::future::pending().await
    }
}

/// The call, if it writes.
fn written(request: &[u8]) -> Option<Call> {
    let request: Value = serde_json::from_slice(request).ok()?;
    let method = request["method"].as_str().filter(|method| WRITES.contains(method))?;
    let params = &request["params"];
    let named = |name: &str, position: usize| {
        params.get(name).or_else(|| params.get(position)).unwrap_or(&Value::Null)
    };
    let (key, mode) = match method {
        "datastore" => (named("key", 0), params["mode"].as_str()),
        "deldatastore" => (named("key", 0), None),
        "invoice" => (named("label", 1), None),
        _ => (named("label", 0), None),
    };
    let key = match key {
        Value::String(key) => key.clone(),
        Value::Array(parts) => {
            parts.iter().map(|part| part.as_str().unwrap_or("?")).collect::<Vec<_>>().join("/")
        }
        other => other.to_string(),
    };
    Some(Call { method: method.into(), key, mode: mode.map(Into::into) })
}

/// Reads messages from a stream, each with the empty line at its end.
struct Messages<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Length of the part of the buffer that contains no end of a message.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0 }
    }

    /// The next message, or `None` at the end. Cancelling this loses nothing.
    async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            let rest = &self.buffer[self.searched..];
            if let Some(at) = rest.windows(END.len()).position(|window| window == END) {
                let message = self.buffer.drain(..self.searched + at + END.len()).collect();
                self.searched = 0;
                return Ok(Some(message));
            }
            self.searched = self.buffer.len().saturating_sub(END.len() - 1);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Waits for the end of the stream. Messages before it stay for [`next`](Self::next).
    async fn closed(&mut self) {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_pointed_at_our_socket_and_otherwise_left_alone() {
        let init = json!({"id": 1, "method": "init", "params": {
            "options": {"a": 1},
            "configuration": {"lightning-dir": "/n/regtest", "rpc-file": "lightning-rpc", "network": "regtest"},
        }});
        let (changed, node) =
            redirected(init.to_string().as_bytes(), Path::new("/s/rpc")).expect("it is init");
        assert_eq!(node, Path::new("/n/regtest/lightning-rpc"));
        let mut expected = init;
        expected["params"]["configuration"]["rpc-file"] = json!("/s/rpc");
        assert_eq!(serde_json::from_slice::<Value>(&changed).expect("JSON"), expected);
        assert!(changed.ends_with(END));
        assert!(redirected(br#"{"method": "getmanifest", "params": {}}"#, Path::new("/s/rpc")).is_none());
    }

    #[test]
    fn writes_are_told_apart_by_position_or_name() {
        let call = |method: &str, params: Value| {
            written(json!({"method": method, "params": params}).to_string().as_bytes())
        };
        let expected = |method: &str, key: &str, mode: Option<&str>| {
            Some(Call { method: method.into(), key: key.into(), mode: mode.map(Into::into) })
        };
        let datastore = json!({"key": ["lnplaylive", "open", "x"], "string": "{}", "mode": "must-replace"});
        assert_eq!(
            call("datastore", datastore),
            expected("datastore", "lnplaylive/open/x", Some("must-replace"))
        );
        assert_eq!(call("invoice", json!([1000, "label", "text"])), expected("invoice", "label", None));
        assert_eq!(
            call("delinvoice", json!({"label": "l", "status": "expired"})),
            expected("delinvoice", "l", None)
        );
        assert_eq!(call("listinvoices", json!({"label": "l"})), None);
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let mut messages = Messages::new(theirs);
        let writer = async {
            for piece in ["{\"a\"", ":1}\n", "\n{\"b\":2}\n\n{\"c\"", ":3}\n\n{\"cut"] {
                ours.write_all(piece.as_bytes()).await.expect("room");
                tokio::task::yield_now().await;
            }
            drop(ours);
        };
        let reader = async {
            let mut all = Vec::new();
            while let Some(message) = messages.next().await.expect("no failure") {
                all.push(String::from_utf8(message).expect("text"));
            }
            all
        };
        let ((), all) = tokio::join!(writer, reader);
        assert_eq!(all, ["{\"a\":1}\n\n", "{\"b\":2}\n\n", "{\"c\":3}\n\n"]);
    }
}
