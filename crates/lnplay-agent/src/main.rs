//! The command line of `lnplay`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use lnplay_agent::confine::Confinement;
use lnplay_agent::settings::Settings;
use lnplay_agent::state::{self, StateDir};
use lnplay_agent::{child, control, plugin, session, supervisor, up};
use lnplaylive_core::progress::Line;
use lnplaylive_core::version;
use tracing_subscriber::EnvFilter;

/// Brings up bitcoind (regtest) and Lightning nodes, all funded, and keeps them running
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings the environment up, unless it is up; prints progress and then the connection strings, as JSON lines
    Up {
        /// The environment spec, a JSON file; - for standard input
        spec: PathBuf,
    },
    /// Prints the environment's status as JSON
    Status,
    /// Carries out an action of the organiser's desk, one JSON object on standard input; prints the answer as JSON
    Desk,
    /// Stops the environment; the next `up` continues with its chain and nodes
    Down,
    /// Keeps the environment running, in the foreground
    #[command(hide = true)]
    Supervise,
    /// Passes on a request that came over SSH: the forced command of an instance's account
    #[command(hide = true)]
    Session,
    /// Runs the command that a session requests on standard input, as root
    #[command(hide = true)]
    Attend,
    /// Turns into a daemon of the environment
    #[command(hide = true)]
    Child {
        #[arg(long)]
        parent: i32,
        #[arg(long)]
        lock: PathBuf,
        #[arg(long)]
        confinement: Option<Confinement>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    if plugin::is_requested() {
        return match plugin::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Ends up in the node's log.
                eprintln!("lnplay: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let Cli { settings, command } = Cli::parse();
    if let Command::Child { parent, lock, confinement, command } = command {
        return become_child(parent, &lock, confinement, &command);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A full disk may hold the log: what cannot be written is lost, rather than the supervisor.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    // A single thread, since children get SIGTERM when the *thread* that started them ends.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let up =
        |spec: &Path| read_spec(spec).and_then(|spec| runtime.block_on(up::up(&settings, &spec, print_line)));
    let status = || {
        runtime.block_on(async {
            let status = control::status(&StateDir::new(&settings.dir)?).await?;
            print(serde_json::to_string(&status)?)
        })
    };
    let desk = || {
        let action = state::read_bounded(io::stdin().lock()).context("cannot read the action")?;
        let answer = runtime.block_on(control::desk(&StateDir::new(&settings.dir)?, &action));
        print(version::write(&answer))
    };
    match command {
        Command::Up { spec } => told(up(&spec)),
        Command::Status => finish(status()),
        Command::Desk => finish(desk()),
        Command::Session => session::relay().unwrap_or_else(|error| fail(&error)),
        Command::Attend => told(session::attend(io::stdin().lock()).and_then(|request| match request {
            session::Request::Up => up(Path::new("-")),
            session::Request::Status => status(),
            session::Request::Desk => desk(),
            session::Request::Down => runtime.block_on(up::down(&settings)),
        })),
        Command::Down => finish(runtime.block_on(up::down(&settings))),
        Command::Supervise => {
            // Leaves the session that started it, to outlive it. Under systemd it already leads one.
            let _leader = nix::unistd::setsid();
            finish(runtime.block_on(supervisor::run(settings)))
        }
        Command::Child { .. } => unreachable!("was handled above"),
    }
}

fn become_child(
    parent: i32,
    lock: &Path,
    confinement: Option<Confinement>,
    command: &[OsString],
) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    match child::exec(parent, lock, confinement, program, arguments) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("lnplay: {error:#}");
            child::exit_status(&error).into()
        }
    }
}

fn read_spec(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = if path == Path::new("-") {
        state::read_bounded(io::stdin().lock())
    } else {
        File::open(path).and_then(state::read_bounded)
    };
    read.with_context(|| format!("cannot read the spec {}", path.display()))
}

fn print_line(line: &Line) -> anyhow::Result<()> {
    print(version::write(line))
}

fn print(mut line: String) -> anyhow::Result<()> {
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Like [`finish`], for commands that print lines: a failure is the last of them.
fn told(result: anyhow::Result<()>) -> ExitCode {
    result.map_or_else(
        |error| {
            let told = print_line(&Line::Failed { message: format!("{error:#}") });
            fail(&told.err().unwrap_or(error))
        },
        |()| ExitCode::SUCCESS,
    )
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}
