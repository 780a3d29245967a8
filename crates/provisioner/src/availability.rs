//! How many environments could be placed now, and when the next place is free: a pure function of what the remotes
//! reported and of what is spoken for.
//!
//! What was paid for comes first, then what somebody has an invoice for, then who comes now. Whoever finds no place
//! keeps later ones off the remotes that it waits for, so that small orders cannot keep a large one waiting for ever.

use jiff::Timestamp;
use lnplaylive::order::PortBlock;

use crate::placement::Candidate;
use crate::space::Space;

/// More than this many places are not counted: nobody needs to know.
pub const MOST_COUNTED: u32 = 1000;

/// What is spoken for, and may not be in the remotes' reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Ports, by remote, of what has been placed.
    pub placed: Vec<(String, PortBlock)>,
    /// Paid and not placed yet: how many nodes each has.
    pub paid: Vec<u32>,
    /// Invoices that may still be paid: how many nodes, and until when.
    pub unpaid: Vec<(u32, Timestamp)>,
}

/// Something that has to find a place.
#[derive(Debug, Clone, Copy)]
struct Claim {
    node_count: u32,
    /// When it goes away by itself.
    until: Option<Timestamp>,
}

/// A place that will be free again.
#[derive(Debug, Clone, Copy)]
struct Lease {
    until: Timestamp,
    space: usize,
    ports: PortBlock,
}

/// The room on all remotes together.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    spaces: Vec<Space<'a>>,
    leases: Vec<Lease>,
    /// Those that come before anybody else and find no place now.
    waiting: Vec<Claim>,
}

impl<'a> Room<'a> {
    /// The room on the remotes that have reported, once everything that is spoken for has its place.
    pub fn new(candidates: &[Candidate<'a>], claims: &Claims) -> Self {
        let mut room = Self { spaces: Vec::new(), leases: Vec::new(), waiting: Vec::new() };
        for Candidate { settings, report } in candidates {
            let Ok(load) = &report.load else { continue };
            let placed = claims.placed.iter().filter(|(remote, _)| *remote == settings.name);
            let space = room.spaces.len();
            room.spaces.push(Space::new(settings, load, placed.map(|(_, ports)| *ports)));
            room.leases.extend(load.environments.iter().filter_map(|environment| {
                Some(Lease { until: environment.expires_at, space, ports: environment.ports? })
            }));
        }
        let paid = claims.paid.iter().map(|&node_count| Claim { node_count, until: None });
        let unpaid = claims.unpaid.iter();
        let unpaid = unpaid.map(|&(node_count, until)| Claim { node_count, until: Some(until) });
        room.waiting = paid.chain(unpaid).collect();
        room.place_waiting();
        room
    }

    /// Whether any remote has told how it is.
    pub fn is_known(&self) -> bool {
        !self.spaces.is_empty()
    }

    /// Whether one more environment of that size has a place now.
    pub fn has(&self, node_count: u32) -> bool {
        self.best(node_count, true).is_some()
    }

    /// How many more environments of that size have a place now, up to [`MOST_COUNTED`].
    pub fn count(&self, node_count: u32) -> u32 {
        let mut room = self.clone();
        let mut count = 0;
        while count < MOST_COUNTED
            && let Some((space, ports)) = room.best(node_count, true)
        {
            room.spaces[space].take(ports);
            count += 1;
        }
        count
    }

    /// When there may be a place for one more environment of that size: the first time that enough environments have
    /// ended or invoices expired. `None` if that does not help.
    pub fn next(&self, node_count: u32) -> Option<Timestamp> {
        let mut room = self.clone();
        let mut times: Vec<_> = room.leases.iter().map(|lease| lease.until).collect();
        times.extend(room.waiting.iter().filter_map(|claim| claim.until));
        times.sort();
        times.dedup();
        room.leases.sort_by_key(|lease| lease.until);
        let mut leases = std::mem::take(&mut room.leases).into_iter().peekable();
        for time in times {
            while let Some(lease) = leases.next_if(|lease| lease.until <= time) {
                room.spaces[lease.space].give_back(lease.ports);
            }
            room.waiting.retain(|claim| claim.until.is_none_or(|until| until > time));
            room.place_waiting();
            if room.has(node_count) {
                return Some(time);
            }
        }
        None
    }

    /// Gives a place to each that waits, as far as there are places.
    fn place_waiting(&mut self) {
        let mut too_large = u32::MAX;
        for claim in std::mem::take(&mut self.waiting) {
            // What has no place leaves none for what is as large.
            let best = (claim.node_count < too_large).then(|| self.best(claim.node_count, false)).flatten();
            let Some((space, ports)) = best else {
                too_large = too_large.min(claim.node_count);
                self.waiting.push(claim);
                continue;
            };
            self.spaces[space].take(ports);
            self.leases.extend(claim.until.map(|until| Lease { until, space, ports }));
        }
    }

    /// The place that placement would choose; for who comes last, only where nobody waits for it.
    fn best(&self, node_count: u32, comes_last: bool) -> Option<(usize, PortBlock)> {
        let mut sizes: Vec<_> = self.waiting.iter().map(|claim| claim.node_count).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let awaited = |space: &Space<'_>| comes_last && sizes.iter().any(|size| space.could_hold(*size));
        let places = self.spaces.iter().enumerate().filter(|(_, space)| !awaited(space));
        let fits = places.filter_map(|(at, space)| Some((space.fit(node_count, 0).ok()?, at)));
        let ((ports, _), space) = fits.min_by_key(|((_, rank), _)| *rank)?;
        Some((space, ports))
    }
}
