//! An image that boots in milliseconds.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All that is in it, in Debian's package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// The reason why it cannot be made here, if there is one.
pub(crate) fn missing() -> Option<String> {
    (!Path::new(BUSYBOX).exists()).then(|| format!("there is no {BUSYBOX} to make an image from"))
}

/// An image whose init ends when it is asked to, unless it is made stubborn.
pub(crate) fn build(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    for sub in ["bin", "sbin", "proc", "sys", "dev", "etc", "run", "tmp"] {
        std::fs::create_dir_all(root.join(sub)).expect("a directory");
    }
    std::fs::copy(BUSYBOX, root.join("bin/busybox")).expect("copied");
    let init = "#!/bin/busybox sh\nif [ -n \"$STUBBORN\" ]; then trap '' PWR TERM INT; else trap 'exit 0' PWR TERM INT; fi\n\
                while :; do /bin/busybox sleep 1; done\n";
    std::fs::write(root.join("sbin/init"), init).expect("written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.join("sbin/init"), mode).expect("executable");
    let architecture = std::env::consts::ARCH;
    let metadata = format!("architecture: {architecture}\ncreation_date: 1700000000\n");
    std::fs::write(dir.join("metadata.yaml"), metadata).expect("written");
    let path = dir.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir).arg("-cf").arg(&path).args(["metadata.yaml", "rootfs"]);
    assert!(tar.status().expect("tar runs").success());
    path
}
