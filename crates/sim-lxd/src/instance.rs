//! One instance: a directory, an address, an SSH server, ports that lead in, and the processes that run "inside".

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU16, Ordering},
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

/// Configuration and devices, as the API has them.
pub(crate) type ConfigMap = BTreeMap<String, String>;
pub(crate) type DeviceMap = BTreeMap<String, ConfigMap>;

/// What every instance of a remote is made with.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Instances' directories are made here. Short, because Unix sockets below it must fit 108 bytes.
    pub(crate) dir: PathBuf,
    /// The `lnplay` executable that instances have.
    pub(crate) lnplay: PathBuf,
    /// Environment of all processes in instances.
    pub(crate) env: BTreeMap<String, String>,
    /// Marks the processes of this run; an instance's mark begins with it.
    pub(crate) mark: String,
}

/// Tells whether an instance ran when its member was last in order.
const POWER: &str = "volatile.last_state.power";

/// What an instance is made from, as the API got it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) kind: Kind,
    pub(crate) settings: Settings,
    pub(crate) architecture: String,
    /// Without an image there is no root file system, and nothing can start.
    pub(crate) has_image: bool,
}

/// What of an instance can be changed.
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
    dir: PathBuf,
    mark: String,
    ground: Arc<Ground>,
    /// Held while starting, stopping and changing, so that no two of these overlap.
    changing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// The member that it is on.
    member: Arc<Member>,
    /// Keys that the server keeps for itself, `volatile.…`.
    volatile: ConfigMap,
    running: Option<Running>,
}

/// What exists only while the instance runs: its open ports and their connections.
#[derive(Debug)]
struct Running {
    proxies: BTreeMap<String, Open>,
    ssh: ssh::Server,
}

/// A proxy device at work.
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

/// What the rest of the remote has to say when an instance starts.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The instance's devices and those of its profiles.
    pub(crate) devices: DeviceMap,
    /// The addresses of the other members.
    pub(crate) others: Vec<IpAddr>,
}

impl Instance {
    /// Makes the instance's directory: home, temporary files, and a `bin` with `lnplay`.
    pub(crate) fn create(spec: Spec, member: Arc<Member>, ground: Arc<Ground>) -> std::io::Result<Self> {
        let number = next_number();
        let dir = ground.dir.join(format!("{number:x}"));
        for sub in ["bin", "tmp"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        std::os::unix::fs::symlink(&ground.lnplay, dir.join("bin/lnplay"))?;
        let Spec { name, project, kind, settings, architecture, has_image } = spec;
        let state = State { settings, member, volatile: ConfigMap::new(), running: None };
        Ok(Self {
            name,
            project,
            kind,
            architecture,
            has_image,
            address: address(number),
            created: jiff::Timestamp::now(),
            // Ends as no other's begins, or the first one would be taken for the sixteenth as well.
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

    pub(crate) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// The member that it is on.
    pub(crate) fn member(&self) -> Arc<Member> {
        self.lock().member.clone()
    }

    /// Moves it to another member. It must not run.
    pub(crate) fn move_to(&self, member: Arc<Member>) {
        self.lock().member = member;
    }

    /// The value of a key that the server keeps for itself.
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

    /// Configuration as the API shows it: its own, and what the server keeps for itself.
    pub(crate) fn config(&self) -> ConfigMap {
        let state = self.lock();
        let mut config = state.settings.config.clone();
        config.extend(state.volatile.clone());
        config
    }

    /// How many processes run inside.
    pub(crate) fn processes(&self) -> usize {
        processes::marked(&self.mark).len()
    }

    /// Starts listening. The error is in the words of LXD 5.0.
    pub(crate) async fn start(self: &Arc<Self>, start: &Start) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        if self.is_running() {
            return Err("The instance is already running".into());
        }
        if !self.has_image && self.kind == Kind::Container {
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
                // A rule of the packet filter is made whoever has the address; what nobody sends here never meets it.
                Err(error) if nat => tracing::debug!(%at, %error, "nothing will come in here"),
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

    /// Changes what can be changed; proxies of an instance that runs are opened and closed accordingly.
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
                    // All as it was.
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

    /// Stops listening and ends all processes; with grace they are asked first.
    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) -> Result<(), String> {
        self.set_volatile(POWER, Some("STOPPED"));
        self.end(grace).await
    }

    /// The same, for one that its server would start again.
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

    /// Whether it ran when its member was last in order.
    pub(crate) fn was_running(&self) -> bool {
        self.volatile(POWER).as_deref() == Some("RUNNING")
    }

    /// Stops listening, without waiting for anything.
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

    /// Makes processes of the instance: nothing of this process's environment reaches them but its `PATH`.
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
            // An instance is another machine: what runs in it must not take the processor from who is outside.
            let mut shell = Command::new("nice");
            shell.args(["-n", "19", "/bin/sh", "-c"]).arg(command).current_dir(&dir).env_clear().envs(&env);
            shell.into()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection into an instance may meet.
#[derive(Clone)]
struct Inside {
    address: Ipv4Addr,
    /// Its static addresses.
    own: Arc<[IpAddr]>,
    /// None in a virtual machine without an image, which runs and boots nothing.
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

/// Accepts connections for as long as it is polled.
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
                // For example no file descriptors left: others will end and give theirs back.
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
                // Either side may break off.
                tokio::io::copy_bidirectional(&mut incoming, &mut target).await.ok();
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(serve));
    }
}

/// A loopback address that nothing else of this process has.
pub(crate) fn own_address() -> Ipv4Addr {
    address(next_number())
}

/// Instances are numbered through the process, so that those of several remotes do not share an address.
fn next_number() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A loopback address of the instance's own. Linux lets programs bind any of 127.0.0.0/8. The process's number in the second
/// byte and the first of the third is drawn by chance, so that simulators side by side rarely meet.
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
