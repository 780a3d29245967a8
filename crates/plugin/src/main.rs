//! The Core Lightning plugin that sells environments.
//!
//! A thin adapter: [`rpc`] and [`ops`] read parameters and write answers, [`desk`] holds the open orders
//! and is the only one to move them, [`store`] keeps them in the node's datastore, [`worker`] provisions
//! what was paid, [`sweeper`] finds what was paid unnoticed or never, [`stock`] knows what can be sold,
//! [`routes`] tells the web shop's gateway where environments are. What to do is decided in the
//! crate `lnplaylive`, what is done on remotes is in the crate `provisioner`.

mod cli;
mod desk;
mod node;
mod ops;
mod params;
mod routes;
mod rpc;
mod stock;
mod store;
mod sweeper;
mod view;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cln_plugin::options::{ConfigOption, StringConfigOption};
use cln_plugin::{Builder, ConfiguredPlugin, Plugin};
use lnplaylive_core::Settings;
use lnplaylive_core::settings::CONFIG_VARIABLE;
use provisioner::Provisioner;
use serde_json::Value;
use tokio::io::{Stdin, Stdout};

use desk::Desk;
use node::Node;

const CONFIG: StringConfigOption =
    ConfigOption::new_str_no_default("lnplaylive-config", "path of the settings file, lnplaylive.toml");

/// Log lines are written by a task of their own; this is for one to get out before we are stopped.
const LOG_TIME: Duration = Duration::from_millis(100);

/// How long work that is dropped may take to end.
const END_TIME: Duration = Duration::from_millis(200);

/// What handlers share.
type Handle = Plugin<Arc<Desk>>;

fn main() -> anyhow::Result<ExitCode> {
    // lightningd starts plugins without arguments; in developer mode with this one.
    if std::env::args_os().nth(1).is_some_and(|word| word != "--developer") {
        return Ok(cli::run());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(run());
    // Work under way is dropped, and with it its SSH keys; the thread that reads standard input is not waited for.
    runtime.shutdown_timeout(END_TIME);
    result.map(|()| ExitCode::SUCCESS)
}

async fn run() -> anyhow::Result<()> {
    let builder = Builder::new(tokio::io::stdin(), tokio::io::stdout())
        .option(CONFIG)
        .subscribe("invoice_payment", on_invoice_payment)
        .subscribe("shutdown", |plugin: Handle, _| async move { plugin.shutdown() })
        .dynamic();
    let Some(plugin) = rpc::register(builder).configure().await? else { return Ok(()) };
    let desk = match open_desk(&plugin) {
        Ok(desk) => desk,
        Err(error) => {
            // lightningd goes on without us, and shows the reason for that at debug level only.
            tracing::error!("lnplaylive does not start: {error:#}");
            tokio::time::sleep(LOG_TIME).await;
            return plugin.disable(&format!("{error:#}")).await;
        }
    };
    let plugin = plugin.start(Arc::clone(&desk)).await?;
    sweeper::spawn(desk);
    // Until lightningd says shutdown, or is gone. What is under way is gone on with after the next start.
    plugin.join().await
}

fn open_desk(plugin: &ConfiguredPlugin<Arc<Desk>, Stdin, Stdout>) -> anyhow::Result<Arc<Desk>> {
    let file = plugin
        .option(&CONFIG)?
        .map(PathBuf::from)
        .or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    let settings = Settings::load(file.as_deref())?;
    let configuration = plugin.configuration();
    let lightning_dir = Path::new(&configuration.lightning_dir);
    let state_dir = settings.state_dir.clone().unwrap_or_else(|| lightning_dir.join("lnplaylive"));
    let provisioner = Provisioner::new(&settings, &state_dir).context("lnplaylive cannot start")?;
    let node = Node::new(lightning_dir.join(&configuration.rpc_file));
    Ok(Arc::new(Desk::new(&settings, node, provisioner)?))
}

async fn on_invoice_payment(plugin: Handle, notification: Value) -> anyhow::Result<()> {
    let payment = notification.get("invoice_payment").unwrap_or(&notification);
    let label = payment.get("label").and_then(Value::as_str).context("invoice_payment without a label")?;
    plugin.state().on_payment(label).await;
    Ok(())
}
