//! The instance in a project: made and started.

use std::net::IpAddr;
use std::time::Duration;

use lnplaylive_core::order::Placement;
use lnplaylive_core::settings;
use lxd_client::{Client, ConfigMap, ImageSource, InstanceSpec, InstanceType, Status};

use crate::devices::{Wiring, devices, relocated};
use crate::{Error, cloud_init, size};

/// The instance's name in its project.
pub(crate) const NAME: &str = "lnplay";

/// The longest that creating may take: a large image has to be unpacked the first time.
const CREATE_TIME: Duration = Duration::from_secs(300);
/// The longest that starting may take.
const START_TIME: Duration = Duration::from_secs(120);
/// The longest that changing proxies may take; they are rules of a packet filter or small processes.
const RELOCATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes the instance, or finds that it was made before. Its ports are reached at `host`.
pub(crate) async fn create(
    client: &Client,
    remote: &settings::Remote,
    node_count: u32,
    placement: &Placement,
    host: &str,
) -> Result<(), Error> {
    let wiring = Wiring::of(client, remote, placement, host).await?;
    let kind = match remote.instance_type {
        settings::InstanceType::Container => InstanceType::Container,
        settings::InstanceType::VirtualMachine => InstanceType::VirtualMachine,
    };
    let spec = InstanceSpec {
        name: NAME.to_owned(),
        kind,
        image: ImageSource::Alias(remote.image.clone()),
        config: config(kind, node_count, placement),
        devices: devices(&wiring, placement.ports),
        profiles: Some(remote.profiles.clone()),
        target: placement.member.clone(),
    };
    match client.create_instance(&placement.project.to_string(), &spec, CREATE_TIME).await {
        // The project is this order's, so the instance in it is as well.
        Err(error) if error.is_conflict() => Ok(()),
        other => Ok(other?),
    }
}

/// Starts the instance, unless it runs.
pub(crate) async fn start(client: &Client, placement: &Placement) -> Result<(), Error> {
    let project = placement.project.to_string();
    let Err(error) = client.start_instance(&project, NAME, START_TIME).await else { return Ok(()) };
    // The servers have no code of their own for "it runs already": look.
    let runs = client.instance(&project, NAME).await.is_ok_and(|i| i.status == Status::Running);
    if runs {
        return Ok(());
    }
    // The servers say so in words only; that an address is in use Incus does not always come to hear from its helper.
    if error.to_string().contains("starting proxy device") {
        let (ports, remote) = (placement.ports, placement.remote.clone());
        let (first, last) = (ports.ssh(), ports.last());
        return Err(Error::PortTaken { remote, project, first, last, source: error.into() });
    }
    Err(error.into())
}

/// Lets the proxies of an instance listen on `listen`, an address of the server that a cluster has moved it to. Nothing
/// is sent where they do.
pub(crate) async fn relocate(client: &Client, project: &str, listen: IpAddr) -> Result<(), Error> {
    let moved = relocated(&client.instance(project, NAME).await?.devices, listen);
    if !moved.is_empty() {
        client.merge_instance_devices(project, NAME, &moved, RELOCATE_TIMEOUT).await?;
    }
    Ok(())
}

fn config(kind: InstanceType, node_count: u32, placement: &Placement) -> ConfigMap {
    let memory = size::limit_mib(node_count);
    let mut config: ConfigMap = [
        ("user.user-data", cloud_init::user_data(&placement.access)),
        ("limits.memory", format!("{memory}MiB")),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if placement.member.is_some() {
        // LXD and Incus (`CanMigrate` of proxy devices) would leave it on an evacuated member, stopped.
        config.insert("cluster.evacuate".into(), "migrate".into());
    }
    if kind == InstanceType::VirtualMachine {
        // One processor would be the default.
        config.insert("limits.cpu".into(), (2 + node_count / 16).to_string());
        // NixOS's kernels are not signed.
        config.insert("security.secureboot".into(), "false".into());
    }
    config
}
