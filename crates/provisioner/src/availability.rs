//! How many environments could be placed now, and when the next place is free: a pure function of what the remotes
//! reported and of what is spoken for.
//!
//! What was paid for comes first, then what somebody has an invoice for, then who comes now. Whoever finds no place
//! keeps later ones off the remotes that it waits for, so that small orders cannot keep a large one waiting for ever.
//! The room of environments that are prepared is free: orders take them over, or they are given up.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use lnplaylive_core::order::PortBlock;

use crate::Size;
use crate::load::Environment;
use crate::placement::Candidate;
use crate::space::{Fit, Reserved, Space};

/// More than this many places are not counted: nobody needs to know.
pub const MOST_COUNTED: u32 = 1000;

/// What is spoken for, and may not be in the remotes' reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// What has been placed.
    pub placed: Vec<Placed>,
    /// Paid and not placed yet: how large each is.
    pub paid: Vec<Size>,
    /// Invoices that may still be paid: how large, and until when.
    pub unpaid: Vec<(Size, Timestamp)>,
}

/// What has been placed on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The remote's name.
    pub remote: String,
    /// The member of its cluster.
    pub member: Option<String>,
    /// Its ports there.
    pub ports: PortBlock,
    /// A virtual machine's static address there.
    pub address: Option<Ipv4Addr>,
    /// When it ends; `None` of what is to go before that.
    pub until: Option<Timestamp>,
    /// For how many hours it is.
    pub hours: u32,
}

impl Placed {
    pub(crate) fn reserved(&self) -> Reserved<'_> {
        Reserved {
            member: self.member.as_deref(),
            ports: self.ports,
            address: self.address,
            hours: self.hours,
        }
    }
}

/// Something that has to find a place.
#[derive(Debug, Clone, Copy)]
struct Claim {
    size: Size,
    /// When it goes away by itself.
    until: Option<Timestamp>,
}

/// A place that will be free again.
#[derive(Debug, Clone, Copy)]
struct Lease {
    until: Timestamp,
    space: usize,
    /// Which of the remote's machines it is on, if that takes environments.
    machine: Option<usize>,
    ports: PortBlock,
    address: Option<Ipv4Addr>,
    hours: u32,
}

impl Lease {
    fn reserved(&self) -> Reserved<'static> {
        Reserved { member: None, ports: self.ports, address: self.address, hours: self.hours }
    }
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
            // One that an order takes over is reported as prepared for a moment longer.
            let reported = |ports| load.sold().any(|other| other.ports == ports);
            let placed = claims.placed.iter().filter(|p| p.remote == settings.name && !reported(p.ports));
            let at = room.spaces.len();
            let is_sold = |e: &Environment| !e.is_prepared();
            let space = Space::new(settings, load, is_sold, placed.clone().map(Placed::reserved));
            let lease = |until: Timestamp, member: &Option<String>, ports, address, hours| {
                let machine = space.machine(member.as_deref());
                Lease { until, space: at, machine, ports, address, hours }
            };
            room.leases
                .extend(placed.filter_map(|p| Some(lease(p.until?, &p.member, p.ports, p.address, p.hours))));
            room.leases
                .extend(load.sold().map(|e| lease(e.expires_at, &e.member, e.ports, e.address, e.hours)));
            room.spaces.push(space);
        }
        let paid = claims.paid.iter().map(|&size| Claim { size, until: None });
        let unpaid = claims.unpaid.iter();
        let unpaid = unpaid.map(|&(size, until)| Claim { size, until: Some(until) });
        room.waiting = paid.chain(unpaid).collect();
        room.place_waiting();
        room
    }

    /// Whether any remote has told how it is.
    pub fn is_known(&self) -> bool {
        !self.spaces.is_empty()
    }

    /// Whether one more environment of that size has a place now.
    pub fn has(&self, size: Size) -> bool {
        self.best(size, true).is_some()
    }

    /// How many more environments of that size have a place now, up to [`MOST_COUNTED`].
    pub fn count(&self, size: Size) -> u32 {
        self.count_up_to(size, MOST_COUNTED)
    }

    /// As [`Room::count`], up to `most`.
    pub fn count_up_to(&self, size: Size, most: u32) -> u32 {
        let mut room = self.clone();
        let mut count = 0;
        while count < most
            && let Some((space, fit)) = room.best(size, true)
        {
            room.spaces[space].take(&fit, size.hours);
            count += 1;
        }
        count
    }

    /// When there may be a place for one more environment of that size: the first time that enough environments have
    /// ended or invoices expired. `None` if that does not help.
    pub fn next(&self, size: Size) -> Option<Timestamp> {
        let mut room = self.clone();
        let mut times: Vec<_> = room.leases.iter().map(|lease| lease.until).collect();
        times.extend(room.waiting.iter().filter_map(|claim| claim.until));
        times.sort();
        times.dedup();
        room.leases.sort_by_key(|lease| lease.until);
        let mut leases = std::mem::take(&mut room.leases).into_iter().peekable();
        for time in times {
            while let Some(lease) = leases.next_if(|lease| lease.until <= time) {
                room.spaces[lease.space].give_back(lease.machine, lease.reserved());
            }
            room.waiting.retain(|claim| claim.until.is_none_or(|until| until > time));
            room.place_waiting();
            if room.has(size) {
                return Some(time);
            }
        }
        None
    }

    /// Gives a place to each that waits, as far as there are places.
    fn place_waiting(&mut self) {
        let mut too_large: Vec<Size> = Vec::new();
        for claim in std::mem::take(&mut self.waiting) {
            // What has no place leaves none for what is as large.
            let hopeless = too_large.iter().any(|other| claim.size.covers(*other));
            let best = (!hopeless).then(|| self.best(claim.size, false)).flatten();
            let Some((space, fit)) = best else {
                if !hopeless {
                    too_large.push(claim.size);
                }
                self.waiting.push(claim);
                continue;
            };
            let hours = claim.size.hours;
            self.spaces[space].take(&fit, hours);
            let Fit { machine, ports, address } = fit;
            let lease = |until| Lease { until, space, machine: Some(machine), ports, address, hours };
            self.leases.extend(claim.until.map(lease));
        }
    }

    /// The place that placement would choose; for who comes last, only where nobody waits for it.
    fn best(&self, size: Size, comes_last: bool) -> Option<(usize, Fit)> {
        let mut sizes: Vec<_> = self.waiting.iter().map(|claim| claim.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let awaited = |space: &Space<'_>, machine| {
            comes_last && sizes.iter().any(|awaited| space.could_hold(machine, *awaited))
        };
        let fits = self.spaces.iter().enumerate().flat_map(|(at, space)| {
            let fits = space.fits(size, 0).unwrap_or_default();
            let free = fits.into_iter().filter(|(fit, _)| !awaited(space, fit.machine));
            free.map(move |(fit, rank)| (rank, at, fit)).collect::<Vec<_>>()
        });
        let (_, space, fit) = fits.min_by_key(|(rank, ..)| *rank)?;
        Some((space, fit))
    }
}

#[cfg(test)]
mod tests {
    use lnplaylive_core::settings;
    use lnplaylive_core::tags::Stage;
    use lnplaylive_core::{OrderId, ProjectName};

    use super::*;
    use crate::load::{Load, Machine, Member, Memory, RemoteReport};

    /// An hour of so many nodes.
    fn hour(node_count: u32) -> Size {
        Size { node_count, hours: 1 }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    fn remote(name: &str, more: &str) -> settings::Remote {
        let json = format!(r#"{{"name": "{name}", "url": "https://192.0.2.1:8443", {more}}}"#);
        serde_json::from_str(&json).expect("settings")
    }

    /// A remote with environments of eight nodes that end at these seconds.
    fn report(name: &str, ends: &[i64]) -> RemoteReport {
        let environment = |(n, end): (u16, &i64)| {
            let order = OrderId::random();
            Environment {
                project: ProjectName::new(at(*end), order).expect("a name"),
                order,
                is_own: true,
                expires_at: at(*end),
                hours: 1,
                ports: PortBlock { first: 20000 + 9 * n, count: 9 },
                address: None,
                stage: Stage::Provisioned,
                member: None,
                moved_from: None,
                host: None,
            }
        };
        let memory = Memory { total: 1 << 40, used: 0 };
        let machine = Machine { memory, cpus: 400, cpu_load: None, storage: None };
        let load = Load {
            environments: (0..).zip(ends).map(environment).collect(),
            malformed: Vec::new(),
            members: vec![Member { name: None, host: "192.0.2.1".into(), machine: Ok(machine) }],
            clustered: false,
            warnings: Vec::new(),
            clock_ahead: None,
        };
        RemoteReport { name: name.into(), load: Ok(load) }
    }

    fn with_room<T>(
        remotes: &[(settings::Remote, RemoteReport)],
        claims: &Claims,
        look: impl FnOnce(&Room<'_>) -> T,
    ) -> T {
        let candidates: Vec<_> =
            remotes.iter().map(|(settings, report)| Candidate { settings, report }).collect();
        look(&Room::new(&candidates, claims))
    }

    #[test]
    fn what_is_spoken_for_is_not_there_any_more() {
        let remotes = [
            (remote("a", r#""max_environments": 3"#), report("a", &[])),
            (remote("b", r#""max_environments": 2"#), report("b", &[100])),
        ];
        let count = |claims: &Claims| with_room(&remotes, claims, |room| room.count(hour(8)));
        assert_eq!(count(&Claims::default()), 4);
        let on = |remote: &str, first| Placed {
            remote: remote.to_owned(),
            member: None,
            ports: PortBlock { first, count: 9 },
            address: None,
            until: None,
            hours: 1,
        };
        let placed = vec![on("a", 20000), on("b", 20000), on("elsewhere", 20000)];
        assert_eq!(count(&Claims { placed, ..Claims::default() }), 3, "the one on b is in its report");
        assert_eq!(count(&Claims { paid: vec![hour(8)], ..Claims::default() }), 3);
        assert_eq!(count(&Claims { unpaid: vec![(hour(8), at(50)); 4], ..Claims::default() }), 0);
    }

    #[test]
    fn the_next_place_is_where_something_ends_first() {
        let remotes = [(remote("a", r#""max_environments": 2"#), report("a", &[200, 300]))];
        let next = |claims: &Claims| with_room(&remotes, claims, |room| room.next(hour(8)));
        assert_eq!(next(&Claims::default()), Some(at(200)));
        let paid = Claims { paid: vec![hour(8)], ..Claims::default() };
        assert_eq!(next(&paid), Some(at(300)), "who has paid gets the first");
        assert_eq!(next(&Claims { paid: vec![hour(8), hour(8)], ..Claims::default() }), None);

        let remotes = [(remote("a", r#""max_environments": 2"#), report("a", &[200]))];
        let unpaid = Claims { unpaid: vec![(hour(8), at(150))], ..Claims::default() };
        assert_eq!(
            with_room(&remotes, &unpaid, |room| room.next(hour(8))),
            Some(at(150)),
            "an invoice expires earlier"
        );
    }

    #[test]
    fn what_the_remote_has_not_reported_yet_ends_as_well() {
        let remotes = [(remote("a", r#""max_environments": 1"#), report("a", &[]))];
        let ports = PortBlock { first: 20000, count: 9 };
        let placed = vec![Placed {
            remote: "a".into(),
            member: None,
            ports,
            address: None,
            until: Some(at(70)),
            hours: 1,
        }];
        let claims = Claims { placed, ..Claims::default() };
        assert_eq!(
            with_room(&remotes, &claims, |room| (room.has(hour(8)), room.next(hour(8)))),
            (false, Some(at(70)))
        );
    }

    #[test]
    fn enough_has_to_end() {
        // Nine times nine ports, and no room for 65 in a row until the first eight of them have ended.
        let ends: Vec<_> = (1..=9).collect();
        let ports = r#""ports": {"first": 20000, "last": 20080}"#;
        let remotes = [(remote("a", ports), report("a", &ends))];
        let next = |nodes| with_room(&remotes, &Claims::default(), |room| room.next(hour(nodes)));
        assert_eq!(next(8), Some(at(1)));
        assert_eq!(next(64), Some(at(8)));
        assert_eq!(next(200), None, "never");
    }

    #[test]
    fn who_has_paid_and_waits_keeps_others_off_what_it_waits_for() {
        let small = r#""ports": {"first": 20000, "last": 20080}"#;
        let full = (remote("full", small), report("full", &[10, 20, 30, 40]));
        let tiny = (remote("tiny", r#""ports": {"first": 20000, "last": 20040}"#), report("tiny", &[]));
        let paid = Claims { paid: vec![hour(64)], ..Claims::default() };
        let count = |remotes: &[_], claims: &Claims| with_room(remotes, claims, |room| room.count(hour(8)));
        assert_eq!(count(std::slice::from_ref(&full), &Claims::default()), 5);
        assert_eq!(count(std::slice::from_ref(&full), &paid), 0, "or it would wait for ever");
        assert_eq!(count(&[full, tiny], &paid), 4, "it does not wait for what is too small for it");
    }

    #[test]
    fn nothing_is_known_where_nobody_has_told() {
        let silent = RemoteReport { name: "a".into(), load: Err("down".into()) };
        let remotes = [(remote("a", r#""max_environments": 2"#), silent)];
        with_room(&remotes, &Claims::default(), |room| {
            assert!(!room.is_known() && !room.has(hour(8)));
            assert_eq!((room.count(hour(8)), room.next(hour(8))), (0, None));
        });
    }
}
