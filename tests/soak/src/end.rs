//! The end of a run: the shop comes to rest, and its books are checked.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::SignedDuration;
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{ConnectionString, State};
use serde_json::json;
use tokio::time::sleep;

use crate::books::{Books, Project};
use crate::culling;
use crate::survey::Survey;
use crate::tally::Group;
use crate::trouble;
use crate::world::World;

/// Longest time until nothing is under way any more.
const REST_TIMEOUT: Duration = Duration::from_secs(180);
/// The time after which everything that can be sold and extended here has ended, and trials that a crash has left.
const EVERYTHING: SignedDuration = SignedDuration::from_hours(24 * 60);
/// Longer than the culler's grace and the retention of unpaid orders.
const GRACE: SignedDuration = SignedDuration::from_secs(70);

/// Ends all trouble, and waits until nothing is under way.
pub async fn rest(world: &World) -> anyhow::Result<()> {
    trouble::end(world).await?;
    let began = Instant::now();
    loop {
        let open = world.record_list(&["open"]).await.unwrap_or_default();
        let known = world.call("lnplayops-orders", json!({})).await;
        let listed = known.ok().and_then(|answer| answer["orders"].as_array().map(Vec::len));
        if open.is_empty() && listed == Some(0) {
            return Ok(());
        }
        if began.elapsed() > REST_TIMEOUT {
            for order in open {
                let last = order.history.last().map_or("", |entry| entry.what.as_str());
                world.findings.add(format!(
                    "{:.19} is {} {} s after all faults have ended; its last event: {last}",
                    order.id.to_string(),
                    order.state.name(),
                    REST_TIMEOUT.as_secs()
                ));
            }
            return Ok(());
        }
        // As an operator would who has repaired the remotes: at once, instead of after the breaker's pause.
        if let Some(queued) = open.iter().find(|order| matches!(order.state, State::Queued { .. })) {
            let params = json!({"invoice_id": queued.id.to_string()});
            world.call("lnplayops-retry", params).await.ok();
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Checks the books: now, after what has ended was culled, and after everything has ended.
pub async fn audit(world: &World, survey: &Survey) -> anyhow::Result<()> {
    let books = world.books().await?;
    report(world, &books);
    count(world, &books);
    for early in survey.early.lock().expect("no look panics").iter() {
        let record = books.closed.iter().find(|order| order.id == early.tags.order);
        if let Some(State::Provisioned { handover, .. }) = record.map(|order| &order.state)
            && handover.project == early.tags.project
        {
            let (project, ends) = (early.tags.project, early.tags.expires);
            world
                .findings
                .add(format!("{project} was gone at {}, before its end at {ends}", early.missed_at));
        }
    }
    secrets(world, survey, &books)?;
    prepared(world).await?;
    if world.remotes.is_empty() {
        return Ok(());
    }
    world.advance(GRACE.as_secs())?;
    clean_pass(world).await?;
    let books = world.books().await?;
    report(world, &books);
    for error in books.ended_before(books.now - GRACE) {
        world.findings.add(error);
    }
    world.advance(EVERYTHING.as_secs())?;
    clean_pass(world).await?;
    // What is prepared is renewed for ever.
    let lives = |project: &Project| {
        let tags = project.tags().ok().flatten();
        tags.is_some_and(|tags| tags.stage == Stage::Prepared && tags.expires > world.now())
    };
    let left = world.projects().await?.into_iter();
    let left: Vec<_> = left.filter(|p| p.name != "default" && !lives(p)).map(|p| p.name).collect();
    if !left.is_empty() {
        world.findings.add(format!("left on the remotes after everything has ended: {}", left.join(", ")));
    }
    Ok(())
}

/// No more are prepared than there are to be. One that is given up takes a moment to go.
async fn prepared(world: &World) -> anyhow::Result<()> {
    let most = 2 * world.settings.prepared as usize;
    let began = Instant::now();
    loop {
        let count = world.books().await?.prepared();
        if count <= most {
            world.tally.add(Group::Checks, "environments prepared at the end", count as u64);
            return Ok(());
        }
        if began.elapsed() > REST_TIMEOUT {
            world.findings.add(format!("{count} environments are prepared, and {most} are wanted"));
            return Ok(());
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// A pass without faults, after which nothing that is due is left.
async fn clean_pass(world: &World) -> anyhow::Result<()> {
    // A process sees a step within a second.
    sleep(Duration::from_millis(1500)).await;
    let report = culling::pass(world, None).await?.context("it was not killed")?;
    if report["failed"] != 0 || report["remotes_failed"] != 0 {
        world.findings.add(format!("the culler failed without a fault: {report}"));
    }
    Ok(())
}

fn report(world: &World, books: &Books) {
    world.tally.one(Group::Checks, "audits of the books");
    for error in books.errors() {
        world.findings.add(error);
    }
}

/// Counts what became of the orders.
fn count(world: &World, books: &Books) {
    for order in books.closed.iter().chain(&books.open) {
        let name = match &order.state {
            State::Provisioned { handover, .. } if handover.refunded_at.is_some() => {
                "end: delivered, and refunded"
            }
            State::Provisioned { .. } => "end: delivered",
            State::Failed { refunded_at: Some(_), .. } => "end: refunded",
            State::Failed { cancelled: true, .. } => "end: owed, cancelled by the operator",
            State::Failed { .. } => "end: owed, out of attempts",
            _ => "end: still open",
        };
        world.tally.one(Group::Orders, name);
    }
    let expired = books.ledger.iter().filter(|(id, _)| !books.invoices.contains_key(*id)).count();
    world.tally.add(Group::Orders, "end: not paid, and gone", expired as u64);
    world.tally.add(Group::Checks, "trials that a crash has left", books.trials() as u64);
}

/// Searches all logs for all secrets.
fn secrets(world: &World, survey: &Survey, books: &Books) -> anyhow::Result<()> {
    let mut secrets = survey.secrets.lock().expect("no look panics");
    for order in books.open.iter().chain(&books.closed) {
        secrets.add_order(order);
    }
    for (id, purchase) in &books.ledger {
        secrets.add_id(id);
        for string in purchase.strings.iter().flatten() {
            if let Ok(string) = string.parse::<ConnectionString>() {
                secrets.add_string(&string);
            }
        }
    }
    secrets.add_files(&world.key_files())?;
    let (found, lines) = secrets.search(&world.logs())?;
    world.tally.add(Group::Checks, "parts of secrets searched for in logs", secrets.len() as u64);
    world.tally.add(Group::Checks, "lines of logs searched", lines);
    for finding in found {
        world.findings.add(finding);
    }
    Ok(())
}
