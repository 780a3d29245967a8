//! The operator's methods, `lnplayops-…`, which the public rune does not reach. `docs/operator.md` has every field.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::health::Condition;
use provisioner::{Load, Member};
use serde_json::{Value, json};

use super::error::{Answer, Failure};
use super::params::Params;
use super::view;
use crate::core::interfaces::DamagedRecord;
use crate::core::operator::{Cancelled, Listing, Places};
use crate::core::pool::{Counts, Pool};
use crate::core::{Shop, Snapshot};

/// Numbers of prepared environments, by remote and number of nodes.
type PreparedCounts = BTreeMap<(String, u32), Counts>;

/// Orders that are listed if the caller sets no limit. A thousand make about a megabyte.
const DEFAULT_LIMIT: i64 = 1000;
/// Most hours that one call adds to an environment's life: a year.
const MAX_EXTENSION_HOURS: i64 = 8760;
/// Most characters of a note about a refund. Enough for a preimage, an invoice, or the address of a ticket.
const MAX_NOTE_CHARS: usize = 1000;

/// Selects the orders to be listed.
struct Filter<'a> {
    state: Option<&'a str>,
    /// Condition of the environment.
    health: Option<&'a str>,
    /// Earliest creation.
    after: Option<Timestamp>,
    /// Latest creation.
    before: Option<Timestamp>,
}

impl<'a> Filter<'a> {
    fn read(params: &'a Params, now: Timestamp) -> Result<Self, Failure> {
        let state = params.text("state")?;
        if let Some(name) = state
            && !view::STATES.contains(&name)
        {
            let message = format!("state must be one of {}", view::STATES.join(", "));
            return Err(Failure::invalid_param("state", message).allowing(view::STATES));
        }
        let health = params.text("health")?;
        if let Some(name) = health
            && !Condition::NAMES.contains(&name)
        {
            let message = format!("health must be one of {}", Condition::NAMES.join(", "));
            return Err(Failure::invalid_param("health", message).allowing(Condition::NAMES));
        }
        let ago =
            |name: &str| {
                let hours = params.optional_integer(name)?;
                // Longer ago than the beginning of time is no bound.
                Ok::<_, Failure>(hours.and_then(|h| {
                    now.checked_sub(SignedDuration::from_hours(h.min(i64::from(u32::MAX)))).ok()
                }))
            };
        Ok(Self { state, health, after: ago("newer_than")?, before: ago("older_than")? })
    }

    fn is_any(&self) -> bool {
        self.state.is_none() && self.health.is_none() && self.after.is_none() && self.before.is_none()
    }

    fn matches(&self, shown: &Snapshot, now: Timestamp) -> bool {
        let created = shown.order.created_at;
        let health = shown.health.as_ref().map(|health| health.condition.name());
        self.state.is_none_or(|state| shown.state(now) == state)
            && (self.health.is_none() || self.health == health)
            && self.after.is_none_or(|after| created >= after)
            && self.before.is_none_or(|before| created <= before)
    }
}

pub(super) async fn orders(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["which", "state", "older_than", "newer_than", "limit", "health"])?;
    let now = shop.clock.now();
    let filter = Filter::read(&params, now)?;
    let limit = usize::try_from(params.integer_or("limit", DEFAULT_LIMIT)?).unwrap_or(usize::MAX);
    let places = match params.text("which")? {
        None if filter.is_any() => Places::OPEN,
        Some("open") => Places::OPEN,
        Some("closed") => Places::CLOSED,
        None | Some("all") => Places::ALL,
        Some(_) => {
            let message = "which must be open, closed or all";
            return Err(Failure::invalid_param("which", message).allowing(["open", "closed", "all"]));
        }
    };
    let places = filter.state.map_or(places, |state| places.with_state(state));
    let visible = |found: Snapshot| Some(shop.probes.shown(found)).filter(|shown| filter.matches(shown, now));
    let listing = match filter.health {
        // Those environments are known by name; nothing else need be read.
        Some(health) if params.text("which")?.is_none() => {
            shop.operator.find_all(&shop.probes.with_condition(health), limit, visible).await?
        }
        _ => shop.operator.list(places, limit, visible).await?,
    };
    let Listing { orders, left_out, damaged } = listing;
    let orders: Vec<_> =
        orders.iter().map(|shown| with_settings(shop, view::operator_summary(shown, now))).collect();
    let damaged: Vec<_> = damaged
        .iter()
        .map(|DamagedRecord { key, error }| json!({ "invoice_id": key, "error": error }))
        .collect();
    Ok(json!({ "orders": orders, "left_out": left_out, "damaged": damaged }))
}

fn detail(shop: &Arc<Shop>, snapshot: Snapshot) -> Value {
    with_settings(shop, view::operator_detail(&shop.probes.shown(snapshot), shop.clock.now()))
}

pub(super) async fn order(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id"])?;
    let found = shop.orders.find(params.order_id()?).await?;
    Ok(detail(shop, found.snapshot()))
}

/// The order with a field in each leftover that says whether the settings have its remote.
fn with_settings(shop: &Shop, mut order: Value) -> Value {
    for leftover in order["leftovers"].as_array_mut().into_iter().flatten() {
        let known = leftover["remote"].as_str().is_some_and(|remote| shop.availability.has_remote(remote));
        leftover["in_settings"] = known.into();
    }
    order
}

pub(super) async fn retry(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id"])?;
    let snapshot = shop.operator.retry(params.order_id()?).await?;
    Ok(detail(shop, snapshot))
}

pub(super) async fn replace(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "remove_first"])?;
    let remove_first = params.flag("remove_first")?;
    let snapshot = shop.operator.replace(params.order_id()?, remove_first).await?;
    Ok(detail(shop, snapshot))
}

pub(super) async fn cancel(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id"])?;
    let id = params.order_id()?;
    Ok(match shop.operator.cancel(id).await? {
        Cancelled::Paid(snapshot) => detail(shop, *snapshot),
        Cancelled::Removed => json!({ "invoice_id": id, "state": "removed" }),
    })
}

pub(super) async fn refunded(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "note"])?;
    let note = params.text("note")?.map(str::trim).filter(|note| !note.is_empty());
    if note.is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS || note.chars().any(char::is_control)) {
        let message = format!("note must be at most {MAX_NOTE_CHARS} characters, in one line");
        return Err(Failure::invalid_param("note", message));
    }
    let snapshot = shop.operator.refunded(params.order_id()?, note.map(str::to_owned)).await?;
    Ok(detail(shop, snapshot))
}

pub(super) async fn extend(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "hours"])?;
    let hours = params.integer("hours")?.filter(|hours| (1..=MAX_EXTENSION_HOURS).contains(hours));
    let hours = hours.and_then(|hours| u32::try_from(hours).ok()).ok_or_else(|| {
        let message = format!("hours must be a whole number from 1 to {MAX_EXTENSION_HOURS}");
        Failure::invalid_param("hours", message).allowing(json!({ "min": 1, "max": MAX_EXTENSION_HOURS }))
    })?;
    let snapshot = shop.operator.extend(params.order_id()?, hours).await?;
    Ok(detail(shop, snapshot))
}

pub(super) async fn forget(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "project"])?;
    let id = params.order_id()?;
    let project = params.text("project")?.and_then(|name| name.parse().ok()).ok_or_else(|| {
        let message = "project must be the name of a project among the order's leftovers";
        Failure::invalid_param("project", message)
    })?;
    let snapshot = shop.operator.forget(id, project).await?;
    Ok(view::operator_detail(&snapshot, shop.clock.now()))
}

pub(super) async fn node(shop: &Arc<Shop>, params: Value) -> Answer {
    Params::read(params, &[])?;
    // Without an answer, the last one is shown; `last_error` and `as_of` tell.
    drop(shop.node.ask().await);
    Ok(view::node(&shop.node.state(), shop.node.require_inbound(), shop.sales.catalogue()))
}

pub(super) async fn remotes(shop: &Arc<Shop>, params: Value) -> Answer {
    Params::read(params, &[])?;
    let reports = shop.availability.poll_remotes().await;
    let states = shop.availability.remote_states();
    let breakers = shop.availability.breakers();
    let counts = shop.pool.counts();
    let remotes: Vec<_> = reports
        .into_iter()
        .map(|report| {
            let known = states.get(&report.name);
            let last = known.and_then(|s| s.last.as_ref());
            let last_error = known.and_then(|s| s.last_error.as_ref());
            let load = last.and_then(|answer| answer.load());
            let breaker = breakers.get(&report.name).cloned().unwrap_or_default();
            let last_fault = breaker.last_fault.as_ref();
            json!({
                "name": report.name,
                "healthy": report.load.is_ok(),
                "error": report.load.err(),
                "last_seen": last.map(|answer| answer.at),
                "last_error": last_error.map(|(at, error)| json!({ "at": at, "error": error })),
                "breaker": breaker.circuit,
                "faults_in_a_row": breaker.faults,
                "last_fault": last_fault.map(|(at, reason)| json!({ "at": at, "reason": reason })),
                "environments": load.map(|l| l.sold().count()),
                "being_made": load.map(|l| l.coming().count()),
                "prepared": prepared_on(&counts, &report.name),
                "memory_total_bytes": load.map(|l| l.memory().total),
                "memory_used_bytes": load.map(|l| l.memory().used),
                "cpus": load.map(|l| l.machines().map(|machine| machine.cpus).sum::<u64>()),
                "cpu_load": load.and_then(|l| l.machines().map(|machine| machine.cpu_load).sum::<Option<f64>>()),
                "warnings": load.map(warnings),
                "members": load.filter(|l| l.clustered).map(members),
            })
        })
        .collect();
    Ok(json!({ "remotes": remotes, "prepared": prepared(&shop.pool, &counts) }))
}

/// What is prepared, of each number of nodes that any is to be prepared of.
fn prepared(pool: &Pool, counts: &PreparedCounts) -> Vec<Value> {
    let of = |(node_count, wanted): (&u32, &u32)| {
        let sum = sum(counts.iter().filter(|((_, nodes), _)| nodes == node_count));
        json!({
            "node_count": node_count,
            "wanted": wanted,
            "ready": sum.ready,
            "being_made": sum.being_made,
        })
    };
    pool.wanted().iter().map(of).collect()
}

/// What is prepared on a remote.
fn prepared_on(counts: &PreparedCounts, remote: &str) -> Value {
    let sum = sum(counts.iter().filter(|((on, _), _)| on == remote));
    json!({ "ready": sum.ready, "being_made": sum.being_made })
}

fn sum<'a>(counts: impl Iterator<Item = (&'a (String, u32), &'a Counts)>) -> Counts {
    counts.fold(Counts::default(), |sum, (_, counts)| Counts {
        ready: sum.ready + counts.ready,
        being_made: sum.being_made + counts.being_made,
    })
}

/// Possible problems, and why a single server takes no environments. Members of a cluster have their own reasons.
fn warnings(load: &Load) -> Vec<String> {
    let single = load.members.iter().filter(|_| !load.clustered);
    let reasons = single.filter_map(|member| member.machine.as_ref().err());
    let reasons = reasons.map(|reason| format!("takes no environments: {reason}"));
    load.warnings.iter().cloned().chain(reasons).collect()
}

/// The members of a cluster, each with its resources or the reason why it takes no environments.
fn members(load: &Load) -> Vec<Value> {
    let environments = |name: &Option<String>| load.sold().filter(|e| e.member == *name).count();
    let member = |member: &Member| {
        let machine = member.machine.as_ref().ok();
        json!({
            "name": member.name,
            "host": member.host,
            "takes_environments": machine.is_some(),
            "reason": member.machine.as_ref().err(),
            "environments": environments(&member.name),
            "memory_total_bytes": machine.map(|m| m.memory.total),
            "memory_used_bytes": machine.map(|m| m.memory.used),
            "storage_total_bytes": machine.and_then(|m| m.storage).map(|s| s.total),
            "storage_used_bytes": machine.and_then(|m| m.storage).map(|s| s.used),
            "cpus": machine.map(|m| m.cpus),
            "cpu_load": machine.and_then(|m| m.cpu_load),
        })
    };
    load.members.iter().map(member).collect()
}
