//! Errors of starting, calling and stopping daemons.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use cln_rpc::RpcError;

/// A failure of the harness or of one of its daemons.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program was not found.
    #[error("{program} was not found in {looked}; {hint}")]
    Missing {
        /// The program's file name.
        program: String,
        /// Description of the places that were searched.
        looked: String,
        /// Advice on how to fix it.
        hint: String,
    },
    /// A file or directory could not be used.
    #[error("{doing} {}", path.display())]
    File {
        /// The action, such as "creating".
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("starting {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A system call failed.
    #[error("{doing}")]
    System {
        /// The action.
        doing: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A daemon exited unexpectedly.
    #[error("{name} exited ({status}); the end of its output, from {}:\n{tail}", log.display())]
    Ended {
        /// Name of the daemon.
        name: String,
        /// Its exit status.
        status: ExitStatus,
        /// File with all its output.
        log: PathBuf,
        /// The end of its output.
        tail: String,
    },
    /// A time-out while waiting for a condition.
    #[error("timed out after {} s waiting for {what}; last seen: {last}", waited.as_secs_f32())]
    TimedOut {
        /// Description of the condition.
        what: String,
        /// The time that it waited.
        waited: Duration,
        /// The last status.
        last: String,
    },
    /// bitcoind refused a call or did not answer.
    #[error("bitcoind: {method}: {problem}")]
    Bitcoind {
        /// The RPC method.
        method: String,
        /// Its answer, or the connection's error.
        problem: String,
    },
    /// lightningd refused a call or did not answer.
    #[error("{node}: {method}")]
    Lightningd {
        /// Name of the node.
        node: String,
        /// The RPC method.
        method: String,
        /// Its answer, or the connection's error.
        source: RpcError,
    },
    /// `cargo build` of our own programs failed.
    #[error("building {programs} with cargo failed ({status}); its messages are above")]
    Build {
        /// The programs that were to be built.
        programs: String,
        /// cargo's exit status.
        status: ExitStatus,
    },
    /// Invalid input from the environment or the caller.
    #[error("{0}")]
    Unusable(String),
}
