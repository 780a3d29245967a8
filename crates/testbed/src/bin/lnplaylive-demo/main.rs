//! The demo: runs the whole shop on this machine, and can buy an environment in the terminal.
//!
//! `cargo demo` runs until Ctrl-C; `cargo demo -- --once` buys one environment and exits. A visitor sees the real code paths,
//! from the order to nodes that answer. Only daemons and servers that the machine lacks are simulated.

mod args;
mod lingering;
mod purchase;
mod screen;
mod signals;
mod timeline;

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use lnplaylive_core::Terms;
use serde::Serialize;
use serde_json::{Value, json};
use shop_server::Site;
use sim_lxd::Fault;
use testbed::{Binary, Flavor, RemoteKind, Remotes, Shop, ShopConfig, Workdir, simulated_remote};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use args::{After, Business, Lightning, Pages, Plan};
use lingering::Lingering;
use purchase::Purchase;
use screen::{Out, Screen};
use signals::Signals;
use timeline::Timeline;

/// The programs that the demo runs.
const PROGRAMS: [Binary; 4] = [Binary::Plugin, Binary::Lnplay, Binary::SimLightningd, Binary::SimBitcoind];
/// Exit status of a program ended by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let plan = Plan::from_command_line();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(plan) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lnplaylive-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: Plan) -> anyhow::Result<ExitCode> {
    // Before the runtime and the signal handlers exist, so that Ctrl-C interrupts a build as usual.
    testbed::binaries::ensure_built(&PROGRAMS, |_| ())?;
    let start = Instant::now();
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::new().context("setting up signals")?;
        match plan {
            Plan::Serve(business) => serve(business, start, &mut signals).await,
            Plan::Once { business, terms, json, after } => {
                Box::pin(once(business, &terms, json, after, start, &mut signals)).await
            }
            Plan::Remote { listen, lightning, time, start_delay, pages } => {
                remote(listen, lightning, time, start_delay, pages, &mut signals).await
            }
        }
    })
}

/// A site that is being served.
struct Served {
    end: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Served {
    fn start(site: Site, listener: TcpListener) -> Self {
        let (end, ended) = oneshot::channel();
        let serving = tokio::spawn(site.serve(listener.into(), async { drop(ended.await) }));
        Self { end, serving }
    }

    async fn stop(self) -> anyhow::Result<()> {
        drop(self.end);
        self.serving.await.context("serving the pages")
    }
}

/// Listens at `address`, or at another port of its host if that one is taken.
async fn listen_near(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(address).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse => TcpListener::bind((address.ip(), 0)).await,
        bound => bound,
    };
    listener.with_context(|| format!("cannot listen on {address}; choose another address with --listen"))
}

/// Runs the shop until it is stopped.
async fn serve(business: Business, start: Instant, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(Out::Stdout, start);
    let Pages { listen, dist } = business.pages.clone();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; choose another address with --listen"))?;
    let url = site_url(listener.local_addr().context("the listener has no address")?);
    let Some(shop) = signals.unless_stopped(open(business, &url, &screen)).await else {
        return Ok(INTERRUPTED.into());
    };
    let shop = shop?;
    let rune = shop.host.create_public_rune().await?;
    let (site, has_pages) = testbed::site(&shop, &rune, dist)?;
    screen.line(format_args!(
        "
  The shop            {url}{}
  What it reads       {url}/config.json
    node              {}
    WebSocket         {}/ws
    public rune       {rune}
",
        if has_pages { "" } else { "  (not built: there is no frontend-dist)" },
        shop.host.node.id(),
        url.replacen("http", "ws", 1),
    ));
    screen.line(how_to_buy(&shop));
    screen.line(format_args!(
        "
  What to open first
    as organiser      {url}  (order, and pay with the demo wallet)
    as attendee       the card of a node, on the page of the order that was paid
    as operator       {}

Ctrl-C stops everything.",
        operators_call(&shop)
    ));
    let served = Served::start(site, listener);
    signals.stopped().await;
    screen.line("Stopping.");
    served.stop().await?;
    shop.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// The operator's command that lists all orders.
fn operators_call(shop: &Shop) -> String {
    let host = shop.host.node.dir().display();
    match shop.daemons().flavor() {
        Flavor::Real => format!("lightning-cli --regtest --lightning-dir={host} lnplayops-orders"),
        Flavor::Simulated => format!("lnplayops-orders, by JSON-RPC on {host}/regtest/lightning-rpc"),
    }
}

/// Instructions for buying by hand.
fn how_to_buy(shop: &Shop) -> String {
    let (host, customer) = (shop.host.node.dir().display(), shop.host.customer.dir().display());
    let by_hand = match shop.daemons().flavor() {
        Flavor::Real => format!(
            "
  To order, pay and look yourself:
    lightning-cli --regtest --lightning-dir={host} lnplaylive-createorder 8 48
    lightning-cli --regtest --lightning-dir={customer} pay BOLT11_INVOICE
    lightning-cli --regtest --lightning-dir={host} lnplaylive-invoicestatus bolt11 INVOICE_ID
"
        ),
        Flavor::Simulated => format!(
            "
  To order, pay and look yourself, speak JSON-RPC to these sockets:
    the shop's node   {host}/regtest/lightning-rpc
    the customer      {customer}/regtest/lightning-rpc
"
        ),
    };
    format!("  To buy in the terminal, in another one: cargo demo -- --once\n{by_hand}")
}

/// Buys one environment, then does what the options say.
async fn once(
    mut business: Business,
    terms: &Terms,
    json: bool,
    after: After,
    start: Instant,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let mut screen = Screen::new(if json { Out::Stderr } else { Out::Stdout }, start);
    let mut timeline = Timeline::new(start);
    let simulated = business.simulated;
    let Pages { listen, dist } = business.pages.clone();
    let lingering = match after {
        After::Linger(time) if simulated => {
            Some((Lingering::start(business.lightning, time, &business.pages).await?, time))
        }
        _ => None,
    };
    let mut pages_url = site_url(listen);
    let mut listener = None;
    if let Some((server, _)) = &lingering {
        business.remotes = server.remotes();
        pages_url = server.pages().map_or(pages_url, str::to_owned);
    } else if after == After::Keep {
        let bound = listen_near(listen).await?;
        pages_url = site_url(bound.local_addr().context("the listener has no address")?);
        listener = Some(bound);
    }
    let Some(shop) = signals.unless_stopped(open(business, &pages_url, &screen)).await else {
        return Ok(INTERRUPTED.into());
    };
    let mut shop = shop?;
    timeline.mark("started");
    let buying = async {
        let purchase = purchase::buy(&shop, terms, &mut screen, &mut timeline).await?;
        let remote = if simulated { RemoteKind::Simulated } else { shop.remote_kind().await? };
        Ok::<_, anyhow::Error>((purchase, remote))
    };
    let outcome = signals.unless_stopped(buying).await;
    screen.end_progress();
    let (purchase, remote) = match outcome {
        Some(Ok(bought)) => bought,
        Some(Err(error)) => {
            shop.keep("the purchase failed");
            shop.stop().await;
            return Err(error);
        }
        None => {
            screen.line("Stopping.");
            shop.stop().await;
            return Ok(INTERRUPTED.into());
        }
    };
    if json {
        let lightning = shop.daemons().flavor();
        let Purchase { order, status } = &purchase;
        print_json(&Report { order, status, timeline_ms: &timeline, lightning, remote })?;
    } else {
        hand_over(&purchase, &screen);
    }
    if !simulated {
        let until = &purchase.status["deployment_details"]["vm_expiration_date"];
        screen.line(format_args!("The environment stays on the server; it is paid until {until}."));
    }
    if let Some(listener) = listener {
        let rune = shop.host.create_public_rune().await?;
        let (site, _) = testbed::site(&shop, &rune, dist)?;
        let served = Served::start(site, listener);
        what_to_open(&purchase, &pages_url, &screen);
        screen.line(format_args!("  as operator     {}\n", operators_call(&shop)));
        screen.line("Everything keeps running. Ctrl-C stops it.");
        signals.stopped().await;
        served.stop().await?;
    }
    shop.stop().await;
    if let Some((server, time)) = lingering {
        let minutes = time.as_secs() / 60;
        if server.pages().is_some() {
            screen.line("The links open in a browser on this machine.");
        } else {
            screen.line("The links do not open: the pages are not built, there is no frontend-dist.");
        }
        let pid = server.leave();
        screen.line(format_args!(
            "The nodes keep running in the background for {minutes} minutes; `kill {pid}` stops them earlier."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The document printed by `--json`.
#[derive(Serialize)]
struct Report<'a> {
    order: &'a Value,
    status: &'a Value,
    timeline_ms: &'a Timeline,
    lightning: Flavor,
    remote: RemoteKind,
}

/// Prints the connection strings.
fn hand_over(purchase: &Purchase, screen: &Screen) {
    let details = &purchase.status["deployment_details"];
    screen.line("\nConnection strings, one for each attendee:\n");
    for string in details["connection_strings"].as_array().into_iter().flatten() {
        screen.line(string.as_str().unwrap_or_default());
    }
    screen.line("");
}

/// Shows the pages to open while the shop runs.
fn what_to_open(purchase: &Purchase, url: &str, screen: &Screen) {
    let id = purchase.status["invoice_id"].as_str().unwrap_or_default();
    screen.line(format_args!(
        "What to open first
  as organiser    {url}/orders/{id}
  as attendee     the first of the connection strings"
    ));
}

/// Runs only a simulated LXD server, with the pages if they are wanted, until it is stopped or its time is over.
async fn remote(
    listen: SocketAddr,
    lightning: Lightning,
    time: Option<Duration>,
    start_delay: Duration,
    pages: Option<Pages>,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let daemons = lightning.daemons()?;
    let workdir = Workdir::new("lxd")?;
    let remote = simulated_remote(&daemons, workdir.join("r"), listen).await?;
    if !start_delay.is_zero() {
        remote.faults().on("PUT", "/1.0/instances/*/state", usize::MAX, Fault::Delay(start_delay));
    }
    let mut about = json!({"url": remote.url(), "token": remote.token("lnplaylive")});
    let mut served = None;
    if let Some(Pages { listen, dist }) = pages
        && let Some(site) = testbed::pages(dist)?
    {
        let listener = listen_near(listen).await?;
        about["pages"] = site_url(listener.local_addr().context("the listener has no address")?).into();
        served = Some(Served::start(site, listener));
    }
    print_json(&about)?;
    match time {
        // Whether it was stopped or its time is over makes no difference.
        Some(time) => drop(signals.unless_stopped(tokio::time::sleep(time)).await),
        None => signals.stopped().await,
    }
    if let Some(served) = served {
        served.stop().await?;
    }
    remote.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Starts the shop.
async fn open(business: Business, pages_url: &str, screen: &Screen) -> anyhow::Result<Shop> {
    let daemons = business.lightning.daemons()?;
    let server = match &business.remotes {
        Remotes::Existing { url, .. } if !business.simulated => url,
        _ => "a simulated LXD server",
    };
    let flavor = daemons.flavor();
    screen.event(format_args!(
        "starting a shop and a customer on {flavor} lightningd and bitcoind; environments go to {server}"
    ));
    let mut config = ShopConfig::new(daemons);
    config.settings = format!("[shop]\nconnect_page = \"{pages_url}/connect\"\n");
    config.remotes = business.remotes;
    config.tickets = true;
    let shop = Shop::start(config).await?;
    screen.event("the shop is open");
    Ok(shop)
}

/// The URL of a listener, for a browser on this machine.
fn site_url(listener: SocketAddr) -> String {
    let port = listener.port();
    if listener.ip().is_unspecified() {
        format!("http://localhost:{port}")
    } else {
        format!("http://{listener}")
    }
}

/// Prints one line of JSON on stdout.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let line = serde_json::to_string(value).context("writing JSON")? + "\n";
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).context("writing to stdout")
}
