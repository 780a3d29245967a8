//! The report of a pass, for people and programs.

use std::fmt;

use lnplaylive_core::culling::Reason;
use lnplaylive_core::tags::TagError;
use serde::{Serialize, Serializer};

/// The report of a pass. As JSON it has `dry_run`, the sums of the counts, `remotes_failed` and `remotes`.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) dry_run: bool,
    pub(crate) remotes: Vec<RemoteReport>,
}

/// Numbers of projects; `seen` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// All projects of the remote.
    pub(crate) seen: u32,
    /// Ours, and in use.
    pub(crate) kept: u32,
    /// Ours, and removed; in a dry run due for removal.
    pub(crate) removed: u32,
    /// Ours, due, and still there.
    pub(crate) failed: u32,
    /// Not ours, or another shop's.
    pub(crate) foreign: u32,
    /// Projects that look like ours and whose tags cannot be read.
    pub(crate) malformed: u32,
}

/// The report on one remote.
#[derive(Debug, Serialize)]
pub(crate) struct RemoteReport {
    pub(crate) name: String,
    /// The reason that nothing could be done there.
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    /// The projects that are neither kept nor foreign.
    projects: Vec<Entry>,
}

/// The outcome for a project.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    name: String,
    outcome: Outcome,
    /// The reason for its removal, or the defect of its tags.
    reason: String,
    /// The reason that it could not be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Removed,
    /// Somebody else removed it at the same time.
    Gone,
    WouldRemove,
    Failed,
    Malformed,
}

impl Entry {
    pub(crate) fn due(name: &str, outcome: Outcome, reason: Reason) -> Self {
        Self { name: name.to_owned(), outcome, reason: reason.to_string(), error: None }
    }

    pub(crate) fn failed(name: &str, reason: Reason, error: String) -> Self {
        Self { error: Some(error), ..Self::due(name, Outcome::Failed, reason) }
    }

    pub(crate) fn malformed(name: &str, error: TagError) -> Self {
        Self { name: name.to_owned(), outcome: Outcome::Malformed, reason: error.to_string(), error: None }
    }
}

impl RemoteReport {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), error: None, counts: Counts::default(), projects: Vec::new() }
    }

    /// Records and logs an error that concerns the whole remote.
    pub(crate) fn fail(&mut self, error: String) {
        tracing::error!("{error}");
        self.error = Some(error);
    }

    pub(crate) fn keep(&mut self) {
        self.counts.seen += 1;
        self.counts.kept += 1;
    }

    pub(crate) fn foreign(&mut self) {
        self.counts.seen += 1;
        self.counts.foreign += 1;
    }

    /// Adds an outcome, and logs it if the operator may have to look at it.
    pub(crate) fn add(&mut self, entry: Entry) {
        let counts = &mut self.counts;
        counts.seen += 1;
        match entry.outcome {
            Outcome::Removed | Outcome::Gone | Outcome::WouldRemove => counts.removed += 1,
            Outcome::Failed => {
                counts.failed += 1;
                let error = entry.error.as_deref().unwrap_or_default();
                tracing::error!("{} cannot be removed now, although {}: {error}", entry.name, entry.reason);
            }
            Outcome::Malformed => {
                counts.malformed += 1;
                // Somebody else may have chosen the name.
                let name: String = entry.name.chars().take(100).collect();
                let remote = &self.name;
                tracing::warn!(
                    "remote {remote:?}: project {name:?} looks like ours and is left alone: {}",
                    entry.reason
                );
            }
        }
        self.projects.push(entry);
    }
}

impl Report {
    /// True if everything that was due is gone, on all remotes.
    pub(crate) fn is_good(&self) -> bool {
        self.remotes_failed() == 0 && self.counts().failed == 0
    }

    fn remotes_failed(&self) -> usize {
        self.remotes.iter().filter(|r| r.error.is_some()).count()
    }

    fn counts(&self) -> Counts {
        self.remotes.iter().fold(Counts::default(), |sum, RemoteReport { counts, .. }| Counts {
            seen: sum.seen + counts.seen,
            kept: sum.kept + counts.kept,
            removed: sum.removed + counts.removed,
            failed: sum.failed + counts.failed,
            foreign: sum.foreign + counts.foreign,
            malformed: sum.malformed + counts.malformed,
        })
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            dry_run: bool,
            #[serde(flatten)]
            counts: Counts,
            remotes_failed: usize,
            remotes: &'a [RemoteReport],
        }
        let Self { dry_run, ref remotes } = *self;
        let (counts, remotes_failed) = (self.counts(), self.remotes_failed());
        Document { dry_run, counts, remotes_failed, remotes }.serialize(serializer)
    }
}

/// A line for each project that was removed, or would be, and one with the counts. Failures are in the log.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for RemoteReport { name: remote, projects, .. } in &self.remotes {
            for Entry { name, outcome, reason, .. } in projects {
                let did = match outcome {
                    Outcome::Removed => "removed",
                    Outcome::Gone => "somebody else removed",
                    Outcome::WouldRemove => "would remove",
                    Outcome::Failed | Outcome::Malformed => continue,
                };
                writeln!(f, "{remote}: {did} {name}: {reason}")?;
            }
        }
        let Counts { seen, kept, removed, failed, foreign, malformed } = self.counts();
        let removed_is = if self.dry_run { "to be removed" } else { "removed" };
        write!(
            f,
            "projects: {seen} seen, {kept} kept, {removed} {removed_is}, {failed} failed, {foreign} foreign, \
             {malformed} malformed"
        )?;
        match self.remotes_failed() {
            0 => writeln!(f),
            bad => writeln!(f, "; {bad} of {} remotes could not be culled", self.remotes.len()),
        }
    }
}
