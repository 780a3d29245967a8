//! The route table for the gateway of the web shop's server, built from what the remotes report.
//!
//! Nothing of it is stored elsewhere: after a restart the next poll builds it again. While a remote does not answer, its
//! environments keep the routes that they had.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use lnplaylive_core::settings::url_host;
use lnplaylive_core::{Endpoint, ProjectName, Route, RouteTable};
use provisioner::Environment;
use tokio::sync::Mutex;

use super::availability::Availability;
use super::interfaces::{Clock, RouteFile};

/// Writes the route table whenever it has changed.
#[derive(Debug)]
pub struct RoutesPublisher {
    /// `None` if the settings name no file.
    file: Option<Arc<dyn RouteFile>>,
    clock: Arc<dyn Clock>,
    availability: Arc<Availability>,
    /// Names of all remotes in the settings.
    remotes: Vec<String>,
    /// The table that was written last; `None` before the first time.
    written: Mutex<Option<RouteTable>>,
}

/// The remotes' reports so far.
#[derive(Debug, Default)]
struct Known {
    environments: Vec<Environment>,
    /// Hosts of all servers that have reported, as they stand in URLs.
    hosts: BTreeSet<String>,
    /// True if a remote has not reported yet.
    some_silent: bool,
}

impl RoutesPublisher {
    /// Publishes routes to environments on `remotes`. Without a `file` nothing is written.
    pub fn new(
        file: Option<Arc<dyn RouteFile>>,
        clock: Arc<dyn Clock>,
        availability: Arc<Availability>,
        remotes: Vec<String>,
    ) -> Self {
        Self { file, clock, availability, remotes, written: Mutex::default() }
    }

    /// Writes the table if it has changed.
    pub async fn publish(&self) {
        let Some(file) = &self.file else { return };
        let mut written = self.written.lock().await;
        let known = self.known();
        let before = match written.take() {
            Some(table) => Some(table),
            // From an earlier run. If there is none, or it cannot be read, the remotes will tell.
            None => file.read().await,
        };
        let next = table(&known, before.as_ref(), self.clock.now());
        if before.as_ref() != Some(&next)
            && let Err(error) = file.write(next.clone()).await
        {
            tracing::error!("cannot tell the web shop's gateway about environments: {error}");
            return;
        }
        *written = Some(next);
    }

    fn known(&self) -> Known {
        let states = self.availability.remote_states();
        let mut known = Known::default();
        for remote in &self.remotes {
            let Some(load) = states.get(remote).and_then(|state| state.last.as_ref()?.load()) else {
                known.some_silent = true;
                continue;
            };
            known.environments.extend(load.environments.iter().cloned());
            known.hosts.extend(load.members.iter().map(|member| url_host(&member.host)));
        }
        known.environments.extend(self.availability.handed_over());
        known
    }
}

/// The routes to environments of this shop that were handed over and have not ended. Those that were there `before` stay while
/// nothing is known of them: their remote has not reported, or has not said which member they are on.
fn table(known: &Known, before: Option<&RouteTable>, now: Timestamp) -> RouteTable {
    let mut table = RouteTable::default();
    let own = || known.environments.iter().filter(|environment| environment.is_own);
    let unlocated: BTreeSet<_> = own().filter(|e| e.host.is_none()).map(|e| e.project).collect();
    for (project, route) in before.into_iter().flat_map(RouteTable::iter) {
        let host = route.nodes().first().map(|node| node.host.as_str()).unwrap_or_default();
        let silent = known.some_silent && !known.hosts.contains(host);
        if route.expires_at() > now && (silent || unlocated.contains(&project)) {
            table.insert(project, route.clone());
        }
    }
    for environment in own() {
        let live = environment.is_provisioned() && environment.expires_at > now;
        if let Some(host) = environment.host.as_deref().filter(|_| live)
            && let Some((project, route)) = route(host, environment)
        {
            table.insert(project, route);
        }
    }
    table
}

fn route(host: &str, environment: &Environment) -> Option<(ProjectName, Route)> {
    let host = url_host(host);
    let nodes: Option<Vec<Endpoint>> =
        environment.ports.nodes().map(|port| format!("ws://{host}:{port}").parse().ok()).collect();
    Some((environment.project, Route::new(environment.expires_at, nodes?).ok()?))
}

#[cfg(test)]
mod tests {
    use lnplaylive_core::OrderId;
    use lnplaylive_core::PortBlock;
    use lnplaylive_core::tags::Stage;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    fn environment(host: &str, first: u16, ends: i64) -> Environment {
        let order = OrderId::random();
        Environment {
            project: ProjectName::new(at(ends), order).expect("a name"),
            order,
            is_own: true,
            expires_at: at(ends),
            hours: 1,
            ports: PortBlock { first, count: 3 },
            address: None,
            stage: Stage::Provisioned,
            moved_from: None,
            member: None,
            host: Some(host.to_owned()),
        }
    }

    fn known(environments: &[&Environment]) -> Known {
        let environments: Vec<_> = environments.iter().map(|one| (*one).clone()).collect();
        let hosts = environments.iter().filter_map(|one| one.host.as_deref()).map(url_host).collect();
        Known { environments, hosts, some_silent: false }
    }

    fn nodes(table: &RouteTable) -> Vec<(ProjectName, Vec<String>)> {
        let urls = |route: &Route| route.nodes().iter().map(ToString::to_string).collect();
        table.iter().map(|(project, route)| (project, urls(route))).collect()
    }

    #[test]
    fn leads_to_what_was_handed_over_and_lives() {
        let (lives, six) = (environment("192.0.2.1", 20000, 10), environment("2001:db8::1", 20010, 20));
        let ended = environment("192.0.2.1", 20020, 5);
        let made = Environment { stage: Stage::Placing, ..environment("192.0.2.1", 20030, 10) };
        let extended = Environment { expires_at: at(100), ..environment("192.0.2.1", 20040, 1) };
        let another_shops = Environment { is_own: false, ..environment("192.0.2.1", 20050, 10) };
        let table = table(&known(&[&lives, &six, &ended, &made, &extended, &another_shops]), None, at(5));
        let urls = |host: &str, ports: [u16; 2]| ports.map(|port| format!("ws://{host}:{port}")).to_vec();
        let mut expected = vec![
            (lives.project, urls("192.0.2.1", [20001, 20002])),
            (six.project, urls("[2001:db8::1]", [20011, 20012])),
            (extended.project, urls("192.0.2.1", [20041, 20042])),
        ];
        expected.sort();
        assert_eq!(nodes(&table), expected);
        let ends =
            table.iter().find(|(project, _)| *project == extended.project).map(|(_, r)| r.expires_at());
        assert_eq!(ends, Some(at(100)), "the later end counts");
    }

    #[test]
    fn a_remote_that_says_nothing_keeps_its_routes_and_another_does_not() {
        let (on_a, on_b) = (environment("192.0.2.1", 20000, 10), environment("192.0.2.2", 20010, 10));
        let ended = environment("192.0.2.1", 20020, 3);
        let before = table(&known(&[&on_a, &on_b, &ended]), None, at(0));
        assert_eq!(before.len(), 3);
        // The one with 192.0.2.2 has reported, and that there is nothing.
        let mut now = known(&[]);
        now.hosts.insert("192.0.2.2".into());
        now.some_silent = true;
        let after = table(&now, Some(&before), at(5));
        assert_eq!(after.iter().map(|(project, _)| project).collect::<Vec<_>>(), [on_a.project]);
        now.some_silent = false;
        assert!(table(&now, Some(&before), at(5)).is_empty());
    }

    #[test]
    fn follows_an_environment_that_was_moved() {
        let mut moved = environment("192.0.2.1", 20000, 10);
        let before = table(&known(&[&moved]), None, at(0));
        moved.host = None;
        let lost = table(&known(&[&moved]), Some(&before), at(1));
        assert_eq!(lost, before, "its member is not known, so it may well be where it was");
        moved.host = Some("192.0.2.2".into());
        let after = table(&known(&[&moved]), Some(&lost), at(2));
        assert_eq!(nodes(&after)[0].1, ["ws://192.0.2.2:20001", "ws://192.0.2.2:20002"]);
    }
}
