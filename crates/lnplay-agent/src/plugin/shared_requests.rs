//! The methods by which an attendee shows a payment request to the room and sees those of others: `shareinvoice`,
//! `unshareinvoice` and `listsharedinvoices`. The format and the files are those of [`crate::requests`].

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{GENERAL_ERROR, INVALID_PARAMS, method, refusal, result};
use crate::requests::{MAX_OWN_FILE, MAX_ROOM_FILE, OWN_FILE, Room, Shared};
use crate::state::read_regular;

/// The option that names the file with the requests of all nodes.
pub const FILE_OPTION: &str = "lnplay-requests-file";

const SHARE: &str = "shareinvoice";
const UNSHARE: &str = "unshareinvoice";
const LIST: &str = "listsharedinvoices";

/// The requests of one node, and the way to those of all.
#[derive(Default)]
pub(super) struct SharedRequests {
    own: PathBuf,
    room: PathBuf,
}

impl SharedRequests {
    /// Takes the paths of the files from the parameters of `init`.
    pub(super) fn init(&mut self, params: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.own = Path::new(&text(&params["configuration"]["lightning-dir"])).join(OWN_FILE);
        self.room = text(&params["options"][FILE_OPTION]).into();
    }

    /// The answer to a request; `None` if the method is another's.
    pub(super) fn handle(&self, method: &str, id: &Value, params: &Value) -> Option<String> {
        let text = |at: usize, name: &str| match params {
            Value::Array(all) => all.get(at).and_then(Value::as_str),
            _ => params[name].as_str(),
        };
        let done = match (method, text(0, "invoice")) {
            (SHARE, Some(request)) => self.change(|shared| shared.add(request, text(1, "label"))),
            (UNSHARE, Some(request)) => self.change(|shared| {
                let was_there = shared.remove(request);
                if was_there { Ok(()) } else { Err("it is not shared".to_owned()) }
            }),
            (SHARE | UNSHARE, None) => {
                return Some(refusal(id, INVALID_PARAMS, "missing required parameter: invoice"));
            }
            (LIST, _) => self.list(),
            _ => return None,
        };
        Some(match done {
            Ok(answer) => result(id, answer),
            Err(message) => refusal(id, GENERAL_ERROR, &message),
        })
    }

    /// Takes a paid invoice off the list; lightningd's notification names it by its label.
    pub(super) fn paid(&self, label: &Value) {
        let Some(label) = label.as_str() else { return };
        // The room sees the invoice for longer if its file cannot be written; who pays it once more is told by the node.
        if let Ok(mut shared) = self.read()
            && shared.paid(label)
        {
            let _unwritten = self.write(&shared);
        }
    }

    fn read(&self) -> io::Result<Shared> {
        Ok(Shared::read(&read_regular(&self.own, MAX_OWN_FILE)?))
    }

    fn write(&self, shared: &Shared) -> io::Result<()> {
        atomic_file::replace(&self.own, &shared.to_file(), 0o600)
    }

    fn change(&self, change: impl FnOnce(&mut Shared) -> Result<(), String>) -> Result<Value, String> {
        let unusable = |error: io::Error| format!("cannot use {}: {error}", self.own.display());
        let mut shared = self.read().map_err(unusable)?;
        change(&mut shared)?;
        self.write(&shared).map_err(unusable)?;
        Ok(json!({}))
    }

    fn list(&self) -> Result<Value, String> {
        let file = read_regular(&self.room, MAX_ROOM_FILE);
        let file = file.map_err(|error| format!("cannot read {}: {error}", self.room.display()))?;
        // Until the supervisor has collected them there are none.
        let room: Room = if file.is_empty() {
            Room::default()
        } else {
            serde_json::from_slice(&file).map_err(|error| format!("{}: {error}", self.room.display()))?
        };
        Ok(json!(room))
    }
}

/// The methods, for lightningd's manifest.
pub(super) fn methods() -> Vec<Value> {
    vec![
        method(SHARE, "invoice [label]", "Show an invoice or an offer to everybody in the room"),
        method(UNSHARE, "invoice", "No longer show an invoice or an offer to the room"),
        method(LIST, "", "List the invoices and offers that nodes in the room show"),
    ]
}

/// The option, for lightningd's manifest.
pub(super) fn option() -> Value {
    json!({
        "name": FILE_OPTION, "type": "string", "default": "",
        "description": "File with the invoices and offers that nodes in the room show",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(requests: &SharedRequests, method: &str, params: &Value) -> Value {
        let answer = requests.handle(method, &json!("id"), params).expect("an answer");
        serde_json::from_str(&answer).expect("JSON")
    }

    #[test]
    fn a_request_is_shared_until_it_is_taken_back_or_paid() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut requests = SharedRequests::default();
        let room = dir.path().join("room.json");
        requests.init(&json!({
            "configuration": {"lightning-dir": dir.path()},
            "options": {FILE_OPTION: room},
        }));
        let shared = || std::fs::read_to_string(dir.path().join(OWN_FILE)).expect("a file");
        assert_eq!(answer(&requests, SHARE, &json!(["lnbcrt1", "coffee"]))["result"], json!({}));
        assert_eq!(answer(&requests, SHARE, &json!({"invoice": "lno1"}))["result"], json!({}));
        assert_eq!(shared(), r#"[{"request":"lnbcrt1","label":"coffee"},{"request":"lno1"}]"#);
        requests.paid(&json!("coffee"));
        assert_eq!(shared(), r#"[{"request":"lno1"}]"#);
        assert_eq!(answer(&requests, UNSHARE, &json!(["lno1"]))["result"], json!({}));
        assert_eq!(answer(&requests, UNSHARE, &json!(["lno1"]))["error"]["code"], GENERAL_ERROR);
        assert_eq!(answer(&requests, SHARE, &json!([1]))["error"]["code"], INVALID_PARAMS);
        assert_eq!(answer(&requests, SHARE, &json!(["hello"]))["error"]["code"], GENERAL_ERROR);

        assert_eq!(answer(&requests, LIST, &json!([]))["result"], json!({"version": 1, "requests": []}));
        let entry = json!({"node": format!("02{}", "00".repeat(32)), "request": "lnbcrt1"});
        let collected = json!({"version": 1, "requests": [entry]});
        std::fs::write(&room, collected.to_string()).expect("written");
        assert_eq!(answer(&requests, LIST, &json!({}))["result"], collected);
        assert_eq!(requests.handle("getinfo", &json!("id"), &json!({})), None);
    }
}
