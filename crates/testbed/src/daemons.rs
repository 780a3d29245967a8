//! The choice between the real lightningd and bitcoind and their stand-ins.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::{Binary, Error, Result};

/// Real daemons or stand-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// The real `lightningd` and `bitcoind`.
    Real,
    /// `sim-lightningd` and `sim-bitcoind`.
    Simulated,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "real",
            Self::Simulated => "simulated",
        })
    }
}

/// A lightningd and a bitcoind that work together.
#[derive(Clone, Debug)]
pub struct Daemons {
    pub(crate) flavor: Flavor,
    pub(crate) lightningd: PathBuf,
    pub(crate) bitcoind: PathBuf,
    /// The program with which lightningd calls bitcoind; the stand-in needs none.
    pub(crate) bitcoin_cli: Option<PathBuf>,
}

impl Daemons {
    /// The pair of this flavor, or an error that says what is missing.
    pub fn of(flavor: Flavor) -> Result<Self> {
        match flavor {
            Flavor::Real => Self::real(),
            Flavor::Simulated => Self::simulated(),
        }
    }

    /// The real pair if it exists, otherwise the stand-ins. An error if `LIGHTNINGD` or `BITCOIND` is set but unusable.
    pub fn auto() -> Result<Self> {
        let asked_for = ["LIGHTNINGD", "BITCOIND"].iter().any(|name| std::env::var_os(name).is_some());
        match Self::real() {
            Err(Error::Missing { .. }) if !asked_for => Self::simulated(),
            found => found,
        }
    }

    /// The real pair: named by `LIGHTNINGD` and `BITCOIND`, or on PATH. lightningd needs `bitcoin-cli`, which must be next to
    /// bitcoind or on PATH.
    pub fn real() -> Result<Self> {
        let lightningd = named_or_on_path("LIGHTNINGD", "lightningd")?;
        let bitcoind = named_or_on_path("BITCOIND", "bitcoind")?;
        let beside = bitcoind.with_file_name("bitcoin-cli");
        let bitcoin_cli =
            if beside.is_file() { beside } else { named_or_on_path("BITCOIN_CLI", "bitcoin-cli")? };
        Ok(Self { flavor: Flavor::Real, lightningd, bitcoind, bitcoin_cli: Some(bitcoin_cli) })
    }

    /// The stand-ins, which this workspace builds.
    pub fn simulated() -> Result<Self> {
        Ok(Self {
            flavor: Flavor::Simulated,
            lightningd: Binary::SimLightningd.path()?,
            bitcoind: Binary::SimBitcoind.path()?,
            bitcoin_cli: None,
        })
    }

    /// The flavor of the pair.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Path of lightningd.
    pub fn lightningd(&self) -> &std::path::Path {
        &self.lightningd
    }

    /// Path of bitcoind.
    pub fn bitcoind(&self) -> &std::path::Path {
        &self.bitcoind
    }
}

fn named_or_on_path(variable: &str, program: &str) -> Result<PathBuf> {
    let hint = format!("install it, name it in {variable}, or use the simulated daemons");
    let missing = |looked| Error::Missing { program: program.into(), looked, hint };
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        // Absolute, because daemons run in other directories.
        return match path.canonicalize() {
            Ok(path) if path.is_file() => Ok(path),
            _ => Err(missing(format!("{variable}={}", path.display()))),
        };
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| missing("PATH".into()))
}
