//! The state directory: everything of an environment that survives a crash.
//!
//! Files are replaced atomically and are readable by their owner only, since most of them hold a key.

use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lnplaylive_core::EnvironmentSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::confine::{self, Users};

/// The most bytes that are read of any file or stream of ours. A spec of 64 nodes has some 10 kB.
pub const MAX_SIZE: u64 = 1 << 20;

/// Unix socket paths have at most 107 bytes; the longest of ours is that of a node's RPC socket.
const MAX_DIR: usize = 107 - "/nodes/00/regtest/lightning-rpc".len();

/// Reads at most [`MAX_SIZE`] bytes; more is an error.
pub fn read_bounded(from: impl Read) -> io::Result<Vec<u8>> {
    read_at_most(MAX_SIZE, from)
}

/// Reads at most `limit` bytes; more is an error.
pub fn read_at_most(limit: u64, from: impl Read) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    from.take(limit + 1).read_to_end(&mut out)?;
    if out.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} bytes")));
    }
    Ok(out)
}

/// Reads a regular file of at most `limit` bytes; empty if there is none. Neither follows a link nor waits for a pipe: the
/// file may be that of somebody who means harm.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match fs::File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    read_at_most(limit, file)
}

/// An environment's state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The state directory at `root`; touches nothing.
    pub fn new(root: &Path) -> anyhow::Result<Self> {
        let root =
            std::path::absolute(root).with_context(|| format!("state directory {}", root.display()))?;
        if root.as_os_str().len() > MAX_DIR {
            bail!(
                "the state directory {} is too long for the sockets in it; choose one of at most {MAX_DIR} bytes (LNPLAY_DIR)",
                root.display()
            );
        }
        Ok(Self { root })
    }

    /// Creates the directory, closed to others, unless it exists. The daemons' users can pass through it to their own
    /// directories, but cannot list it.
    pub fn create(&self, users: Option<Users>) -> anyhow::Result<()> {
        for dir in [self.root.clone(), self.bitcoin(), self.nodes(), self.locks(), self.logs()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("cannot make the state directory {} (LNPLAY_DIR)", dir.display()))?;
        }
        let passage = if users.is_some() { 0o711 } else { 0o700 };
        for dir in [&self.root, &self.nodes()] {
            // A directory that existed before may have been open.
            fs::set_permissions(dir, fs::Permissions::from_mode(passage))
                .with_context(|| format!("cannot close {} to others", dir.display()))?;
        }
        if let Some(users) = users {
            confine::own_dir(&self.bitcoin(), users.bitcoind(), users.group())?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// bitcoind's data directory.
    pub fn bitcoin(&self) -> PathBuf {
        self.root.join("bitcoin")
    }

    /// The directory from which nodes with users of their own read their login at bitcoind.
    pub fn bitcoin_client(&self) -> PathBuf {
        self.root.join("bitcoin-client")
    }

    fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// Node `index`'s `lightning-dir`.
    pub fn node(&self, index: u32) -> PathBuf {
        self.nodes().join(format!("{index:02}"))
    }

    /// The file with the identity of node `index`.
    pub fn identity(&self, index: u32) -> PathBuf {
        self.nodes().join(format!("{index:02}.json"))
    }

    /// The file with the spec.
    pub fn spec(&self) -> PathBuf {
        self.root.join("spec.json")
    }

    /// The file with the key that blocks are mined to.
    pub fn mining_key(&self) -> PathBuf {
        self.root.join("mining.wif")
    }

    /// The file with the funding transaction.
    pub fn funding(&self) -> PathBuf {
        self.root.join("funding.json")
    }

    /// The file that records that the channels of the spec were opened.
    pub fn channels(&self) -> PathBuf {
        self.root.join("channels.json")
    }

    /// The file with what the organiser has switched off.
    pub fn switches(&self) -> PathBuf {
        self.root.join("switches.json")
    }

    /// The file with the organiser's requests that were carried out.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger.json")
    }

    /// The file with the payment requests that nodes show to the room.
    pub fn requests(&self) -> PathBuf {
        self.root.join("requests.json")
    }

    /// The file with the tip of the chain.
    pub fn tip(&self) -> PathBuf {
        self.root.join("tip.json")
    }

    /// The file with the height of the chain that versions before [`StateDir::tip`] wrote.
    pub fn old_height(&self) -> PathBuf {
        self.root.join("height.json")
    }

    /// The supervisor's control socket.
    pub fn control(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The lock that the supervisor holds, see [`crate::lock`].
    pub fn supervisor_lock(&self) -> PathBuf {
        self.root.join("supervisor.lock")
    }

    /// The lock that the child of this name holds.
    pub fn child_lock(&self, name: &str) -> PathBuf {
        self.locks().join(name)
    }

    /// The lock files of all children.
    pub fn child_locks(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(self.locks()) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of the child of this name, or of the `supervisor`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The spec of the environment; `None` if there is no environment yet.
    pub fn stored_spec(&self) -> anyhow::Result<Option<EnvironmentSpec>> {
        read_json(&self.spec())
    }

    /// Stores the spec of a new environment. Fails if there is an environment of another spec.
    pub fn adopt_spec(&self, spec: &EnvironmentSpec) -> anyhow::Result<()> {
        if self.stored_spec()?.is_none() {
            let bytes = serde_json::to_vec_pretty(spec)?;
            // Another `lnplay up` may be faster.
            atomic_file::create(&self.spec(), &bytes, 0o600)
                .with_context(|| format!("cannot write {}", self.spec().display()))?;
        }
        let stored = self.stored_spec()?;
        if stored.as_ref() != Some(spec) {
            let name = stored.map(|spec| spec.environment).unwrap_or_default();
            bail!(
                "{} holds an environment (`{name}`) of another spec; bring it up with its own spec, or run `lnplay down` and name another directory (LNPLAY_DIR)",
                self.root.display()
            );
        }
        Ok(())
    }
}

/// Replaces a private file atomically.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    atomic_file::replace(path, bytes, 0o600).with_context(|| format!("cannot write {}", path.display()))
}

/// As [`write`], as JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write(path, &serde_json::to_vec(value)?)
}

/// Reads a file of ours; `None` if there is none.
pub fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::File::open(path).and_then(read_bounded) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// As [`read`], as JSON.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    };
    read(path)?.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_the_allowed_size_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        assert_eq!(read_regular(&path("missing"), 10).expect("nothing"), b"");
        std::fs::write(path("file"), "0123456789").expect("written");
        assert_eq!(read_regular(&path("file"), 10).expect("it fits"), b"0123456789");
        assert!(read_regular(&path("file"), 9).is_err());
        std::os::unix::fs::symlink(path("file"), path("link")).expect("linked");
        assert!(read_regular(&path("link"), 10).is_err());
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(read_regular(&path("pipe"), 10).is_err(), "and nobody waits for a writer");
        assert!(read_regular(dir.path(), 10).is_err());
    }
}
