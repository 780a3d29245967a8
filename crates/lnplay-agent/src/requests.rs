//! Payment requests that attendees show to the room: who asks for what.
//!
//! Each node's plugin keeps its own in a file in the node's directory ([`OWN_FILE`]). The supervisor collects them once a second into one
//! file, which the plugins of all nodes read. A node that was taken over can write anything into its own file: the supervisor takes
//! only what looks like a request, and not more than [`MAX_OWN`]. Whether it is one, a wallet sees when it decodes it.

use lnplaylive_core::NodeId;
use serde::{Deserialize, Serialize};

/// The file with a node's own requests, in its directory of its network.
pub const OWN_FILE: &str = "shared-requests.json";

/// The most requests of one node; of more, the oldest are dropped.
pub const MAX_OWN: usize = 4;

/// The longest request, in bytes. An invoice has some 300, and an offer with blinded paths some 700.
const MAX_TEXT: usize = 1200;

/// The longest label of an invoice that is kept, in bytes.
const MAX_LABEL: usize = 100;

/// The largest file with a node's own requests, in bytes.
pub const MAX_OWN_FILE: u64 = 8 << 10;

/// The largest file with those of all nodes, in bytes.
pub const MAX_ROOM_FILE: u64 = 512 << 10;

/// Version of [`Room`]'s format; readers ignore a list of another one.
pub const VERSION: u32 = 1;

/// A request that a node shows to the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Own {
    /// A BOLT 11 invoice or a BOLT 12 offer.
    request: String,
    /// The invoice's label, by which its payment is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

/// The requests that one node shows to the room, the oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shared(Vec<Own>);

impl Shared {
    /// What a file has. Empty if it is not such a list; requests that are none are left out.
    pub fn read(file: &[u8]) -> Self {
        let all: Vec<Own> = serde_json::from_slice(file).unwrap_or_default();
        let well_formed = |own: &Own| is_request(&own.request) && own.label.as_deref().is_none_or(is_label);
        let mut all: Vec<Own> = all.into_iter().filter(well_formed).collect();
        all.drain(..all.len().saturating_sub(MAX_OWN));
        Self(all)
    }

    /// The file's content.
    pub fn to_file(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("a list of texts is JSON")
    }

    /// Adds a request; one that is there becomes the newest. Fails with the reason if it is none.
    pub fn add(&mut self, request: &str, label: Option<&str>) -> Result<(), String> {
        if !is_request(request) {
            return Err(format!(
                "neither a regtest invoice (lnbcrt…) nor an offer (lno1…), in lower case and of at most {MAX_TEXT} characters"
            ));
        }
        if !label.is_none_or(is_label) {
            return Err(format!("the label has more than {MAX_LABEL} bytes"));
        }
        self.remove(request);
        self.0.push(Own { request: request.to_owned(), label: label.map(str::to_owned) });
        self.0.drain(..self.0.len().saturating_sub(MAX_OWN));
        Ok(())
    }

    /// Removes a request; false if it was not there.
    pub fn remove(&mut self, request: &str) -> bool {
        self.remove_if(|own| own.request == request)
    }

    /// Removes the invoice with this label, which was paid; false if it was not there.
    pub fn paid(&mut self, label: &str) -> bool {
        self.remove_if(|own| own.label.as_deref() == Some(label))
    }

    fn remove_if(&mut self, unwanted: impl Fn(&Own) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|own| !unwanted(own));
        self.0.len() < before
    }
}

/// The requests of all nodes: the answer of `listsharedinvoices`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// [`VERSION`].
    pub version: u32,
    /// The requests, those of node 0 first and of each node the oldest first.
    pub requests: Vec<Entry>,
}

/// One request in the room.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The node that asks.
    pub node: NodeId,
    /// A BOLT 11 invoice or a BOLT 12 offer.
    pub request: String,
}

impl Default for Room {
    fn default() -> Self {
        Self { version: VERSION, requests: Vec::new() }
    }
}

impl Room {
    /// The list of these nodes' requests.
    pub fn of(nodes: impl IntoIterator<Item = (NodeId, Shared)>) -> Self {
        let entries = |(node, Shared(all)): (NodeId, Shared)| {
            all.into_iter().map(move |Own { request, .. }| Entry { node: node.clone(), request })
        };
        Self { version: VERSION, requests: nodes.into_iter().flat_map(entries).collect() }
    }
}

/// True if a text looks like an invoice of regtest or like an offer.
fn is_request(text: &str) -> bool {
    let is_bech32 = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_TEXT
        && (text.starts_with("lnbcrt") || text.starts_with("lno1"))
        && text.bytes().all(is_bech32)
}

fn is_label(label: &str) -> bool {
    label.len() <= MAX_LABEL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoice(number: u32) -> String {
        format!("lnbcrt{number}")
    }

    fn requests(shared: &Shared) -> Vec<&str> {
        shared.0.iter().map(|own| own.request.as_str()).collect()
    }

    #[test]
    fn the_newest_requests_are_kept_each_once() {
        let mut shared = Shared::default();
        for number in 0..6 {
            shared.add(&invoice(number), None).expect("a request");
        }
        shared.add(&invoice(3), Some("three")).expect("a request");
        assert_eq!(requests(&shared), ["lnbcrt2", "lnbcrt4", "lnbcrt5", "lnbcrt3"]);
        assert_eq!(Shared::read(&shared.to_file()), shared);
    }

    #[test]
    fn a_request_is_gone_once_it_is_paid_or_taken_back() {
        let mut shared = Shared::default();
        shared.add("lnbcrt1", Some("coffee")).expect("an invoice");
        shared.add("lno1abc", None).expect("an offer");
        assert!(!shared.paid("tea"));
        assert!(shared.paid("coffee"));
        assert_eq!(requests(&shared), ["lno1abc"]);
        assert!(shared.remove("lno1abc"));
        assert!(!shared.remove("lno1abc"));
    }

    #[test]
    fn what_is_no_request_is_neither_added_nor_read() {
        let long = format!("lnbcrt{}", "q".repeat(MAX_TEXT));
        for bad in ["", "lnbc1mainnet", "LNBCRT1", "lnbcrt1<script>", "lnbcrt 1", long.as_str()] {
            assert!(Shared::default().add(bad, None).is_err(), "{bad:.20}");
            let file = serde_json::json!([{"request": bad}, {"request": "lno1good"}]).to_string();
            assert_eq!(requests(&Shared::read(file.as_bytes())), ["lno1good"], "{bad:.20}");
        }
        let label = "x".repeat(MAX_LABEL + 1);
        assert!(Shared::default().add("lnbcrt1", Some(&label)).is_err());
        for rubbish in ["", "{}", "[1]", "\u{0}"] {
            assert_eq!(Shared::read(rubbish.as_bytes()), Shared::default());
        }
        let many: Vec<_> = (0..100).map(|number| serde_json::json!({"request": invoice(number)})).collect();
        let file = serde_json::Value::from(many).to_string();
        assert_eq!(Shared::read(file.as_bytes()).0.len(), MAX_OWN, "{}", file.len());
    }

    #[test]
    fn the_largest_lists_fit_their_files() {
        let mut shared = Shared::default();
        for number in 0..MAX_OWN {
            let text = format!("lnbcrt{number}{}", "q".repeat(MAX_TEXT - 7));
            shared.add(&text, Some(&"\"".repeat(MAX_LABEL))).expect("a request");
        }
        let file = shared.to_file();
        assert!(file.len() as u64 <= MAX_OWN_FILE, "{}", file.len());
        let id: NodeId = format!("02{}", "ab".repeat(32)).parse().expect("an id");
        let nodes = (0..64).map(|_| (id.clone(), Shared::read(&file)));
        let room = serde_json::to_vec(&Room::of(nodes)).expect("JSON");
        assert!(room.len() as u64 <= MAX_ROOM_FILE, "{}", room.len());
    }
}
