//! The servers behind a remote: one, or the members of a cluster. Which of them take environments, what each has,
//! and which of our environments is where.
//!
//! A member that does not answer takes itself out of what is sold and nothing else: each is asked for itself, in a
//! bounded time.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use lnplaylive_core::settings::{self, InstanceType};
use lxd_client::{Client, ClusterMember, Scheduler, ServerInfo};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::Error;
use crate::check::{Facts, Server};
use crate::devices::listen_address;
use crate::instance::is_ours;
use crate::load::{Environment, Machine, Member, Memory, Storage};

/// The time for which a member's report about its machine is used: asking takes two calls each.
const MACHINE_MAX_AGE: Duration = Duration::from_secs(10);
/// Time-out of one member's report; the poll continues without those that need longer.
const MACHINE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time for which environments are assumed to be where they were. Clusters move instances when a member is evacuated or
/// restored, and then ask again at once, because a member's status has changed.
const LOCATIONS_MAX_AGE: Duration = Duration::from_secs(60);
/// Time-out of a cluster's answer about where instances are.
const LOCATIONS_TIMEOUT: Duration = Duration::from_secs(3);

/// The servers behind one remote, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Members {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Each member's report about its machine, and its time.
    machines: BTreeMap<String, (Instant, Machine)>,
    /// Of each member its status and its URL, when the cluster last told.
    listed: BTreeMap<String, (String, String)>,
    /// The member of each project's instance, and when that was asked.
    locations: BTreeMap<String, String>,
    located: Option<Instant>,
}

/// A single server as its own only member. `server` is what it said when it was connected to.
pub(crate) async fn single(
    client: &Client,
    settings: &settings::Remote,
    server: &ServerInfo,
    facts: &Facts,
) -> Result<Member, Error> {
    let architecture = &server.environment.kernel_architecture;
    let driver = if settings.instance_type == InstanceType::VirtualMachine {
        Some(client.server().await?.environment.driver)
    } else {
        None
    };
    let host = settings.host();
    let listen = listen_address(settings, None, host);
    let machine = match facts.of_server(settings, Server { architecture, driver: driver.as_deref(), listen })
    {
        Some(reason) => Err(reason),
        None => Ok(machine(client, None, facts).await?),
    };
    Ok(Member { name: None, host: host.to_owned(), machine })
}

impl Members {
    /// The members of a cluster, each with what it has or why it takes no environments.
    pub(crate) async fn of_cluster(
        &self,
        client: &Client,
        settings: &settings::Remote,
        facts: &Facts,
    ) -> Result<Vec<Member>, Error> {
        let listed = client.cluster_members().await?;
        client.set_endpoints(endpoints(settings, &listed));
        let mut known = self.known.lock().await;
        known.note(&listed);
        let asked = join_all(listed.iter().map(|member| async {
            if let Some(reason) = closed(member, settings) {
                return Err(reason);
            }
            if let Some(machine) = known.fresh(&member.server_name) {
                return Ok(machine);
            }
            let host = known.host(settings, &member.server_name);
            match timeout(MACHINE_TIMEOUT, member_machine(client, settings, member, &host, facts)).await {
                Ok(Ok(machine)) => machine,
                Ok(Err(error)) => Err(error.chain()),
                Err(_) => Err(format!("did not say what it has within {} s", MACHINE_TIMEOUT.as_secs())),
            }
        }))
        .await;
        let now = Instant::now();
        let mut members = Vec::with_capacity(listed.len());
        for (member, machine) in listed.iter().zip(asked) {
            let name = &member.server_name;
            match &machine {
                Ok(machine) => {
                    known.machines.entry(name.clone()).or_insert((now, *machine));
                }
                Err(_) => drop(known.machines.remove(name)),
            }
            let host = known.host(settings, name);
            members.push(Member { name: Some(name.clone()), host, machine });
        }
        Ok(members)
    }

    /// Notes on each environment which member it is on and where its ports are reached. Those whose instance the
    /// cluster does not tell of keep the member that they were placed on.
    pub(crate) async fn locate(
        &self,
        client: &Client,
        settings: &settings::Remote,
        environments: &mut [Environment],
    ) {
        let mut known = self.known.lock().await;
        let due = known.located.is_none_or(|at| at.elapsed() >= LOCATIONS_MAX_AGE);
        if due && !environments.is_empty() {
            known.located = Some(Instant::now());
            match timeout(LOCATIONS_TIMEOUT, client.locations(None)).await {
                Ok(Ok(all)) => {
                    let ours = all.into_iter().filter(|instance| is_ours(&instance.name));
                    known.locations = ours.map(|instance| (instance.project, instance.location)).collect();
                }
                Ok(Err(error)) => tracing::warn!("{error}; environments are taken to be where they were"),
                Err(_) => tracing::warn!(
                    "remote {:?}: did not say within {} s which member each instance is on; environments are \
                     taken to be where they were",
                    settings.name,
                    LOCATIONS_TIMEOUT.as_secs()
                ),
            }
        }
        for environment in environments {
            let located = known.locations.get(&environment.project.to_string());
            if let Some(member) = located.filter(|member| environment.member.as_ref() != Some(member)) {
                environment.moved_from = environment.member.replace(member.clone());
            }
            let member = environment.member.as_deref();
            let member = member.filter(|member| known.listed.contains_key(*member));
            environment.host = member.map(|member| known.host(settings, member));
        }
    }

    /// The host at which a member's ports are reached, without brackets; `None` where the cluster has not told of it.
    pub(crate) async fn host(&self, settings: &settings::Remote, member: &str) -> Option<String> {
        let known = self.known.lock().await;
        known.listed.contains_key(member).then(|| known.host(settings, member))
    }
}

impl Known {
    fn fresh(&self, member: &str) -> Option<Machine> {
        let (at, machine) = self.machines.get(member)?;
        (at.elapsed() < MACHINE_MAX_AGE).then_some(*machine)
    }

    /// Takes what the cluster lists. Instances may have moved when a member's status is another one.
    fn note(&mut self, listed: &[ClusterMember]) {
        let of = |m: &ClusterMember| (m.server_name.clone(), (m.status.clone(), m.url.clone()));
        let listed: BTreeMap<_, _> = listed.iter().map(of).collect();
        if listed != self.listed {
            self.located = None;
            self.listed = listed;
        }
        let listed = &self.listed;
        self.machines.retain(|member, (at, _)| listed.contains_key(member) && at.elapsed() < MACHINE_MAX_AGE);
    }

    /// Of a member whose URL cannot be read, the remote's own host.
    fn host(&self, settings: &settings::Remote, member: &str) -> String {
        let url = self.listed.get(member).and_then(|(_, url)| Url::parse(url).ok());
        settings.member_host(member, url.as_ref().unwrap_or(&settings.url)).to_owned()
    }
}

/// The reason why a member takes no environments, from the cluster's own list.
fn closed(member: &ClusterMember, settings: &settings::Remote) -> Option<String> {
    if !member.is_online() {
        return Some(format!("is {}", member.status));
    }
    let in_group = |group: &String| member.groups.contains(group);
    if let Some(group) = settings.cluster_group.as_ref().filter(|group| !in_group(group)) {
        return Some(format!("is not in cluster_group {group:?}"));
    }
    let own = settings.members.get(&member.server_name).and_then(|member| member.listen_address);
    if own.is_none() && !settings.listen_address.is_unspecified() {
        // Other members cannot open ports on it.
        return Some(format!(
            "would open ports on {}, the listen_address of the whole remote; set one for each member, in members, or none",
            settings.listen_address
        ));
    }
    match member.scheduler() {
        Scheduler::All => None,
        Scheduler::Group if settings.cluster_group.is_some() => None,
        Scheduler::Group => Some("has scheduler.instance=group, and no cluster_group is set".into()),
        Scheduler::Manual => Some("has scheduler.instance=manual".into()),
    }
}

/// The addresses of a cluster's API: the URL in the settings, then each member, those that are online first. A
/// member that has a host in the settings is asked there.
///
/// Right after its leader was lost a cluster lists all members as offline, those too that answer.
pub(crate) fn endpoints(settings: &settings::Remote, listed: &[ClusterMember]) -> Vec<Url> {
    let mut endpoints = vec![settings.url.clone()];
    let mut listed: Vec<_> = listed.iter().collect();
    listed.sort_by_key(|member| !member.is_online());
    for member in listed {
        let Ok(mut url) = Url::parse(&member.url) else { continue };
        let host = settings::url_host(settings.member_host(&member.server_name, &url));
        if url.set_host(Some(&host)).is_ok() && !endpoints.contains(&url) {
            endpoints.push(url);
        }
    }
    endpoints
}

/// A member's resources, or the reason why it takes no environments, from its own report.
async fn member_machine(
    client: &Client,
    settings: &settings::Remote,
    member: &ClusterMember,
    host: &str,
    facts: &Facts,
) -> Result<Result<Machine, String>, Error> {
    let name = &member.server_name;
    let driver = if settings.instance_type == InstanceType::VirtualMachine {
        Some(client.member(name).await?.environment.driver)
    } else {
        None
    };
    let (architecture, driver) = (&*member.architecture, driver.as_deref());
    let listen = listen_address(settings, Some(name), host);
    Ok(match facts.of_server(settings, Server { architecture, driver, listen }) {
        Some(reason) => Err(reason),
        None => Ok(machine(client, Some(name), facts).await?),
    })
}

async fn machine(client: &Client, member: Option<&str>, facts: &Facts) -> Result<Machine, Error> {
    let resources = match member {
        Some(member) => client.member_resources(member).await?,
        None => client.resources().await?,
    };
    let storage = match facts.profiles.pool() {
        Some(pool) => Some(client.storage_space(pool, member).await?),
        None => None,
    };
    Ok(Machine {
        memory: Memory { total: resources.memory_total, used: resources.memory_used },
        cpus: resources.cpu_total,
        cpu_load: resources.load,
        // Pools of some drivers do not tell their size.
        storage: storage.filter(|space| space.total > 0).map(|space| Storage {
            total: space.total,
            used: space.used,
            image: facts.image_size,
        }),
    })
}
