//! The node's condition: asks the node from time to time whether new orders can be paid, and keeps what it said.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use lnplaylive_core::Readiness;
use lnplaylive_core::readiness::{InvoiceWarning, NodeReport, Obstacle};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::interfaces::{Clock, NodeCondition, NodeError};
use super::order_handle::lock;
use super::reminder::Reminder;

/// Pause between two questions while orders can be paid.
const PAUSE: Duration = Duration::from_secs(30);
/// The same while none can be, or the node does not answer, so that the shop opens soon after it could.
const PAUSE_WHILE_CLOSED: Duration = Duration::from_secs(1);

/// An order is refused for the node's sake only by an answer that is not older than this. Also the shortest time between two
/// questions, however many orders come.
const FRESH: Duration = Duration::from_secs(1);

/// What is known about the node.
#[derive(Debug, Clone, Default)]
pub struct NodeState {
    /// Its last answer, and the time of it.
    pub last: Option<(Timestamp, NodeReport)>,
    /// What follows from that answer.
    pub readiness: Readiness,
    /// The last failure to ask it since the plugin started.
    pub last_error: Option<(Timestamp, String)>,
    /// Invoices that were made with a warning since the plugin started.
    pub invoices_with_warnings: u64,
    /// The last of them.
    pub last_warnings: Option<LastWarnings>,
}

/// Warnings of the node about one invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWarnings {
    /// Time at which it was made.
    pub at: Timestamp,
    /// Its amount, in millisatoshi.
    pub amount_msat: u64,
    /// The warnings, at least one.
    pub warnings: BTreeSet<InvoiceWarning>,
}

/// Asks the node how it is.
#[derive(Debug)]
pub struct NodeWatch {
    node: Arc<dyn NodeCondition>,
    clock: Arc<dyn Clock>,
    /// The setting `node.require_inbound`.
    require_inbound: Option<bool>,
    state: Mutex<NodeState>,
    reminder: Mutex<Reminder>,
    warning_reminder: Mutex<Reminder>,
    /// Time of the last question, which the node may not have answered. Locked while the node is asked, so that nobody asks
    /// what somebody else is asking.
    last_question: tokio::sync::Mutex<Option<Instant>>,
    /// True once the node was asked, whether it answered or not.
    asked: watch::Sender<bool>,
    ask_now: Notify,
}

impl NodeWatch {
    /// Nothing is known before the first question.
    pub fn new(node: Arc<dyn NodeCondition>, clock: Arc<dyn Clock>, require_inbound: Option<bool>) -> Self {
        Self {
            node,
            clock,
            require_inbound,
            state: Mutex::default(),
            reminder: Mutex::default(),
            warning_reminder: Mutex::default(),
            last_question: tokio::sync::Mutex::default(),
            asked: watch::Sender::new(false),
            ask_now: Notify::new(),
        }
    }

    /// What is known about the node.
    pub fn state(&self) -> NodeState {
        lock(&self.state).clone()
    }

    /// Whether new orders can be paid, by the node's last answer. A node that does not answer changes nothing.
    pub fn readiness(&self) -> Readiness {
        lock(&self.state).readiness
    }

    /// The setting `node.require_inbound`.
    pub fn require_inbound(&self) -> Option<bool> {
        self.require_inbound
    }

    /// Returns when the node was asked once, at the latest after `limit`.
    pub async fn asked(&self, limit: Duration) {
        let mut asked = self.asked.subscribe();
        // Without an answer the readiness is unknown, and orders are accepted.
        drop(timeout(limit, asked.wait_for(|asked| *asked)).await);
    }

    /// Has the node asked again soon, because something has happened that may change its answer.
    pub fn ask_soon(&self) {
        self.ask_now.notify_one();
    }

    /// Whether an order of this amount can be paid. Before it is refused, the node is asked again, because a node that has just
    /// started is synchronised within seconds.
    pub async fn admit(&self, amount_msat: u64) -> Result<(), Obstacle> {
        if self.readiness().admit(amount_msat).is_ok() {
            return Ok(());
        }
        let mut last = self.last_question.lock().await;
        if last.is_none_or(|at| at.elapsed() >= FRESH) {
            // Without an answer, the last one counts.
            drop(self.question(&mut last).await);
        }
        drop(last);
        self.readiness().admit(amount_msat)
    }

    /// Asks the node now.
    pub async fn ask(&self) -> Result<(), NodeError> {
        let mut last = self.last_question.lock().await;
        self.question(&mut last).await
    }

    async fn question(&self, last: &mut Option<Instant>) -> Result<(), NodeError> {
        let answer = self.node.report().await;
        let now = self.clock.now();
        let result = match answer {
            Ok(report) => {
                let readiness = Readiness::of(&report, self.require_inbound);
                self.tell(readiness);
                let mut state = lock(&self.state);
                state.readiness = readiness;
                state.last = Some((now, report));
                Ok(())
            }
            Err(error) => {
                tracing::debug!("cannot ask the node for its condition: {error}");
                lock(&self.state).last_error = Some((now, error.to_string()));
                Err(error)
            }
        };
        *last = Some(Instant::now());
        self.asked.send_replace(true);
        result
    }

    /// Logs a change.
    fn tell(&self, readiness: Readiness) {
        let before = self.readiness();
        match (before.awaited(), readiness.awaited()) {
            (_, Some(awaited)) => {
                // Numbers of blocks change all the time.
                if lock(&self.reminder).is_due(&format!("{:?}", discriminant(&awaited))) {
                    tracing::warn!("the shop is not open yet: {awaited}");
                }
            }
            (Some(_), None) => {
                *lock(&self.reminder) = Reminder::default();
                tracing::info!("the shop is open: the node can be paid");
            }
            (None, None) => {}
        }
    }

    /// Records the node's warnings about an invoice that was made. It can be sold all the same.
    pub fn note_warnings(&self, amount_msat: u64, warnings: BTreeSet<InvoiceWarning>) {
        if warnings.is_empty() {
            return;
        }
        let text = format!("{warnings:?}");
        if lock(&self.warning_reminder).is_due(&text) {
            tracing::warn!(
                "lightningd warns that an invoice of {} sat may be hard to pay ({text}); see lnplayops-node",
                amount_msat / 1000
            );
        }
        let mut state = lock(&self.state);
        state.invoices_with_warnings += 1;
        state.last_warnings = Some(LastWarnings { at: self.clock.now(), amount_msat, warnings });
    }

    /// Asks for as long as the runtime lives.
    pub async fn run(&self) {
        loop {
            let answered = self.ask().await.is_ok();
            let open = answered && self.readiness().awaited().is_none();
            let pause = if open { PAUSE } else { PAUSE_WHILE_CLOSED };
            // Whoever asks for it does not make the questions follow each other without a pause.
            sleep(FRESH).await;
            drop(timeout(pause, self.ask_now.notified()).await);
        }
    }
}
