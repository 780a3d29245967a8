//! Private clusters of the real LXD and Incus servers, in which each member has a network of its own, like separate machines.
//!
//! A member is a daemon in its own network, process and mount namespaces and its own cgroup. A bridge connects the members and this
//! machine only: each member has an address there, for its API and its instances' ports, and no other route. Instances are on a
//! managed bridge inside their member's namespace. Members can lose power or network, and can be started again with the contents
//! of their disk.
//!
//! The requirements are those of a single server (see [`super`]), and `ip`, `unshare` and `nsenter`.

use std::fmt;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lxd_client::{Client, ClientConfig, Fingerprint, Identity, Token};
use serde_json::{Value, json};

use super::{Kind, START_TIMEOUT, make_dir, socket, token, upload};
use crate::wait::{Step, until};
use crate::{Error, Result};

/// The port of every member's API; each has its own address.
const PORT: u16 = 8443;

/// Prefix length of a cluster's network: this machine and up to thirteen members.
const PREFIX: u8 = 28;

/// The range of clusters' networks, reserved for benchmarks (RFC 2544), so real networks do not use it.
const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// The managed bridge of instances. It is the same on each member, and only visible to that member.
const INSTANCES: &str = "198.51.100.1/24";

/// Number of clusters that this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Joining takes a second or two.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A member counts as offline after 20 s without a heartbeat (`cluster.offline_threshold`); electing a new leader takes as long
/// again.
const STATUS_TIMEOUT: Duration = Duration::from_secs(90);

/// Evacuation stops instances, which have half a minute each, and copies those that move.
const EVACUATION_TIMEOUT: Duration = Duration::from_secs(180);

/// A killed process disappears in milliseconds, and its namespaces and cgroups soon after.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);

/// A member of a [`Cluster`], by its index from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(pub usize);

impl Member {
    /// The member with this name in the cluster.
    pub fn named(name: &str) -> Option<Self> {
        Some(Self(name.strip_prefix('m')?.parse::<usize>().ok()?.checked_sub(1)?))
    }
}

/// Its name in the cluster: `m1` and so on.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0 + 1)
    }
}

/// A running cluster. It is removed when it is dropped, and also when this process is killed.
#[derive(Debug)]
pub struct Cluster {
    kind: Kind,
    dir: PathBuf,
    network: Ipv4Addr,
    /// True for each member that has power.
    on: Vec<bool>,
    identity: Identity,
    /// Set once the cluster is formed.
    certificate: Option<Fingerprint>,
    // The last field, so that the daemons are stopped when nothing else needs them any more.
    keeper: Keeper,
}

impl Cluster {
    /// Starts a cluster of that many members and returns when instances can be created on each. Check [`super::unavailable`] first.
    pub async fn start(kind: Kind, members: usize) -> Result<Self> {
        let dir = make_dir(&format!("l{}c-", &kind.name()[..1]))?;
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        // Different from other processes, and from clusters that this process starts at the same time.
        let started = STARTED.fetch_add(1, Ordering::Relaxed);
        let seed = std::process::id().wrapping_mul(7919).wrapping_add(started.wrapping_mul(613));
        let network = free_network(&routes, seed)
            .ok_or_else(|| Error::Unusable("all of 198.18.0.0/15 is in use on this machine".into()))?;
        let keeper = Keeper::start(&dir, network)?;
        let identity = Identity::generate("testbed")
            .map_err(|e| Error::Unusable(format!("making a key for our own {}: {e}", kind.name())))?;
        let mut cluster =
            Self { kind, dir, network, on: vec![false; members], identity, certificate: None, keeper };
        for member in cluster.members() {
            cluster.boot(member)?;
        }
        for member in cluster.members() {
            cluster.ready(member).await?;
        }
        cluster.form().await?;
        let token =
            Token::parse(&cluster.token(Member(0), "testbed").await?).map_err(|e| cluster.unusable(&e))?;
        cluster.certificate = Some(*token.fingerprint());
        let client = cluster.client(Member(0))?;
        client.enrol(&token).await.map_err(|e| cluster.unusable(&e))?;
        Ok(cluster)
    }

    /// Starts a cluster that has the image for environments, under its usual alias.
    pub async fn with_image(kind: Kind, members: usize, image: &Path) -> Result<Self> {
        let cluster = Self::start(kind, members).await?;
        upload(&cluster.client(Member(0))?, image).await?;
        Ok(cluster)
    }

    /// LXD or Incus.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The cluster's directory. The bridge and the cgroup have the same name; the names of the members' veth devices begin with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All members, including those that are off.
    pub fn members(&self) -> impl Iterator<Item = Member> + use<> {
        (0..self.on.len()).map(Member)
    }

    /// A member's address, which is the host in its URL and the address of its instances' ports.
    pub fn address(&self, member: Member) -> Ipv4Addr {
        host(self.network, member.0 + 2)
    }

    /// The member with that address.
    pub fn member_at(&self, address: &str) -> Option<Member> {
        self.members().find(|member| self.address(*member).to_string() == address)
    }

    /// The URL of a member's API.
    pub fn url(&self, member: Member) -> String {
        format!("https://{}:{PORT}", self.address(member))
    }

    /// A client that the cluster trusts, connected to that member.
    pub fn client(&self, member: Member) -> Result<Client> {
        let url = self.url(member).parse().map_err(|e| self.unusable(&e))?;
        let name = format!("{}-{member}", self.kind.name());
        let certificate = self.certificate.ok_or_else(|| self.unusable(&"it is not formed"))?;
        let config = ClientConfig::new(&name, url, self.identity.clone(), certificate);
        Client::new(config).map_err(|e| self.unusable(&e))
    }

    /// A new enrolment token of a member. LXD 5.0 accepts it only on that member; all members trust an enrolled client.
    pub async fn token(&self, member: Member, client_name: &str) -> Result<String> {
        token(&self.socket(member), client_name).await
    }

    /// Makes a call to any live member, with the rights of its local socket; returns the answer's `metadata`.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        socket::call(&self.socket(self.living()?), method, path, body).await
    }

    /// As [`Cluster::call`], for a call that starts an operation: waits until it has ended.
    pub async fn carry_out(&self, method: &str, path: &str, body: &Value, within: Duration) -> Result<Value> {
        socket::carry_out(&self.socket(self.living()?), method, path, body, within).await
    }

    /// The current leader, if there is one.
    pub async fn leader(&self) -> Result<Option<Member>> {
        let members = self.call("GET", "/1.0/cluster/members?recursion=1", &Value::Null).await?;
        let leads =
            |m: &&Value| m["roles"].as_array().is_some_and(|all| all.contains(&json!("database-leader")));
        let leader = members.as_array().into_iter().flatten().find(leads);
        Ok(leader.and_then(|m| Member::named(m["server_name"].as_str()?)))
    }

    /// The instances of all projects, with project, status and location.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        let all = self.call("GET", "/1.0/instances?recursion=1&all-projects=true", &Value::Null).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let instance = |value: &Value| Instance {
            project: text(&value["project"]),
            status: text(&value["status"]),
            member: value["location"].as_str().and_then(Member::named),
        };
        Ok(all.as_array().into_iter().flatten().map(instance).collect())
    }

    /// Kills a member and its instances, as a power failure would. The others notice the missing heartbeat.
    pub async fn kill(&mut self, member: Member) -> Result<()> {
        self.keeper.tell(&format!("kill {member}"))?;
        self.on[member.0] = false;
        let veth = Path::new("/sys/class/net").join(format!("{}{member}", self.keeper.bridge));
        until(&format!("the end of {member}"), KILL_TIMEOUT, async || {
            Ok(if veth.exists() { Step::NotYet("its network is there".into()) } else { Step::Done(()) })
        })
        .await
    }

    /// Starts a member again with the contents of its disk, and waits until its daemon answers.
    pub async fn boot_again(&mut self, member: Member) -> Result<()> {
        self.boot(member)?;
        self.ready(member).await
    }

    /// Disconnects a member's network. It keeps running, but cannot be reached.
    pub fn cut(&mut self, member: Member) -> Result<()> {
        self.keeper.tell(&format!("cut {member}"))
    }

    /// Reconnects a member's network.
    pub fn mend(&mut self, member: Member) -> Result<()> {
        self.keeper.tell(&format!("mend {member}"))
    }

    /// Evacuates a member: its instances move away, or are stopped if they cannot, and it gets no new ones.
    pub async fn evacuate(&self, member: Member) -> Result<()> {
        self.set_state(member, "evacuate").await
    }

    /// Undoes [`Cluster::evacuate`]: the instances return.
    pub async fn restore(&self, member: Member) -> Result<()> {
        self.set_state(member, "restore").await
    }

    async fn set_state(&self, member: Member, action: &str) -> Result<()> {
        let path = format!("/1.0/cluster/members/{member}/state");
        self.carry_out("POST", &path, &json!({"action": action}), EVACUATION_TIMEOUT).await.map(drop)
    }

    /// Sets whether a member gets instances only if they are targeted at it (`scheduler.instance`).
    pub async fn set_manual(&self, member: Member, manual: bool) -> Result<()> {
        let scheduler = if manual { "manual" } else { "all" };
        self.change(member, |now| now["config"]["scheduler.instance"] = scheduler.into()).await
    }

    /// Puts a member in these groups only; missing groups are created.
    pub async fn set_groups(&self, member: Member, groups: &[&str]) -> Result<()> {
        let there = self.call("GET", "/1.0/cluster/groups?recursion=1", &Value::Null).await?;
        for group in groups {
            if !there.as_array().is_some_and(|all| all.iter().any(|g| g["name"] == *group)) {
                self.call("POST", "/1.0/cluster/groups", &json!({"name": group, "members": []})).await?;
            }
        }
        self.change(member, |now| now["groups"] = json!(groups)).await
    }

    async fn change(&self, member: Member, change: impl FnOnce(&mut Value)) -> Result<()> {
        let path = format!("/1.0/cluster/members/{member}");
        let mut now = self.call("GET", &path, &Value::Null).await?;
        change(&mut now);
        self.call("PUT", &path, &now).await.map(drop)
    }

    /// Waits until the cluster reports this status of a member: `Online`, `Offline`, `Evacuated`.
    pub async fn wait_for_status(&self, member: Member, status: &str) -> Result<()> {
        let path = format!("/1.0/cluster/members/{member}");
        until(&format!("{member} to be {status}"), STATUS_TIMEOUT, async || {
            Ok(match self.call("GET", &path, &Value::Null).await {
                Ok(now) if now["status"] == status => Step::Done(()),
                Ok(now) => Step::NotYet(format!("{}: {}", now["status"], now["message"])),
                // Nobody answers while a leader is elected.
                Err(error) => Step::NotYet(error.to_string()),
            })
        })
        .await
    }

    fn boot(&mut self, member: Member) -> Result<()> {
        let state = self.home(member).join("d");
        std::fs::create_dir_all(&state).map_err(|source| Error::File {
            doing: "creating",
            path: state,
            source,
        })?;
        let (address, kind) = (self.address(member), self.kind);
        self.keeper.tell(&format!(
            "start {member} {address}/{PREFIX} {} {}",
            kind.variable(),
            kind.daemon().display()
        ))?;
        self.on[member.0] = true;
        Ok(())
    }

    /// Waits until a member's daemon answers.
    async fn ready(&self, member: Member) -> Result<()> {
        let (socket, home) = (self.socket(member), self.home(member));
        until(
            &format!("{member} of {} to answer on its socket", self.kind.name()),
            START_TIMEOUT,
            async || {
                if let Ok(status) = std::fs::read_to_string(home.join("ended")) {
                    let log = std::fs::read_to_string(home.join("daemon.log")).unwrap_or_default();
                    return Err(Error::Unusable(format!(
                        "the daemon of {member} ended with status {}; its log: {}",
                        status.trim(),
                        log.trim_end()
                    )));
                }
                Ok(match socket::call(&socket, "GET", "/internal/ready", &Value::Null).await {
                    Ok(_) => Step::Done(()),
                    Err(error) => {
                        let log = std::fs::read_to_string(home.join("daemon.log")).unwrap_or_default();
                        let keeper = std::fs::read_to_string(self.dir.join("keeper.log")).unwrap_or_default();
                        let last = |log: &str| log.lines().last().unwrap_or_default().to_owned();
                        Step::NotYet(format!("{error}; {}; {}", last(&log), last(&keeper)))
                    }
                })
            },
        )
        .await
    }

    /// Forms a cluster of new daemons, with a pool, a bridge for instances and a profile.
    async fn form(&self) -> Result<()> {
        let first = Member(0);
        let call =
            async |method, path: &str, body| socket::call(&self.socket(first), method, path, &body).await;
        let address = |member| format!("{}:{PORT}", self.address(member));
        call("PATCH", "/1.0", json!({"config": {"core.https_address": address(first)}})).await?;
        let bootstrap = json!({"server_name": first.to_string(), "enabled": true});
        socket::carry_out(&self.socket(first), "PUT", "/1.0/cluster", &bootstrap, JOIN_TIMEOUT).await?;
        for member in self.members().skip(1) {
            let name = member.to_string();
            let operation = call("POST", "/1.0/cluster/members", json!({"server_name": name})).await?;
            let parts = &operation["metadata"];
            let token = super::encode(&json!({
                "server_name": name,
                "fingerprint": parts["fingerprint"],
                "addresses": parts["addresses"],
                "secret": parts["secret"],
                "expires_at": parts["expiresAt"],
            }));
            let server = call("GET", "/1.0", Value::Null).await?;
            let field = match self.kind {
                Kind::Lxd => "cluster_password",
                Kind::Incus => "cluster_token",
            };
            let join = json!({
                "server_name": name,
                "enabled": true,
                "server_address": address(member),
                "cluster_address": address(first),
                "cluster_certificate": server["environment"]["certificate"],
                field: token,
                "member_config": [],
            });
            socket::carry_out(&self.socket(member), "PUT", "/1.0/cluster", &join, JOIN_TIMEOUT).await?;
        }
        // On each member first, then for all.
        let bridge = bridge(self.kind);
        for member in self.members() {
            call(
                "POST",
                &format!("/1.0/storage-pools?target={member}"),
                json!({"name": "default", "driver": "dir"}),
            )
            .await?;
            call(
                "POST",
                &format!("/1.0/networks?target={member}"),
                json!({"name": bridge, "type": "bridge"}),
            )
            .await?;
        }
        call("POST", "/1.0/storage-pools", json!({"name": "default", "driver": "dir"})).await?;
        let network = json!({"name": bridge, "type": "bridge", "config": {
            "ipv4.address": INSTANCES, "ipv4.nat": "false", "ipv6.address": "none", "dns.mode": "none",
        }});
        call("POST", "/1.0/networks", network).await?;
        call("PUT", "/1.0/profiles/default", super::profile(bridge)).await.map(drop)
    }

    fn living(&self) -> Result<Member> {
        self.members()
            .find(|member| self.on[member.0])
            .ok_or_else(|| Error::Unusable("no member is on".into()))
    }

    fn home(&self, member: Member) -> PathBuf {
        self.dir.join(member.to_string())
    }

    fn socket(&self, member: Member) -> PathBuf {
        self.home(member).join("d/unix.socket")
    }

    fn unusable(&self, error: &dyn fmt::Display) -> Error {
        Error::Unusable(format!("our own cluster of {}: {error}", self.kind.name()))
    }
}

/// An instance, as listed by the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its project.
    pub project: String,
    /// `Running`, `Stopped`, or `Error` if its member does not answer.
    pub status: String,
    /// The member that it is on.
    pub member: Option<Member>,
}

/// Name of the managed bridge of instances, as the packages' setup names it.
pub fn bridge(kind: Kind) -> &'static str {
    match kind {
        Kind::Lxd => "lxdbr0",
        Kind::Incus => "incusbr0",
    }
}

/// The address of a host in a network.
fn host(network: Ipv4Addr, number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits() + u32::try_from(number).unwrap_or(u32::MAX))
}

/// Finds a network to which this machine has no route. `seed` is where the search begins, so that concurrent searches find
/// different networks. `routes` is `/proc/net/route`.
fn free_network(routes: &str, seed: u32) -> Option<Ipv4Addr> {
    let hex = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::swap_bytes);
    let taken: Vec<(u32, u32)> = routes
        .lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            Some((hex(words.get(1)?)?, hex(words.get(7)?)?))
        })
        // Ignore the default route.
        .filter(|(_, mask)| *mask != 0)
        .collect();
    let (range, length) = RANGE;
    let (count, mask) = (1u32 << (PREFIX - length), u32::MAX << (32 - PREFIX));
    (0..count)
        .map(|step| range.to_bits() + ((seed.wrapping_add(step) % count) << (32 - PREFIX)))
        .find(|network| taken.iter().all(|(to, other)| (to ^ network) & (other & mask) != 0))
        .map(Ipv4Addr::from_bits)
}

/// The process that runs the members, and removes everything when our end of its stdin is closed.
#[derive(Debug)]
struct Keeper {
    dir: PathBuf,
    bridge: String,
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Keeper {
    fn start(dir: &Path, network: Ipv4Addr) -> Result<Self> {
        // Unique, and short enough for 15 characters together with a member's name.
        let bridge = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = |name: &str| dir.join(name);
        let failed = |doing, path| move |source| Error::File { doing, path, source };
        std::fs::write(file("machine.sh"), include_str!("machine.sh"))
            .map_err(failed("writing", file("machine.sh")))?;
        let log =
            std::fs::File::create(file("keeper.log")).map_err(failed("creating", file("keeper.log")))?;
        let mut process = Command::new("/bin/sh")
            .args(["-c", include_str!("keeper.sh"), "testbed-keeper"])
            .arg(dir)
            .args([&bridge, &format!("{}/{PREFIX}", host(network, 1))])
            .arg(file("machine.sh"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Signals that are sent to us must not reach it.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: "/bin/sh".into(), source })?;
        let stdin = process.stdin.take();
        Ok(Self { dir: dir.into(), bridge, process, stdin })
    }

    fn tell(&mut self, command: &str) -> Result<()> {
        let mut stdin = self.stdin.as_ref().expect("only taken at the end");
        stdin
            .write_all(format!("{command}\n").as_bytes())
            .map_err(|source| Error::System { doing: "telling the keeper of a cluster what to do", source })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let keep = std::thread::panicking() || std::env::var_os("TESTBED_KEEP").is_some();
        if keep && self.tell("keep").is_ok() {
            eprintln!("testbed: the members' logs are kept in {}", self.dir.display());
        }
        drop(self.stdin.take());
        // It works through a list in which every wait has a time-out.
        if let Err(error) = self.process.wait() {
            eprintln!("testbed: waiting for the end of the cluster in {}: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_found_beside_those_in_use() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let first = Ipv4Addr::new(198, 18, 0, 0);
        assert_eq!(free_network(head, 0), Some(first));
        // A default route, the first network of the range, and a larger one that has the next three in it.
        let routes = format!(
            "{head}eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n\
             a\t000012C6\t00000000\t0001\t0\t0\t0\tF0FFFFFF\nb\t100012C6\t00000000\t0001\t0\t0\t0\tC0FFFFFF\n"
        );
        assert_eq!(free_network(&routes, 0), Some(Ipv4Addr::new(198, 18, 0, 64)));
        assert_eq!(free_network(&routes, 8191), Some(Ipv4Addr::new(198, 19, 255, 240)));
        let all = format!("{head}a\t000012C6\t00000000\t0001\t0\t0\t0\t0000FEFF\n");
        assert_eq!(free_network(&all, 5), None);
    }

    #[test]
    fn members_are_named_from_one() {
        assert_eq!(Member(1).to_string(), "m2");
        assert_eq!(Member::named("m2"), Some(Member(1)));
        assert_eq!([Member::named("m0"), Member::named("none")], [None, None]);
    }
}
