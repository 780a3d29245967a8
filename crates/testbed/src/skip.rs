//! Reports checks that did not run.

use std::io::Write;

use crate::{Daemons, Flavor};

/// Reports that a test, or a part of one, did not run, and why.
///
/// The reason goes to stderr, which test runners hide for tests that pass, and is appended to the file named by
/// `TESTBED_SKIPS`, which `tests/run` prints at the end.
pub fn skip(what: &str, why: &dyn std::fmt::Display) {
    eprintln!("skipped: {what}: {why}");
    if let Some(path) = std::env::var_os("TESTBED_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(&path);
        // A single write, so that lines of concurrent tests do not mix.
        let line = format!("{what}: {why}\n");
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("writing to {}: {error}", path.display());
        }
    }
}

/// The daemons for a test; `None`, reported with [`skip`], if they are to be real and are missing.
pub fn daemons(flavor: Flavor, test: &str) -> Option<Daemons> {
    match Daemons::of(flavor) {
        Ok(daemons) => Some(daemons),
        Err(error) if flavor == Flavor::Real => {
            skip(test, &error);
            None
        }
        Err(error) => panic!("the stand-ins are part of this workspace: {error}"),
    }
}
