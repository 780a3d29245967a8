//! Trouble: crashes, faults of the remotes, clock steps.

use std::time::{Duration, Instant};

use sim_lxd::{Fault, SimRemote, SshFault};
use testbed::shim::When;
use tokio::time::sleep;

use crate::books::LONGEST_STEP;
use crate::buyers::Shift;
use crate::dice::Dice;
use crate::tally::Group;
use crate::world::World;

/// The words that make the stand-in for `lnplay` fail.
pub const LNPLAY: [&str; 5] = ["exits", "halfway", "rubbish", "fails", "unsuccessful"];

/// The calls that the shop and the culler make, by method and path. `*` stands for one segment.
pub const CALLS: [(&str, &str); 21] = [
    ("GET", "/1.0"),
    ("POST", "/1.0/certificates"),
    ("GET", "/1.0/resources"),
    ("GET", "/1.0/projects"),
    ("POST", "/1.0/projects"),
    ("GET", "/1.0/projects/*"),
    ("PATCH", "/1.0/projects/*"),
    ("PUT", "/1.0/projects/*"),
    ("DELETE", "/1.0/projects/*"),
    ("GET", "/1.0/instances"),
    ("POST", "/1.0/instances"),
    ("GET", "/1.0/instances/*"),
    ("PUT", "/1.0/instances/*"),
    ("PUT", "/1.0/instances/*/state"),
    ("GET", "/1.0/instances/*/state"),
    ("DELETE", "/1.0/instances/*"),
    ("GET", "/1.0/operations/*"),
    ("GET", "/1.0/operations/*/wait"),
    ("GET", "/1.0/profiles/*"),
    ("GET", "/1.0/images/aliases/*"),
    ("GET", "/1.0/storage-pools/*/resources"),
];

/// The most that the shop's clock is wrong, in seconds. The plugin waits for wall-clock instants, so a clock that was set back
/// delays what is under way by as much.
const WRONG_BY: i64 = 15;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PluginKilled,
    WriteDisturbed,
    PluginStopped,
    NodeKilled,
    RemoteKilled,
    RemoteBroken,
    PlacementFails,
    SshFails,
    LnplayFails,
    Distrusted,
    TimePasses,
    ShopClockWrong,
}

impl Kind {
    const ALL: [(u32, Self); 12] = [
        (7, Self::PluginKilled),
        (22, Self::WriteDisturbed),
        (2, Self::PluginStopped),
        (5, Self::NodeKilled),
        (8, Self::RemoteKilled),
        (3, Self::RemoteBroken),
        (3, Self::PlacementFails),
        (6, Self::SshFails),
        (6, Self::LnplayFails),
        (1, Self::Distrusted),
        (10, Self::TimePasses),
        (4, Self::ShopClockWrong),
    ];
}

/// Makes trouble until the shift is over: once for every few orders, and at least every few seconds.
pub async fn run(world: &World, shift: &Shift) -> anyhow::Result<()> {
    let mut dice = Dice::new(world.settings.seed, "trouble", 0);
    while shift.is_on(world) {
        let (next, limit) = (shift.begun() + u64::try_from(dice.between(4..=16))?, dice.millis(500..=5000));
        let began = Instant::now();
        while shift.is_on(world) && shift.begun() < next && began.elapsed() < limit {
            sleep(Duration::from_millis(20)).await;
        }
        let kind = dice.weighted(&Kind::ALL);
        once(world, kind, &mut dice).await?;
        world.check_plugin().await?;
    }
    Ok(())
}

/// Has single calls of the remotes fail until the shift is over.
pub async fn fail_calls(world: &World, shift: &Shift) {
    let mut dice = Dice::new(world.settings.seed, "faults", 0);
    while shift.is_on(world) && !world.remotes.is_empty() {
        sleep(dice.millis(300..=2500)).await;
        let Some(remote) = dice.pick(&world.remotes) else { return };
        let (fault, times) = (a_fault(&mut dice), dice.weighted(&[(3, 1), (1, 2), (1, 3)]));
        if dice.chance(30) {
            remote.faults().on_call(dice.weighted(&[(1, 1), (1, 3), (1, 7), (1, 12)]), fault);
        } else {
            let (method, path) = *dice.pick(&CALLS).expect("there are some");
            remote.faults().on(method, path, times, fault);
        }
    }
}

async fn once(world: &World, kind: Kind, dice: &mut Dice) -> anyhow::Result<()> {
    let pause = dice.millis(0..=1500);
    match kind {
        Kind::PluginKilled => return world.kill_plugin(pause).await,
        Kind::WriteDisturbed => {
            let when = dice.weighted(&[(1, When::Before), (1, When::After), (2, When::Lost)]);
            let nth = usize::try_from(dice.between(1..=12))?;
            return world.disturb_write(nth, when, pause).await;
        }
        Kind::PluginStopped => {
            world.tally.one(Group::Crashes, "plugin, stopped by the operator");
            return world.stop_plugin(pause).await;
        }
        Kind::NodeKilled => return world.kill_node(pause).await,
        // Nothing on a real server can be broken from here.
        _ if world.remotes.is_empty() => return Ok(()),
        Kind::TimePasses => {
            let seconds = dice.between(60..=LONGEST_STEP.as_secs());
            world.tally.add(Group::Clock, "minutes passed", seconds.unsigned_abs() / 60);
            return world.advance(seconds);
        }
        Kind::ShopClockWrong => {
            let by = dice.between(-WRONG_BY..=WRONG_BY);
            world
                .tally
                .one(Group::Clock, if by < 0 { "shop's clock set back" } else { "shop's clock set ahead" });
            world.clock.set_shop_ahead(by)?;
            sleep(pause * 2).await;
            return world.clock.set_shop_ahead(0);
        }
        _ => {}
    }
    let index = usize::try_from(dice.between(0..=i64::try_from(world.remotes.len())? - 1))?;
    let remote = &world.remotes[index];
    match kind {
        Kind::RemoteKilled => {
            world.tally.one(Group::Crashes, "remote");
            let member = remote.members().next().expect("a server is one member");
            member.kill().await;
            sleep(pause).await;
            member.revive().await?;
        }
        Kind::RemoteBroken => {
            world.tally.one(Group::Remotes, "broken for a while: no instance starts");
            let fault = Fault::FailOperation("no space left on device".into());
            remote.faults().on("PUT", "/1.0/instances/*/state", 1000, fault);
            sleep(pause * 3).await;
            calm(world, remote);
        }
        Kind::PlacementFails => {
            world.tally.one(Group::Remotes, "ports taken for a while, on all remotes");
            for remote in &world.remotes {
                let fault = Fault::FailOperation(
                    "Error occurred when starting proxy device: Error: Failed to listen: address already in use".into(),
                );
                remote.faults().on("PUT", "/1.0/instances/*/state", 1000, fault);
            }
            sleep(pause * 3).await;
            for remote in &world.remotes {
                calm(world, remote);
            }
        }
        Kind::SshFails => {
            let fault =
                dice.weighted(&[(1, SshFault::Closed), (1, SshFault::Silent), (1, SshFault::OtherHostKey)]);
            world.tally.one(Group::Remotes, format!("SSH: {fault:?}"));
            remote.faults().on_ssh(fault);
            sleep(pause * 2).await;
            calm(world, remote);
        }
        Kind::LnplayFails => {
            let failure = *dice.pick(&LNPLAY).expect("there are some");
            world.tally.one(Group::Remotes, format!("lnplay: {failure}"));
            let file = world.trouble_file(index);
            std::fs::write(&file, failure)?;
            sleep(pause * 2).await;
            std::fs::remove_file(&file)?;
        }
        Kind::Distrusted => {
            world.tally.one(Group::Remotes, "the shop's certificate was not trusted for a while");
            for (method, path) in [("GET", "/1.0"), ("GET", "/1.0/projects")] {
                let fault = Fault::Error(403, "not authorized".into());
                remote.faults().on(method, path, 1000, fault);
            }
            sleep(pause).await;
            calm(world, remote);
        }
        _ => unreachable!("handled above"),
    }
    Ok(())
}

/// None of them says that something is not there although it is: nobody can work with a server that lies about that.
fn a_fault(dice: &mut Dice) -> Fault {
    let late = dice.millis(100..=1500);
    // A hanging operation holds a step for minutes, or until its server dies.
    if dice.chance(2) {
        return Fault::HangOperation;
    }
    match dice.between(0..=8) {
        0 => Fault::Error(500, "database is locked".into()),
        1 => Fault::Error(400, "no".into()),
        2 => Fault::Error(503, "the database is being upgraded".into()),
        3 => Fault::Raw(200, "<html>It works!</html>".into()),
        4 => Fault::Delay(late),
        5 => Fault::Hang,
        6 => Fault::DropBefore,
        7 => Fault::DropAfter,
        _ => Fault::FailOperation("no space left on device".into()),
    }
}

/// Ends the faults of a remote and counts those that calls had.
pub fn calm(world: &World, remote: &SimRemote) {
    for (call, fault) in remote.faults().calm() {
        let name = match &fault {
            Fault::Error(status, _) => format!("error {status}"),
            Fault::Raw(..) | Fault::Redirect(_) => "no API".into(),
            Fault::Drip | Fault::Flood => "no end".into(),
            Fault::Delay(_) => "late".into(),
            Fault::FailOperation(_) => "operation fails".into(),
            Fault::HangOperation => "operation hangs".into(),
            Fault::HalfMade => "half made".into(),
            Fault::Hang => "no answer".into(),
            Fault::DropBefore => "dropped before".into(),
            Fault::DropAfter => "dropped after".into(),
        };
        world.tally.one(Group::Faults, name);
        world.tally.one(Group::FaultyCalls, format!("{} {}", call.method, plain(&call.path)));
    }
}

/// A path with its names replaced.
pub fn plain(path: &str) -> String {
    let mut names = false;
    let mut out = Vec::new();
    for segment in path.split('/') {
        let fixed = ["", "1.0", "state", "wait", "aliases", "resources", "members", "volumes", "custom"];
        out.push(if names && !fixed.contains(&segment) { "*" } else { segment });
        names = out.len() > 2;
    }
    out.join("/")
}

/// A hanging operation holds a step for minutes, unless its server dies: restarts the remotes and ends all faults.
pub async fn end(world: &World) -> anyhow::Result<()> {
    world.clock.set_shop_ahead(0)?;
    for (index, remote) in world.remotes.iter().enumerate() {
        calm(world, remote);
        let member = remote.members().next().expect("a server is one member");
        member.kill().await;
        member.revive().await?;
        std::fs::remove_file(world.trouble_file(index)).ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_counted_without_names() {
        for (path, expected) in [
            ("/1.0", "/1.0"),
            ("/1.0/projects", "/1.0/projects"),
            ("/1.0/projects/lnplaylive-1-2", "/1.0/projects/*"),
            ("/1.0/instances/lnplay/state", "/1.0/instances/*/state"),
            ("/1.0/images/aliases/lnplay", "/1.0/images/aliases/*"),
        ] {
            assert_eq!(plain(path), expected);
        }
    }
}
