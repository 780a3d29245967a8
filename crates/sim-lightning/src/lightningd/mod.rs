//! `sim-lightningd`: a node that behaves like lightningd at its interfaces.
//!
//! | module | interface |
//! |---|---|
//! | `options`, `log` | command line, configuration files, log lines |
//! | `rpc`, `params` | JSON-RPC over the unix socket |
//! | `invoices`, `datastore`, `rune_rules`, `wallet`, `channels`, `indexes` | the methods themselves |
//! | `plugins` | the plugin protocol over stdio |
//! | `peers` | BOLT 8 over TCP and WebSocket, commando, and the messages that simulated nodes send each other |
//! | `store` | the state that survives a kill |

mod bitcoin_rpc;
mod channels;
mod datastore;
mod indexes;
mod invoices;
mod log;
mod options;
mod params;
mod peers;
mod plugins;
mod rpc;
mod rune_rules;
mod runes;
mod store;
mod wallet;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use lightning::sign::KeysManager;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::bitcoin_rpc::BitcoinRpc;
use self::log::{Level, Log};
use self::options::{Options, Refused};
use self::store::{Change, Store};

/// The version in `--version` and `getinfo`: the simulated version, marked as simulated.
const VERSION: &str = "v26.04.1-simulated";
/// Time-out for bitcoind's first answer.
const BITCOIND_TIMEOUT: Duration = Duration::from_secs(60);
/// Time-out for plugins that subscribed to the shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the daemon until `stop`, SIGTERM or SIGINT. If it cannot start, it prints the reason to standard error.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match Options::read(args.skip(1)) {
        Ok(options) => options,
        Err(Refused(sentence)) => {
            eprintln!("lightningd: {sentence}");
            return ExitCode::FAILURE;
        }
    };
    if options.is_set("version") {
        println!("{VERSION}");
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lightningd: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(options));
    // Waiting tasks have nothing left to do.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lightningd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The reason why the daemon exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitReason {
    Running,
    Asked,
    /// An important plugin exited.
    PluginLost,
}

/// The tip of the chain.
#[derive(Clone, Copy, Debug, Default)]
struct Tip {
    height: u32,
    hash: Option<bitcoin::BlockHash>,
}

/// The node, with the state that all interfaces share.
struct Node {
    options: Options,
    developer: bool,
    log: Log,
    dir: PathBuf,
    alias: String,
    color: String,
    id: PublicKey,
    secp: Secp256k1<All>,
    keys: Arc<KeysManager>,
    /// Seed for secrets other than the node's key.
    seed: [u8; 32],
    rune_master: runes::Rune,
    store: Mutex<Store>,
    bitcoin: BitcoinRpc,
    tip: watch::Sender<Tip>,
    /// True once bitcoind has synchronised. It stays true.
    bitcoind_synced: AtomicBool,
    coins: Mutex<wallet::Coins>,
    /// Held while coins are selected and spent.
    spending: tokio::sync::Mutex<()>,
    plugins: plugins::Plugins,
    peers: peers::Peers,
    bindings: Mutex<peers::Bindings>,
    /// Counts changes of invoices, for waiting calls.
    invoice_news: watch::Sender<u64>,
    /// Counts changes of the store, for waiting calls.
    changes: watch::Sender<u64>,
    ending: watch::Sender<ExitReason>,
}

impl Node {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nothing panics while holding it")
    }

    /// Commits to the journal. If that fails, the daemon exits, because it must not answer what it could forget.
    fn commit(&self, store: &mut Store, changes: Vec<Change>) {
        if let Err(error) = store.commit(changes) {
            self.log.broken(&format!("FATAL: writing the journal: {error}"));
            std::process::abort();
        }
        self.changes.send_modify(|count| *count += 1);
    }

    fn end(&self, ending: ExitReason) {
        self.ending.send_if_modified(|now| {
            let first = *now == ExitReason::Running;
            if first {
                *now = ending;
            }
            first
        });
    }

    /// Returns whether deprecated behaviour is enabled: by default, but not in developer mode.
    fn allows_deprecated(&self) -> bool {
        match self.options.last("allow-deprecated-apis") {
            Some(text) => matches!(text, "true" | "1" | "yes" | "on"),
            None => !self.developer,
        }
    }

    /// Derives a secret for one purpose.
    fn derive(&self, purpose: &str) -> [u8; 32] {
        derive(&self.seed, purpose)
    }
}

fn derive(seed: &[u8; 32], purpose: &str) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(seed);
    engine.input(purpose.as_bytes());
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// Unix time in seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let developer = options.is_set("developer");
    let dir = options.network_dir();
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    // Resolved before the directory changes, because relative paths of plugins refer to the starting directory.
    let plugin_paths = options.plugins();
    // As in the real daemon: plugins start in the network's directory, and the socket can have a short relative path.
    std::env::set_current_dir(&dir).with_context(|| format!("changing to {}", dir.display()))?;

    let level = options.last("log-level").map_or(Ok(Level::Info), |name| {
        let name = name.split(':').next().unwrap_or_default();
        Level::parse(name).ok_or_else(|| anyhow::anyhow!("--log-level={name}: unknown log level {name}"))
    })?;
    let log_files: Vec<_> = options.all("log-file").map(PathBuf::from).collect();
    let log = Log::open(level, &log_files).context("opening the log file")?;
    log.info(VERSION);

    let pid_path = options.base.join(options.last("pid-file").unwrap_or("lightningd-regtest.pid"));
    let mut pid_file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&pid_path)
        .context("opening the pid file")?;
    if pid_file.try_lock().is_err() {
        anyhow::bail!("lightningd already running? Error locking PID file {}", pid_path.display());
    }
    pid_file
        .set_len(0)
        .and_then(|()| writeln!(pid_file, "{}", std::process::id()))
        .context("writing the pid file")?;

    let seed = read_or_make_seed(&dir.join("hsm_secret")).context("reading hsm_secret")?;
    let keys = Arc::new(KeysManager::new(&seed, now(), 0, true));
    let secp = Secp256k1::new();
    let secret: SecretKey = keys.get_node_secret_key();
    let id = secret.public_key(&secp);
    let store = Store::open(&dir).with_context(|| format!("replaying the journal in {}", dir.display()))?;
    let id_hex = id.to_string();

    let home = std::env::home_dir().unwrap_or_default();
    let bitcoin_dir = options.last("bitcoin-datadir").map_or_else(|| home.join(".bitcoin"), PathBuf::from);
    let bitcoin = BitcoinRpc {
        address: format!(
            "{}:{}",
            options.last("bitcoin-rpcconnect").unwrap_or("127.0.0.1"),
            options
                .number("bitcoin-rpcport", 18443u16)
                .map_err(|Refused(sentence)| anyhow::anyhow!(sentence))?
        ),
        login: options
            .last("bitcoin-rpcpassword")
            .map(|password| format!("{}:{password}", options.last("bitcoin-rpcuser").unwrap_or_default()))
            .or_else(|| bitcoin_rpc::configured_login(&bitcoin_dir)),
        cookie: bitcoin_dir.join("regtest/.cookie"),
    };
    let poll =
        options.number("dev-bitcoind-poll", 30u64).map_err(|Refused(sentence)| anyhow::anyhow!(sentence))?;
    let alias = options.last("alias").map_or_else(|| format!("SIMULATED-{}", &id_hex[2..8]), str::to_owned);
    if alias.len() > 32 {
        anyhow::bail!("--alias={alias}: Alias '{alias}' is over 32 characters");
    }
    let color = options.last("rgb").map_or_else(|| id_hex[..6].to_owned(), str::to_lowercase);
    if hex::decode(&color).map(|bytes| bytes.len()) != Ok(3) {
        anyhow::bail!("--rgb={color}: RGB value '{color}' is not valid");
    }
    let (died, deaths) = mpsc::unbounded_channel();
    let node = Arc::new(Node {
        developer,
        log,
        alias,
        color,
        id,
        secp,
        rune_master: runes::Rune::master(&derive(&seed, "commando")),
        seed,
        keys,
        store: Mutex::new(store),
        bitcoin,
        tip: watch::Sender::new(Tip::default()),
        bitcoind_synced: AtomicBool::new(false),
        coins: Mutex::default(),
        spending: tokio::sync::Mutex::default(),
        plugins: plugins::Plugins::new(died),
        peers: peers::Peers::default(),
        bindings: Mutex::default(),
        invoice_news: watch::Sender::new(0),
        changes: watch::Sender::new(0),
        ending: watch::Sender::new(ExitReason::Running),
        dir,
        options,
    });
    let result = serve(&node, &plugin_paths, deaths, Duration::from_secs(poll.max(1))).await;
    node.plugins.shut_down(&node, SHUTDOWN_TIMEOUT).await;
    // The last answers, such as that to `stop`, are being sent.
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(std::fs::remove_file(rpc::socket_path(&node)));
    drop(std::fs::remove_file(&pid_path));
    result
}

/// Starts everything and waits for the end.
async fn serve(
    node: &Arc<Node>,
    plugin_paths: &[(PathBuf, bool)],
    deaths: mpsc::UnboundedReceiver<plugins::Death>,
    poll: Duration,
) -> anyhow::Result<ExitCode> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut ending = node.ending.subscribe();
    let ended = async {
        tokio::select! {
            _ = term.recv() => ExitReason::Asked,
            _ = int.recv() => ExitReason::Asked,
            ending = ending.wait_for(|ending| *ending != ExitReason::Running) => ending.map_or(ExitReason::Asked, |ending| *ending),
        }
    };
    let started = async {
        tokio::spawn(plugins::watch_deaths(Arc::clone(node), deaths));
        node.plugins.load(node, plugin_paths).await.map_err(|Refused(sentence)| anyhow::anyhow!(sentence))?;
        node.options
            .check(|name| node.plugins.option_kind(name))
            .map_err(|Refused(sentence)| anyhow::anyhow!(sentence))?;
        wallet::wait_for_bitcoind(node, BITCOIND_TIMEOUT).await?;
        peers::listen(node).await?;
        rpc::listen(node)?;
        node.plugins.initialise(node, true).await.map_err(|Refused(sentence)| anyhow::anyhow!(sentence))?;
        tokio::spawn(wallet::follow_chain(Arc::clone(node), poll));
        tokio::spawn(invoices::expire(Arc::clone(node)));
        peers::reconnect_all(node);
        node.log.info("--------------------------------------------------");
        node.log.info(&format!(
            "Server started with public key {}, alias {} (color #{}) and lightningd {VERSION}",
            node.id, node.alias, node.color
        ));
        anyhow::Ok(())
    };
    tokio::pin!(ended);
    let ending = tokio::select! {
        ending = &mut ended => ending,
        started = started => {
            started?;
            ended.await
        }
    };
    Ok(match ending {
        ExitReason::PluginLost => ExitCode::FAILURE,
        ExitReason::Running | ExitReason::Asked => ExitCode::SUCCESS,
    })
}

/// The node's secret: 32 bytes that only the owner may read.
fn read_or_make_seed(path: &Path) -> std::io::Result<[u8; 32]> {
    match File::open(path) {
        Ok(mut file) => {
            let mut seed = [0; 32];
            file.read_exact(&mut seed)?;
            Ok(seed)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed: [u8; 32] = rand::random();
            atomic_file::create(path, &seed, 0o400)?;
            Ok(seed)
        }
        Err(error) => Err(error),
    }
}

/// `getinfo`.
fn info(node: &Node) -> serde_json::Value {
    let store = node.store();
    let states = |state| store.channels.values().filter(|channel| channel.state == state).count();
    let bindings = node.bindings.lock().expect("nothing panics while holding it");
    let mut info = json!({
        "id": node.id.to_string(),
        "alias": node.alias,
        "color": node.color,
        "num_peers": node.peers.count(),
        "num_pending_channels": states(store::ChannelState::AwaitingLockin),
        "num_active_channels": states(store::ChannelState::Normal),
        "num_inactive_channels": 0,
        "address": bindings.announced,
        "binding": bindings.bound,
        "version": VERSION,
        "blockheight": node.tip.borrow().height,
        "network": "regtest",
        "fees_collected_msat": 0,
        "lightning-dir": node.dir,
        "our_features": feature_set(),
    });
    if !node.bitcoind_synced.load(Ordering::Relaxed) {
        info["warning_bitcoind_sync"] = json!("Bitcoind is not up-to-date with network.");
    }
    info
}

/// The features that the real daemon shows for its default options.
fn feature_set() -> serde_json::Value {
    json!({"init": "800898880a8a59a1", "node": "808898880a8a59a1", "channel": "", "invoice": "02000002024100"})
}

/// Sets a file's permission bits.
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
