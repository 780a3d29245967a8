//! What can be sold: how the remotes were when they were last asked, and what is spoken for.
//!
//! The remotes are asked in the background, so that nobody who orders waits for one. What a remote has said is good
//! for [`Stock::good_for`]; after that nothing is sold on it until it answers again, because "could not ask" is
//! neither "there is room" nor "there is none".

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::{OrderId, State};
use provisioner::{Claims, Environment, Load, Placed, RemoteReport, Room, Size};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::desk::{Desk, whole_seconds};
use crate::rpc::Failure;

/// What remotes have said is good for this many times the pause between two surveys: one answer may be missing.
const GOOD_FOR: u32 = 4;
/// How long after its expiry an invoice still holds a place: by the node's clock, and until we hear of it, it may have
/// been paid in the last moment.
const HOLD_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// What is known of one remote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// What it said last.
    pub(crate) last: Option<Answer>,
    /// When it last failed to answer, and why.
    pub(crate) last_error: Option<(Timestamp, String)>,
}

/// What a remote said.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// When it was asked.
    pub(crate) asked: Instant,
    /// The same, by the clock.
    pub(crate) at: Timestamp,
    pub(crate) report: RemoteReport,
}

impl Answer {
    pub(crate) fn load(&self) -> Option<&Load> {
        self.report.load.as_ref().ok()
    }
}

/// What was handed over and may not be in its remote's last answer as such.
#[derive(Debug, Clone)]
pub(crate) struct HandedOver {
    pub(crate) remote: String,
    pub(crate) environment: Environment,
    at: Instant,
}

/// An order that is being made: its place is taken, its record not yet written.
#[derive(Debug)]
pub(crate) struct Hold {
    desk: Arc<Desk>,
    id: OrderId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.desk.stock.selling).remove(&self.id);
    }
}

/// The remotes as they were last seen.
#[derive(Debug)]
pub(crate) struct Stock {
    pause: Duration,
    seen: Mutex<BTreeMap<String, Seen>>,
    handed_over: Mutex<Vec<HandedOver>>,
    /// Orders that are being made: how large, and until when. Locked from looking for a place until it is taken, so
    /// that no two get the last one.
    selling: Mutex<HashMap<OrderId, (Size, Timestamp)>>,
    surveyed: watch::Sender<bool>,
    /// Ends the pause: a place may be free.
    pub(crate) nudge: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind our locks is changed in single steps: a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stock {
    /// Remotes are asked with this pause between two surveys.
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            pause,
            seen: Mutex::default(),
            handed_over: Mutex::default(),
            selling: Mutex::default(),
            surveyed: watch::Sender::new(false),
            nudge: Notify::new(),
        }
    }

    /// How long what a remote has said is good.
    pub(crate) fn good_for(&self) -> Duration {
        self.pause * GOOD_FOR
    }

    /// What is known of each remote, by name.
    pub(crate) fn seen(&self) -> BTreeMap<String, Seen> {
        lock(&self.seen).clone()
    }

    /// What was handed over since its remote was last asked.
    pub(crate) fn handed_over(&self) -> Vec<HandedOver> {
        lock(&self.handed_over).clone()
    }

    /// Notes a hand-over, until the remote itself tells of it.
    pub(crate) fn note_hand_over(&self, remote: &str, environment: Environment) {
        let remote = remote.to_owned();
        lock(&self.handed_over).push(HandedOver { remote, environment, at: Instant::now() });
    }

    fn note(&self, asked: Instant, at: Timestamp, report: RemoteReport) {
        let name = report.name.clone();
        let mut all = lock(&self.seen);
        let seen = all.entry(name.clone()).or_default();
        if let Err(error) = &report.load {
            seen.last_error = Some((at, error.clone()));
            return;
        }
        // Surveys overlap: a later question may have been answered earlier.
        if seen.last.as_ref().is_none_or(|last| last.asked < asked) {
            seen.last = Some(Answer { asked, at, report });
            lock(&self.handed_over).retain(|one| one.remote != name || one.at >= asked);
        }
    }

    /// Returns once the remotes were asked for the first time; callers are told when that takes too long.
    pub(crate) async fn ready(&self, within: Duration) -> Result<(), Failure> {
        let mut surveyed = self.surveyed.subscribe();
        timeout(within, surveyed.wait_for(|done| *done)).await.map_err(|_| Failure::starting())?.ok();
        Ok(())
    }
}

impl Desk {
    /// Asks all remotes how they are, and notes what they say.
    pub(crate) async fn survey(&self) -> Vec<RemoteReport> {
        let (asked, at) = (Instant::now(), Timestamp::now());
        let reports = self.provisioner.survey().await;
        for report in &reports {
            self.stock.note(asked, at, report.clone());
        }
        self.stock.surveyed.send_replace(true);
        reports
    }

    /// Asks the remotes again and again.
    pub(crate) async fn keep_surveying(&self) {
        loop {
            let reports = self.survey().await;
            self.provisioner.follow_moves(&reports).await;
            self.write_routes().await;
            // Both outcomes lead to the next survey.
            drop(timeout(self.stock.pause, self.stock.nudge.notified()).await);
        }
    }

    /// The room that there is now for who comes last.
    pub(crate) fn with_room<T>(&self, look: impl FnOnce(&Room<'_>) -> T) -> T {
        let selling = lock(&self.stock.selling);
        self.look(&selling, look)
    }

    fn look<T>(&self, selling: &HashMap<OrderId, (Size, Timestamp)>, look: impl FnOnce(&Room<'_>) -> T) -> T {
        let claims = self.claims(selling);
        let seen = lock(&self.stock.seen);
        let good_for = self.stock.good_for();
        let good = seen.values().filter_map(|s| s.last.as_ref()).filter(|a| a.asked.elapsed() < good_for);
        let reports: Vec<_> = good.map(|answer| &answer.report).collect();
        look(&Room::new(&self.provisioner.candidates(reports), &claims))
    }

    /// What is spoken for.
    fn claims(&self, selling: &HashMap<OrderId, (Size, Timestamp)>) -> Claims {
        let now = Timestamp::now();
        let mut claims = Claims { placed: self.placed(), ..Claims::default() };
        for HandedOver { remote, environment, .. } in lock(&self.stock.handed_over).iter() {
            let until = Some(environment.expires_at);
            let placed = environment.ports.map(|ports| Placed {
                remote: remote.clone(),
                member: environment.member.clone(),
                ports,
                address: environment.address,
                until,
                hours: environment.hours,
            });
            // Its order may still be open, and have said so.
            claims
                .placed
                .retain(|p| placed.as_ref().is_none_or(|q| (&p.remote, p.ports) != (&q.remote, q.ports)));
            claims.placed.extend(placed);
        }
        let mut being_made = selling.clone();
        let mut paid = Vec::new();
        self.for_each_order(|order| {
            being_made.remove(&order.id);
            let size = Size::from(&order.terms);
            match order.state {
                State::Created => {
                    let until = held_until(order.invoice_expires_at);
                    if until > now {
                        claims.unpaid.push((size, until));
                    }
                }
                State::Queued { paid_at, .. } => paid.push((paid_at, size)),
                _ => {}
            }
        });
        // First come, first served.
        paid.sort_unstable();
        claims.paid = paid.into_iter().map(|(_, size)| size).collect();
        claims.unpaid.extend(being_made.into_values());
        claims.unpaid.sort_unstable_by_key(|(_, until)| *until);
        claims
    }

    /// Takes a place for an order that is being made, or says why there is none. The place is given back when the hold
    /// is dropped, unless the order is an open one by then.
    pub(crate) fn hold(
        self: &Arc<Self>,
        id: OrderId,
        size: Size,
        invoice_expires_at: Timestamp,
    ) -> Result<Hold, Failure> {
        let mut selling = lock(&self.stock.selling);
        self.look(&selling, |room| {
            if room.has(size) {
                return Ok(());
            }
            if !room.is_known() {
                return Err(Failure::cannot_tell(self.stock.good_for()));
            }
            // What is over and only waits to be removed frees up at any moment.
            let now = Timestamp::now();
            Err(Failure::sold_out(room.next(size).map(|at| whole_seconds(at.max(now)))))
        })?;
        selling.insert(id, (size, held_until(invoice_expires_at)));
        drop(selling);
        Ok(Hold { desk: Arc::clone(self), id })
    }
}

fn held_until(invoice_expires_at: Timestamp) -> Timestamp {
    invoice_expires_at.checked_add(HOLD_GRACE).unwrap_or(Timestamp::MAX)
}
