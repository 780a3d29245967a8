//! Members, the machines of a remote. A single server is a remote with one member.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Faults, instance::ConfigMap};

/// Configuration of a cluster member.
#[derive(Debug, Clone)]
pub struct SimMember {
    /// Its name in the cluster.
    pub name: String,
    /// Address of its API; `None` for a loopback address that no other member or instance of this process has. The member's proxies
    /// listen on the same address.
    pub listen: Option<SocketAddr>,
    /// Its cluster groups.
    pub groups: Vec<String>,
    /// The member's configuration, for example `scheduler.instance`.
    pub config: BTreeMap<String, String>,
    /// Its machine.
    pub machine: Machine,
}

impl SimMember {
    /// A member of the group `default`, on a machine like this one with enough memory and storage.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: None,
            groups: vec!["default".into()],
            config: BTreeMap::new(),
            machine: Machine::default(),
        }
    }
}

/// The resources of a member's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Total and used memory, in bytes.
    pub memory: (u64, u64),
    /// Total and used space of the storage pool, in bytes.
    pub storage: (u64, u64),
    /// Number of CPU threads.
    pub cpus: u64,
    /// As the server names it, for example `x86_64`.
    pub architecture: String,
}

impl Default for Machine {
    /// Enough for any test that does not check resources.
    fn default() -> Self {
        Self {
            memory: (1 << 40, 2 << 30),
            storage: (1 << 40, 2 << 30),
            cpus: 128,
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// A member of a running remote.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Address of its API.
    pub(crate) address: SocketAddr,
    /// The address that stands for 127.0.0.1 on this member, unknown to everybody else. `None` on a single server, whose loopback
    /// is that of the machine.
    loopback: Option<Ipv4Addr>,
    /// Its own faults, in addition to the remote's.
    pub(crate) faults: Faults,
    state: Mutex<MemberState>,
}

/// The mutable state of a member.
#[derive(Debug)]
pub(crate) struct MemberState {
    pub(crate) groups: Vec<String>,
    pub(crate) config: ConfigMap,
    pub(crate) machine: Machine,
    /// True if an operator has evacuated it.
    pub(crate) evacuated: bool,
    /// Time of its death, if it is dead.
    died: Option<Instant>,
    /// Cancelled when it dies; there is a new one for each life.
    life: CancellationToken,
}

/// The status of a member, as the cluster reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Online,
    Offline,
    Evacuated,
}

impl Member {
    pub(crate) fn new(
        config: SimMember,
        address: SocketAddr,
        loopback: Option<Ipv4Addr>,
        faults: Faults,
    ) -> Self {
        let SimMember { name, listen: _, groups, config, machine } = config;
        let life = CancellationToken::new();
        let state = MemberState { groups, config, machine, evacuated: false, died: None, life };
        Self { name, address, loopback, faults, state: state.into() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, MemberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state().died.is_none()
    }

    /// Cancelled when it dies.
    pub(crate) fn life(&self) -> CancellationToken {
        self.state().life.clone()
    }

    /// Ends this life.
    pub(crate) fn die(&self) {
        let mut state = self.state();
        state.died.get_or_insert_with(Instant::now);
        state.life.cancel();
    }

    /// Begins a new life if it is dead.
    pub(crate) fn live_again(&self) {
        let mut state = self.state();
        if state.died.take().is_some() {
            state.life = CancellationToken::new();
        }
    }

    /// Its status for the other members: a dead one is online until its last heartbeat is this old.
    pub(crate) fn status(&self, offline_after: Duration) -> Status {
        let state = self.state();
        match state.died {
            _ if state.evacuated => Status::Evacuated,
            Some(died) if died.elapsed() >= offline_after => Status::Offline,
            _ => Status::Online,
        }
    }

    /// The address to bind for a port of an instance on this member, or `None` if the address is not this machine's.
    pub(crate) fn bindable(&self, listen: IpAddr, others: &[IpAddr]) -> Option<IpAddr> {
        let Some(loopback) = self.loopback else { return Some(listen) };
        let own = self.address.ip();
        match listen {
            _ if listen.is_unspecified() => Some(own),
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(loopback.into()),
            _ if listen != own && (others.contains(&listen) || !listen.is_loopback()) => None,
            _ => Some(listen),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn render(&self, offline_after: Duration, leads: bool) -> Value {
        let (status, message) = match self.status(offline_after) {
            Status::Online => ("Online", "Fully operational".to_owned()),
            Status::Evacuated => ("Evacuated", "Unavailable due to maintenance".to_owned()),
            Status::Offline => {
                let silent = self.state().died.map_or(0.0, |died| died.elapsed().as_secs_f64());
                ("Offline", format!("No heartbeat for {silent:.3}s"))
            }
        };
        let state = self.state();
        let roles: &[&str] = if leads { &["database-leader", "database"] } else { &["database"] };
        json!({
            "server_name": self.name, "url": self.url(), "database": true, "status": status, "message": message,
            "architecture": state.machine.architecture, "failure_domain": "default", "description": "",
            "config": state.config, "groups": state.groups, "roles": roles,
        })
    }
}
