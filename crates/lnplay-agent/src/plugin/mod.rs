//! The plugin of each node: its access to the chain ([`backend`]), and the methods by which its attendee asks for a block
//! ([`block_request`]) and shows the room what they ask for ([`shared_requests`]).
//!
//! lightningd starts this very executable as the plugin. It runs as the node's user, which can reach nothing of the
//! supervisor's but the nodes' login at bitcoind. There is one of these processes for each node: a single thread, plain
//! blocking reads and writes, and the pages of the executable are shared by all of them.

pub mod backend;
pub mod bitcoin_rpc;
pub mod block_request;
pub mod shared_requests;

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use self::backend::Backend;
use self::block_request::BlockRequests;
use self::shared_requests::SharedRequests;

/// The environment variable that names the nodes' backend, for lightningd and its plugins. With `bcli`, Core Lightning's own
/// plugin asks bitcoind, and this one does nothing but ask for blocks.
pub const BACKEND_VARIABLE: &str = "LNPLAY_CHAIN_BACKEND";

/// The value of [`BACKEND_VARIABLE`] for Core Lightning's plugin.
pub const BCLI: &str = "bcli";

/// A buffer that has held a large message is released if it is larger than this, in bytes.
const KEPT_BUFFER: usize = 16 << 10;

/// True if lightningd started this process, as a plugin.
pub fn is_requested() -> bool {
    std::env::var_os("LIGHTNINGD_PLUGIN").is_some()
}

/// Runs the plugin until lightningd closes standard input.
pub fn run() -> io::Result<()> {
    let chain = std::env::var_os(BACKEND_VARIABLE).is_none_or(|backend| backend != BCLI);
    let mut plugin = Plugin { chain: chain.then(Backend::default), ..Plugin::default() };
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    let mut buffer = Vec::new();
    loop {
        if has_input(plugin.next_poll().map(|at| at.saturating_duration_since(Instant::now())))? {
            let bytes = stdin.fill_buf()?;
            let count = bytes.len();
            if count == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(bytes);
            stdin.consume(count);
            while let Some(message) = next_message(&mut buffer)? {
                send(&mut stdout, &plugin.handle(&message)?)?;
            }
            if buffer.is_empty() && buffer.capacity() > KEPT_BUFFER {
                buffer = Vec::new();
            }
        }
        send(&mut stdout, &plugin.poll(Instant::now())?)?;
    }
}

/// Waits for input for at most `limit`; `None` for ever.
fn has_input(limit: Option<Duration>) -> io::Result<bool> {
    // A millisecond more, since the rest of one would be waited for in circles.
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    });
    let stdin = io::stdin();
    let mut watched = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut watched, limit) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the first message out of a buffer; `None` if there is no whole one.
fn next_message(buffer: &mut Vec<u8>) -> io::Result<Option<Value>> {
    let mut messages = serde_json::Deserializer::from_slice(buffer).into_iter::<Value>();
    match messages.next() {
        Some(Ok(message)) => {
            let end = messages.byte_offset();
            buffer.drain(..end);
            Ok(Some(message))
        }
        Some(Err(error)) if error.is_eof() => Ok(None),
        Some(Err(error)) => Err(error.into()),
        None => {
            buffer.clear();
            Ok(None)
        }
    }
}

fn send(output: &mut impl Write, messages: &[String]) -> io::Result<()> {
    for message in messages {
        output.write_all(message.as_bytes())?;
        output.write_all(b"\n\n")?;
        output.flush()?;
    }
    Ok(())
}

/// lightningd's general error code.
const GENERAL_ERROR: i32 = -1;

/// lightningd's code for wrong parameters.
const INVALID_PARAMS: i32 = -32602;

/// A method, as lightningd's manifest describes it.
fn method(name: &str, usage: &str, description: &str) -> Value {
    json!({"name": name, "usage": usage, "description": description})
}

/// An answer with `result`, which is JSON.
fn result(id: &Value, result: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// An answer with an error.
fn refusal(id: &Value, code: i32, message: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string()
}

#[derive(Default)]
struct Plugin {
    blocks: BlockRequests,
    requests: SharedRequests,
    /// `None` while Core Lightning's own plugin is the backend.
    chain: Option<Backend>,
}

impl Plugin {
    /// The answers to a message of lightningd. Fails if the plugin cannot go on.
    fn handle(&mut self, message: &Value) -> io::Result<Vec<String>> {
        let (id, params) = (&message["id"], &message["params"]);
        let answers = match message["method"].as_str().unwrap_or_default() {
            "getmanifest" => vec![result(id, self.manifest())],
            "init" => {
                self.blocks.init(params);
                self.requests.init(params);
                if let Some(chain) = &mut self.chain {
                    chain.init(params)?;
                }
                vec![result(id, json!({}))]
            }
            block_request::METHOD => self.blocks.request(id).into_iter().collect(),
            "block_added" => self.blocks.added(&params["block_added"]["height"]),
            "invoice_payment" => {
                self.requests.paid(&params["invoice_payment"]["label"]);
                Vec::new()
            }
            method => match (self.requests.handle(method, id, params), &mut self.chain) {
                (Some(answer), _) => vec![answer],
                (None, Some(chain)) => chain.handle(method, id, params)?.into_iter().collect(),
                (None, None) => Vec::new(),
            },
        };
        Ok(answers)
    }

    /// The time of the next [`Plugin::poll`]; `None` if nothing is waited for.
    fn next_poll(&self) -> Option<Instant> {
        self.chain.as_ref().and_then(Backend::next_poll)
    }

    /// The answers to earlier requests that can be given now.
    fn poll(&mut self, now: Instant) -> io::Result<Vec<String>> {
        self.chain.as_mut().map_or(Ok(Vec::new()), |chain| chain.poll(now))
    }

    fn manifest(&self) -> Value {
        let mut methods = vec![block_request::method()];
        methods.extend(shared_requests::methods());
        let mut options = vec![shared_requests::option()];
        if self.chain.is_some() {
            methods.extend(backend::methods());
            options.extend(backend::options());
        }
        json!({
            "options": options,
            "rpcmethods": methods,
            "subscriptions": ["block_added", "invoice_payment"],
            "dynamic": false,
            "nonnumericids": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_one_after_the_other_however_they_arrive() {
        let input = "{\"id\": 1, \"method\": \"getmanifest\", \"params\": {}}\n\n{\"id\": 2, \"method\": \"init\"}\n\n";
        for cut in 0..input.len() {
            let (mut buffer, mut ids) = (Vec::new(), Vec::new());
            for part in [&input[..cut], &input[cut..]] {
                buffer.extend_from_slice(part.as_bytes());
                while let Some(message) = next_message(&mut buffer).expect("JSON") {
                    ids.push(message["id"].clone());
                }
            }
            assert_eq!(ids, [1, 2], "cut at {cut}");
            assert!(buffer.is_empty(), "cut at {cut}");
        }
        assert!(next_message(&mut b"{]".to_vec()).is_err());
    }

    #[test]
    fn the_chain_is_left_to_bcli_where_that_is_the_backend() {
        let names = |chain: Option<Backend>| {
            let plugin = Plugin { chain, ..Plugin::default() };
            let manifest = plugin.manifest();
            let methods = manifest["rpcmethods"].as_array().expect("a list").clone();
            let names: Vec<_> = methods.into_iter().map(|method| method["name"].clone()).collect();
            (names, manifest["options"].as_array().expect("a list").len())
        };
        let own = ["waitnextblock", "shareinvoice", "unshareinvoice", "listsharedinvoices"];
        assert_eq!(names(None), (own.map(Value::from).to_vec(), 1));
        let (methods, options) = names(Some(Backend::default()));
        assert_eq!((methods.len(), options), (9, 5));
    }
}
