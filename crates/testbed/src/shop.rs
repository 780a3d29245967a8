//! A complete shop: a host that sells, a customer that pays, and remotes for the environments.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use lxd_client::{Client, ClientConfig, Identity};
use serde::Serialize;
use serde_json::{Value, json};
use sim_lxd::{SimRemote, SimRemoteConfig};
use tokio::time::sleep;
use url::Url;

use crate::{Binary, Daemons, Error, Host, HostConfig, PluginRun, Result, RpcError, Step, Workdir, until};

/// Number of loopback addresses that this process has given to remotes.
static REMOTES: AtomicU8 = AtomicU8::new(0);

/// Maximum time of one `lnplaylive-waitstatus`, in seconds.
const WAIT_SLICE: u64 = 10;
/// Longest time until the node is synchronised after its start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// The remotes of a shop.
#[derive(Clone, Debug)]
pub enum Remotes {
    /// This many simulated servers, named `sim-0` and so on.
    Simulated(usize),
    /// A simulated cluster named `sim-0` with this many members, `m0` and so on, which detects dead members at once.
    SimulatedCluster(usize),
    /// An existing server, reached with an enrolment token; its instances are containers.
    Existing {
        /// URL of its API.
        url: String,
        /// The token.
        token_file: PathBuf,
    },
    /// An existing server; its instances are virtual machines.
    Machines {
        /// URL of its API.
        url: String,
        /// The token.
        token_file: PathBuf,
        /// First and last of the static addresses for them.
        addresses: (Ipv4Addr, Ipv4Addr),
    },
}

/// The kind of a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemoteKind {
    /// An LXD server.
    Lxd,
    /// An Incus server.
    Incus,
    /// A simulated LXD server.
    Simulated,
}

/// Name of an existing remote in the shop's settings.
const EXISTING: &str = "remote";

/// Names of the files that the plugin shares with the web shop's server.
const TICKET_KEY: &str = "ticket_key";
const PRODUCTS: &str = "products.json";

/// Values of `instance_type`.
const CONTAINER: &str = "container";
const MACHINE: &str = "virtual-machine";

/// Configuration of a [`Shop`].
#[derive(Clone, Debug)]
pub struct ShopConfig {
    /// The daemons of the host and of the environments.
    pub daemons: Daemons,
    /// The remotes.
    pub remotes: Remotes,
    /// The way to run the plugin.
    pub plugin: PluginRun,
    /// Settings other than the remotes, as TOML tables.
    pub settings: String,
    /// Lines for each remote's table, in TOML.
    pub remote_settings: String,
    /// Rations orders by tickets, as a shop on the internet does. Orders of [`Shop::order`] have none.
    pub tickets: bool,
    /// Directory of the customer's node, which the caller removes. Default: one beside the shop's.
    pub customer_dir: Option<PathBuf>,
}

impl ShopConfig {
    /// A shop with one simulated remote and default settings.
    pub fn new(daemons: Daemons) -> Self {
        Self {
            daemons,
            remotes: Remotes::Simulated(1),
            plugin: PluginRun::Direct,
            settings: String::new(),
            remote_settings: String::new(),
            tickets: false,
            customer_dir: None,
        }
    }
}

/// A running shop. Everything in it stops when it is dropped.
#[derive(Debug)]
pub struct Shop {
    /// Host, customer and bitcoind.
    pub host: Host,
    /// The simulated remotes, if any.
    pub remotes: Vec<SimRemote>,
    daemons: Daemons,
    existing: Option<String>,
    tickets: bool,
    // The last field, so that the directory is removed when nothing writes to it any more.
    workdir: Workdir,
}

impl Shop {
    /// Starts everything and returns when orders can be created and paid.
    pub async fn start(config: ShopConfig) -> Result<Self> {
        let workdir = Workdir::new("shop")?;
        let mut settings = config.settings.clone();
        let mut remotes = Vec::new();
        let mut existing = None;
        match &config.remotes {
            Remotes::Simulated(count) => {
                for index in 0..*count {
                    let dir = workdir.join(format!("r{index}"));
                    let anywhere = (loopback_address(), 0).into();
                    let remote = simulated_remote(&config.daemons, dir, anywhere).await?;
                    let token_file = workdir.join(format!("token-{index}"));
                    write(&token_file, &remote.token("lnplaylive"))?;
                    let (name, url) = (format!("sim-{index}"), remote.url());
                    let more =
                        format!("listen_address = \"{}\"\n{}", listen_address(&url)?, config.remote_settings);
                    describe(&mut settings, &name, &url, &token_file, CONTAINER, &more);
                    remotes.push(remote);
                }
            }
            Remotes::SimulatedCluster(members) => {
                let dir = workdir.join("r0");
                let mut cluster = simulated_config(&config.daemons, dir, (loopback_address(), 0).into())?
                    .with_members((0..*members).map(|index| format!("m{index}")));
                cluster.offline_after = Duration::ZERO;
                let remote = start_simulated(cluster).await?;
                let token_file = workdir.join("token-0");
                write(&token_file, &remote.token("lnplaylive"))?;
                let more = &config.remote_settings;
                describe(&mut settings, "sim-0", &remote.url(), &token_file, CONTAINER, more);
                remotes.push(remote);
            }
            Remotes::Existing { url, token_file } => {
                let address = listen_address(url)?;
                let mut more = format!("listen_address = \"{address}\"\n{}", config.remote_settings);
                if !more.contains("unlimited_disk") {
                    // Whatever pool it has: this is for trying things out.
                    more.push_str("\nunlimited_disk = true");
                }
                describe(&mut settings, EXISTING, url, token_file, CONTAINER, &more);
                existing = Some(url.clone());
            }
            Remotes::Machines { url, token_file, addresses: (first, last) } => {
                let more = format!(
                    "vm_addresses = {{ first = \"{first}\", last = \"{last}\" }}\n{}",
                    config.remote_settings
                );
                describe(&mut settings, EXISTING, url, token_file, MACHINE, &more);
                existing = Some(url.clone());
            }
        }
        let settings_file = workdir.join("lnplaylive.toml");
        write(&settings_file, &settings)?;
        let mut host = HostConfig::new(config.daemons.clone())
            .plugin(config.plugin, Some(settings_file))
            .env("LNPLAYLIVE_SHOP__PRODUCTS_FILE", workdir.join(PRODUCTS))
            // A plugin that dies during its work leaves the directory of its SSH connection, with keys. The name is short because ssh's
            // sockets are in it.
            .env("TMPDIR", workdir.subdir("t")?);
        if config.tickets {
            let key = workdir.join(TICKET_KEY);
            write(&key, &format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()))?;
            host = host.env("LNPLAYLIVE_SHOP__TICKET_KEY_FILE", key);
        }
        if let Some(dir) = config.customer_dir {
            host = host.customer_dir(dir);
        }
        let host = Host::start(host).await?;
        if config.plugin != PluginRun::Absent {
            // Answers once the plugin has polled the remotes and knows what is available.
            host.node.ask("lnplaylive-products", json!({})).await?;
            // A node that has just started says for a second that it is not synchronised. What visitors see follows.
            let products = workdir.join(PRODUCTS);
            until("the shop to open", OPEN_TIMEOUT, async || {
                let shown: Value = std::fs::read(&products)
                    .ok()
                    .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                    .unwrap_or_default();
                Ok(match shown["open"] {
                    Value::Bool(true) => Step::Done(()),
                    _ => Step::NotYet(format!("products: {shown}")),
                })
            })
            .await?;
        }
        Ok(Self { host, remotes, daemons: config.daemons, existing, tickets: config.tickets, workdir })
    }

    /// The daemons of the host and of the environments.
    pub fn daemons(&self) -> &Daemons {
        &self.daemons
    }

    /// Keeps logs and data even without a panic, and prints their path; for callers that fail by returning an error.
    pub fn keep(&mut self, why: &str) {
        self.host.keep(why);
        self.workdir.keep(why);
    }

    /// Stops the host's node as an operator would, so that the plugin shuts down, and kills everything else.
    pub async fn stop(mut self) {
        if let Err(error) = self.host.node.stop().await {
            tracing::warn!(%error, "the host's node did not stop; killing it");
        }
    }

    /// The kind of the remote. A remote tells only clients that it trusts, so call this after an environment was placed.
    pub async fn remote_kind(&self) -> Result<RemoteKind> {
        let Some(url) = &self.existing else { return Ok(RemoteKind::Simulated) };
        // With the key of the plugin, which has enrolled.
        let dir = self.host.node.dir().join("regtest/lnplaylive/remotes").join(EXISTING);
        let unusable = |what: &str, error: &dyn std::fmt::Display| {
            Error::Unusable(format!("{what} of {url} that the plugin keeps in {}: {error}", dir.display()))
        };
        let identity =
            Identity::load_or_create(&dir, "lnplaylive").map_err(|e| unusable("the client's key", &e))?;
        let pin = std::fs::read_to_string(dir.join("server.fingerprint"));
        let pin = pin.map_err(|e| unusable("the fingerprint", &e))?;
        let pin = pin.trim().parse().map_err(|e| unusable("the fingerprint", &e))?;
        let parsed = parse_url(url)?;
        let server = match Client::new(ClientConfig::new(EXISTING, parsed, identity, pin)) {
            Ok(client) => client.server().await,
            Err(error) => Err(error),
        };
        let server = server.map_err(|e| Error::Unusable(format!("reading the description of {url}: {e}")))?;
        match server.environment.server.as_str() {
            "lxd" => Ok(RemoteKind::Lxd),
            "incus" => Ok(RemoteKind::Incus),
            other => Err(Error::Unusable(format!("{url} is {other:?}, neither lxd nor incus"))),
        }
    }

    /// The file with the key of tickets; `None` without tickets.
    pub fn ticket_key_file(&self) -> Option<PathBuf> {
        self.tickets.then(|| self.workdir.join(TICKET_KEY))
    }

    /// The file to which the plugin writes the products.
    pub fn products_file(&self) -> PathBuf {
        self.workdir.join(PRODUCTS)
    }

    /// A directory for the caller's files.
    pub fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// `lnplaylive-createorder`.
    pub async fn order(&self, node_count: u32, hours: u32) -> Result<Value, RpcError> {
        let params = json!({"node_count": node_count, "hours": hours});
        self.host.node.call("lnplaylive-createorder", params).await
    }

    /// Orders and pays; returns the order. Waits for a node that reads the latest blocks after its start, as the page does.
    pub async fn buy(&self, node_count: u32, hours: u32) -> Result<Value, RpcError> {
        let started = Instant::now();
        let order = loop {
            match self.order(node_count, hours).await {
                Err(error) if is_synchronising(&error) && started.elapsed() < OPEN_TIMEOUT => {
                    sleep(Duration::from_millis(200)).await;
                }
                order => break order?,
            }
        };
        self.host.customer.pay(order["bolt11_invoice"].as_str().unwrap_or_default()).await?;
        Ok(order)
    }

    /// `lnplaylive-invoicestatus`.
    pub async fn status(&self, invoice_id: &str) -> Result<Value, RpcError> {
        let params = json!({"payment_type": "bolt11", "invoice_id": invoice_id});
        self.host.node.call("lnplaylive-invoicestatus", params).await
    }

    /// Follows an order with `lnplaylive-waitstatus` until it is provisioned or has failed, and returns its last status.
    ///
    /// Continues if the plugin does not answer, because it may be restarting.
    pub async fn follow(
        &self,
        invoice_id: &str,
        within: Duration,
        mut seen: impl FnMut(&Value),
    ) -> Result<Value> {
        let started = Instant::now();
        let mut last = Value::Null;
        while started.elapsed() < within {
            let params = json!({
                "invoice_id": invoice_id, "revision": last["revision"].as_u64().unwrap_or(0), "timeout": WAIT_SLICE,
            });
            match self.host.node.call("lnplaylive-waitstatus", params).await {
                Ok(status) => {
                    seen(&status);
                    let state = status["deployment_details"]["status"].as_str();
                    if matches!(state, Some("provisioned" | "failed" | "expired")) {
                        return Ok(status);
                    }
                    last = status;
                }
                Err(error) => {
                    last = json!({"error": error.message});
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Err(Error::TimedOut { what: "the environment".into(), waited: within, last: last.to_string() })
    }
}

/// Starts a simulated remote whose instances run the given daemons. It creates `dir` for its state.
pub async fn simulated_remote(daemons: &Daemons, dir: PathBuf, listen: SocketAddr) -> Result<SimRemote> {
    start_simulated(simulated_config(daemons, dir, listen)?).await
}

async fn start_simulated(config: SimRemoteConfig) -> Result<SimRemote> {
    SimRemote::start(config).await.map_err(|e| Error::Unusable(format!("the simulated remote: {e:#}")))
}

fn simulated_config(daemons: &Daemons, dir: PathBuf, listen: SocketAddr) -> Result<SimRemoteConfig> {
    let mut env = BTreeMap::new();
    let mut name = |variable: &str, program: &Path| {
        env.insert(variable.to_owned(), program.display().to_string());
    };
    name("LIGHTNINGD", daemons.lightningd());
    name("BITCOIND", daemons.bitcoind());
    if let Some(bitcoin_cli) = &daemons.bitcoin_cli {
        name("BITCOIN_CLI", bitcoin_cli);
    }
    let mut config = SimRemoteConfig::new(dir, Binary::Lnplay.path()?);
    (config.env, config.listen) = (env, listen);
    Ok(config)
}

/// True if an order was refused because the node is not synchronised.
fn is_synchronising(error: &RpcError) -> bool {
    let awaited = error.data.as_ref().and_then(|data| data["awaited"].as_str());
    matches!(awaited, Some("bitcoind_sync" | "lightningd_sync"))
}

fn parse_url(url: &str) -> Result<Url> {
    Url::parse(url).map_err(|e| Error::Unusable(format!("the URL {url}: {e}")))
}

/// The address on which an existing remote opens environments' ports: loopback if it is on this machine.
///
/// # Errors
///
/// If `url` is not a URL.
pub fn listen_address(url: &str) -> Result<IpAddr> {
    let ip = match parse_url(url)?.host() {
        Some(url::Host::Domain("localhost")) => Some(Ipv4Addr::LOCALHOST.into()),
        Some(url::Host::Ipv4(ip)) => Some(IpAddr::from(ip)),
        Some(url::Host::Ipv6(ip)) => Some(ip.into()),
        _ => None,
    };
    Ok(ip.filter(IpAddr::is_loopback).unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
}

/// A loopback address for one simulated remote, so that remotes that run at the same time, in this process or others, do not
/// use the same ports.
pub fn loopback_address() -> Ipv4Addr {
    let [high, low] = u16::try_from(std::process::id() % 0xffff).unwrap_or_default().to_be_bytes();
    let remote = REMOTES.fetch_add(1, Ordering::Relaxed) % 100;
    Ipv4Addr::new(127, 100 + remote, high, low)
}

fn describe(
    settings: &mut String,
    name: &str,
    url: &str,
    token_file: &Path,
    instance_type: &str,
    more: &str,
) {
    write!(
        settings,
        "\n[[remotes]]\nname = {name:?}\nurl = {url:?}\ntoken_file = \"{}\"\ninstance_type = \"{instance_type}\"\n\
         {more}\n",
        token_file.display()
    )
    .expect("a string takes all");
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::File { doing: "writing", path: path.into(), source })
}
