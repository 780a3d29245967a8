//! The output of `lnplay up`: one JSON object a line, which the provisioner reads over SSH.
//!
//! Lines have a version, as other formats do (see [`crate::version`]): image and shop may be of different releases. A step
//! that the reader does not know, or another field, is no new version: it only informs the person who waits.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::connection::ConnectionString;
use crate::version;

/// A step of `lnplay up`. Its name is its variant's in kebab case, such as `start-nodes`.
///
/// The order of the variants is that in which the steps are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, VariantArray, IntoStaticStr, EnumString)]
#[strum(serialize_all = "kebab-case")]
pub enum Step {
    /// bitcoind is started.
    StartBitcoind,
    /// Blocks are mined until coins can be spent.
    MatureChain,
    /// The nodes are started.
    StartNodes,
    /// Each node gets its coins.
    FundNodes,
    /// The channels of the spec are opened.
    OpenChannels,
}

impl Step {
    /// The name, as it is written.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The step of that name; `None` if a newer `lnplay` has a step that we do not know.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The share of the whole that the step takes, by measurement.
    fn weight(self) -> u32 {
        match self {
            Self::StartBitcoind | Self::MatureChain => 5,
            Self::StartNodes => 35,
            Self::FundNodes => 20,
            Self::OpenChannels => 9,
        }
    }

    /// The part of `whole` that is done when `done` of `total` units of this step are, and all steps before it.
    ///
    /// ```
    /// use lnplaylive_core::progress::Step;
    /// assert_eq!(Step::StartBitcoind.overall(0, 1, 74), 0);
    /// assert_eq!(Step::StartNodes.overall(4, 8, 74), 27);
    /// assert_eq!(Step::OpenChannels.overall(3, 3, 74), 74);
    /// ```
    pub fn overall(self, done: u32, total: u32, whole: u32) -> u32 {
        let sum =
            |steps: &mut dyn Iterator<Item = &Self>| steps.map(|step| u64::from(step.weight())).sum::<u64>();
        let before = sum(&mut Self::VARIANTS.iter().filter(|step| **step < self));
        let all = sum(&mut Self::VARIANTS.iter());
        let (done, total) = (u64::from(done.min(total)), u64::from(total.max(1)));
        let part = u64::from(whole) * (before * total + u64::from(self.weight()) * done) / (all * total);
        u32::try_from(part).unwrap_or(whole)
    }
}

/// The progress of a piece of long work, for people who wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The name of the step: one of [`Step`], unless it comes from a newer `lnplay`.
    pub step: String,
    /// The units of the step that are done.
    pub done: u32,
    /// The units of the step.
    pub total: u32,
    /// A sentence for the person who waits.
    pub message: String,
}

impl Progress {
    /// Progress in a step.
    pub fn new(step: Step, done: u32, total: u32, message: impl Into<String>) -> Self {
        Self { step: step.name().to_owned(), done, total, message: message.into() }
    }
}

/// One line of `lnplay up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// Work goes on.
    Progress(Progress),
    /// The environment is up; the last line of a run that succeeded.
    Ready {
        /// A connection string for each node, node 0's first.
        connection_strings: Vec<ConnectionString>,
    },
    /// The run failed; its last line. The exit status is not 0.
    Failed {
        /// A sentence for people: the action, its target, and a remedy.
        message: String,
    },
}

impl Line {
    /// Reads a line of output; `None` if it is not one of ours, or of a newer version.
    pub fn parse(line: &str) -> Option<Self> {
        version::read(line.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_grows_from_step_to_step_and_ends_at_the_whole() {
        let mut last = 0;
        for &step in Step::VARIANTS {
            assert_eq!(Step::from_name(step.name()), Some(step));
            for done in 0..=8 {
                let now = step.overall(done, 8, 1000);
                assert!(now >= last, "{step:?} goes back from {last} to {now}");
                last = now;
            }
        }
        assert_eq!(last, 1000);
        assert_eq!(Step::StartNodes.overall(9, 8, 100), Step::StartNodes.overall(8, 8, 100));
        assert_eq!(Step::from_name("brew-coffee"), None);
    }
}
