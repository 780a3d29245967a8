//! One Lightning node: its directory and ports, its command line, its RPC, and the connection string of its attendee.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use daemon_rpc::Lightningd;
use lnplaylive_core::{ConnectionString, EnvironmentSpec, NodeAccess, NodeId, Rgb};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::bitcoind::Bitcoind;
use crate::child::Attempt;
use crate::confine::{self, Users};
use crate::names;
use crate::requests;
use crate::room::{self, Room};
use crate::settings::{ChainBackend, Settings};
use crate::state::{self, StateDir};
use crate::{access, plugin};

/// The longest alias that the protocol has room for, in bytes.
pub const MAX_ALIAS: usize = 32;

/// The time that a node may take to end. It closes its database and its daemons in well under a second, but 64 nodes take
/// turns.
pub const GRACE: Duration = Duration::from_secs(15);

/// A node answers in milliseconds; while the start of 64 nodes keeps all cores busy, in seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// More blocks than coins are ever reserved for.
const ALL_RESERVED_BLOCKS: u32 = 1_000_000;

/// The blocks that a node looks back at its start. A new node has nothing in the chain that it starts on.
const RESCAN: u32 = 2;

/// Plugins that attendees do not need; each is a process of a megabyte or more per node. Offers, xpay, pay and commando
/// stay, with the plugins that they and `fundchannel`, `connect` and `withdraw` need. Naming a plugin that an installation
/// lacks is harmless.
const DISABLED_PLUGINS: [&str; 16] = [
    "autoclean",
    "bookkeeper",
    "chanbackup",
    "cln-bip353",
    "cln-currencyrate",
    "cln-grpc",
    "cln-lsps-client",
    "cln-lsps-service",
    "cln-renepay",
    "clnrest",
    "exposesecret",
    "funder",
    "recover",
    "recklessrpc",
    "sql",
    "wss-proxy",
];

/// Codes of refusals that may pass (lightningd's `jsonrpc_errors.h`): the node is shutting down (-5); it or its peer is behind
/// the chain (304); the peer is not connected (305), cannot be reached (401) or disconnected (402); the block has not come
/// (2000).
const PASSING: [i32; 6] = [-5, 304, 305, 401, 402, 2000];

/// A failure of the peer while a channel is opened has only the general code (-1); the peer may have been restarted.
const OPEN: &str = "multifundchannel";

/// A failed call of a node.
#[derive(Debug, Error)]
pub enum RpcError {
    /// The node answered, with an error.
    #[error("node {node} ({name}) refused {method}: {message} ({code})")]
    Refused {
        /// The node's number.
        node: u32,
        /// Its alias.
        name: String,
        /// The RPC method.
        method: &'static str,
        /// Core Lightning's code.
        code: i32,
        /// Its text.
        message: String,
    },
    /// There is no usable answer: the node is down, starting or too slow.
    #[error("node {node} ({name}) did not answer {method}")]
    Unreachable {
        /// The node's number.
        node: u32,
        /// Its alias.
        name: String,
        /// The RPC method.
        method: &'static str,
        /// The reason.
        source: anyhow::Error,
    },
    /// It answered, and something has not happened yet.
    #[error("node {node} ({name}) is waiting for {what}")]
    NotYet {
        /// The node's number.
        node: u32,
        /// Its alias.
        name: String,
        /// The thing that has not happened.
        what: String,
    },
}

impl Attempt for RpcError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code: -1, method, .. } => *method == OPEN,
            Self::Refused { code, .. } => PASSING.contains(code),
            Self::Unreachable { .. } | Self::NotYet { .. } => true,
        }
    }
}

/// Environment variables of a node's processes. At its start lightningd reads all of its plugins into memory to compute their
/// checksums; glibc would adapt its thresholds to such sizes and keep four megabytes for good. With fixed thresholds it
/// returns them. Without thread caches (there are no threads) it saves another half megabyte, and a little more without the
/// caches for small pieces.
const VARIABLES: [(&str, &str); 1] = [(
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=16384:glibc.malloc.trim_threshold=65536:glibc.malloc.top_pad=0:glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
)];

/// Environment variables of a node's processes with this backend.
pub fn variables(backend: ChainBackend) -> Vec<(&'static str, &'static str)> {
    let mut out = VARIABLES.to_vec();
    if backend == ChainBackend::Bcli {
        out.push((plugin::BACKEND_VARIABLE, plugin::BCLI));
    }
    out
}

/// The ports that the spec leaves open, chosen so that they do not collide with the nodes' WebSocket ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerPorts {
    /// bitcoind's RPC.
    pub bitcoin_rpc: u16,
    /// Node 0's port for other nodes; node `i` has `p2p_first + i`.
    pub p2p_first: u16,
}

impl InnerPorts {
    /// The ports of an environment; the same for the same spec.
    pub fn of(spec: &EnvironmentSpec) -> Self {
        let (first, nodes) = (u32::from(spec.ports.listen_first), spec.node_count);
        let clear = |from: u16, count: u32| {
            let from = u32::from(from);
            from + count <= first || first + nodes <= from
        };
        // Two blocks that are 1,000 apart cannot both overlap a range of 64.
        let choose = |a: u16, count| if clear(a, count) { a } else { a + 1000 };
        Self { bitcoin_rpc: choose(18443, 1), p2p_first: choose(9735, nodes) }
    }
}

/// One node of an environment, as planned from the spec.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number, from 0.
    pub index: u32,
    /// Its alias.
    pub name: String,
    color: Rgb,
    dir: PathBuf,
    identity: PathBuf,
    websocket: SocketAddr,
    p2p: SocketAddr,
    room_requests: PathBuf,
}

/// The part of a node that attendees hold. It changes only when the organiser asks for a new card.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its public key.
    pub node_id: NodeId,
    /// Its attendee's rune.
    pub rune: String,
    /// Runes with smaller ids are still to be revoked: the supervisor was interrupted while it made a new card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_below: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Info {
    id: NodeId,
    blockheight: u32,
}

#[derive(Debug, Deserialize)]
struct NewAddress {
    bech32: String,
}

#[derive(Deserialize)]
struct Rune {
    rune: String,
    /// A number, as text. Runes that are derived from this one share it.
    unique_id: String,
}

#[derive(Deserialize)]
struct Help {
    help: Vec<Usage>,
}

/// A method and its parameters, separated by blanks.
#[derive(Deserialize)]
struct Usage {
    command: String,
}

#[derive(Deserialize)]
struct Channels {
    channels: Vec<Channel>,
}

/// A channel, as one of its ends sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct Channel {
    /// The other end.
    pub peer_id: NodeId,
    /// Core Lightning's name of its state.
    pub state: String,
    /// Its funding transaction, once there is one.
    pub funding_txid: Option<bitcoin::Txid>,
    /// The output of that transaction.
    pub funding_outnum: Option<u32>,
    opener: String,
    peer_connected: bool,
}

impl Channel {
    /// True if this end opened it.
    pub fn is_ours(&self) -> bool {
        self.opener == "local"
    }

    /// True if its funding transaction is still to be confirmed.
    pub fn is_waiting(&self) -> bool {
        self.state == "CHANNELD_AWAITING_LOCKIN"
    }

    /// True if it is open.
    pub fn is_open(&self) -> bool {
        self.state == "CHANNELD_NORMAL"
    }

    fn is_usable_with(&self, peer: &NodeId) -> bool {
        self.peer_id == *peer && self.peer_connected && self.is_open()
    }
}

#[derive(Debug, Deserialize)]
struct Funds {
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    txid: bitcoin::Txid,
    #[serde(rename = "output")]
    index: u32,
    amount_msat: u64,
    status: String,
    reserved: bool,
}

#[derive(Deserialize)]
struct Reserved {
    psbt: String,
}

/// A request of an attendee for a block. Each is different from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRequest {
    inode: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

/// All nodes of an environment, node 0 first. Fails on an invalid name.
pub fn plan(spec: &EnvironmentSpec, dir: &StateDir, address: IpAddr) -> anyhow::Result<Vec<Node>> {
    let p2p_first = InnerPorts::of(spec).p2p_first;
    let websocket_address = spec.ports.listen_address.unwrap_or(address);
    (0..spec.node_count)
        .map(|index| {
            let at = index as usize;
            let name = spec.names.get(at).map_or_else(|| names::default_name(index), String::as_str);
            ensure!(
                (1..=MAX_ALIAS).contains(&name.len()) && !name.contains(char::is_control),
                "node {index} cannot be named {name:?}; a name has 1 to {MAX_ALIAS} bytes and no control characters"
            );
            let port = |first: u16| {
                u16::try_from(u32::from(first) + index).with_context(|| format!("no port for node {index}"))
            };
            Ok(Node {
                index,
                name: name.to_owned(),
                color: spec.colors.get(at).copied().unwrap_or_else(|| names::color(index)),
                dir: dir.node(index),
                identity: dir.identity(index),
                websocket: SocketAddr::new(websocket_address, port(spec.ports.listen_first)?),
                p2p: SocketAddr::new(address, port(p2p_first)?),
                room_requests: dir.requests(),
            })
        })
        .collect()
}

/// The stored identity of node `index`; `None` for a new node.
pub fn stored_identity(dir: &StateDir, index: u32) -> anyhow::Result<Option<Identity>> {
    state::read_json(&dir.identity(index))
}

/// The seconds between two polls for new blocks. With lnplay's backend a poll costs next to nothing, and the node has the next
/// block at once unless it comes within this time after another. With `bcli` each poll costs processes, so in a large
/// environment they are rarer; a node never lags behind by more than a block.
fn poll_seconds(spec: &EnvironmentSpec, backend: ChainBackend) -> u32 {
    match backend {
        ChainBackend::Lnplay => 1,
        ChainBackend::Bcli => (1 + spec.node_count / 32).min(spec.block_time),
    }
}

impl Node {
    /// Its name among the supervised children.
    pub fn child_name(&self) -> String {
        format!("node-{:02}", self.index)
    }

    /// Creates its directory, owned by its user if it has one.
    pub fn create_dir(&self, users: Option<Users>) -> anyhow::Result<()> {
        match users {
            Some(users) => confine::own_dir(&self.dir, users.node(self.index), users.group()),
            None => std::fs::create_dir_all(&self.dir)
                .with_context(|| format!("cannot make {}", self.dir.display())),
        }
    }

    /// Its `lightning-dir`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last request for a block, by [`plugin::block_request`]. The directory is the node's own, and a node that was taken
    /// over may have anything there: the file is never opened.
    pub fn block_request(&self) -> Option<BlockRequest> {
        let path = self.dir.join("regtest").join(plugin::block_request::REQUEST_FILE);
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(BlockRequest { inode: metadata.ino(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }

    /// The file with the payment requests that it shows to the room, by [`plugin::shared_requests`]; its own, as the other.
    pub fn own_requests(&self) -> PathBuf {
        self.dir.join("regtest").join(requests::OWN_FILE)
    }

    /// Its arguments.
    pub fn arguments(
        &self,
        spec: &EnvironmentSpec,
        settings: &Settings,
        bitcoind: &Bitcoind,
    ) -> Vec<OsString> {
        let path = |option: &str, path: &std::ffi::OsStr| {
            let mut out = OsString::from(option);
            out.push(path);
            out
        };
        let mut out = vec![
            path("--lightning-dir=", self.dir.as_os_str()),
            path("--bitcoin-datadir=", bitcoind.client_dir().as_os_str()),
        ];
        out.extend(
            [
                "--network=regtest".to_owned(),
                format!("--bitcoin-rpcconnect={}", bitcoind.address().ip()),
                format!("--bitcoin-rpcport={}", bitcoind.address().port()),
                format!("--bind-addr=ws:{}", self.websocket),
                format!("--addr={}", self.p2p),
                format!("--alias={}", self.name),
                format!("--rgb={}", self.color),
                "--log-level=info".to_owned(),
                format!("--rescan={RESCAN}"),
                // The poll interval, the announcement of a loopback address and a start without asking nine daemons
                // for their versions (a tenth of its work) are developers' options.
                "--developer".to_owned(),
                "--dev-allow-localhost".to_owned(),
                "--dev-no-version-checks".to_owned(),
                format!("--dev-bitcoind-poll={}", poll_seconds(spec, settings.chain_backend)),
                // Nodes gather what they tell others for a minute; so long nobody could pay over two channels.
                "--dev-fast-gossip".to_owned(),
            ]
            .map(OsString::from),
        );
        // The executable may be gone after an upgrade; a node would not start without it.
        let plugin = std::env::current_exe().ok().filter(|path| path.is_file());
        if let Some(plugin) = &plugin {
            out.push(path("--plugin=", plugin.as_os_str()));
            let option = format!("--{}=", plugin::shared_requests::FILE_OPTION);
            out.push(path(&option, self.room_requests.as_os_str()));
        }
        if plugin.is_some() && settings.chain_backend == ChainBackend::Lnplay {
            out.push("--disable-plugin=bcli".into());
        } else {
            out.extend(settings.bitcoin_cli().map(|cli| path("--bitcoin-cli=", &cli)));
        }
        out.extend(DISABLED_PLUGINS.iter().map(|name| format!("--disable-plugin={name}").into()));
        out
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let (node, name) = (self.index, || self.name.clone());
        let unreachable = |source| RpcError::Unreachable { node, name: name(), method, source };
        let rpc = Lightningd::new(self.dir.join("regtest/lightning-rpc")).with_timeout(timeout);
        let answer: Value = rpc.call(method, params).await.map_err(|error| match error.code {
            Some(code) => RpcError::Refused { node, name: name(), method, code, message: error.message },
            None => unreachable(anyhow::anyhow!(error.message)),
        })?;
        serde_json::from_value(answer).map_err(|error| unreachable(error.into()))
    }

    /// The error while `what` has not happened.
    pub(crate) fn not_yet(&self, what: impl Into<String>) -> RpcError {
        RpcError::NotYet { node: self.index, name: self.name.clone(), what: what.into() }
    }

    async fn info(&self) -> Result<Info, RpcError> {
        self.call("getinfo", json!({}), CALL_TIMEOUT).await
    }

    /// Its id, once it answers.
    pub async fn id(&self) -> Result<NodeId, RpcError> {
        Ok(self.info().await?.id)
    }

    /// The height of the last block that it has seen.
    pub async fn height(&self) -> Result<u32, RpcError> {
        Ok(self.info().await?.blockheight)
    }

    /// The identity of the running node, whose id is `node_id`; made and stored the first time.
    pub async fn identity(&self, node_id: NodeId, access: NodeAccess) -> anyhow::Result<Identity> {
        if let Some(stored) = state::read_json::<Identity>(&self.identity)? {
            if stored.node_id != node_id {
                bail!("node {} has become {node_id}; it was {}", self.index, stored.node_id);
            }
            return Ok(stored);
        }
        let Rune { rune, .. } = self.make_rune(access).await?;
        let identity = Identity { node_id, rune, revoke_below: None };
        state::write_json(&self.identity, &identity)?;
        Ok(identity)
    }

    async fn make_rune(&self, access: NodeAccess) -> Result<Rune, RpcError> {
        let restrictions = match access {
            NodeAccess::Class => {
                let Help { help } = self.call("help", json!({}), CALL_TIMEOUT).await?;
                let methods = help.iter().filter_map(|usage| usage.command.split_whitespace().next());
                access::restrictions(methods)
            }
            NodeAccess::Full => Vec::new(),
        };
        self.call("createrune", json!({"restrictions": restrictions}), CALL_TIMEOUT).await
    }

    /// Gives it a new rune, and revokes all that it had before.
    ///
    /// The new rune is stored before the old ones are revoked, so that at every instant the stored one works. If this is
    /// interrupted, [`Node::finish_revocation`] does the rest.
    pub async fn new_card(&self, access: NodeAccess) -> anyhow::Result<Identity> {
        let stored = state::read_json::<Identity>(&self.identity)?;
        let Identity { node_id, .. } =
            stored.with_context(|| format!("the identity of node {} is lost", self.index))?;
        let Rune { rune, unique_id } = self.make_rune(access).await?;
        let id: u64 = unique_id
            .parse()
            .with_context(|| format!("node {} made a rune with the id {unique_id:?}", self.index))?;
        state::write_json(&self.identity, &Identity { node_id, rune, revoke_below: Some(id) })?;
        self.finish_revocation()
            .await?
            .with_context(|| format!("the identity of node {} is lost", self.index))
    }

    /// Revokes the runes that a new card was to replace, if that was interrupted; returns its identity.
    pub async fn finish_revocation(&self) -> anyhow::Result<Option<Identity>> {
        let Some(mut identity) = state::read_json::<Identity>(&self.identity)? else { return Ok(None) };
        if let Some(first_valid) = identity.revoke_below.take() {
            if let Some(last) = first_valid.checked_sub(1) {
                let params = json!({"start": 0, "end": last});
                self.call::<Value>("blacklistrune", params, CALL_TIMEOUT).await?;
            }
            state::write_json(&self.identity, &identity)?;
        }
        Ok(Some(identity))
    }

    /// Its entry in the room's directory, given its id.
    pub fn entry(&self, id: NodeId) -> room::Entry {
        room::Entry { id, name: self.name.clone(), color: self.color, address: self.p2p.to_string() }
    }

    /// Stores the room's directory in it, in place of an older one.
    pub async fn publish(&self, room: &Room) -> Result<(), RpcError> {
        let text = serde_json::to_string(room).expect("a directory is JSON");
        let params = json!({"key": room::KEY, "string": text, "mode": "create-or-replace"});
        self.call::<Value>("datastore", params, CALL_TIMEOUT).await.map(drop)
    }

    /// A new address of its wallet (P2WPKH).
    pub async fn new_address(&self) -> Result<String, RpcError> {
        let params = json!({"addresstype": "bech32"});
        Ok(self.call::<NewAddress>("newaddr", params, CALL_TIMEOUT).await?.bech32)
    }

    /// Waits until it has seen the block at `height`, for at most the time-out of a call.
    pub async fn wait_for_block(&self, height: u32) -> Result<(), RpcError> {
        let params = json!({"blockheight": height, "timeout": CALL_TIMEOUT.as_secs()});
        self.call::<Value>("waitblockheight", params, CALL_TIMEOUT).await.map(drop)
    }

    /// The confirmed coins of its wallet, in sat.
    pub async fn confirmed_sat(&self) -> Result<u64, RpcError> {
        let funds: Funds = self.call("listfunds", json!({}), CALL_TIMEOUT).await?;
        let confirmed = funds.outputs.iter().filter(|output| output.status == "confirmed");
        Ok(confirmed.map(|output| output.amount_msat / 1000).sum())
    }

    /// The coins of its wallet that it can spend, in sat: confirmed, and not reserved.
    pub async fn spendable_sat(&self) -> Result<u64, RpcError> {
        let funds: Funds = self.call("listfunds", json!({}), CALL_TIMEOUT).await?;
        let free = funds.outputs.iter().filter(|output| output.status == "confirmed" && !output.reserved);
        Ok(free.map(|output| output.amount_msat / 1000).sum())
    }

    /// The address at which other nodes connect to it, given its id.
    pub fn p2p_address(&self, id: &NodeId) -> String {
        format!("{}@{}", id.as_str(), self.p2p)
    }

    /// Its channels, whoever opened them.
    pub async fn channels(&self) -> Result<Vec<Channel>, RpcError> {
        Ok(self.call::<Channels>("listpeerchannels", json!({}), CALL_TIMEOUT).await?.channels)
    }

    /// Releases coins that are reserved for an opening that a kill interrupted. For nodes that were not handed over.
    pub async fn release_reserved(&self) -> Result<(), RpcError> {
        let funds: Funds = self.call("listfunds", json!({}), CALL_TIMEOUT).await?;
        let reserved = funds.outputs.iter().filter(|output| output.reserved);
        let reserved: Vec<String> = reserved.map(|o| format!("{}:{}", o.txid, o.index)).collect();
        if reserved.is_empty() {
            return Ok(());
        }
        let params = json!({
            "satoshi": "all", "feerate": "253perkw", "startweight": 0, "utxos": reserved,
            "reserve": 0, "reservedok": true,
        });
        let Reserved { psbt } = self.call("utxopsbt", params, CALL_TIMEOUT).await?;
        let params = json!({"psbt": psbt, "reserve": ALL_RESERVED_BLOCKS});
        self.call::<Value>("unreserveinputs", params, CALL_TIMEOUT).await.map(drop)
    }

    /// Opens a channel of `sat` to each of `peers` (see [`Node::p2p_address`]), in one transaction; all or none.
    pub async fn open_channels(&self, peers: &[String], sat: u64, timeout: Duration) -> Result<(), RpcError> {
        let to = |peer: &String| json!({"id": peer, "amount": sat});
        let params = json!({"destinations": peers.iter().map(to).collect::<Vec<_>>()});
        self.call::<Value>(OPEN, params, timeout).await.map(drop)
    }

    /// Checks that it has a usable channel with each of `peers`.
    pub async fn has_channels_with(&self, peers: &[NodeId]) -> Result<(), RpcError> {
        let channels = self.channels().await?;
        let ready = |peer: &&NodeId| channels.iter().any(|channel| channel.is_usable_with(peer));
        match peers.iter().filter(|peer| !ready(peer)).count() {
            0 => Ok(()),
            count => Err(self.not_yet(format!("{count} of its channels"))),
        }
    }

    /// The connection string of its attendee.
    pub fn connection_string(
        &self,
        spec: &EnvironmentSpec,
        identity: Identity,
    ) -> anyhow::Result<ConnectionString> {
        Ok(ConnectionString {
            page: spec.connect_page.clone(),
            node_id: identity.node_id,
            endpoint: spec.endpoint(self.index)?,
            rune: identity.rune,
            name: Some(self.name.clone()),
            color: Some(self.color),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn only_websockets_are_bound_to_an_address_that_is_asked_for() {
        let json = |ports: Value| {
            json!({
                "environment": "test", "node_count": 2, "block_time": 5, "seed": 1, "names": [], "colors": [],
                "coin_distribution": "egalitarian", "channel_setup": "none", "ports": ports,
                "public_url_template": "ws://192.0.2.1:{port}", "connect_page": "https://shop.example/connect",
            })
        };
        let bound = |ports| {
            let spec: EnvironmentSpec = serde_json::from_value(json(ports)).expect("a spec");
            let dir = StateDir::new("/tmp/environment".as_ref()).expect("a directory");
            let nodes = plan(&spec, &dir, Ipv4Addr::LOCALHOST.into()).expect("a plan");
            nodes
                .iter()
                .map(|node| (node.websocket.to_string(), node.p2p.ip().to_string()))
                .collect::<Vec<_>>()
        };
        let pair = |websocket: &str| (websocket.to_owned(), "127.0.0.1".to_owned());
        let ports = json!({"listen_first": 9736, "public_first": 20001});
        assert_eq!(bound(ports), [pair("127.0.0.1:9736"), pair("127.0.0.1:9737")]);
        let ports = json!({"listen_first": 9736, "public_first": 20001, "listen_address": "0.0.0.0"});
        assert_eq!(bound(ports), [pair("0.0.0.0:9736"), pair("0.0.0.0:9737")]);
    }
}
