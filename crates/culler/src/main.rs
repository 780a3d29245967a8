//! Removes expired environments from the remotes in one pass, and exits. A timer runs it.
//!
//! [`lnplaylive_core::culling`] decides which projects are removed; the crate `provisioner` removes them. There is no state
//! besides the remotes' own: the next pass retries what failed, and finishes a pass that was killed.
//!
//! Exit status: 0 if everything that was due is gone; 1 if a project or a whole remote failed, which is left to the next
//! pass; 2 if the command line or the settings are wrong, in which case no remote was contacted.

mod metrics;
mod pass;
mod report;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::ShopId;
use lnplaylive_core::settings::{CONFIG_VARIABLE, CullerSettings, Remote};
use tracing_subscriber::EnvFilter;

use pass::Pass;
use report::Report;

/// Removes expired environments from all remotes in one pass
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks a settings file and exits; the files that it names need not exist
    CheckConfig {
        /// The settings file
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// The settings file, lnplaylive.toml [default: named by `LNPLAYLIVE_CONFIG`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Remove nothing; print what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,
    /// Only this remote; can be given several times
    #[arg(long, value_name = "NAME")]
    remote: Vec<String>,
    /// The time between an environment's end and its removal, such as 90s, 10m or 2h [default: the setting `culler.grace_mins`]
    #[arg(long, value_name = "DURATION", value_parser = parse_grace, allow_hyphen_values = true)]
    grace: Option<SignedDuration>,
}

fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    if let Some(Command::CheckConfig { file }) = command {
        return match CullerSettings::read(Some(&file)) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => wrong_settings(&error),
        };
    }
    let file = options.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    let settings = match CullerSettings::read(file.as_deref()) {
        Ok(settings) => settings,
        Err(error) => return wrong_settings(&error),
    };
    let (state_dir, remotes) = match (settings.state_dir(), chosen(&settings, &options.remote)) {
        (Ok(state_dir), Ok(remotes)) => (state_dir, remotes),
        (Err(error), _) => return wrong_settings(&error),
        (_, Err(error)) => return wrong_settings(&*error),
    };
    cull(&options, &settings, state_dir, &remotes)
}

fn cull(options: &Options, settings: &CullerSettings, state_dir: &Path, remotes: &[&Remote]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    if remotes.is_empty() {
        tracing::warn!("the settings name no remotes, so there is nothing to do");
    }
    let grace = options.grace.unwrap_or(SignedDuration::from_mins(settings.culler.grace_mins.into()));
    let shop = match shop_id(settings, state_dir) {
        Ok(shop) => shop,
        Err(error) => return wrong_settings(&error),
    };
    let pass =
        Pass { settings: &settings.culler, state_dir, shop: shop.as_ref(), grace, dry_run: options.dry_run };
    let began = Timestamp::now();
    let report = runtime.block_on(pass.run(remotes));
    // What was tried out, or left remotes out, is no pass.
    if let Some(path) = &settings.culler.metrics_file
        && !options.dry_run
        && options.remote.is_empty()
        && let Err(error) = metrics::write(path, &report, began, Timestamp::now())
    {
        tracing::error!("cannot write {} (culler.metrics_file): {error}", path.display());
    }
    if let Err(error) = print(&report, options.json) {
        tracing::error!("cannot write to standard output: {error}");
        return ExitCode::FAILURE;
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The shop whose environments are removed: the one in the settings, or whose keys are in `state_dir`.
fn shop_id(settings: &CullerSettings, state_dir: &Path) -> Result<Option<ShopId>, provisioner::Error> {
    match settings.shop_id() {
        Some(id) => Ok(Some(id.clone())),
        None => provisioner::shop::stored_id(state_dir),
    }
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let text = if json { serde_json::to_string(report)? + "\n" } else { report.to_string() };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The remotes with these names; all remotes if there are no names.
fn chosen<'a>(
    settings: &'a CullerSettings,
    names: &[String],
) -> Result<Vec<&'a Remote>, Box<dyn std::error::Error>> {
    if let Some(unknown) = names.iter().find(|name| settings.remotes.iter().all(|r| r.name != **name)) {
        return Err(format!("settings: remotes: there is none named {unknown:?}").into());
    }
    Ok(settings.remotes.iter().filter(|r| names.is_empty() || names.contains(&r.name)).collect())
}

fn parse_grace(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(grace) if !grace.is_negative() => Ok(grace),
        Ok(_) => Err("it must not be negative".into()),
        Err(_) => Err("it must be a duration with units, such as 90s, 10m or 2h".into()),
    }
}

fn wrong_settings(mut error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    while let Some(cause) = error.source() {
        text = format!("{text}: {cause}");
        error = cause;
    }
    // Not a log line, since the caller waits for it, at a terminal or checking a file.
    eprintln!("{text}");
    ExitCode::from(2)
}
