//! Stands in for `lnplay` in the soak's environments: prints what it would print, and runs nothing.
//!
//! A second `lnplay up` prints the same connection strings, as the real one does. The file that `SOAK_TROUBLE` names has a word
//! that says what goes wrong ([`soak::trouble::LNPLAY`]).

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use lnplaylive_core::progress::{Line, Progress, Step};
use lnplaylive_core::{ConnectionString, EnvironmentSpec, version};
use rand::Rng as _;

fn main() -> ExitCode {
    let command: Vec<_> = std::env::args().skip(1).collect();
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let done = match command[..] {
        ["up", "-"] => up(),
        ["status"] => status(),
        ["down"] => Ok(()),
        _ => Err(anyhow::anyhow!("unknown command {command:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn state() -> anyhow::Result<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join("strings")).context("HOME is not set")
}

fn up() -> anyhow::Result<()> {
    let trouble = std::env::var_os("SOAK_TROUBLE").and_then(|path| std::fs::read_to_string(path).ok());
    let trouble = trouble.as_deref().unwrap_or_default().trim();
    if trouble == "exits" {
        anyhow::bail!("no space left on device");
    }
    let mut spec = Vec::new();
    std::io::stdin().read_to_end(&mut spec)?;
    let spec: EnvironmentSpec = version::read(&spec)?;
    spec.validate()?;
    for step in [Step::StartBitcoind, Step::MatureChain, Step::StartNodes, Step::FundNodes] {
        print(&Line::Progress(Progress::new(step, 1, 1, "Working")))?;
        match trouble {
            "halfway" if step == Step::StartNodes => anyhow::bail!("killed"),
            "rubbish" => println!("Segmentation fault"),
            "fails" => {
                print(&Line::Failed { message: "node 0 does not start: no space left on device".into() })?;
                anyhow::bail!("node 0 does not start");
            }
            _ => {}
        }
    }
    let state = state()?;
    let text = if let Ok(text) = std::fs::read_to_string(&state) {
        text
    } else {
        let strings =
            (0..spec.node_count).map(|index| string(&spec, index)).collect::<anyhow::Result<Vec<_>>>()?;
        let text = serde_json::to_string(&strings)?;
        std::fs::write(&state, &text)?;
        text
    };
    print(&Line::Ready { connection_strings: serde_json::from_str(&text)? })?;
    if trouble == "unsuccessful" {
        anyhow::bail!("killed after the last line");
    }
    Ok(())
}

/// The digits of URL-safe base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A connection string with an id and a rune that nobody else has.
fn string(spec: &EnvironmentSpec, index: u32) -> anyhow::Result<ConnectionString> {
    let mut rng = rand::rng();
    let id = format!("02{}", hex::encode(rng.random::<[u8; 32]>()));
    let rune = (0..62).map(|_| char::from(DIGITS[rng.random_range(0..64)])).collect::<String>() + "==";
    Ok(ConnectionString {
        page: spec.connect_page.clone(),
        node_id: id.parse()?,
        endpoint: spec.endpoint(index)?,
        rune,
        name: spec.names.get(index as usize).cloned(),
        color: spec.colors.get(index as usize).copied(),
    })
}

fn print(line: &Line) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

/// As the real one says it of an environment that is well.
fn status() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(state()?).unwrap_or_else(|_| "[]".into());
    let strings: Vec<ConnectionString> = serde_json::from_str(&text)?;
    let child = serde_json::json!({"state": "running", "pid": 1, "restarts": 0, "last_exit": null});
    let nodes = strings.iter().enumerate().map(|(index, string)| {
        serde_json::json!({
            "index": index, "name": string.name.clone().unwrap_or_default(), "node_id": string.node_id,
            "block_height": 101, "state": "running", "pid": 1, "restarts": 0, "last_exit": null,
        })
    });
    let nodes: Vec<_> = nodes.collect();
    let up = !nodes.is_empty();
    let phase = if up { "ready" } else { "down" };
    let status = serde_json::json!({
        "phase": phase, "ready": up, "environment": "soak", "block_height": 101, "bitcoind": child, "nodes": nodes,
    });
    println!("{status}");
    Ok(())
}
