//! The operator's methods, `lnplayops-…`: out of the public rune's reach. `docs/operator.md` has every field.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use provisioner::{Load, Member};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::params::Params;
use crate::rpc::{Answer, Failure, order_id};
use crate::store::{self, Shelf};
use crate::view::{STATES, Snapshot};

/// How many orders are listed where the caller does not say. A thousand make about a megabyte.
const LISTED: i64 = 1000;
/// The most hours that one call adds to an environment's life: a year.
const MAX_EXTENSION: i64 = 8760;
/// The most characters of a note about a refund: a preimage, an invoice of a few hundred, a ticket's address.
const MAX_NOTE: usize = 1000;

/// Which orders are listed.
struct Filter<'a> {
    state: Option<&'a str>,
    /// Made after, if at all bounded.
    after: Option<Timestamp>,
    /// Made before, if at all bounded.
    before: Option<Timestamp>,
}

impl<'a> Filter<'a> {
    fn read(params: &'a Params, now: Timestamp) -> Result<Self, Failure> {
        let state = params.text("state")?;
        if let Some(name) = state
            && !STATES.contains(&name)
        {
            return Err(Failure::params(format!("state must be one of {}", STATES.join(", "))));
        }
        let ago = |name: &str| {
            let hours = params.optional_integer(name)?;
            // Longer ago than time itself is no bound.
            Ok(hours
                .and_then(|h| now.checked_sub(SignedDuration::from_hours(h.min(i64::from(u32::MAX)))).ok()))
        };
        Ok(Self { state, after: ago("newer_than")?, before: ago("older_than")? })
    }

    fn is_any(&self) -> bool {
        self.state.is_none() && self.after.is_none() && self.before.is_none()
    }

    fn lets_pass(&self, shown: &Snapshot, now: Timestamp) -> bool {
        let made = shown.order.created_at;
        self.state.is_none_or(|state| shown.state(now) == state)
            && self.after.is_none_or(|after| made >= after)
            && self.before.is_none_or(|before| made <= before)
    }
}

pub(crate) async fn orders(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["which", "state", "older_than", "newer_than", "limit"])?;
    let now = Timestamp::now();
    let filter = Filter::read(&params, now)?;
    let limit = usize::try_from(params.integer_or("limit", LISTED)?).unwrap_or(usize::MAX);
    let (open, closed) = match params.text("which")? {
        None if filter.is_any() => (true, false),
        Some("open") => (true, false),
        Some("closed") => (false, true),
        None | Some("all") => (true, true),
        Some(_) => return Err(Failure::params("which must be open, closed or all")),
    };
    desk.ready().await?;
    let mut listed: Vec<Snapshot> = Vec::new();
    let mut damaged = Vec::new();
    if open {
        listed.extend(desk.cases().iter().map(|c| c.snapshot()));
        damaged.extend(desk.damaged());
    }
    if closed {
        let (records, more) = store::list(&desk.node, Shelf::Closed).await.map_err(|e| Failure::node(&e))?;
        listed.extend(records.into_iter().map(|r| Snapshot::of(r.order)));
        damaged.extend(more);
    }
    listed.retain(|shown| filter.lets_pass(shown, now));
    // When they were made is known to the second.
    listed.sort_by_key(|shown| (shown.order.created_at, shown.order.state.paid_at()));
    // The newest are wanted.
    let left_out = listed.len().saturating_sub(limit);
    let orders: Vec<_> = listed[left_out..].iter().map(|shown| shown.operators(now)).collect();
    let damaged: Vec<_> = damaged.iter().map(|d| json!({ "invoice_id": d.key, "error": d.error })).collect();
    Ok(json!({ "orders": orders, "left_out": left_out, "damaged": damaged }))
}

pub(crate) async fn order(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id"])?;
    let found = desk.find(order_id(&params)?).await?;
    Ok(found.snapshot().whole(Timestamp::now()))
}

pub(crate) async fn retry(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id"])?;
    let snapshot = desk.retry(order_id(&params)?).await?;
    Ok(snapshot.whole(Timestamp::now()))
}

pub(crate) async fn cancel(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id"])?;
    let id = order_id(&params)?;
    Ok(match desk.cancel(id).await? {
        Some(snapshot) => snapshot.whole(Timestamp::now()),
        None => json!({ "invoice_id": id, "state": "removed" }),
    })
}

pub(crate) async fn refunded(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "note"])?;
    let note = params.text("note")?.map(str::trim).filter(|note| !note.is_empty());
    if note.is_some_and(|note| note.chars().count() > MAX_NOTE || note.chars().any(char::is_control)) {
        return Err(Failure::params(format!("note must be at most {MAX_NOTE} characters, in one line")));
    }
    let snapshot = desk.refunded(order_id(&params)?, note.map(str::to_owned)).await?;
    Ok(snapshot.whole(Timestamp::now()))
}

pub(crate) async fn extend(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "hours"])?;
    let hours = params.integer("hours")?.filter(|hours| (1..=MAX_EXTENSION).contains(hours));
    let hours = hours
        .and_then(|hours| u32::try_from(hours).ok())
        .ok_or_else(|| Failure::params(format!("hours must be a whole number from 1 to {MAX_EXTENSION}")))?;
    let snapshot = desk.extend(order_id(&params)?, hours).await?;
    Ok(snapshot.whole(Timestamp::now()))
}

pub(crate) async fn remotes(desk: &Arc<Desk>, params: Value) -> Answer {
    Params::read(params, &[])?;
    let reports = desk.survey().await;
    let seen = desk.stock.seen();
    let remotes: Vec<_> = reports
        .into_iter()
        .map(|report| {
            let known = seen.get(&report.name);
            let last = known.and_then(|s| s.last.as_ref());
            let last_error = known.and_then(|s| s.last_error.as_ref());
            let load = last.and_then(|answer| answer.load());
            json!({
                "name": report.name,
                "healthy": report.load.is_ok(),
                "error": report.load.err(),
                "last_seen": last.map(|answer| answer.at),
                "last_error": last_error.map(|(at, error)| json!({ "at": at, "error": error })),
                "environments": load.map(|l| l.environments.len()),
                "being_made": load.map(|l| l.coming().count()),
                "memory_total_bytes": load.map(|l| l.memory().total),
                "memory_used_bytes": load.map(|l| l.memory().used),
                "cpus": load.map(|l| l.machines().map(|machine| machine.cpus).sum::<u64>()),
                "cpu_load": load.and_then(|l| l.machines().map(|machine| machine.cpu_load).sum::<Option<f64>>()),
                "warnings": load.map(|l| &l.warnings),
                "members": load.filter(|l| l.clustered).map(members),
            })
        })
        .collect();
    Ok(json!({ "remotes": remotes }))
}

/// The members of a cluster, each with what it has or why it takes no environments.
fn members(load: &Load) -> Vec<Value> {
    let environments = |name: &Option<String>| load.environments.iter().filter(|e| e.member == *name).count();
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
