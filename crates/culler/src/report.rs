//! What a pass has done, for people and for programs.

use std::fmt;

use lnplaylive_core::culling::Reason;
use lnplaylive_core::tags::TagError;
use serde::{Serialize, Serializer};

/// What a pass has done. As JSON: `dry_run`, the sums of the counts, `remotes_failed` and `remotes`.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) dry_run: bool,
    pub(crate) remotes: Vec<RemoteReport>,
}

/// How many projects; `seen` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Counts {
    /// All projects of the remote.
    seen: u32,
    /// Ours, and in use.
    kept: u32,
    /// Ours, and gone; in a dry run: due to be removed.
    removed: u32,
    /// Ours, due, and still there.
    failed: u32,
    /// Not ours.
    foreign: u32,
    /// They look like ours and cannot be read.
    malformed: u32,
}

/// What was done on one remote.
#[derive(Debug, Serialize)]
pub(crate) struct RemoteReport {
    pub(crate) name: String,
    /// Why nothing could be done there.
    error: Option<String>,
    #[serde(flatten)]
    counts: Counts,
    /// All that were neither kept nor foreign.
    projects: Vec<Entry>,
}

/// What became of a project.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    name: String,
    outcome: Outcome,
    /// Why it is due, or what is wrong with it.
    reason: String,
    /// Why it is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Removed,
    /// Somebody else has removed it in the same moment.
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

    /// Notes, and logs, why nothing can be done on this remote.
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

    /// Notes what became of a project, and logs what somebody may have to look at.
    pub(crate) fn add(&mut self, entry: Entry) {
        let counts = &mut self.counts;
        counts.seen += 1;
        match entry.outcome {
            Outcome::Removed | Outcome::Gone | Outcome::WouldRemove => counts.removed += 1,
            Outcome::Failed => {
                counts.failed += 1;
                let error = entry.error.as_deref().unwrap_or_default();
                tracing::error!("{} stays for now, though {}: {error}", entry.name, entry.reason);
            }
            Outcome::Malformed => {
                counts.malformed += 1;
                // Others chose the name.
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
    /// Whether all that was due is gone, on all remotes.
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

/// A line for each project that was removed, or would be, and one with the counts. What went wrong is in the log.
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
