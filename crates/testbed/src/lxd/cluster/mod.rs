//! Private LXD and Incus clusters: real ones, each member with a network of its own, as on machines of their own.
//!
//! A member is a daemon in a network, process and mount namespace and a cgroup of its own. A bridge joins the members and this
//! machine, and nothing else: each has an address there, under which its API answers and its instances' ports are open, and no
//! route any further. Instances are on a managed bridge inside their member's namespace. Members can lose their power or their
//! network, and be started again with what was on their disk.
//!
//! What the machine has to bring is what a single server needs (see [`super`]), and `ip`, `unshare` and `nsenter`.

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

use super::{Kind, START_TIME, make_dir, socket, token, upload};
use crate::wait::{Step, until};
use crate::{Error, Result};

/// The port of every member's API; each has its own address.
const PORT: u16 = 8443;

/// The length of the prefix of a cluster's network: this machine and up to thirteen members.
const PREFIX: u8 = 28;

/// The range that clusters' networks are from: for measurements in laboratories (RFC 2544), so nobody's own.
const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// The managed bridge that instances are on, the same on each member and seen by it alone.
const INSTANCES: &str = "198.51.100.1/24";

/// How many clusters this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Joining takes a second or two.
const JOIN_TIME: Duration = Duration::from_secs(60);

/// A member counts as offline after 20 s without a heartbeat (`cluster.offline_threshold`); a new leader first has to be found
/// and needs as long again.
const STATUS_TIME: Duration = Duration::from_secs(90);

/// Evacuating stops instances, which have half a minute each, and copies those that move.
const EVACUATION_TIME: Duration = Duration::from_secs(180);

/// A process that was killed is gone in milliseconds; its namespaces and cgroups follow.
const KILL_TIME: Duration = Duration::from_secs(15);

/// A member of a [`Cluster`], by its place in it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(pub usize);

impl Member {
    /// Finds it by the name that the cluster has for it.
    pub fn named(name: &str) -> Option<Self> {
        Some(Self(name.strip_prefix('m')?.parse::<usize>().ok()?.checked_sub(1)?))
    }
}

/// The name that the cluster has for it: `m1` and so on.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0 + 1)
    }
}

/// A running cluster. Everything of it ends when it is dropped, and also when this process is killed.
#[derive(Debug)]
pub struct Cluster {
    kind: Kind,
    dir: PathBuf,
    network: Ipv4Addr,
    /// Whether each member has power.
    on: Vec<bool>,
    identity: Identity,
    /// Known once the cluster is formed.
    certificate: Option<Fingerprint>,
    // Last: nothing else of this may need a daemon when it goes.
    keeper: Keeper,
}

impl Cluster {
    /// Starts one of that many members and returns when instances can be made on each. Ask [`super::unavailable`] first.
    pub async fn start(kind: Kind, members: usize) -> Result<Self> {
        let dir = make_dir(&format!("l{}c-", &kind.name()[..1]))?;
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        // Apart from other processes', and from those that this one starts at the same time.
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

    /// Starts one that has the image for environments under the alias that they are made from.
    pub async fn with_image(kind: Kind, members: usize, image: &Path) -> Result<Self> {
        let cluster = Self::start(kind, members).await?;
        upload(&cluster.client(Member(0))?, image).await?;
        Ok(cluster)
    }

    /// LXD or Incus.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where all that the cluster has is. The bridge has the directory's name, and so has the cgroup; each member's veth begins
    /// with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All members, those that are off included.
    pub fn members(&self) -> impl Iterator<Item = Member> + use<> {
        (0..self.on.len()).map(Member)
    }

    /// A member's address, which is the host of its URL and of its instances' ports.
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

    /// A client that the cluster trusts, asking that member.
    pub fn client(&self, member: Member) -> Result<Client> {
        let url = self.url(member).parse().map_err(|e| self.unusable(&e))?;
        let name = format!("{}-{member}", self.kind.name());
        let certificate = self.certificate.ok_or_else(|| self.unusable(&"it is not formed"))?;
        let config = ClientConfig::new(&name, url, self.identity.clone(), certificate);
        Client::new(config).map_err(|e| self.unusable(&e))
    }

    /// A new enrolment token of a member. LXD 5.0 takes it only there; who has enrolled is trusted by all.
    pub async fn token(&self, member: Member, client_name: &str) -> Result<String> {
        token(&self.socket(member), client_name).await
    }

    /// One call to whichever member lives, with all that the daemon lets its own machine do; returns the answer's `metadata`.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        socket::call(&self.socket(self.living()?), method, path, body).await
    }

    /// As [`Cluster::call`], for a call that starts an operation: waits for its end.
    pub async fn carry_out(&self, method: &str, path: &str, body: &Value, within: Duration) -> Result<Value> {
        socket::carry_out(&self.socket(self.living()?), method, path, body, within).await
    }

    /// The member that decides for the others, if there is one now.
    pub async fn leader(&self) -> Result<Option<Member>> {
        let members = self.call("GET", "/1.0/cluster/members?recursion=1", &Value::Null).await?;
        let leads =
            |m: &&Value| m["roles"].as_array().is_some_and(|all| all.contains(&json!("database-leader")));
        let leader = members.as_array().into_iter().flatten().find(leads);
        Ok(leader.and_then(|m| Member::named(m["server_name"].as_str()?)))
    }

    /// Each of the instances of all projects: its project, its status, and where it is.
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

    /// Ends a member as a power failure does, with all that runs on it. The others find out when its heartbeat does not come.
    pub async fn kill(&mut self, member: Member) -> Result<()> {
        self.keeper.tell(&format!("kill {member}"))?;
        self.on[member.0] = false;
        let veth = Path::new("/sys/class/net").join(format!("{}{member}", self.keeper.bridge));
        until(&format!("the end of {member}"), KILL_TIME, async || {
            Ok(if veth.exists() { Step::NotYet("its network is there".into()) } else { Step::Done(()) })
        })
        .await
    }

    /// Starts a member again with what is on its disk, and waits until its daemon answers.
    pub async fn boot_again(&mut self, member: Member) -> Result<()> {
        self.boot(member)?;
        self.ready(member).await
    }

    /// Takes a member's network cable out: it runs on, and nobody reaches it.
    pub fn cut(&mut self, member: Member) -> Result<()> {
        self.keeper.tell(&format!("cut {member}"))
    }

    /// Puts a member's network cable back.
    pub fn mend(&mut self, member: Member) -> Result<()> {
        self.keeper.tell(&format!("mend {member}"))
    }

    /// Has a member's instances moved away, or stopped where they do not move, and keeps new ones off it.
    pub async fn evacuate(&self, member: Member) -> Result<()> {
        self.set_state(member, "evacuate").await
    }

    /// Undoes [`Cluster::evacuate`]: the instances come back.
    pub async fn restore(&self, member: Member) -> Result<()> {
        self.set_state(member, "restore").await
    }

    async fn set_state(&self, member: Member, action: &str) -> Result<()> {
        let path = format!("/1.0/cluster/members/{member}/state");
        self.carry_out("POST", &path, &json!({"action": action}), EVACUATION_TIME).await.map(drop)
    }

    /// Sets whether a member gets instances only when it is named for them (`scheduler.instance`).
    pub async fn set_manual(&self, member: Member, manual: bool) -> Result<()> {
        let scheduler = if manual { "manual" } else { "all" };
        self.change(member, |now| now["config"]["scheduler.instance"] = scheduler.into()).await
    }

    /// Puts a member in these groups and no others; those that are not there are made.
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

    /// Waits until the cluster says `status` of a member: `Online`, `Offline`, `Evacuated`.
    pub async fn wait_for_status(&self, member: Member, status: &str) -> Result<()> {
        let path = format!("/1.0/cluster/members/{member}");
        until(&format!("{member} to be {status}"), STATUS_TIME, async || {
            Ok(match self.call("GET", &path, &Value::Null).await {
                Ok(now) if now["status"] == status => Step::Done(()),
                Ok(now) => Step::NotYet(format!("{}: {}", now["status"], now["message"])),
                // While a new leader is found nobody answers.
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
        until(&format!("{member} of {} to answer on its socket", self.kind.name()), START_TIME, async || {
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
        })
        .await
    }

    /// Makes a cluster of fresh daemons, with a pool, a bridge for instances and a profile.
    async fn form(&self) -> Result<()> {
        let first = Member(0);
        let call =
            async |method, path: &str, body| socket::call(&self.socket(first), method, path, &body).await;
        let address = |member| format!("{}:{PORT}", self.address(member));
        call("PATCH", "/1.0", json!({"config": {"core.https_address": address(first)}})).await?;
        let bootstrap = json!({"server_name": first.to_string(), "enabled": true});
        socket::carry_out(&self.socket(first), "PUT", "/1.0/cluster", &bootstrap, JOIN_TIME).await?;
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
            socket::carry_out(&self.socket(member), "PUT", "/1.0/cluster", &join, JOIN_TIME).await?;
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

/// An instance, as the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its project.
    pub project: String,
    /// `Running`, `Stopped`, or `Error` when its member does not answer.
    pub status: String,
    /// Where it is.
    pub member: Option<Member>,
}

/// The name of the managed bridge that instances are on, as the packages' own first set-up calls it.
pub fn bridge(kind: Kind) -> &'static str {
    match kind {
        Kind::Lxd => "lxdbr0",
        Kind::Incus => "incusbr0",
    }
}

/// The address of a host of a network.
fn host(network: Ipv4Addr, number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits() + u32::try_from(number).unwrap_or(u32::MAX))
}

/// A network that this machine has no route into; where the search begins depends on `seed`, so that those who search at the
/// same time find different ones. `routes` is `/proc/net/route`.
fn free_network(routes: &str, seed: u32) -> Option<Ipv4Addr> {
    let hex = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::swap_bytes);
    let taken: Vec<(u32, u32)> = routes
        .lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            Some((hex(words.get(1)?)?, hex(words.get(7)?)?))
        })
        // The default route leads everywhere.
        .filter(|(_, mask)| *mask != 0)
        .collect();
    let (range, length) = RANGE;
    let (count, mask) = (1u32 << (PREFIX - length), u32::MAX << (32 - PREFIX));
    (0..count)
        .map(|step| range.to_bits() + ((seed.wrapping_add(step) % count) << (32 - PREFIX)))
        .find(|network| taken.iter().all(|(to, other)| (to ^ network) & (other & mask) != 0))
        .map(Ipv4Addr::from_bits)
}

/// The process that runs the members and takes everything down once we have let go of its stdin.
#[derive(Debug)]
struct Keeper {
    dir: PathBuf,
    bridge: String,
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Keeper {
    fn start(dir: &Path, network: Ipv4Addr) -> Result<Self> {
        // With a member's name at most 15 characters, and unlike any other.
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
            // Out of the signals that are sent to us.
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
        // It works through a list in which every wait has an end.
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
