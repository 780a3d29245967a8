//! The health of environments that were handed over: what a probe's answer says, and whose turn the next probe is.
//!
//! ```text
//!              an answer names nodes, or the instance is stopped: at once
//!  ok  ------------------------------------------------------------------> degraded
//!   ^   several probes in a row do not reach the environment ------------>    |
//!   |                                                                          |
//!   +------------------------------- an answer names no nodes -----------------+
//! ```
//!
//! "Could not ask" is not "down": while the remote itself does not answer, an environment that was `ok` becomes `unknown`, and
//! one that was `degraded` stays so.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Probes in a row that must fail before an environment counts as out of reach: a single one may meet a reboot, or a moment
/// without a network.
pub const FAILURES: u32 = 3;

/// An environment is probed again no sooner than this many turns later, so that a shop with few of them is as gentle.
const REST_TURNS: u32 = 4;

/// Version of the answer of `lnplay status`: the one that this release's `lnplay` writes, and the newest that [`Report`] reads.
/// Raise it when a field that [`Report`] reads changes its meaning.
pub const REPORT_VERSION: u32 = 1;

/// The parts of `lnplay status`'s answer that a probe reads. The rest of it is for people.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Report {
    /// Version of the format; programs from before there were versions leave it out.
    #[serde(default = "first_version")]
    version: u32,
    /// True once the environment is up; false while it is coming up, for example after a reboot.
    #[serde(rename = "phase", deserialize_with = "is_ready_phase")]
    is_up: bool,
    /// The height of the chain; `None` if bitcoind does not answer.
    block_height: Option<u32>,
    /// Its nodes, node 0 first.
    nodes: Vec<NodeReport>,
}

/// One node in [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct NodeReport {
    index: u32,
    name: String,
    /// The height of the last block that it has seen; `None` if it does not answer.
    block_height: Option<u32>,
    /// True if it was switched off, which is no fault.
    #[serde(default)]
    off: bool,
    /// The [`crate::desk::fingerprint`] of its rune; programs from before there was a desk leave it out.
    #[serde(default)]
    card: Option<String>,
}

fn first_version() -> u32 {
    1
}

fn is_ready_phase<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(deserializer)? == "ready")
}

/// An answer of `lnplay status` that cannot be read.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A newer program wrote it.
    #[error(
        "lnplay status answers in version {found} of its format, and this program reads versions up to {REPORT_VERSION}"
    )]
    Newer {
        /// The answer's version.
        found: u32,
    },
    /// It is not such an answer.
    #[error("lnplay status answered something else: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Report {
    /// Reads the answer of `lnplay status`. Fields that are not known are passed over.
    pub fn parse(json: &[u8]) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Header {
            version: Option<u32>,
        }
        let Header { version } = serde_json::from_slice(json)?;
        match version {
            Some(found) if found > REPORT_VERSION => Err(ReportError::Newer { found }),
            _ => Ok(serde_json::from_slice(json)?),
        }
    }

    /// The nodes' numbers, each with the [`crate::desk::fingerprint`] of its rune, as far as they are told.
    pub fn cards(&self) -> impl Iterator<Item = (u32, &str)> {
        self.nodes.iter().filter_map(|node| Some((node.index, node.card.as_deref()?)))
    }
}

/// A node that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDown {
    /// Its number, from 0: the position of its connection string.
    pub index: u32,
    /// Its alias.
    pub name: String,
}

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `lnplay status` answered.
    Report(Report),
    /// The remote says that the instance runs. More cannot be asked: the shop no longer has a key to it.
    Runs,
    /// The remote says that the environment is stopped or gone; the sentence says which.
    Stopped(String),
    /// The remote answers and the environment does not; the sentence says what was tried.
    Unreachable(String),
    /// The remote does not answer either; the sentence says what was tried.
    NotAsked(String),
}

/// The condition of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Everything answers.
    Ok,
    /// Something is down.
    Degraded {
        /// The nodes that do not answer; empty if the environment as a whole does not.
        nodes_down: Vec<NodeDown>,
        /// What is wrong, in a sentence.
        what: String,
    },
    /// It could not be asked.
    Unknown,
}

impl Condition {
    /// Names of all conditions.
    pub const NAMES: [&str; 3] = ["ok", "degraded", "unknown"];

    /// Its name.
    pub fn name(&self) -> &'static str {
        let [ok, degraded, unknown] = Self::NAMES;
        match self {
            Self::Ok => ok,
            Self::Degraded { .. } => degraded,
            Self::Unknown => unknown,
        }
    }

    /// The nodes that do not answer.
    pub fn nodes_down(&self) -> &[NodeDown] {
        match self {
            Self::Degraded { nodes_down, .. } => nodes_down,
            Self::Ok | Self::Unknown => &[],
        }
    }
}

/// The health of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its condition.
    pub condition: Condition,
    /// Since when it has this condition, with these nodes down.
    pub since: Timestamp,
    /// Time of the last probe.
    pub probed_at: Option<Timestamp>,
    /// Time and reason of the last probe that reached nothing.
    pub last_error: Option<(Timestamp, String)>,
    /// Probes in a row that reached nothing.
    failures: u32,
}

impl Health {
    /// An environment with this condition since `since`, and not probed yet.
    pub fn new(condition: Condition, since: Timestamp) -> Self {
        Self { condition, since, probed_at: None, last_error: None, failures: 0 }
    }

    /// The health after a probe's answer, at `now`.
    #[must_use]
    pub fn after(&self, answer: Answer, now: Timestamp) -> Self {
        let failures = self.failures.saturating_add(1);
        let (condition, error, failures) = match answer {
            Answer::Runs => (Some(Condition::Ok), None, 0),
            Answer::Report(report) if report.is_up => (Some(condition_of(&report)), None, 0),
            Answer::Report(_) => {
                let reason = "it is starting".to_owned();
                (out_of_reach(failures, &reason), Some(reason), failures)
            }
            Answer::Stopped(what) => {
                let degraded = Condition::Degraded { nodes_down: Vec::new(), what: what.clone() };
                (Some(degraded), Some(what), failures)
            }
            Answer::Unreachable(reason) => (out_of_reach(failures, &reason), Some(reason), failures),
            Answer::NotAsked(reason) => {
                let unknown = failures >= FAILURES && self.condition == Condition::Ok;
                (unknown.then_some(Condition::Unknown), Some(reason), failures)
            }
        };
        // A sentence that is worded otherwise, about the same nodes, is no change.
        let stays = |next: &Condition| {
            next.name() == self.condition.name() && next.nodes_down() == self.condition.nodes_down()
        };
        let changed = condition.as_ref().is_some_and(|next| !stays(next));
        Self {
            condition: condition.unwrap_or_else(|| self.condition.clone()),
            since: if changed { now } else { self.since },
            probed_at: Some(now),
            last_error: error.map(|reason| (now, reason)).or_else(|| self.last_error.clone()),
            failures,
        }
    }

    /// True if the environment is to be looked at sooner than others: something is wrong, or the last probe failed.
    pub fn is_troubled(&self) -> bool {
        self.failures > 0 || matches!(self.condition, Condition::Degraded { .. })
    }
}

/// The condition once the environment has not answered `failures` times in a row; `None` if that is too early to tell.
fn out_of_reach(failures: u32, reason: &str) -> Option<Condition> {
    (failures >= FAILURES).then(|| Condition::Degraded {
        nodes_down: Vec::new(),
        what: format!("it does not answer: {reason}"),
    })
}

fn condition_of(report: &Report) -> Condition {
    let down = report.nodes.iter().filter(|node| node.block_height.is_none() && !node.off);
    let nodes_down: Vec<_> =
        down.map(|node| NodeDown { index: node.index, name: node.name.clone() }).collect();
    let what = match (report.block_height, nodes_down.len()) {
        (Some(_), 0) => return Condition::Ok,
        (None, 0) => "bitcoind does not answer".to_owned(),
        (None, down) => format!("bitcoind and {down} of {} nodes do not answer", report.nodes.len()),
        (Some(_), down) => format!("{down} of {} nodes do not answer", report.nodes.len()),
    };
    Condition::Degraded { nodes_down, what }
}

/// An environment that may be probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<T> {
    /// The environment.
    pub environment: T,
    /// Time since it was last probed; `None` if it never was.
    pub unprobed_for: Option<Duration>,
    /// As [`Health::is_troubled`].
    pub troubled: bool,
}

/// The environment to probe in turn number `turn`; turns are `pause` apart.
///
/// The one that was unprobed longest comes first. Every second turn is for those in trouble, if there are any, so that the end of
/// a trouble is seen soon however many environments there are.
pub fn next<T: Copy>(candidates: &[Candidate<T>], turn: u64, pause: Duration) -> Option<T> {
    let rested = |candidate: &&Candidate<T>| {
        candidate.unprobed_for.is_none_or(|since| since >= pause.saturating_mul(REST_TURNS))
    };
    let longest = |only_troubled: bool| {
        let eligible = candidates.iter().filter(|c| c.troubled || !only_troubled).filter(rested);
        eligible.max_by_key(|c| c.unprobed_for.unwrap_or(Duration::MAX)).map(|c| c.environment)
    };
    let troubled = turn.is_multiple_of(2).then(|| longest(true)).flatten();
    troubled.or_else(|| longest(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + 60 * minute).expect("in range")
    }

    fn report(phase: &str, bitcoind: bool, down: &[u32]) -> Answer {
        let height = |up: bool| if up { "101" } else { "null" };
        let node = |index: u32| {
            let height = height(!down.contains(&index));
            format!(
                r#"{{"index": {index}, "name": "N{index}", "block_height": {height}, "state": "running"}}"#
            )
        };
        let nodes: Vec<_> = (0..4).map(node).collect();
        let json = format!(
            r#"{{"phase": "{phase}", "ready": false, "block_height": {}, "nodes": [{}], "of": "tomorrow"}}"#,
            height(bitcoind),
            nodes.join(",")
        );
        Answer::Report(Report::parse(json.as_bytes()).expect("a report"))
    }

    fn ok() -> Health {
        Health::new(Condition::Ok, at(0))
    }

    fn unreachable() -> Answer {
        Answer::Unreachable("SSH to it: refused".into())
    }

    fn not_asked() -> Answer {
        Answer::NotAsked("the remote does not answer".into())
    }

    #[test]
    fn nodes_that_do_not_answer_are_named_at_once() {
        let health = ok().after(report("ready", true, &[1, 3]), at(1));
        let names: Vec<_> =
            health.condition.nodes_down().iter().map(|n| (n.index, n.name.as_str())).collect();
        assert_eq!((health.condition.name(), names), ("degraded", vec![(1, "N1"), (3, "N3")]));
        assert_eq!(health.since, at(1));
        let same = health.after(report("ready", true, &[1, 3]), at(2));
        assert_eq!((same.since, same.probed_at), (at(1), Some(at(2))), "nothing new");
        let other = same.after(report("ready", true, &[1]), at(3));
        assert_eq!(other.since, at(3));
        let mended = other.after(report("ready", true, &[]), at(4));
        assert_eq!((&mended.condition, mended.since, mended.is_troubled()), (&Condition::Ok, at(4), false));
        let chain = ok().after(report("ready", false, &[]), at(1));
        assert!(matches!(&chain.condition, Condition::Degraded { what, .. } if what.contains("bitcoind")));
        let stopped = ok().after(Answer::Stopped("its instance is stopped".into()), at(1));
        assert_eq!(stopped.condition.name(), "degraded");
    }

    #[test]
    fn a_node_that_was_switched_off_is_not_down() {
        let json = r#"{"phase": "ready", "block_height": 101, "nodes": [
            {"index": 0, "name": "N0", "block_height": null, "off": true, "card": "00112233aabbccdd"},
            {"index": 1, "name": "N1", "block_height": null}]}"#;
        let report = Report::parse(json.as_bytes()).expect("a report");
        assert_eq!(report.cards().collect::<Vec<_>>(), [(0, "00112233aabbccdd")]);
        let health = ok().after(Answer::Report(report), at(1));
        assert_eq!(health.condition.nodes_down().iter().map(|node| node.index).collect::<Vec<_>>(), [1]);
        let all_off = json.replace("\"block_height\": null}", "\"block_height\": null, \"off\": true}");
        let report = Report::parse(all_off.as_bytes()).expect("a report");
        assert_eq!(ok().after(Answer::Report(report), at(1)).condition, Condition::Ok);
    }

    #[test]
    fn it_takes_several_probes_in_a_row_to_be_out_of_reach() {
        for answer in [unreachable(), report("starting", false, &[0, 1, 2, 3])] {
            let mut health = ok();
            for minute in 1..=2 {
                health = health.after(answer.clone(), at(minute));
                assert_eq!((&health.condition, health.since), (&Condition::Ok, at(0)), "{minute}");
                assert!(health.is_troubled() && health.last_error.is_some());
            }
            let again = health.after(report("ready", true, &[]), at(3));
            assert_eq!(
                again.after(answer.clone(), at(4)).condition,
                Condition::Ok,
                "the row was interrupted"
            );
            health = health.after(answer, at(3));
            assert_eq!((health.condition.name(), health.since), ("degraded", at(3)));
        }
    }

    #[test]
    fn a_remote_that_does_not_answer_says_nothing_about_environments() {
        let mut health = ok();
        for minute in 1..20 {
            health = health.after(not_asked(), at(minute));
            assert_ne!(health.condition.name(), "degraded");
        }
        assert_eq!((&health.condition, health.since), (&Condition::Unknown, at(3)));
        let mut down = ok().after(report("ready", true, &[1]), at(1));
        for minute in 2..20 {
            down = down.after(not_asked(), at(minute));
        }
        assert_eq!(
            (down.condition.nodes_down().len(), down.since),
            (1, at(1)),
            "nobody has said that it is mended"
        );
    }

    #[test]
    fn reports_of_all_versions_are_read_and_newer_ones_are_not() {
        // As images from before there were versions print it.
        let first = r#"{"phase":"ready","ready":true,"environment":"1795534268-0819da5d","block_height":111,
            "bitcoind":{"state":"running","pid":7,"restarts":0,"last_exit":null},
            "nodes":[{"index":0,"name":"Alice","node_id":null,"block_height":111,"state":"running","pid":8,"restarts":0,
            "last_exit":null}]}"#;
        let report = Report::parse(first.as_bytes()).expect("version 1");
        assert_eq!(condition_of(&report), Condition::Ok);
        let versioned = first.replacen('{', r#"{"version": 1, "#, 1);
        assert_eq!(Report::parse(versioned.as_bytes()).expect("version 1"), report);
        let error = Report::parse(br#"{"version": 2, "new": []}"#).expect_err("newer").to_string();
        assert!(error.contains("version 2") && error.contains("up to 1"), "{error}");
        Report::parse(b"{}").expect_err("no report");
        Report::parse(b"rubbish").expect_err("no report");
    }

    const PAUSE: Duration = Duration::from_secs(15);

    fn candidate(environment: usize, unprobed: Option<u64>, troubled: bool) -> Candidate<usize> {
        Candidate { environment, unprobed_for: unprobed.map(Duration::from_secs), troubled }
    }

    #[test]
    fn the_longest_unprobed_comes_first_and_trouble_every_second_time() {
        let all =
            [candidate(0, Some(100), false), candidate(1, Some(300), false), candidate(2, Some(90), true)];
        assert_eq!(next(&all, 1, PAUSE), Some(1));
        assert_eq!(next(&all, 2, PAUSE), Some(2));
        let new = [all[0], all[1], candidate(3, None, false)];
        assert_eq!(next(&new, 1, PAUSE), Some(3), "never probed");
        assert_eq!(next(&new, 2, PAUSE), Some(3), "nobody is in trouble");
        assert_eq!(next::<usize>(&[], 1, PAUSE), None);
    }

    #[test]
    fn few_environments_are_not_probed_more_often() {
        assert_eq!(next(&[candidate(0, Some(59), true)], 2, PAUSE), None);
        assert_eq!(next(&[candidate(0, Some(60), true)], 2, PAUSE), Some(0));
    }
}
