//! A file that other programs replace at run time. It is read again when it has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use std::os::unix::fs::MetadataExt as _;

use tokio::sync::Mutex;

/// Reads the file. The error is logged, so it must not contain the file's contents.
type Read<T> = fn(&Path) -> anyhow::Result<T>;

/// The last valid contents of the file.
///
/// Each access reads the file's metadata. If the file is missing or invalid, the previous contents stay in use: a failure to read
/// is not the same as an empty file.
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

/// Changes when the file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Watches the file named by the setting `key`. It need not exist yet.
    pub(crate) fn new(key: &'static str, path: PathBuf, read: Read<T>) -> Self {
        Self { key, path, read, state: Mutex::new(State { stamp: None, value: None, complaint: None }) }
    }

    /// The current contents; `None` if they could never be read.
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
                // Logged once, not for each request.
                let complaint = format!("{error:#}");
                if state.complaint.as_ref() != Some(&complaint) {
                    let (key, path) = (self.key, self.path.display());
                    tracing::warn!("{key}: cannot use {path}, keeping the previous contents: {complaint}");
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
    async fn follows_the_file_and_keeps_valid_contents() {
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
