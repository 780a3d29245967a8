//! The instance in a project: made and started.
//!
//! Whoever buys an environment is taken to be root in it one day. What an instance may use is bounded, a container has user ids of
//! its own and no NIC, and the server's own services for instances are switched off.

use std::net::IpAddr;
use std::time::Duration;

use lnplaylive_core::ProjectName;
use lnplaylive_core::order::Placement;
use lnplaylive_core::settings;
use lxd_client::{
    Client, ConfigMap, ErrorKind, Found as _, ImageSource, Instance, InstanceSpec, InstanceType, Status,
};

use crate::devices::{Wiring, devices, relocated, root};
use crate::profiles::Profiles;
use crate::{Error, Size, cloud_init};

/// The prefix of our instances' names. Some that earlier versions made are named by it alone.
const PREFIX: &str = "lnplay";

/// The name of an environment's instance.
///
/// Each has another, also those of one order that is being replaced: LXD 5.0 gives containers of one name in several projects
/// the same user ids, isolated or not (`driver_lxc.go`, `findIdmap`, compares names), and neither server lets two virtual
/// machines of one name on a network (`nic_bridged.go`, `checkAddressConflict`).
pub fn name(project: ProjectName) -> String {
    let order = u32::from_be_bytes(project.order_short());
    format!("{PREFIX}-{order:08x}-{:x}", project.expires().as_second())
}

/// True if an instance in a project of ours is an environment's, by its name.
pub(crate) fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The longest that creating may take: a large image has to be unpacked the first time.
const CREATE_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest that deleting may take: its disk has to go.
const DELETE_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that starting may take.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that changing proxies may take; they are rules of a packet filter or small processes.
const RELOCATE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that changing the limits of an instance that runs may take; its disk may have to grow.
const GROW_TIMEOUT: Duration = Duration::from_secs(60);

/// Open files of each process in a container, sockets included. A node may have 4096.
const OPEN_FILES: u32 = 16_384;

/// Calls denied to containers: the ways to make a subvolume or a snapshot on btrfs (`BTRFS_IOC_SNAP_CREATE`,
/// `_SUBVOL_CREATE` and their second versions in `linux/btrfs.h`). A new subvolume is not under the root disk's limit, and whoever
/// owns a directory can make one. The kernel looks at the lower half of the argument only, so the mask does.
const NO_SUBVOLUMES: [&str; 4] = ["0x50009401", "0x5000940e", "0x50009417", "0x50009418"];
/// Reading the kernel's log, which names other environments (`AppArmor` logs their names). It does not rely on the server's
/// `kernel.dmesg_restrict`, and its error (`ENOSYS`) is not the one of that setting.
const NO_KERNEL_LOG: &str = "syslog errno 38";

/// The parts of an instance, apart from its placement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) settings: &'a settings::Remote,
    pub(crate) profiles: &'a Profiles,
    /// The server's name for itself: `lxd` or `incus`.
    pub(crate) server: &'a str,
    /// The alias of the image.
    pub(crate) image_alias: &'a str,
    /// The size of the image as a file, in bytes.
    pub(crate) image_size: u64,
    pub(crate) size: Size,
    /// The host at which the instance's ports are reached.
    pub(crate) host: &'a str,
}

/// What decides the limits of an instance that grow with its hours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits<'a> {
    pub(crate) profiles: &'a Profiles,
    pub(crate) kind: settings::InstanceType,
    /// The size of the image as a file, in bytes.
    pub(crate) image_size: u64,
    pub(crate) size: Size,
}

/// Makes the instance, or finds that it was made before.
pub(crate) async fn create(client: &Client, plan: Plan<'_>, placement: &Placement) -> Result<(), Error> {
    let Plan { settings, profiles, server, image_alias, image_size, size, host } = plan;
    let wiring = Wiring::of(profiles, settings, placement, host)?;
    let kind = match settings.instance_type {
        settings::InstanceType::Container => InstanceType::Container,
        settings::InstanceType::VirtualMachine => InstanceType::VirtualMachine,
    };
    let mut devices = devices(&wiring, placement.ports);
    devices.extend(root(profiles, size.disk_limit(settings.instance_type, image_size)));
    let spec = InstanceSpec {
        name: name(placement.project),
        kind,
        image: ImageSource::Alias(image_alias.to_owned()),
        config: config(kind, server, size, placement),
        devices,
        profiles: Some(settings.profiles.clone()),
        target: placement.member.clone(),
    };
    let created = match client.create_instance(&placement.project.to_string(), &spec, CREATE_TIMEOUT).await {
        // The project is this order's, so the instance in it is as well.
        Err(error) if error.is_conflict() => complete(client, &placement.project.to_string(), &spec).await,
        other => other,
    };
    match created {
        Err(error) if lacks_ids(&error.to_string()) => {
            Err(Error::NoUserIds { remote: settings.name.clone(), source: error.into() })
        }
        other => Ok(other?),
    }
}

/// Completes an instance that an earlier attempt has begun, and whose end nobody saw.
///
/// Once the server no longer works on it, nothing tells whether one that is stopped is whole. It is made again then: nobody has
/// used it yet.
async fn complete(client: &Client, project: &str, spec: &InstanceSpec) -> lxd_client::Result<()> {
    let name = &spec.name;
    let mut completed = false;
    for operation in client.operations_on_instance(project, name).await? {
        match operation.wait(CREATE_TIMEOUT).await {
            Ok(_) => completed = true,
            Err(error) if error.is_transient() && !is_forgotten(&error) => return Err(error),
            // What came of it is seen below.
            Err(_) => {}
        }
    }
    match client.instance(project, name).await.found()? {
        Some(instance) if completed || instance.status == Status::Running => return Ok(()),
        Some(_) => {
            tracing::info!(
                "remote {:?}: instance {name} in {project} was begun before; making it again",
                client.name()
            );
            client.delete_instance(project, name, DELETE_TIMEOUT).await.found()?;
        }
        None => {}
    }
    client.create_instance(project, spec, CREATE_TIMEOUT).await
}

fn is_forgotten(error: &lxd_client::Error) -> bool {
    *error.kind() == ErrorKind::OperationForgotten
}

/// True if a server says that it has no user ids left, or none at all, for a container of its own. It says so in words only:
/// LXD's and Incus's `driver_lxc.go`, `findIdmap`.
fn lacks_ids(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["not enough uid/gid available", "doesn't have a uid/gid allocation"]
        .iter()
        .any(|said| text.contains(said))
}

/// Starts the instance, unless it runs.
pub(crate) async fn start(client: &Client, placement: &Placement) -> Result<(), Error> {
    let (project, name) = (placement.project.to_string(), name(placement.project));
    let Err(error) = client.start_instance(&project, &name, START_TIMEOUT).await else { return Ok(()) };
    // The servers have no code of their own for "it runs already": look.
    let runs = client.instance(&project, &name).await.is_ok_and(|i| i.status == Status::Running);
    if runs {
        return Ok(());
    }
    if error.to_string().contains("already defined on another NIC")
        && let Some(address) = placement.address
    {
        let remote = placement.remote.clone();
        return Err(Error::AddressTaken { remote, project, address, source: error.into() });
    }
    // The servers say so in words only; that an address is in use Incus does not always come to hear from its helper.
    if error.to_string().contains("starting proxy device") {
        let (ports, remote) = (placement.ports, placement.remote.clone());
        let (first, last) = (ports.ssh(), ports.last());
        return Err(Error::PortTaken { remote, project, first, last, source: error.into() });
    }
    Err(error.into())
}

/// Gives an instance that was prepared these limits. Fails if it does not run.
pub(crate) async fn grow(client: &Client, limits: Limits<'_>, placement: &Placement) -> Result<(), Error> {
    let Limits { profiles, kind, image_size, size } = limits;
    let (project, name) = (placement.project.to_string(), name(placement.project));
    let Some(instance) = client.instance(&project, &name).await.found()? else {
        return Err(Error::prepared(placement, "its instance is gone"));
    };
    if instance.status != Status::Running {
        return Err(Error::prepared(placement, format!("its instance is {:?}", instance.status)));
    }
    let mut config: ConfigMap = [memory_limit(size)].into();
    config.retain(|key, value| instance.config.get(key) != Some(value));
    let mut devices = root(profiles, size.disk_limit(kind, image_size));
    devices.retain(|name, device| instance.devices.get(name) != Some(device));
    if config.is_empty() && devices.is_empty() {
        return Ok(());
    }
    let grown = client.merge_instance(&project, &name, &config, &devices, GROW_TIMEOUT).await;
    grown.map_err(|error| match error.kind() {
        // The server says no, and would again: storage pools differ in what they allow while an instance runs.
        ErrorKind::Rejected { .. } => Error::prepared_because(placement, "it cannot be enlarged", error),
        _ => Error::from(error).of_placement(placement),
    })
}

fn memory_limit(size: Size) -> (String, String) {
    ("limits.memory".to_owned(), format!("{}MiB", size.memory_limit_mib()))
}

/// Lets the proxies of an environment's instance listen on `listen`, an address of the server that a cluster has moved it to.
/// Nothing is sent where they do.
pub(crate) async fn relocate(client: &Client, project: ProjectName, listen: IpAddr) -> Result<(), Error> {
    let Some(instance) = find(client, project).await? else { return Ok(()) };
    let moved = relocated(&instance.devices, listen);
    if !moved.is_empty() {
        let project = project.to_string();
        let no_config = ConfigMap::new();
        client.merge_instance(&project, &instance.name, &no_config, &moved, RELOCATE_TIMEOUT).await?;
    }
    Ok(())
}

/// The instance of an environment, however an earlier version named it; `None` if there is none.
pub(crate) async fn find(client: &Client, project: ProjectName) -> Result<Option<Instance>, Error> {
    let (name, project) = (name(project), project.to_string());
    if let Some(instance) = client.instance(&project, &name).await.found()? {
        return Ok(Some(instance));
    }
    let named_otherwise =
        client.locations(Some(&project)).await?.into_iter().find(|instance| is_ours(&instance.name));
    let Some(found) = named_otherwise else { return Ok(None) };
    Ok(client.instance(&project, &found.name).await.found()?)
}

/// The configuration of the instance. Profiles cannot undo what stands in it.
fn config(kind: InstanceType, server: &str, size: Size, placement: &Placement) -> ConfigMap {
    let mut config = ConfigMap::new();
    let mut set = |key: &str, value: String| drop(config.insert(key.to_owned(), value));
    set("user.user-data", cloud_init::user_data(&placement.access));
    set("limits.cpu", size.cpu_limit().to_string());
    let (key, memory) = memory_limit(size);
    set(&key, memory);
    // Nothing of ours asks the server anything from within.
    set(if server == "incus" { "security.guestapi" } else { "security.devlxd" }, "false".into());
    if placement.member.is_some() {
        // LXD and Incus (`CanMigrate` of proxy devices) would leave it on an evacuated member, stopped.
        set("cluster.evacuate", "migrate".into());
    }
    match kind {
        InstanceType::VirtualMachine => {
            // NixOS's kernels are not signed.
            set("security.secureboot", "false".into());
        }
        InstanceType::Container => {
            set("limits.kernel.nofile", OPEN_FILES.to_string());
            set("limits.memory.swap", "false".into());
            set("limits.processes", size.process_limit().to_string());
            // Keyrings, pipes and the like are counted by the server's user id: shared ones would be anybody's to use up.
            set("security.idmap.isolated", "true".into());
            set("security.nesting", "false".into());
            set("security.privileged", "false".into());
            let deny: Vec<_> = NO_SUBVOLUMES
                .iter()
                .map(|call| format!("ioctl errno 1 [1,{call},SCMP_CMP_MASKED_EQ,0xffffffff]"))
                .chain([NO_KERNEL_LOG.to_owned()])
                .collect();
            set("security.syscalls.deny", deny.join("\n"));
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use lnplaylive_core::OrderId;

    use super::*;

    #[test]
    fn each_placement_of_an_order_has_an_instance_name_of_its_own() {
        let order = OrderId::random();
        let [first, second] = ["2026-11-30T12:00:00Z", "2026-11-30T12:00:01Z"]
            .map(|end| name(ProjectName::new(end.parse().expect("a time"), order).expect("a name")));
        assert_ne!(first, second);
        assert!(is_ours(&first) && is_ours(&second));
    }
}
