//! Runs a command beside a private cluster of LXD or Incus:   with-cluster lxd|incus MEMBERS COMMAND [ARGUMENT…]
//!
//! Ends with the command's exit status, or with 77 if no such server can run here. The command finds the URL of the first member in
//! `REMOTE_URL`, those of all in `REMOTE_URLS`, and a file with an unused enrolment token of the first in `REMOTE_TOKEN_FILE`.
//! With `TESTBED_TEST_IMAGE` the cluster has the image `lnplay`. For example:
//!
//! ```sh
//! cargo run -p testbed --example with-cluster -- lxd 3 sh -c \
//!     'cargo run --bin lnplaylive-demo -- --remote $REMOTE_URL --remote-token-file $REMOTE_TOKEN_FILE'
//! ```

use std::process::ExitCode;

use anyhow::Context as _;
use testbed::lxd::cluster::{Cluster, Member};
use testbed::lxd::{self, Kind};

/// The exit status that says that no such server can run on this machine.
const NO_SERVER_HERE: u8 = 77;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let usage = "usage: with-cluster lxd|incus MEMBERS COMMAND [ARGUMENT…]";
    let mut arguments = std::env::args_os().skip(1);
    let kind = match arguments.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("lxd") => Kind::Lxd,
        Some("incus") => Kind::Incus,
        _ => anyhow::bail!(usage),
    };
    let members = arguments.next().and_then(|count| count.to_str()?.parse().ok());
    let members =
        members.filter(|count| (1..=9).contains(count)).context("MEMBERS is a number from 1 to 9")?;
    let program = arguments.next().context(usage)?;
    if let Some(why) = lxd::unavailable(kind) {
        eprintln!("{why}");
        return Ok(NO_SERVER_HERE.into());
    }
    let cluster = match lxd::image() {
        Ok(image) => Cluster::with_image(kind, members, &image).await?,
        Err(_) => Cluster::start(kind, members).await?,
    };
    let first = Member(0);
    let token = tempfile::NamedTempFile::new()?;
    std::fs::write(token.path(), cluster.token(first, "with-cluster").await?)?;
    let urls: Vec<_> = cluster.members().map(|member| cluster.url(member)).collect();
    let mut command = tokio::process::Command::new(program);
    command.env("REMOTE_URL", cluster.url(first)).env("REMOTE_URLS", urls.join(" "));
    command.env("REMOTE_TOKEN_FILE", token.path());
    // SIGINT reaches the command as well; this waits for it.
    let ignored = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    let status = command.args(arguments).status().await?;
    ignored.abort();
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into())
}
