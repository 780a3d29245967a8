//! The remote: start, control and stop.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    Faults, SimMember,
    api::{self, Shared},
    evacuation,
    instance::{Ground, Instance, own_address},
    member::Member,
    model::Model,
    operations::Operations,
    processes, proxy, serve, tls,
};

/// Configuration of a remote.
#[derive(Debug, Clone)]
pub struct SimRemoteConfig {
    /// Address of the API; port 0 for any free port.
    pub listen: SocketAddr,
    /// Directory of the instances, for one remote at a time. The remains of an earlier remote are removed. Keep the path short,
    /// because those of Unix sockets of programs in instances have at most 108 bytes.
    pub state_dir: PathBuf,
    /// The `lnplay` executable that instances find on their `PATH`.
    pub lnplay: PathBuf,
    /// Environment variables for the processes in instances, in addition to the usual ones.
    pub env: BTreeMap<String, String>,
    /// Aliases of the initial images in the project `default`.
    pub images: Vec<String>,
    /// The members of a cluster. Empty for a single server, which listens at `listen`; members of a cluster have their own
    /// addresses.
    pub cluster: Vec<SimMember>,
    /// The simulated server.
    pub server: Server,
    /// True if virtual machines can run there. They are processes like containers, but follow the rules of a real server.
    pub virtual_machines: bool,
    /// Time after its death during which the cluster shows a member as online. Real clusters take 20 s.
    pub offline_after: Duration,
    /// Time-out of a call that a living member forwards to a dead one. Real members wait 10 s, except when an instance is
    /// created.
    pub peer_timeout: Duration,
}

/// A server and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// LXD 5.0.2.
    Lxd,
    /// Incus 6.0.4. The API is LXD's, but its description of itself and its refusals are those of Incus.
    Incus,
}

impl SimRemoteConfig {
    /// A remote on a free port of 127.0.0.1 with an image `lnplay`.
    pub fn new(state_dir: impl Into<PathBuf>, lnplay: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_dir: state_dir.into(),
            lnplay: lnplay.into(),
            env: BTreeMap::new(),
            images: vec!["lnplay".into()],
            cluster: Vec::new(),
            server: Server::Lxd,
            virtual_machines: true,
            offline_after: Duration::from_secs(20),
            peer_timeout: Duration::from_secs(10),
        }
    }

    /// A cluster with members of these names.
    #[must_use]
    pub fn with_members(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cluster = names.into_iter().map(SimMember::new).collect();
        self
    }
}

/// A running remote: a server or a cluster. Stop it with [`SimRemote::stop`]. Dropping it kills its instances, and blocks.
#[must_use = "dropping a remote stops it"]
pub struct SimRemote {
    shared: Arc<Shared>,
    faults: Faults,
    tls: Arc<rustls::ServerConfig>,
    /// The tasks that serve the members, by name.
    serving: Mutex<BTreeMap<String, tokio::task::JoinHandle<()>>>,
    /// Keeps other remotes from using the directory.
    _lock: Flock<File>,
}

/// A project, for tests and for debugging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectSnapshot {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub config: BTreeMap<String, String>,
    /// Its instances by name; true if running.
    pub instances: BTreeMap<String, bool>,
}

impl SimRemote {
    /// Starts a remote. It accepts connections when this returns.
    pub async fn start(config: SimRemoteConfig) -> anyhow::Result<Self> {
        let SimRemoteConfig {
            listen, state_dir, lnplay, env, images, cluster, server, virtual_machines, ..
        } = config;
        let (lock, mark) = tokio::task::spawn_blocking({
            let state_dir = state_dir.clone();
            move || take_over(&state_dir)
        })
        .await??;
        let clustered = !cluster.is_empty();
        let all = if clustered {
            cluster
        } else {
            vec![SimMember { listen: Some(listen), ..SimMember::new("none") }]
        };
        let faults = Faults::default();
        let mut members = Vec::new();
        let mut listeners = Vec::new();
        for member in all {
            let listen = member.listen.unwrap_or_else(|| SocketAddr::from((own_address(), 0)));
            let listener = bind(listen).await?;
            let address = listener.local_addr().context("no address")?;
            let loopback = clustered.then(own_address);
            members.push(Arc::new(Member::new(member, address, loopback, faults.of_member())));
            listeners.push(listener);
        }
        let (tls, fingerprint) = tls::server_config()?;
        let lnplay = std::path::absolute(&lnplay).unwrap_or(lnplay);
        let ground = Ground { dir: instances_dir(&state_dir), lnplay, env, mark };
        let shared = Arc::new(Shared {
            model: Model::new(&images).into(),
            operations: Operations::default(),
            ground: Arc::new(ground),
            fingerprint,
            members,
            clustered,
            server,
            virtual_machines,
            offline_after: config.offline_after.into(),
            peer_timeout: config.peer_timeout,
            quorum: tokio::sync::watch::Sender::new(true),
        });
        let remote = Self { shared, faults, tls, serving: Mutex::default(), _lock: lock };
        for (member, listener) in remote.shared.members.iter().zip(listeners) {
            remote.serve(member, listener);
        }
        Ok(remote)
    }

    /// Serves a member until it dies.
    fn serve(&self, member: &Arc<Member>, listener: TcpListener) {
        let server = serve::Server {
            acceptor: serve::acceptor(self.tls.clone()),
            router: api::router(self.shared.clone()),
            member: member.clone(),
        };
        let serving = tokio::spawn(server.run(listener, member.life()));
        self.serving().insert(member.name.clone(), serving);
    }

    fn serving(&self) -> MutexGuard<'_, BTreeMap<String, tokio::task::JoinHandle<()>>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// URL of the API, `https://host:port`; for a cluster, of its first member.
    pub fn url(&self) -> String {
        self.shared.members[0].url()
    }

    /// Issues an enrolment token for one client. It contains the address in [`SimRemote::url`].
    pub fn token(&self, client_name: &str) -> String {
        api::issue_token(&self.shared, &self.shared.members[0], client_name).0
    }

    /// All members in the order of the configuration; a single server has one.
    pub fn members(&self) -> impl Iterator<Item = MemberHandle<'_>> {
        self.shared.members.iter().map(|member| MemberHandle { remote: self, member })
    }

    /// The member with this name.
    ///
    /// # Panics
    ///
    /// If there is no such member.
    #[track_caller]
    pub fn member(&self, name: &str) -> MemberHandle<'_> {
        let member = self.shared.member(name);
        let member = member.unwrap_or_else(|| panic!("the remote has no member {name:?}"));
        MemberHandle { remote: self, member }
    }

    /// The member of an instance; `None` if there is no such instance.
    pub fn location(&self, project: &str, instance: &str) -> Option<String> {
        let model = self.shared.model();
        Some(model.projects.get(project)?.instances.get(instance)?.member().name.clone())
    }

    /// Sets the time after its death during which a member is shown as online. With zero, dead members are offline at once.
    pub fn set_offline_after(&self, time: Duration) {
        *self.shared.offline_after.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Sets whether the members can use their database. If not, every call waits until they can.
    pub fn set_quorum(&self, has: bool) {
        self.shared.quorum.send_replace(has);
    }

    /// The fingerprint of the server's certificate: SHA-256, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.shared.fingerprint
    }

    /// Faults of all members, and the log of all calls by clients.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Removes all trusted clients.
    pub fn distrust_all(&self) {
        self.shared.model().trusted.clear();
    }

    /// Sets the memory that each machine reports as total and used, in bytes.
    pub fn set_memory(&self, total: u64, used: u64) {
        for member in self.members() {
            member.set_memory(total, used);
        }
    }

    /// Changes the configuration of a network of the project `default`, for example `lxdbr0`, or creates a bridge.
    pub fn set_network(&self, name: &str, config: BTreeMap<String, String>) {
        if let Some(default) = self.shared.model().projects.get_mut("default") {
            default.networks.insert(name.to_owned(), config);
        }
    }

    /// Sets the storage pool's driver, such as `dir` or `zfs`.
    pub fn set_pool_driver(&self, driver: &str) {
        driver.clone_into(&mut self.shared.model().pool_driver);
    }

    /// Sets the architecture of the image with this alias in the project `default`.
    pub fn set_image_architecture(&self, alias: &str, architecture: &str) {
        if let Some(default) = self.shared.model().projects.get_mut("default")
            && let Some(image) = default.aliases.get(alias).and_then(|f| default.images.get_mut(f))
        {
            architecture.clone_into(&mut image.architecture);
        }
    }

    /// Adds an image with this alias to the project `default`.
    pub fn add_image(&self, alias: &str) {
        if let Some(default) = self.shared.model().projects.get_mut("default") {
            default.add_image(alias);
        }
    }

    /// Removes an alias from the project `default`; the image stays.
    pub fn remove_image_alias(&self, alias: &str) {
        if let Some(default) = self.shared.model().projects.get_mut("default") {
            default.aliases.remove(alias);
        }
    }

    /// The images of the project `default`: their aliases and properties, by fingerprint.
    pub fn images(&self) -> BTreeMap<String, (Vec<String>, BTreeMap<String, String>)> {
        let model = self.shared.model();
        let Some(default) = model.projects.get("default") else { return BTreeMap::new() };
        let aliases = |of: &str| {
            let aliases = default.aliases.iter().filter(|(_, target)| *target == of);
            aliases.map(|(alias, _)| alias.clone()).collect()
        };
        let image = |(fingerprint, image): (&String, &crate::model::Image)| {
            (fingerprint.clone(), (aliases(fingerprint), image.properties.clone()))
        };
        default.images.iter().map(image).collect()
    }

    /// Sets a property of all images of the project `default`.
    pub fn set_image_property(&self, key: &str, value: &str) {
        if let Some(default) = self.shared.model().projects.get_mut("default") {
            for image in default.images.values_mut() {
                image.properties.insert(key.to_owned(), value.to_owned());
            }
        }
    }

    /// Forgets all operations, as a daemon that is started anew does. What they had not finished stays half done.
    pub fn forget_operations(&self) {
        self.shared.operations.forget_all();
    }

    /// Adds a project with this configuration and any name.
    pub fn add_project(&self, name: &str, config: BTreeMap<String, String>) {
        let project = crate::model::Project::new(String::new(), config);
        self.shared.model().projects.insert(name.to_owned(), project);
    }

    /// All projects, including `default`.
    pub fn projects(&self) -> Vec<ProjectSnapshot> {
        let model = self.shared.model();
        let snapshot = |(name, project): (&String, &crate::model::Project)| ProjectSnapshot {
            name: name.clone(),
            config: project.config.clone(),
            instances: project.instances.iter().map(|(name, i)| (name.clone(), i.is_running())).collect(),
        };
        model.projects.iter().map(snapshot).collect()
    }

    /// The directory that stands for the root file system of a project's only instance; `None` if it has none, or several.
    pub fn instance_dir(&self, project: &str) -> Option<PathBuf> {
        let model = self.shared.model();
        let mut instances = model.projects.get(project)?.instances.values();
        let (first, others) = (instances.next()?, instances.next());
        others.is_none().then(|| first.dir().to_owned())
    }

    /// All instances in the API's format, for debugging.
    pub fn dump(&self) -> Value {
        let model = self.shared.model();
        model.projects.values().flat_map(|p| p.instances.values()).map(|i| model.render_instance(i)).collect()
    }

    /// Stops all instances and removes every project except `default`, as if all environments had expired.
    pub async fn clear(&self) {
        let instances = self.instances();
        self.shared.model().projects.retain(|name, _| name == "default");
        for instance in instances {
            // Some are stopped already. The directories are removed with the remote's at the latest.
            instance.stop(Duration::ZERO).await.ok();
            instance.remove().ok();
        }
    }

    /// Stops serving, and stops all instances.
    pub async fn stop(self) {
        for member in self.members() {
            member.die().await;
        }
    }

    fn instances(&self) -> Vec<Arc<Instance>> {
        let model = self.shared.model();
        model.projects.values().flat_map(|p| p.instances.values().cloned()).collect()
    }
}

impl Drop for SimRemote {
    fn drop(&mut self) {
        for member in &self.shared.members {
            member.die();
        }
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

/// A member of a running remote.
#[derive(Debug, Clone, Copy)]
pub struct MemberHandle<'a> {
    remote: &'a SimRemote,
    member: &'a Arc<Member>,
}

impl<'a> MemberHandle<'a> {
    /// Its name; `none` on a single server.
    pub fn name(&self) -> &'a str {
        &self.member.name
    }

    /// URL of its API, `https://host:port`. It is the same after a [revival](Self::revive).
    pub fn url(&self) -> String {
        self.member.url()
    }

    /// Address of its API and of its instances' ports.
    pub fn address(&self) -> IpAddr {
        self.member.address.ip()
    }

    /// Issues an enrolment token that contains this member's address. Every member accepts it.
    pub fn token(&self, client_name: &str) -> String {
        api::issue_token(&self.remote.shared, self.member, client_name).0
    }

    /// Faults of the calls that it executes and of SSH to its instances, and the log of these calls.
    pub fn faults(&self) -> &'a Faults {
        &self.member.faults
    }

    /// Sets the memory that its machine reports as total and used, in bytes.
    pub fn set_memory(&self, total: u64, used: u64) {
        self.member.state().machine.memory = (total, used);
    }

    /// Sets the space that its pool reports as total and used, in bytes.
    pub fn set_storage(&self, total: u64, used: u64) {
        self.member.state().machine.storage = (total, used);
    }

    /// Sets a key of its configuration, for example `scheduler.instance` to `manual`.
    pub fn set_config(&self, key: &str, value: &str) {
        self.member.state().config.insert(key.to_owned(), value.to_owned());
    }

    /// Sets its cluster groups.
    pub fn set_groups(&self, groups: &[&str]) {
        self.member.state().groups = groups.iter().map(|&group| group.to_owned()).collect();
    }

    /// Returns whether it is alive.
    pub fn is_alive(&self) -> bool {
        self.member.is_alive()
    }

    /// Kills its machine, as a power failure would: it stops listening, its instances end, and its operations are left half done.
    /// The others show it as online for [`SimRemoteConfig::offline_after`].
    pub async fn kill(&self) {
        self.die().await;
    }

    async fn die(&self) {
        self.member.die();
        let serving = self.remote.serving().remove(&self.member.name);
        if let Some(serving) = serving {
            serving.await.ok();
        }
        for instance in self.instances() {
            // Many are stopped already.
            instance.end(Duration::ZERO).await.ok();
        }
    }

    /// Boots its machine again, at the same address. Instances that were running start again, unless `boot.autostart` or an
    /// evacuation prevents it. Does nothing if it is alive. Fails if its address is in use.
    pub async fn revive(&self) -> anyhow::Result<()> {
        if self.member.is_alive() {
            return Ok(());
        }
        let listener = bind(self.member.address).await?;
        self.remote.shared.operations.forget_those_of(&self.member.name);
        self.member.live_again();
        self.remote.serve(self.member, listener);
        if self.member.state().evacuated {
            return Ok(());
        }
        for instance in self.instances() {
            let settings = instance.settings();
            let wanted = match settings.config.get("boot.autostart") {
                Some(value) if !value.is_empty() => proxy::is_true(value),
                _ => instance.was_running(),
            };
            if wanted && let Err(error) = api::start(&self.remote.shared, &instance).await {
                tracing::warn!(
                    instance = instance.name,
                    project = instance.project,
                    error,
                    "does not start again"
                );
            }
        }
        Ok(())
    }

    /// Evacuates it: its instances stop, and those that a real server would move are moved. **An instance with a proxy device stays,
    /// stopped**, unless its `cluster.evacuate` is `migrate`. If an instance does not start on its new member, this fails as a real
    /// evacuation does, with the member back in service.
    pub async fn evacuate(&self) -> Result<(), String> {
        evacuation::evacuate(&self.remote.shared, self.name(), "").await
    }

    /// Restores it, and moves its instances back.
    pub async fn restore(&self) -> Result<(), String> {
        evacuation::restore(&self.remote.shared, self.name()).await
    }

    fn instances(&self) -> Vec<Arc<Instance>> {
        let mut all = self.remote.instances();
        all.retain(|instance| instance.member().name == self.member.name);
        all
    }
}

async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))
}

fn instances_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("i")
}

/// Takes over a state directory: kills the processes that an earlier, killed remote left, and removes its instances. Returns the
/// lock on the directory and the new remote's mark.
fn take_over(state_dir: &Path) -> anyhow::Result<(Flock<File>, String)> {
    std::fs::create_dir_all(state_dir).with_context(|| format!("cannot make {}", state_dir.display()))?;
    let path = state_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        bail!("another remote runs in {}; give this one a directory of its own", state_dir.display());
    };
    let path = state_dir.join("mark");
    // Only a valid mark: an empty one would match every instance of the machine.
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
