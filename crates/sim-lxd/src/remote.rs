//! A remote, from start to stop.

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
    /// The members of a cluster, each with an API of its own; none: a single server, which listens at `listen`. A cluster's
    /// members listen where they say.
    pub cluster: Vec<SimMember>,
    /// Which server it is.
    pub server: Server,
    /// Whether virtual machines can run there. They are processes like containers, and meet the same rules as on a real server.
    pub virtual_machines: bool,
    /// How long after its death the cluster shows a member as online. Real clusters take 20 s.
    pub offline_after: Duration,
    /// How long a call to a dead member takes to fail when it comes through a living one. Real members wait 10 s, except when
    /// an instance is created.
    pub peer_timeout: Duration,
}

/// A server and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// LXD 5.0.2.
    Lxd,
    /// Incus 6.0.4. The API here is LXD's; what Incus is, is what it says it is and what it refuses.
    Incus,
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

/// A remote that is up: a server or a cluster. Stop it with [`SimRemote::stop`]; dropping it kills its instances too, and blocks for it.
#[must_use = "dropping a remote ends it"]
pub struct SimRemote {
    shared: Arc<Shared>,
    faults: Faults,
    tls: Arc<rustls::ServerConfig>,
    /// What serves each member, by its name.
    serving: Mutex<BTreeMap<String, tokio::task::JoinHandle<()>>>,
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

    /// Lets a member answer for as long as it lives.
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

    /// Where the API is, `https://host:port`; of a cluster, its first member's.
    pub fn url(&self) -> String {
        self.shared.members[0].url()
    }

    /// Makes an enrolment token, good for one client. It names the address in [`SimRemote::url`].
    pub fn token(&self, client_name: &str) -> String {
        api::issue_token(&self.shared, &self.shared.members[0], client_name).0
    }

    /// All members in the order of the configuration; of a single server the only one.
    pub fn members(&self) -> impl Iterator<Item = MemberHandle<'_>> {
        self.shared.members.iter().map(|member| MemberHandle { remote: self, member })
    }

    /// A member by its name.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[track_caller]
    pub fn member(&self, name: &str) -> MemberHandle<'_> {
        let member = self.shared.member(name);
        let member = member.unwrap_or_else(|| panic!("the remote has no member {name:?}"));
        MemberHandle { remote: self, member }
    }

    /// The member that an instance is on; `None` if there is no such instance.
    pub fn location(&self, project: &str, instance: &str) -> Option<String> {
        let model = self.shared.model();
        Some(model.projects.get(project)?.instances.get(instance)?.member().name.clone())
    }

    /// Sets how long after its death a member is shown as online. With zero every dead member is offline at once.
    pub fn set_offline_after(&self, time: Duration) {
        *self.shared.offline_after.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Sets whether the members can read and write their database. Without, every call waits until they can.
    pub fn set_quorum(&self, has: bool) {
        self.shared.quorum.send_replace(has);
    }

    /// The fingerprint of the server's certificate: SHA-256, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.shared.fingerprint
    }

    /// What goes wrong at any member, and the log of all calls of clients.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Trusts nobody any more.
    pub fn distrust_all(&self) {
        self.shared.model().trusted.clear();
    }

    /// Sets how much memory each machine says it has and uses, in bytes.
    pub fn set_memory(&self, total: u64, used: u64) {
        for member in self.members() {
            member.set_memory(total, used);
        }
    }

    /// Changes the configuration of a network of the project `default`, for example `lxdbr0`, or makes a bridge with it.
    pub fn set_network(&self, name: &str, config: BTreeMap<String, String>) {
        if let Some(default) = self.shared.model().projects.get_mut("default") {
            default.networks.insert(name.to_owned(), config);
        }
    }

    /// Sets how the storage pool stores, such as `dir` or `zfs`.
    pub fn set_pool_driver(&self, driver: &str) {
        driver.clone_into(&mut self.shared.model().pool_driver);
    }

    /// Sets the architecture of the image that has this alias in the project `default`.
    pub fn set_image_architecture(&self, alias: &str, architecture: &str) {
        if let Some(default) = self.shared.model().projects.get_mut("default")
            && let Some(image) = default.aliases.get(alias).and_then(|f| default.images.get_mut(f))
        {
            architecture.clone_into(&mut image.architecture);
        }
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
        model.projects.values().flat_map(|p| p.instances.values()).map(|i| model.render_instance(i)).collect()
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

/// A member of a remote that is up.
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

    /// Where its API is, `https://host:port`. It is the same after a [revival](Self::revive).
    pub fn url(&self) -> String {
        self.member.url()
    }

    /// Its machine's address: where its API and the ports of its instances are.
    pub fn address(&self) -> IpAddr {
        self.member.address.ip()
    }

    /// Makes an enrolment token that names this member's address. It is good at every member.
    pub fn token(&self, client_name: &str) -> String {
        api::issue_token(&self.remote.shared, self.member, client_name).0
    }

    /// What goes wrong with calls that it carries out, and with SSH to its instances; and the log of these calls.
    pub fn faults(&self) -> &'a Faults {
        &self.member.faults
    }

    /// Sets how much memory its machine says it has and uses, in bytes.
    pub fn set_memory(&self, total: u64, used: u64) {
        self.member.state().machine.memory = (total, used);
    }

    /// Sets how much space its pool says it has and uses, in bytes.
    pub fn set_storage(&self, total: u64, used: u64) {
        self.member.state().machine.storage = (total, used);
    }

    /// Sets a key of its configuration, for example `scheduler.instance` to `manual`.
    pub fn set_config(&self, key: &str, value: &str) {
        self.member.state().config.insert(key.to_owned(), value.to_owned());
    }

    /// Sets the cluster groups that it is in.
    pub fn set_groups(&self, groups: &[&str]) {
        self.member.state().groups = groups.iter().map(|&group| group.to_owned()).collect();
    }

    /// Whether it is up.
    pub fn is_alive(&self) -> bool {
        self.member.is_alive()
    }

    /// Takes the power away from its machine: nobody listens at its address any more, its instances end, and what it was doing
    /// is left half done. The others show it as online for [`SimRemoteConfig::offline_after`].
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
            // Many are stopped already, and say so.
            instance.end(Duration::ZERO).await.ok();
        }
    }

    /// Boots its machine again: it answers at the same address, and instances that ran run again, unless `boot.autostart` or an
    /// evacuation forbids it. Does nothing if it is up. Fails if its address was taken meanwhile.
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

    /// Takes it out of service as an operator does: its instances stop, and those move to other members that the servers would
    /// move. **An instance with a proxy device stays where it is, stopped**, unless its `cluster.evacuate` is `migrate`. Fails
    /// like a real evacuation, with the member back in service, if an instance does not start on its new member.
    pub async fn evacuate(&self) -> Result<(), String> {
        evacuation::evacuate(&self.remote.shared, self.name(), "").await
    }

    /// Takes it back into service, and its instances back to it.
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
