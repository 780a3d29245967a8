//! Which remote, and which member of it, an environment goes to: a pure function of what the remotes reported.

use std::net::Ipv4Addr;

use lnplaylive_core::order::PortBlock;
use lnplaylive_core::{ProjectName, settings};
use thiserror::Error;

use crate::Size;
use crate::availability::Placed;
use crate::load::{Environment, RemoteReport};
use crate::space::{Rank, Space};

/// A remote that could take an environment.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its settings.
    pub settings: &'a settings::Remote,
    /// How it is.
    pub report: &'a RemoteReport,
}

/// Where an environment goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The remote's name.
    pub remote: String,
    /// The member of its cluster; `None` on a single server.
    pub member: Option<String>,
    /// Its ports there.
    pub ports: PortBlock,
    /// A virtual machine's static address there.
    pub address: Option<Ipv4Addr>,
}

/// No remote can take it, and why each cannot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NoRoom(String);

/// Where something went wrong before: taken last, and after other members of the same remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avoid<'a> {
    /// The remote's name.
    pub remote: &'a str,
    /// The member of its cluster.
    pub member: Option<&'a str>,
}

/// Chooses the least loaded machine that has room for an environment of that size.
///
/// `reserved` has what may not be in the reports yet. What is in `avoid` is taken only when nothing else can be.
/// `failed` placements before this one may have failed because something else has the ports, so as many are passed
/// over.
pub fn choose(
    candidates: &[Candidate<'_>],
    size: Size,
    reserved: &[Placed],
    avoid: &[Avoid<'_>],
    failed: u32,
) -> Result<Choice, NoRoom> {
    choose_among(candidates, size, reserved, avoid, failed, |_| true)
}

/// As [`choose`], where only those environments on the remotes are there that `counts`.
fn choose_among(
    candidates: &[Candidate<'_>],
    size: Size,
    reserved: &[Placed],
    avoid: &[Avoid<'_>],
    failed: u32,
    counts: impl Fn(&Environment) -> bool,
) -> Result<Choice, NoRoom> {
    let mut reasons = Vec::new();
    let mut best: Option<((Distance, Rank), Choice)> = None;
    for Candidate { settings, report } in candidates {
        let name = settings.name.as_str();
        let on_it = reserved.iter().filter(|placed| placed.remote == name);
        let fits = report.load.as_ref().map_err(Clone::clone).and_then(|load| {
            let space = Space::new(settings, load, &counts, on_it.map(Placed::reserved));
            let fits = space.fits(size, failed)?;
            Ok((space, fits))
        });
        match fits {
            Ok((space, fits)) => {
                for (fit, rank) in fits {
                    let member = space.member(fit.machine);
                    let rank = (Distance::of(name, member, avoid), rank);
                    if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                        let member = member.map(str::to_owned);
                        let (remote, ports, address) = (name.to_owned(), fit.ports, fit.address);
                        best = Some((rank, Choice { remote, member, ports, address }));
                    }
                }
            }
            Err(reason) => {
                // Errors name the remote themselves.
                let prefix = format!("remote {name:?}");
                let prefix = if reason.starts_with(&prefix) { String::new() } else { prefix + ": " };
                reasons.push(format!("{prefix}{reason}"));
            }
        }
    }
    if candidates.is_empty() {
        reasons.push("no remote is configured".to_owned());
    }
    best.map(|(_, choice)| choice).ok_or_else(|| NoRoom(reasons.join("; ")))
}

/// The prepared environments to give up, so that [`choose`] finds room that it does not find now: on the remote that would take the
/// order without any of `prepared`, those that end first, and no more than needed. None if that does not help.
pub fn to_give_up(
    candidates: &[Candidate<'_>],
    size: Size,
    reserved: &[Placed],
    failed: u32,
    prepared: &[ProjectName],
) -> Vec<ProjectName> {
    let without = |candidates: &[Candidate<'_>], given_up: &[ProjectName]| {
        choose_among(candidates, size, reserved, &[], failed, |e| !given_up.contains(&e.project))
    };
    let Ok(choice) = without(candidates, prepared) else { return Vec::new() };
    let only: Vec<_> =
        candidates.iter().copied().filter(|candidate| candidate.settings.name == choice.remote).collect();
    let load = only.iter().filter_map(|candidate| candidate.report.load.as_ref().ok());
    let mut there: Vec<_> = load.flat_map(|load| &load.environments).map(|e| e.project).collect();
    there.retain(|project| prepared.contains(project));
    there.sort();
    let enough = (1..there.len()).find(|count| without(&only, &there[..*count]).is_ok());
    there.truncate(enough.unwrap_or(there.len()));
    there
}

/// True if a member of a remote (`None`: a single server) has room for an environment of that size in the place of one that is
/// prepared there. None of those that are prepared there takes any.
pub fn has_room_instead(
    candidate: Candidate<'_>,
    member: Option<&str>,
    size: Size,
    reserved: &[Placed],
) -> bool {
    let Candidate { settings, report } = candidate;
    let Ok(load) = &report.load else { return false };
    let on_it = reserved.iter().filter(|placed| placed.remote == settings.name);
    let space = Space::new(settings, load, |e| !e.is_prepared(), on_it.map(Placed::reserved));
    space.fits(size, 0).is_ok_and(|fits| fits.iter().any(|(fit, _)| space.member(fit.machine) == member))
}

/// How close a machine is to where something went wrong; the farthest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    OtherRemote,
    OtherMember,
    Same,
}

impl Distance {
    fn of(remote: &str, member: Option<&str>, avoid: &[Avoid<'_>]) -> Self {
        let on_it = avoid.iter().filter(|avoid| avoid.remote == remote);
        let near = |avoid: &Avoid<'_>| if avoid.member == member { Self::Same } else { Self::OtherMember };
        on_it.map(near).max().unwrap_or(Self::OtherRemote)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lnplaylive_core::OrderId;
    use lnplaylive_core::tags::Stage;

    use super::*;
    use crate::availability::{Claims, Room};
    use crate::load::{Load, Machine, Member, Memory};

    fn remotes(names: &[&str]) -> Vec<settings::Remote> {
        names
            .iter()
            .map(|name| {
                let json = serde_json::json!({
                    "name": name, "url": "https://192.0.2.1:8443", "max_environments": 3,
                    "ports": { "first": 20000, "last": 20099 },
                });
                serde_json::from_value(json).expect("settings")
            })
            .collect()
    }

    /// An hour of so many nodes.
    fn nodes(node_count: u32) -> Size {
        Size { node_count, hours: 1 }
    }

    fn environment(n: u16, provisioned: bool) -> Environment {
        let expires_at = Timestamp::from_second(1_700_000_000 + i64::from(n)).expect("in range");
        let order = OrderId::random();
        let project = ProjectName::new(expires_at, order).expect("a name");
        let ports = PortBlock { first: 20000 + 9 * n, count: 9 };
        Environment {
            project,
            order,
            is_own: true,
            expires_at,
            hours: 1,
            ports,
            address: None,
            stage: if provisioned { Stage::Provisioned } else { Stage::Placing },
            member: None,
            moved_from: None,
            host: None,
        }
    }

    fn member(name: Option<&str>, memory: Memory) -> Member {
        let machine = Machine { memory, cpus: 4, cpu_load: None, storage: None };
        Member { name: name.map(str::to_owned), host: "192.0.2.1".into(), machine: Ok(machine) }
    }

    fn report(name: &str, environments: u16) -> RemoteReport {
        let memory = Memory { total: 64 << 30, used: 2 << 30 };
        let environments = (0..environments).map(|n| environment(n, true)).collect();
        let load = Load {
            environments,
            malformed: Vec::new(),
            members: vec![member(None, memory)],
            clustered: false,
            warnings: Vec::new(),
            clock_ahead: None,
        };
        RemoteReport { name: name.into(), load: Ok(load) }
    }

    fn placed(remote: &str, member: Option<&str>, ports: PortBlock) -> Placed {
        Placed {
            remote: remote.into(),
            member: member.map(str::to_owned),
            ports,
            address: None,
            until: None,
            hours: 1,
        }
    }

    fn pick(
        reports: &[RemoteReport],
        reserved: &[(&str, PortBlock)],
        avoid: &[&str],
    ) -> Result<Choice, NoRoom> {
        let reserved: Vec<_> = reserved.iter().map(|(remote, ports)| placed(remote, None, *ports)).collect();
        let avoid: Vec<_> = avoid.iter().map(|remote| Avoid { remote, member: None }).collect();
        let names: Vec<_> = reports.iter().map(|r| r.name.as_str()).collect();
        let remotes = remotes(&names);
        let candidates: Vec<_> =
            remotes.iter().zip(reports).map(|(settings, report)| Candidate { settings, report }).collect();
        choose(&candidates, nodes(8), &reserved, &avoid, 0)
    }

    #[test]
    fn the_least_loaded_takes_it() {
        let choice = pick(&[report("a", 2), report("b", 1)], &[], &[]).expect("room");
        let ports = PortBlock { first: 20009, count: 9 };
        assert_eq!(choice, Choice { remote: "b".into(), member: None, ports, address: None });
    }

    #[test]
    fn what_is_reserved_counts() {
        let reserved = [20009, 20018].map(|first| ("b", PortBlock { first, count: 9 }));
        let choice = pick(&[report("a", 2), report("b", 1)], &reserved, &[]).expect("room");
        assert_eq!(choice.remote, "a");
    }

    #[test]
    fn one_that_failed_before_comes_last_but_comes() {
        assert_eq!(pick(&[report("a", 2), report("b", 0)], &[], &["b"]).expect("room").remote, "a");
        assert_eq!(pick(&[report("a", 3), report("b", 0)], &[], &["b"]).expect("room").remote, "b");
    }

    #[test]
    fn where_nobody_has_room_each_says_why() {
        let down = RemoteReport { name: "b".into(), load: Err("does not answer".into()) };
        let error = pick(&[report("a", 3), down], &[], &[]).expect_err("no room");
        assert_eq!(
            error.to_string(),
            "remote \"a\": has 3 environments, as many as max_environments allows; remote \"b\": does not answer"
        );
        assert_eq!(pick(&[], &[], &[]).expect_err("no room").to_string(), "no remote is configured");
    }

    fn with(name: &str, change: impl FnOnce(&mut Load)) -> RemoteReport {
        let mut report = report(name, 0);
        report.load.as_mut().map(change).expect("it has reported");
        report
    }

    fn machine(load: &mut Load) -> &mut Machine {
        load.members[0].machine.as_mut().expect("it takes environments")
    }

    #[test]
    fn memory_and_processors_count_for_more_than_environments() {
        let full = with("b", |load| machine(load).memory.used = 40 << 30);
        assert_eq!(pick(&[report("a", 2), full], &[], &[]).expect("room").remote, "a");
        let busy = with("b", |load| machine(load).cpu_load = Some(3.0));
        assert_eq!(pick(&[report("a", 2), busy], &[], &[]).expect("room").remote, "a");
    }

    #[test]
    fn what_would_not_leave_the_reserve_is_refused() {
        // A virtual machine for 8 nodes is given 1344 MiB for an hour.
        let memory = |used| Memory { total: 10 << 30, used };
        let limit = (9 << 30) - (1344 << 20);
        let fits = with("a", |load| machine(load).memory = memory(limit));
        pick(&[fits], &[], &[]).expect("room");
        let coming = with("a", |load| {
            machine(load).memory = memory(limit - (1 << 20));
            load.environments = vec![environment(0, false)];
        });
        let error = pick(&[coming], &[], &[]).expect_err("no room");
        assert!(error.to_string().contains("max_memory_percent"), "{error}");
        let reserved = [("a", PortBlock { first: 20000, count: 9 })];
        pick(&[with("a", |load| machine(load).memory = memory(limit))], &reserved, &[]).expect_err("no room");
    }

    #[test]
    fn room_is_the_fewest_of_all_limits() {
        let remotes = remotes(&["a"]);
        let room = |report: &RemoteReport, count| {
            let candidate = Candidate { settings: &remotes[0], report };
            Room::new(&[candidate], &Claims::default()).count(nodes(count))
        };
        assert_eq!(room(&report("a", 1), 8), 2, "three environments at most");
        assert_eq!(room(&report("a", 1), 64), 1, "91 ports are left");
        let tight = with("a", |load| machine(load).memory = Memory { total: 4 << 30, used: 1 << 30 });
        assert_eq!(room(&tight, 8), 2, "2.6 GiB may be used");
        assert_eq!(room(&RemoteReport { name: "a".into(), load: Err("down".into()) }, 8), 0);
    }

    #[test]
    fn processors_are_sold_sixty_times() {
        let mut remotes = remotes(&["a"]);
        (remotes[0].max_environments, remotes[0].ports.last) = (None, 29_999);
        let report = with("a", |load| {
            let machine = machine(load);
            (machine.memory, machine.cpus) = (Memory { total: 1 << 40, used: 0 }, 2);
        });
        let candidate = Candidate { settings: &remotes[0], report: &report };
        // Eight nodes may use two processors.
        assert_eq!(Room::new(&[candidate], &Claims::default()).count(nodes(8)), 60);
    }

    /// A cluster whose members have this much of 16 GiB in use, and environments on members by name.
    fn cluster(used: &[(&str, u64)], environments: &[(u16, &str, bool)]) -> RemoteReport {
        let members = used.iter().map(|(name, gib)| {
            let memory = Memory { total: 16 << 30, used: gib << 30 };
            member(Some(name), memory)
        });
        let environments = environments.iter().map(|(n, on, provisioned)| Environment {
            member: Some((*on).to_owned()),
            ..environment(*n, *provisioned)
        });
        let load = Load {
            environments: environments.collect(),
            malformed: Vec::new(),
            members: members.collect(),
            clustered: true,
            warnings: Vec::new(),
            clock_ahead: None,
        };
        RemoteReport { name: "c".into(), load: Ok(load) }
    }

    fn pick_member(
        report: &RemoteReport,
        node_count: u32,
        reserved: &[Placed],
        avoid: &[&str],
    ) -> Result<Choice, NoRoom> {
        let mut settings = remotes(&["c"]).remove(0);
        settings.max_environments = None;
        let avoid: Vec<_> = avoid.iter().map(|member| Avoid { remote: "c", member: Some(*member) }).collect();
        choose(&[Candidate { settings: &settings, report }], nodes(node_count), reserved, &avoid, 0)
    }

    #[test]
    fn the_least_loaded_member_takes_it() {
        let report = cluster(&[("m1", 4), ("m2", 2)], &[]);
        assert_eq!(pick_member(&report, 8, &[], &[]).expect("room").member.as_deref(), Some("m2"));
        let placed = placed("c", Some("m2"), PortBlock { first: 20000, count: 65 });
        let choice = pick_member(&report, 8, &[placed], &[]).expect("room");
        assert_eq!(choice.member.as_deref(), Some("m1"), "what is reserved counts on its member");
        assert_eq!(choice.ports.first, 20065, "ports are counted over the whole remote");
        let report = cluster(&[("m1", 4), ("m2", 2)], &[(0, "m2", false), (1, "m2", false)]);
        let choice = pick_member(&report, 8, &[], &[]).expect("room");
        assert_eq!(choice.member.as_deref(), Some("m1"), "what is being made counts on its member");
    }

    #[test]
    fn members_have_no_room_together_that_none_has_alone() {
        // A virtual machine for 64 nodes is given 6720 MiB for an hour; each of the two has 5.4 GiB below its 90 %.
        let report = cluster(&[("m1", 9), ("m2", 9)], &[]);
        let error = pick_member(&report, 64, &[], &[]).expect_err("no member has it").to_string();
        assert!(error.contains("member m1: has 9216 of 16384 MiB"), "{error}");
        assert!(error.contains("member m2: "), "{error}");
        assert_eq!(pick_member(&report, 8, &[], &[]).expect("room").member.as_deref(), Some("m1"));
    }

    #[test]
    fn another_member_is_tried_before_the_one_that_failed() {
        let report = cluster(&[("m1", 2), ("m2", 8)], &[]);
        assert_eq!(pick_member(&report, 8, &[], &["m1"]).expect("room").member.as_deref(), Some("m2"));
        let choice = pick_member(&report, 8, &[], &["m1", "m2"]).expect("room");
        assert_eq!(choice.member.as_deref(), Some("m1"), "both failed: the least loaded again");
        // Another remote altogether comes before that.
        let (other, settings) = (self::report("a", 2), remotes(&["a", "c"]));
        let candidates = [
            Candidate { settings: &settings[0], report: &other },
            Candidate { settings: &settings[1], report: &report },
        ];
        let avoid = [Avoid { remote: "c", member: Some("m1") }];
        assert_eq!(choose(&candidates, nodes(8), &[], &avoid, 0).expect("room").remote, "a");
    }

    #[test]
    fn a_member_that_takes_none_takes_only_itself_out() {
        let mut report = cluster(&[("m1", 2), ("m2", 8)], &[]);
        let load = report.load.as_mut().expect("it has reported");
        load.members[0].machine = Err("is Evacuated".into());
        assert_eq!(pick_member(&report, 8, &[], &[]).expect("room").member.as_deref(), Some("m2"));
        let load = report.load.as_mut().expect("it has reported");
        load.members[1].machine = Err("is Offline".into());
        let error = pick_member(&report, 8, &[], &[]).expect_err("nobody is left").to_string();
        assert_eq!(error, "remote \"c\": member m1: is Evacuated, member m2: is Offline");
    }

    #[test]
    fn a_full_storage_pool_is_no_room() {
        let mut report = cluster(&[("m1", 2), ("m2", 8)], &[]);
        let load = report.load.as_mut().expect("it has reported");
        let full = Some(crate::load::Storage { total: 10 << 30, used: 10 << 30, image: 0 });
        load.members[0].machine.as_mut().expect("online").storage = full;
        assert_eq!(pick_member(&report, 8, &[], &[]).expect("room").member.as_deref(), Some("m2"));
    }

    /// A remote with room for three, and these environments in it: prepared or not.
    fn with_prepared(name: &str, prepared: &[bool]) -> (RemoteReport, Vec<ProjectName>) {
        let mut report = report(name, u16::try_from(prepared.len()).expect("few"));
        let load = report.load.as_mut().expect("it has reported");
        for (environment, prepared) in load.environments.iter_mut().zip(prepared) {
            environment.stage = if *prepared { Stage::Prepared } else { Stage::Provisioned };
        }
        let projects = load.prepared().map(|e| e.project).collect();
        (report, projects)
    }

    #[test]
    fn prepared_ones_are_given_up_where_that_makes_room_and_no_more_than_needed() {
        let settings = remotes(&["a"]).remove(0);
        let (report, prepared) = with_prepared("a", &[true, true, true]);
        let candidates = [Candidate { settings: &settings, report: &report }];
        choose(&candidates, nodes(8), &[], &[], 0).expect_err("they take room until they are gone");
        assert_eq!(to_give_up(&candidates, nodes(8), &[], 0, &prepared), prepared[..1], "the first to end");
        let larger = to_give_up(&candidates, nodes(64), &[], 0, &prepared);
        assert_eq!(larger, prepared[..1], "the ports behind them are free");
        let after = placed("a", None, PortBlock { first: 20027, count: 73 });
        let all = to_give_up(&candidates, nodes(16), std::slice::from_ref(&after), 0, &prepared);
        assert_eq!(all, prepared[..2], "17 ports in a row");
        assert_eq!(to_give_up(&candidates, nodes(64), &[after], 0, &prepared), [], "it does not help");
        assert_eq!(to_give_up(&candidates, nodes(8), &[], 0, &[]), [], "none may be given up");

        let (sold, none) = with_prepared("a", &[false, false, false]);
        let candidates = [Candidate { settings: &settings, report: &sold }];
        assert_eq!(to_give_up(&candidates, nodes(8), &[], 0, &none), []);
    }

    #[test]
    fn the_room_of_prepared_ones_is_offered() {
        let settings = remotes(&["a"]).remove(0);
        let room = |report: &RemoteReport, claims: &Claims| {
            Room::new(&[Candidate { settings: &settings, report }], claims).count(nodes(8))
        };
        let (report, _) = with_prepared("a", &[true, false, true]);
        assert_eq!(room(&report, &Claims::default()), 2, "as if they were not there");
        // An order takes the first one over, and the report is older.
        let taken = vec![placed("a", None, PortBlock { first: 20000, count: 9 })];
        assert_eq!(room(&report, &Claims { placed: taken, ..Claims::default() }), 1);
        let mut another_shops = report;
        let load = another_shops.load.as_mut().expect("it has reported");
        for environment in &mut load.environments {
            environment.is_own = false;
        }
        assert_eq!(room(&another_shops, &Claims::default()), 0, "those are not ours to give up");
    }

    #[test]
    fn an_order_that_is_larger_than_what_was_prepared_needs_room() {
        let settings = remotes(&["a"]).remove(0);
        let (mut report, _) = with_prepared("a", &[true, true, true]);
        let has_room = |report: &RemoteReport, hours, reserved: &[Placed]| {
            let candidate = Candidate { settings: &settings, report };
            has_room_instead(candidate, None, Size { node_count: 8, hours }, reserved)
        };
        assert!(has_room(&report, 504, &[]));
        let others = [20027, 20036, 20045].map(|first| placed("a", None, PortBlock { first, count: 9 }));
        assert!(!has_room(&report, 1, &others), "the room was sold meanwhile");
        let load = report.load.as_mut().expect("it has reported");
        machine(load).memory = Memory { total: 2 << 30, used: 0 };
        assert!(has_room(&report, 1, &[]) && !has_room(&report, 504, &[]), "weeks take more memory");
        report.load = Err("down".into());
        assert!(!has_room(&report, 1, &[]));
    }

    #[test]
    fn virtual_machines_get_an_address_each() {
        let mut settings = remotes(&["a"]).remove(0);
        let [first, last] = [100, 101].map(|last| Ipv4Addr::new(10, 0, 0, last));
        settings.vm_addresses = Some(settings::AddressRange { first, last });
        let pick = |report: &RemoteReport, failed| {
            choose(&[Candidate { settings: &settings, report }], nodes(8), &[], &[], failed)
        };
        assert_eq!(pick(&report("a", 0), 0).expect("room").address, Some(first));
        assert_eq!(pick(&report("a", 0), 1).expect("room").address, Some(last), "the first one failed");
        let mut taken = report("a", 2);
        let load = taken.load.as_mut().expect("it has reported");
        load.environments[0].address = Some(first);
        assert_eq!(pick(&taken, 0).expect("room").address, Some(last));
        let load = taken.load.as_mut().expect("it has reported");
        load.environments[1].address = Some(last);
        let error = pick(&taken, 0).expect_err("both are taken").to_string();
        assert!(error.contains("no free address in vm_addresses"), "{error}");
        let empty = report("a", 0);
        let room = Room::new(&[Candidate { settings: &settings, report: &empty }], &Claims::default());
        assert_eq!(room.count(nodes(8)), 2, "as many as there are addresses");
    }
}
