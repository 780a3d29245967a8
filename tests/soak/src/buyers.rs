//! Buyers: they order, pay or not, follow their order or leave.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testbed::RpcError;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::tally::Group;
use crate::world::World;

/// Longest time that a buyer tries to order, and to pay.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time that a buyer waits for what was paid. Faults are over by then, or the end of the run sees to it.
const FOLLOW: Duration = Duration::from_secs(90);

/// When a buyer pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payment {
    AtOnce,
    Later,
    LastSecond,
    Twice,
    AfterExpiry,
    Never,
}

impl Payment {
    const ALL: [(u32, Self); 6] = [
        (60, Self::AtOnce),
        (10, Self::Later),
        (6, Self::LastSecond),
        (6, Self::Twice),
        (5, Self::AfterExpiry),
        (13, Self::Never),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::Later => "within seconds",
            Self::LastSecond => "in the last second",
            Self::Twice => "twice",
            Self::AfterExpiry => "after the invoice has expired",
            Self::Never => "never",
        }
    }
}

/// The counter that gives each purchase its number, and when to stop.
#[derive(Debug)]
pub struct Shift {
    next: AtomicU64,
    until: Instant,
}

impl Shift {
    /// A shift that begins now.
    pub fn new(world: &World) -> Self {
        Self { next: AtomicU64::new(0), until: Instant::now() + world.settings.time }
    }

    /// Purchases that have begun.
    pub fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// True while buyers come.
    pub fn is_on(&self, world: &World) -> bool {
        Instant::now() < self.until && world.settings.orders.is_none_or(|orders| self.begun() < orders)
    }

    fn number(&self, world: &World) -> Option<u64> {
        if !self.is_on(world) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        world.settings.orders.is_none_or(|orders| number < orders).then_some(number)
    }
}

/// Buys again and again, until the shift is over.
pub async fn run(world: &World, shift: &Shift) {
    while let Some(number) = shift.number(world) {
        buy(world, Dice::new(world.settings.seed, "buyer", number)).await;
    }
}

async fn buy(world: &World, mut dice: Dice) {
    let (sku, node_count) = dice.weighted(&[(70, ("T", 1)), (20, ("U", 2)), (10, ("V", 3))]);
    let hours = dice.weighted(&[(60, 1), (25, 2), (10, 3), (4, 8), (1, 504)]);
    let mut wish = json!({"sku": sku, "hours": hours});
    if dice.chance(20) {
        wish["title"] = json!("Été à Saint-Étienne");
        wish["names"] = (0..node_count).map(|index| format!("node {index}")).collect();
        wish["coin_distribution"] = json!(dice.pick(&["egalitarian", "political", "poisson", "pow"]));
        wish["channel_setup"] = json!(dice.pick(&["none", "star", "circular", "prism"]));
    }
    let payment = dice.weighted(&Payment::ALL);
    let leaves = dice.chance(15);
    let wait = dice.millis(200..=4000);

    let Some(order) = order(world, wish).await else { return };
    let text = |key: &str| order[key].as_str().unwrap_or_default().to_owned();
    let (id, bolt11) = (text("invoice_id"), text("bolt11_invoice"));
    world.ledger.note(&id, |purchase| purchase.node_count = node_count);
    world.tally.one(Group::Orders, "made");
    let expires: Timestamp = text("invoice_expires_at").parse().unwrap_or(Timestamp::MAX);
    world.tally.one(Group::Payments, payment.name());
    let paid = match payment {
        Payment::Never => false,
        Payment::AtOnce => pay(world, &id, &bolt11).await,
        Payment::Later => {
            sleep(wait).await;
            pay(world, &id, &bolt11).await
        }
        Payment::LastSecond => {
            wait_until(world, expires - SignedDuration::from_millis(900)).await;
            pay(world, &id, &bolt11).await
        }
        Payment::Twice => {
            let (first, second) = tokio::join!(pay(world, &id, &bolt11), pay(world, &id, &bolt11));
            first || second
        }
        Payment::AfterExpiry => {
            wait_until(world, expires + SignedDuration::from_secs(2)).await;
            pay(world, &id, &bolt11).await
        }
    };
    if paid {
        world.tally.one(Group::Orders, "paid");
    }
    if leaves {
        world.tally.one(Group::Orders, "whose buyer left");
    } else {
        follow(world, &id, paid).await;
    }
}

/// Orders, and tries again for a while where the shop cannot take it now.
async fn order(world: &World, wish: Value) -> Option<Value> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match world.ask("lnplaylive-createorder", wish.clone()).await {
            Ok(order) => return Some(order),
            Err(error) => {
                world.tally.one(Group::Orders, format!("turned away: {}", kind(&error)));
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    None
}

/// The kind of an error, as programs read it.
pub fn kind(error: &RpcError) -> String {
    let kind = error.data.as_ref().and_then(|data| data["kind"].as_str());
    match (kind, error.code) {
        (Some(kind), _) => kind.to_owned(),
        (None, Some(code)) => format!("code {code}"),
        (None, None) => "no answer".to_owned(),
    }
}

/// Pays, and tries again while the invoice can be paid and there is no answer.
async fn pay(world: &World, id: &str, bolt11: &str) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match world.customer.within(PATIENCE).call("pay", json!({"bolt11": bolt11})).await {
            Ok(_) => {
                world.ledger.note(id, |purchase| purchase.paid = true);
                return true;
            }
            Err(error) => {
                // The node that sells may be down; its invoice may have expired.
                let status = status(world, id).await;
                let unpaid = status.is_ok_and(|status| status["invoice_status"] != "unpaid");
                if unpaid || error.message.contains("expired") {
                    return false;
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    false
}

async fn wait_until(world: &World, time: Timestamp) {
    while world.now() < time {
        sleep(Duration::from_millis(50)).await;
    }
}

async fn status(world: &World, id: &str) -> Result<Value, RpcError> {
    world.ask("lnplaylive-invoicestatus", json!({"payment_type": "bolt11", "invoice_id": id})).await
}

/// Follows an order to its end, and checks what its buyer is told.
async fn follow(world: &World, id: &str, paid: bool) {
    let began = Instant::now();
    let mut revision = Value::from(0);
    while began.elapsed() < FOLLOW {
        let params = json!({"invoice_id": id, "revision": revision, "timeout": 5});
        let status = match world.ask("lnplaylive-waitstatus", params).await {
            Ok(status) => status,
            Err(error) if error.code == Some(7000) => {
                if paid && world.ledger.find(id).is_some_and(|purchase| purchase.paid) {
                    world.findings.add(format!("the shop does not know {id:.19}, which was paid"));
                }
                return;
            }
            Err(_) => {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        revision = status["revision"].clone();
        let details = &status["deployment_details"];
        match details["status"].as_str() {
            Some("provisioned") => {
                delivered(world, id, details);
                return;
            }
            Some("failed") => {
                world.ledger.note(id, |purchase| purchase.seen_failed = true);
                world.tally.one(Group::Orders, "failed or cancelled, as seen by buyers");
                return;
            }
            Some("expired") => return,
            // Not paid.
            None if !paid => return,
            Some(_) | None => {}
        }
    }
    if paid {
        world.tally.one(Group::Orders, "waited for in vain");
    }
}

fn delivered(world: &World, id: &str, details: &Value) {
    let strings = details["connection_strings"].as_array().into_iter().flatten();
    let strings: BTreeSet<_> = strings.filter_map(Value::as_str).map(str::to_owned).collect();
    world.tally.one(Group::Orders, "delivered, as seen by buyers");
    world.ledger.note(id, |purchase| purchase.strings = Some(strings));
}
