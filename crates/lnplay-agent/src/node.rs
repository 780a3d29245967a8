//! One Lightning node: its place, its command line, its RPC, and what an attendee gets of it.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cln_rpc::ClnRpc;
use lnplaylive_core::{ConnectionString, EnvironmentSpec, NodeAccess, NodeId, Rgb};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use crate::access;
use crate::bitcoind::Bitcoind;
use crate::child::Attempt;
use crate::confine::{self, Users};
use crate::names;
use crate::room::{self, Room};
use crate::settings::Settings;
use crate::state::{self, StateDir};

/// The longest alias that the protocol has room for, in bytes.
pub const MAX_ALIAS: usize = 32;

/// A node answers in milliseconds; with all cores taken by the start of 64 nodes, in seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// More blocks than any reservation of coins is for.
const RESERVED_FOR_EVER: u32 = 1_000_000;

/// How far back a node looks for blocks at its start. Each block costs two processes (`bitcoin-cli`), and a new node
/// has nothing in the chain that it starts on.
const RESCAN: u32 = 2;

/// Plugins that attendees do not need: each is a process of a megabyte or more per node. Offers, xpay, pay and
/// commando stay, as does what they and `fundchannel`, `connect` and `withdraw` are made of. A name that an
/// installation lacks does no harm.
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

/// What a node may refuse now and grant later, by the codes of lightningd's `jsonrpc_errors.h`: it is ending (-5); it, or
/// the other end of a channel, is behind the chain (304); the other end is not connected (305), cannot be reached (401)
/// or went away (402); the block has not come (2000).
const PASSING: [i32; 6] = [-5, 304, 305, 401, 402, 2000];

/// What a peer did to an opening comes without a code of its own (-1), and may have been that it was restarted.
const OPEN: &str = "multifundchannel";

/// Why a call of a node came to nothing.
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
    /// No answer that could be used: it is down, starting or too slow.
    #[error("node {node} ({name}) did not answer {method}")]
    Unreachable {
        /// The node's number.
        node: u32,
        /// Its alias.
        name: String,
        /// The RPC method.
        method: &'static str,
        /// What came in the way.
        source: anyhow::Error,
    },
    /// It answered that something has not happened yet.
    #[error("node {node} ({name}) is waiting for {what}")]
    NotYet {
        /// The node's number.
        node: u32,
        /// Its alias.
        name: String,
        /// What has not happened.
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

/// What a node's processes have in their environment. At its start lightningd reads all of its plugins into memory, to know
/// them again; as glibc adapts to such sizes, it would keep four megabytes of that for ever. Fixed thresholds have it
/// given back. Its caches for threads, of which there are none, are worth another half, and those for small pieces a
/// little more.
pub const VARIABLES: [(&str, &str); 1] = [(
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=16384:glibc.malloc.trim_threshold=65536:glibc.malloc.top_pad=0:glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
)];

/// Ports that are ours to choose; the spec chooses the nodes' WebSocket ports, which these stay clear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerPorts {
    /// bitcoind's RPC.
    pub bitcoin_rpc: u16,
    /// Where node 0 listens for other nodes; node `i` at `p2p_first + i`.
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
        // Two blocks 1,000 apart cannot both touch a range of 64.
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
}

/// What of a node is made once and must never change: attendees hold it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its public key.
    pub node_id: NodeId,
    /// Its rune: whoever holds it can do with the node what the spec gives access to.
    pub rune: String,
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
}

#[derive(Deserialize)]
struct Help {
    help: Vec<Usage>,
}

/// A method and its parameters, apart by blanks.
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
    /// Where its coins are: the transaction, once there is one.
    pub funding_txid: Option<bitcoin::Txid>,
    /// And the output.
    pub funding_outnum: Option<u32>,
    opener: String,
    peer_connected: bool,
}

impl Channel {
    /// Whether this end opened it.
    pub fn is_ours(&self) -> bool {
        self.opener == "local"
    }

    /// Whether it waits for its transaction to be mined.
    pub fn is_waiting(&self) -> bool {
        self.state == "CHANNELD_AWAITING_LOCKIN"
    }

    /// Whether it is open.
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

/// All nodes of an environment, node 0 first. Fails on names that no node can have.
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
            })
        })
        .collect()
}

/// The identity that was stored of node `index`; `None` for a new one.
pub fn stored_identity(dir: &StateDir, index: u32) -> anyhow::Result<Option<Identity>> {
    state::read_json(&dir.identity(index))
}

/// How often a node asks for new blocks, in seconds. Each time costs a process, so many nodes ask less often; they
/// never lag behind by more than a block.
fn poll_seconds(spec: &EnvironmentSpec) -> u32 {
    (1 + spec.node_count / 32).min(spec.block_time)
}

impl Node {
    /// Its name among the supervised children.
    pub fn child_name(&self) -> String {
        format!("node-{:02}", self.index)
    }

    /// Makes its directory, which is that of its user if it has one.
    pub fn create_dir(&self, users: Option<Users>) -> anyhow::Result<()> {
        match users {
            Some(users) => confine::own_dir(&self.dir, users.node(self.index), users.group()),
            None => std::fs::create_dir_all(&self.dir)
                .with_context(|| format!("cannot make {}", self.dir.display())),
        }
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        &self.dir
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
        out.extend(settings.bitcoin_cli().map(|cli| path("--bitcoin-cli=", &cli)));
        out.extend(
            [
                "--network=regtest".to_owned(),
                format!("--bitcoin-rpcconnect={}", bitcoind.rpc.ip()),
                format!("--bitcoin-rpcport={}", bitcoind.rpc.port()),
                format!("--bind-addr=ws:{}", self.websocket),
                format!("--addr={}", self.p2p),
                format!("--alias={}", self.name),
                format!("--rgb={}", self.color),
                "--log-level=info".to_owned(),
                format!("--rescan={RESCAN}"),
                // How often a node asks for blocks, and that it may tell others of a loopback address, are
                // settings for developers; so is to start without asking nine daemons for their version, which
                // is a tenth of the work.
                "--developer".to_owned(),
                "--dev-allow-localhost".to_owned(),
                "--dev-no-version-checks".to_owned(),
                format!("--dev-bitcoind-poll={}", poll_seconds(spec)),
                // Nodes gather what they tell others for a minute; so long nobody could pay over two channels.
                "--dev-fast-gossip".to_owned(),
            ]
            .map(OsString::from),
        );
        out.extend(DISABLED_PLUGINS.iter().map(|name| format!("--disable-plugin={name}").into()));
        out
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        limit: Duration,
    ) -> Result<T, RpcError> {
        let (node, name) = (self.index, || self.name.clone());
        let unreachable = |source| RpcError::Unreachable { node, name: name(), method, source };
        let exchange = async {
            let mut rpc = ClnRpc::new(self.dir.join("regtest/lightning-rpc")).await.map_err(unreachable)?;
            let answer: Result<Value, _> = rpc.call_raw(method, &params).await;
            answer.map_err(|error| match error.code {
                Some(code) => RpcError::Refused { node, name: name(), method, code, message: error.message },
                // Not the node's words: the connection broke, or what came made no sense.
                None => unreachable(anyhow::anyhow!(error.message)),
            })
        };
        let answer = timeout(limit, exchange).await.map_err(|late| unreachable(late.into()))??;
        serde_json::from_value(answer).map_err(|error| unreachable(error.into()))
    }

    /// What to say while `what` is waited for.
    pub(crate) fn not_yet(&self, what: impl Into<String>) -> RpcError {
        RpcError::NotYet { node: self.index, name: self.name.clone(), what: what.into() }
    }

    async fn info(&self) -> Result<Info, RpcError> {
        self.call("getinfo", json!({}), CALL_LIMIT).await
    }

    /// Its id, once it answers.
    pub async fn id(&self) -> Result<NodeId, RpcError> {
        Ok(self.info().await?.id)
    }

    /// The height of the last block that it has seen.
    pub async fn height(&self) -> Result<u32, RpcError> {
        Ok(self.info().await?.blockheight)
    }

    /// The identity of the running node, whose id is `node_id`: made and stored the first time.
    pub async fn identity(&self, node_id: NodeId, access: NodeAccess) -> anyhow::Result<Identity> {
        if let Some(stored) = state::read_json::<Identity>(&self.identity)? {
            if stored.node_id != node_id {
                bail!("node {} has become {node_id}; it was {}", self.index, stored.node_id);
            }
            return Ok(stored);
        }
        let restrictions = match access {
            NodeAccess::Class => {
                let Help { help } = self.call("help", json!({}), CALL_LIMIT).await?;
                let methods = help.iter().filter_map(|usage| usage.command.split_whitespace().next());
                access::restrictions(methods)
            }
            NodeAccess::Full => Vec::new(),
        };
        let Rune { rune } =
            self.call("createrune", json!({"restrictions": restrictions}), CALL_LIMIT).await?;
        let identity = Identity { node_id, rune };
        state::write_json(&self.identity, &identity)?;
        Ok(identity)
    }

    /// What the room's directory says of it, given its id.
    pub fn entry(&self, id: NodeId) -> room::Entry {
        room::Entry { id, name: self.name.clone(), color: self.color, address: self.p2p.to_string() }
    }

    /// Stores the room's directory in it, in place of an older one.
    pub async fn publish(&self, room: &Room) -> Result<(), RpcError> {
        let text = serde_json::to_string(room).expect("a directory is JSON");
        let params = json!({"key": room::KEY, "string": text, "mode": "create-or-replace"});
        self.call::<Value>("datastore", params, CALL_LIMIT).await.map(drop)
    }

    /// A new address of its wallet (P2WPKH).
    pub async fn new_address(&self) -> Result<String, RpcError> {
        let params = json!({"addresstype": "bech32"});
        Ok(self.call::<NewAddress>("newaddr", params, CALL_LIMIT).await?.bech32)
    }

    /// Waits until it has seen the block at `height`, for as long as any call may take.
    pub async fn wait_for_block(&self, height: u32) -> Result<(), RpcError> {
        let params = json!({"blockheight": height, "timeout": CALL_LIMIT.as_secs()});
        self.call::<Value>("waitblockheight", params, CALL_LIMIT).await.map(drop)
    }

    /// The confirmed coins of its wallet, in sat.
    pub async fn confirmed_sat(&self) -> Result<u64, RpcError> {
        let funds: Funds = self.call("listfunds", json!({}), CALL_LIMIT).await?;
        let confirmed = funds.outputs.iter().filter(|output| output.status == "confirmed");
        Ok(confirmed.map(|output| output.amount_msat / 1000).sum())
    }

    /// Where other nodes connect to it, given its id.
    pub fn p2p_address(&self, id: &NodeId) -> String {
        format!("{}@{}", id.as_str(), self.p2p)
    }

    /// The channels that it has, whoever opened them.
    pub async fn channels(&self) -> Result<Vec<Channel>, RpcError> {
        Ok(self.call::<Channels>("listpeerchannels", json!({}), CALL_LIMIT).await?.channels)
    }

    /// Lets go of coins that it keeps for an opening that a kill cut short. Only for nodes that nobody else uses yet.
    pub async fn release_reserved(&self) -> Result<(), RpcError> {
        let funds: Funds = self.call("listfunds", json!({}), CALL_LIMIT).await?;
        let reserved = funds.outputs.iter().filter(|output| output.reserved);
        let reserved: Vec<String> = reserved.map(|o| format!("{}:{}", o.txid, o.index)).collect();
        if reserved.is_empty() {
            return Ok(());
        }
        let params = json!({
            "satoshi": "all", "feerate": "253perkw", "startweight": 0, "utxos": reserved,
            "reserve": 0, "reservedok": true,
        });
        let Reserved { psbt } = self.call("utxopsbt", params, CALL_LIMIT).await?;
        let params = json!({"psbt": psbt, "reserve": RESERVED_FOR_EVER});
        self.call::<Value>("unreserveinputs", params, CALL_LIMIT).await.map(drop)
    }

    /// Opens a channel of `sat` to each of `peers` (see [`Node::p2p_address`]), in one transaction; all or none.
    pub async fn open_channels(&self, peers: &[String], sat: u64, limit: Duration) -> Result<(), RpcError> {
        let to = |peer: &String| json!({"id": peer, "amount": sat});
        let params = json!({"destinations": peers.iter().map(to).collect::<Vec<_>>()});
        self.call::<Value>(OPEN, params, limit).await.map(drop)
    }

    /// Checks that it has a channel that is in use with each of `peers`.
    pub async fn has_channels_with(&self, peers: &[NodeId]) -> Result<(), RpcError> {
        let channels = self.channels().await?;
        let ready = |peer: &&NodeId| channels.iter().any(|channel| channel.is_usable_with(peer));
        match peers.iter().filter(|peer| !ready(peer)).count() {
            0 => Ok(()),
            count => Err(self.not_yet(format!("{count} of its channels"))),
        }
    }

    /// What an attendee scans.
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
