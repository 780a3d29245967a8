//! An instance: a directory, an address, an SSH server, proxied ports, and the processes "inside".

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Faults, SshFault,
    cloud_init::Ssh,
    member::Member,
    processes, proxy,
    rules::{self, Kind},
    ssh,
};

/// Configuration and devices, in the API's format.
pub(crate) type ConfigMap = BTreeMap<String, String>;
pub(crate) type DeviceMap = BTreeMap<String, ConfigMap>;

/// The common environment of a remote's instances.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Directory for the instances' directories. Its path is short, because those of Unix sockets below it have at most 108 bytes.
    pub(crate) dir: PathBuf,
    /// The `lnplay` executable for instances.
    pub(crate) lnplay: PathBuf,
    /// Environment variables of all processes in instances.
    pub(crate) env: BTreeMap<String, String>,
    /// Marks the processes of this run; the instances' marks begin with it.
    pub(crate) mark: String,
}

/// Records whether an instance was running when its member last worked.
const POWER: &str = "volatile.last_state.power";

/// The fingerprint of the image that an instance was made from.
const BASE_IMAGE: &str = "volatile.base_image";

/// The specification of an instance, from the API.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) kind: Kind,
    pub(crate) settings: Settings,
    pub(crate) architecture: String,
    /// The image's fingerprint. Without an image there is no root file system, so it cannot start.
    pub(crate) image: Option<String>,
}

/// The settings of an instance that can be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Settings {
    pub(crate) config: ConfigMap,
    pub(crate) devices: DeviceMap,
    pub(crate) profiles: Vec<String>,
    pub(crate) description: String,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) kind: Kind,
    pub(crate) architecture: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) created: jiff::Timestamp,
    has_image: bool,
    /// Its creation was begun, and has not ended.
    half_made: AtomicBool,
    dir: PathBuf,
    mark: String,
    ground: Arc<Ground>,
    /// Held while starting, stopping and changing, so that these do not overlap.
    changing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// The member that it is on.
    member: Arc<Member>,
    /// Keys of the server's own state, `volatile.…`.
    volatile: ConfigMap,
    running: Option<Running>,
}

/// The state of a running instance: its open ports and their connections.
#[derive(Debug)]
struct Running {
    proxies: BTreeMap<String, Open>,
    ssh: ssh::Server,
}

/// An active proxy device.
#[derive(Debug)]
struct Open {
    options: ConfigMap,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Open {
    /// Closes the ports, cuts their connections, and returns when the ports are free.
    async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The rest of the remote's state that an instance needs to start.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The instance's devices and those of its profiles.
    pub(crate) devices: DeviceMap,
    /// The addresses of the other members.
    pub(crate) others: Vec<IpAddr>,
}

impl Instance {
    /// Creates the instance's directory: home, temporary files, and a `bin` with `lnplay`.
    pub(crate) fn create(spec: Spec, member: Arc<Member>, ground: Arc<Ground>) -> std::io::Result<Self> {
        let number = next_number();
        let dir = ground.dir.join(format!("{number:x}"));
        for sub in ["bin", "tmp"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        std::os::unix::fs::symlink(&ground.lnplay, dir.join("bin/lnplay"))?;
        let Spec { name, project, kind, settings, architecture, image } = spec;
        let has_image = image.is_some();
        let volatile = image.map(|image| (BASE_IMAGE.to_owned(), image)).into_iter().collect();
        let state = State { settings, member, volatile, running: None };
        Ok(Self {
            name,
            project,
            kind,
            architecture,
            has_image,
            half_made: AtomicBool::new(false),
            address: address(number),
            created: jiff::Timestamp::now(),
            // Ends with a dot, so that no mark is a prefix of another's.
            mark: format!("{}-{number:x}.", ground.mark),
            dir,
            ground,
            changing: tokio::sync::Mutex::default(),
            state: state.into(),
        })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock().running.is_some()
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn set_half_made(&self, half_made: bool) {
        self.half_made.store(half_made, Ordering::Relaxed);
    }

    pub(crate) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// The member that it is on.
    pub(crate) fn member(&self) -> Arc<Member> {
        self.lock().member.clone()
    }

    /// Moves it to another member. It must be stopped.
    pub(crate) fn move_to(&self, member: Arc<Member>) {
        self.lock().member = member;
    }

    /// The value of a key of the server's own state.
    pub(crate) fn volatile(&self, key: &str) -> Option<String> {
        self.lock().volatile.get(key).cloned()
    }

    pub(crate) fn set_volatile(&self, key: &str, value: Option<&str>) {
        let mut state = self.lock();
        match value {
            Some(value) => state.volatile.insert(key.to_owned(), value.to_owned()),
            None => state.volatile.remove(key),
        };
    }

    /// The configuration that the API shows: the instance's own, and the server's keys.
    pub(crate) fn config(&self) -> ConfigMap {
        let state = self.lock();
        let mut config = state.settings.config.clone();
        config.extend(state.volatile.clone());
        config
    }

    /// The number of processes inside.
    pub(crate) fn processes(&self) -> usize {
        processes::marked(&self.mark).len()
    }

    /// Starts listening. Errors have the texts of LXD 5.0.
    pub(crate) async fn start(self: &Arc<Self>, start: &Start) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        if self.is_running() {
            return Err("The instance is already running".into());
        }
        if self.half_made.load(Ordering::Relaxed) || !self.has_image && self.kind == Kind::Container {
            let root = self.dir.join("rootfs");
            let root = root.display();
            return Err(format!("Failed to handle idmapped storage: No such file or directory: \"{root}\""));
        }
        let config = self.settings().config;
        let user_data = config.get("cloud-init.user-data").or_else(|| config.get("user.user-data"));
        let ssh = Ssh::from_user_data(user_data.map_or("", String::as_str));
        let ssh = ssh::Server::new(ssh, self.shell());
        let mut proxies = BTreeMap::new();
        for (name, options) in start.devices.iter().filter(|(_, options)| proxy::is_proxy(options)) {
            match self.open(options, start, &ssh).await {
                Ok(open) => proxies.insert(name.clone(), open),
                Err(error) => {
                    for open in proxies.into_values() {
                        open.close().await;
                    }
                    return Err(error);
                }
            };
        }
        let mut state = self.lock();
        state.volatile.insert(POWER.into(), "RUNNING".into());
        state.running = Some(Running { proxies, ssh });
        Ok(())
    }

    /// Opens the ports of a proxy device.
    async fn open(&self, options: &ConfigMap, start: &Start, ssh: &ssh::Server) -> Result<Open, String> {
        let member = self.member();
        let own: Arc<[IpAddr]> = rules::static_addresses(&start.devices).into();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let nat = proxy::is_nat(options);
        let mut listeners = Vec::new();
        for forward in proxy::forwards(options) {
            let at = forward.listen;
            let refused = |reason: &str| {
                format!(
                    "Error occurred when starting proxy device: Error: Failed to listen on {at}: \
                     listen tcp {at}: bind: {reason}"
                )
            };
            let bound = match member.bindable(at.ip(), &start.others) {
                Some(ip) => TcpListener::bind((ip, at.port())).await,
                None => Err(std::io::ErrorKind::AddrNotAvailable.into()),
            };
            match bound {
                Ok(listener) => listeners.push((listener, forward)),
                // The packet filter's rule can be created for any address; packets to an address that is not ours never match it.
                Err(error) if nat => tracing::debug!(%at, %error, "this port will get no connections"),
                Err(error) => {
                    return Err(match error.kind() {
                        std::io::ErrorKind::AddrInUse => refused("address already in use"),
                        std::io::ErrorKind::AddrNotAvailable => refused("cannot assign requested address"),
                        _ => refused(&error.to_string()),
                    });
                }
            }
        }
        for (listener, forward) in listeners {
            let inside = Inside {
                address: self.address,
                own: own.clone(),
                ssh: self.has_image.then(|| ssh.clone()),
                faults: member.faults.clone(),
            };
            let work = listen(listener, forward, inside, tasks.clone(), stop.clone());
            tasks.spawn(stop.clone().run_until_cancelled_owned(work));
        }
        Ok(Open { options: options.clone(), tasks, stop })
    }

    /// Changes the settings. Proxies of a running instance are opened and closed accordingly.
    pub(crate) async fn update(self: &Arc<Self>, settings: Settings, start: &Start) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        let (ssh, gone) = {
            let mut state = self.lock();
            let Some(running) = &mut state.running else {
                state.settings = settings;
                return Ok(());
            };
            let stays = |name: &str, open: &Open| start.devices.get(name) == Some(&open.options);
            let gone: Vec<String> = running
                .proxies
                .iter()
                .filter(|(name, open)| !stays(name, open))
                .map(|(name, _)| name.clone())
                .collect();
            let gone: Vec<_> = gone.iter().filter_map(|name| running.proxies.remove_entry(name)).collect();
            (running.ssh.clone(), gone)
        };
        let mut before = Vec::new();
        for (name, open) in gone {
            before.push((name, open.options.clone()));
            open.close().await;
        }
        let is_open = |name: &str| self.lock().running.as_ref().is_some_and(|r| r.proxies.contains_key(name));
        for (name, options) in start.devices.iter().filter(|(_, options)| proxy::is_proxy(options)) {
            if is_open(name) {
                continue;
            }
            match self.open(options, start, &ssh).await {
                Ok(open) => self.keep(name, open),
                Err(error) => {
                    // Restore the previous state.
                    for (name, options) in before {
                        if let Ok(open) = self.open(&options, start, &ssh).await {
                            self.keep(&name, open);
                        }
                    }
                    return Err(error);
                }
            }
        }
        self.lock().settings = settings;
        Ok(())
    }

    fn keep(&self, name: &str, open: Open) {
        if let Some(running) = &mut self.lock().running {
            running.proxies.insert(name.to_owned(), open);
        }
    }

    /// Stops listening and ends all processes; with a grace period they get SIGTERM first.
    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) -> Result<(), String> {
        self.set_volatile(POWER, Some("STOPPED"));
        self.end(grace).await
    }

    /// The same, for an instance that its server will start again.
    pub(crate) async fn end(self: &Arc<Self>, grace: Duration) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        let Some(Running { proxies, ssh: _ }) = self.lock().running.take() else {
            return Err("The instance is already stopped".into());
        };
        for open in proxies.values() {
            open.stop.cancel();
        }
        let mark = self.mark.clone();
        tokio::task::spawn_blocking(move || processes::end_all(&mark, grace))
            .await
            .map_err(|e| e.to_string())?;
        for open in proxies.into_values() {
            open.close().await;
        }
        Ok(())
    }

    /// Returns whether it was running when its member last worked.
    pub(crate) fn was_running(&self) -> bool {
        self.volatile(POWER).as_deref() == Some("RUNNING")
    }

    /// Stops listening at once.
    pub(crate) fn close(&self) {
        if let Some(Running { proxies, .. }) = self.lock().running.take() {
            for open in proxies.values() {
                open.stop.cancel();
            }
        }
    }

    /// Removes the instance's directory.
    pub(crate) fn remove(&self) -> Result<(), String> {
        std::fs::remove_dir_all(&self.dir).map_err(|e| format!("cannot remove {}: {e}", self.dir.display()))
    }

    /// Creates processes of the instance, which inherit only `PATH` from this process.
    fn shell(&self) -> ssh::Shell {
        let bin = self.dir.join("bin");
        let path = self.ground.env.get("PATH").cloned().or_else(|| std::env::var("PATH").ok());
        let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let own: [(&str, String); 9] = [
            ("HOME", text(&self.dir)),
            ("LNPLAY_ADDRESS", self.address.to_string()),
            ("LNPLAY_DIR", text(&self.dir.join("lnplay"))),
            ("LOGNAME", "root".into()),
            ("PATH", format!("{}:{path}", text(&bin))),
            ("SHELL", "/bin/sh".into()),
            ("TMPDIR", text(&self.dir.join("tmp"))),
            ("USER", "root".into()),
            (processes::MARK, self.mark.clone()),
        ];
        let mut env = self.ground.env.clone();
        env.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
        let dir = self.dir.clone();
        Arc::new(move |command| {
            // As the shells of real images do, so that a command that is killed ends the session by its signal. Some others start
            // a process for it and end with an exit status.
            let is_simple = !command.contains([';', '&', '|', '\n']);
            let command = if is_simple { format!("exec {command}") } else { command.to_owned() };
            // An instance stands for another machine, so its processes must not compete with the tests for the CPU.
            let mut shell = Command::new("nice");
            shell.args(["-n", "19", "/bin/sh", "-c"]).arg(command).current_dir(&dir).env_clear().envs(&env);
            shell.into()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoints inside an instance.
#[derive(Clone)]
struct Inside {
    address: Ipv4Addr,
    /// Its static addresses.
    own: Arc<[IpAddr]>,
    /// `None` in a virtual machine without an image, which runs but does not boot.
    ssh: Option<ssh::Server>,
    faults: Faults,
}

impl Inside {
    async fn serve_ssh(&self, incoming: TcpStream) {
        let Some(ssh) = &self.ssh else { return };
        match self.faults.ssh() {
            None => ssh.serve(incoming).await,
            Some(SshFault::Closed) => {}
            Some(SshFault::Silent) => std::future::pending().await,
            Some(SshFault::OtherHostKey) => ssh.with_other_host_key().serve(incoming).await,
        }
    }
}

/// Accepts connections while it is polled.
async fn listen(
    listener: TcpListener,
    forward: proxy::Forward,
    inside: Inside,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let mut incoming = match listener.accept().await {
            Ok((incoming, _)) => incoming,
            Err(error) => {
                // For example, no free file descriptors: other connections will close and free some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let inside = inside.clone();
        let serve = async move {
            if forward.is_ssh(&inside.own) {
                inside.serve_ssh(incoming).await;
            } else if let Ok(mut target) =
                TcpStream::connect(forward.target(inside.address, &inside.own)).await
            {
                incoming.set_nodelay(true).ok();
                target.set_nodelay(true).ok();
                // Either side may close.
                tokio::io::copy_bidirectional(&mut incoming, &mut target).await.ok();
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(serve));
    }
}

/// A loopback address that is unique in this process.
pub(crate) fn own_address() -> Ipv4Addr {
    address(next_number())
}

/// Instances are numbered per process, so that those of several remotes have different addresses.
fn next_number() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The instance's loopback address. Linux lets programs bind any address in 127.0.0.0/8. The second byte and part of the third
/// are a random number of the process, so that concurrent simulators rarely collide.
fn address(number: u16) -> Ipv4Addr {
    static PREFIX: OnceLock<(u8, u8)> = OnceLock::new();
    let &(a, b) = PREFIX.get_or_init(|| (rand::random_range(1..=254), rand::random()));
    let (block, host) = (number / 254, number % 254 + 1);
    let [_, block] = block.to_be_bytes();
    let [_, host] = host.to_be_bytes();
    Ipv4Addr::new(127, a, b.wrapping_add(block), host)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
