//! The environments that are prepared for orders to come: those that there are, and those that there should be.
//!
//! Nothing of this is stored. A plugin that starts knows none, and what an earlier run has left is given up; an order that takes
//! one over has all of it in its record. So each is in the pool, or an order's, or to be removed, and never two of these.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::order::{Access, Leftover, Placement, Prepared};
use lnplaylive_core::{OrderId, Product, ProjectName, prepared};
use provisioner::{PREPARED_HOURS, Placed};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::order_handle::lock;

/// One prepared environment.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The id that it is prepared under.
    pub id: OrderId,
    /// Where it is.
    pub site: Leftover,
    /// What it is good for.
    pub state: EntryState,
}

/// The state of a prepared environment.
#[derive(Debug, Clone)]
pub enum EntryState {
    /// It is being made.
    Making {
        /// Its keys.
        access: Box<Access>,
    },
    /// An order can take it over.
    Ready {
        /// Its keys.
        access: Box<Access>,
        /// When it was made.
        since: Instant,
    },
    /// It is being removed.
    Leaving,
    /// It was removed, or an order has it. A report that was asked for before may still have it.
    Gone {
        /// Since when.
        since: Instant,
    },
}

impl Entry {
    /// One that is to be made in this placement.
    pub fn new(id: OrderId, placement: &Placement) -> Self {
        let access = Box::new(placement.access.clone());
        let site = Leftover { prepared: Some(id), ..placement.leftover() };
        Self { id, site, state: EntryState::Making { access } }
    }

    /// Its number of nodes.
    pub fn node_count(&self) -> u32 {
        self.site.ports.node_count()
    }

    /// The placement of an order that takes it over, and which is to end then; `None` unless it is ready.
    pub fn placement(&self, expires: Timestamp) -> Option<Placement> {
        let EntryState::Ready { access, .. } = &self.state else { return None };
        let Leftover { remote, member, project, ports, address, prepared: _ } = self.site.clone();
        Some(Placement {
            remote,
            member,
            project,
            ports,
            address,
            access: (**access).clone(),
            prepared: Some(Prepared { id: self.id, expires }),
        })
    }

    fn is_making(&self) -> bool {
        matches!(self.state, EntryState::Making { .. })
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, EntryState::Ready { .. })
    }

    fn placed(&self) -> Placed {
        let Leftover { remote, member, ports, address, .. } = &self.site;
        Placed {
            remote: remote.clone(),
            member: member.clone(),
            ports: *ports,
            address: *address,
            until: None,
            hours: PREPARED_HOURS,
        }
    }
}

/// Numbers of prepared environments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that an order can take over.
    pub ready: u32,
    /// Those that are being made.
    pub being_made: u32,
}

/// The pool.
#[derive(Debug)]
pub struct Pool {
    /// How many there should be, by number of nodes; none that should be 0.
    wanted: BTreeMap<u32, u32>,
    entries: Mutex<Vec<Entry>>,
    changed: Notify,
}

impl Pool {
    /// An empty pool of what the products want.
    pub fn new(products: &[Product]) -> Self {
        let mut wanted = BTreeMap::<u32, u32>::new();
        for product in products.iter().filter(|product| product.prepared > 0) {
            *wanted.entry(product.node_count).or_default() += product.prepared;
        }
        Self { wanted, entries: Mutex::default(), changed: Notify::new() }
    }

    /// How many there should be, by number of nodes.
    pub fn wanted(&self) -> &BTreeMap<u32, u32> {
        &self.wanted
    }

    /// How many there should be with so many nodes.
    pub fn wanted_of(&self, node_count: u32) -> u32 {
        self.wanted.get(&node_count).copied().unwrap_or_default()
    }

    /// How many there are, by remote and number of nodes.
    pub fn counts(&self) -> BTreeMap<(String, u32), Counts> {
        let mut counts = BTreeMap::<_, Counts>::new();
        for entry in lock(&self.entries).iter().filter(|entry| entry.is_making() || entry.is_ready()) {
            let of = counts.entry((entry.site.remote.clone(), entry.node_count())).or_default();
            *(if entry.is_ready() { &mut of.ready } else { &mut of.being_made }) += 1;
        }
        counts
    }

    /// True if one with so many nodes is ready.
    pub fn has_ready(&self, node_count: u32) -> bool {
        lock(&self.entries).iter().any(|entry| entry.is_ready() && entry.node_count() == node_count)
    }

    /// The number of nodes of each that is missing at `now`, smallest first.
    pub fn missing(&self, now: Timestamp) -> Vec<u32> {
        missing(&self.wanted, &lock(&self.entries), now)
    }

    /// Whether one is being made on a remote.
    pub fn is_making_on(&self, remote: &str) -> bool {
        lock(&self.entries).iter().any(|entry| entry.is_making() && entry.site.remote == remote)
    }

    /// What the prepared ones take on the remotes: all of them, or those only that an order need not find ready.
    pub fn placed(&self, with_ready: bool) -> Vec<Placed> {
        let entries = lock(&self.entries);
        let takes_room = |entry: &&Entry| match entry.state {
            EntryState::Making { .. } | EntryState::Leaving => true,
            EntryState::Ready { .. } => with_ready,
            EntryState::Gone { .. } => false,
        };
        entries.iter().filter(takes_room).map(Entry::placed).collect()
    }

    /// The projects of those that are ready.
    pub fn ready(&self) -> Vec<ProjectName> {
        lock(&self.entries).iter().filter(|entry| entry.is_ready()).map(|entry| entry.site.project).collect()
    }

    /// True if a project is one of these.
    pub fn has(&self, project: ProjectName) -> bool {
        lock(&self.entries).iter().any(|entry| entry.site.project == project)
    }

    /// Adds one that is to be made, or to be removed.
    pub fn add(&self, entry: Entry) {
        lock(&self.entries).push(entry);
    }

    /// Takes one out for an order that is owed this time: the first to end of those that `can_have` allows.
    pub fn take(
        &self,
        node_count: u32,
        owed: SignedDuration,
        now: Timestamp,
        can_have: impl Fn(&Leftover) -> bool,
    ) -> Option<Entry> {
        let mut entries = lock(&self.entries);
        let at = best_for(&entries, node_count, owed, now, can_have)?;
        Some(entries.swap_remove(at))
    }

    /// Notes that one is made.
    pub fn note_made(&self, project: ProjectName) {
        for entry in lock(&self.entries).iter_mut().filter(|entry| entry.site.project == project) {
            if let EntryState::Making { access } = &entry.state {
                entry.state = EntryState::Ready { access: access.clone(), since: Instant::now() };
            }
        }
        self.wake();
    }

    /// Has these leave the pool; no order gets them any more. Returns those that were not leaving before.
    pub fn send_away(&self, projects: &[ProjectName]) -> Vec<Entry> {
        let mut entries = lock(&self.entries);
        let mut away = Vec::new();
        for entry in entries.iter_mut().filter(|entry| projects.contains(&entry.site.project)) {
            if entry.is_making() || entry.is_ready() {
                entry.state = EntryState::Leaving;
                away.push(entry.clone());
            }
        }
        away
    }

    /// Notes that one is not there any more.
    pub fn note_gone(&self, project: ProjectName) {
        let since = Instant::now();
        for entry in lock(&self.entries).iter_mut().filter(|entry| entry.site.project == project) {
            entry.state = EntryState::Gone { since };
        }
    }

    /// Forgets those of a remote that were gone by `asked`, the time of its answer, or ready by then and are not in the answer:
    /// somebody has removed them.
    pub fn forget_missed(&self, remote: &str, asked: Instant, is_there: impl Fn(ProjectName) -> bool) {
        lock(&self.entries).retain(|entry| match entry.state {
            _ if entry.site.remote != remote => true,
            EntryState::Ready { since, .. } if since < asked => is_there(entry.site.project),
            EntryState::Gone { since } => since >= asked,
            _ => true,
        });
    }

    /// The projects of those that are ready and no longer wanted at `now`.
    pub fn unwanted(&self, now: Timestamp) -> Vec<ProjectName> {
        unwanted(&self.wanted, &lock(&self.entries), now)
    }

    /// Ends the wait of [`Pool::changed`].
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Returns once something has changed since the last time. For one caller.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// The number of nodes of each that is missing, smallest first. One that is due for renewal does not count.
fn missing(wanted: &BTreeMap<u32, u32>, entries: &[Entry], now: Timestamp) -> Vec<u32> {
    let lasting = |entry: &&Entry| {
        entry.is_making() || entry.is_ready() && !prepared::is_due_for_renewal(entry.site.project, now)
    };
    let of = |(node_count, wanted): (&u32, &u32)| {
        let there = entries.iter().filter(lasting).filter(|entry| entry.node_count() == *node_count).count();
        let missing = usize::try_from(*wanted).unwrap_or(usize::MAX).saturating_sub(there);
        std::iter::repeat_n(*node_count, missing)
    };
    wanted.iter().flat_map(of).collect()
}

/// The projects of those that are ready and no longer wanted: the first to end of more than are wanted, and those that are over.
fn unwanted(wanted: &BTreeMap<u32, u32>, entries: &[Entry], now: Timestamp) -> Vec<ProjectName> {
    let mut ready: Vec<_> = entries.iter().filter(|entry| entry.is_ready()).collect();
    ready.sort_by_key(|entry| std::cmp::Reverse(entry.site.project));
    let mut kept = BTreeMap::<u32, u32>::new();
    let mut is_wanted = |entry: &Entry| {
        let kept = kept.entry(entry.node_count()).or_default();
        *kept += 1;
        let wanted = wanted.get(&entry.node_count()).copied().unwrap_or_default();
        *kept <= wanted && !prepared::is_over(entry.site.project, now)
    };
    ready.retain(|entry| !is_wanted(entry));
    ready.into_iter().map(|entry| entry.site.project).collect()
}

/// The one that an order takes over: the first to end of those that suit it.
fn best_for(
    entries: &[Entry],
    node_count: u32,
    owed: SignedDuration,
    now: Timestamp,
    can_have: impl Fn(&Leftover) -> bool,
) -> Option<usize> {
    let suits = |entry: &Entry| {
        entry.is_ready()
            && entry.node_count() == node_count
            && prepared::suits(entry.site.project, owed, now)
            && can_have(&entry.site)
    };
    let suited = entries.iter().enumerate().filter(|(_, entry)| suits(entry));
    suited.min_by_key(|(_, entry)| entry.site.project).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use lnplaylive_core::order::PortBlock;
    use lnplaylive_core::prepared::LIFETIME;
    use provisioner::keys;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minute).expect("in range")
    }

    /// One that was made at this minute.
    fn entry(node_count: u32, made: i64, is_ready: bool) -> Entry {
        let id = OrderId::random();
        let access = keys::generate();
        let placement = Placement {
            remote: "a".into(),
            member: None,
            project: prepared::project_name(id, at(made)),
            ports: PortBlock::for_nodes(20000, node_count).expect("in range"),
            address: None,
            access: access.clone(),
            prepared: None,
        };
        let mut entry = Entry::new(id, &placement);
        if is_ready {
            entry.state = EntryState::Ready { access: Box::new(access), since: Instant::now() };
        }
        entry
    }

    fn wanted(counts: &[(u32, u32)]) -> BTreeMap<u32, u32> {
        counts.iter().copied().collect()
    }

    #[test]
    fn as_many_are_missing_as_are_wanted_and_neither_there_nor_coming() {
        let entries = [entry(8, 0, true), entry(16, 0, false)];
        assert_eq!(missing(&wanted(&[(8, 2), (16, 1), (64, 2)]), &entries, at(0)), [8, 64, 64]);
        assert!(missing(&wanted(&[]), &entries, at(0)).is_empty());
        let due = at(0) + LIFETIME - SignedDuration::from_mins(10);
        assert_eq!(missing(&wanted(&[(8, 1)]), &entries, due), [8], "its successor");
    }

    #[test]
    fn what_is_renewed_stays_until_its_successor_is_there() {
        let (old, new) = (entry(8, 0, true), entry(8, 50, true));
        let one = wanted(&[(8, 1)]);
        let none: [ProjectName; 0] = [];
        assert_eq!(unwanted(&one, &[old.clone(), entry(8, 50, false)], at(50)), none);
        assert_eq!(unwanted(&one, &[old.clone(), new.clone()], at(50)), [old.site.project]);
        assert_eq!(unwanted(&one, std::slice::from_ref(&old), at(58)), [old.site.project], "it is over");
        assert_eq!(unwanted(&wanted(&[]), std::slice::from_ref(&new), at(50)), [new.site.project]);
    }

    #[test]
    fn an_order_gets_the_first_to_end_of_its_size_that_it_can_have() {
        let entries = [entry(8, 20, true), entry(8, 10, true), entry(8, 0, false), entry(16, 0, true)];
        let hour = SignedDuration::from_hours(1);
        let best = |node_count, can_have: &dyn Fn(&Leftover) -> bool| {
            best_for(&entries, node_count, hour, at(30), can_have)
        };
        assert_eq!(best(8, &|_| true), Some(1));
        assert_eq!(best(8, &|site| site.project != entries[1].site.project), Some(0));
        assert_eq!((best(16, &|_| true), best(64, &|_| true)), (Some(3), None));
        assert_eq!(best_for(&entries, 8, SignedDuration::from_mins(30), at(30), |_| true), None);
    }

    #[test]
    fn products_of_one_size_share_what_is_prepared() {
        let product = |sku: &str, node_count, prepared| Product {
            sku: lnplaylive_core::Sku(sku.into()),
            node_count,
            msat_per_node_hour: 1,
            prepared,
        };
        let pool = Pool::new(&[product("A", 8, 1), product("B", 16, 0), product("C", 8, 2)]);
        assert_eq!(pool.wanted(), &wanted(&[(8, 3)]));
    }

    #[test]
    fn each_leaves_once_and_is_taken_once() {
        let pool = Pool::new(&[]);
        let (one, other) = (entry(8, 0, true), entry(8, 1, true));
        let (first, second) = (one.site.project, other.site.project);
        pool.add(one);
        pool.add(other);
        let take = || pool.take(8, SignedDuration::from_hours(1), at(2), |_| true);
        assert_eq!(take().map(|entry| entry.site.project), Some(first));
        assert_eq!(pool.send_away(&[first, second]).len(), 1, "the one that is still there");
        assert!(pool.send_away(&[second]).is_empty() && take().is_none());
        assert_eq!(pool.placed(true).len(), 1, "its ports are in use until it is gone");
        pool.note_gone(second);
        assert!(pool.placed(true).is_empty() && pool.has(second), "an older report may have it");
        pool.forget_missed("a", Instant::now() + std::time::Duration::from_secs(1), |_| true);
        assert!(!pool.has(second));
    }
}
