//! A shop for browser tests, which can disturb it:   stage [--invoice-expiry SECONDS]
//!
//! Prints one line of JSON when the shop is open, `{"url":…,"lightning":…}`. After that each line on standard input is a
//! [`StageCommand`] in JSON, answered by one line, `{"ok":…}` or `{"error":…}`, when it is done. Exits at the end of standard input.
//! `STAGE_LIGHTNING` selects the daemons: `real` or `simulated`; by default the real ones if they exist.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use shop_server::settings::Rates;
use sim_lxd::{Fault, SimRemote};
use testbed::{Daemons, Flavor, Shop, ShopConfig};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A command of a test.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum StageCommand {
    /// Stops the shop's node.
    StopNode,
    /// Starts it again, and waits until it can be paid.
    StartNode,
    /// Restarts the node and its bitcoind, which takes the chain for one that it still downloads.
    LoseSync,
    /// Mines a block, with which bitcoind is synchronised.
    Mine,
    /// Makes the creation of environments fail.
    BreakRemote,
    /// Ends that.
    MendRemote,
    /// Ends all environments and frees their resources.
    EndEnvironments,
    /// Ends one node of the newest environment for good.
    RuinNode { index: u32 },
    /// Stops serving the site.
    CloseSite,
    /// Serves it again, at the same address.
    OpenSite,
    /// Lets the customer pay an invoice.
    Pay { bolt11: String },
    /// Calls a method of the shop's node, as its operator.
    Call { method: String, params: Value },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut stage = Stage::open(settings()?).await?;
    say(&json!({"url": stage.url(), "lightning": stage.shop.daemons().flavor()}))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command = serde_json::from_str(&line).with_context(|| format!("not a command: {line}"))?;
        match stage.run(command).await {
            Ok(value) => say(&json!({"ok": value}))?,
            Err(error) => say(&json!({"error": format!("{error:#}")}))?,
        }
    }
    stage.close().await;
    stage.shop.stop().await;
    Ok(())
}

/// Settings of a shop that gives up soon and names a contact, and the option of the command line.
fn settings() -> anyhow::Result<String> {
    let mut shop = "[shop]\ncontact = \"help@shop.example\"\n".to_owned();
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => {}
        (Some("--invoice-expiry"), Some(seconds)) => {
            writeln!(shop, "invoice_expiry_secs = {}", seconds.parse::<u32>()?)?;
        }
        _ => bail!("usage: stage [--invoice-expiry SECONDS]"),
    }
    Ok(shop)
}

fn say(what: &Value) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{what}")?;
    stdout.flush()
}

/// A running shop.
struct Stage {
    shop: Shop,
    rune: String,
    address: SocketAddr,
    site: Option<Served>,
}

/// A site that is served.
struct Served {
    end: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Stage {
    async fn open(shop_settings: String) -> anyhow::Result<Self> {
        let daemons = match std::env::var("STAGE_LIGHTNING").as_deref() {
            Ok("real") => Daemons::of(Flavor::Real)?,
            Ok("simulated") => Daemons::of(Flavor::Simulated)?,
            Ok(other) => bail!("STAGE_LIGHTNING is {other}; it can be real or simulated"),
            Err(_) => Daemons::auto()?,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut config = ShopConfig::new(daemons);
        config.settings = format!(
            "{shop_settings}connect_page = \"http://{address}/connect\"\n\
             [provisioning]\nmax_attempts = 1\npatience = 1\nbackoff_ms = 10\nprobes_per_min = 120\n"
        );
        config.tickets = true;
        let shop = Shop::start(config).await?;
        let rune = shop.host.create_public_rune().await?;
        let mut stage = Self { shop, rune, address, site: None };
        stage.serve(listener)?;
        Ok(stage)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        let (site, has_pages) = testbed::site_with(&self.shop, &self.rune, None, |settings| {
            // All visitors have the same address, and hurry.
            settings.limits.tickets_per_minute = Rates { per_client: 600, per_network: 600 };
        })?;
        if !has_pages {
            bail!("there is no frontend-dist");
        }
        let (end, ended) = oneshot::channel();
        let serving = tokio::spawn(site.serve(listener.into(), async { drop(ended.await) }));
        self.site = Some(Served { end, serving });
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(Served { end, serving }) = self.site.take() {
            drop(end);
            drop(serving.await);
        }
    }

    async fn run(&mut self, command: StageCommand) -> anyhow::Result<Value> {
        let remote = || self.shop.remotes.first().context("no simulated remote");
        let faults = || remote().map(SimRemote::faults);
        match command {
            StageCommand::StopNode => self.shop.host.node.stop().await?,
            StageCommand::StartNode => {
                self.shop.host.node.restart().await?;
                self.shop.host.reconnect().await?;
            }
            StageCommand::LoseSync => {
                self.shop.host.node.stop().await?;
                self.shop.host.bitcoind.restart_out_of_sync().await?;
                self.shop.host.node.restart().await?;
                self.shop.host.reconnect().await?;
            }
            StageCommand::Mine => self.shop.host.bitcoind.mine(1).await?,
            StageCommand::BreakRemote => {
                // A fault of each placement: one of the remote itself would leave orders queued.
                let taken = "Error occurred when starting proxy device: Error: address already in use";
                let fault = Fault::FailOperation(taken.into());
                faults()?.on("PUT", "/1.0/instances/*/state", usize::MAX, fault);
            }
            StageCommand::MendRemote => faults()?.clear(),
            StageCommand::EndEnvironments => remote()?.clear().await,
            StageCommand::RuinNode { index } => {
                let projects = remote()?.projects();
                let newest = projects
                    .iter()
                    .filter(|project| project.name.starts_with("lnplaylive-"))
                    .max_by_key(|p| &p.name);
                let newest = newest.context("no environment")?;
                let instance = remote()?.instance_dir(&newest.name).context("no instance")?;
                testbed::ruin_node(&instance, index)?;
            }
            StageCommand::CloseSite => self.close().await,
            StageCommand::OpenSite => {
                let listener = TcpListener::bind(self.address).await?;
                self.serve(listener)?;
            }
            StageCommand::Pay { bolt11 } => return Ok(self.shop.host.customer.pay(&bolt11).await?),
            StageCommand::Call { method, params } => {
                return Ok(self.shop.host.node.call(&method, params).await?);
            }
        }
        Ok(Value::Null)
    }
}
