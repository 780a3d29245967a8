//! Which remote an environment goes to: a pure function of what the remotes reported.

use std::fmt::Write as _;

use lnplaylive::order::PortBlock;
use lnplaylive::settings;
use thiserror::Error;

use crate::remote::{Load, RemoteReport};
use crate::size;

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
        match room(settings, report, node_count, reserved, failed) {
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

/// How loaded a remote is, less is better: memory or processors in percent, whichever is scarcer, then environments.
/// Whole percents, because less is chance.
type Rank = (u64, u32);

/// The ports that a remote has for it, and how loaded the remote would be.
fn room(
    settings: &settings::Remote,
    report: &RemoteReport,
    node_count: u32,
    reserved: &[(&str, PortBlock)],
    failed: u32,
) -> Result<(PortBlock, Rank), String> {
    let load = report.load.as_ref().map_err(Clone::clone)?;
    let Load { ports, environments, memory, .. } = load;
    let mut used = ports.clone();
    let mut coming = load.coming.clone();
    for (remote, block) in reserved {
        if *remote == settings.name && !used.contains(block) {
            used.push(*block);
            coming.push(*block);
        }
    }
    let unreported = u32::try_from(used.len() - ports.len()).unwrap_or(u32::MAX);
    let environments = environments.saturating_add(unreported);
    if settings.max_environments.is_some_and(|max| environments >= max) {
        return Err(format!("has {environments} environments, as many as max_environments allows"));
    }
    // What is being made counts in full: when its memory will be taken is not known.
    let needed = |nodes| size::needed(settings.instance_type, nodes);
    let spoken_for: u64 = coming.iter().map(|block| needed(u32::from(block.count.saturating_sub(1)))).sum();
    let percent = |part: u64| part.saturating_mul(100) / memory.total.max(1);
    let wanted = memory.used.saturating_add(spoken_for).saturating_add(needed(node_count));
    if percent(wanted) > u64::from(settings.max_memory_percent) {
        let (mib, most) = (1024 * 1024, settings.max_memory_percent);
        return Err(format!(
            "has {} of {} MiB of memory in use and {} promised; with {} more it would be above the {most}% \
             that max_memory_percent allows",
            memory.used / mib,
            memory.total / mib,
            spoken_for / mib,
            needed(node_count) / mib,
        ));
    }
    let block = settings
        .free_block(node_count, &used, failed)
        .ok_or_else(|| format!("has no {} free ports in a row", node_count + 1))?;
    Ok((block, (percent(wanted).max(busy_percent(load)), environments)))
}

/// How busy the processors are, where the remote tells.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a percentage; casts of floats saturate"
)]
fn busy_percent(load: &Load) -> u64 {
    load.cpu_load.map_or(0, |busy| (busy * 100.0 / load.cpus.max(1) as f64) as u64)
}

impl Candidate<'_> {
    /// How many environments of `node_count` nodes the remote has room for now, as far as it tells: the fewest of
    /// ports, memory and `max_environments`. `reserved` as in [`choose`].
    pub fn room(&self, node_count: u32, reserved: &[(&str, PortBlock)]) -> u32 {
        let mut reserved = reserved.to_vec();
        let mut count = 0;
        while let Ok((block, _)) = room(self.settings, self.report, node_count, &reserved, 0) {
            reserved.push((&self.settings.name, block));
            count += 1;
        }
        count
    }

    /// How many environments of `node_count` nodes its ports are enough for.
    pub fn free_port_blocks(&self, node_count: u32) -> u32 {
        let Ok(load) = &self.report.load else { return 0 };
        let mut used = load.ports.clone();
        let mut count = 0;
        while let Some(block) = self.settings.free_block(node_count, &used, 0) {
            used.push(block);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Memory;

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

    fn load(environments: u32, ports: Vec<PortBlock>) -> Load {
        let memory = Memory { total: 64 << 30, used: 2 << 30 };
        Load { environments, ports, coming: Vec::new(), memory, cpus: 4, cpu_load: None, members: None }
    }

    fn report(name: &str, environments: u32) -> RemoteReport {
        let ports = (0..environments)
            .map(|n| PortBlock { first: 20000 + 9 * u16::try_from(n).expect("small"), count: 9 })
            .collect();
        RemoteReport { name: name.into(), load: Ok(load(environments, ports)) }
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
        let mut load = load(0, Vec::new());
        change(&mut load);
        RemoteReport { name: name.into(), load: Ok(load) }
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
            load.coming = vec![PortBlock { first: 20000, count: 9 }];
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
            (candidate.room(nodes, &[]), candidate.free_port_blocks(nodes))
        };
        assert_eq!(room(&report("a", 1), 8), (2, 10), "three environments at most");
        assert_eq!(room(&report("a", 1), 64), (1, 1), "91 ports are left");
        let tight = with("a", |load| load.memory = Memory { total: 4 << 30, used: 1 << 30 });
        assert_eq!(room(&tight, 8), (2, 11), "2.6 GiB may be used");
        assert_eq!(room(&RemoteReport { name: "a".into(), load: Err("down".into()) }, 8), (0, 0));
    }
}
