//! How much room there is on one remote, as far as it tells and we know.

use lnplaylive::order::PortBlock;
use lnplaylive::ports::FreePorts;
use lnplaylive::settings;

use crate::remote::{Load, Memory};
use crate::size;

/// How loaded a remote is, less is better: memory or processors in percent, whichever is scarcer, then environments.
/// Whole percents, because less is chance.
pub(crate) type Rank = (u64, u32);

/// The room on one remote. Environments can be put there and taken away again, in thought.
#[derive(Debug, Clone)]
pub(crate) struct Space<'a> {
    pub(crate) settings: &'a settings::Remote,
    ports: FreePorts,
    environments: u32,
    memory: Memory,
    /// Bytes that are not used yet and will be.
    promised: u64,
    /// Bytes that are used and will not be any more.
    freed: u64,
    busy_percent: u64,
}

impl<'a> Space<'a> {
    /// The room that there is on a remote of that load, less what is `reserved`: ports that are spoken for but may not
    /// be in the report yet.
    pub(crate) fn new(
        settings: &'a settings::Remote,
        load: &Load,
        reserved: impl IntoIterator<Item = PortBlock>,
    ) -> Self {
        let mut space = Self {
            settings,
            ports: FreePorts::new(settings.ports),
            environments: u32::try_from(load.environments.len()).unwrap_or(u32::MAX),
            memory: load.memory,
            promised: 0,
            freed: 0,
            busy_percent: busy_percent(load),
        };
        load.ports().for_each(|block| space.ports.take(block));
        // What is being made counts in full: when its memory will be taken is not known.
        space.promised = load.coming().map(|block| space.needed(nodes(block))).sum();
        let mut seen: Vec<_> = load.ports().collect();
        for block in reserved {
            if !seen.contains(&block) {
                seen.push(block);
                space.take(block);
            }
        }
        space
    }

    fn needed(&self, node_count: u32) -> u64 {
        size::needed(self.settings.instance_type, node_count)
    }

    fn percent(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(100) / self.memory.total.max(1)
    }

    /// The ports that an environment of `node_count` nodes would get, and how loaded the remote would be with it; or
    /// why it has no place here. Passes `skip` blocks of ports over, if there are others.
    pub(crate) fn fit(&self, node_count: u32, skip: u32) -> Result<(PortBlock, Rank), String> {
        let Self { settings, environments, memory, promised, .. } = self;
        if settings.max_environments.is_some_and(|max| *environments >= max) {
            return Err(format!("has {environments} environments, as many as max_environments allows"));
        }
        let needed = self.needed(node_count);
        let wanted = memory.used.saturating_add(*promised).saturating_add(needed).saturating_sub(self.freed);
        if self.percent(wanted) > u64::from(settings.max_memory_percent) {
            let (mib, most) = (1024 * 1024, settings.max_memory_percent);
            return Err(format!(
                "has {} of {} MiB of memory in use and {} promised; with {} more it would be above the {most}% \
                 that max_memory_percent allows",
                memory.used / mib,
                memory.total / mib,
                promised / mib,
                needed / mib,
            ));
        }
        let block = self
            .ports
            .block(node_count, skip)
            .ok_or_else(|| format!("has no {} free ports in a row", node_count + 1))?;
        Ok((block, (self.percent(wanted).max(self.busy_percent), *environments)))
    }

    /// Whether an environment of that size would have a place here if there was nothing else.
    pub(crate) fn could_hold(&self, node_count: u32) -> bool {
        let fits = self.percent(self.needed(node_count)) <= u64::from(self.settings.max_memory_percent);
        let ports = FreePorts::new(self.settings.ports).block(node_count, 0);
        fits && ports.is_some() && self.settings.max_environments != Some(0)
    }

    /// Puts an environment there.
    pub(crate) fn take(&mut self, block: PortBlock) {
        self.ports.take(block);
        self.environments = self.environments.saturating_add(1);
        self.promised = self.promised.saturating_add(self.needed(nodes(block)));
    }

    /// Takes an environment away.
    pub(crate) fn give_back(&mut self, block: PortBlock) {
        self.ports.give_back(block);
        self.environments = self.environments.saturating_sub(1);
        self.freed = self.freed.saturating_add(self.needed(nodes(block)));
    }
}

/// Nodes of an environment with these ports.
fn nodes(block: PortBlock) -> u32 {
    u32::from(block.count.saturating_sub(1))
}

/// How busy the processors are, where the remote tells.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a percentage; casts of floats saturate"
)]
fn busy_percent(load: &Load) -> u64 {
    load.cpu_load.map_or(0, |busy| (busy * 100.0 / load.cpus.max(1) as f64) as u64)
}
