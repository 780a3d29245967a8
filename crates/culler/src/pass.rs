//! One pass: list, judge, remove.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::ShopId;
use lnplaylive_core::clocks::{WrongClock, agreed_time};
use lnplaylive_core::culling::{Reason, Verdict, judge};
use lnplaylive_core::settings::{Culler, Remote};
use provisioner::{Listing, Projects, Removal, Seen};
use tokio::time::{Instant, timeout_at};

use crate::report::{Entry, Outcome, RemoteReport, Report};

/// A pass over the remotes, and its limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) settings: &'a Culler,
    /// The directory with the remotes' keys.
    pub(crate) state_dir: &'a Path,
    /// The shop whose projects are removed. Without one, only those are that name no shop.
    pub(crate) shop: Option<&'a ShopId>,
    pub(crate) grace: SignedDuration,
    pub(crate) dry_run: bool,
}

impl Pass<'_> {
    /// Culls all remotes concurrently. Failures are in the report.
    pub(crate) async fn run(self, remotes: &[&Remote]) -> Report {
        let deadline = Instant::now() + Duration::from_secs(60 * u64::from(self.settings.max_mins));
        let remotes = join_all(remotes.iter().map(|remote| self.cull(remote, deadline))).await;
        Report { dry_run: self.dry_run, remotes }
    }

    async fn cull(self, remote: &Remote, deadline: Instant) -> RemoteReport {
        let mut report = RemoteReport::new(&remote.name);
        let call_time = Duration::from_secs(self.settings.call_timeout_secs.into());
        let listed = async {
            let mut remote = remote.clone();
            if !self.settings.enrol {
                remote.token_file = None;
            }
            let projects = Projects::new(&remote, self.state_dir, call_time)?;
            let listing = projects.list().await?;
            Ok((projects, listing))
        };
        let (projects, listing) = match timeout_at(deadline, listed).await {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                let error: provisioner::Error = error;
                report.fail(error.chain());
                return report;
            }
            Err(_) => {
                report.fail("its projects were not listed within culler.max_mins".to_owned());
                return report;
            }
        };
        let due = self.judge_all(&listing, &mut report);
        if self.dry_run {
            let entries =
                due.into_iter().map(|(name, reason)| Entry::due(&name, Outcome::WouldRemove, reason));
            entries.for_each(|entry| report.add(entry));
            return report;
        }
        let at_a_time = self.settings.concurrency as usize;
        let mut removals = stream::iter(
            due.into_iter().map(|(name, reason)| self.remove(&projects, name, reason, deadline)),
        )
        .buffer_unordered(at_a_time);
        while let Some(removed) = removals.next().await {
            match removed {
                Some(entry) => report.add(entry),
                None => report.keep(),
            }
        }
        report
    }

    /// Reports the projects that stay, and returns those that are due for removal.
    fn judge_all(self, listing: &Listing, report: &mut RemoteReport) -> Vec<(String, Reason)> {
        let now = agreed_time(Timestamp::now(), listing.clock_ahead).unwrap_or_else(|wrong| {
            report.fail(format!("remote {:?}: nothing is removed there: {wrong}", report.name));
            // At this time nothing has ended.
            Timestamp::MIN
        });
        let (mut due, mut of_unknown_shop) = (Vec::new(), 0);
        for Seen { name, config } in &listing.projects {
            match judge(name, config, self.shop, now, self.grace) {
                Verdict::Keep { .. } => report.keep(),
                Verdict::Foreign => report.foreign(),
                Verdict::OtherShop { is_due } => {
                    of_unknown_shop += u32::from(is_due && self.shop.is_none());
                    report.foreign();
                }
                Verdict::Malformed(error) => report.add(Entry::malformed(name, error)),
                Verdict::Remove(reason) => due.push((name.clone(), reason)),
            }
        }
        if of_unknown_shop > 0 {
            report.fail(format!(
                "remote {:?}: {of_unknown_shop} projects that have ended name a shop, and this culler does not know which shop it \
                 works for: set shop.id, or give it the file remotes/shop.id of the shop's state_dir",
                report.name
            ));
        }
        due
    }

    /// Removes a project if it is still due; `None` if it is not.
    async fn remove(
        self,
        projects: &Projects,
        name: String,
        reason: Reason,
        deadline: Instant,
    ) -> Option<Entry> {
        let operation_time = Duration::from_secs(self.settings.operation_timeout_secs.into());
        let is_due = |seen: &Seen, clock_ahead| {
            let now: Result<Timestamp, WrongClock> = agreed_time(Timestamp::now(), clock_ahead);
            now.is_ok_and(|now| {
                matches!(judge(&seen.name, &seen.config, self.shop, now, self.grace), Verdict::Remove(_))
            })
        };
        tracing::debug!("removing {name}: {reason}");
        match timeout_at(deadline, projects.remove(&name, operation_time, is_due)).await {
            Ok(Ok(Removal::Removed)) => Some(Entry::due(&name, Outcome::Removed, reason)),
            Ok(Ok(Removal::Gone)) => Some(Entry::due(&name, Outcome::Gone, reason)),
            Ok(Ok(Removal::Spared)) => None,
            Ok(Err(error)) => Some(Entry::failed(&name, reason, error.chain())),
            Err(_) => {
                let why = "not done within culler.max_mins; the next pass continues";
                Some(Entry::failed(&name, reason, why.to_owned()))
            }
        }
    }
}
