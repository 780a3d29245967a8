//! The load of a remote: plain data, from its report.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::OrderId;
use lnplaylive_core::PortBlock;
use lnplaylive_core::ProjectName;
use lnplaylive_core::tags::{Stage, TagError};

/// A remote's load, or the reason why it is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteReport {
    /// Its name.
    pub name: String,
    /// Its load, or what went wrong when it was asked.
    pub load: Result<Load, String>,
}

/// The load of a remote.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// All environments on it, those that are being made, prepared ones and those of other shops included.
    pub environments: Vec<Environment>,
    /// Projects that look like ours and whose tags cannot be read.
    pub malformed: Vec<Malformed>,
    /// The members of a cluster; a single server is its own only member, without a name.
    pub members: Vec<Member>,
    /// True of a cluster.
    pub clustered: bool,
    /// Warnings about it, in sentences.
    pub warnings: Vec<String>,
    /// The lead of its clock over this machine's; `None` if it does not tell.
    pub clock_ahead: Option<SignedDuration>,
}

impl Load {
    /// The ports that environments use.
    pub fn ports(&self) -> impl Iterator<Item = PortBlock> {
        self.environments.iter().map(|e| e.ports)
    }

    /// Of these, the ports of environments that are being made: they do not use all of their memory yet.
    pub fn coming(&self) -> impl Iterator<Item = PortBlock> {
        self.environments.iter().filter(|e| e.stage == Stage::Placing).map(|e| e.ports)
    }

    /// The environments that this shop has prepared and no order has taken over.
    pub fn prepared(&self) -> impl Iterator<Item = &Environment> {
        self.environments.iter().filter(|e| e.is_prepared())
    }

    /// All others: they keep their room until their ends.
    pub fn sold(&self) -> impl Iterator<Item = &Environment> {
        self.environments.iter().filter(|e| !e.is_prepared())
    }

    /// The machines of members that take environments.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.members.iter().filter_map(|member| member.machine.as_ref().ok())
    }

    /// The memory of these machines together. No environment can be larger than one of them.
    pub fn memory(&self) -> Memory {
        self.machines().fold(Memory::default(), |sum, machine| Memory {
            total: sum.total.saturating_add(machine.memory.total),
            used: sum.used.saturating_add(machine.memory.used),
        })
    }
}

/// A project that looks like ours and whose tags cannot be read. It is neither served nor removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The project's name.
    pub project: String,
    /// The defect.
    pub error: TagError,
    /// The ports that it may be using, if these can be read.
    pub ports: Option<PortBlock>,
}

/// An environment, as its remote has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The project that it is in.
    pub project: ProjectName,
    /// The order that it belongs to. Not for logs: whoever has the id can see the order. Of a prepared one an id that is no order's.
    pub order: OrderId,
    /// True if this shop made it. Those of other shops on the same remote take room, and are left to them.
    pub is_own: bool,
    /// Its end: the later of the times in the project's name and in its key.
    pub expires_at: Timestamp,
    /// The hours from its creation to its end; the most that can be bought, if they are unknown.
    pub hours: u32,
    /// Its ports.
    pub ports: PortBlock,
    /// Its virtual machine's static address; `None` for a container.
    pub address: Option<Ipv4Addr>,
    /// Its stage.
    pub stage: Stage,
    /// The member that it is on now; `None` on a single server, or if that is not known.
    pub member: Option<String>,
    /// The member that its ports were last opened on, if the cluster has moved it since.
    pub moved_from: Option<String>,
    /// The host at which its ports are reached, without brackets; `None` if its member is not known.
    pub host: Option<String>,
}

impl Environment {
    /// True once it was handed over.
    pub fn is_provisioned(&self) -> bool {
        self.stage == Stage::Provisioned
    }

    /// True if this shop has prepared it and no order has taken it over. Orders may have its room.
    pub fn is_prepared(&self) -> bool {
        self.is_own && self.stage == Stage::Prepared
    }
}

/// A server that environments can be put on.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name in the cluster; `None` of a single server.
    pub name: Option<String>,
    /// The host at which its ports are reached, without brackets.
    pub host: String,
    /// Its resources, or the reason why it takes no environments now.
    pub machine: Result<Machine, String>,
}

/// The resources of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Its memory.
    pub memory: Memory,
    /// Threads that it can run at a time.
    pub cpus: u64,
    /// Runnable tasks, average of a minute; `None` where the server does not tell (LXD 5.0).
    pub cpu_load: Option<f64>,
    /// The storage pool that environments' disks are in; `None` where the server does not tell.
    pub storage: Option<Storage>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The total.
    pub total: u64,
    /// The part of it that is used.
    pub used: u64,
}

/// A storage pool, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Storage {
    /// The total.
    pub total: u64,
    /// The part of it that is used.
    pub used: u64,
    /// The size of the image as a file.
    pub image: u64,
}
