//! Shared by the tests: the culler as a process, projects to cull, and the thirty of them that end as the rule says.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod cut;
pub(crate) mod image;
pub(crate) mod thirty;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use lnplaylive_core::tags::{KEY_CREATED, KEY_REMOVING, KEY_STATE, Stage};
use lnplaylive_core::{OrderId, PortBlock, ProjectName, ProjectTags};
use lxd_client::{
    Client, ClientConfig, Collection, ConfigMap, Identity, ImageSource, InstanceSpec, InstanceType, Token,
};
use serde_json::Value;
use sim_lxd::{SimRemote, SimRemoteConfig};
use tempfile::TempDir;
use tokio::process::Command;

/// More than anything takes here, even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// An hour, in seconds.
pub(crate) const HOUR: i64 = 3600;

/// Seconds since 1970, `ahead` from now.
pub(crate) fn now(ahead: i64) -> i64 {
    Timestamp::now().as_second() + ahead
}

/// A project as the provisioner makes it.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) config: ConfigMap,
}

impl Project {
    /// One that was handed over and ends so many seconds from now.
    pub(crate) fn ending(ahead: i64) -> Self {
        let order = OrderId::random();
        let expires = now(ahead);
        let end = Timestamp::from_second(expires).expect("in range");
        let project = ProjectName::new(end, order).expect("a name");
        let tags = ProjectTags {
            project,
            order,
            prepared: None,
            expires: end,
            ports: PortBlock { first: 20000, count: 9 },
            member: None,
            address: None,
            stage: Stage::Provisioned,
            created: Timestamp::from_second(now(ahead.min(0) - HOUR)).ok(),
            removing: None,
            shop: None,
        };
        let mut config = tags.to_config();
        for feature in ["features.images", "features.profiles"] {
            config.insert(feature.to_owned(), "false".to_owned());
        }
        Self { name: project.to_string(), config }
    }

    /// One that somebody is making, or was.
    pub(crate) fn placing(ahead: i64, created: i64) -> Self {
        Self::ending(ahead)
            .with(KEY_STATE, Stage::Placing.as_str())
            .with(KEY_CREATED, &now(created).to_string())
    }

    /// One that is prepared for orders to come.
    pub(crate) fn prepared(ahead: i64) -> Self {
        Self::ending(ahead).with(KEY_STATE, Stage::Prepared.as_str())
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.config.remove(key);
        self
    }

    pub(crate) fn without_keys(mut self) -> Self {
        self.config.retain(|key, _| key.starts_with("features."));
        self
    }

    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// One whose removal was begun.
    pub(crate) fn half_removed(self) -> Self {
        self.with(KEY_REMOVING, &now(-HOUR).to_string())
    }

    pub(crate) async fn make(&self, client: &Client) {
        client.create_project(&self.name, "made by a test", &self.config).await.expect("created");
    }

    /// Makes it with an instance in it that runs.
    pub(crate) async fn make_running(&self, client: &Client) {
        self.make(client).await;
        start(client, &self.name, "lnplay", false).await;
    }
}

/// Makes an instance in a project; one that is stubborn does not heed signals.
pub(crate) async fn create(client: &Client, project: &str, name: &str, stubborn: bool) {
    let mut config = ConfigMap::new();
    if stubborn {
        config.insert("environment.STUBBORN".into(), "1".into());
    }
    let spec = InstanceSpec {
        name: name.into(),
        kind: InstanceType::Container,
        image: ImageSource::Alias("lnplay".into()),
        config,
        // Without the network of the default profile, which takes longer than the rest.
        devices: [("eth0".to_owned(), [("type".to_owned(), "none".to_owned())].into())].into(),
        profiles: None,
        target: None,
    };
    client.create_instance(project, &spec, LONG).await.expect("created");
}

/// Makes an instance and starts it.
pub(crate) async fn start(client: &Client, project: &str, name: &str, stubborn: bool) {
    create(client, project, name, stubborn).await;
    client.start_instance(project, name, LONG).await.expect("started");
}

/// Gives a project that has its own a profile and a volume.
pub(crate) async fn furnish(client: &Client, project: &str) {
    let volumes = Collection::StorageVolumes { pool: "default".into() };
    for (collection, name) in [(&Collection::Profiles, "more"), (&volumes, "data")] {
        client.create(collection, project, name, &ConfigMap::new()).await.expect("created");
    }
}

/// All that a server has: its projects, and the instances in them with their state.
pub(crate) async fn snapshot(client: &Client) -> BTreeMap<String, (ConfigMap, Vec<String>)> {
    let mut all = BTreeMap::new();
    for project in client.projects().await.expect("a list") {
        let instances = client.instances(&project.name).await.expect("a list");
        let instances = instances.iter().map(|i| format!("{} {:?}", i.name, i.status)).collect();
        all.insert(project.name, (project.config, instances));
    }
    all
}

/// A client of the server's operator.
pub(crate) async fn operator(url: &str, token: &str) -> Client {
    let token = Token::parse(token).expect("a token");
    let identity = Identity::generate("operator").expect("an identity");
    let url = url.parse().expect("a URL");
    let client = Client::new(ClientConfig::new("operator", url, identity, *token.fingerprint()));
    let client = client.expect("a client");
    client.enrol(&token).await.expect("enrolled");
    client
}

/// A simulated remote, and its operator.
pub(crate) struct Sim {
    pub(crate) remote: SimRemote,
    pub(crate) client: Client,
    _dir: TempDir,
}

impl Sim {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("cu").tempdir().expect("a directory");
        let config = SimRemoteConfig::new(dir.path().join("r"), program("true"));
        let remote = SimRemote::start(config).await.expect("a remote");
        let client = operator(&remote.url(), &remote.token("operator")).await;
        Self { remote, client, _dir: dir }
    }

    /// The calls that the remote was asked since `before`, as `METHOD path`.
    pub(crate) fn calls_since(&self, before: usize) -> Vec<String> {
        let calls = self.remote.faults().calls().split_off(before);
        calls.into_iter().map(|c| format!("{} {}", c.method, c.path)).collect()
    }

    pub(crate) fn calls(&self) -> usize {
        self.remote.faults().calls().len()
    }

    /// The names of the projects, but for `default`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.remote.projects().into_iter().map(|p| p.name).filter(|name| name != "default").collect()
    }
}

/// The culler's settings and state.
pub(crate) struct Culler {
    dir: TempDir,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Culler {
    /// One that knows these remotes (name, URL, token), and these settings besides.
    pub(crate) fn new(remotes: &[(&str, &str, &str)], more: &str) -> Self {
        let culler = Self { dir: tempfile::Builder::new().prefix("cu").tempdir().expect("a directory") };
        let mut settings = format!("state_dir = \"{}\"\n{more}\n", culler.dir.path().join("state").display());
        for (name, url, token) in remotes {
            let file = culler.write(&format!("token-{name}"), token);
            let file = file.display();
            writeln!(settings, "[[remotes]]\nname = {name:?}\nurl = {url:?}\ntoken_file = \"{file}\"")
                .expect("a string takes all");
        }
        culler.write("lnplaylive.toml", &settings);
        culler
    }

    /// One for a simulated remote, which knows it already: the calls of a pass are those of every pass.
    pub(crate) async fn of(sim: &Sim, more: &str) -> Self {
        let culler = Self::new(&[("sim", &sim.remote.url(), &sim.remote.token("culler"))], more);
        culler.run(&["--dry-run"]).await.expect_status(0);
        culler
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The settings file.
    pub(crate) fn settings(&self) -> PathBuf {
        self.dir.path().join("lnplaylive.toml")
    }

    /// Has the first remote at another address from now on.
    pub(crate) fn redirect(&self, from: &str, to: &str) {
        let settings = std::fs::read_to_string(self.settings()).expect("readable");
        assert!(settings.contains(from), "{settings}");
        self.write("lnplaylive.toml", &settings.replace(from, to));
    }

    /// The culler with its settings.
    pub(crate) fn command(&self) -> Command {
        let mut command = bare();
        command.arg("--config").arg(self.settings());
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        finish(self.command().args(args)).await
    }
}

/// The culler, and nothing of this process's settings.
pub(crate) fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lnplaylive-culler"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub(crate) async fn finish(command: &mut Command) -> Ran {
    let output = tokio::time::timeout(LONG, command.output()).await.expect("it ends").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Its one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }

    /// Its counts: seen, kept, removed, failed, foreign, malformed.
    #[track_caller]
    pub(crate) fn counts(&self) -> [u64; 6] {
        let document = self.json();
        ["seen", "kept", "removed", "failed", "foreign", "malformed"]
            .map(|key| document[key].as_u64().unwrap_or_else(|| panic!("no {key} in {document}")))
    }
}

/// A program that this machine has on PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH");
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not on PATH"))
}
