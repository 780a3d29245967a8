//! Where an environment lives and what it runs: from the environment variables, or flags of the same meaning.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use crate::confine::{self, Users};
use crate::service::{Keeper, Supervision};

/// The state directory of a machine's own environment.
pub const DEFAULT_DIR: &str = "/var/lib/lnplay";

/// What is the same for every command of `lnplay`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// State directory: the chain, the nodes, their keys
    #[arg(long, env = "LNPLAY_DIR", default_value = DEFAULT_DIR, global = true)]
    pub dir: PathBuf,
    /// The IP address that everything binds to
    #[arg(long, env = "LNPLAY_ADDRESS", default_value = "127.0.0.1", global = true)]
    pub address: IpAddr,
    /// bitcoind's executable
    #[arg(long, env = "BITCOIND", default_value = "bitcoind", global = true)]
    pub bitcoind: OsString,
    /// lightningd's executable
    #[arg(long, env = "LIGHTNINGD", default_value = "lightningd", global = true)]
    pub lightningd: OsString,
    /// bitcoin-cli's executable, which lightningd calls [default: beside bitcoind, else from PATH]
    #[arg(long, env = "BITCOIN_CLI", global = true)]
    pub bitcoin_cli: Option<OsString>,
    /// The first of the user ids that daemons run as, bitcoind's; the nodes' follow. Takes root [default: all run as the
    /// caller; in an instance, whose systemd keeps the supervisor, 50000]
    #[arg(long, env = "LNPLAY_FIRST_UID", global = true)]
    pub first_uid: Option<u32>,
    /// Who keeps the supervisor
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
        out.extend(self.first_uid.map(|uid| ("LNPLAY_FIRST_UID", uid.to_string().into())));
        out
    }

    /// The users that daemons run as; `None` for the caller.
    pub fn users(&self) -> anyhow::Result<Option<Users>> {
        let of_an_instance = || (Keeper::of(self) == Keeper::Systemd).then_some(confine::FIRST_UID);
        self.first_uid.or_else(of_an_instance).map(Users::new).transpose()
    }

    /// The `bitcoin-cli` to name to lightningd; `None` leaves it to PATH.
    pub fn bitcoin_cli(&self) -> Option<OsString> {
        let beside = || Some(PathBuf::from(&self.bitcoind).parent()?.join("bitcoin-cli"));
        self.bitcoin_cli.clone().or_else(|| Some(beside().filter(|path| path.is_file())?.into_os_string()))
    }
}
