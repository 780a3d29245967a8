//! The state directory: what of an environment survives a crash.
//!
//! Files are written beside their place and renamed into it, so that they are whole or absent, and are readable by
//! their owner only: most hold a key.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lnplaylive_core::EnvironmentSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::confine::{self, Users};

/// The most that is read of any file or stream of ours: a spec of 64 nodes is some 10 kB.
pub const MAX_SIZE: u64 = 1 << 20;

/// Unix socket paths are at most 107 bytes long; the longest of ours is a node's RPC socket.
const MAX_DIR: usize = 107 - "/nodes/00/regtest/lightning-rpc".len();

/// Reads at most [`MAX_SIZE`] bytes; more is an error.
pub fn read_bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    from.take(MAX_SIZE + 1).read_to_end(&mut out)?;
    if out.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {MAX_SIZE} bytes")));
    }
    Ok(out)
}

/// An environment's state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Names the directory; touches nothing.
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

    /// Makes the directory, closed to others, unless it is there. Users of the daemons' own may pass through it, each to what
    /// is theirs; they cannot look around.
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
            // What was there before may have been open.
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

    /// What nodes that are users of their own read to log in to bitcoind.
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

    /// Where [`crate::node::Identity`] of node `index` is kept.
    pub fn identity(&self, index: u32) -> PathBuf {
        self.nodes().join(format!("{index:02}.json"))
    }

    /// Where the spec is kept.
    pub fn spec(&self) -> PathBuf {
        self.root.join("spec.json")
    }

    /// Where the key that blocks are mined to is kept.
    pub fn mining_key(&self) -> PathBuf {
        self.root.join("mining.wif")
    }

    /// Where [`crate::chain::Funding`] is kept.
    pub fn funding(&self) -> PathBuf {
        self.root.join("funding.json")
    }

    /// Where it is kept that the channels of the spec were opened.
    pub fn channels(&self) -> PathBuf {
        self.root.join("channels.json")
    }

    /// Where the height of the chain is kept.
    pub fn height(&self) -> PathBuf {
        self.root.join("height.json")
    }

    /// The socket on which the supervisor answers.
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

    /// The locks of all children that there ever were.
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

    /// The spec that the environment was made from; `None` when there is none yet.
    pub fn stored_spec(&self) -> anyhow::Result<Option<EnvironmentSpec>> {
        read_json(&self.spec())
    }

    /// Stores the spec of a new environment. Fails when there is an environment of another spec: its nodes are
    /// somebody's.
    pub fn adopt_spec(&self, spec: &EnvironmentSpec) -> anyhow::Result<()> {
        if self.stored_spec()?.is_none() {
            let bytes = serde_json::to_vec_pretty(spec)?;
            match write_with(&self.spec(), &bytes, false) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.with_context(|| format!("cannot write {}", self.spec().display()))?,
            }
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

fn write_with(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // Mode 0600, as tempfile makes them.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    if replace { file.persist(path) } else { file.persist_noclobber(path) }.map_err(|e| e.error)?;
    fs::File::open(dir)?.sync_all()
}

/// Writes a private file whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with(path, bytes, true).with_context(|| format!("cannot write {}", path.display()))
}

/// As [`write`], as JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write(path, &serde_json::to_vec(value)?)
}

/// Reads a file of ours; `None` when there is none.
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
