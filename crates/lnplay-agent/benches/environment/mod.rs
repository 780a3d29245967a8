//! An environment of real daemons to measure.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use lnplaylive_core::progress::Line;
use serde_json::json;

use crate::processes::MARK;

/// The address of its daemons.
pub(crate) const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 76, 2, 1));
/// The port of its bitcoind.
pub(crate) const BITCOIND_PORT: u16 = 18443;
/// Anybody's address.
pub(crate) const MINER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// True if there are real daemons; says so if not.
pub(crate) fn has_daemons() -> bool {
    for (variable, program) in [("BITCOIND", "bitcoind"), ("LIGHTNINGD", "lightningd")] {
        let program = std::env::var(variable).unwrap_or_else(|_| program.to_owned());
        if Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: there is no {program}");
            return false;
        }
    }
    true
}

/// An environment; taken down when dropped.
pub(crate) struct Environment {
    dir: tempfile::TempDir,
    backend: &'static str,
}

impl Environment {
    /// One that does not run yet, with this backend of the nodes.
    pub(crate) fn new(backend: &'static str) -> anyhow::Result<Self> {
        Ok(Self { dir: tempfile::TempDir::with_prefix("bench-")?, backend })
    }

    /// Its directory, which is also its processes' mark.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `lnplay` with this argument.
    pub(crate) fn lnplay(&self, argument: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lnplay"));
        command.arg(argument).env(MARK, self.dir.path()).env("LNPLAY_DIR", self.dir.path());
        command.env("LNPLAY_CHAIN_BACKEND", self.backend);
        command.env("LNPLAY_ADDRESS", ADDRESS.to_string()).stderr(Stdio::null());
        command
    }

    /// Brings it up, and returns when it is ready.
    pub(crate) fn up(&self, nodes: u32) -> anyhow::Result<()> {
        let spec = json!({
            "environment": "bench", "node_count": nodes, "block_time": 3600,
            "coin_distribution": "egalitarian", "channel_setup": "none", "seed": 1, "names": [], "colors": [],
            "ports": {"listen_first": 6001, "public_first": 7000},
            "public_url_template": "wss://shop.example/e/{environment}/{node}",
            "connect_page": "https://shop.example/connect",
        });
        let mut up = self.lnplay("up").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        up.stdin.take().context("piped")?.write_all(spec.to_string().as_bytes())?;
        let output = up.wait_with_output()?;
        let lines = String::from_utf8_lossy(&output.stdout);
        let last = lines.lines().last();
        ensure!(matches!(last.and_then(Line::parse), Some(Line::Ready { .. })), "not ready: {last:?}");
        Ok(())
    }

    /// Its bitcoind.
    pub(crate) fn bitcoind(&self) -> daemon_rpc::Bitcoind {
        daemon_rpc::Bitcoind::regtest(&self.path().join("bitcoin"), (ADDRESS, BITCOIND_PORT).into())
    }

    /// The RPC socket of a node.
    pub(crate) fn socket(&self, node: u32) -> std::path::PathBuf {
        self.path().join(format!("nodes/{node:02}/regtest/lightning-rpc"))
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        drop(self.lnplay("down").status());
    }
}
