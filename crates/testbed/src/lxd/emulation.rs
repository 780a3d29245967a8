//! Virtual machines without KVM, for [`Server::emulating`](super::Server::emulating). See `tests/vm-emulation`.

use std::path::{Path, PathBuf};

use super::{Kind, unavailable};
use crate::{Error, Result};

/// Names the directory for [`emulation`].
pub const EMULATION: &str = "TESTBED_VM_EMULATION";

/// A directory created by `tests/vm-emulation/build`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulation(PathBuf);

impl Emulation {
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }
}

/// The tools with which servers run virtual machines without KVM, built by `tests/vm-emulation/build` and named by
/// `TESTBED_VM_EMULATION`.
pub fn emulation() -> Result<Emulation> {
    let hint = "make it with tests/vm-emulation/build, or run tests/run vm".into();
    let missing = |looked| Error::Missing { program: "vm-emulation".into(), looked, hint };
    match std::env::var_os(EMULATION).map(PathBuf::from) {
        Some(path) if path.join("run").is_file() => Ok(Emulation(path)),
        Some(path) => Err(missing(format!("{EMULATION}={}", path.display()))),
        None => Err(missing(format!("{EMULATION}, which is not set"))),
    }
}

/// The reason why servers with virtual machines cannot run on this machine, or `None` if they can.
pub fn no_machines(kind: Kind) -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("virtual machines are emulated on x86-64 only".into());
    }
    let needed = [
        ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
        ("/usr/bin/qemu-img", "qemu-utils"),
        ("/usr/bin/mkisofs", "genisoimage"),
        ("/usr/bin/python3", "python3"),
        ("/usr/sbin/nft", "nftables"),
        ("/usr/share/OVMF", "ovmf"),
    ];
    let missing = needed.iter().find(|(path, _)| !Path::new(path).exists());
    let missing = missing.map(|(path, package)| format!("{path} is not there: install {package}"));
    unavailable(kind).or(missing)
}
