//! Shared by the tests: simulated remotes, a provisioner of them, orders, and a stand-in for `lnplay`.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::order::{Handover, Site};
use lnplaylive_core::{
    ConnectionString, Customisation, Event, Order, OrderId, Placement, Policy, ProjectName, Settings, Sku,
    Terms,
    order::{Leftover, PortBlock},
};
use lxd_client::{Client, ClientConfig, Identity, Token};
use provisioner::{Choice, Error, Provisioner, RemoteReport, Size, choose, keys};
use sim_lxd::{SimRemote, SimRemoteConfig};
use tempfile::TempDir;

/// More than anything takes here, even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// `lnplay` as the provisioner sees it: reads a spec, tells its progress, and gives a string for each node.
pub(crate) const GOOD: &str = r#"#!/bin/sh
spec=$(cat)
value() { echo "$spec" | sed "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/"; }
n=$(value node_count) port=$(value public_first) page=$(value connect_page)
address=$(echo "$spec" | sed 's/.*"public_url_template":"ws:..\([^"]*\):{port}".*/\1/')
echo '{"event":"progress","step":"start-nodes","done":1,"total":1,"message":"started"}'
echo "a log line" >&2
i=0 strings=
while [ $i -lt $n ]; do
  string="$page#address=NODE_ID@$address:$port&type=direct&value=ws:&rune=cnVuZQ=="
  strings="$strings${strings:+,}\"$string\""
  i=$((i + 1)) port=$((port + 1))
done
echo "{\"event\":\"ready\",\"connection_strings\":[$strings]}"
"#;

/// The id of all nodes of [`GOOD`].
fn node_id() -> String {
    format!("02{}", "ab".repeat(32))
}

/// A connection string, which is no environment's here.
fn string() -> String {
    format!(
        "http://localhost:3000/connect#address={}@127.0.0.1:1&type=direct&value=ws:&rune=cnVuZQ==",
        node_id()
    )
}

/// Remotes and a provisioner that knows them.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) remotes: Vec<SimRemote>,
    pub(crate) provisioner: Provisioner,
    /// An address of this world's own for the ports of environments.
    pub(crate) address: Ipv4Addr,
}

impl World {
    /// One remote whose `lnplay` is this script.
    pub(crate) async fn new(lnplay: &str) -> Self {
        Self::with(lnplay, 1, "").await
    }

    /// As many remotes, each with these lines in its settings.
    pub(crate) async fn with(lnplay: &str, count: usize, lines: &str) -> Self {
        Self::made(lnplay, count, lines, |_, _| ()).await
    }

    /// As [`World::with`], with a last word on how each remote is started.
    pub(crate) async fn made(
        lnplay: &str,
        count: usize,
        lines: &str,
        change: impl Fn(usize, &mut SimRemoteConfig),
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("pt").tempdir().expect("a directory");
        let script = dir.path().join("lnplay");
        std::fs::write(&script, lnplay.replace("STRING", &string()).replace("NODE_ID", &node_id()))
            .expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let mut remotes = Vec::new();
        let mut settings = String::new();
        let address = own_address();
        for index in 0..count {
            let mut config = SimRemoteConfig::new(dir.path().join(format!("r{index}")), &script);
            change(index, &mut config);
            let clustered = !config.cluster.is_empty();
            let remote = SimRemote::start(config).await.expect("a remote");
            let token = write(dir.path(), &format!("token-{index}"), &remote.token("shop"));
            let name = format!("sim-{index}");
            settings += &if clustered {
                cluster_settings(&name, &remote.url(), &token)
            } else {
                remote_settings(&name, &remote.url(), &token, address, index)
            };
            settings += lines;
            remotes.push(remote);
        }
        let provisioner = provisioner(&settings, dir.path()).expect("settings");
        Self { dir, remotes, provisioner, address }
    }

    /// Another run of the shop: it knows nothing but what is stored.
    pub(crate) fn restarted(&self) -> Provisioner {
        let file = self.dir.path().join("settings.toml");
        let settings = Settings::load(Some(&file)).expect("settings");
        Provisioner::new(&settings, &self.dir.path().join("state")).expect("a provisioner")
    }

    pub(crate) fn remote(&self) -> &SimRemote {
        &self.remotes[0]
    }

    /// The remotes' reports, and the choice that follows, as the plugin makes it.
    pub(crate) async fn place(&self, order: &Order) -> Placement {
        let reports = self.reports().await;
        let candidates = self.provisioner.candidates(&reports);
        let choice = choose(&candidates, (&order.terms).into(), &[], &[], 0).expect("room");
        let Choice { remote, member, ports, address } = choice;
        Placement { member, address, ..placement(order, &remote, ports) }
    }

    /// The remotes' reports once no image is being uploaded.
    pub(crate) async fn reports(&self) -> Vec<RemoteReport> {
        let uploading = |report: &RemoteReport| {
            report.load.as_ref().is_err_and(|reason| reason.contains("is being uploaded"))
        };
        loop {
            let reports = self.provisioner.survey().await;
            if !reports.iter().any(uploading) {
                return reports;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Takes an order all the way.
    pub(crate) async fn provision(&self, order: &Order) -> Result<Placement, Error> {
        let placement = self.place(order).await;
        self.provisioner.bring_up(order, &placement).await?;
        let deployed = self.provisioner.deploy(order, &placement, |_| ()).await?;
        assert_eq!(deployed.connection_strings.len(), order.terms.node_count as usize);
        let until = placement.project.expires();
        self.provisioner.hand_over(order.id, &placement, until).await?;
        Ok(placement)
    }

    /// Brings an instance up and lets `lnplay` do what it does there; it has to fail. Then takes all of it down.
    pub(crate) async fn fails_to_deploy(&self) -> Error {
        let order = order(2);
        let placement = self.place(&order).await;
        self.provisioner.bring_up(&order, &placement).await.expect("it runs");
        let result = self.provisioner.deploy(&order, &placement, |_| ()).await;
        let error = result.expect_err("it cannot work");
        names(&error, &["sim-0", &placement.project.to_string()]);
        self.take_down(&order, &placement).await;
        error
    }

    /// Takes a placement down; nothing of it may be left, and doing it again does nothing.
    pub(crate) async fn take_down(&self, order: &Order, placement: &Placement) {
        let leftover = leftover(placement);
        self.provisioner.take_down(order.id, &leftover).await.expect("taken down");
        for remote in &self.remotes {
            assert!(remote.projects().iter().all(|p| p.name != leftover.project.to_string()));
        }
        self.provisioner.take_down(order.id, &leftover).await.expect("gone already");
    }

    /// The number of calls that `work` makes, on all remotes together.
    pub(crate) async fn count<T>(&self, work: impl Future<Output = T>) -> (T, usize) {
        let calls = || self.remotes.iter().map(|r| r.faults().calls().len()).sum::<usize>();
        let before = calls();
        let result = work.await;
        (result, calls() - before)
    }

    /// The number of calls of this method and path that the remote got.
    pub(crate) fn calls(&self, method: &str, path: &str) -> usize {
        let calls = self.remote().faults().calls();
        calls.iter().filter(|c| c.method == method && c.path == path).count()
    }
}

/// An hour of so many nodes.
pub(crate) fn nodes(node_count: u32) -> Size {
    Size { node_count, hours: 1 }
}

/// Settings of a container remote that is a cluster: each member's ports are opened on its own addresses.
pub(crate) fn cluster_settings(name: &str, url: &str, token: &Path) -> String {
    format!(
        "\n[[remotes]]\nname = {name:?}\nurl = {url:?}\ntoken_file = {token}\ninstance_type = \"container\"\n",
        token = quoted(token),
    )
}

/// Settings of a container remote; those that share an address get ports of their own.
pub(crate) fn remote_settings(
    name: &str,
    url: &str,
    token: &Path,
    address: Ipv4Addr,
    index: usize,
) -> String {
    format!(
        "\n[[remotes]]\nname = {name:?}\nurl = {url:?}\ntoken_file = {token}\ninstance_type = \"container\"\n\
         unlimited_disk = true\nlisten_address = \"{address}\"\nssh_host = \"{address}\"\n\
         ports = {{ first = {first}, last = {last} }}\n",
        token = quoted(token),
        first = 20000 + 1000 * index,
        last = 20999 + 1000 * index,
    )
}

/// A path as it stands in settings.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// A provisioner of these settings, which keeps its keys in `dir`.
pub(crate) fn provisioner(settings: &str, dir: &Path) -> Result<Provisioner, Error> {
    let file = write(dir, "settings.toml", settings);
    let settings = Settings::load(Some(&file)).expect("settings");
    Provisioner::new(&settings, &dir.join("state"))
}

pub(crate) fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// A loopback address that no other test of this machine has, as far as chance allows.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(1));
    let [high, low] = u16::try_from(std::process::id() % 0xffff).expect("small").to_be_bytes();
    let world = u8::try_from(next.fetch_add(1, Ordering::Relaxed) % 50).expect("small");
    Ipv4Addr::new(127, 50 + world, high, low.clamp(1, 254))
}

/// An order that was just paid.
pub(crate) fn order(node_count: u32) -> Order {
    let customisation = Customisation::default();
    let terms = Terms { sku: Sku("T".into()), node_count, hours: 1, amount_msat: 1000, customisation };
    let now = Timestamp::now();
    let order = Order::new(OrderId::random(), terms, now, now);
    order.apply(Event::Paid, now, &Policy::default()).expect("a payment")
}

pub(crate) fn placement(order: &Order, remote: &str, ports: PortBlock) -> Placement {
    let expires = Timestamp::now() + SignedDuration::from_hours(2);
    Placement {
        remote: remote.into(),
        member: None,
        address: None,
        project: ProjectName::new(expires, order.id).expect("a name"),
        ports,
        access: keys::generate(),
        prepared: None,
    }
}

pub(crate) fn leftover(placement: &Placement) -> Leftover {
    placement.leftover()
}

/// The strings of an environment.
pub(crate) fn is_ours(strings: &[ConnectionString]) -> bool {
    strings.iter().all(|s| s.node_id.as_str().starts_with("02ab"))
}

/// An error names all of this.
#[track_caller]
pub(crate) fn names(error: &Error, words: &[&str]) {
    let text = error.chain();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for this in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The ssh processes that connect to an address.
pub(crate) fn ssh_processes(address: Ipv4Addr) -> Vec<String> {
    let address = address.to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    // One that has ended meanwhile cannot be read.
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains("lnplaylive-ssh-") && line.contains(&address)).collect()
}

/// A client of the remote's operator.
pub(crate) async fn operator(world: &World) -> Client {
    let token = Token::parse(&world.remote().token("operator")).expect("a token");
    let identity = Identity::generate("operator").expect("an identity");
    let url = world.remote().url().parse().expect("a URL");
    let client =
        Client::new(ClientConfig::new("sim-0", url, identity, *token.fingerprint())).expect("a client");
    client.enrol(&token).await.expect("enrolled");
    client
}

/// The environment of a placement, as it is recorded when it is handed over. Its connection strings are not looked at.
pub(crate) fn handover(placement: Placement) -> Handover {
    Handover {
        remote: placement.remote,
        project: placement.project,
        expires_at: placement.project.expires(),
        connection_strings: Vec::new(),
        refunded_at: None,
        site: Some(Site {
            member: placement.member,
            ports: placement.ports,
            address: placement.address,
            client_key: placement.access.client_key.private,
            host_key: placement.access.host_key.public,
        }),
        replaced_at: None,
    }
}
