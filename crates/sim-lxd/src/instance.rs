//! One instance: a directory, an address, an SSH server, ports that lead in, and the processes that run "inside".

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
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

use crate::{Faults, SshFault, cloud_init::Ssh, processes, proxy, ssh};

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
    /// What is wrong with SSH.
    pub(crate) faults: Faults,
}

/// What an instance is made from, as the API got it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) project: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) config: ConfigMap,
    pub(crate) devices: DeviceMap,
    pub(crate) profiles: Vec<String>,
    /// Without an image there is no root file system, and nothing can start.
    pub(crate) has_image: bool,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) spec: Spec,
    pub(crate) address: Ipv4Addr,
    pub(crate) created: jiff::Timestamp,
    dir: PathBuf,
    mark: String,
    ground: Arc<Ground>,
    /// Held while starting and stopping, so that the two never overlap.
    changing: tokio::sync::Mutex<()>,
    running: Mutex<Option<Running>>,
}

/// What exists only while the instance runs: its listeners and their connections.
#[derive(Debug)]
struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Instance {
    /// Makes the instance's directory: home, temporary files, and a `bin` with `lnplay`.
    pub(crate) fn create(spec: Spec, ground: Arc<Ground>) -> std::io::Result<Self> {
        let number = next_number();
        let dir = ground.dir.join(format!("{number:x}"));
        std::fs::create_dir_all(dir.join("bin"))?;
        std::fs::create_dir_all(dir.join("tmp"))?;
        std::os::unix::fs::symlink(&ground.lnplay, dir.join("bin/lnplay"))?;
        Ok(Self {
            spec,
            address: address(number),
            created: jiff::Timestamp::now(),
            // Ends as no other's begins, or the first one would be taken for the sixteenth as well.
            mark: format!("{}-{number:x}.", ground.mark),
            dir,
            ground,
            changing: tokio::sync::Mutex::default(),
            running: Mutex::default(),
        })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    /// How many processes run inside.
    pub(crate) fn processes(&self) -> usize {
        processes::marked(&self.mark).len()
    }

    /// Starts listening. The error is in the words of LXD 5.0.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        if self.is_running() {
            return Err("The instance is already running".into());
        }
        if !self.spec.has_image {
            let root = self.dir.join("rootfs");
            let root = root.display();
            return Err(format!("Failed to handle idmapped storage: No such file or directory: \"{root}\""));
        }
        let mut listeners = Vec::new();
        for device in self.spec.devices.values().filter(|d| d.get("type").is_some_and(|t| t == "proxy")) {
            for forward in proxy::parse(device)? {
                let at = forward.listen;
                let listener = TcpListener::bind(at).await.map_err(|e| {
                    let reason = match e.kind() {
                        std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
                        _ => e.to_string(),
                    };
                    format!(
                        "Error occurred when starting proxy device: Error: Failed to listen on {at}: \
                         listen tcp {at}: bind: {reason}"
                    )
                })?;
                listeners.push((listener, forward));
            }
        }
        let config = &self.spec.config;
        let user_data = config.get("cloud-init.user-data").or_else(|| config.get("user.user-data"));
        let ssh = Ssh::from_user_data(user_data.map_or("", String::as_str));
        let server = ssh::Server::new(ssh, self.shell());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for (listener, forward) in listeners {
            let inside =
                Inside { address: self.address, ssh: server.clone(), faults: self.ground.faults.clone() };
            let work = listen(listener, forward, inside, tasks.clone(), stop.clone());
            tasks.spawn(stop.clone().run_until_cancelled_owned(work));
        }
        *self.lock() = Some(Running { tasks, stop });
        Ok(())
    }

    /// Stops listening and ends all processes; with grace they are asked first.
    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        let Some(Running { tasks, stop }) = self.lock().take() else {
            return Err("The instance is already stopped".into());
        };
        stop.cancel();
        tasks.close();
        let mark = self.mark.clone();
        tokio::task::spawn_blocking(move || processes::end_all(&mark, grace))
            .await
            .map_err(|e| e.to_string())?;
        tasks.wait().await;
        Ok(())
    }

    /// Stops listening, without waiting for anything.
    pub(crate) fn close(&self) {
        if let Some(Running { stop, .. }) = self.lock().take() {
            stop.cancel();
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection into an instance may meet.
#[derive(Clone)]
struct Inside {
    address: Ipv4Addr,
    ssh: ssh::Server,
    faults: Faults,
}

impl Inside {
    async fn serve_ssh(&self, incoming: TcpStream) {
        match self.faults.ssh() {
            None => self.ssh.serve(incoming).await,
            Some(SshFault::Closed) => {}
            Some(SshFault::Silent) => std::future::pending().await,
            Some(SshFault::OtherHostKey) => self.ssh.with_other_host_key().serve(incoming).await,
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
            if forward.is_ssh() {
                inside.serve_ssh(incoming).await;
            } else if let Ok(mut target) = TcpStream::connect(forward.target(inside.address)).await {
                incoming.set_nodelay(true).ok();
                target.set_nodelay(true).ok();
                // Either side may break off.
                tokio::io::copy_bidirectional(&mut incoming, &mut target).await.ok();
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(serve));
    }
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
