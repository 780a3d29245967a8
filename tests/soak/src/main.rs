//! Runs the soak: see `tests/run` and the crate's documentation.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use soak::buyers::{self, Shift};
use soak::settings::{Servers, Settings};
use soak::survey::Survey;
use soak::tally::Group;
use soak::world::World;
use soak::{culling, end, operator, trouble, visitors};
use tokio::time::interval;

/// Between two lines about how far a run is.
const LINE_EVERY: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let settings = match Settings::read(|name| std::env::var(name).ok(), fresh) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    let command = settings.command();
    println!("soak: seed {}; to repeat: {command}", settings.seed);
    match run(settings).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("soak: FAILED; to repeat: {command}");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("soak: FAILED: {error:#}; to repeat: {command}");
            ExitCode::FAILURE
        }
    }
}

/// One run. True if nothing was found.
async fn run(settings: Settings) -> anyhow::Result<bool> {
    let began = Instant::now();
    let mut world = World::start(settings).await?;
    let log = std::fs::File::create(world.own_log()).context("creating our log")?;
    let filter = tracing_subscriber::EnvFilter::new("info,sim_lxd=debug,shop_server=debug");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log).with_ansi(false).init();

    let survey = Survey::default();
    let done = work(&world, &survey, began).await;
    println!("{}", world.tally);
    if let Err(error) = &done {
        world.findings.add(format!("{error:#}"));
    }
    let findings = world.findings.all();
    println!("{}", summary(&world, findings.len(), began));
    for finding in &findings {
        println!("soak: found: {finding}");
    }
    if findings.is_empty() {
        std::fs::remove_file(world.own_log()).ok();
    } else {
        println!(
            "soak: the log of the web shop's server and of the simulated remotes is {}",
            world.own_log().display()
        );
        world.keep().await;
    }
    Ok(findings.is_empty())
}

async fn work(world: &World, survey: &Survey, began: Instant) -> anyhow::Result<()> {
    let shift = Shift::new(world);
    let all_buyers = async {
        let all = (0..world.settings.buyers).map(|_| buyers::run(world, &shift));
        join_all(all.collect()).await;
    };
    let business = async {
        let (made, culled, (), (), (), ()) = tokio::join!(
            trouble::run(world, &shift),
            async { if world.remotes.is_empty() { Ok(()) } else { culling::run(world, &shift).await } },
            operator::run(world, &shift),
            visitors::run(world, &shift),
            trouble::fail_calls(world, &shift),
            async {
                let mut buying = std::pin::pin!(all_buyers);
                // Buyers wait for what trouble's end brings.
                while shift.is_on(world) {
                    tokio::select! {
                        () = &mut buying => return,
                        () = tokio::time::sleep(Duration::from_millis(100)) => {}
                    }
                }
                if let Err(error) = trouble::end(world).await {
                    world.findings.add(format!("ending the trouble: {error:#}"));
                }
                buying.await;
            },
        );
        made.context("making trouble").and(culled)?;
        end::rest(world).await.context("coming to rest")?;
        end::audit(world, survey).await.context("checking the books")
    };
    let lines = async {
        let mut lines = interval(LINE_EVERY);
        lines.tick().await;
        loop {
            lines.tick().await;
            println!("so far: {}", summary(world, world.findings.all().len(), began));
        }
    };
    tokio::select! {
        result = business => result,
        () = survey.run(world) => unreachable!("it looks for ever"),
        () = lines => unreachable!("it prints for ever"),
    }
}

/// Runs all of them at the same time.
async fn join_all<F: Future<Output = ()>>(all: Vec<F>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// One line with the counts that matter.
fn summary(world: &World, findings: usize, began: Instant) -> String {
    let orders = |name: &str| world.tally.count(Group::Orders, name);
    let servers = match &world.settings.servers {
        Servers::Simulated(count) => format!("{count} simulated remotes"),
        Servers::Existing { url, .. } => url.clone(),
    };
    format!(
        "soak: seed {}: {} orders, {} paid, {} delivered, {} owed, {} refunded, {} expired; {} crashes, {} faults, \
         {} culler passes; {} lightningd, {servers}; {findings} findings; {} s",
        world.settings.seed,
        orders("made"),
        orders("paid"),
        orders("end: delivered") + orders("end: delivered, and refunded"),
        orders("end: owed, cancelled by the operator") + orders("end: owed, out of attempts"),
        orders("end: refunded"),
        orders("end: not paid, and gone"),
        world.tally.sum(Group::Crashes),
        world.tally.sum(Group::Faults) + world.tally.sum(Group::Remotes),
        world.tally.count(Group::Culler, "passes"),
        world.settings.lightning,
        began.elapsed().as_secs(),
    )
}
