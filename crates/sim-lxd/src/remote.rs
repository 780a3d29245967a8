//! A remote, from start to stop.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Faults,
    api::{self, Shared},
    instance::{Ground, Instance},
    model::Model,
    operations::Operations,
    processes, serve, tls,
};

/// How to start a remote.
#[derive(Debug, Clone)]
pub struct SimRemoteConfig {
    /// Where the API listens; port 0 for any.
    pub listen: SocketAddr,
    /// Where instances live. One remote at a time; what an earlier one left there is removed. Keep it short: Unix sockets of
    /// programs in instances are below it, and their paths must fit 108 bytes.
    pub state_dir: PathBuf,
    /// The `lnplay` executable that instances find on their `PATH`.
    pub lnplay: PathBuf,
    /// Environment of the processes in instances, beside what every instance has.
    pub env: BTreeMap<String, String>,
    /// Aliases of images that are there from the start, in the project `default`.
    pub images: Vec<String>,
    /// Names of cluster members, the first of them this one; none: a single server. The others exist in listings only.
    pub cluster: Vec<String>,
}

impl SimRemoteConfig {
    /// A remote on any port of 127.0.0.1 that has an image `lnplay`.
    pub fn new(state_dir: impl Into<PathBuf>, lnplay: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_dir: state_dir.into(),
            lnplay: lnplay.into(),
            env: BTreeMap::new(),
            images: vec!["lnplay".into()],
            cluster: Vec::new(),
        }
    }
}

/// A remote that is up. Stop it with [`SimRemote::stop`]; dropping it kills its instances too, and blocks for it.
#[must_use = "dropping a remote ends it"]
pub struct SimRemote {
    shared: Arc<Shared>,
    faults: Faults,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    /// Keeps other remotes out of the directory.
    _lock: Flock<File>,
}

/// What a project is like, for tests and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectSnapshot {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub config: BTreeMap<String, String>,
    /// Its instances by name, and whether they run.
    pub instances: BTreeMap<String, bool>,
}

impl SimRemote {
    /// Starts a remote. It serves when this returns.
    pub async fn start(config: SimRemoteConfig) -> anyhow::Result<Self> {
        let SimRemoteConfig { listen, state_dir, lnplay, env, images, cluster } = config;
        let (lock, mark) = tokio::task::spawn_blocking({
            let state_dir = state_dir.clone();
            move || take_over(&state_dir)
        })
        .await??;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr().context("no address")?.to_string();
        let (tls, fingerprint) = tls::server_config()?;
        let lnplay = std::path::absolute(&lnplay).unwrap_or(lnplay);
        let faults = Faults::default();
        let ground = Ground { dir: instances_dir(&state_dir), lnplay, env, mark, faults: faults.clone() };
        let shared = Arc::new(Shared {
            model: Model::new(&images, &cluster).into(),
            operations: Operations::default(),
            ground: Arc::new(ground),
            fingerprint,
            address,
        });
        let stop = CancellationToken::new();
        let server = serve::Server {
            acceptor: serve::acceptor(tls),
            router: api::router(shared.clone()),
            faults: faults.clone(),
        };
        let serving = tokio::spawn(server.run(listener, stop.clone()));
        Ok(Self { shared, faults, stop, serving, _lock: lock })
    }

    /// Where the API is, `https://host:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.shared.address)
    }

    /// Makes an enrolment token, good for one client.
    pub fn token(&self, client_name: &str) -> String {
        api::issue_token(&self.shared, client_name).0
    }

    /// The fingerprint of the server's certificate: SHA-256, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.shared.fingerprint
    }

    /// What goes wrong, and the log of calls.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Trusts nobody any more.
    pub fn distrust_all(&self) {
        self.shared.model().trusted.clear();
    }

    /// Sets how much memory the machine says it has and uses, in bytes.
    pub fn set_memory(&self, total: u64, used: u64) {
        self.shared.model().memory = (total, used);
    }

    /// Sets whether a cluster member is online.
    pub fn set_online(&self, member: &str, online: bool) {
        self.shared.model().members.insert(member.to_owned(), online);
    }

    /// Gives the project `default` an image with this alias.
    pub fn add_image(&self, alias: &str) {
        if let Some(default) = self.shared.model().projects.get_mut("default") {
            default.add_image(alias);
        }
    }

    /// Takes an alias from the project `default`; its image stays.
    pub fn remove_image_alias(&self, alias: &str) {
        if let Some(default) = self.shared.model().projects.get_mut("default") {
            default.aliases.remove(alias);
        }
    }

    /// Puts a project there with this configuration, whatever its name.
    pub fn add_project(&self, name: &str, config: BTreeMap<String, String>) {
        let project = crate::model::Project::new(String::new(), config);
        self.shared.model().projects.insert(name.to_owned(), project);
    }

    /// All projects, `default` included.
    pub fn projects(&self) -> Vec<ProjectSnapshot> {
        let model = self.shared.model();
        let snapshot = |(name, project): (&String, &crate::model::Project)| ProjectSnapshot {
            name: name.clone(),
            config: project.config.clone(),
            instances: project.instances.iter().map(|(name, i)| (name.clone(), i.is_running())).collect(),
        };
        model.projects.iter().map(snapshot).collect()
    }

    /// All instances as the API shows them, for a look when something is odd.
    pub fn dump(&self) -> Value {
        let model = self.shared.model();
        model.projects.values().flat_map(|p| p.instances.values()).map(|i| i.render()).collect()
    }

    /// Ends all instances and removes every project but `default`, as if the time of all of them were over.
    pub async fn clear(&self) {
        let instances = self.instances();
        self.shared.model().projects.retain(|name, _| name == "default");
        for instance in instances {
            // Some are stopped already, and say so; the directory goes with the remote's at the latest.
            instance.stop(Duration::ZERO).await.ok();
            instance.remove().ok();
        }
    }

    /// Stops serving and ends all instances.
    pub async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.serving).await.ok();
        for instance in self.instances() {
            // Most are stopped already, and say so.
            instance.stop(Duration::ZERO).await.ok();
        }
    }

    fn instances(&self) -> Vec<Arc<Instance>> {
        let model = self.shared.model();
        model.projects.values().flat_map(|p| p.instances.values().cloned()).collect()
    }
}

impl Drop for SimRemote {
    fn drop(&mut self) {
        self.stop.cancel();
        for instance in self.instances() {
            instance.close();
        }
        processes::end_all(&self.shared.ground.mark, Duration::ZERO);
    }
}

impl fmt::Debug for SimRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRemote").field("url", &self.url()).finish_non_exhaustive()
    }
}

fn instances_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("i")
}

/// Takes a state directory over: ends the processes that an earlier remote left, if it was killed, and removes its
/// instances. Gives the lock on the directory and the new remote's mark.
fn take_over(state_dir: &Path) -> anyhow::Result<(Flock<File>, String)> {
    std::fs::create_dir_all(state_dir).with_context(|| format!("cannot make {}", state_dir.display()))?;
    let path = state_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        bail!("another remote runs in {}; give this one a directory of its own", state_dir.display());
    };
    let path = state_dir.join("mark");
    // Only what is surely a mark: an empty one would fit every instance of the machine.
    let old = std::fs::read_to_string(&path).ok().and_then(|text| text.parse::<Uuid>().ok());
    if let Some(old) = old {
        processes::end_all(&old.to_string(), Duration::ZERO);
    }
    let instances = instances_dir(state_dir);
    match std::fs::remove_dir_all(&instances) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot remove {}", instances.display()));
        }
        _ => {}
    }
    let mark = Uuid::new_v4().to_string();
    std::fs::write(&path, &mark).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((lock, mark))
}
