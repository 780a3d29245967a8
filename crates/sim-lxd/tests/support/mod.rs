//! Common parts of the tests: a remote in its own directory, its clients, and reachable instances.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod api;

use std::{
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use lxd_client::{
    Client, ClientConfig, ConfigMap, DeviceMap, Identity, ImageSource, InstanceSpec, InstanceType, Token,
};
use russh::keys::{Algorithm, PrivateKey, ssh_key::LineEnding};
use sha2::{Digest as _, Sha256};
use sim_lxd::{SimRemote, SimRemoteConfig};
use tempfile::TempDir;

/// More than anything takes here, even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn config_map<const N: usize>(pairs: [(&str, &str); N]) -> ConfigMap {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// A disk for the root, which a project's own `default` profile does not have.
pub(crate) fn root_disk() -> DeviceMap {
    [("root".to_owned(), config_map([("type", "disk"), ("pool", "default"), ("path", "/")]))].into()
}

pub(crate) fn proxy(listen: &str, connect: &str) -> ConfigMap {
    config_map([("type", "proxy"), ("listen", listen), ("connect", connect), ("bind", "host")])
}

/// A free port for a device, which names its port, so that there is no binding port 0. Below the range that the kernel gives to
/// outgoing connections and to port 0, and each one only once in this process: nobody takes it before the device does.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| rand::random_range(10_000..28_000).into());
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).find(is_free).expect("a free port")
}

/// A remote with an enrolled client.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) remote: SimRemote,
    pub(crate) client: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = SimRemoteConfig::new(dir.path().join("state"), program("true"));
        let remote = SimRemote::start(config).await.expect("a remote");
        let token = Token::parse(&remote.token("test")).expect("a token");
        let client = Client::new(client_config(&remote.url(), &token)).expect("a client");
        client.enrol(&token).await.expect("enrolled");
        Self { dir, remote, client }
    }

    /// An instance that runs, with an SSH port and these other devices.
    pub(crate) async fn instance(&self, name: &str, more: DeviceMap) -> Ssh {
        let ssh = Ssh::new();
        let mut devices = root_disk();
        devices.insert("ssh".into(), proxy(&format!("tcp:127.0.0.1:{}", ssh.port), "tcp:127.0.0.1:22"));
        devices.extend(more);
        let config = config_map([("cloud-init.user-data", &ssh.user_data())]);
        let spec = InstanceSpec { config, devices, ..spec(name) };
        self.client.create_instance("default", &spec, LONG).await.expect("created");
        self.client.start_instance("default", name, LONG).await.expect("started");
        ssh
    }
}

pub(crate) fn client_config(url: &str, token: &Token) -> ClientConfig {
    let identity = Identity::generate("test").expect("an identity");
    ClientConfig::new("sim", url.parse().expect("a URL"), identity, *token.fingerprint())
}

pub(crate) fn spec(name: &str) -> InstanceSpec {
    InstanceSpec {
        name: name.into(),
        kind: InstanceType::Container,
        image: ImageSource::Alias("lnplay".into()),
        config: ConfigMap::new(),
        devices: root_disk(),
        profiles: None,
        target: None,
    }
}

/// The keys to an instance.
pub(crate) struct Ssh {
    pub(crate) port: u16,
    pub(crate) host_key: PrivateKey,
    pub(crate) login_key: PrivateKey,
    dir: TempDir,
}

impl Ssh {
    pub(crate) fn new() -> Self {
        let key =
            || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).expect("a key");
        let dir = tempfile::tempdir().expect("a directory");
        Self { port: free_port(), host_key: key(), login_key: key(), dir }
    }

    pub(crate) fn user_data(&self) -> String {
        let private = self.host_key.to_openssh(LineEnding::LF).expect("text");
        let private = private.trim_end().replace('\n', "\n    ");
        let [host, login] =
            [&self.host_key, &self.login_key].map(|k| k.public_key().to_openssh().expect("text"));
        format!(
            "#cloud-config\nssh_keys:\n  ed25519_private: |\n    {private}\n  ed25519_public: {host}\n\
             users:\n  - name: root\n    ssh_authorized_keys:\n      - {login}\n"
        )
    }

    /// Connects; the host key must be `host_key`.
    pub(crate) async fn connect_expecting(
        &self,
        host_key: &PrivateKey,
    ) -> Result<openssh::Session, openssh::Error> {
        self.try_connect([127, 0, 0, 1].into(), self.port, host_key).await
    }

    /// Connects to another address than that of [`World::instance`].
    pub(crate) async fn connect_to(&self, address: IpAddr, port: u16) -> openssh::Session {
        self.try_connect(address, port, &self.host_key).await.expect("an SSH session")
    }

    async fn try_connect(
        &self,
        address: IpAddr,
        port: u16,
        host_key: &PrivateKey,
    ) -> Result<openssh::Session, openssh::Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let known_hosts = self.dir.path().join("known_hosts");
        let public = host_key.public_key().to_openssh().expect("text");
        std::fs::write(&known_hosts, format!("[{address}]:{port} {public}\n")).expect("written");
        let login = self.dir.path().join("login");
        std::fs::write(&login, self.login_key.to_openssh(LineEnding::LF).expect("text").as_bytes())
            .expect("written");
        std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o600)).expect("private");
        openssh::SessionBuilder::default()
            .user("root".into())
            .port(port)
            .keyfile(&login)
            .user_known_hosts_file(&known_hosts)
            .known_hosts_check(openssh::KnownHosts::Strict)
            .control_directory(self.dir.path())
            .config_file("/dev/null")
            .connect_timeout(Duration::from_secs(10))
            .connect(address.to_string())
            .await
    }

    pub(crate) async fn connect(&self) -> openssh::Session {
        self.connect_expecting(&self.host_key).await.expect("an SSH session")
    }
}

/// Runs a command line to its end: standard output, and its exit status.
pub(crate) async fn run(session: &openssh::Session, command: &str) -> (String, i32) {
    let output = session.raw_command(command).output().await.expect("an exit status");
    let text = String::from_utf8(output.stdout).expect("text");
    (text, output.status.code().expect("an exit code"))
}

/// A tarball that a server takes for an image; with a busybox in it as `init` it boots.
pub(crate) fn tarball(dir: &Path, name: &str, files: &[&str], boots: bool) -> (PathBuf, String) {
    let root = dir.join("rootfs");
    for sub in ["bin", "sbin", "proc", "sys", "dev", "etc", "run", "tmp"] {
        std::fs::create_dir_all(root.join(sub)).expect("a directory");
    }
    if boots && Path::new("/bin/busybox").exists() {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("copied");
        let init = root.join("sbin/init");
        let script =
            "#!/bin/busybox sh\ntrap 'exit 0' PWR TERM INT\nwhile :; do /bin/busybox sleep 1; done\n";
        std::fs::write(&init, script).expect("written");
        std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }
    // So that no two runs upload the same image.
    std::fs::write(root.join("etc/nonce"), rand::random::<u64>().to_string()).expect("written");
    let metadata =
        "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: conformance\n";
    std::fs::write(dir.join("metadata.yaml"), metadata).expect("written");
    let path = dir.join(name);
    let tar = std::process::Command::new("tar").arg("-C").arg(dir).arg("-cf").arg(&path).args(files).status();
    assert!(tar.expect("tar runs").success());
    let hash = hex::encode(Sha256::digest(std::fs::read(&path).expect("readable")));
    (path, hash)
}

/// Returns whether a process is running.
pub(crate) fn is_alive(pid: &str) -> bool {
    // A zombie has no environment.
    std::fs::read(format!("/proc/{}/environ", pid.trim())).is_ok_and(|environ| !environ.is_empty())
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + LONG;
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "waited for this in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A program that this machine has on PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH");
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not on PATH"))
}
