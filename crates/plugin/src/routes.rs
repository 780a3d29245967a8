//! The route table for the gateway of the web shop's server, written from what the remotes say.
//!
//! Nothing of it is kept elsewhere: after a restart the next survey makes it anew. While a remote does not answer, its
//! environments keep the routes that they had.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use lnplaylive::{Endpoint, ProjectName, Route, RouteTable, Settings};
use provisioner::Environment;
use tokio::sync::Mutex;

use crate::desk::Desk;

/// Where the table is written, and what stands in it.
#[derive(Debug)]
pub(crate) struct Routes {
    file: Option<PathBuf>,
    /// By remote, the host that its ports are on.
    hosts: BTreeMap<String, String>,
    /// What was written last; nothing before the first time.
    written: Mutex<Option<RouteTable>>,
}

impl Routes {
    pub(crate) fn new(settings: &Settings) -> Self {
        let hosts = settings.remotes.iter().map(|remote| {
            let host = remote.host();
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            (remote.name.clone(), host)
        });
        Self { file: settings.shop.routes_file.clone(), hosts: hosts.collect(), written: Mutex::default() }
    }
}

impl Desk {
    /// Writes the table if it has changed, and if there is a place for it.
    pub(crate) async fn write_routes(&self) {
        let Some(file) = self.routes.file.clone() else { return };
        let mut written = self.routes.written.lock().await;
        let seen = self.stock.seen();
        let mut known: Vec<(&str, Environment)> = Vec::new();
        for (remote, seen) in &seen {
            let load = seen.last.as_ref().and_then(|answer| answer.load());
            known.extend(load.into_iter().flat_map(|l| l.environments.iter().map(|e| (remote.as_str(), *e))));
        }
        let handed_over = self.stock.handed_over();
        known.extend(handed_over.iter().map(|one| (one.remote.as_str(), one.environment)));
        let silent = self.routes.hosts.iter();
        let silent: Vec<_> = silent
            .filter(|(remote, _)| seen.get(*remote).is_none_or(|s| s.last.is_none()))
            .map(|(_, host)| host.as_str())
            .collect();
        let result = tokio::task::block_in_place(|| {
            let before = match written.take() {
                Some(table) => Some(table),
                // Of an earlier run. Where there is none, or it cannot be read, the remotes will tell.
                None => RouteTable::read(&file).ok(),
            };
            let hosts = &self.routes.hosts;
            let next = table(hosts, &known, before.as_ref(), &silent, Timestamp::now());
            if before.as_ref() != Some(&next) {
                next.write(&file)?;
            }
            *written = Some(next);
            Ok::<_, lnplaylive::routes::RouteTableError>(())
        });
        if let Err(error) = result {
            let cause = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
            tracing::error!("the web shop's gateway does not learn of environments: {error}{cause}");
        }
    }
}

/// The routes to environments that were handed over and have not ended, and of those that were there `before` the ones
/// to `silent` hosts, of which nothing is known.
fn table(
    hosts: &BTreeMap<String, String>,
    known: &[(&str, Environment)],
    before: Option<&RouteTable>,
    silent: &[&str],
    now: Timestamp,
) -> RouteTable {
    let mut table = RouteTable::default();
    let kept = before.into_iter().flat_map(RouteTable::iter);
    for (project, route) in kept {
        let host = route.nodes().first().map(|node| node.host.as_str()).unwrap_or_default();
        if route.expires_at() > now && silent.contains(&host) {
            table.insert(project, route.clone());
        }
    }
    for (remote, environment) in known {
        let live = environment.provisioned && environment.expires_at > now;
        if let Some(host) = hosts.get(*remote).filter(|_| live)
            && let Some((project, route)) = route(host, environment)
        {
            table.insert(project, route);
        }
    }
    table
}

fn route(host: &str, environment: &Environment) -> Option<(ProjectName, Route)> {
    let ports = environment.ports?;
    let nodes: Option<Vec<Endpoint>> = (1..ports.count)
        .map(|node| format!("ws://{host}:{}", ports.first.checked_add(node)?).parse().ok())
        .collect();
    Some((environment.project, Route::new(environment.expires_at, nodes?).ok()?))
}

#[cfg(test)]
mod tests {
    use lnplaylive::OrderId;
    use lnplaylive::order::PortBlock;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    fn environment(first: u16, ends: i64) -> Environment {
        let project = ProjectName::new(at(ends), OrderId::random()).expect("a name");
        let ports = Some(PortBlock { first, count: 3 });
        Environment { project, expires_at: at(ends), ports, address: None, provisioned: true }
    }

    fn hosts() -> BTreeMap<String, String> {
        [("a", "192.0.2.1"), ("b", "[2001:db8::1]")].map(|(r, h)| (r.to_owned(), h.to_owned())).into()
    }

    #[test]
    fn leads_to_what_was_handed_over_and_lives() {
        let (lives, six, ended) = (environment(20000, 10), environment(20010, 20), environment(20020, 5));
        let made = Environment { provisioned: false, ..environment(20030, 10) };
        let extended = Environment { expires_at: at(100), ..environment(20040, 1) };
        let known = [("a", lives), ("b", six), ("a", ended), ("a", made), ("a", extended), ("gone", lives)];
        let table = table(&hosts(), &known, None, &[], at(5));
        let found: Vec<_> = table
            .iter()
            .map(|(p, r)| (p, r.expires_at(), r.nodes().iter().map(ToString::to_string).collect::<Vec<_>>()))
            .collect();
        let nodes = |host: &str, ports: [u16; 2]| ports.map(|port| format!("ws://{host}:{port}")).to_vec();
        let mut expected = vec![
            (lives.project, at(10), nodes("192.0.2.1", [20001, 20002])),
            (six.project, at(20), nodes("[2001:db8::1]", [20011, 20012])),
            (extended.project, at(100), nodes("192.0.2.1", [20041, 20042])),
        ];
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_remote_that_says_nothing_keeps_its_routes_and_another_does_not() {
        let (on_a, on_b, ended) = (environment(20000, 10), environment(20010, 10), environment(20020, 3));
        let before = table(&hosts(), &[("a", on_a), ("b", on_b), ("a", ended)], None, &[], at(0));
        assert_eq!(before.len(), 3);
        let after = table(&hosts(), &[], Some(&before), &["192.0.2.1"], at(5));
        assert_eq!(after.iter().map(|(project, _)| project).collect::<Vec<_>>(), [on_a.project]);
    }
}
