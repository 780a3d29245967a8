//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use lnplaylive_core::catalogue::Selection;
use lnplaylive_core::{Catalogue, Terms};
use testbed::{Daemons, Flavor, Remotes};
use url::Url;

/// Runs the whole shop on this machine: the shop's node, a customer, and a server for environments.
///
/// Without options it runs until Ctrl-C and leaves nothing behind. An environment bought with --once keeps running for some
/// minutes.
#[derive(Debug, Parser)]
#[command(name = "lnplaylive-demo", bin_name = "cargo demo --", version)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Buy one environment in the terminal, connect to its nodes, and exit
    #[arg(long)]
    once: bool,
    /// With --once: print one JSON document on stdout, after connecting to the nodes, and everything else on stderr
    #[arg(long, requires = "once")]
    json: bool,
    /// With --once: keep everything running until Ctrl-C
    #[arg(long, requires = "once")]
    keep: bool,
    /// With --once: how many minutes the environment keeps running in the background, if its server is simulated
    #[arg(long, value_name = "MINUTES", default_value_t = 10, requires = "once", conflicts_with = "keep")]
    linger: u32,
    /// Number of nodes to buy
    #[arg(long, value_name = "N", default_value_t = 8, requires = "once")]
    node_count: u32,
    /// Number of hours to buy
    #[arg(long, value_name = "N", default_value_t = 48, requires = "once")]
    hours: u32,
    #[command(flatten)]
    lightning: LightningArg,
    /// The server for environments: simulated, or the https URL of an LXD or Incus server that has an image `lnplay`
    /// (auto is the same as simulated)
    #[arg(long, value_name = "auto|simulated|URL", default_value = "auto")]
    remote: RemoteArg,
    /// With --remote URL: file with an enrolment token (`lxc config trust add`, `incus config trust add`)
    #[arg(long, value_name = "FILE")]
    remote_token_file: Option<PathBuf>,
    /// The built web shop. Default: `frontend-dist` in this directory, or in the source tree with `cargo demo`
    #[arg(long, value_name = "DIR")]
    frontend_dist: Option<PathBuf>,
    /// The address of the shop, and of attendees' links; with --once, another port if this one is in use
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run only a simulated LXD server: prints one line, `{"url":…,"token":…}`, and runs until it is stopped
    Remote {
        /// Address of its API; port 0 for any free port
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        #[command(flatten)]
        lightning: LightningArg,
        /// Exit after this many seconds
        #[arg(long = "for", value_name = "SECONDS")]
        seconds: Option<u64>,
        /// Let an instance's start or stop take this much longer, as on a real server
        #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
        start_delay: u64,
        /// Serve the web shop's pages as well, for attendees' links; the line then has `pages`, their URL
        #[arg(long, value_name = "ADDRESS:PORT")]
        pages: Option<SocketAddr>,
        /// The built web shop
        #[arg(long, value_name = "DIR", requires = "pages")]
        frontend_dist: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct LightningArg {
    /// Run the lightningd and bitcoind on PATH or named by LIGHTNINGD and BITCOIND, or stand-ins. auto: the real ones if
    /// they exist
    #[arg(
        long,
        value_enum,
        value_name = "auto|real|simulated",
        default_value = "auto",
        hide_possible_values = true
    )]
    lightning: Lightning,
}

/// The choice of daemons.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Lightning {
    /// The real ones if they exist, otherwise the stand-ins.
    Auto,
    /// The real `lightningd` and `bitcoind`.
    Real,
    /// The stand-ins.
    Simulated,
}

impl Lightning {
    /// The value on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Real => "real",
            Self::Simulated => "simulated",
        }
    }

    /// Finds the daemons. The stand-ins must have been built.
    pub(crate) fn daemons(self) -> testbed::Result<Daemons> {
        match self {
            Self::Auto => Daemons::auto(),
            Self::Real => Daemons::of(Flavor::Real),
            Self::Simulated => Daemons::of(Flavor::Simulated),
        }
    }
}

#[derive(Clone, Debug)]
enum RemoteArg {
    Simulated,
    At(Url),
}

impl FromStr for RemoteArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "auto" | "simulated") {
            return Ok(Self::Simulated);
        }
        match Url::parse(text) {
            Ok(url) if url.scheme() == "https" && url.has_host() => Ok(Self::At(url)),
            _ => Err("it must be auto, simulated or a server's URL such as https://192.0.2.7:8443".into()),
        }
    }
}

/// The parsed command line.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Run the shop until Ctrl-C.
    Serve(Business),
    /// Buy one environment.
    Once {
        business: Business,
        /// The terms of the order.
        terms: Terms,
        /// True if stdout is for the JSON document.
        json: bool,
        /// Action after the purchase.
        after: After,
    },
    /// Run only a simulated LXD server, with an optional time limit.
    Remote {
        listen: SocketAddr,
        lightning: Lightning,
        time: Option<Duration>,
        /// Time that an instance's start or stop takes in addition.
        start_delay: Duration,
        pages: Option<Pages>,
    },
}

/// The web shop's pages, and the address that serves them.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) listen: SocketAddr,
    /// Their directory, if it was given.
    pub(crate) dist: Option<PathBuf>,
}

/// Actions after a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Stop everything.
    Stop,
    /// Let the simulated server run for this time.
    Linger(Duration),
    /// Keep everything running until Ctrl-C.
    Keep,
}

/// The daemons and servers of the shop.
#[derive(Debug)]
pub(crate) struct Business {
    pub(crate) lightning: Lightning,
    pub(crate) remotes: Remotes,
    /// True if the remote is simulated.
    pub(crate) simulated: bool,
    /// The shop's pages.
    pub(crate) pages: Pages,
}

impl Plan {
    /// Parses the command line. If it is invalid, exits with status 2 and a sentence.
    pub(crate) fn from_command_line() -> Self {
        // The alias ends in `--`, so that `cargo demo --once` works; `cargo demo -- --once` brings a second one.
        let mut words: Vec<_> = std::env::args_os().collect();
        if words.get(1).is_some_and(|word| word == "--") {
            words.remove(1);
        }
        let args = Args::parse_from(words);
        args.plan().unwrap_or_else(|(kind, sentence)| Args::command().error(kind, sentence).exit())
    }
}

impl Args {
    fn plan(self) -> Result<Plan, (ErrorKind, String)> {
        if let Some(Command::Remote { listen, lightning, seconds, start_delay, pages, frontend_dist: dist }) =
            self.command
        {
            let time = seconds.map(Duration::from_secs);
            let pages = pages.map(|listen| Pages { listen, dist });
            let (lightning, start_delay) = (lightning.lightning, Duration::from_millis(start_delay));
            return Ok(Plan::Remote { listen, lightning, time, start_delay, pages });
        }
        let remotes = match (self.remote, self.remote_token_file) {
            (RemoteArg::Simulated, None) => Remotes::Simulated(1),
            (RemoteArg::Simulated, Some(_)) => {
                let sentence = "--remote-token-file needs --remote URL; a simulated server needs no token";
                return Err((ErrorKind::ArgumentConflict, sentence.into()));
            }
            (RemoteArg::At(url), None) => {
                let sentence = format!(
                    "--remote {url} needs --remote-token-file FILE: get a token from the server with \
                     `lxc config trust add` or `incus config trust add`"
                );
                return Err((ErrorKind::MissingRequiredArgument, sentence));
            }
            (RemoteArg::At(url), Some(file)) => {
                let token_file = file.canonicalize().map_err(|error| {
                    (ErrorKind::Io, format!("--remote-token-file {}: {error}", file.display()))
                })?;
                Remotes::Existing { url: url.into(), token_file }
            }
        };
        let simulated = matches!(remotes, Remotes::Simulated(_));
        let pages = Pages { listen: self.listen, dist: self.frontend_dist };
        let business = Business { lightning: self.lightning.lightning, remotes, simulated, pages };
        if !self.once {
            return Ok(Plan::Serve(business));
        }
        // The shop checks this as well, but only after everything has started.
        let terms = Catalogue::default()
            .quote(Selection::NodeCount(self.node_count.into()), self.hours.into())
            .map_err(|error| (ErrorKind::ValueValidation, error.to_string()))?;
        let after = match self.linger {
            _ if self.keep => After::Keep,
            0 => After::Stop,
            minutes => After::Linger(Duration::from_secs(60 * u64::from(minutes))),
        };
        Ok(Plan::Once { business, terms, json: self.json, after })
    }
}
