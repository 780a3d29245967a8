//! The plugin under lightningd: options, notifications, start and end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

use crate::adapters::node::Node;
use crate::adapters::products_file::ProductsFileAt;
use crate::adapters::route_file::RouteFileAt;
use crate::adapters::{SystemClock, metrics, rpc};
use crate::core::interfaces::{ProductsOutlet, RouteFile};
use crate::core::shop::Background;
use crate::core::{Backends, Shop};

const CONFIG: StringConfigOption =
    ConfigOption::new_str_no_default("lnplaylive-config", "path of the settings file, lnplaylive.toml");

/// Time for a log line to get out before lightningd stops us; another task writes it.
const LOG_FLUSH: Duration = Duration::from_millis(100);

/// Longest that tasks may take to end once they are dropped.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// The handlers' way to the plugin and the shop.
type Handle = Plugin<Arc<Shop>>;

/// Runs the plugin until lightningd says shutdown, or is gone.
pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(serve());
    // Work under way is dropped, and with it its SSH keys; the thread that reads standard input is not waited for.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

async fn serve() -> anyhow::Result<()> {
    let builder = Builder::new(tokio::io::stdin(), tokio::io::stdout())
        .option(CONFIG)
        .subscribe("invoice_payment", on_invoice_payment)
        .subscribe("shutdown", |plugin: Handle, _| async move { plugin.shutdown() })
        .dynamic();
    let Some(plugin) = rpc::register(builder).configure().await? else { return Ok(()) };
    let (shop, background, metrics_listen) = match open_shop(&plugin) {
        Ok(opened) => opened,
        Err(error) => {
            // lightningd goes on without us, and shows the reason at debug level only.
            tracing::error!("lnplaylive does not start: {error:#}");
            tokio::time::sleep(LOG_FLUSH).await;
            return plugin.disable(&format!("{error:#}")).await;
        }
    };
    let shop = Arc::new(shop);
    if let Some(address) = metrics_listen {
        tokio::spawn(metrics::serve(Arc::clone(&shop), address));
    }
    let plugin = plugin.start(shop).await?;
    tokio::spawn(background.run());
    // Work that is interrupted goes on after the next start.
    plugin.join().await
}

/// The shop, its background tasks, and the address for its metrics.
fn open_shop(
    plugin: &ConfiguredPlugin<Arc<Shop>, Stdin, Stdout>,
) -> anyhow::Result<(Shop, Background, Option<SocketAddr>)> {
    let file = plugin
        .option(&CONFIG)?
        .map(PathBuf::from)
        .or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    let settings = Settings::load(file.as_deref())?;
    let configuration = plugin.configuration();
    let lightning_dir = Path::new(&configuration.lightning_dir);
    let state_dir = settings.state_dir.clone().unwrap_or_else(|| lightning_dir.join("lnplaylive"));
    let remotes = Provisioner::new(&settings, &state_dir).context("lnplaylive cannot start")?;
    let node = Arc::new(Node::new(lightning_dir.join(&configuration.rpc_file)));
    let route_file =
        settings.shop.routes_file.clone().map(|path| Arc::new(RouteFileAt(path)) as Arc<dyn RouteFile>);
    let products = settings.shop.products_file.clone();
    let products = products.map(|path| Arc::new(ProductsFileAt(path)) as Arc<dyn ProductsOutlet>);
    let backends = Backends {
        invoices: Arc::clone(&node) as _,
        node: Arc::clone(&node) as _,
        store: node,
        remotes: Arc::new(remotes),
        route_file,
        products,
        ticket_key: settings.ticket_key()?,
        clock: Arc::new(SystemClock),
    };
    let (shop, background) = Shop::new(&settings, backends)?;
    Ok((shop, background, settings.shop.metrics_listen))
}

async fn on_invoice_payment(plugin: Handle, notification: Value) -> anyhow::Result<()> {
    let payment = notification.get("invoice_payment").unwrap_or(&notification);
    let label = payment.get("label").and_then(Value::as_str).context("invoice_payment without a label")?;
    plugin.state().orders.on_payment(label).await;
    // A payment changes what can be received.
    plugin.state().node.ask_soon();
    Ok(())
}
