//! The soak's world: a shop with its node and a customer, remotes, and ways to crash each of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use lnplaylive_core::{Order, version};
use lxd_client::{Client, ClientConfig, Identity, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sim_lxd::{SimRemote, SimRemoteConfig};
use testbed::shim::When;
use testbed::{Binary, Daemons, Host, HostConfig, PluginRun, Rpc, RpcError, Step, Workdir};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::books::{Books, Project};
use crate::clock::Clock;
use crate::findings::Findings;
use crate::ledger::Ledger;
use crate::settings::{Environments, Servers, Settings};
use crate::tally::{Group, Tally};

/// Longest time that a restarted process may take to answer.
const RESTART_TIMEOUT: Duration = Duration::from_secs(60);
/// Time-out of a call to a node.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The shop's settings: small products, and little patience, so that every limit is reached. `PREPARED` is a number.
const SHOP: &str = r#"
[[products]]
sku = "T"
node_count = 1
msat_per_node_hour = 1000
prepared = PREPARED

[[products]]
sku = "U"
node_count = 2
msat_per_node_hour = 1000
prepared = PREPARED

[[products]]
sku = "V"
node_count = 3
msat_per_node_hour = 1000

[shop]
invoice_expiry_secs = 15
unpaid_retention_secs = 1
max_unpaid_orders = 50

[provisioning]
backoff_ms = 20
max_backoff_ms = 2000
retry_pause_ms = 50
max_retry_pause_ms = 1000
breaker_faults = 3
breaker_pause_secs = 1
survey_secs = 1
"#;

/// The name of a real server in the shop's settings.
const EXISTING: &str = "remote";

/// The name of the remote with this number in the shop's settings.
pub fn remote_name(index: usize) -> String {
    format!("sim-{index}")
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// The settings of the run.
    pub settings: Settings,
    /// The time.
    pub clock: Clock,
    /// Counts of what was done.
    pub tally: Tally,
    /// What buyers and operator know.
    pub ledger: Ledger,
    /// What was found wrong.
    pub findings: Findings,
    /// The simulated remotes.
    pub remotes: Vec<SimRemote>,
    /// The customer's node.
    pub customer: Rpc,
    /// The address of the web shop's server, which runs in this process.
    pub site: SocketAddr,
    /// Locked while the shop's node or plugin is restarted.
    host: Mutex<Host>,
    node: Rpc,
    node_log: PathBuf,
    plugin: PathBuf,
    config: PathBuf,
    state_dir: PathBuf,
    // The last field, so that the directory is removed when nothing writes to it any more.
    workdir: Workdir,
}

impl World {
    /// Starts everything and returns when orders can be made and paid.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let workdir = Workdir::new("soak")?;
        let clock = Clock::new(workdir.path())?;
        let daemons = Daemons::of(settings.lightning)?;
        let state_dir = workdir.subdir("state")?;
        let (remotes, tables) = remotes(&settings, &daemons, &workdir).await?;
        // A call that hangs is not to hold its step for long, and a busy machine answers late.
        let calls = if remotes.is_empty() { 20 } else { 3 };
        let routes = workdir.join("routes.json");
        let shop = SHOP.replace("[shop]\n", &format!("[shop]\nroutes_file = \"{}\"\n", routes.display()));
        let shop = shop.replace("PREPARED", &settings.prepared.to_string());
        let toml = format!(
            "state_dir = \"{}\"\n{shop}call_timeout_secs = {calls}\n\
             [culler]\ngrace_mins = 1\ncall_timeout_secs = {calls}\noperation_timeout_secs = 20\n{tables}",
            state_dir.display()
        );
        let config = workdir.join("lnplaylive.toml");
        std::fs::write(&config, toml).context("writing the shop's settings")?;
        // A plugin that is killed leaves the directory of its SSH connection. The name is short because ssh's sockets are in it.
        let mut host = HostConfig::new(daemons)
            .plugin(PluginRun::Shimmed, Some(config.clone()))
            .env("TMPDIR", workdir.subdir("t")?);
        for (name, value) in clock.env() {
            host = host.env(name, value);
        }
        let host = Host::start(host).await.context("starting the shop's node")?;
        let site = site(&host, &workdir, routes).await.context("starting the web shop's server")?;
        let world = Self {
            settings,
            clock,
            tally: Tally::default(),
            ledger: Ledger::default(),
            findings: Findings::default(),
            remotes,
            customer: host.customer.rpc(),
            site,
            node: host.node.rpc(),
            node_log: host.node.log_path(),
            host: Mutex::new(host),
            plugin: Binary::Plugin.path()?,
            config,
            state_dir,
            workdir,
        };
        world.wait_shop().await?;
        Ok(world)
    }

    /// Waits until the shop answers.
    async fn wait_shop(&self) -> anyhow::Result<()> {
        testbed::until("the shop to answer", RESTART_TIMEOUT, async || {
            Ok(match self.call("lnplaylive-products", json!({})).await {
                Ok(_) => Step::Done(()),
                Err(error) => Step::NotYet(error.to_string()),
            })
        })
        .await?;
        Ok(())
    }

    /// Calls a method of the shop's node.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.node.within(CALL_TIMEOUT).call(method, params).await
    }

    /// As [`World::call`]; reports an error that no caller should ever see.
    pub async fn ask(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let result = self.call(method, params).await;
        if let Err(error) = &result {
            let kind = error.data.as_ref().map_or("", |data| data["kind"].as_str().unwrap_or_default());
            if matches!(kind, "internal" | "damaged_record" | "invalid_params") {
                self.findings.add(format!("{method} answered {kind}: {}", error.message));
            }
        }
        result
    }

    /// The plugin's process.
    fn plugin_pid(&self, node: u32) -> Option<Pid> {
        let processes = std::fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let is_plugin = |pid: &u32| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.plugin)
                && parent(*pid).and_then(parent) == Some(node)
        };
        processes.into_iter().find(is_plugin).and_then(|pid| Some(Pid::from_raw(pid.try_into().ok()?)))
    }

    /// Kills the plugin, now, and starts it again after `pause`.
    pub async fn kill_plugin(&self, pause: Duration) -> anyhow::Result<()> {
        let host = self.host.lock().await;
        if let Some(pid) = self.plugin_pid(host.node.pid()) {
            kill(pid, Signal::SIGKILL).ok();
            self.tally.one(Group::Crashes, "plugin, at any time");
        }
        self.restart_plugin(&host, pause).await
    }

    /// Kills the plugin before or after its `nth` write from now, if that comes soon, and starts it again after `pause`. Or loses
    /// the answer to that write.
    pub async fn disturb_write(&self, nth: usize, when: When, pause: Duration) -> anyhow::Result<()> {
        let host = self.host.lock().await;
        let shim = host.shim.as_ref().context("there is a shim")?;
        shim.arm(nth, when)?;
        if shim.wait_fired(Duration::from_secs(3)).await.is_err() && shim.disarm()? {
            return Ok(());
        }
        let name = match when {
            When::Before => "plugin, before a write",
            When::After => "plugin, after a write",
            When::Lost => {
                self.tally.one(Group::Lost, "answers of lightningd to writes");
                return Ok(());
            }
        };
        self.tally.one(Group::Crashes, name);
        self.restart_plugin(&host, pause).await
    }

    async fn restart_plugin(&self, host: &Host, pause: Duration) -> anyhow::Result<()> {
        host.wait_plugin_gone().await.context("the plugin's end")?;
        tokio::time::sleep(pause).await;
        host.start_plugin().await.context("starting the plugin again")?;
        self.wait_shop().await.context("after the plugin was started again")
    }

    /// Stops the plugin as an operator does, and starts it again after `pause`.
    pub async fn stop_plugin(&self, pause: Duration) -> anyhow::Result<()> {
        let host = self.host.lock().await;
        host.stop_plugin().await.context("stopping the plugin")?;
        tokio::time::sleep(pause).await;
        host.start_plugin().await.context("starting the plugin again")?;
        self.wait_shop().await.context("after the plugin was stopped and started")
    }

    /// Kills the shop's node with the plugin, and starts both again after `pause`.
    pub async fn kill_node(&self, pause: Duration) -> anyhow::Result<()> {
        let mut host = self.host.lock().await;
        host.node.kill();
        self.tally.one(Group::Crashes, "lightningd, with the plugin");
        tokio::time::sleep(pause).await;
        host.node.restart().await.context("starting the shop's node again")?;
        host.reconnect().await.context("connecting the customer again")?;
        self.wait_shop().await.context("after the node was started again")
    }

    /// Reports a plugin that is not there although nobody has killed it.
    pub async fn check_plugin(&self) -> anyhow::Result<()> {
        let host = self.host.lock().await;
        if self.plugin_pid(host.node.pid()).is_none() {
            self.findings.add("the plugin has ended by itself");
            self.restart_plugin(&host, Duration::ZERO).await?;
        }
        Ok(())
    }

    /// A command that runs the culler once. Its log goes to a file.
    pub fn culler(&self, arguments: &[&str]) -> anyhow::Result<tokio::process::Command> {
        let log = std::fs::File::options().append(true).create(true).open(self.culler_log())?;
        let program = self.plugin.with_file_name("lnplaylive-culler");
        let mut command = tokio::process::Command::new(program);
        command.arg("--config").arg(&self.config).arg("--json").args(arguments);
        command.envs(self.clock.env()).stderr(log).stdin(std::process::Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    fn culler_log(&self) -> PathBuf {
        self.workdir.join("culler.log")
    }

    /// The file that decides how `lnplay` fails on this remote.
    pub fn trouble_file(&self, remote: usize) -> PathBuf {
        trouble_file(&self.workdir, remote)
    }

    /// The logs of the shop's programs.
    pub fn logs(&self) -> Vec<PathBuf> {
        let mut logs = vec![self.node_log.clone(), self.culler_log(), self.own_log()];
        logs.retain(|path| path.exists());
        logs
    }

    /// The log of what runs in this process: the web shop's server and the simulated remotes.
    pub fn own_log(&self) -> PathBuf {
        std::env::temp_dir().join(format!("soak-{}.log", std::process::id()))
    }

    /// The directories with the shop's keys for the remotes and the tokens.
    pub fn key_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.state_dir.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { dirs.push(path) } else { files.push(path) }
            }
        }
        let tokens = std::fs::read_dir(self.workdir.path()).into_iter().flatten().flatten();
        files.extend(tokens.map(|e| e.path()).filter(|p| has_prefix(p, "token-")));
        files
    }

    /// The directory for SSH connections.
    pub fn ssh_dir(&self) -> PathBuf {
        self.workdir.join("t")
    }

    /// Records in the datastore: those of the open list, then those of the closed list and of the archive.
    pub async fn records(&self) -> anyhow::Result<(Vec<Order>, Vec<Order>)> {
        let mut lists = [Vec::new(), Vec::new()];
        for (list, name) in lists.iter_mut().zip(["open", "closed"]) {
            *list = self.record_list(&[name]).await?;
        }
        let [open, mut closed] = lists;
        for part in 0..=u8::MAX {
            closed.extend(self.record_list(&["archive", &format!("{part:02x}")]).await?);
        }
        Ok((open, closed))
    }

    /// The records of one list: `open`, `closed`, or a part of the `archive`.
    pub async fn record_list(&self, path: &[&str]) -> anyhow::Result<Vec<Order>> {
        let key = [&["lnplaylive"], path].concat();
        let listed = self.call("listdatastore", json!({"key": key})).await?;
        let entries = listed["datastore"].as_array().context("a list")?;
        entries
            .iter()
            .filter_map(|entry| entry["string"].as_str())
            .map(|text| version::read(text.as_bytes()).context("reading a record"))
            .collect()
    }

    /// All projects of all remotes.
    pub async fn projects(&self) -> anyhow::Result<Vec<Project>> {
        if let Servers::Existing { url, .. } = &self.settings.servers {
            return existing_projects(&self.state_dir, url).await;
        }
        let of = |(index, remote): (usize, &SimRemote)| {
            remote.projects().into_iter().map(move |project| Project {
                remote: remote_name(index),
                name: project.name,
                config: project.config,
                runs: project.instances.values().any(|runs| *runs),
            })
        };
        Ok(self.remotes.iter().enumerate().flat_map(of).collect())
    }

    /// Everything that is there now.
    pub async fn books(&self) -> anyhow::Result<Books> {
        let (open, closed) = self.records().await?;
        let listed = self.call("listinvoices", json!({})).await?;
        let invoices = listed["invoices"].as_array().context("a list")?.iter().filter_map(|invoice| {
            Some((invoice["label"].as_str()?.to_owned(), invoice["status"].as_str()?.to_owned()))
        });
        let (invoices, ledger) = (invoices.collect::<BTreeMap<_, _>>(), self.ledger.all());
        let projects = self.projects().await?;
        Ok(Books { now: self.now(), open, closed, invoices, projects, ledger })
    }

    /// The world's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass everywhere.
    pub fn advance(&self, seconds: i64) -> anyhow::Result<()> {
        self.clock.advance(seconds)?;
        for remote in &self.remotes {
            remote.faults().on_clock(self.clock.ahead());
        }
        Ok(())
    }

    /// Keeps all files.
    pub async fn keep(&mut self) {
        self.host.lock().await.keep("the soak has found something");
        self.workdir.keep("the soak has found something");
    }
}

/// The projects of a real server, read with the shop's own key, which has enrolled there.
async fn existing_projects(state_dir: &Path, url: &str) -> anyhow::Result<Vec<Project>> {
    let dir = state_dir.join("remotes").join(EXISTING);
    let identity = Identity::load_or_create(&dir, "lnplaylive").context("the shop's key")?;
    let pin = std::fs::read_to_string(dir.join("server.fingerprint")).context("the server's fingerprint")?;
    let pin = pin.trim().parse().context("the server's fingerprint")?;
    let client = Client::new(ClientConfig::new(EXISTING, url.parse()?, identity, pin))?;
    let mut projects = Vec::new();
    for project in client.projects().await? {
        let instances = client.instances(&project.name).await?;
        let runs = instances.iter().any(|instance| instance.status == Status::Running);
        projects.push(Project { remote: EXISTING.into(), name: project.name, config: project.config, runs });
    }
    Ok(projects)
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}

fn trouble_file(workdir: &Workdir, remote: usize) -> PathBuf {
    workdir.join(format!("trouble-{remote}"))
}

/// Serves the web shop for as long as this process lives.
async fn site(host: &Host, workdir: &Workdir, routes: PathBuf) -> anyhow::Result<SocketAddr> {
    let rune = host.create_public_rune().await?;
    let dist = workdir.subdir("dist")?;
    let files = [(dist.join("index.html"), "<!doctype html>"), (workdir.join("rune"), &rune)];
    for (path, text) in &files {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let id = host.node.id().parse().context("the node's id")?;
    let mut settings = shop_server::Settings::new(dist, id, workdir.join("rune"));
    settings.lightning_websocket = Some(format!("127.0.0.1:{}", host.node.ws_port()));
    settings.routes_file = Some(routes);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(shop_server::Site::new(settings)?.serve(listener.into(), std::future::pending()));
    Ok(address)
}

/// Starts the simulated remotes; returns them and all remotes' tables in the settings.
async fn remotes(
    settings: &Settings,
    daemons: &Daemons,
    workdir: &Workdir,
) -> anyhow::Result<(Vec<SimRemote>, String)> {
    let (mut remotes, mut tables) = (Vec::new(), String::new());
    let mut describe = |name: &str, url: &str, token: &Path, more: &str| {
        write!(
            tables,
            "\n[[remotes]]\nname = {name:?}\nurl = {url:?}\ntoken_file = \"{}\"\ninstance_type = \"container\"\n{more}\n",
            token.display()
        )
    };
    match &settings.servers {
        Servers::Existing { url, token_file } => {
            let more =
                format!("listen_address = \"{}\"\nunlimited_disk = true", testbed::listen_address(url)?);
            describe(EXISTING, url, Path::new(token_file), &more)?;
        }
        Servers::Simulated(count) => {
            let lnplay = match settings.environments {
                Environments::Fast => Binary::Plugin.path()?.with_file_name("soak-lnplay"),
                Environments::Lnplay => Binary::Lnplay.path()?,
            };
            for index in 0..*count {
                let mut config = SimRemoteConfig::new(workdir.join(format!("r{index}")), &lnplay);
                let address = testbed::loopback_address();
                config.listen = (address, 0).into();
                let mut env = |name: &str, path: &Path| {
                    config.env.insert(name.to_owned(), path.display().to_string());
                };
                env("LIGHTNINGD", daemons.lightningd());
                env("BITCOIND", daemons.bitcoind());
                env("SOAK_TROUBLE", &trouble_file(workdir, index));
                let remote = SimRemote::start(config).await.context("starting a simulated remote")?;
                let token = workdir.join(format!("token-{index}"));
                std::fs::write(&token, remote.token("lnplaylive"))?;
                let more = format!("listen_address = \"{address}\"\nboot_timeout_secs = 3");
                describe(&remote_name(index), &remote.url(), &token, &more)?;
                remotes.push(remote);
            }
        }
    }
    Ok((remotes, tables))
}
