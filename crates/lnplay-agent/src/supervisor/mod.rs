//! The process that brings an environment up and keeps it up until SIGTERM.
//!
//! Each room of it depends only on those before it: [`journal`] (what followers are told), [`switches`] (what is switched
//! off), [`environment`] (what all rooms share), [`funding`], [`opening`] (the channels), [`bring_up`], [`mining`],
//! [`requests`] (what attendees ask the room for), the organiser's [`desk`] with [`overview`], [`ledger`], [`refused`], [`sending`] (coins) and [`topology`] (channels), and
//! [`server`] (the control socket).

mod bring_up;
mod desk;
mod environment;
mod funding;
mod journal;
mod ledger;
mod mining;
mod opening;
mod overview;
mod refused;
mod requests;
mod sending;
mod server;
mod switches;
mod topology;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use lnplaylive_core::progress::Line;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::chain::MiningKey;
use crate::settings::Settings;
use crate::state::StateDir;
use crate::{lock, systemd};

use desk::Desk;
use environment::Environment;

/// The time that followers get to read the last lines.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the environment whose spec is in the state directory until SIGTERM, or until a new environment cannot be brought
/// up. One that was handed over before is kept up whatever fails. Returns at once if another supervisor is at work.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let dir = StateDir::new(&settings.dir)?;
    let users = settings.users()?;
    dir.create(users)?;
    let Some(lock) = lock::try_acquire(&dir.supervisor_lock()).context("taking the supervisor's lock")?
    else {
        info!("another supervisor is at work");
        return Ok(());
    };
    // Held until this process ends: as soon as the lock is free, nothing of this supervisor is left.
    std::mem::forget(lock);
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;

    let environment = Arc::new(Environment::load(settings, users, dir)?);
    let closing = CancellationToken::new();
    let followers = TaskTracker::new();
    let listener = server::listen(&environment.dir)?;
    systemd::notify_ready()?;
    let desk_of_ready = Arc::new(OnceLock::new());
    followers.spawn(server::serve(
        environment.clone(),
        desk_of_ready.clone(),
        listener,
        followers.clone(),
        closing.clone(),
    ));

    let work = async {
        let key = MiningKey::load_or_make(&environment.dir)?;
        let desk = Desk::new(&environment, key.clone());
        let connection_strings = bring_up::run(&environment, &key, desk.miner()).await?;
        let desk = desk_of_ready.get_or_init(|| desk);
        info!("ready");
        environment.journal.finish(Line::Ready { connection_strings });
        tokio::select! {
            result = mining::run(&environment, desk.miner()) => result,
            never = requests::run(&environment) => match never {},
        }
    };
    let result: anyhow::Result<()> = tokio::select! {
        result = work => result,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    // From now on `lnplay up` waits for the lock and starts a supervisor of its own.
    closing.cancel();
    let _gone = std::fs::remove_file(environment.dir.control());
    let message = match &result {
        Ok(()) => "lnplay was stopped".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    info!("stopping: {message}");
    environment.journal.finish(Line::Failed { message });
    environment.stop().await;
    followers.close();
    let _late = timeout(FAREWELL_TIMEOUT, followers.wait()).await;
    result
}
