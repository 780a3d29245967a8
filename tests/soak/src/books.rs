//! The books: what must hold of orders, invoices and remotes once the shop has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::tags::{NotOurs, Stage};
use lnplaylive_core::{Order, OrderId, ProjectTags, State};

use crate::ledger::Purchase;

/// A project on a remote.
#[derive(Clone, Debug)]
pub struct Project {
    /// The remote.
    pub remote: String,
    /// The project's name.
    pub name: String,
    /// Its configuration.
    pub config: BTreeMap<String, String>,
    /// True if an instance runs in it.
    pub runs: bool,
}

impl Project {
    /// Its tags, if it is one of the shop's; `Err` if it looks like one and cannot be read.
    pub fn tags(&self) -> Result<Option<ProjectTags>, String> {
        match ProjectTags::read(&self.name, &self.config) {
            Ok(tags) => Ok(Some(tags)),
            Err(NotOurs::Foreign) => Ok(None),
            Err(NotOurs::Malformed(error)) => Err(format!("{} on {}: {error}", self.name, self.remote)),
        }
    }
}

/// Everything that is there at one time.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The world's time.
    pub now: Timestamp,
    /// The open records.
    pub open: Vec<Order>,
    /// The closed records.
    pub closed: Vec<Order>,
    /// Labels and states of the node's invoices.
    pub invoices: BTreeMap<String, String>,
    /// All projects of all remotes.
    pub projects: Vec<Project>,
    /// What buyers and operator know.
    pub ledger: BTreeMap<String, Purchase>,
}

/// The longest step of the clocks. One may come between the decision on the end of an environment and its record.
pub const LONGEST_STEP: SignedDuration = SignedDuration::from_mins(20);

/// The error of an environment whose end does not leave the hours that were paid for.
fn too_short(order: &Order, expires_at: Timestamp) -> Option<String> {
    let handed_over = order.history.iter().rfind(|entry| entry.what.starts_with("handed over"))?.at;
    let paid = SignedDuration::from_hours(order.terms.hours.into());
    let least = handed_over + paid - LONGEST_STEP;
    (expires_at < least).then(|| format!("was handed over at {handed_over} and ends at {expires_at}"))
}

/// The first digits of an id, as logs have it.
fn short(id: &str) -> String {
    id.chars().take(19).collect()
}

impl Books {
    /// All that is wrong when nothing is under way any more: payments, deliveries and what is on the remotes.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = self.list_errors();
        errors.extend(self.payment_errors());
        errors.extend(self.delivery_errors());
        errors.extend(self.project_errors());
        errors
    }

    fn list_errors(&self) -> Vec<String> {
        let closed: BTreeSet<_> = self.closed.iter().map(|order| order.id).collect();
        let open = self.open.iter().map(|order| {
            let (id, state) = (short(&order.id.to_string()), order.state.name());
            if closed.contains(&order.id) {
                format!("{id} is on both lists")
            } else {
                format!("{id} is still open, and {state}")
            }
        });
        let closed = self.closed.iter().filter_map(|order| {
            let (id, state) = (short(&order.id.to_string()), order.state.name());
            match order.state {
                State::Provisioned { .. } | State::Failed { .. } if order.leftovers.is_empty() => None,
                State::Provisioned { .. } | State::Failed { .. } => {
                    Some(format!("{id} is closed and has leftovers"))
                }
                _ => Some(format!("{id} is closed, and {state}")),
            }
        });
        open.chain(closed).collect()
    }

    fn records(&self) -> BTreeMap<OrderId, &Order> {
        self.closed.iter().chain(&self.open).map(|order| (order.id, order)).collect()
    }

    /// Each paid invoice has an order that is delivered or owed, and nothing else has an invoice or an order.
    fn payment_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let records = self.records();
        for (label, status) in self.invoices.iter().filter(|(label, _)| OrderId::is_label_of_ours(label)) {
            let order = label.parse().ok().and_then(|id| records.get(&id));
            match (status.as_str(), order) {
                // Whether it came to an end is for `list_errors`.
                ("paid", Some(_)) => {}
                ("paid", None) => {
                    errors.push(format!("{} was paid and is neither delivered nor owed", short(label)));
                }
                (status, _) => errors.push(format!("the invoice of {} is left, {status}", short(label))),
            }
        }
        for (id, order) in &records {
            let (label, state) = (id.to_string(), order.state.name());
            let status = self.invoices.get(&label).map(String::as_str);
            if order.state.paid_at().is_some() && status != Some("paid") {
                errors.push(format!("{} is {state} and its invoice is {status:?}", short(&label)));
            }
        }
        for (label, purchase) in &self.ledger {
            let status = self.invoices.get(label).map(String::as_str);
            if purchase.paid && status != Some("paid") {
                errors.push(format!("{} was paid, and its invoice is {status:?}", short(label)));
            }
        }
        errors
    }

    /// What a buyer got, the record has, and nothing is delivered and owed.
    fn delivery_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let records = self.records();
        for (label, purchase) in &self.ledger {
            let order = label.parse().ok().and_then(|id| records.get(&id));
            let id = short(label);
            match (order.map(|order| &order.state), purchase) {
                (
                    Some(State::Provisioned { handover, .. }),
                    Purchase { strings, refunded, node_count, .. },
                ) => {
                    let recorded: BTreeSet<_> =
                        handover.connection_strings.iter().map(ToString::to_string).collect();
                    if *refunded {
                        errors.push(format!("{id} was refunded as failed, and delivered"));
                    }
                    if let Some(error) = order.and_then(|order| too_short(order, handover.expires_at)) {
                        errors.push(format!("{id} {error}"));
                    }
                    // The archive keeps none.
                    let archived = recorded.is_empty();
                    if !archived && recorded.len() != *node_count {
                        errors.push(format!("{id} has {} of {node_count} strings", recorded.len()));
                    }
                    if !archived && strings.as_ref().is_some_and(|seen| *seen != recorded) {
                        errors
                            .push(format!("{id} was delivered twice: its strings are not those seen first"));
                    }
                }
                (state, Purchase { strings: Some(_), .. }) => {
                    let state = state.map(State::name);
                    errors.push(format!("{id} was delivered, and its record is {state:?}"));
                }
                _ => {}
            }
        }
        errors
    }

    /// Every project belongs to an order that says so, and every environment that was sold is there until its end.
    fn project_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let records = self.records();
        let mut present = BTreeSet::new();
        for project in &self.projects {
            let tags = match project.tags() {
                Ok(Some(tags)) => tags,
                Ok(None) => continue,
                Err(error) => {
                    errors.push(format!("malformed project {error}"));
                    continue;
                }
            };
            let at = format!("{} on {}", project.name, project.remote);
            // Trials are made for orders that nobody has made, and so is what is prepared; the culler removes those that a crash
            // has left.
            let Some(order) = records.get(&tags.order) else {
                if self.ledger.contains_key(&tags.order.to_string()) {
                    errors.push(format!("{at} belongs to an order without a record"));
                }
                continue;
            };
            let owned = match &order.state {
                State::Provisioned { handover, .. } => {
                    handover.remote == project.remote && handover.project == tags.project
                }
                _ => false,
            };
            if !owned {
                errors.push(format!(
                    "{at} is not the environment of its order, which is {}",
                    order.state.name()
                ));
                continue;
            }
            present.insert((project.remote.clone(), tags.project));
            if tags.expires > self.now && (!project.runs || tags.stage != Stage::Provisioned) {
                errors
                    .push(format!("{at} was delivered, and runs: {}, stage: {:?}", project.runs, tags.stage));
            }
        }
        for order in records.values() {
            if let State::Provisioned { handover, .. } = &order.state
                && handover.expires_at > self.now
                && !present.contains(&(handover.remote.clone(), handover.project))
            {
                errors
                    .push(format!("{} on {} was sold, and is not there", handover.project, handover.remote));
            }
        }
        errors
    }

    /// The shop's projects that ended before `limit`.
    pub fn ended_before(&self, limit: Timestamp) -> Vec<String> {
        let all = self.projects.iter();
        let ended =
            all.filter(|project| project.tags().ok().flatten().is_some_and(|tags| tags.expires < limit));
        ended
            .map(|project| format!("{} on {} has ended, and is still there", project.name, project.remote))
            .collect()
    }

    /// Projects for orders that nobody has made.
    pub fn trials(&self) -> usize {
        let records = self.records();
        let tags = self.projects.iter().filter_map(|project| project.tags().ok().flatten());
        tags.filter(|tags| !records.contains_key(&tags.order) && tags.stage != Stage::Prepared).count()
    }

    /// Projects that are prepared for orders to come and have not ended.
    pub fn prepared(&self) -> usize {
        let tags = self.projects.iter().filter_map(|project| project.tags().ok().flatten());
        tags.filter(|tags| tags.stage == Stage::Prepared && tags.expires > self.now).count()
    }
}

/// Pairs of projects on one remote that have a port in common.
pub fn overlapping_ports(projects: &[Project]) -> Vec<String> {
    let mut blocks: Vec<_> = projects
        .iter()
        .filter_map(|project| Some((project, project.tags().ok()??)))
        .map(|(project, tags)| (&project.remote, tags.ports.first, tags.ports.count, &project.name))
        .collect();
    blocks.sort();
    let pairs = blocks.windows(2).filter(|pair| {
        let ((remote, first, count, _), (other, next, ..)) = (pair[0], pair[1]);
        remote == other && u32::from(first) + u32::from(count) > u32::from(next)
    });
    pairs.map(|pair| format!("{} and {} on {} share ports", pair[0].3, pair[1].3, pair[0].0)).collect()
}
