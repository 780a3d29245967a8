//! The settings of an environment's supervisor: its directory, its daemons and who keeps it running. They come from
//! environment variables, or from flags of the same meaning.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::confine::{self, Users};
use crate::{plugin, systemd};

/// The state directory of a machine's own environment.
pub const DEFAULT_DIR: &str = "/var/lib/lnplay";

/// The choice of who keeps the supervisor running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Supervision {
    /// systemd where it runs, for root and the default state directory; else nobody
    #[default]
    Auto,
    /// The unit `lnplay.service`
    Systemd,
    /// Nobody: a process of its own, which does not come back after a reboot
    Process,
}

/// The choice of the plugin by which nodes reach bitcoind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ChainBackend {
    /// lnplay's own, over a connection that is kept alive
    #[default]
    Lnplay,
    /// Core Lightning's, which starts bitcoin-cli at each poll
    Bcli,
}

/// The program that keeps the supervisor running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The unit `lnplay.service`.
    Systemd,
    /// Nobody: it is a process of its own.
    Process,
}

/// The properties of a machine that decide who keeps the supervisor running.
#[derive(Debug, Clone, Copy)]
struct Machine {
    systemd: bool,
    root: bool,
}

fn decide(asked: Supervision, machine: Machine, dir: &Path) -> Keeper {
    match asked {
        Supervision::Systemd => Keeper::Systemd,
        Supervision::Auto if machine.systemd && machine.root && dir == Path::new(DEFAULT_DIR) => {
            Keeper::Systemd
        }
        Supervision::Auto | Supervision::Process => Keeper::Process,
    }
}

/// The settings that all commands of `lnplay` share.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// State directory: the chain, the nodes, their keys
    #[arg(long, env = "LNPLAY_DIR", default_value = DEFAULT_DIR, global = true)]
    pub dir: PathBuf,
    /// The IP address that the daemons bind to
    #[arg(long, env = "LNPLAY_ADDRESS", default_value = "127.0.0.1", global = true)]
    pub address: IpAddr,
    /// bitcoind's executable
    #[arg(long, env = "BITCOIND", default_value = "bitcoind", global = true)]
    pub bitcoind: OsString,
    /// lightningd's executable
    #[arg(long, env = "LIGHTNINGD", default_value = "lightningd", global = true)]
    pub lightningd: OsString,
    /// bitcoin-cli's executable, for the backend bcli [default: beside bitcoind, else from PATH]
    #[arg(long, env = "BITCOIN_CLI", global = true)]
    pub bitcoin_cli: Option<OsString>,
    /// The plugin by which nodes reach bitcoind
    #[arg(long, env = plugin::BACKEND_VARIABLE, value_enum, default_value_t, global = true)]
    pub chain_backend: ChainBackend,
    /// The first of the daemons' user ids, bitcoind's; the nodes' follow. Needs root [default: all daemons run as the
    /// caller; in an instance, where systemd keeps the supervisor, 50000]
    #[arg(long, env = "LNPLAY_FIRST_UID", global = true)]
    pub first_uid: Option<u32>,
    /// The keeper of the supervisor
    #[arg(long, env = "LNPLAY_SUPERVISION", value_enum, default_value_t, global = true)]
    pub supervision: Supervision,
}

impl Settings {
    /// The settings of a supervisor as environment variables, for handing them to another `lnplay`.
    pub fn to_environment(&self) -> Vec<(&'static str, OsString)> {
        let mut out = vec![
            ("LNPLAY_DIR", self.dir.clone().into_os_string()),
            ("LNPLAY_ADDRESS", self.address.to_string().into()),
            ("BITCOIND", self.bitcoind.clone()),
            ("LIGHTNINGD", self.lightningd.clone()),
        ];
        out.extend(self.bitcoin_cli.clone().map(|path| ("BITCOIN_CLI", path)));
        if self.chain_backend == ChainBackend::Bcli {
            out.push((plugin::BACKEND_VARIABLE, plugin::BCLI.into()));
        }
        out.extend(self.first_uid.map(|uid| ("LNPLAY_FIRST_UID", uid.to_string().into())));
        out
    }

    /// The program that keeps this environment's supervisor running.
    pub fn keeper(&self) -> Keeper {
        let root = nix::unistd::geteuid().is_root();
        decide(self.supervision, Machine { systemd: systemd::is_running(), root }, &self.dir)
    }

    /// The users that daemons run as; `None` for the caller.
    pub fn users(&self) -> anyhow::Result<Option<Users>> {
        let of_an_instance = || (self.keeper() == Keeper::Systemd).then_some(confine::FIRST_UID);
        self.first_uid.or_else(of_an_instance).map(Users::new).transpose()
    }

    /// The path of `bitcoin-cli` for lightningd; `None` leaves it to PATH.
    pub fn bitcoin_cli(&self) -> Option<OsString> {
        let beside = || Some(PathBuf::from(&self.bitcoind).parent()?.join("bitcoin-cli"));
        self.bitcoin_cli.clone().or_else(|| Some(beside().filter(|path| path.is_file())?.into_os_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_keeps_the_machines_own_environment_only() {
        use Supervision::{Auto, Process, Systemd};
        let (own, other) = (Path::new(DEFAULT_DIR), Path::new("/tmp/environment"));
        let machine = |systemd, root| Machine { systemd, root };
        assert_eq!(decide(Auto, machine(true, true), own), Keeper::Systemd);
        assert_eq!(decide(Auto, machine(true, true), other), Keeper::Process);
        assert_eq!(decide(Auto, machine(true, false), own), Keeper::Process);
        assert_eq!(decide(Auto, machine(false, true), own), Keeper::Process);
        assert_eq!(decide(Process, machine(true, true), own), Keeper::Process);
        assert_eq!(decide(Systemd, machine(false, false), other), Keeper::Systemd);
    }
}
