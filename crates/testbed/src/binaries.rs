//! Finds our own programs, and builds them if this process was started by cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// Names a directory with our programs. If it is set, programs are neither looked for elsewhere nor built.
pub const BIN_DIR: &str = "TESTBED_BIN_DIR";

/// One of this workspace's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// The Core Lightning plugin that sells environments.
    Plugin,
    /// Runs inside an instance and brings up its nodes.
    Lnplay,
    /// Stands in for `lightningd`.
    SimLightningd,
    /// Stands in for `bitcoind`.
    SimBitcoind,
    /// The web shop's server.
    Frontend,
    /// Sits between lightningd and the plugin to kill it at a chosen call; see [`crate::shim`].
    PluginShim,
}

impl Binary {
    /// Its file name, which is also its target's name for cargo.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plugin => "lnplaylive-plugin",
            Self::Lnplay => "lnplay",
            Self::SimLightningd => "sim-lightningd",
            Self::SimBitcoind => "sim-bitcoind",
            Self::Frontend => "lnplaylive-frontend",
            Self::PluginShim => "plugin-shim",
        }
    }

    /// Finds it: in `TESTBED_BIN_DIR` if that is set, otherwise next to the running executable or one directory up (tests run
    /// from `target/…/deps`).
    pub fn path(self) -> Result<PathBuf> {
        let dirs = match std::env::var_os(BIN_DIR) {
            Some(dir) => vec![PathBuf::from(dir)],
            None => dirs_around(&current_exe()?),
        };
        dirs.iter().map(|dir| dir.join(self.name())).find(|path| path.is_file()).ok_or_else(|| {
            Error::Missing {
                program: self.name().into(),
                looked: dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" and "),
                hint: format!(
                    "build it (cargo build --workspace --bins), or name its directory in {BIN_DIR}"
                ),
            }
        })
    }
}

fn current_exe() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|source| Error::System { doing: "finding out where the running executable is", source })
}

/// The directory of an executable and the one above it.
fn dirs_around(exe: &Path) -> Vec<PathBuf> {
    exe.ancestors().skip(1).take(2).map(Path::to_owned).collect()
}

/// Builds the given programs if this process was started by cargo in the source tree; otherwise does nothing.
///
/// `cargo run` builds the programs of only one package, so the demo calls this first. It runs one `cargo build` with the running
/// executable's profile and target directory, for the whole workspace, so that features are resolved as for
/// `cargo build --workspace` and dependencies are not built twice. Cargo's messages go to stderr; `progress` is called before it
/// starts. Blocks until cargo is done.
///
/// Tests do not call this, because they would queue for cargo's lock. `tests/run` builds first.
pub fn ensure_built(programs: &[Binary], progress: impl FnOnce(&str)) -> Result<()> {
    let (Some(cargo), Some(manifest_dir)) =
        (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
    else {
        return Ok(());
    };
    if std::env::var_os(BIN_DIR).is_some() {
        return Ok(());
    }
    let Some(output) = Output::of(&current_exe()?) else { return Ok(()) };
    let names = programs.iter().map(|program| program.name()).collect::<Vec<_>>().join(", ");
    progress(&format!("bringing {names} up to date with cargo"));
    let mut build = Command::new(&cargo);
    build
        .current_dir(manifest_dir)
        .args(["build", "--workspace"])
        .args(output.args())
        .args(programs.iter().flat_map(|program| ["--bin", program.name()]))
        .stdin(Stdio::null())
        // `cargo build` prints nothing on stdout, but build scripts might.
        .stdout(std::io::stderr());
    // Variables that `cargo run` sets for our package. Some build scripts (ring's) watch them, and would run again, with a rebuild
    // of everything that depends on them, whenever this build alternates with one from a shell.
    let about_us = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| about_us.iter().any(|prefix| name.starts_with(prefix))) {
            build.env_remove(name);
        }
    }
    let status = build.status().map_err(|source| Error::Spawn { program: cargo.into(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Build { programs: names, status }) }
}

/// The location of an executable built by cargo: `<target dir>[/<triple>]/<profile>[/deps|/examples]/<name>`.
#[derive(Debug, PartialEq, Eq)]
struct Output {
    target_dir: PathBuf,
    triple: Option<String>,
    profile: String,
}

impl Output {
    /// `None` if the executable is not in a target directory, which is recognised by cargo's file about rustc. (`CACHEDIR.TAG`
    /// would not do: cargo writes it only to directories that it created.)
    fn of(exe: &Path) -> Option<Self> {
        let dir = exe.parent()?;
        let dir = if dir.ends_with("deps") || dir.ends_with("examples") { dir.parent()? } else { dir };
        let profile = match dir.file_name()?.to_str()? {
            "debug" => "dev",
            other => other,
        };
        let above = dir.parent()?;
        let marked = |dir: &&Path| dir.join(".rustc_info.json").is_file();
        let (target_dir, triple) = match Some(above).filter(marked) {
            Some(target_dir) => (target_dir, None),
            None => (above.parent().filter(marked)?, Some(above.file_name()?.to_str()?.to_owned())),
        };
        Some(Self { target_dir: target_dir.into(), triple, profile: profile.into() })
    }

    fn args(&self) -> Vec<String> {
        let mut args = vec![
            "--profile".into(),
            self.profile.clone(),
            "--target-dir".into(),
            self.target_dir.display().to_string(),
        ];
        if let Some(triple) = &self.triple {
            args.extend(["--target".into(), triple.clone()]);
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Workdir;

    #[test]
    fn knows_cargos_directories() {
        let dir = Workdir::new("tb").expect("a directory");
        let output = |exe: &str| Output::of(&dir.join(exe));
        assert_eq!(output("target/debug/lnplaylive-demo"), None, "not marked as cargo's");

        std::fs::write(dir.subdir("target").expect("a directory").join(".rustc_info.json"), "")
            .expect("a file");
        let expected = |profile: &str, triple: Option<&str>| {
            Some(Output {
                target_dir: dir.join("target"),
                triple: triple.map(Into::into),
                profile: profile.into(),
            })
        };
        assert_eq!(output("target/debug/lnplaylive-demo"), expected("dev", None));
        assert_eq!(output("target/debug/deps/host-0123"), expected("dev", None));
        assert_eq!(output("target/release/lnplaylive-demo"), expected("release", None));
        assert_eq!(
            output("target/x86_64-unknown-linux-musl/release/lnplaylive-demo"),
            expected("release", Some("x86_64-unknown-linux-musl"))
        );
    }
}
