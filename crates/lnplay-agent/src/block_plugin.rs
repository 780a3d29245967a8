//! A plugin of each node, by which its attendee asks for a block: the method `waitnextblock`.
//!
//! lightningd starts this very executable as the plugin. It runs as the node's user, which can reach nothing of the
//! supervisor's, so a request is the modification time of a file in the node's own directory. The supervisor looks at it
//! once each block time ([`crate::node::Node::block_request`]).
//!
//! Plain blocking reads and writes, since there is one of these processes for each node.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

/// The method.
pub const METHOD: &str = "waitnextblock";

/// The file whose modification time is the last request, in the node's directory of its network.
pub const REQUEST_FILE: &str = "block-request";

/// The most calls that wait at a time.
const MAX_WAITING: usize = 64;

/// lightningd's general error code.
const GENERAL_ERROR: i32 = -1;

/// True if lightningd started this process, as a plugin.
pub fn is_requested() -> bool {
    std::env::var_os("LIGHTNINGD_PLUGIN").is_some()
}

/// Runs the plugin until lightningd closes standard input.
pub fn run() -> io::Result<()> {
    serve(BufReader::new(io::stdin().lock()), io::stdout().lock())
}

fn serve(input: impl io::Read, mut output: impl Write) -> io::Result<()> {
    let mut plugin = Plugin::default();
    for message in serde_json::Deserializer::from_reader(input).into_iter::<Value>() {
        for answer in plugin.handle(&message?) {
            write!(output, "{answer}\n\n")?;
            output.flush()?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Plugin {
    dir: PathBuf,
    /// The ids of calls that are still to be answered.
    waiting: Vec<Value>,
}

impl Plugin {
    /// The answers to a message of lightningd.
    fn handle(&mut self, message: &Value) -> Vec<Value> {
        let (id, params) = (message["id"].clone(), &message["params"]);
        let result = |id: Value, result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        let refused = |id: Value, text: String| json!({"jsonrpc": "2.0", "id": id, "error": {"code": GENERAL_ERROR, "message": text}});
        match message["method"].as_str().unwrap_or_default() {
            "getmanifest" => vec![result(id, manifest())],
            "init" => {
                let dir = params["configuration"]["lightning-dir"].as_str().unwrap_or_default();
                self.dir = PathBuf::from(dir);
                vec![result(id, json!({}))]
            }
            METHOD if self.waiting.len() >= MAX_WAITING => {
                vec![refused(id, format!("{MAX_WAITING} calls are waiting for the next block already"))]
            }
            METHOD => match request(&self.dir.join(REQUEST_FILE)) {
                Ok(()) => {
                    self.waiting.push(id);
                    Vec::new()
                }
                Err(error) => vec![refused(id, format!("cannot ask for a block: {error}"))],
            },
            "block_added" => {
                let block = json!({"blockheight": params["block_added"]["height"]});
                self.waiting.drain(..).map(|id| result(id, block.clone())).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn manifest() -> Value {
    let method = json!({
        "name": METHOD,
        "usage": "",
        "description": "Ask for a block and wait until it is mined",
    });
    json!({
        "options": [],
        "rpcmethods": [method],
        "subscriptions": ["block_added"],
        "dynamic": false,
        "nonnumericids": true,
    })
}

fn request(path: &Path) -> io::Result<()> {
    File::create(path)?.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_leaves_a_request_and_is_answered_by_the_next_block() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(REQUEST_FILE);
        let mut plugin = Plugin::default();
        let init =
            json!({"id": 1, "method": "init", "params": {"configuration": {"lightning-dir": dir.path()}}});
        assert_eq!(plugin.handle(&init).len(), 1);
        let block =
            |height: u32| json!({"method": "block_added", "params": {"block_added": {"height": height}}});
        assert_eq!(plugin.handle(&block(101)), [Value::Null; 0], "nobody waits");
        assert!(!file.exists());
        for id in ["a", "b"] {
            assert_eq!(plugin.handle(&json!({"id": id, "method": METHOD, "params": []})), [Value::Null; 0]);
        }
        assert!(file.exists());
        let answers = plugin.handle(&block(102));
        let ids: Vec<_> = answers.iter().map(|answer| &answer["id"]).collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(answers.iter().all(|answer| answer["result"]["blockheight"] == 102));
        assert_eq!(plugin.handle(&block(103)), [Value::Null; 0]);
    }

    #[test]
    fn calls_that_wait_are_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut plugin = Plugin { dir: dir.path().to_owned(), waiting: Vec::new() };
        let call = json!({"id": "x", "method": METHOD});
        for _ in 0..MAX_WAITING {
            assert_eq!(plugin.handle(&call), [Value::Null; 0]);
        }
        assert_eq!(plugin.handle(&call)[0]["error"]["code"], GENERAL_ERROR);
    }

    #[test]
    fn messages_are_read_one_after_the_other() {
        let input = "{\"id\": 1, \"method\": \"getmanifest\", \"params\": {}}\n\n{\"id\": 2, \"method\": \"init\"}\n\n";
        let mut output = Vec::new();
        serve(input.as_bytes(), &mut output).expect("it ends with its input");
        let text = String::from_utf8(output).expect("text");
        let answers: Vec<Value> =
            text.split_terminator("\n\n").map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(answers.len(), 2);
        assert_eq!(answers[0]["result"]["rpcmethods"][0]["name"], METHOD);
    }
}
