//! Damage to a simulated environment that it cannot mend by itself.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// Takes the directory of one node away, and kills the node: it cannot start again. `instance` is the environment's instance, as
/// [`sim_lxd::SimRemote::instance_dir`] gives it.
pub fn ruin_node(instance: &Path, index: u32) -> Result<()> {
    let dir = instance.join(format!("lnplay/nodes/{index:02}"));
    // Its processes have it as their working directory.
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(|source| reading(Path::new("/proc"), source))?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        // Processes end while they are listed.
        let here = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir));
        pids.extend(pid.filter(|_| here));
    }
    if pids.is_empty() {
        return Err(Error::Unusable(format!("no process runs in {}", dir.display())));
    }
    fs::rename(&dir, dir.with_extension("ruined")).map_err(|source| Error::File {
        doing: "renaming",
        path: dir.clone(),
        source,
    })?;
    for pid in pids {
        // Some end with others.
        let _gone =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    Ok(())
}

fn reading(path: &Path, source: std::io::Error) -> Error {
    Error::File { doing: "reading", path: path.into(), source }
}
