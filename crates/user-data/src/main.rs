//! `lnplaylive-user-data` runs at every boot of the cloud image, before the shop's services.

use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use lnplaylive_core::Settings;
use lnplaylive_user_data::{File, ImageInfo, UserData, files};

/// Limit after decompression. EC2 passes on 16 KiB, which may be compressed.
const MAX_BYTES: u64 = 256 * 1024;

/// Converts the machine's user-data into the files that its services read
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the files to a directory
    Apply {
        /// The user-data
        file: PathBuf,
        /// The image's lnplaylive.toml
        #[arg(long)]
        base: PathBuf,
        /// The directory with the images for remotes
        #[arg(long)]
        images: PathBuf,
        /// The output directory, which must not be used for anything else
        #[arg(long)]
        out: PathBuf,
    },
    /// Check user-data and write nothing
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
    let image = ImageInfo { base: toml::Table::new(), images: "/images".into(), out: scratch.path().into() };
    write(&files(&document, &image)?, scratch.path())
}

fn apply(file: &Path, base: &Path, images: PathBuf, out: &Path) -> anyhow::Result<()> {
    let document = UserData::parse(&read_user_data(file)?)?;
    let base = toml::from_str(&read(base)?).with_context(|| format!("reading {}", base.display()))?;
    let image = ImageInfo { base, images, out: out.to_owned() };
    write(&files(&document, &image)?, out)
}

/// Reads the user-data. The file is missing if the instance has none, or if its metadata service did not answer.
fn read_user_data(path: &Path) -> anyhow::Result<String> {
    if path.try_exists().with_context(|| format!("looking for {}", path.display()))? {
        return read(path);
    }
    anyhow::bail!(
        "user-data: {} does not exist: the instance has no user-data, or its metadata service did not answer; \
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

/// Writes the files and checks the settings in them. There are no files of an earlier boot, because `/run` is empty then.
fn write(files: &[File], out: &Path) -> anyhow::Result<()> {
    // Created even if there are no secrets, because systemd loads credentials from these directories.
    for secrets in ["tokens", "keys", "backup"] {
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
