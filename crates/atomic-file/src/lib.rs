//! Files that are written whole or not at all.
//!
//! The content goes to a temporary file in the same directory, which is synced to disk and then renamed. Readers see the
//! old content or the new one, and so does whoever looks after a crash or a power failure: the directory is synced, too.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file with exactly these permission bits, in place of one that may be there.
///
/// The directory must exist. A process that is killed may leave a temporary file behind, whose name starts with `.tmp`.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (file, dir) = written(path, content, mode)?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Writes a file with exactly these permission bits unless there is one of that name. Returns whether it did.
pub fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let (file, dir) = written(path, content, mode)?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(dir)?.sync_all().map(|()| true),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

fn written<'a>(path: &'a Path, content: &[u8], mode: u32) -> io::Result<(NamedTempFile, &'a Path)> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Created with mode 0600, so that nobody can open a secret before it has its own mode.
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok((file, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_or_created_with_its_mode_and_nothing_else_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let read = || std::fs::read_to_string(&path).expect("readable");
        let mode = || std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert!(create(&path, b"one", 0o600).expect("created"));
        assert!(!create(&path, b"two", 0o644).expect("there is one"));
        assert_eq!((read().as_str(), mode()), ("one", 0o600));
        replace(&path, b"three", 0o640).expect("replaced");
        assert_eq!((read().as_str(), mode()), ("three", 0o640));
        let missing = dir.path().join("missing/file");
        assert_eq!(replace(&missing, b"", 0o600).expect_err("no directory").kind(), ErrorKind::NotFound);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}
