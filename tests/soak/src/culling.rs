//! Passes of the culler.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use crate::buyers::Shift;
use crate::dice::Dice;
use crate::tally::Group;
use crate::world::World;

/// Longest time of a pass here, where a hanging call takes a second.
const PASS_TIMEOUT: Duration = Duration::from_secs(120);

/// Culls every few seconds until the shift is over; some passes are killed.
pub async fn run(world: &World, shift: &Shift) -> anyhow::Result<()> {
    let mut dice = Dice::new(world.settings.seed, "culler", 0);
    while shift.is_on(world) {
        sleep(dice.millis(1000..=5000)).await;
        let kill = dice.chance(20).then(|| dice.millis(20..=500));
        pass(world, kill).await?;
    }
    Ok(())
}

/// One pass, which is killed after a time if `kill` says so. Returns its report, unless it was killed.
pub async fn pass(world: &World, kill: Option<Duration>) -> anyhow::Result<Option<Value>> {
    let mut culler = world.culler(&[])?.stdout(Stdio::piped()).spawn().context("starting the culler")?;
    let mut output = String::new();
    let mut stdout = culler.stdout.take().context("it is piped")?;
    let ended = async {
        stdout.read_to_string(&mut output).await?;
        culler.wait().await
    };
    let Ok(status) = timeout(kill.unwrap_or(PASS_TIMEOUT), ended).await else {
        culler.kill().await.context("killing the culler")?;
        if kill.is_none() {
            bail!("the culler was not done after {PASS_TIMEOUT:?}");
        }
        world.tally.one(Group::Crashes, "culler");
        return Ok(None);
    };
    let status = status.context("waiting for the culler")?;
    let report: Value = serde_json::from_str(&output)
        .with_context(|| format!("the culler ended with {status}: {output:?}"))?;
    world.tally.one(Group::Culler, "passes");
    for key in ["removed", "failed"] {
        world.tally.add(Group::Culler, format!("environments {key}"), report[key].as_u64().unwrap_or(0));
    }
    if report["malformed"] != 0 {
        world.findings.add(format!("the culler saw malformed projects: {}", report["remotes"]));
    }
    let failed = report["failed"] != 0 || report["remotes_failed"] != 0;
    if status.success() == failed {
        world.findings.add(format!("the culler ended with {status}, and reported {report}"));
    }
    Ok(Some(report))
}
