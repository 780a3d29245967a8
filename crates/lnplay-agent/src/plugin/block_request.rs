//! The method by which an attendee asks for a block: `waitnextblock`.
//!
//! A request is the modification time of a file in the node's own directory. The supervisor looks at it once each block time
//! ([`crate::node::Node::block_request`]).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::GENERAL_ERROR;

/// The method.
pub const METHOD: &str = "waitnextblock";

/// The file whose modification time is the last request, in the node's directory of its network.
pub const REQUEST_FILE: &str = "block-request";

/// The most calls that wait at a time.
const MAX_WAITING: usize = 64;

/// The requests of one node.
#[derive(Default)]
pub(super) struct BlockRequests {
    dir: PathBuf,
    /// The ids of calls that are still to be answered.
    waiting: Vec<Value>,
}

impl BlockRequests {
    /// Takes the node's directory from the parameters of `init`.
    pub(super) fn init(&mut self, params: &Value) {
        let dir = params["configuration"]["lightning-dir"].as_str().unwrap_or_default();
        self.dir = PathBuf::from(dir);
    }

    /// Asks for a block; the answer follows with the block, unless there is one.
    pub(super) fn request(&mut self, id: &Value) -> Option<String> {
        let refused = |text: String| Some(super::refusal(id, GENERAL_ERROR, &text));
        if self.waiting.len() >= MAX_WAITING {
            return refused(format!("{MAX_WAITING} calls are waiting for the next block already"));
        }
        match request(&self.dir.join(REQUEST_FILE)) {
            Ok(()) => {
                self.waiting.push(id.clone());
                None
            }
            Err(error) => refused(format!("cannot ask for a block: {error}")),
        }
    }

    /// The answers to all calls that wait, now that the node has seen the block at `height`.
    pub(super) fn added(&mut self, height: &Value) -> Vec<String> {
        let block = json!({"blockheight": height});
        self.waiting.drain(..).map(|id| super::result(&id, &block)).collect()
    }
}

/// What lightningd is told about the method.
pub(super) fn method() -> Value {
    super::method(METHOD, "", "Ask for a block and wait until it is mined")
}

fn request(path: &Path) -> io::Result<()> {
    File::create(path)?.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(answer: &str) -> Value {
        serde_json::from_str(answer).expect("JSON")
    }

    #[test]
    fn a_call_leaves_a_request_and_is_answered_by_the_next_block() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(REQUEST_FILE);
        let mut blocks = BlockRequests::default();
        blocks.init(&json!({"configuration": {"lightning-dir": dir.path()}}));
        assert_eq!(blocks.added(&json!(101)), [""; 0], "nobody waits");
        assert!(!file.exists());
        for id in ["a", "b"] {
            assert_eq!(blocks.request(&json!(id)), None);
        }
        assert!(file.exists());
        let answers: Vec<_> = blocks.added(&json!(102)).iter().map(|answer| parsed(answer)).collect();
        let ids: Vec<_> = answers.iter().map(|answer| &answer["id"]).collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(answers.iter().all(|answer| answer["result"]["blockheight"] == 102));
        assert_eq!(blocks.added(&json!(103)), [""; 0]);
    }

    #[test]
    fn calls_that_wait_are_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut blocks = BlockRequests { dir: dir.path().to_owned(), waiting: Vec::new() };
        for _ in 0..MAX_WAITING {
            assert_eq!(blocks.request(&json!("x")), None);
        }
        let refusal = blocks.request(&json!("x")).expect("a refusal");
        assert_eq!(parsed(&refusal)["error"]["code"], GENERAL_ERROR);
    }
}
