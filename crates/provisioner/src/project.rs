//! The project that holds one environment: made, marked, removed.

use std::time::Duration;

use jiff::Timestamp;
use lnplaylive::order::{Leftover, Placement, PortBlock};
use lnplaylive::{OrderId, ProjectName};
use lxd_client::{Client, ConfigMap, Found, Project, Stop};

use crate::Error;

/// The order that a project belongs to.
const KEY_ORDER: &str = "user.lnplaylive.order";
/// When it ends, in unix seconds; the later of this and the name counts.
const KEY_EXPIRES: &str = "user.lnplaylive.expires";
/// Its ports on the remote, `first-count`.
const KEY_PORTS: &str = "user.lnplaylive.ports";
/// `placing` until handed over, then `provisioned`.
const KEY_STATE: &str = "user.lnplaylive.state";

/// The longest that stopping an instance by force may take.
const STOP_TIME: Duration = Duration::from_secs(60);
/// The longest that deleting an instance may take: its disk has to go.
const DELETE_TIME: Duration = Duration::from_secs(120);

/// What changes about a project once its environment is handed over.
pub(crate) struct Marks {
    pub(crate) provisioned: bool,
    pub(crate) expires_at: Timestamp,
}

/// A project that is ours by name and keys.
pub(crate) struct Ours {
    pub(crate) ports: Option<PortBlock>,
}

/// Whether a project is one of ours, and what stands in its keys.
pub(crate) fn recognise(project: &Project) -> Option<Ours> {
    let name: ProjectName = project.name.parse().ok()?;
    let order: OrderId = project.config.get(KEY_ORDER)?.parse().ok()?;
    let ports = project.config.get(KEY_PORTS).and_then(|text| {
        let (first, count) = text.split_once('-')?;
        Some(PortBlock { first: first.parse().ok()?, count: count.parse().ok()? })
    });
    (name.order_short() == order.short()).then_some(Ours { ports })
}

fn belongs_to(project: &Project, order: OrderId) -> bool {
    project.config.get(KEY_ORDER).is_some_and(|value| *value == order.to_string())
}

/// Makes the project, or finds that it was made before.
pub(crate) async fn create(client: &Client, order: OrderId, placement: &Placement) -> Result<(), Error> {
    let PortBlock { first, count } = placement.ports;
    let config: ConfigMap = [
        // Images and profiles are the default project's: nothing to copy, nothing to clean up.
        ("features.images", "false".to_owned()),
        ("features.profiles", "false".to_owned()),
        (KEY_ORDER, order.to_string()),
        (KEY_EXPIRES, placement.project.expires().as_second().to_string()),
        (KEY_PORTS, format!("{first}-{count}")),
        (KEY_STATE, "placing".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let name = placement.project.to_string();
    match client.create_project(&name, "lnplay.live environment", &config).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_conflict() => {
            let project = client.project(&name).await?;
            if belongs_to(&project, order) { Ok(()) } else { Err(not_ours(client, &name)) }
        }
        Err(error) => Err(error.into()),
    }
}

fn not_ours(client: &Client, project: &str) -> Error {
    Error::NotOurs { remote: client.name().to_owned(), object: format!("project {project}") }
}

/// Writes what changes at the hand-over; nothing where that was written before.
pub(crate) async fn mark(
    client: &Client,
    order: OrderId,
    placement: &Placement,
    marks: &Marks,
) -> Result<(), Error> {
    let name = placement.project.to_string();
    let mut project = client.project(&name).await?;
    if !belongs_to(&project, order) {
        return Err(not_ours(client, &name));
    }
    let before = project.config.clone();
    let expires = marks.expires_at.max(placement.project.expires()).as_second();
    project.config.insert(KEY_EXPIRES.into(), expires.to_string());
    if marks.provisioned {
        project.config.insert(KEY_STATE.into(), "provisioned".into());
    }
    if project.config != before {
        client.update_project(&project).await?;
    }
    Ok(())
}

/// Removes the project and all that is in it, if it is this order's.
pub(crate) async fn remove(client: &Client, order: OrderId, leftover: &Leftover) -> Result<(), Error> {
    let name = leftover.project.to_string();
    let Some(project) = client.project(&name).await.found()? else { return Ok(()) };
    if !belongs_to(&project, order) {
        tracing::warn!("{}; left alone", not_ours(client, &name));
        return Ok(());
    }
    for instance in client.instances(&name).await.found()?.unwrap_or_default() {
        if instance.status != lxd_client::Status::Stopped {
            // Not there any more, or stopped meanwhile: the deletion will tell.
            let stopped = client.stop_instance(&name, &instance.name, Stop::Force, STOP_TIME).await;
            if let Err(error) = stopped
                && error.is_transient()
            {
                return Err(error.into());
            }
        }
        client.delete_instance(&name, &instance.name, DELETE_TIME).await.found()?;
    }
    client.delete_project(&name).await.found()?;
    Ok(())
}
