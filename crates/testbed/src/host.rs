//! The scene of a sale: a bitcoind, the host's node with our plugin, and a customer with a channel to it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Amount;
use serde_json::{Value, json};
use tokio::try_join;

use crate::shim::Shim;
use crate::wait::{Step, until};
use crate::{Binary, Bitcoind, Daemons, Lightningd, NodeConfig, Result, Workdir};

/// More than a hundred of the dearest orders (64 nodes for three weeks).
const CHANNEL: Amount = Amount::from_int_btc(10);
/// The channel and what opening it costs.
const FUNDS: Amount = Amount::from_int_btc(11);
/// One block locks the channel in, six announce it.
const CHANNEL_BLOCKS: u64 = 6;
const FUNDS_SEEN_WITHIN: Duration = Duration::from_secs(30);
const CHANNEL_OPEN_WITHIN: Duration = Duration::from_secs(30);
const PLUGIN_GONE_WITHIN: Duration = Duration::from_secs(30);

/// How the host's node runs our plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PluginRun {
    /// Not at all.
    #[default]
    Absent,
    /// As an operator would.
    Direct,
    /// Behind the shim that can kill it at a chosen call; see [`crate::shim`].
    Shimmed,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct HostConfig {
    daemons: Daemons,
    plugin: PluginRun,
    program: Option<PathBuf>,
    settings: Option<PathBuf>,
    node: NodeConfig,
}

impl HostConfig {
    /// A host without our plugin.
    pub fn new(daemons: Daemons) -> Self {
        let node = NodeConfig { name: "host".into(), ..NodeConfig::default() };
        Self { daemons, plugin: PluginRun::Absent, program: None, settings: None, node }
    }

    /// With our plugin, and its settings file if there is one (`lnplaylive-config`).
    #[must_use]
    pub fn plugin(mut self, run: PluginRun, settings: Option<PathBuf>) -> Self {
        (self.plugin, self.settings) = (run, settings);
        self
    }

    /// With another program in our plugin's place.
    #[must_use]
    pub fn program(mut self, plugin: PathBuf) -> Self {
        self.program = Some(plugin);
        self
    }

    /// With one more option for the host's node, as `name=value` or `name`.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.node.options.push(option.into());
        self
    }

    /// With one more environment variable for the host's node, and so for the plugin.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.node.env.push((name.into(), value.into()));
        self
    }
}

/// What the web shop may call.
#[derive(Clone, Debug)]
pub struct PublicRunes {
    /// Every method whose name starts with `lnplaylive-`, but for orders.
    pub rune: String,
    /// Orders, one a second at most.
    pub order_rune: String,
}

/// The running scene. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Host {
    /// Buys: has a channel of 10 BTC to the host's node, all of it on its own side.
    pub customer: Lightningd,
    /// Sells.
    pub node: Lightningd,
    /// What both watch.
    pub bitcoind: Bitcoind,
    /// The shim, if the plugin runs behind one.
    pub shim: Option<Shim>,
    plugin: Option<PathBuf>,
    settings: Option<PathBuf>,
    // Last, so that the directory goes when nothing writes to it any more.
    workdir: Workdir,
}

impl Host {
    /// Starts everything and returns when the customer can pay.
    pub async fn start(config: HostConfig) -> Result<Self> {
        let HostConfig { daemons, plugin: run, program, settings, mut node } = config;
        let program = || program.map_or_else(|| Binary::Plugin.path(), Ok);
        let mut workdir = Workdir::new("lnplaylive")?;
        let (plugin, shim) = match run {
            PluginRun::Absent => (None, None),
            PluginRun::Direct => (Some(program()?), None),
            PluginRun::Shimmed => {
                (Some(Binary::PluginShim.path()?), Some(Shim::new(workdir.join("shim"), &program()?)?))
            }
        };
        node.plugins.extend(plugin.clone());
        node.env.extend(shim.iter().flat_map(Shim::env));
        if let (Some(_), Some(settings)) = (&plugin, &settings) {
            node.options.push(format!("lnplaylive-config={}", settings.display()));
        }
        let brought_up = bring_up(&daemons, node, &workdir).await;
        let (bitcoind, node, customer) =
            brought_up.inspect_err(|_| workdir.keep("starting the host failed"))?;
        Ok(Self { customer, node, bitcoind, shim, plugin, settings, workdir })
    }

    /// The directory that everything is in; for files of the caller's too.
    pub fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// Keeps the directory even if nothing panics, and says where it is; for callers that fail by returning an error.
    pub fn keep(&mut self, why: &str) {
        self.workdir.keep(why);
    }

    /// Makes the runes that the web shop carries.
    pub async fn create_public_runes(&self) -> Result<PublicRunes> {
        // Two, because whatever a rune is used for counts as its last use (seen with 26.04.1): with a rate on orders alone,
        // one visitor's look at the prices would keep everybody else from ordering in that second.
        let make = async |restrictions: Value| {
            let made = self.node.ask("createrune", json!({"restrictions": restrictions})).await?;
            Result::Ok(made["rune"].as_str().unwrap_or_default().to_owned())
        };
        Ok(PublicRunes {
            rune: make(json!([["method^lnplaylive-"], ["method/lnplaylive-createorder"]])).await?,
            order_rune: make(json!([["method=lnplaylive-createorder"], ["rate=60"]])).await?,
        })
    }

    /// Starts our plugin on the running node, after it was stopped or died.
    pub async fn start_plugin(&self) -> Result<()> {
        let mut params = json!({"subcommand": "start", "plugin": self.plugin});
        if let Some(settings) = &self.settings {
            params["lnplaylive-config"] = json!(settings);
        }
        self.node.ask("plugin", params).await.map(|_| ())
    }

    /// Stops our plugin as an operator would; the node goes on.
    pub async fn stop_plugin(&self) -> Result<()> {
        self.node.ask("plugin", json!({"subcommand": "stop", "plugin": self.plugin})).await?;
        self.wait_plugin_gone().await
    }

    /// Connects the customer to the node again, after one of them was restarted, and returns when the customer can pay.
    pub async fn reconnect(&self) -> Result<()> {
        connect(&self.customer, &self.node).await?;
        channel_open(&self.customer, &self.node).await
    }

    /// Waits until the node no longer lists our plugin.
    pub async fn wait_plugin_gone(&self) -> Result<()> {
        until("the plugin's end", PLUGIN_GONE_WITHIN, async || {
            let list = self.node.ask("plugin", json!({"subcommand": "list"})).await?;
            let plugins = list["plugins"].as_array().cloned().unwrap_or_default();
            let ours = plugins.into_iter().find(|plugin| plugin["name"] == json!(self.plugin));
            Ok(ours.map_or(Step::Done(()), |plugin| Step::NotYet(plugin.to_string())))
        })
        .await
    }
}

async fn bring_up(
    daemons: &Daemons,
    host: NodeConfig,
    workdir: &Workdir,
) -> Result<(Bitcoind, Lightningd, Lightningd)> {
    tracing::info!(flavor = %daemons.flavor(), "starting bitcoind");
    let mut bitcoind = Bitcoind::start(daemons, &workdir.join("bitcoind")).await?;
    tracing::info!("starting the host's node and the customer's");
    let (host_dir, customer_dir) = (workdir.join("host"), workdir.join("customer"));
    let customer = NodeConfig { name: "customer".into(), ..NodeConfig::default() };
    let (host, customer) = try_join!(
        Lightningd::start(daemons, &bitcoind, &host_dir, host),
        Lightningd::start(daemons, &bitcoind, &customer_dir, customer),
    )?;
    tracing::info!("opening the channel between them");
    open_channel(&mut bitcoind, &customer, &host).await?;
    Ok((bitcoind, host, customer))
}

async fn open_channel(bitcoind: &mut Bitcoind, customer: &Lightningd, host: &Lightningd) -> Result<()> {
    let address = customer.ask("newaddr", json!({"addresstype": "bech32"})).await?;
    bitcoind.send(address["bech32"].as_str().unwrap_or_default(), FUNDS).await?;
    bitcoind.mine(1).await?;
    connect(customer, host).await?;
    until("the customer to see its funds", FUNDS_SEEN_WITHIN, async || {
        let funds = customer.ask("listfunds", json!({})).await?;
        let confirmed =
            funds["outputs"].as_array().is_some_and(|all| all.iter().any(|one| one["status"] == "confirmed"));
        Ok(if confirmed { Step::Done(()) } else { Step::NotYet(funds["outputs"].to_string()) })
    })
    .await?;
    customer.ask("fundchannel", json!({"id": host.id(), "amount": CHANNEL.to_sat()})).await?;
    bitcoind.mine(CHANNEL_BLOCKS).await?;
    channel_open(customer, host).await
}

async fn connect(customer: &Lightningd, host: &Lightningd) -> Result<()> {
    let connect = json!({"id": host.id(), "host": "127.0.0.1", "port": host.port()});
    customer.ask("connect", connect).await.map(|_| ())
}

/// Waits until both ends can use the channel.
async fn channel_open(customer: &Lightningd, host: &Lightningd) -> Result<()> {
    for node in [customer, host] {
        until("the channel to open", CHANNEL_OPEN_WITHIN, async || {
            let channels = node.ask("listpeerchannels", json!({})).await?;
            let open =
                |channel: &Value| channel["state"] == "CHANNELD_NORMAL" && channel["peer_connected"] == true;
            Ok(match channels["channels"].as_array().and_then(|all| all.first()) {
                Some(channel) if open(channel) => Step::Done(()),
                Some(channel) => Step::NotYet(format!("{} {}", channel["state"], channel["status"])),
                None => Step::NotYet("no channel".into()),
            })
        })
        .await?;
    }
    Ok(())
}
