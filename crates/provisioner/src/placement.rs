//! Which remote an environment goes to: a pure function of what the remotes reported.

use std::fmt::Write as _;

use lnplaylive::order::PortBlock;
use lnplaylive::settings;
use thiserror::Error;

use crate::remote::RemoteReport;
use crate::space::{Rank, Space};

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
    let mut best: Option<((bool, Rank), Choice)> = None;
    for Candidate { settings, report } in candidates {
        let name = settings.name.as_str();
        let fit = report.load.as_ref().map_err(Clone::clone).and_then(|load| {
            let reserved = reserved.iter().filter(|(remote, _)| *remote == name);
            Space::new(settings, load, reserved.map(|(_, ports)| *ports)).fit(node_count, failed)
        });
        match fit {
            Ok((ports, rank)) => {
                let rank = (avoid.contains(&name), rank);
                if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                    best = Some((rank, Choice { remote: name.to_owned(), ports }));
                }
            }
            Err(reason) => {
                let separator = if reasons.is_empty() { "" } else { "; " };
                // Errors name the remote themselves.
                let prefix = format!("remote {name:?}");
                let prefix = if reason.starts_with(&prefix) { String::new() } else { prefix + ": " };
                write!(reasons, "{separator}{prefix}{reason}").expect("a string takes all");
            }
        }
    }
    if candidates.is_empty() {
        reasons.push_str("no remote is configured");
    }
    best.map(|(_, choice)| choice).ok_or(NoRoom(reasons))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lnplaylive::{OrderId, ProjectName};

    use super::*;
    use crate::availability::{Claims, Room};
    use crate::remote::{Environment, Load, Memory};

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

    fn environment(n: u16, provisioned: bool) -> Environment {
        let expires_at = Timestamp::from_second(1_700_000_000 + i64::from(n)).expect("in range");
        let project = ProjectName::new(expires_at, OrderId::random()).expect("a name");
        let ports = Some(PortBlock { first: 20000 + 9 * n, count: 9 });
        Environment { project, expires_at, ports, address: None, provisioned }
    }

    fn report(name: &str, environments: u16) -> RemoteReport {
        let memory = Memory { total: 64 << 30, used: 2 << 30 };
        let environments = (0..environments).map(|n| environment(n, true)).collect();
        let load = Load { environments, memory, cpus: 4, cpu_load: None, members: None };
        RemoteReport { name: name.into(), load: Ok(load) }
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

    fn with(name: &str, change: impl FnOnce(&mut Load)) -> RemoteReport {
        let mut report = report(name, 0);
        report.load.as_mut().map(change).expect("it has reported");
        report
    }

    #[test]
    fn memory_and_processors_count_for_more_than_environments() {
        let full = with("b", |load| load.memory.used = 40 << 30);
        assert_eq!(pick(&[report("a", 2), full], &[], &[]).expect("room").remote, "a");
        let busy = with("b", |load| load.cpu_load = Some(3.0));
        assert_eq!(pick(&[report("a", 2), busy], &[], &[]).expect("room").remote, "a");
    }

    #[test]
    fn what_would_not_leave_the_reserve_is_refused() {
        // A virtual machine for 8 nodes is given 1280 MiB.
        let memory = |used| Memory { total: 10 << 30, used };
        let limit = (9 << 30) - (1280 << 20);
        let fits = with("a", |load| load.memory = memory(limit));
        pick(&[fits], &[], &[]).expect("room");
        let coming = with("a", |load| {
            load.memory = memory(limit - (1 << 20));
            load.environments = vec![environment(0, false)];
        });
        let error = pick(&[coming], &[], &[]).expect_err("no room");
        assert!(error.to_string().contains("max_memory_percent"), "{error}");
        let reserved = [("a", PortBlock { first: 20000, count: 9 })];
        pick(&[with("a", |load| load.memory = memory(limit))], &reserved, &[]).expect_err("no room");
    }

    #[test]
    fn room_is_the_fewest_of_all_limits() {
        let remotes = remotes(&["a"]);
        let room = |report: &RemoteReport, nodes| {
            let candidate = Candidate { settings: &remotes[0], report };
            Room::new(&[candidate], &Claims::default()).count(nodes)
        };
        assert_eq!(room(&report("a", 1), 8), 2, "three environments at most");
        assert_eq!(room(&report("a", 1), 64), 1, "91 ports are left");
        let tight = with("a", |load| load.memory = Memory { total: 4 << 30, used: 1 << 30 });
        assert_eq!(room(&tight, 8), 2, "2.6 GiB may be used");
        assert_eq!(room(&RemoteReport { name: "a".into(), load: Err("down".into()) }, 8), 0);
    }
}
