//! What can go wrong while daemons are started, asked and stopped.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use cln_rpc::RpcError;

/// A failure of the harness or of a daemon that it runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is nowhere to be found.
    #[error("{program} was not found in {looked}; {hint}")]
    Missing {
        /// The program's file name.
        program: String,
        /// The places that were searched, in words.
        looked: String,
        /// What to do about it.
        hint: String,
    },
    /// A file or directory could not be used.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done, such as "creating".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("starting {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something could not be asked of the operating system.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A daemon ended although it was wanted.
    #[error("{name} ended ({status}); its last words, from {}:\n{tail}", log.display())]
    Ended {
        /// Which daemon.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its whole output.
        log: PathBuf,
        /// The end of its output.
        tail: String,
    },
    /// A condition did not come about in time.
    #[error("gave up after {} s waiting for {what}; last seen: {last}", waited.as_secs_f32())]
    TimedOut {
        /// The condition, in words.
        what: String,
        /// How long was waited.
        waited: Duration,
        /// The last status seen.
        last: String,
    },
    /// bitcoind refused a call or could not be asked.
    #[error("bitcoind, asked for {method}: {problem}")]
    Bitcoind {
        /// The RPC method.
        method: String,
        /// Its answer, or what went wrong on the way.
        problem: String,
    },
    /// lightningd refused a call or could not be asked.
    #[error("{node} was asked for {method}")]
    Lightningd {
        /// Which node.
        node: String,
        /// The RPC method.
        method: String,
        /// Its answer, or what went wrong on the way.
        source: RpcError,
    },
    /// `cargo build` of our own programs failed.
    #[error("building {programs} with cargo failed ({status}); its messages are above")]
    Build {
        /// The programs asked for.
        programs: String,
        /// How cargo ended.
        status: ExitStatus,
    },
    /// The environment or an argument names something unusable.
    #[error("{0}")]
    Unusable(String),
}
