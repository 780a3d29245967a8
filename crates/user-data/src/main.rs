//! `lnplaylive-user-data`: run at every boot of the cloud image, before everything of ours.

use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use lnplaylive_core::Settings;
use lnplaylive_user_data::{File, Surroundings, UserData, files};

/// Twice what EC2 lets through, and after it is decompressed more than anybody writes.
const MAX_BYTES: u64 = 256 * 1024;

/// Turns the user-data that this machine was started with into the files that its services read
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the files, below a directory that is theirs alone
    Apply {
        /// The user-data
        file: PathBuf,
        /// The image's own lnplaylive.toml
        #[arg(long)]
        base: PathBuf,
        /// The directory with the images for remotes
        #[arg(long)]
        images: PathBuf,
        /// Where the files go
        #[arg(long)]
        out: PathBuf,
    },
    /// Checks user-data and does nothing else
    CheckConfig {
        /// The user-data
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Apply { file, base, images, out } => apply(&file, &base, images, &out),
        Command::CheckConfig { file } => check(&file),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(file: &Path) -> anyhow::Result<()> {
    let document = UserData::parse(&read_user_data(file)?)?;
    let scratch = tempfile::tempdir().context("making a temporary directory")?;
    let around =
        Surroundings { base: toml::Table::new(), images: "/images".into(), out: scratch.path().into() };
    write(&files(&document, &around)?, scratch.path())
}

fn apply(file: &Path, base: &Path, images: PathBuf, out: &Path) -> anyhow::Result<()> {
    let document = UserData::parse(&read_user_data(file)?)?;
    let base = toml::from_str(&read(base)?).with_context(|| format!("reading {}", base.display()))?;
    let around = Surroundings { base, images, out: out.to_owned() };
    write(&files(&document, &around)?, out)
}

/// Reads the user-data. Where the instance has none, or its metadata service does not answer, nothing was fetched.
fn read_user_data(path: &Path) -> anyhow::Result<String> {
    if path.try_exists().with_context(|| format!("looking for {}", path.display()))? {
        return read(path);
    }
    anyhow::bail!(
        "user-data: {} is not there: the instance has none, or its metadata service did not answer; \
         stop the instance, give it user-data as in user-data.example, enable its metadata service, and start it",
        path.display()
    )
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    file.take(MAX_BYTES).read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
    Ok(text)
}

/// Writes the files and checks the settings among them. Those of an earlier boot are not there: `/run` is empty then.
fn write(files: &[File], out: &Path) -> anyhow::Result<()> {
    // Even where no remote has a secret: systemd wants the directories that it loads credentials from.
    for secrets in ["tokens", "keys"] {
        let dir = out.join(secrets);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.with_context(|| format!("making {}", dir.display()))?;
    }
    for file in files {
        let path = out.join(&file.path);
        let mode = if file.secret { 0o600 } else { 0o644 };
        let put = atomic_file::replace(&path, file.text.as_bytes(), mode);
        put.with_context(|| format!("writing {}", path.display()))?;
    }
    Settings::read(Some(&out.join("lnplaylive.toml"))).context("user-data")?;
    Ok(())
}
