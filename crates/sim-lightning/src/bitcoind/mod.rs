//! `sim-bitcoind`: a regtest node with a real chain, but without peers, wallet and script interpreter.

mod chain;
mod methods;
mod options;
mod rpc;
mod show;
mod sign;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::options::Options;

/// The version in `getnetworkinfo`, in the real daemon's format.
const VERSION: u32 = 310_000;

/// Runs the daemon until `stop`, SIGTERM or SIGINT. If it cannot start, it prints the reason to standard error.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match options::parse(args.skip(1)) {
        Ok(options) => options,
        Err(sentence) => {
            eprintln!("{sentence}");
            return ExitCode::FAILURE;
        }
    };
    if options.version_only {
        println!("Bitcoin Core daemon version v31.0.0-simulated bitcoind");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let dir = options.datadir.join("regtest");
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let lock = std::fs::File::create(dir.join(".lock")).context("creating the lock file")?;
    if lock.try_lock().is_err() {
        anyhow::bail!(
            "Cannot obtain a lock on directory {}. Bitcoin Core is probably already running.",
            dir.display()
        );
    }
    let log = Log { file: dir.join("debug.log"), console: options.print_to_console };
    log.line("Bitcoin Core version v31.0.0-simulated (no peers, no wallet, no script checks)");
    let mut chain =
        chain::Chain::open(&dir).with_context(|| format!("reading the blocks in {}", dir.display()))?;
    chain.set_time(options.mock_time);
    chain.check_time()?;
    log.line(&format!("Loaded best chain: hashBestChain={} height={}", chain.best(), chain.height()));
    let login = match &options.rpc_login {
        Some(login) => login.clone(),
        None => write_cookie(&dir).context("writing the cookie file")?,
    };
    std::fs::write(dir.join("bitcoind.pid"), format!("{}\n", std::process::id()))
        .context("writing the pid file")?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let bind = options.rpc_bind.rsplit_once(':').map_or(&*options.rpc_bind, |(host, port)| {
            if port.parse::<u16>().is_ok() && !host.contains(':') { host } else { &options.rpc_bind }
        });
        let address =
            SocketAddr::new(bind.parse().with_context(|| format!("-rpcbind={bind}"))?, options.rpc_port);
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("Unable to bind any endpoint for RPC server ({address})"))?;
        log.line(&format!("Binding RPC on address {}", listener.local_addr()?));
        let node = Arc::new(rpc::Node::new(chain, login, options));
        let stop = Arc::clone(&node);
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let serving = axum::serve(listener, rpc::router(Arc::clone(&node)));
        log.line("init message: Done loading");
        tokio::select! {
            result = async { serving.await } => result.context("serving RPC")?,
            _ = term.recv() => {}
            _ = int.recv() => {}
            () = stop.stopped() => {}
        }
        node.save_pool().context("writing the memory pool")
    });
    log.line("Shutdown: done");
    for name in [".cookie", "bitcoind.pid"] {
        // With a password there is no cookie.
        drop(std::fs::remove_file(dir.join(name)));
    }
    result
}

/// Creates a password and writes it to the cookie file, readable by its owner.
fn write_cookie(dir: &Path) -> std::io::Result<(String, String)> {
    let password = rand::random::<[u8; 32]>().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes everything");
        hex
    });
    let login = ("__cookie__".to_owned(), password);
    let path = dir.join(".cookie");
    drop(std::fs::remove_file(&path));
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    write!(file, "{}:{}", login.0, login.1)?;
    Ok(login)
}

struct Log {
    file: std::path::PathBuf,
    console: bool,
}

impl Log {
    fn line(&self, text: &str) {
        if self.console {
            println!("{text}");
        }
        let file = std::fs::File::options().append(true).create(true).open(&self.file);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{text}")) {
            eprintln!("Error: writing {}: {error}", self.file.display());
        }
    }
}
