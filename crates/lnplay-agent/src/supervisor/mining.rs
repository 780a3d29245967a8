//! Mines the blocks that somebody waits for, and one a minute besides, unless the organiser has paused the blocks.
//!
//! Each block takes memory and disk of every node for the rest of the environment's life, so an environment that lives for
//! weeks must not get one every few seconds while nobody uses it.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::chain::Miner;
use crate::node::{BlockRequest, Node};

use super::environment::Environment;

/// The longest time between two blocks.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// The blocks that follow one with a transaction at the pace of `block_time`. Six are needed until a channel is announced,
/// and six until the output of a channel that was closed by one side can be spent (`watchtime-blocks` on regtest); a
/// payment over three hops that is stuck in such a channel times out after 10 + 2 * 6 (`cltv-final`, `cltv-delta`).
const FOLLOWING_BLOCKS: u32 = 24;

/// Observations at a tick, one each block time.
#[derive(Debug, Clone, Copy, Default)]
struct Observed {
    /// Transactions in the mempool.
    waiting_transactions: u64,
    /// True if somebody asked for a block.
    asked: bool,
}

/// The decision when to mine.
#[derive(Debug, Clone, Copy)]
struct Pace {
    last_block: Instant,
    /// Blocks that are still to come at the pace of `block_time`.
    following: u32,
}

impl Pace {
    /// The pace after a start: the environment's own transactions were just mined.
    fn new(now: Instant) -> Self {
        Self { last_block: now, following: FOLLOWING_BLOCKS }
    }

    /// True if nobody waits for a block.
    fn is_idle(&self, observed: Observed) -> bool {
        observed.waiting_transactions == 0 && !observed.asked && self.following == 0
    }

    fn is_due(&self, observed: Observed, now: Instant) -> bool {
        !self.is_idle(observed) || now.duration_since(self.last_block) >= IDLE_INTERVAL
    }

    fn mined(&mut self, observed: Observed, now: Instant) {
        self.last_block = now;
        self.following = if observed.waiting_transactions > 0 {
            FOLLOWING_BLOCKS
        } else {
            self.following.saturating_sub(1)
        };
    }
}

/// Mines until it is dropped.
pub(super) async fn run(environment: &Environment, miner: &Miner) -> anyhow::Result<()> {
    let mut ticks = interval(Duration::from_secs(environment.spec.block_time.into()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut pace = Pace::new(Instant::now());
    let mut requests: Vec<Option<BlockRequest>> = environment.nodes.iter().map(Node::block_request).collect();
    let (mut failing, mut idle) = (false, false);
    loop {
        ticks.tick().await;
        // Whoever asks for a block meanwhile gets it afterwards: `requests` stays as it was.
        if environment.switches.blocks_are_paused() {
            continue;
        }
        let current: Vec<_> = environment.nodes.iter().map(Node::block_request).collect();
        let asked = current != requests;
        let result = async {
            let waiting_transactions = environment.bitcoind.waiting_transactions().await?;
            let observed = Observed { waiting_transactions, asked };
            let was_idle = std::mem::replace(&mut idle, pace.is_idle(observed));
            if idle && !was_idle {
                info!("nobody waits for a block");
            }
            if pace.is_due(observed, Instant::now()) {
                miner.mine(1).await?;
                pace.mined(observed, Instant::now());
            }
            anyhow::Ok(())
        };
        let result = result.await.context("no block mined");
        if result.is_ok() {
            requests = current;
        }
        // bitcoind comes back by itself; an outage is logged once.
        if let Err(error) = &result
            && !failing
        {
            warn!("{error:#}");
        }
        failing = result.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ticks, of `count`, at which a block is mined.
    fn mined(pace: &mut Pace, now: &mut Instant, observed: Observed, count: u32) -> u32 {
        let tick = Duration::from_secs(5);
        (0..count)
            .filter(|_| {
                *now += tick;
                let due = pace.is_due(observed, *now);
                if due {
                    pace.mined(observed, *now);
                }
                due
            })
            .count()
            .try_into()
            .expect("few")
    }

    #[test]
    fn a_block_comes_each_block_time_while_somebody_waits_and_else_once_a_minute() {
        let idle = Observed::default();
        let busy = Observed { waiting_transactions: 1, asked: false };
        let asked = Observed { waiting_transactions: 0, asked: true };
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(mined(&mut pace, &mut now, idle, FOLLOWING_BLOCKS), FOLLOWING_BLOCKS, "after the start");
        // An hour, at twelve ticks a minute.
        assert_eq!(mined(&mut pace, &mut now, idle, 720), 60);
        assert_eq!(mined(&mut pace, &mut now, asked, 1), 1);
        assert_eq!(mined(&mut pace, &mut now, idle, 12), 1, "a request is for one block");
        assert_eq!(mined(&mut pace, &mut now, busy, 100), 100);
        assert_eq!(mined(&mut pace, &mut now, idle, FOLLOWING_BLOCKS), FOLLOWING_BLOCKS, "it confirms");
        assert_eq!(mined(&mut pace, &mut now, idle, 120), 10);
    }
}
