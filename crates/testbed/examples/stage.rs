//! A shop for browser tests, and what they do to it:   stage [--invoice-expiry SECONDS]
//!
//! Prints one line of JSON when the shop is open, `{"url":…,"lightning":…}`. Then each line on standard input is a [`Wish`] as
//! JSON, and is answered by one line, `{"ok":…}` or `{"error":…}`, when it is fulfilled. Ends with its standard input.
//! Which daemons it runs is said by `STAGE_LIGHTNING`: `real`, `simulated`, or nothing for the real ones if they are there.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use sim_lxd::{Fault, SimRemote};
use testbed::{Daemons, Flavor, PublicRunes, Shop, ShopConfig};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What a test can ask for.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Wish {
    /// The shop's node stops.
    StopNode,
    /// It starts again, and can be paid.
    StartNode,
    /// No environment can be made from now on.
    BreakRemote,
    /// The end of that.
    MendRemote,
    /// All environments end, and take no more of the machine.
    EndEnvironments,
    /// Nothing is served any more.
    CloseSite,
    /// It is served again, at the same place.
    OpenSite,
    /// The customer pays an invoice.
    Pay { bolt11: String },
    /// The shop's operator calls a method of its node.
    Call { method: String, params: Value },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut stage = Stage::open(settings()?).await?;
    say(&json!({"url": stage.url(), "lightning": stage.shop.daemons().flavor()}))?;
    let mut wishes = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = wishes.next_line().await? {
        let wish = serde_json::from_str(&line).with_context(|| format!("not a wish: {line}"))?;
        match stage.fulfil(wish).await {
            Ok(value) => say(&json!({"ok": value}))?,
            Err(error) => say(&json!({"error": format!("{error:#}")}))?,
        }
    }
    stage.close().await;
    stage.shop.stop().await;
    Ok(())
}

/// A shop that gives up soon and names somebody to ask, as the command line says.
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
    runes: PublicRunes,
    address: SocketAddr,
    site: Option<Served>,
}

/// A site that is being served.
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
             [provisioning]\nmax_attempts = 1\npatience = 1\nbackoff_ms = 10\n"
        );
        let shop = Shop::start(config).await?;
        let runes = shop.host.create_public_runes().await?;
        let mut stage = Self { shop, runes, address, site: None };
        stage.serve(listener)?;
        Ok(stage)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        let (site, has_pages) = testbed::site(&self.shop, &self.runes, None)?;
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

    async fn fulfil(&mut self, wish: Wish) -> anyhow::Result<Value> {
        let remote = || self.shop.remotes.first().context("no simulated remote");
        let faults = || remote().map(SimRemote::faults);
        match wish {
            Wish::StopNode => self.shop.host.node.stop().await?,
            Wish::StartNode => {
                self.shop.host.node.restart().await?;
                self.shop.host.reconnect().await?;
            }
            Wish::BreakRemote => {
                let refusal = Fault::Error(400, "no environments today".into());
                faults()?.on("POST", "/1.0/projects", usize::MAX, refusal);
            }
            Wish::MendRemote => faults()?.clear(),
            Wish::EndEnvironments => remote()?.clear().await,
            Wish::CloseSite => self.close().await,
            Wish::OpenSite => {
                let listener = TcpListener::bind(self.address).await?;
                self.serve(listener)?;
            }
            Wish::Pay { bolt11 } => return Ok(self.shop.host.customer.pay(&bolt11).await?),
            Wish::Call { method, params } => return Ok(self.shop.host.node.call(&method, params).await?),
        }
        Ok(Value::Null)
    }
}
