//! The host's limits on open connections, as rules of the kernel, against clients with many addresses.
//!
//! Two network namespaces are joined by a cable: the host, with the rules that the NixOS module loads, and the world.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;
use testbed::skip;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;
use tokio::time::timeout;

const RULES: &str = include_str!("../../../nixos/modules/lnplaylive/connections.nft");
const LIMITS: [(&str, usize); 6] = [
    ("per_client", 6),
    ("per_network", 15),
    ("total", 40),
    ("peers_per_client", 2),
    ("peers_per_network", 5),
    ("peers_total", 12),
];
/// A connection that the rules drop is not answered; any other is within a millisecond.
const ANSWER: Duration = Duration::from_millis(300);

fn limit(name: &str) -> usize {
    LIMITS.iter().find(|(known, _)| *known == name).expect("a limit").1
}

/// Runs a program that must succeed.
fn run(program: &str, args: &str) {
    let output = Command::new(program).args(args.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `work` in a namespace.
fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{name}")).expect("a namespace");
    thread::scope(|scope| {
        let work = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may");
            work()
        });
        work.join().expect("it does not panic")
    })
}

/// Two namespaces and the cable between them, which are removed when it is dropped.
struct Net {
    host: String,
    world: String,
}

impl Net {
    fn new() -> Self {
        let id = std::process::id();
        let net = Self { host: format!("lnplay-h{id}"), world: format!("lnplay-w{id}") };
        let (host, world) = (&net.host, &net.world);
        run("ip", &format!("netns add {host}"));
        run("ip", &format!("netns add {world}"));
        run("ip", &format!("-n {host} link add eth0 type veth peer name eth0 netns {world}"));
        for (name, last) in [(host, 1), (world, 2)] {
            run("ip", &format!("-n {name} link set lo up"));
            run("ip", &format!("-n {name} link set eth0 up"));
            run("ip", &format!("-n {name} address add 10.0.0.{last}/8 dev eth0"));
            run("ip", &format!("-n {name} address add fd00::{last}/8 dev eth0 nodad"));
        }
        net
    }

    fn load(&self, rules: &str) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("rules.nft");
        let rules = LIMITS.iter().fold(rules.to_owned(), |rules, (name, number)| {
            rules.replace(&format!("@{name}@"), &number.to_string())
        });
        std::fs::write(&file, format!("table inet lnplaylive {{\n{rules}}}\n")).expect("it is ours");
        run("ip", &format!("netns exec {} nft -f {}", self.host, file.display()));
    }

    /// A server of the host, which closes a connection when the client does.
    fn serve(&self, port: u16) {
        let listener = inside(&self.host, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
        let listener = listener.expect("a free port");
        // For as long as the test runs.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                thread::spawn(move || stream.read(&mut [0]).ok());
            }
        });
    }

    /// Connects `count` times from an address of the world, which is added first. Returns the connections that were answered.
    fn connect(&self, from: IpAddr, port: u16, count: usize) -> Vec<TcpStream> {
        let length = if from.is_ipv4() { 8 } else { 16 };
        let flags = if from.is_ipv4() { "" } else { " nodad" };
        run("ip", &format!("-n {} address replace {from}/{length} dev eth0{flags}", self.world));
        let to: IpAddr = if from.is_ipv4() {
            Ipv4Addr::new(10, 0, 0, 1).into()
        } else {
            "fd00::1".parse().expect("an address")
        };
        let to = SocketAddr::new(to, port);
        inside(&self.world, move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let connections = runtime.block_on(async {
                let attempts: Vec<_> = (0..count).map(|_| tokio::spawn(connect(from, to))).collect();
                let mut answered = Vec::new();
                for attempt in attempts {
                    answered.extend(attempt.await.expect("it does not panic"));
                }
                answered
            });
            // They stay open after the runtime.
            connections.into_iter().map(|one| one.into_std().expect("a socket")).collect()
        })
    }
}

/// Connects from an address of this namespace; `None` if nobody answers.
async fn connect(from: IpAddr, to: SocketAddr) -> Option<tokio::net::TcpStream> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.expect("a socket");
    socket.bind((from, 0).into()).expect("an address of this namespace");
    timeout(ANSWER, socket.connect(to)).await.ok()?.ok()
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.host, &self.world] {
            drop(Command::new("ip").args(["netns", "delete", name]).status());
        }
    }
}

/// `None`, and reported, where the rules cannot be tested.
fn net() -> Option<Net> {
    let missing = |program: &&&str| Command::new(program).arg("-V").output().is_err();
    if !geteuid().is_root() {
        skip("limits on connections", &"only root can make network namespaces");
    } else if let Some(program) = ["ip", "nft"].iter().find(missing) {
        skip("limits on connections", &format!("no {program} on PATH"));
    } else {
        return Some(Net::new());
    }
    None
}

fn v4(network: u8, client: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, network, client).into()
}

fn v6(site: u16, network: u16, client: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 1, site, network, 0, 0, 0, client).into()
}

/// Clients and networks get their share of connections, all together get theirs, and those that are closed count no more.
/// Without the rules every connection is answered.
#[test]
fn connections_are_shared_out() {
    let Some(net) = net() else { return };
    net.serve(443);
    net.serve(9735);
    let many = 2 * limit("total");
    assert_eq!(net.connect(v4(1, 1), 443, many).len(), many, "without rules");
    net.load(RULES);

    let one = net.connect(v4(2, 1), 443, many);
    assert_eq!(one.len(), limit("per_client"), "a client");
    let others: Vec<_> = (2..=9).flat_map(|client| net.connect(v4(2, client), 443, many)).collect();
    assert_eq!(one.len() + others.len(), limit("per_network"), "a network");
    assert_eq!(net.connect(v4(3, 1), 443, 1).len(), 1, "a buyer elsewhere");
    drop((one, others));

    // A thousand addresses of an IPv6 network are one client; other such networks of the same site share.
    let addresses: Vec<_> = (1..=20).flat_map(|client| net.connect(v6(1, 1, client), 443, 1)).collect();
    assert_eq!(addresses.len(), limit("per_client"), "a /64");
    let site: Vec<_> = (2..=9).flat_map(|network| net.connect(v6(1, network, 1), 443, many)).collect();
    assert_eq!(addresses.len() + site.len(), limit("per_network"), "a /48");
    assert_eq!(net.connect(v6(2, 1, 1), 443, 1).len(), 1, "a buyer at another site");

    let all: Vec<_> = (10..=30).flat_map(|network| net.connect(v4(network, 1), 443, many)).collect();
    let open = addresses.len() + site.len() + all.len();
    // The kernel may still count a connection that was just closed.
    assert!((limit("total") - 2..=limit("total")).contains(&open), "{open} of {}", limit("total"));

    // The node's port has a count of its own, also while the web shop's is used up.
    let peers = net.connect(v4(2, 1), 9735, many);
    assert_eq!(peers.len(), limit("peers_per_client"), "a peer's address");
    assert_eq!(net.connect(v4(4, 1), 9735, 1).len(), 1, "another peer");
}
