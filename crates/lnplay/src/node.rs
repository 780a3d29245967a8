//! One Lightning node: its place, its command line, its RPC, and what an attendee gets of it.

use std::ffi::OsString;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cln_rpc::ClnRpc;
use lnplaylive::{ConnectionString, EnvironmentSpec, NodeId, Rgb};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::bitcoind::Bitcoind;
use crate::names;
use crate::settings::Settings;
use crate::state::{self, StateDir};

/// The longest alias that the protocol has room for, in bytes.
pub const MAX_ALIAS: usize = 32;

/// A node answers in milliseconds; with all cores taken by the start of 64 nodes, in seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How far back a node looks for blocks at its start. Each block costs two processes (`bitcoin-cli`), and a new node
/// has nothing in the chain that it starts on.
const RESCAN: u32 = 2;

/// Plugins that attendees do not need: each is a process of a megabyte or more per node. Offers, xpay, pay and
/// commando stay, as does what they and `fundchannel`, `connect` and `withdraw` are made of. A name that an
/// installation lacks does no harm.
const DISABLED_PLUGINS: [&str; 14] = [
    "autoclean",
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
    "wss-proxy",
];

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
    /// Its rune, without restrictions: whoever holds it controls the node.
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

impl Debug for Rune {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rune")
    }
}

#[derive(Debug, Deserialize)]
struct Funds {
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    amount_msat: u64,
    status: String,
}

/// All nodes of an environment, node 0 first. Fails on names that no node can have.
pub fn plan(spec: &EnvironmentSpec, dir: &StateDir, address: IpAddr) -> anyhow::Result<Vec<Node>> {
    let p2p_first = InnerPorts::of(spec).p2p_first;
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
                websocket: SocketAddr::new(address, port(spec.ports.listen_first)?),
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

    /// Makes its directory.
    pub fn create_dir(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))
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
            path("--bitcoin-datadir=", bitcoind.datadir.as_os_str()),
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
            ]
            .map(OsString::from),
        );
        out.extend(DISABLED_PLUGINS.iter().map(|name| format!("--disable-plugin={name}").into()));
        out
    }

    async fn call<T: DeserializeOwned + Debug>(
        &self,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> anyhow::Result<T> {
        let exchange = async {
            let mut rpc = ClnRpc::new(self.dir.join("regtest/lightning-rpc")).await?;
            anyhow::Ok(rpc.call_raw(method, &params).await?)
        };
        let result = timeout(limit, exchange).await;
        result
            .unwrap_or_else(|late| Err(late.into()))
            .with_context(|| format!("{method} on node {} ({})", self.index, self.name))
    }

    async fn info(&self) -> anyhow::Result<Info> {
        self.call("getinfo", json!({}), CALL_LIMIT).await
    }

    /// Its id, once it answers.
    pub async fn id(&self) -> anyhow::Result<NodeId> {
        Ok(self.info().await?.id)
    }

    /// The height of the last block that it has seen.
    pub async fn height(&self) -> anyhow::Result<u32> {
        Ok(self.info().await?.blockheight)
    }

    /// The identity of the running node, whose id is `node_id`: made and stored the first time.
    pub async fn identity(&self, node_id: NodeId) -> anyhow::Result<Identity> {
        if let Some(stored) = state::read_json::<Identity>(&self.identity)? {
            if stored.node_id != node_id {
                bail!("node {} has become {node_id}; it was {}", self.index, stored.node_id);
            }
            return Ok(stored);
        }
        let Rune { rune } = self.call("createrune", json!({}), CALL_LIMIT).await?;
        let identity = Identity { node_id, rune };
        state::write_json(&self.identity, &identity)?;
        Ok(identity)
    }

    /// A new address of its wallet (P2WPKH).
    pub async fn new_address(&self) -> anyhow::Result<String> {
        let params = json!({"addresstype": "bech32"});
        Ok(self.call::<NewAddress>("newaddr", params, CALL_LIMIT).await?.bech32)
    }

    /// Waits until it has seen the block at `height`, for as long as any call may take.
    pub async fn wait_for_block(&self, height: u32) -> anyhow::Result<()> {
        let params = json!({"blockheight": height, "timeout": CALL_LIMIT.as_secs()});
        self.call::<Value>("waitblockheight", params, CALL_LIMIT).await.map(drop)
    }

    /// The confirmed coins of its wallet, in sat.
    pub async fn confirmed_sat(&self) -> anyhow::Result<u64> {
        let funds: Funds = self.call("listfunds", json!({}), CALL_LIMIT).await?;
        let confirmed = funds.outputs.iter().filter(|output| output.status == "confirmed");
        Ok(confirmed.map(|output| output.amount_msat / 1000).sum())
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
