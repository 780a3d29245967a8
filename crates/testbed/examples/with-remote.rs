//! Runs a command beside a private LXD or Incus server:   with-remote lxd|incus COMMAND [ARGUMENT…]
//!
//! Ends with the command's exit status, or with 77 if no such server can run here. The command finds the server in `LXD_URL`
//! and `LXD_TOKEN_FILE`, or `INCUS_URL` and `INCUS_TOKEN_FILE`, the file holding an unused enrolment token, and in `REMOTE_URL`
//! and `REMOTE_TOKEN_FILE`. With `TESTBED_TEST_IMAGE` the server has the image `lnplay`; with `TESTBED_VM_EMULATION` it runs virtual
//! machines as well, their static addresses being those from `REMOTE_FIRST_ADDRESS` to `REMOTE_LAST_ADDRESS`. For example:
//!
//! ```sh
//! cargo run -p testbed --example with-remote -- incus sh -c \
//!     'cargo run --bin lnplaylive-demo -- --remote $REMOTE_URL --remote-token-file $REMOTE_TOKEN_FILE'
//! ```

use std::process::ExitCode;

use testbed::lxd::{self, Kind, Server};

/// The exit status that says that no such server can run on this machine.
const NO_SERVER_HERE: u8 = 77;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let kind = match arguments.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("lxd") => Kind::Lxd,
        Some("incus") => Kind::Incus,
        _ => anyhow::bail!("usage: with-remote lxd|incus COMMAND [ARGUMENT…]"),
    };
    let Some(program) = arguments.next() else { anyhow::bail!("with-remote: name a command to run") };
    let emulation = std::env::var_os(lxd::EMULATION).map(|_| lxd::emulation()).transpose()?;
    let unavailable = if emulation.is_some() { lxd::no_machines(kind) } else { lxd::unavailable(kind) };
    if let Some(why) = unavailable {
        eprintln!("{why}");
        return Ok(NO_SERVER_HERE.into());
    }
    let server = match &emulation {
        Some(emulation) => Server::emulating(kind, emulation).await?,
        None => Server::start(kind).await?,
    };
    if let Ok(image) = lxd::image() {
        server.upload(&image).await?;
    }
    let token = tempfile::NamedTempFile::new()?;
    std::fs::write(token.path(), server.token("with-remote").await?)?;
    let mut command = tokio::process::Command::new(program);
    for prefix in [&kind.name().to_uppercase(), "REMOTE"] {
        command.env(format!("{prefix}_URL"), server.url());
        command.env(format!("{prefix}_TOKEN_FILE"), token.path());
    }
    let (first, last) = server.static_addresses();
    command.env("REMOTE_FIRST_ADDRESS", first.to_string()).env("REMOTE_LAST_ADDRESS", last.to_string());
    // SIGINT reaches the command as well; this waits for it.
    let ignored = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    let status = command.args(arguments).status().await?;
    ignored.abort();
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into())
}
