//! Digests of image files, remembered for as long as the files stay as they are.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lnplaylive_core::settings::ImageFiles;
use sha2::{Digest as _, Sha256};

/// Size of the pieces in which files are read, in bytes.
const CHUNK: usize = 1 << 20;

/// The digests so far. Hashing hundreds of megabytes takes seconds, so it is done once for all remotes.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    known: Mutex<HashMap<Vec<PathBuf>, Known>>,
    /// Held while files are hashed: of several remotes with the same image one has it hashed, and the others wait.
    hashing: Mutex<()>,
}

/// A digest, and the files' stamps when they were hashed.
type Known = (Vec<Stamp>, String);

/// What tells that a file has changed: its size and the time of its last change.
type Stamp = (u64, Option<SystemTime>);

impl Digests {
    /// SHA-256 of the files, one after the other, in hexadecimal: LXD's and Incus's fingerprint of an image.
    pub(crate) async fn of(self: &Arc<Self>, files: ImageFiles<'_>) -> std::io::Result<String> {
        let paths: Vec<PathBuf> = paths(files).into_iter().map(Path::to_owned).collect();
        let stamps = stamps(&paths)?;
        if let Some(digest) = self.get(&paths, &stamps) {
            return Ok(digest);
        }
        let digests = Arc::clone(self);
        // It goes on if the caller gives up waiting, and is remembered for the next one.
        tokio::task::spawn_blocking(move || digests.hash(paths)).await.map_err(std::io::Error::other)?
    }

    fn get(&self, paths: &[PathBuf], stamps: &[Stamp]) -> Option<String> {
        let known = lock(&self.known);
        known.get(paths).filter(|(then, _)| then == stamps).map(|(_, digest)| digest.clone())
    }

    fn hash(&self, paths: Vec<PathBuf>) -> std::io::Result<String> {
        let _hashing = lock(&self.hashing);
        // Before the files are read: one that changes meanwhile is hashed again next time.
        let stamps = stamps(&paths)?;
        if let Some(digest) = self.get(&paths, &stamps) {
            return Ok(digest);
        }
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        for path in &paths {
            let mut file = File::open(path)?;
            while let read @ 1.. = file.read(&mut chunk)? {
                hash.update(&chunk[..read]);
            }
        }
        let digest = hex::encode(hash.finalize());
        lock(&self.known).insert(paths, (stamps, digest.clone()));
        Ok(digest)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files in the order in which they are hashed.
pub(crate) fn paths(files: ImageFiles<'_>) -> Vec<&Path> {
    match files {
        ImageFiles::Unified(path) => vec![path],
        ImageFiles::Split { metadata, rootfs } => vec![metadata, rootfs],
    }
}

fn stamps(paths: &[PathBuf]) -> std::io::Result<Vec<Stamp>> {
    let stamp = |path: &PathBuf| std::fs::metadata(path).map(|file| (file.len(), file.modified().ok()));
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn files_are_hashed_again_once_they_have_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let [metadata, rootfs] = ["metadata", "rootfs"].map(|name| dir.path().join(name));
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let write = |path: &Path, text: &str, at: SystemTime| {
            std::fs::write(path, text).expect("written");
            let file = File::options().write(true).open(path).expect("opened");
            file.set_modified(at).expect("set");
        };
        write(&metadata, "ab", then);
        write(&rootfs, "c", then);
        let digests = Arc::new(Digests::default());
        let files = ImageFiles::Split { metadata: &metadata, rootfs: &rootfs };
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digests.of(files).await.expect("hashed"), abc);

        // Neither size nor time tells that this one has changed, so it is not read again.
        write(&rootfs, "d", then);
        assert_eq!(digests.of(files).await.expect("known"), abc);
        write(&rootfs, "c", then + Duration::from_secs(1));
        assert_eq!(digests.of(files).await.expect("hashed"), abc);
        write(&rootfs, "d", then + Duration::from_secs(2));
        assert_ne!(digests.of(files).await.expect("hashed"), abc);

        std::fs::remove_file(&rootfs).expect("removed");
        digests.of(files).await.expect_err("it is gone");
    }
}
