//! The confinement of a daemon: a user of its own, no privileges, and limits on processes, files, memory and disk space.
//!
//! An environment is handed to strangers, and its nodes process whatever attendees send. So bitcoind and every node have a
//! user of their own, which owns the daemon's directory and nothing else on the system. The limits keep one node from
//! starving the others. Confinement needs root and a range of user ids (`LNPLAY_FIRST_UID`), which the unit of an instance
//! sets: on a developer's machine the ids may belong to somebody.
//!
//! It is plain POSIX, since an unprivileged container without nesting allows neither the mounts nor the namespaces of
//! systemd's sandboxing. Limits that only a control group can set (on all of a node's memory and tasks together) come from
//! a scope around the daemon, where systemd runs the supervisor.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

/// The first of an instance's user ids for daemons. An unprivileged container has ids below 65,536 only; these are not
/// assigned by Debian, NixOS or systemd.
pub const FIRST_UID: u32 = 50_000;

const MIB: u64 = 1 << 20;

/// The limits of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads.
    pub tasks: u64,
    /// Open files of each process, sockets included.
    pub files: u64,
    /// Bytes of each file that it writes.
    pub file_bytes: u64,
    /// Bytes of memory: of each process, and in a scope of all processes together.
    pub memory: u64,
    /// Bytes on disk, its log included.
    pub disk: u64,
}

/// A node has 15 to 20 processes, one more for each connection of an attendee, and takes 25 to 50 MB.
pub const NODE: Limits =
    Limits { tasks: 256, files: 4096, file_bytes: 256 * MIB, memory: 384 * MIB, disk: 512 * MIB };

/// bitcoind has some twenty threads, a connection for each node's call, and every block since the start.
pub const BITCOIND: Limits =
    Limits { tasks: 128, files: 4096, file_bytes: 4096 * MIB, memory: 2048 * MIB, disk: 8192 * MIB };

/// The users of an environment's daemons: bitcoind has the first id, node `i` the one `i + 1` after it. The first id is also
/// the group of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Users {
    first: u32,
}

impl Users {
    /// The users from `first` on. Fails if root would be among them.
    pub fn new(first: u32) -> anyhow::Result<Self> {
        ensure!(first > 0, "LNPLAY_FIRST_UID is 0; daemons must not run as root");
        Ok(Self { first })
    }

    /// The group of all of them.
    pub fn group(self) -> u32 {
        self.first
    }

    /// bitcoind's user.
    pub fn bitcoind(self) -> u32 {
        self.first
    }

    /// The user of node `index`.
    pub fn node(self, index: u32) -> u32 {
        self.first + 1 + index
    }
}

/// The user and limits of a daemon. Written as JSON in an argument of `lnplay child`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// User id.
    pub uid: u32,
    /// Group id; the only group.
    pub gid: u32,
    /// Processes and threads of the user.
    pub tasks: u64,
    /// Open files of each process.
    pub files: u64,
    /// Bytes of each file that is written.
    pub file_bytes: u64,
    /// Bytes of memory of each process.
    pub memory: u64,
}

impl FromStr for Confinement {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl Confinement {
    /// The confinement of user `uid` of `users`.
    pub fn new(users: Users, uid: u32, limits: Limits) -> Self {
        let Limits { tasks, files, file_bytes, memory, .. } = limits;
        Self { uid, gid: users.group(), tasks, files, file_bytes, memory }
    }

    /// The argument of `lnplay child`.
    pub fn to_argument(self) -> String {
        serde_json::to_string(&self).expect("plain data")
    }

    /// Confines this process and whatever it executes, irrevocably. Kills all other processes of the user: those of a
    /// predecessor that left its process group.
    pub fn enter(&self) -> anyhow::Result<()> {
        let limit = |what, value| setrlimit(what, value, value).with_context(|| format!("limiting {what:?}"));
        limit(Resource::RLIMIT_NPROC, self.tasks)?;
        limit(Resource::RLIMIT_NOFILE, self.files)?;
        limit(Resource::RLIMIT_FSIZE, self.file_bytes)?;
        limit(Resource::RLIMIT_DATA, self.memory)?;
        limit(Resource::RLIMIT_CORE, 0)?;
        umask(Mode::from_bits_truncate(0o077));
        prctl::set_no_new_privs().context("giving up privileges of programs")?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        ensure!(!uid.is_root() && gid.as_raw() != 0, "a daemon must not run as root");
        setgroups(&[]).context("leaving all groups")?;
        setresgid(gid, gid, gid).context("changing the group")?;
        // Without a root id, the process has no capabilities.
        setresuid(uid, uid, uid).context("changing the user")?;
        ensure!(setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err(), "still root");
        // All other processes of this user.
        match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => Ok(()),
            Err(error) => Err(error).context("ending what else runs as the user"),
        }
    }
}

/// Creates a directory that only user `uid` can access, unless it exists.
pub fn own_dir(path: &Path, uid: u32, gid: u32) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Not recursively: the user may have put links to other files there.
        _ => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
    }
    .with_context(|| format!("making {} for user {uid}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("closing {} to others", path.display()))
}

/// The limit of a daemon's disk space, and the places that count.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Its directory.
    pub dir: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Bytes.
    pub limit: u64,
}

impl Disk {
    /// The bytes in use, if they exceed the limit.
    pub fn excess(&self) -> Option<u64> {
        let used = usage(&self.dir) + usage(&self.log);
        (used > self.limit).then_some(used)
    }
}

/// The most files and directories that are counted: many more than a node has.
const MOST_ENTRIES: usize = 100_000;

/// The bytes on disk of a file, or of everything below a directory. Links are not followed; files that vanish meanwhile do not
/// count; a tree with more than [`MOST_ENTRIES`] exceeds any limit.
fn usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut left = vec![path.to_owned()];
    let (mut bytes, mut seen) = (0, 0);
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes += 512 * metadata.blocks();
        seen += 1;
        if seen > MOST_ENTRIES {
            return u64::MAX / 2;
        }
        if metadata.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            left.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_counted_without_following_links() {
        let dir = tempfile::tempdir().expect("a directory");
        let node = dir.path().join("node");
        fs::create_dir_all(node.join("regtest")).expect("made");
        fs::write(dir.path().join("others"), vec![1; 1 << 20]).expect("written");
        std::os::unix::fs::symlink(dir.path().join("others"), node.join("link")).expect("linked");
        fs::write(node.join("regtest/db"), vec![1; 300 << 10]).expect("written");
        let disk = |limit| Disk { dir: node.clone(), log: dir.path().join("none"), limit };
        assert_eq!(disk(400 << 10).excess(), None);
        assert!(disk(200 << 10).excess().is_some_and(|used| used < 400 << 10));
    }

    #[test]
    fn no_two_daemons_share_a_user() {
        let users = Users::new(FIRST_UID).expect("not root");
        let mut all: Vec<_> = (0..64).map(|index| users.node(index)).collect();
        all.push(users.bitcoind());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 65);
        assert!(all.iter().all(|uid| *uid < 65_534), "an unprivileged container has no more");
        assert!(Users::new(0).is_err());
    }
}
