//! `lnplaylive-frontend` serves the web shop, or draws cards.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use lnplaylive_core::settings::{CONFIG_VARIABLE, SettingsError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use shop_server::cards::{CardsRequest, Fonts, Language, Paper};
use shop_server::{Listeners, Settings, Site};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Maximum size of a file with a request for cards, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Exit status for invalid settings, as for an invalid command line.
const WRONG_SETTINGS: u8 = 2;

/// Serves the web shop: static files, WebSockets to the node and to environments, and cards to print.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The settings file; only the table `[frontend]` is read
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a settings file: exits with 0, or with 2 and a sentence that names the key
    CheckConfig {
        /// The file; no other file is read
        file: PathBuf,
    },
    /// Draw cards as a PDF
    Cards {
        /// JSON with `connection_strings` and optionally `title`, `logo` (a data URL), `paper` and `language`
        file: PathBuf,
        /// The PDF to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// The paper, overriding the file's
        #[arg(long, value_name = "a4|letter|label_4x6")]
        paper: Option<Paper>,
        /// The language, overriding the file's
        #[arg(long, value_name = "en|es")]
        language: Option<Language>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    let outcome = match args.command {
        None => match Settings::load(args.config.as_deref()) {
            Ok(settings) => serve(settings),
            Err(error) => return wrong_settings(error),
        },
        Some(Command::CheckConfig { file }) => match Settings::load(Some(&file)) {
            Ok(_) => Ok(()),
            Err(error) => return wrong_settings(error),
        },
        Some(Command::Cards { file, output, paper, language }) => cards(&file, &output, paper, language),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lnplaylive-frontend: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_settings(error: SettingsError) -> ExitCode {
    eprintln!("lnplaylive-frontend: {:#}", anyhow::Error::new(error));
    ExitCode::from(WRONG_SETTINGS)
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    // Each relayed WebSocket needs two.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit on open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit on open files")?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("setting up signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("setting up signals")?;
        let listeners = Listeners::bind(&settings).await?;
        let address = listeners.address().context("the listener has no address")?;
        let site = Site::new(settings)?;
        tracing::info!("serving http://{address}");
        notify(NotifyState::Ready);
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            notify(NotifyState::Stopping);
        };
        site.serve(listeners, shutdown).await;
        Ok(())
    })
}

/// Notifies systemd, if it started this program.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("notifying systemd: {error}");
    }
}

fn cards(file: &Path, output: &Path, paper: Option<Paper>, language: Option<Language>) -> anyhow::Result<()> {
    use std::io::Read as _;
    let mut json = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_FILE).read_to_end(&mut json))
        .with_context(|| format!("reading {}", file.display()))?;
    let mut request = CardsRequest::from_json(&json)?;
    request.paper = paper.unwrap_or(request.paper);
    request.language = language.unwrap_or(request.language);
    let pdf = request.check()?.draw(&Fonts::built_in())?;
    std::fs::write(output, pdf).with_context(|| format!("writing {}", output.display()))
}
