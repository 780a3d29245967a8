//! The web shop's server as a program of its own, and Caddy in front of it, as on a host.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::process::Process;
use crate::site::find_dist;
use crate::wait::{Step, until};
use crate::{Binary, Error, Result, Shop, reserve_port};

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// What the web shop's server writes before its address.
const SERVING: &str = "serving http://";

/// A running `lnplaylive-frontend`. It ends when this is dropped.
#[derive(Debug)]
pub struct Frontend {
    process: Process,
    address: SocketAddr,
}

impl Frontend {
    /// Serves the pages, `/ws`, products and tickets of this shop on a loopback port. `X-Forwarded-For` of the proxies in these
    /// networks is believed.
    pub async fn start(shop: &Shop, rune: &str, trusted_proxies: &[&str]) -> Result<Self> {
        let dir = shop.workdir().subdir("frontend")?;
        let dist = find_dist().ok_or_else(|| Error::Unusable("the web shop's pages are not here".into()))?;
        let rune_file = written(dir.join("rune"), rune)?;
        let mut program = Command::new(Binary::Frontend.path()?);
        program.env_remove("LNPLAYLIVE_CONFIG").env("RUST_LOG", "info").env("NO_COLOR", "1");
        let mut set = |key: &str, value: &OsStr| {
            program.env(format!("LNPLAYLIVE_FRONTEND__{key}"), value);
        };
        set("LISTEN", "127.0.0.1:0".as_ref());
        set("DIST_DIR", dist.as_os_str());
        set("NODE_ID", shop.host.node.id().as_ref());
        set("RUNE_FILE", rune_file.as_os_str());
        set("PRODUCTS_FILE", shop.products_file().as_os_str());
        set("LIGHTNING_WEBSOCKET", format!("127.0.0.1:{}", shop.host.node.ws_port()).as_ref());
        set("TRUSTED_PROXIES", format!("{trusted_proxies:?}").as_ref());
        if let Some(key) = shop.ticket_key_file() {
            set("TICKET_KEY_FILE", key.as_os_str());
        }
        let mut process = Process::spawn(Binary::Frontend.name(), &mut program, &dir.join("log"))?;
        process.wait_for_log(SERVING, START_TIMEOUT).await?;
        let address = until("the web shop's address", START_TIMEOUT, async || {
            let output = process.output()?;
            let line = output.split(SERVING).nth(1).and_then(|rest| rest.split_once('\n'));
            let address = line.and_then(|(address, _)| address.trim().parse().ok());
            Ok(address.map_or_else(|| Step::NotYet(output.clone()), Step::Done))
        });
        let address = address.await?;
        Ok(Self { process, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns an error with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }
}

/// A running Caddy. It ends when this is dropped.
#[derive(Debug)]
pub struct Caddy {
    _process: Process,
    address: SocketAddr,
}

impl Caddy {
    /// Whether it is on `PATH`.
    pub fn is_installed() -> bool {
        Command::new("caddy").arg("version").output().is_ok()
    }

    /// Forwards plain HTTP from a loopback port to `behind`. `servers` is a `servers` block of a Caddyfile's global options, or
    /// nothing; `dir` is for its files.
    pub async fn start(dir: &Path, servers: &str, behind: SocketAddr) -> Result<Self> {
        // Caddy cannot choose a port itself and say which.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, reserve_port()?));
        let caddyfile = format!(
            "{{\nadmin off\nauto_https off\n{servers}}}\nhttp://:{} {{\nbind 127.0.0.1\nreverse_proxy {behind}\n}}\n",
            address.port()
        );
        let caddyfile = written(dir.join("Caddyfile"), &caddyfile)?;
        let mut caddy = Command::new("caddy");
        caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(caddyfile).env("HOME", dir);
        let mut process = Process::spawn("caddy", &mut caddy, &dir.join("caddy.log"))?;
        let open = until("caddy to listen", START_TIMEOUT, async || {
            process.check()?;
            Ok(match TcpStream::connect(address).await {
                Ok(_) => Step::Done(()),
                Err(error) => Step::NotYet(error.to_string()),
            })
        });
        open.await?;
        Ok(Self { _process: process, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn written(path: PathBuf, text: &str) -> Result<PathBuf> {
    match std::fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(source) => Err(Error::File { doing: "writing", path, source }),
    }
}
