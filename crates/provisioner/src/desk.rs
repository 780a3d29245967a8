//! The organiser's desk: has an environment that was handed over carry out an action.

use std::time::Duration;

use lnplaylive_core::desk::{Action, Answer};
use lnplaylive_core::order::Handover;
use thiserror::Error;
use tokio::time::timeout;

use crate::{Provisioner, ssh};

/// The longest that an action may take: an SSH connection, which may need a call of the remote's API, and one command.
const DESK_TIMEOUT: Duration = Duration::from_secs(120);

/// An action without an answer. Unless the environment has no desk, it may have been carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeskError {
    /// The environment was made before there was a desk.
    #[error("this environment was made before the desk")]
    TooOld,
    /// It does not answer; the sentence says what was tried.
    #[error("{0}")]
    NoAnswer(String),
}

impl Provisioner {
    /// Has an environment carry out an action, over SSH: one attempt.
    pub async fn desk(&self, handover: &Handover, action: &Action) -> Result<Answer, DeskError> {
        // Without its key, it cannot be reached.
        let site = handover.site.as_ref().ok_or(DeskError::TooOld)?;
        let ask = async {
            let remote = self.remote(&handover.remote)?;
            let host = remote.host_of(handover, site).await?;
            ssh::lnplay_desk(&remote.settings, &host, handover, site, action).await
        };
        match timeout(DESK_TIMEOUT, ask).await {
            Ok(Ok(answer)) => answer.ok_or(DeskError::TooOld),
            Ok(Err(error)) => Err(DeskError::NoAnswer(error.chain())),
            Err(_) => Err(DeskError::NoAnswer(format!("no answer after {} s", DESK_TIMEOUT.as_secs()))),
        }
    }
}
