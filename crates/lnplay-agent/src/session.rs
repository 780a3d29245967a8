//! The SSH account of an instance, which can run `lnplay up`, `lnplay status`, `lnplay desk` and `lnplay down` and nothing
//! else.
//!
//! The account has no privileges. Whatever it asks for, sshd runs `lnplay session` ([`relay`]), which passes one of those
//! commands and its input to a socket. On the other side systemd starts `lnplay attend` as root ([`attend`]), which runs the
//! command and writes its lines back. So there is neither a shell nor a setuid program between the network and root.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, bail};
use lnplaylive_core::progress::Line;
use strum::VariantArray;

/// The socket of `lnplay attend`; its group is the account's.
pub const SOCKET: &str = "/run/lnplay.sock";

/// A command that the account can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum Request {
    /// `lnplay up -`, followed by the spec.
    Up,
    /// `lnplay status`.
    Status,
    /// `lnplay desk`, followed by an action.
    Desk,
    /// `lnplay down`.
    Down,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "lnplay up -",
            Self::Status => "lnplay status",
            Self::Desk => "lnplay desk",
            Self::Down => "lnplay down",
        })
    }
}

impl FromStr for Request {
    type Err = anyhow::Error;

    /// Reads a command line literally, without expansion or quoting.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = Self::VARIANTS.iter().find(|request| request.to_string() == text).copied();
        found.context(
            "this account can run `lnplay up -`, `lnplay status`, `lnplay desk` and `lnplay down`, and nothing else",
        )
    }
}

/// Passes the command that was requested over SSH on, with standard input, and prints the answer. The exit status is the
/// command's: success unless the last line reports a failure.
pub fn relay() -> anyhow::Result<ExitCode> {
    let asked = std::env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    let request: Request = asked.parse()?;
    let mut stream =
        UnixStream::connect(SOCKET).with_context(|| format!("cannot reach lnplay at {SOCKET}"))?;
    writeln!(stream, "{request}").context("lnplay does not listen")?;
    let mut input = stream.try_clone()?;
    // Ends with the process, since the client may leave its end open.
    std::thread::spawn(move || {
        let has_input = matches!(request, Request::Up | Request::Desk);
        if has_input && io::copy(&mut io::stdin().lock(), &mut input).is_err() {
            return;
        }
        drop(input.shutdown(Shutdown::Write));
    });
    let mut last = Vec::new();
    let mut out = io::stdout().lock();
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        // Our lines are far shorter than this.
        if (&mut lines).take(crate::state::MAX_SIZE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        out.write_all(&line).and_then(|()| out.flush()).context("the client does not read")?;
        last = line;
    }
    let ended = Line::parse(&String::from_utf8_lossy(&last));
    let failed = match request {
        Request::Up => !matches!(ended, Some(Line::Ready { .. })),
        Request::Status | Request::Desk | Request::Down => matches!(ended, Some(Line::Failed { .. })),
    };
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads the request from the front of standard input; the rest is the command's input.
pub fn attend(mut input: impl Read) -> anyhow::Result<Request> {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte, since the rest belongs to the command.
    while line.len() < 64 {
        if input.read(&mut byte).context("reading the request")? == 0 {
            break;
        }
        if byte == *b"\n" {
            return String::from_utf8_lossy(&line).parse();
        }
        line.push(byte[0]);
    }
    bail!("no request came")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_can_be_asked_for() {
        for &request in Request::VARIANTS {
            assert_eq!(request.to_string().parse::<Request>().expect("its own text"), request);
        }
        for text in [
            "",
            "sh",
            "lnplay",
            "lnplay up",
            "lnplay up /etc/shadow",
            "lnplay up - ; id",
            "lnplay up -\nid",
            "lnplay down --dir /",
            "lnplay desk look",
            "lnplay desk; id",
            "lnplay supervise",
            "lnplay status | sh",
            "/usr/bin/lnplay status",
            " lnplay status",
            "LNPLAY_DIR=/ lnplay down",
        ] {
            assert!(text.parse::<Request>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_request_is_read_and_the_rest_left() {
        let mut input = &b"lnplay up -\n{\"spec\": 1}"[..];
        assert_eq!(attend(&mut input).expect("a request"), Request::Up);
        assert_eq!(input, b"{\"spec\": 1}");
        for wrong in [&b""[..], b"lnplay up -", b"sh\n", &[b'a'; 1000]] {
            assert!(attend(wrong).is_err(), "{wrong:?}");
        }
    }
}
