//! A file that others replace while we run: read again when it has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use std::os::unix::fs::MetadataExt as _;

use tokio::sync::Mutex;

/// Reads such a file. What its error says is logged, so it must not tell what the file has.
type Read<T> = fn(&Path) -> anyhow::Result<T>;

/// The file's content as it was last understood.
///
/// Asking costs one look at the file's metadata. A file that is gone, or cannot be understood, leaves what was
/// read before: not to know is not the same as to know that there is nothing.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    key: &'static str,
    path: PathBuf,
    read: Read<T>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    stamp: Option<Stamp>,
    value: Option<Arc<T>>,
    complaint: Option<String>,
}

/// Changes when the file is replaced or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Watches the file that the setting `key` names; it need not be there yet.
    pub(crate) fn new(key: &'static str, path: PathBuf, read: Read<T>) -> Self {
        Self { key, path, read, state: Mutex::new(State { stamp: None, value: None, complaint: None }) }
    }

    /// What is in it now; none if it never could be read.
    pub(crate) async fn current(&self) -> Option<Arc<T>> {
        let mut state = self.state.lock().await;
        let found = tokio::fs::metadata(&self.path).await;
        let stamp = found.as_ref().ok().map(|metadata| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        });
        if stamp.is_some() && stamp == state.stamp {
            return state.value.clone();
        }
        let outcome = if let Err(error) = found {
            Err(error.into())
        } else {
            let (read, path) = (self.read, self.path.clone());
            tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or_else(|e| Err(e.into()))
        };
        match outcome {
            Ok(value) => {
                tracing::debug!(key = self.key, path = %self.path.display(), "read");
                *state = State { stamp, value: Some(Arc::new(value)), complaint: None };
            }
            Err(error) => {
                // Said once, not at each request.
                let complaint = format!("{error:#}");
                if state.complaint.as_ref() != Some(&complaint) {
                    let (key, path) = (self.key, self.path.display());
                    tracing::warn!("{key}: {path} cannot be used; what was read before stays: {complaint}");
                    state.complaint = Some(complaint);
                }
            }
        }
        state.value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn follows_the_file_and_keeps_what_it_knew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("number");
        let put = |text: &str| {
            let new = dir.path().join("new");
            std::fs::write(&new, text).expect("it is ours");
            std::fs::rename(new, &path).expect("it is ours");
        };
        let read = |path: &Path| Ok(std::fs::read_to_string(path)?.trim().parse::<u32>()?);
        let watched = Watched::new("key", path.clone(), read);
        assert_eq!(watched.current().await, None);
        for (text, expected) in [("1", 1), ("2", 2), ("rubbish", 2), ("3", 3)] {
            put(text);
            assert_eq!(watched.current().await.as_deref(), Some(&expected), "after {text}");
        }
        std::fs::remove_file(&path).expect("it is ours");
        assert_eq!(watched.current().await.as_deref(), Some(&3));
    }
}
