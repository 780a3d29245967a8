//! Private instances of the real LXD and Incus servers, separate from any server of the machine.
//!
//! Each has a directory, a pool of the kind `dir`, a bridge without a route to other networks, and a loopback address for its API
//! and for the ports of its instances. It is removed with everything that it created when it is dropped, and also when this
//! process is killed: `keeper.sh` waits for that.
//!
//! A server can also be in a network namespace of its own ([`Options::own_namespace`]), joined to ours by a pair of devices; its API
//! and ports are then on its end of it. With [`emulation`] one of these also runs virtual machines, without KVM.
//!
//! Requirements: root with all capabilities (the daemons mount and create bridges), cgroups, subordinate user ids for root (the
//! packages add them), and the packages `lxd`, or `incus-base`, with `dnsmasq-base`. It needs neither KVM, `AppArmor`, a packet
//! filter, nor systemd on the machine: containers have their own. They are unprivileged.

pub mod cluster;
mod emulation;
mod network;
mod socket;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lxd_client::{Client, ClientConfig, Identity, ImageFiles, Token};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub use emulation::{EMULATION, Emulation, emulation, no_machines};
use network::Network;

use crate::wait::{Step, until};
use crate::{Error, Result};

/// Names the image for [`image`].
pub const IMAGE: &str = "TESTBED_TEST_IMAGE";

/// The alias of the image for environments.
const ALIAS: &str = "lnplay";

/// A daemon makes its database and certificate in about a second.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that an operation of [`Server::call`] may take.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(120);

/// An upload is a quarter of a gigabyte over loopback.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Enough for a dozen environments. A pool in memory is worth it then: a copy takes half a second, on a disk some seconds.
const MEMORY_FOR_POOL: u64 = 12 << 30;

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// LXD, as in Debian 12's package `lxd`.
    Lxd,
    /// Incus, as in the package `incus-base` from Debian 12's backports.
    Incus,
}

impl Kind {
    /// Its name in lower case, as the server reports it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lxd => "lxd",
            Self::Incus => "incus",
        }
    }

    /// Path of the daemon in its package.
    fn daemon(self) -> &'static Path {
        Path::new(match self {
            Self::Lxd => "/usr/bin/lxd",
            // Not on PATH.
            Self::Incus => "/usr/libexec/incus/incusd",
        })
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Lxd => "LXD_DIR",
            Self::Incus => "INCUS_DIR",
        }
    }
}

/// The reason why such a server cannot run on this machine, or `None` if it can.
pub fn unavailable(kind: Kind) -> Option<String> {
    let daemon = kind.daemon();
    if !daemon.is_file() {
        let package = match kind {
            Kind::Lxd => "lxd",
            Kind::Incus => "incus-base (Debian 12: from backports)",
        };
        return Some(format!("{} does not exist: install {package}", daemon.display()));
    }
    // CAP_NET_ADMIN is bit 12, CAP_SYS_ADMIN bit 21.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|c| u64::from_str_radix(c.trim(), 16).ok()).unwrap_or(0);
    if capabilities >> 12 & capabilities >> 21 & 1 == 0 {
        return Some("only root can mount and create bridges".into());
    }
    let cgroups = ["cgroup.controllers", "systemd", "unified"];
    if !cgroups.iter().any(|name| Path::new("/sys/fs/cgroup").join(name).exists()) {
        return Some("no cgroups are mounted at /sys/fs/cgroup, without which no container runs".into());
    }
    if !Path::new("/proc/self/ns/user").exists() {
        return Some("the kernel has no user namespaces".into());
    }
    None
}

/// The image for environments in containers, or in virtual machines, made by `tests/image/build` and named by `TESTBED_TEST_IMAGE`.
pub fn image() -> Result<PathBuf> {
    let hint = "make it with tests/image/build (as root), or run tests/run lxd".into();
    let missing = |looked| Error::Missing { program: "the test image".into(), looked, hint };
    match std::env::var_os(IMAGE).map(PathBuf::from) {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(missing(format!("{IMAGE}={}", path.display()))),
        None => Err(missing(format!("{IMAGE}, which is not set"))),
    }
}

/// The driver of a server's storage pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// As directories, of any size.
    #[default]
    Dir,
    /// As btrfs subvolumes in a file, each with the size of its root disk as its limit. Needs `btrfs` from the package `btrfs-progs`
    /// and a loop device.
    Btrfs,
}

/// Options of a server that is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its storage pool.
    pub pool: Pool,
    /// Gives it a network namespace of its own, and a bridge with an ACL.
    pub own_namespace: bool,
    /// The way in which it runs virtual machines, if it does. Implies a network namespace of its own.
    pub emulation: Option<Emulation>,
}

/// The result of a command in an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its exit status; 128 and a signal's number if that ended it.
    pub status: i64,
    /// Its standard output.
    pub output: String,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    dir: PathBuf,
    url: String,
    network: Network,
    client: Client,
    // The last field, so that the daemon is stopped when nothing else needs it any more.
    _keeper: Keeper,
}

impl Server {
    /// Starts a server and returns when containers can be created. Check [`unavailable`] first.
    pub async fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, Options::default()).await
    }

    /// Starts a server and returns when virtual machines can be created, too. Check [`no_machines`] first.
    pub async fn emulating(kind: Kind, emulation: &Emulation) -> Result<Self> {
        Self::start_with(kind, Options { emulation: Some(emulation.clone()), ..Options::default() }).await
    }

    /// Starts one with something special about it.
    pub async fn start_with(kind: Kind, options: Options) -> Result<Self> {
        let own_namespace = options.own_namespace || options.emulation.is_some();
        let dir = make_dir(&format!("lp{}-", &kind.name()[..1]))?;
        // At most 15 characters, and unique: the random part of the directory's name.
        let bridge = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let network = Network::new(own_namespace);
        let uplink = own_namespace.then_some(&network);
        let keeper = Keeper::start(kind, &dir, &bridge, uplink, options.emulation.as_ref())?;
        let socket = dir.join("d/unix.socket");
        until(&format!("{} to answer on its socket", kind.name()), START_TIMEOUT, async || {
            keeper.check()?;
            Ok(match socket::call(&socket, "GET", "/internal/ready", &Value::Null).await {
                Ok(_) => Step::Done(()),
                Err(error) => Step::NotYet(error.to_string()),
            })
        })
        .await?;
        let url = set_up(&socket, &network, &bridge, options.pool).await?;
        let token = token(&socket, "testbed").await?;
        let client = trusted(kind, &url, &token).await?;
        Ok(Self { kind, dir, url, network, client, _keeper: keeper })
    }

    /// Starts a server that has the image for environments, under its usual alias.
    pub async fn with_image(kind: Kind, image: &Path) -> Result<Self> {
        let server = Self::start(kind).await?;
        server.upload(image).await?;
        Ok(server)
    }

    /// Uploads the image for environments.
    pub async fn upload(&self, image: &Path) -> Result<()> {
        upload(&self.client, image).await
    }

    /// LXD or Incus.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// URL of the API. No other server of this machine has its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's directory. Its bridge has the same name, and its processes have it in their arguments or environment.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The address in [`Server::url`].
    pub fn address(&self) -> Ipv4Addr {
        self.network.server
    }

    /// First and last of the bridge's addresses outside its DHCP range, for virtual machines.
    pub fn static_addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        self.network.static_addresses()
    }

    /// The address of its bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        self.network.gateway()
    }

    /// The network namespace that it is in, if it has one of its own.
    pub fn namespace(&self) -> Option<PathBuf> {
        let name = self.dir.file_name()?;
        Some(Path::new("/run/netns").join(name)).filter(|path| path.exists())
    }

    /// Gives the server's network namespace these addresses, and listens on all that it has, on a port of its own. Connections
    /// are taken as long as the listener is there; nobody answers.
    pub fn listen_inside(&self, addresses: &[Ipv4Addr]) -> Result<TcpListener> {
        let system = |source: std::io::Error| Error::System { doing: "running ip", source };
        let namespace =
            self.namespace().ok_or_else(|| Error::Unusable("it is in our own namespace".into()))?;
        let name = namespace.file_name().unwrap_or_default().to_owned();
        for address in addresses {
            let added = Command::new("ip")
                .arg("-n")
                .arg(&name)
                .args(["address", "add", &format!("{address}/32"), "dev", "lo"])
                .status();
            if !added.map_err(system)?.success() {
                return Err(Error::Unusable(format!("ip could not add {address}")));
            }
        }
        listen_in(&namespace, 0)
    }

    /// Calls its API as whoever can open its socket. A call that starts an operation returns when that has ended.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let socket = self.dir.join("d/unix.socket");
        match method {
            "GET" => socket::call(&socket, method, path, body).await,
            _ => socket::carry_out(&socket, method, path, body, OPERATION_TIMEOUT).await,
        }
    }

    /// Runs a command as root in a container, under the limits that hold there, and returns when it has ended.
    pub async fn execute(&self, project: &str, instance: &str, command: &[&str]) -> Result<Executed> {
        let body = json!({
            "command": command, "record-output": true, "wait-for-websocket": false, "interactive": false,
            "environment": {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        });
        let path = format!("/1.0/instances/{instance}/exec?project={project}");
        let ended = self.call("POST", &path, &body).await?;
        let output = match ended["output"]["1"].as_str() {
            Some(log) => {
                socket::read(&self.dir.join("d/unix.socket"), &format!("{log}?project={project}")).await?
            }
            None => String::new(),
        };
        Ok(Executed { status: ended["return"].as_i64().unwrap_or(-1), output })
    }

    /// A client that the server trusts.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A new enrolment token.
    pub async fn token(&self, client_name: &str) -> Result<String> {
        token(&self.dir.join("d/unix.socket"), client_name).await
    }

    /// Kills the daemon, as a crash of the machine would. The server does not answer from then on.
    pub fn kill(&self) -> Result<()> {
        let pid = daemon_pid(&self.dir).ok_or_else(|| Error::Unusable("the daemon has no pid".into()))?;
        kill(pid, Signal::SIGKILL)
            .map_err(|e| Error::System { doing: "killing a daemon of ours", source: e.into() })
    }
}

/// Listens on all addresses of the network namespace that a file names, on a port, or on any that is free if that is 0.
pub fn listen_in(namespace: &Path, port: u16) -> Result<TcpListener> {
    let system = |source| Error::System { doing: "listening in a network namespace of ours", source };
    let file = std::fs::File::open(namespace).map_err(system)?;
    // A namespace is a thread's: this one ends with its work done.
    let listening = std::thread::spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
    });
    listening.join().map_err(|_| Error::Unusable("the thread panicked".into()))?.map_err(system)
}

/// Uploads the image for environments, under its usual alias.
async fn upload(client: &Client, image: &Path) -> Result<()> {
    let files = ImageFiles::Unified(image.into());
    let upload = async {
        let fingerprint = client.upload_image("default", &files, UPLOAD_TIMEOUT).await?;
        client.create_image_alias("default", ALIAS, &fingerprint).await
    };
    upload.await.map_err(|e| Error::Unusable(format!("giving {} its image: {e}", client.name())))
}

/// Names the directory for the files of servers, instances included.
const DIR_VARIABLE: &str = "TESTBED_SERVER_DIR";

/// Creates the directory where [`DIR_VARIABLE`] says, else in memory if there is enough: each instance is a copy of the image, and disks
/// vary in speed.
fn make_dir(prefix: &str) -> Result<PathBuf> {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available =
        memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let available = available.and_then(|kb| kb.trim().parse::<u64>().ok()).unwrap_or(0) << 10;
    let shm = Path::new("/dev/shm");
    let base = match std::env::var_os(DIR_VARIABLE) {
        Some(named) => named.into(),
        None if available > MEMORY_FOR_POOL && shm.is_dir() => shm.to_owned(),
        None => std::env::temp_dir(),
    };
    let dir = tempfile::Builder::new()
        .prefix(prefix)
        .rand_bytes(8)
        .tempdir_in(&base)
        .map_err(|source| Error::File { doing: "creating a directory in", path: base, source })?;
    // The root users of containers have other ids, and must be able to reach their files in it.
    let dir = dir.keep();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(&dir, open).map_err(|source| Error::File {
        doing: "opening up",
        path: dir.clone(),
        source,
    })?;
    Ok(dir)
}

/// Configures a new daemon's API address, pool, bridge and profile; returns the API's URL.
async fn set_up(socket: &Path, network: &Network, bridge: &str, pool: Pool) -> Result<String> {
    let call = async |method, path: &str, body| socket::call(socket, method, path, &body).await;
    let (address, port) = (network.server, network.api_port()?);
    call("PATCH", "/1.0", json!({"config": {"core.https_address": format!("{address}:{port}")}})).await?;
    let pool = match pool {
        Pool::Dir => json!({"name": "default", "driver": "dir"}),
        // Only what is written takes place.
        Pool::Btrfs => json!({"name": "default", "driver": "btrfs", "config": {"size": "32GiB"}}),
    };
    call("POST", "/1.0/storage-pools", pool).await?;
    if let Some(acl) = network.acl() {
        call("POST", "/1.0/network-acls", acl).await?;
    }
    let config = network.bridge_config();
    call("POST", "/1.0/networks", json!({"name": bridge, "type": "bridge", "config": config})).await?;
    call("PUT", "/1.0/profiles/default", profile(bridge)).await?;
    Ok(format!("https://{address}:{port}"))
}

/// The devices of instances: a root on the pool, and an interface on the bridge.
fn profile(bridge: &str) -> Value {
    json!({"config": {}, "description": "", "devices": {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "name": "eth0", "network": bridge},
    }})
}

/// Requests an enrolment token, and assembles it from its parts as the server's command-line client does.
async fn token(socket: &Path, client_name: &str) -> Result<String> {
    let body = json!({"type": "client", "name": client_name, "token": true});
    let operation = socket::call(socket, "POST", "/1.0/certificates", &body).await?;
    let parts = &operation["metadata"];
    let content = json!({
        "client_name": client_name,
        "fingerprint": parts["fingerprint"],
        "addresses": parts["addresses"],
        "secret": parts["secret"],
        "expires_at": "0001-01-01T00:00:00Z",
    });
    Ok(encode(&content))
}

/// Encodes a token.
fn encode(content: &Value) -> String {
    STANDARD.encode(content.to_string())
}

async fn trusted(kind: Kind, url: &str, token: &str) -> Result<Client> {
    let unusable = |error: &dyn std::fmt::Display| {
        Error::Unusable(format!("enrolling with our own {} at {url}: {error}", kind.name()))
    };
    let token = Token::parse(token).map_err(|e| unusable(&e))?;
    let identity = Identity::generate("testbed").map_err(|e| unusable(&e))?;
    let url = url.parse().map_err(|e| unusable(&e))?;
    let config = ClientConfig::new(kind.name(), url, identity, *token.fingerprint());
    let client = Client::new(config).map_err(|e| unusable(&e))?;
    client.enrol(&token).await.map_err(|e| unusable(&e))?;
    Ok(client)
}

fn daemon_pid(dir: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(dir.join("pid")).ok()?;
    text.trim().parse().ok().map(Pid::from_raw)
}

/// The process that runs the daemon, and removes everything when our end of its stdin is closed.
#[derive(Debug)]
struct Keeper {
    dir: PathBuf,
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Keeper {
    fn start(
        kind: Kind,
        dir: &Path,
        bridge: &str,
        uplink: Option<&Network>,
        emulation: Option<&Emulation>,
    ) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", include_str!("keeper.sh"), "testbed-keeper"])
            .arg(dir)
            .args([kind.variable(), bridge])
            .arg(kind.daemon())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals that are sent to us must not reach it.
            .process_group(0);
        command.envs(uplink.into_iter().flat_map(Network::uplink));
        if let Some(emulation) = emulation {
            command.env("EMULATION", emulation.dir());
        }
        std::fs::create_dir(dir.join("d")).map_err(|source| Error::File {
            doing: "creating",
            path: dir.join("d"),
            source,
        })?;
        let mut process =
            command.spawn().map_err(|source| Error::Spawn { program: "/bin/sh".into(), source })?;
        let stdin = process.stdin.take();
        Ok(Self { dir: dir.into(), process, stdin })
    }

    /// Returns an error if the daemon has exited.
    fn check(&self) -> Result<()> {
        let Some(pid) = daemon_pid(&self.dir) else { return Ok(()) };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')) {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default();
        Err(Error::Unusable(format!("the daemon ended; its log: {}", log.trim_end())))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let keep = std::thread::panicking() || std::env::var_os("TESTBED_KEEP").is_some();
        if let Some(mut stdin) = self.stdin.take()
            && keep
            && stdin.write_all(b"keep\n").is_ok()
        {
            eprintln!("testbed: the daemon's logs are kept in {}", self.dir.display());
        }
        // It works through a list in which every wait has a time-out.
        if let Err(error) = self.process.wait() {
            eprintln!("testbed: waiting for the end of the daemon in {}: {error}", self.dir.display());
        }
    }
}
