//! The program as a command, which an operator runs by hand, without lightningd.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use lnplaylive_core::Settings;
use lnplaylive_core::settings::CONFIG_VARIABLE;
use provisioner::{Checkup, Member, Provisioner};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

/// Sells environments on a Core Lightning node, which starts it as a plugin. The commands check settings and remotes
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks settings, without looking at the files that they name
    CheckConfig {
        /// The settings file
        file: PathBuf,
    },
    /// Checks a remote, then makes an environment of one node on each of its servers, dials it and removes it. Exits with 0
    /// if the remote is ready, 1 if something is wrong, 2 if the settings are wrong
    CheckRemote(CheckRemote),
}

#[derive(Debug, Args)]
struct CheckRemote {
    /// The remote's name in the settings
    name: String,
    /// The settings file, lnplaylive.toml [default: named by `LNPLAYLIVE_CONFIG`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the client's key [default: the setting `state_dir`; the plugin's own is LIGHTNING-DIR/lnplaylive]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Make nothing on the remote
    #[arg(long)]
    no_trial: bool,
    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::CheckConfig { file } => match Settings::read(Some(&file)) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => wrong_settings(&error.into()),
        },
        Command::CheckRemote(options) => {
            let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .init();
            check_remote(&options)
        }
    }
}

fn wrong_settings(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::from(2)
}

fn check_remote(options: &CheckRemote) -> ExitCode {
    let provisioner = match set_up(options) {
        Ok(provisioner) => provisioner,
        Err(error) => return wrong_settings(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(Outcome::of(&provisioner, &options.name, !options.no_trial));
    let text = if options.json { result.json() } else { result.text() };
    if let Err(error) = std::io::stdout().lock().write_all(text.as_bytes()) {
        eprintln!("cannot write to standard output: {error}");
        return ExitCode::FAILURE;
    }
    if result.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn set_up(options: &CheckRemote) -> anyhow::Result<Provisioner> {
    let file = options.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    let settings = Settings::load(file.as_deref())?;
    let name = &options.name;
    anyhow::ensure!(
        settings.remotes.iter().any(|remote| remote.name == *name),
        "settings: remotes: there is none named {name:?}"
    );
    let state_dir = options.state_dir.as_deref().or(settings.state_dir.as_deref());
    let state_dir: &Path = state_dir.context(
        "settings: state_dir is not set; give --state-dir, for the plugin's own keys LIGHTNING-DIR/lnplaylive",
    )?;
    Ok(Provisioner::new(&settings, state_dir)?)
}

/// Result of checking a remote.
struct Outcome {
    name: String,
    /// The remote's state, or the reason why it cannot be seen.
    checkup: Result<Checkup, String>,
    /// Trials by the server's name in the cluster: the seconds that each took, or its error.
    trials: Vec<(Option<String>, Result<f64, String>)>,
}

impl Outcome {
    async fn of(provisioner: &Provisioner, name: &str, with_trial: bool) -> Self {
        let checkup = provisioner.check(name).await.map_err(|error| error.chain());
        let mut trials = Vec::new();
        let members = checkup.as_ref().map(|checkup| checkup.members.as_slice()).unwrap_or_default();
        // One after the other, so that one trial does not slow another down.
        for Member { name: member, .. } in members.iter().filter(|m| with_trial && m.machine.is_ok()) {
            let result = provisioner.try_out(name, member.as_deref()).await;
            let result = result.map(|took| took.as_secs_f64()).map_err(|error| error.chain());
            trials.push((member.clone(), result));
        }
        Self { name: name.to_owned(), checkup, trials }
    }

    /// True if environments can be sold there: nothing is wrong with the whole, and a member takes some. A member that
    /// its operator has closed is no fault; one that failed its trial is.
    fn is_good(&self) -> bool {
        let usable = self.checkup.as_ref().is_ok_and(|checkup| {
            checkup.findings.faults.is_empty() && checkup.members.iter().any(|m| m.machine.is_ok())
        });
        usable && self.trials.iter().all(|(_, result)| result.is_ok())
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{text}").expect("a string takes all");
        let name = &self.name;
        match &self.checkup {
            Err(error) => line(format!("fault: {error}")),
            Ok(Checkup { findings, members }) => {
                findings.faults.iter().for_each(|fault| line(format!("fault: {name}: {fault}")));
                findings.warnings.iter().for_each(|warning| line(format!("warning: {name}: {warning}")));
                for Member { name: member, host, machine } in members {
                    let site = site(name, member.as_deref());
                    match machine {
                        Ok(_) => {
                            line(format!("{site}: takes environments; their ports are reached at {host}"));
                        }
                        Err(reason) => line(format!("{site}: takes no environments: {reason}")),
                    }
                }
            }
        }
        for (member, result) in &self.trials {
            let site = site(name, member.as_deref());
            match result {
                Ok(took) => line(format!("{site}: a trial environment answered after {took:.1} s")),
                Err(error) => line(format!("fault: {site}: the trial failed: {error}")),
            }
        }
        line(format!("{name}: {}", if self.is_good() { "ready" } else { "nothing should be sold on it" }));
        out
    }

    fn json(&self) -> String {
        let members = |checkup: &Checkup| -> Vec<Value> {
            let member = |m: &Member| {
                json!({
                    "name": m.name, "host": m.host, "takes_environments": m.machine.is_ok(),
                    "reason": m.machine.as_ref().err(),
                })
            };
            checkup.members.iter().map(member).collect()
        };
        let trial = |(member, result): &(Option<String>, Result<f64, String>)| json!({ "member": member, "seconds": result.as_ref().ok(), "error": result.as_ref().err() });
        let checkup = self.checkup.as_ref();
        let text = json!({
            "remote": self.name,
            "ready": self.is_good(),
            "error": checkup.err(),
            "faults": checkup.map(|c| c.findings.faults.as_slice()).unwrap_or_default(),
            "warnings": checkup.map(|c| c.findings.warnings.as_slice()).unwrap_or_default(),
            "members": checkup.map(members).unwrap_or_default(),
            "trials": self.trials.iter().map(trial).collect::<Vec<_>>(),
        });
        format!("{text}\n")
    }
}

fn site(remote: &str, member: Option<&str>) -> String {
    member.map_or_else(|| remote.to_owned(), |member| format!("{remote}, member {member}"))
}
