//! The directory of daemons and tests, which is removed on success and kept on failure.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A new directory for one testbed.
///
/// Dropping it removes it, unless the thread is panicking (a failed assertion), [`Workdir::keep`] was called, or
/// `TESTBED_KEEP` is set. Then it stays, and its path is printed to stderr.
#[derive(Debug)]
pub struct Workdir {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Workdir {
    /// Creates a directory below the system's directory for temporary files.
    ///
    /// Keep `name` short: the whole path of a unix socket has at most 107 bytes.
    pub fn new(name: &str) -> Result<Self> {
        let base = std::env::temp_dir();
        let dir = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&base)
            .map_err(|source| Error::File { doing: "creating a directory in", path: base, source })?;
        Ok(Self { path: dir.path().to_owned(), dir: Some(dir) })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Creates a subdirectory.
    pub fn subdir(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).map_err(|source| Error::File {
            doing: "creating",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Keeps it on disk and prints its path and the reason.
    pub fn keep(&mut self, why: &str) {
        if let Some(dir) = self.dir.take() {
            eprintln!("testbed: {why}; logs and data are kept in {}", dir.keep().display());
        }
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep("the test failed");
        } else if std::env::var_os("TESTBED_KEEP").is_some() {
            self.keep("TESTBED_KEEP is set");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_after_a_panic_and_goes_otherwise() {
        let fine = Workdir::new("tb").expect("a directory");
        let gone = fine.path().to_owned();
        drop(fine);
        assert!(!gone.exists() || std::env::var_os("TESTBED_KEEP").is_some());

        let failing = std::thread::spawn(|| {
            let dir = Workdir::new("tb").expect("a directory");
            std::panic::panic_any(dir.path().to_owned());
        });
        let kept = failing.join().expect_err("it panics").downcast::<PathBuf>().expect("the path");
        assert!(kept.is_dir());
        std::fs::remove_dir_all(*kept).expect("it is ours");
    }
}
