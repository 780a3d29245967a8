//! Private instances of the real LXD and Incus servers, separate from any server of the machine.
//!
//! Each has a directory, a pool of the kind `dir`, a bridge without a route to other networks, and a loopback address for its API
//! and for the ports of its instances. It is removed with everything that it created when it is dropped, and also when this
//! process is killed: `keeper.sh` waits for that.
//!
//! With [`emulation`] a server also runs virtual machines, without KVM. It then has its own network namespace, connected to ours by
//! a pair of devices, and its API and ports are on its end of the pair.
//!
//! Requirements: root with all capabilities (the daemons mount and create bridges), cgroups, subordinate user ids for root (the
//! packages add them), and the packages `lxd`, or `incus-base`, with `dnsmasq-base`. It needs neither KVM, `AppArmor`, a packet
//! filter, nor systemd on the machine: containers have their own. They are unprivileged.

pub mod cluster;
mod emulation;
mod network;
mod socket;

use std::io::Write;
use std::net::Ipv4Addr;
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
        Self::start_as(kind, None).await
    }

    /// Starts a server and returns when virtual machines can be created, too. Check [`no_machines`] first.
    pub async fn emulating(kind: Kind, emulation: &Emulation) -> Result<Self> {
        Self::start_as(kind, Some(emulation)).await
    }

    async fn start_as(kind: Kind, emulation: Option<&Emulation>) -> Result<Self> {
        let dir = make_dir(&format!("lp{}-", &kind.name()[..1]))?;
        // At most 15 characters, and unique: the random part of the directory's name.
        let bridge = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let network = Network::new(emulation.is_some());
        let keeper = Keeper::start(kind, &dir, &bridge, emulation.map(|e| (e, &network)))?;
        let socket = dir.join("d/unix.socket");
        until(&format!("{} to answer on its socket", kind.name()), START_TIMEOUT, async || {
            keeper.check()?;
            Ok(match socket::call(&socket, "GET", "/internal/ready", &Value::Null).await {
                Ok(_) => Step::Done(()),
                Err(error) => Step::NotYet(error.to_string()),
            })
        })
        .await?;
        let url = set_up(&socket, &network, &bridge).await?;
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

/// Uploads the image for environments, under its usual alias.
async fn upload(client: &Client, image: &Path) -> Result<()> {
    let files = ImageFiles::Unified(image.into());
    let upload = async {
        let fingerprint = client.upload_image("default", &files, UPLOAD_TIMEOUT).await?;
        client.create_image_alias("default", ALIAS, &fingerprint).await
    };
    upload.await.map_err(|e| Error::Unusable(format!("giving {} its image: {e}", client.name())))
}

/// Creates the directory in memory if there is enough: each instance is a copy of the image, and disks vary in speed.
fn make_dir(prefix: &str) -> Result<PathBuf> {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available =
        memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let available = available.and_then(|kb| kb.trim().parse::<u64>().ok()).unwrap_or(0) << 10;
    let shm = Path::new("/dev/shm");
    let base =
        if available > MEMORY_FOR_POOL && shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
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
async fn set_up(socket: &Path, network: &Network, bridge: &str) -> Result<String> {
    let call = async |method, path: &str, body| socket::call(socket, method, path, &body).await;
    let (address, port) = (network.server, network.api_port()?);
    call("PATCH", "/1.0", json!({"config": {"core.https_address": format!("{address}:{port}")}})).await?;
    call("POST", "/1.0/storage-pools", json!({"name": "default", "driver": "dir"})).await?;
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
        emulation: Option<(&Emulation, &Network)>,
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
        if let Some((emulation, network)) = emulation {
            command.env("EMULATION", emulation.dir()).envs(network.uplink());
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
