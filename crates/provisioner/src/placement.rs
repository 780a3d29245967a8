//! Which remote an environment goes to: a pure function of what the remotes reported.

use std::fmt::Write as _;

use lnplaylive::order::PortBlock;
use lnplaylive::settings;
use thiserror::Error;

use crate::remote::{Load, RemoteReport};

/// A remote that could take an environment.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its settings.
    pub settings: &'a settings::Remote,
    /// How it is.
    pub report: &'a RemoteReport,
}

/// Where an environment goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The remote's name.
    pub remote: String,
    /// Its ports there.
    pub ports: PortBlock,
}

/// No remote can take it, and why each cannot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NoRoom(String);

/// Chooses the least loaded remote that has room for `node_count` nodes.
///
/// `reserved` are ports, by remote, that are spoken for but may not be in the reports yet. Remotes in
/// `avoid` are taken only when no other can: something went wrong there before. `failed` placements
/// before this one may have failed because something else has the ports, so as many are passed over.
pub fn choose(
    candidates: &[Candidate<'_>],
    node_count: u32,
    reserved: &[(&str, PortBlock)],
    avoid: &[&str],
    failed: u32,
) -> Result<Choice, NoRoom> {
    let mut reasons = String::new();
    let mut best: Option<((bool, f64), Choice)> = None;
    for Candidate { settings, report } in candidates {
        let name = settings.name.as_str();
        match room(settings, report, node_count, reserved, failed) {
            Ok((ports, load)) => {
                let rank = (avoid.contains(&name), load);
                if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                    best = Some((rank, Choice { remote: name.to_owned(), ports }));
                }
            }
            Err(reason) => {
                let separator = if reasons.is_empty() { "" } else { "; " };
                write!(reasons, "{separator}remote {name:?}: {reason}").expect("a string takes all");
            }
        }
    }
    if candidates.is_empty() {
        reasons.push_str("no remote is configured");
    }
    best.map(|(_, choice)| choice).ok_or(NoRoom(reasons))
}

/// The ports that a remote has for it and how loaded the remote is, from 0.
fn room(
    settings: &settings::Remote,
    report: &RemoteReport,
    node_count: u32,
    reserved: &[(&str, PortBlock)],
    failed: u32,
) -> Result<(PortBlock, f64), String> {
    let Load { ports, environments, .. } = report.load.as_ref().map_err(Clone::clone)?;
    let mut used = ports.clone();
    for (remote, block) in reserved {
        if *remote == settings.name && !used.contains(block) {
            used.push(*block);
        }
    }
    let coming = u32::try_from(used.len() - ports.len()).unwrap_or(u32::MAX);
    let environments = environments.saturating_add(coming);
    if settings.max_environments.is_some_and(|max| environments >= max) {
        return Err(format!("has {environments} environments, as many as max_environments allows"));
    }
    let block = settings
        .free_block(node_count, &used, failed)
        .ok_or_else(|| format!("has no {} free ports in a row", node_count + 1))?;
    Ok((block, f64::from(environments)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remotes(names: &[&str]) -> Vec<settings::Remote> {
        names
            .iter()
            .map(|name| {
                let json = serde_json::json!({
                    "name": name, "url": "https://192.0.2.1:8443", "max_environments": 3,
                    "ports": { "first": 20000, "last": 20099 },
                });
                serde_json::from_value(json).expect("settings")
            })
            .collect()
    }

    fn report(name: &str, environments: u32) -> RemoteReport {
        let ports = (0..environments)
            .map(|n| PortBlock { first: 20000 + 9 * u16::try_from(n).expect("small"), count: 9 })
            .collect();
        RemoteReport { name: name.into(), load: Ok(Load { environments, ports }) }
    }

    fn pick(
        reports: &[RemoteReport],
        reserved: &[(&str, PortBlock)],
        avoid: &[&str],
    ) -> Result<Choice, NoRoom> {
        let names: Vec<_> = reports.iter().map(|r| r.name.as_str()).collect();
        let remotes = remotes(&names);
        let candidates: Vec<_> =
            remotes.iter().zip(reports).map(|(settings, report)| Candidate { settings, report }).collect();
        choose(&candidates, 8, reserved, avoid, 0)
    }

    #[test]
    fn the_least_loaded_takes_it() {
        let choice = pick(&[report("a", 2), report("b", 1)], &[], &[]).expect("room");
        assert_eq!(choice, Choice { remote: "b".into(), ports: PortBlock { first: 20009, count: 9 } });
    }

    #[test]
    fn what_is_reserved_counts() {
        let reserved = [20009, 20018].map(|first| ("b", PortBlock { first, count: 9 }));
        let choice = pick(&[report("a", 2), report("b", 1)], &reserved, &[]).expect("room");
        assert_eq!(choice.remote, "a");
    }

    #[test]
    fn one_that_failed_before_comes_last_but_comes() {
        assert_eq!(pick(&[report("a", 2), report("b", 0)], &[], &["b"]).expect("room").remote, "a");
        assert_eq!(pick(&[report("a", 3), report("b", 0)], &[], &["b"]).expect("room").remote, "b");
    }

    #[test]
    fn where_nobody_has_room_each_says_why() {
        let down = RemoteReport { name: "b".into(), load: Err("does not answer".into()) };
        let error = pick(&[report("a", 3), down], &[], &[]).expect_err("no room");
        assert_eq!(
            error.to_string(),
            "remote \"a\": has 3 environments, as many as max_environments allows; remote \"b\": does not answer"
        );
        assert_eq!(pick(&[], &[], &[]).expect_err("no room").to_string(), "no remote is configured");
    }
}
