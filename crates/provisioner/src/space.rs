//! The room on one remote, from its report and our own reservations.

use std::net::Ipv4Addr;

use lnplaylive_core::PortBlock;
use lnplaylive_core::addresses::FreeAddresses;
use lnplaylive_core::ports::FreePorts;
use lnplaylive_core::settings::{self, InstanceType};

use crate::Size;
use crate::load::{Environment, Load, Machine, Memory, Storage};
use crate::size::CPU_OVERCOMMIT;

/// The load of a machine, less is better: memory or processors in percent, whichever is scarcer, then its
/// environments. Whole percents, because less is chance.
pub(crate) type Rank = (u64, u32);

/// A place for an environment: the member, its ports and address. These are counted over the whole remote, so that an
/// environment that a cluster moves meets no other on its new member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Which of the remote's machines.
    pub(crate) machine: usize,
    /// Its ports.
    pub(crate) ports: PortBlock,
    /// A virtual machine's static address.
    pub(crate) address: Option<Ipv4Addr>,
}

/// Reservations on a remote that may not be in its report yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reserved<'a> {
    /// The cluster's member.
    pub(crate) member: Option<&'a str>,
    /// The ports.
    pub(crate) ports: PortBlock,
    /// The static address.
    pub(crate) address: Option<Ipv4Addr>,
    /// For how many hours it is.
    pub(crate) hours: u32,
}

impl Reserved<'_> {
    fn size(&self) -> Size {
        size(self.ports, self.hours)
    }
}

/// The room on one remote. Environments can be put there and taken away again, in thought.
#[derive(Debug, Clone)]
pub(crate) struct Space<'a> {
    pub(crate) settings: &'a settings::Remote,
    ports: FreePorts,
    /// Set if environments are virtual machines.
    addresses: Option<FreeAddresses>,
    environments: u32,
    machines: Vec<MachineSpace>,
    /// Of members that take no environments: why, in sentences.
    closed: Vec<String>,
}

/// The room on one machine.
#[derive(Debug, Clone)]
struct MachineSpace {
    member: Option<String>,
    environments: u32,
    memory: Memory,
    /// Bytes of memory that are not used yet and will be.
    promised: u64,
    /// Bytes of memory that are used and will not be any more.
    freed: u64,
    storage: Option<Storage>,
    /// Bytes of storage that are not used yet and will be.
    storage_promised: u64,
    cpus: u64,
    busy_percent: u64,
    /// The expected use of all environments on it together.
    limits: Limits,
}

/// The limits of environments: whoever is root in one takes all of it.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    /// Bytes.
    memory: u64,
    /// Bytes.
    disk: u64,
    /// Processors.
    cpus: u64,
}

impl MachineSpace {
    fn new(member: Option<String>, machine: Machine) -> Self {
        let Machine { memory, storage, cpus, .. } = machine;
        let busy_percent = busy_percent(&machine);
        Self {
            member,
            environments: 0,
            memory,
            promised: 0,
            freed: 0,
            storage,
            storage_promised: 0,
            cpus,
            busy_percent,
            limits: Limits::default(),
        }
    }

    fn disk(&self, settings: &settings::Remote, size: Size) -> u64 {
        size.disk_limit(settings.instance_type, self.storage.map_or(0, |storage| storage.image))
    }

    fn percent(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(100) / self.memory.total.max(1)
    }

    fn is_member(&self, member: Option<&str>) -> bool {
        self.member.as_deref() == member
    }

    /// The memory in use, in percent, once an environment is added, or why there is no room for it.
    fn fit(&self, settings: &settings::Remote, size: Size) -> Result<u64, String> {
        let Self { memory, promised, freed, limits, .. } = self;
        let needed = size.memory_use(settings.instance_type);
        let wanted = memory.used.saturating_add(*promised).saturating_add(needed).saturating_sub(*freed);
        let (mib, most) = (1024 * 1024, u64::from(settings.max_memory_percent));
        if self.percent(wanted) > most {
            return Err(format!(
                "has {} of {} MiB of memory in use and {} promised; with {} more it would be above the {most}% \
                 that max_memory_percent allows",
                memory.used / mib,
                memory.total / mib,
                promised / mib,
                needed / mib,
            ));
        }
        let allowed = limits.memory.saturating_add(size.memory_limit());
        if self.percent(allowed) > most {
            return Err(format!(
                "has {} MiB of memory; with one that may use {} its environments together could use {}, more than the \
                 {most}% that max_memory_percent allows",
                memory.total / mib,
                size.memory_limit_mib(),
                allowed / mib,
            ));
        }
        let cpus = limits.cpus.saturating_add(size.cpu_limit());
        if cpus > self.cpus.saturating_mul(CPU_OVERCOMMIT) {
            return Err(format!(
                "has {} processors; its environments together may use {} already, and more than {CPU_OVERCOMMIT} times as \
                 many are not sold",
                self.cpus, limits.cpus,
            ));
        }
        let disk = self.disk(settings, size);
        if let Some(Storage { total, used, .. }) = self.storage {
            let taken = used.saturating_add(self.storage_promised).max(limits.disk);
            if taken.saturating_add(disk) > total {
                return Err(format!(
                    "has {} MiB in its storage pool, {} in use and {} promised, and its environments may use {}; \
                     an environment may use {} more",
                    total / mib,
                    used / mib,
                    self.storage_promised / mib,
                    limits.disk / mib,
                    disk / mib,
                ));
            }
        }
        Ok(self.percent(wanted))
    }

    /// Counts an environment that is there.
    fn count(&mut self, settings: &settings::Remote, size: Size) {
        let disk = self.disk(settings, size);
        let Limits { memory, disk: disks, cpus } = &mut self.limits;
        self.environments = self.environments.saturating_add(1);
        *memory = memory.saturating_add(size.memory_limit());
        *disks = disks.saturating_add(disk);
        *cpus = cpus.saturating_add(size.cpu_limit());
    }

    /// Counts an environment that is to come, with what it will use.
    fn take(&mut self, settings: &settings::Remote, size: Size) {
        self.count(settings, size);
        self.promised = self.promised.saturating_add(size.memory_use(settings.instance_type));
        self.storage_promised = self.storage_promised.saturating_add(self.disk(settings, size));
    }

    /// Counts an environment no longer, nor what it has used.
    fn give_back(&mut self, settings: &settings::Remote, size: Size) {
        let disk = self.disk(settings, size);
        let Limits { memory, disk: disks, cpus } = &mut self.limits;
        self.environments = self.environments.saturating_sub(1);
        *memory = memory.saturating_sub(size.memory_limit());
        *disks = disks.saturating_sub(disk);
        *cpus = cpus.saturating_sub(size.cpu_limit());
        self.freed = self.freed.saturating_add(size.memory_use(settings.instance_type));
        if let Some(storage) = &mut self.storage {
            storage.used = storage.used.saturating_sub(disk);
        }
    }
}

impl<'a> Space<'a> {
    /// The room that there is on a remote of that load, with the environments on it that `counts`, less what is `reserved`.
    pub(crate) fn new<'r>(
        settings: &'a settings::Remote,
        load: &Load,
        counts: impl Fn(&Environment) -> bool,
        reserved: impl IntoIterator<Item = Reserved<'r>>,
    ) -> Self {
        let (mut machines, mut closed) = (Vec::new(), Vec::new());
        for member in &load.members {
            match (&member.machine, &member.name) {
                (Ok(machine), name) => machines.push(MachineSpace::new(name.clone(), *machine)),
                (Err(reason), Some(name)) => closed.push(format!("member {name}: {reason}")),
                (Err(reason), None) => closed.push(reason.clone()),
            }
        }
        let mut space = Self {
            settings,
            ports: FreePorts::new(settings.ports),
            addresses: addresses(settings),
            environments: 0,
            machines,
            closed,
        };
        let mut seen = Vec::new();
        for environment in load.environments.iter().filter(|environment| counts(environment)) {
            let ports = environment.ports;
            seen.push(ports);
            space.environments = space.environments.saturating_add(1);
            space.occupy(ports, environment.address);
            let (member, size) = (environment.member.as_deref(), size(ports, environment.hours));
            // What is being made counts in full: when its memory will be taken is not known.
            if environment.is_provisioned() {
                space.on_member(member).for_each(|machine| machine.count(settings, size));
            } else {
                space.promise(member, size);
            }
        }
        for ports in load.malformed.iter().filter_map(|malformed| malformed.ports) {
            space.ports.take(ports);
        }
        for one in reserved {
            if !seen.contains(&one.ports) {
                seen.push(one.ports);
                space.occupy(one.ports, one.address);
                space.environments = space.environments.saturating_add(1);
                space.promise(one.member, one.size());
            }
        }
        space
    }

    fn occupy(&mut self, ports: PortBlock, address: Option<Ipv4Addr>) {
        self.ports.take(ports);
        if let (Some(addresses), Some(address)) = (&mut self.addresses, address) {
            addresses.take(address);
        }
    }

    /// The machine of a member; where the member is not known, each: too little is sold rather than too much.
    fn on_member<'s>(&'s mut self, member: Option<&'s str>) -> impl Iterator<Item = &'s mut MachineSpace> {
        let is_it = move |machine: &&mut MachineSpace| member.is_none() || machine.is_member(member);
        self.machines.iter_mut().filter(is_it)
    }

    fn promise(&mut self, member: Option<&str>, size: Size) {
        let settings = self.settings;
        self.on_member(member).for_each(|machine| machine.take(settings, size));
    }

    /// The member that a machine is.
    pub(crate) fn member(&self, machine: usize) -> Option<&str> {
        self.machines[machine].member.as_deref()
    }

    /// The machine that a member is, if it takes environments.
    pub(crate) fn machine(&self, member: Option<&str>) -> Option<usize> {
        self.machines.iter().position(|machine| machine.is_member(member))
    }

    /// Each place that an environment of that size could get, and how loaded the machine would be with it; or
    /// why it has no place here. Passes `skip` blocks of ports over, if there are others.
    pub(crate) fn fits(&self, size: Size, skip: u32) -> Result<Vec<(Fit, Rank)>, String> {
        let Self { settings, environments, .. } = self;
        if settings.max_environments.is_some_and(|max| *environments >= max) {
            return Err(format!("has {environments} environments, as many as max_environments allows"));
        }
        let (mut fits, mut reasons) = (Vec::new(), self.closed.clone());
        for (at, machine) in self.machines.iter().enumerate() {
            match machine.fit(settings, size) {
                Ok(percent) => fits.push((at, (percent.max(machine.busy_percent), machine.environments))),
                Err(reason) => reasons.push(match &machine.member {
                    Some(member) => format!("member {member}: {reason}"),
                    None => reason,
                }),
            }
        }
        if fits.is_empty() {
            return Err(reasons.join(", "));
        }
        let ports = self
            .ports
            .block(size.node_count, skip)
            .ok_or_else(|| format!("has no {} free ports in a row", PortBlock::size_for(size.node_count)))?;
        let address = match &self.addresses {
            Some(addresses) => {
                Some(addresses.address(skip).ok_or("has no free address in vm_addresses".to_owned())?)
            }
            None => None,
        };
        let fit = |(machine, rank)| (Fit { machine, ports, address }, rank);
        Ok(fits.into_iter().map(fit).collect())
    }

    /// True if an environment of that size had a place on the empty machine.
    pub(crate) fn could_hold(&self, machine: usize, size: Size) -> bool {
        let Self { settings, .. } = self;
        let machine = &self.machines[machine];
        let ports = FreePorts::new(settings.ports).block(size.node_count, 0);
        machine.percent(size.memory_limit()) <= u64::from(settings.max_memory_percent)
            && ports.is_some()
            && settings.max_environments != Some(0)
    }

    /// Puts an environment there, for so many hours.
    pub(crate) fn take(&mut self, fit: &Fit, hours: u32) {
        self.occupy(fit.ports, fit.address);
        self.environments = self.environments.saturating_add(1);
        self.machines[fit.machine].take(self.settings, size(fit.ports, hours));
    }

    /// Takes an environment away. Its memory comes back where it was, if that is known.
    pub(crate) fn give_back(&mut self, machine: Option<usize>, one: Reserved<'_>) {
        self.ports.give_back(one.ports);
        if let (Some(addresses), Some(address)) = (&mut self.addresses, one.address) {
            addresses.give_back(address);
        }
        self.environments = self.environments.saturating_sub(1);
        if let Some(machine) = machine {
            self.machines[machine].give_back(self.settings, one.size());
        }
    }
}

/// The addresses that virtual machines may have, all of them free; `None` where environments are containers. Where none
/// are set, nothing is sold on the remote at all.
fn addresses(settings: &settings::Remote) -> Option<FreeAddresses> {
    let range = settings.vm_addresses.filter(|_| settings.instance_type == InstanceType::VirtualMachine)?;
    Some(FreeAddresses::new(range))
}

/// The size of an environment with these ports.
fn size(ports: PortBlock, hours: u32) -> Size {
    Size { node_count: ports.node_count(), hours }
}

/// The load of the processors, if the server reports it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a percentage; casts of floats saturate"
)]
fn busy_percent(machine: &Machine) -> u64 {
    machine.cpu_load.map_or(0, |busy| (busy * 100.0 / machine.cpus.max(1) as f64) as u64)
}
