//! The shop's id: from the settings, or a random one that is made on the first run and stored beside the remotes' keys.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use lnplaylive_core::ShopId;

use crate::Error;

/// The file below the state directory. No remote can have a name with a dot, so it is no remote's directory; and it is among the
/// files that the culler gets.
const FILE: &str = "remotes/shop.id";

/// The shop's id: the one in the settings, else the stored one, which is made if there is none.
pub(crate) fn id(set: Option<&ShopId>, state_dir: &Path) -> Result<ShopId, Error> {
    if let Some(id) = set {
        return Ok(id.clone());
    }
    if let Some(id) = stored_id(state_dir)? {
        return Ok(id);
    }
    let path = state_dir.join(FILE);
    // Another program of the shop may have been faster.
    write_new(&path, &ShopId::random()).map_err(|source| unusable(path.clone(), source))?;
    stored_id(state_dir)?.ok_or_else(|| unusable(path, ErrorKind::NotFound.into()))
}

/// The id that is stored in `state_dir`, if there is one. Fails if there may be one that cannot be read.
pub fn stored_id(state_dir: &Path) -> Result<Option<ShopId>, Error> {
    let path = state_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(id) => Ok(Some(id)),
            Err(error) => Err(unusable(path, std::io::Error::new(ErrorKind::InvalidData, error))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, error)),
    }
}

/// Writes the file, whole, unless there is one.
fn write_new(path: &Path, id: &ShopId) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    crate::remote::create_private_dir(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    writeln!(file, "{id}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

fn unusable(path: PathBuf, source: std::io::Error) -> Error {
    Error::ShopId { path, source }
}
