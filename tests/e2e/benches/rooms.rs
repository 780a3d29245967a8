//! How many environments one server holds: of eight nodes each, with channels in a circle, until a count or an amount of memory is
//! reached. Then all their nodes are asked, a payment is made in each, and one of them goes through a week's blocks.
//!
//! The reference is the first of them: what it takes, and how fast it answers, while there are no others. On real servers, privately:
//!
//! ```text
//! cargo build --workspace --examples
//! TESTBED_TEST_IMAGE=$(tests/image/build target/debug target/test-image) target/debug/examples/with-remote lxd \
//!     cargo bench -p e2e --bench rooms -- real
//! ```
//!
//! Instances are on the disk then, with `TESTBED_SERVER_DIR=DIR` for `with-remote`: files in memory (`/dev/shm`) are not counted as memory
//! that environments take, and yet fill it.
//!
//! `ROOMS` (default 60) and `ROOMS_MEMORY_GB` (default 16) say when to stop, `ROOMS_BLOCKS` (default 10,080) how many blocks a week
//! has. The environments are made without asking whether there is room for their limits, which is what the shop sells by.

use std::time::{Duration, Instant};

use e2e::provisioner_of;
use e2e::timing::{flavor, ms, percentile, remotes};
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Sku, Terms};
use lnplaylive_core::desk::{Action, MAX_BLOCKS};
use lnplaylive_core::order::{Handover, Placement, Policy, Site};
use lnplaylive_core::{
    ChannelSetup, ConnectionString, Customisation, Event, Order, OrderId, PortBlock, ProjectName,
};
use provisioner::{Provisioner, keys};
use serde_json::{Value, json};
use sim_lightning::commando::Client;
use testbed::{Daemons, Shop, ShopConfig};

const NODES: u32 = 8;
/// SSH and the nodes.
const PORTS: u16 = 9;
const FIRST_PORT: u16 = 20_000;
/// Environments that are made at a time: as many as keep two processors busy.
const AT_A_TIME: usize = 2;
/// A node that takes longer is not alive.
const ALIVE: Duration = Duration::from_secs(1);
/// Time in which nobody does anything, for the processors' work.
const IDLE: Duration = Duration::from_secs(60);
/// Amount of each payment.
const MSAT: u64 = 21_000_000;

/// An environment.
struct Room {
    placement: Placement,
    strings: Vec<ConnectionString>,
    took: Duration,
}

#[tokio::main]
async fn main() {
    let (rooms, memory_gb, blocks) =
        (variable("ROOMS", 60), variable("ROOMS_MEMORY_GB", 16), variable("ROOMS_BLOCKS", 10_080));
    let flavor = flavor();
    let daemons = Daemons::of(flavor).expect("the daemons");
    // It enrols, and brings the image.
    let shop =
        Shop::start(ShopConfig { remotes: remotes(), ..ShopConfig::new(daemons) }).await.expect("a shop");
    let provisioner = provisioner_of(&shop);
    let remote = provisioner.survey().await.first().expect("one remote").name.clone();

    let (before, started) = (Machine::now(), Instant::now());
    let make = async |index: usize| make(&provisioner, &remote, index).await;
    let mut all = vec![make(0).await.expect("the first one")];
    let first = [alive(&all).await, pay(&all).await];
    let one = Machine::now();
    println!("the first: {:.1} s, {}", all[0].took.as_secs_f64(), one.since(&before));

    let mut making = stream::iter(1..rooms).map(make).buffer_unordered(AT_A_TIME);
    while let Some(made) = making.next().await {
        match made {
            Ok(room) => all.push(room),
            Err(why) => {
                println!("no more after {}: {why}", all.len());
                break;
            }
        }
        let now = Machine::now();
        if all.len() % 10 == 0 {
            println!("{} in {:.0} s: {}", all.len(), started.elapsed().as_secs_f64(), now.since(&before));
        }
        if before.available.saturating_sub(now.available) >= memory_gb as u64 * 1_000_000_000 {
            println!("no more after {}: they take {memory_gb} GB", all.len());
            break;
        }
    }
    drop(making);
    let took: Vec<_> = all.iter().map(|room| room.took).collect();
    let last = took.iter().rev().take(5).copied().collect::<Vec<_>>();

    let idle = Machine::now();
    tokio::time::sleep(IDLE).await;
    let busy = Machine::now().busy(&idle);
    let every = [alive(&all).await, pay(&all).await];
    let full = Machine::now();
    println!(
        "\n{flavor} daemons; {} environments of {NODES} nodes, {} processors\n",
        all.len(),
        processors()
    );
    println!("| what | one | all |\n|---|---|---|");
    println!(
        "| memory, MB for each | {:.0} | {:.0} |",
        one.memory(&before),
        full.memory(&before) / count(&all)
    );
    println!(
        "| processes for each | {} | {} |",
        one.processes - before.processes,
        (full.processes - before.processes) / all.len()
    );
    println!(
        "| made in, s: first, median of the last five | {:.1} | {:.1} |",
        took[0].as_secs_f64(),
        percentile(&last, 50).as_secs_f64()
    );
    println!("| idle, percent of a processor for each | – | {:.2} |", busy / count(&all));
    for (what, one, every) in [("getinfo", &first[0], &every[0]), ("payment", &first[1], &every[1])] {
        let at = |all: &Answers| {
            format!("{:.0}, {:.0}", ms(percentile(&all.times, 50)), ms(percentile(&all.times, 100)))
        };
        println!("| {what}, ms: median, worst | {} | {} |", at(one), at(every));
        println!("| {what}: failed or over {} s | {} | {} |", ALIVE.as_secs(), one.bad, every.bad);
    }
    println!("\nin use of the most there can be: {}", limits());

    let asked = Instant::now();
    match week(&provisioner, &all[0], u32::try_from(blocks).expect("a number of blocks")).await {
        Ok(mined) => {
            let after = Machine::now();
            println!(
                "\n{mined} blocks in one of them, in {:.0} s; it has {:.0} MB more",
                asked.elapsed().as_secs_f64(),
                after.memory(&full)
            );
            let answers = alive(&all).await;
            let paid = pay(&all[..1]).await;
            println!(
                "after them: getinfo of all {:.0} ms at worst, {} failed; its payment {:.0} ms, {} failed",
                ms(percentile(&answers.times, 100)),
                answers.bad,
                ms(percentile(&paid.times, 100)),
                paid.bad
            );
        }
        Err(why) => println!("\nthe week's blocks: {why}"),
    }
}

fn variable(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[expect(clippy::cast_precision_loss, reason = "a few dozen")]
fn count(rooms: &[Room]) -> f64 {
    rooms.len() as f64
}

async fn make(provisioner: &Provisioner, remote: &str, index: usize) -> Result<Room, String> {
    let customisation = Customisation { channel_setup: ChannelSetup::Circular, ..Customisation::default() };
    let terms = Terms { sku: Sku("A".into()), node_count: NODES, hours: 24, amount_msat: 0, customisation };
    let now = Timestamp::now();
    let order = Order::new(OrderId::random(), terms, now, now);
    let order = order.apply(Event::Paid, now, &Policy::default()).expect("a new order can be paid");
    let first = FIRST_PORT + PORTS * u16::try_from(index).expect("few");
    let placement = Placement {
        remote: remote.to_owned(),
        member: None,
        project: ProjectName::new(now + SignedDuration::from_hours(24), order.id).expect("a name"),
        ports: PortBlock { first, count: PORTS },
        address: None,
        access: keys::generate(),
        prepared: None,
    };
    let asked = Instant::now();
    provisioner.bring_up(&order, &placement).await.map_err(|error| error.chain())?;
    let deployed = provisioner.deploy(&order, &placement, |_| ()).await.map_err(|error| error.chain())?;
    Ok(Room { placement, strings: deployed.connection_strings, took: asked.elapsed() })
}

/// How long answers took, and how many did not come within [`ALIVE`].
#[derive(Default)]
struct Answers {
    times: Vec<Duration>,
    bad: usize,
}

impl Answers {
    fn add(&mut self, what: &str, asked: Instant, answer: Result<Value, String>) {
        let took = asked.elapsed();
        self.times.push(took);
        match answer {
            Ok(_) if took <= ALIVE => {}
            Ok(_) => self.bad += 1,
            Err(error) => {
                println!("{what}: {error}");
                self.bad += 1;
            }
        }
    }
}

async fn call(string: &ConnectionString, method: &str, params: Value) -> Result<Value, String> {
    let client = Client::connect(&string.endpoint.to_string(), string.node_id.as_str()).await;
    let client = client.map_err(|error| error.to_string())?;
    client.call(&string.rune, method, params).await.map_err(|error| error.to_string())
}

/// Asks every node, one after the other.
async fn alive(rooms: &[Room]) -> Answers {
    let mut answers = Answers::default();
    for string in rooms.iter().flat_map(|room| &room.strings) {
        let asked = Instant::now();
        answers.add("getinfo", asked, call(string, "getinfo", json!({})).await);
    }
    answers
}

/// Makes a payment in each environment, from the first node to the second.
async fn pay(rooms: &[Room]) -> Answers {
    let mut answers = Answers::default();
    for room in rooms {
        let label = format!("room-{}", Timestamp::now().as_nanosecond());
        let params = json!({"amount_msat": MSAT, "label": label, "description": "room"});
        let asked = Instant::now();
        let invoice = call(&room.strings[1], "invoice", params).await;
        let paid = match invoice {
            Ok(invoice) => call(&room.strings[0], "xpay", json!({"invstring": invoice["bolt11"]})).await,
            Err(error) => Err(error),
        };
        answers.add("payment", asked, paid);
    }
    answers
}

/// Mines so many blocks in an environment, as its organiser would; returns how many there were.
async fn week(provisioner: &Provisioner, room: &Room, blocks: u32) -> Result<u32, String> {
    let Placement { remote, project, ports, access, .. } = room.placement.clone();
    let site = Site {
        member: None,
        ports,
        address: None,
        client_key: access.client_key.private,
        host_key: access.host_key.public,
    };
    let handover = Handover {
        remote,
        project,
        expires_at: Timestamp::now() + SignedDuration::from_hours(24),
        connection_strings: room.strings.clone(),
        refunded_at: None,
        site: Some(site),
        replaced_at: None,
    };
    let mut mined = 0;
    while mined < blocks {
        let action = Action::Mine { blocks: MAX_BLOCKS, request: None };
        provisioner.desk(&handover, &action).await.map_err(|error| format!("after {mined}: {error}"))?;
        mined += MAX_BLOCKS;
    }
    Ok(mined)
}

/// What this machine has in use.
struct Machine {
    /// Bytes of memory that could still be used, but for files in memory.
    available: u64,
    processes: usize,
    /// Time that the processors have worked, and all time.
    worked: (u64, u64),
}

impl Machine {
    fn now() -> Self {
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_process =
            |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let times: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|n| n.parse().ok())
            .collect();
        let (total, waiting) = (times.iter().sum::<u64>(), times.iter().skip(3).take(2).sum::<u64>());
        Self {
            available: (field(&memory, "MemAvailable:") + field(&memory, "Shmem:")) * 1024,
            processes: all.filter(|entry| is_process(&entry.file_name())).count(),
            worked: (total - waiting, total),
        }
    }

    /// The memory that was taken since, in millions of bytes.
    #[expect(clippy::cast_precision_loss, reason = "millions are shown")]
    fn memory(&self, before: &Self) -> f64 {
        (before.available as f64 - self.available as f64) / 1e6
    }

    /// Percent of one processor that was used since.
    #[expect(clippy::cast_precision_loss, reason = "hundredths of a second")]
    fn busy(&self, before: &Self) -> f64 {
        let (worked, total) = (self.worked.0 - before.worked.0, self.worked.1 - before.worked.1);
        100.0 * processors() as f64 * worked as f64 / total.max(1) as f64
    }

    fn since(&self, before: &Self) -> String {
        format!(
            "{:.0} MB of memory, {} processes",
            self.memory(before),
            self.processes.saturating_sub(before.processes)
        )
    }
}

/// What the kernel counts and bounds, where it says so.
fn limits() -> String {
    let number =
        |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let shown = |name: &str, used: Option<u64>, most: Option<u64>| {
        let text = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        format!("{name} {} of {}", text(used), text(most))
    };
    let files = std::fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    let files: Vec<u64> = files.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let tasks = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = tasks.split_whitespace().nth(3).and_then(|pair| pair.split('/').nth(1)?.parse().ok());
    let neighbours = std::fs::read_to_string("/proc/net/arp")
        .map(|text| text.lines().count().saturating_sub(1) as u64)
        .ok();
    let inotify = std::fs::read_dir("/proc").into_iter().flatten().flatten().flat_map(|process| {
        let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        files.filter(|file| {
            std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:inotify")
        })
    });
    [
        shown("threads", tasks, number("/proc/sys/kernel/pid_max")),
        shown("open files", files.first().copied(), files.get(2).copied()),
        shown("neighbours", neighbours, number("/proc/sys/net/ipv4/neigh/default/gc_thresh3")),
        shown(
            "tracked connections",
            number("/proc/sys/net/netfilter/nf_conntrack_count"),
            number("/proc/sys/net/netfilter/nf_conntrack_max"),
        ),
        shown(
            "inotify instances, of one user at most",
            Some(inotify.count() as u64),
            number("/proc/sys/fs/inotify/max_user_instances"),
        ),
    ]
    .join(", ")
}
