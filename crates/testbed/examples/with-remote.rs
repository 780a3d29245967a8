//! Runs a command with a private LXD or Incus server:   with-remote lxd|incus [--members N] COMMAND [ARGUMENT…]
//!
//! With `--members` the server is a cluster. Exits with the command's exit status, or with 77 if no such server can run here. The
//! command finds the server in `LXD_URL` and `LXD_TOKEN_FILE`, or `INCUS_URL` and `INCUS_TOKEN_FILE`, where the file contains an
//! unused enrolment token, and in `REMOTE_URL` and `REMOTE_TOKEN_FILE`. For a cluster that is its first member. With
//! `TESTBED_TEST_IMAGE` the server has the image `lnplay`. With `TESTBED_VM_EMULATION` a single server also runs virtual machines,
//! with static addresses from `REMOTE_FIRST_ADDRESS` to `REMOTE_LAST_ADDRESS`. The server's files are below `TESTBED_SERVER_DIR`, else
//! in memory if there is enough. For example:
//!
//! ```sh
//! cargo run -p testbed --example with-remote -- incus sh -c \
//!     'cargo run --bin lnplaylive-demo -- --remote $REMOTE_URL --remote-token-file $REMOTE_TOKEN_FILE'
//! ```

use std::process::ExitCode;

use anyhow::Context as _;
use testbed::lxd::cluster::{Cluster, Member};
use testbed::lxd::{self, Emulation, Kind, Server};

/// Exit status if no such server can run on this machine.
const NO_SERVER_HERE: u8 = 77;

/// The server, which stops when this is dropped.
enum Remote {
    Server(Server),
    Cluster(Cluster),
}

impl Remote {
    async fn start(
        kind: Kind,
        members: Option<usize>,
        emulation: Option<&Emulation>,
    ) -> testbed::Result<Self> {
        let image = lxd::image();
        let Some(members) = members else {
            let server = match emulation {
                Some(emulation) => Server::emulating(kind, emulation).await?,
                None => Server::start(kind).await?,
            };
            if let Ok(image) = image {
                server.upload(&image).await?;
            }
            return Ok(Self::Server(server));
        };
        Ok(Self::Cluster(match image {
            Ok(image) => Cluster::with_image(kind, members, &image).await?,
            Err(_) => Cluster::start(kind, members).await?,
        }))
    }

    /// Its URL and an unused token.
    async fn invitation(&self) -> testbed::Result<(String, String)> {
        Ok(match self {
            Self::Server(server) => (server.url().to_owned(), server.token("with-remote").await?),
            Self::Cluster(cluster) => {
                (cluster.url(Member(0)), cluster.token(Member(0), "with-remote").await?)
            }
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let kind = match arguments.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("lxd") => Kind::Lxd,
        Some("incus") => Kind::Incus,
        _ => anyhow::bail!("usage: with-remote lxd|incus [--members N] COMMAND [ARGUMENT…]"),
    };
    let mut program = arguments.next();
    let mut members = None;
    if program.as_deref().is_some_and(|word| word == "--members") {
        let count = arguments.next().and_then(|count| count.to_str()?.parse().ok());
        members = Some(count.filter(|count| (1..=13).contains(count)).context("--members must be 1 to 13")?);
        program = arguments.next();
    }
    let Some(program) = program else { anyhow::bail!("with-remote: missing command") };
    let emulation = std::env::var_os(lxd::EMULATION).map(|_| lxd::emulation()).transpose()?;
    let unavailable = if emulation.is_some() { lxd::no_machines(kind) } else { lxd::unavailable(kind) };
    if let Some(why) = unavailable {
        eprintln!("{why}");
        return Ok(NO_SERVER_HERE.into());
    }
    let remote = Remote::start(kind, members, emulation.as_ref()).await?;
    let (url, token_text) = remote.invitation().await?;
    let token = tempfile::NamedTempFile::new()?;
    std::fs::write(token.path(), token_text)?;
    let mut command = tokio::process::Command::new(program);
    for prefix in [&kind.name().to_uppercase(), "REMOTE"] {
        command.env(format!("{prefix}_URL"), &url);
        command.env(format!("{prefix}_TOKEN_FILE"), token.path());
    }
    if let Remote::Server(server) = &remote {
        let (first, last) = server.static_addresses();
        command.env("REMOTE_FIRST_ADDRESS", first.to_string()).env("REMOTE_LAST_ADDRESS", last.to_string());
    }
    // The command gets SIGINT too; wait for it to exit.
    let ignored = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    let status = command.args(arguments).status().await?;
    ignored.abort();
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into())
}
