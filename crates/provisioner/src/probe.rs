//! Probes: how is an environment that was handed over?

use std::time::Duration;

use lnplaylive_core::health::{Answer, Report};
use lnplaylive_core::order::{Handover, Severity, Site};
use lxd_client::Status;
use tokio::time::timeout;

use crate::remote::Remote;
use crate::{Error, Provisioner, instance, ssh};

/// The longest that a probe may take: an SSH connection and one command, then some calls of the remote's API.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

impl Provisioner {
    /// Asks an environment how it is, over SSH. If it does not answer, or the record has no key to it, asks its remote whether
    /// its instance runs.
    pub async fn probe(&self, handover: &Handover) -> Answer {
        let probe = async {
            match self.remote(&handover.remote) {
                Ok(remote) => remote.probe(handover).await,
                Err(error) => Answer::NotAsked(error.chain()),
            }
        };
        let late = || Answer::NotAsked(format!("no answer after {} s", PROBE_TIMEOUT.as_secs()));
        timeout(PROBE_TIMEOUT, probe).await.unwrap_or_else(|_| late())
    }
}

impl Remote {
    async fn probe(&self, handover: &Handover) -> Answer {
        let silent = match &handover.site {
            Some(site) => match self.ask_status(handover, site).await {
                Ok(report) => return Answer::Report(report),
                // A fault of this machine, or the remote does not even say where the environment is.
                Err(error) if error.severity() == Severity::Passing => {
                    return Answer::NotAsked(error.chain());
                }
                Err(error) => Some(error),
            },
            None => None,
        };
        match self.status_of_instance(handover).await {
            Ok(Some(Status::Running)) => {
                silent.map_or(Answer::Runs, |error| Answer::Unreachable(error.chain()))
            }
            Ok(Some(Status::Stopped)) => Answer::Stopped("its instance is stopped".to_owned()),
            Ok(Some(status)) => Answer::Stopped(format!("its instance does not run: {status:?}")),
            Ok(None) => Answer::Stopped("its instance is gone".to_owned()),
            Err(error) => Answer::NotAsked(error.chain()),
        }
    }

    async fn ask_status(&self, handover: &Handover, site: &Site) -> Result<Report, Error> {
        let host = self.host_of(handover, site).await?;
        ssh::lnplay_status(&self.settings, &host, handover, site).await
    }

    /// Where the ports of an environment that was handed over are reached. Only a cluster has to be asked.
    pub(crate) async fn host_of(&self, handover: &Handover, site: &Site) -> Result<String, Error> {
        match site.member.as_deref() {
            None => Ok(self.settings.host().to_owned()),
            member => self.host(&self.client().await?, member, handover.project).await,
        }
    }

    /// Status of the environment's instance; `None` if there is none.
    async fn status_of_instance(&self, handover: &Handover) -> Result<Option<Status>, Error> {
        let client = self.client().await?;
        Ok(instance::find(&client, handover.project).await?.map(|instance| instance.status))
    }
}
