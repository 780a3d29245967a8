//! The two parties of a sale: a bitcoind, the host's node with our plugin, and a customer with a channel to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Amount;
use serde_json::{Value, json};
use tokio::try_join;

use crate::shim::Shim;
use crate::wait::{Step, until};
use crate::{Binary, Bitcoind, Daemons, Lightningd, NodeConfig, Result, Workdir};

/// Enough for more than a hundred of the largest orders (64 nodes for three weeks).
const CHANNEL: Amount = Amount::from_int_btc(10);
/// Enough for the channel and its opening transaction.
const FUNDS: Amount = Amount::from_int_btc(11);
/// The channel opens after one block and is announced after six.
const CHANNEL_BLOCKS: u64 = 6;
const FUNDS_TIMEOUT: Duration = Duration::from_secs(30);
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(30);
const PLUGIN_STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The ways to run our plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PluginRun {
    /// Without the plugin.
    #[default]
    Absent,
    /// As an operator would run it.
    Direct,
    /// Behind the shim, which can kill it at a chosen call; see [`crate::shim`].
    Shimmed,
}

/// Configuration of a [`Host`].
#[derive(Clone, Debug)]
pub struct HostConfig {
    daemons: Daemons,
    plugin: PluginRun,
    program: Option<PathBuf>,
    settings: Option<PathBuf>,
    node: NodeConfig,
    customer_dir: Option<PathBuf>,
}

impl HostConfig {
    /// A host without our plugin.
    pub fn new(daemons: Daemons) -> Self {
        let node = NodeConfig { name: "host".into(), ..NodeConfig::default() };
        Self { daemons, plugin: PluginRun::Absent, program: None, settings: None, node, customer_dir: None }
    }

    /// Keeps the customer's node in this directory, instead of one beside the host's node. The caller removes it.
    #[must_use]
    pub fn customer_dir(mut self, dir: PathBuf) -> Self {
        self.customer_dir = Some(dir);
        self
    }

    /// Adds our plugin, and its settings file if there is one (`lnplaylive-config`).
    #[must_use]
    pub fn plugin(mut self, run: PluginRun, settings: Option<PathBuf>) -> Self {
        (self.plugin, self.settings) = (run, settings);
        self
    }

    /// Replaces our plugin by another program.
    #[must_use]
    pub fn program(mut self, plugin: PathBuf) -> Self {
        self.program = Some(plugin);
        self
    }

    /// Adds an option for the host's node, as `name=value` or `name`.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.node.options.push(option.into());
        self
    }

    /// Adds an environment variable for the host's node, and so for the plugin.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.node.env.push((name.into(), value.into()));
        self
    }
}

/// The running daemons. All of them stop when it is dropped.
#[derive(Debug)]
pub struct Host {
    /// The buyer. It has a channel of 10 BTC to the host's node, all of it on its own side.
    pub customer: Lightningd,
    /// The seller.
    pub node: Lightningd,
    /// The bitcoind of both nodes.
    pub bitcoind: Bitcoind,
    /// The shim, if the plugin runs behind it.
    pub shim: Option<Shim>,
    plugin: Option<PathBuf>,
    settings: Option<PathBuf>,
    // The last field, so that the directory is removed when nothing writes to it any more.
    workdir: Workdir,
}

impl Host {
    /// Starts everything and returns when the customer can pay.
    pub async fn start(config: HostConfig) -> Result<Self> {
        let HostConfig { daemons, plugin: run, program, settings, mut node, customer_dir } = config;
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
        let customer_dir = customer_dir.unwrap_or_else(|| workdir.join("customer"));
        let brought_up = bring_up(&daemons, node, &customer_dir, &workdir).await;
        let (bitcoind, node, customer) =
            brought_up.inspect_err(|_| workdir.keep("starting the host failed"))?;
        Ok(Self { customer, node, bitcoind, shim, plugin, settings, workdir })
    }

    /// The directory with everything in it; callers may use it, too.
    pub fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// Keeps the directory even without a panic, and prints its path; for callers that fail by returning an error.
    pub fn keep(&mut self, why: &str) {
        self.workdir.keep(why);
    }

    /// Creates the web shop's rune, which allows every method whose name starts with `lnplaylive-`.
    ///
    /// It has no rate: lightningd counts every use by anybody against it, before it looks at the parameters, so whoever calls without
    /// pause would keep all others out.
    pub async fn create_public_rune(&self) -> Result<String> {
        let restrictions = json!({"restrictions": [["method^lnplaylive-"]]});
        let made = self.node.ask("createrune", restrictions).await?;
        Ok(made["rune"].as_str().unwrap_or_default().to_owned())
    }

    /// Starts our plugin on the running node, after it was stopped or died.
    pub async fn start_plugin(&self) -> Result<()> {
        let mut params = json!({"subcommand": "start", "plugin": self.plugin});
        if let Some(settings) = &self.settings {
            params["lnplaylive-config"] = json!(settings);
        }
        self.node.ask("plugin", params).await.map(|_| ())
    }

    /// Stops our plugin as an operator would; the node keeps running.
    pub async fn stop_plugin(&self) -> Result<()> {
        self.node.ask("plugin", json!({"subcommand": "stop", "plugin": self.plugin})).await?;
        self.wait_plugin_gone().await
    }

    /// Reconnects the customer to the node after a restart, and returns when the customer can pay.
    pub async fn reconnect(&self) -> Result<()> {
        connect(&self.customer, &self.node).await?;
        channel_open(&self.customer, &self.node).await
    }

    /// Waits until the node no longer lists our plugin.
    pub async fn wait_plugin_gone(&self) -> Result<()> {
        until("the plugin's end", PLUGIN_STOP_TIMEOUT, async || {
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
    customer_dir: &Path,
    workdir: &Workdir,
) -> Result<(Bitcoind, Lightningd, Lightningd)> {
    tracing::info!(flavor = %daemons.flavor(), "starting bitcoind");
    let mut bitcoind = Bitcoind::start(daemons, &workdir.join("bitcoind")).await?;
    tracing::info!("starting the nodes of the host and the customer");
    let host_dir = workdir.join("host");
    let customer = NodeConfig { name: "customer".into(), ..NodeConfig::default() };
    let (host, customer) = try_join!(
        Lightningd::start(daemons, &bitcoind, &host_dir, host),
        Lightningd::start(daemons, &bitcoind, customer_dir, customer),
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
    until("the customer to see its funds", FUNDS_TIMEOUT, async || {
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
        until("the channel to open", CHANNEL_TIMEOUT, async || {
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
