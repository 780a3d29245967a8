//! The project that holds one environment: made, marked, removed.

use std::time::Duration;

use jiff::Timestamp;
use lnplaylive_core::order::{Leftover, Placement, Prepared, Severity};
use lnplaylive_core::tags::{
    self, KEY_CREATED, KEY_EXPIRES, KEY_MEMBER, KEY_ORDER, KEY_PREPARED, KEY_REMOVING, KEY_STATE, NotOurs,
    ProjectTags, Stage,
};
use lnplaylive_core::{OrderId, ProjectName, ShopId};
use lxd_client::{Client, Collection, ConfigMap, Content, Found, Project, Stop};
use tokio::time::{Instant, sleep};

use crate::{Environment, Error, Malformed};

/// The longest that stopping an instance by force may take, if the caller does not say.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that deleting an instance may take, if the caller does not say: its disk has to go.
const DELETE_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that an instance may change between running and stopped after a start that failed, as Incus has it do.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// A removal that the server refuses, as it does while another one is under way, is tried again for this long.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at something that is about to change.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
/// As much of a malformed project's name is shown.
const MAX_SHOWN_NAME: usize = 100;
/// Attempts to write a change while others change the project at the same moment.
const CHANGE_TRIES: u32 = 3;

/// The most hours that an environment can be bought for.
const MAX_HOURS: u32 = 504;

/// Sorts out the environments of all shops among a remote's projects, notes which are `shop`'s, and the projects that look like ours and cannot be read.
pub(crate) fn sort(projects: &[Project], shop: Option<&ShopId>) -> (Vec<Environment>, Vec<Malformed>) {
    let (mut environments, mut malformed) = (Vec::new(), Vec::new());
    for Project { name, config, .. } in projects {
        match ProjectTags::read(name, config) {
            Ok(tags) => environments.push(environment(tags, shop)),
            Err(NotOurs::Malformed(error)) => {
                // Somebody else may have chosen the name.
                let project = name.chars().take(MAX_SHOWN_NAME).collect();
                malformed.push(Malformed { project, error, ports: tags::ports_of_malformed(config) });
            }
            Err(NotOurs::Foreign) => {}
        }
    }
    (environments, malformed)
}

fn environment(tags: ProjectTags, shop: Option<&ShopId>) -> Environment {
    Environment {
        // What is prepared is given up at any time, so only where it says whose it is.
        is_own: tags.is_of(shop) && (tags.shop.is_some() || tags.stage != Stage::Prepared),
        project: tags.project,
        order: tags.order,
        expires_at: tags.expires,
        hours: tags.created.map_or(MAX_HOURS, |created| hours_between(created, tags.expires)),
        ports: tags.ports,
        address: tags.address,
        stage: tags.stage,
        member: tags.member,
        moved_from: None,
        host: None,
    }
}

/// Hours from one time to a later one, rounded up.
fn hours_between(created: Timestamp, ends: Timestamp) -> u32 {
    let seconds = ends.as_second().saturating_sub(created.as_second()).max(0);
    u32::try_from(seconds.unsigned_abs().div_ceil(3600)).unwrap_or(MAX_HOURS)
}

fn belongs_to(project: &Project, order: OrderId) -> bool {
    project.config.get(KEY_ORDER).is_some_and(|value| *value == order.to_string())
}

/// Makes the project, or finds that it was made before.
pub(crate) async fn create(
    client: &Client,
    shop: Option<&ShopId>,
    owner: OrderId,
    stage: Stage,
    placement: &Placement,
) -> Result<(), Error> {
    let mut config = ProjectTags::of_placement(owner, placement, stage, shop, Timestamp::now()).to_config();
    // Images and profiles are the default project's: nothing to copy, nothing to clean up.
    for feature in ["features.images", "features.profiles"] {
        config.insert(feature.to_owned(), "false".to_owned());
    }
    let name = placement.project.to_string();
    match client.create_project(&name, "lnplay.live environment", &config).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_conflict() => {
            let project = client.project(&name).await?;
            if belongs_to(&project, owner) { Ok(()) } else { Err(not_ours(client, &name)) }
        }
        Err(error) => Err(error.into()),
    }
}

fn not_ours(client: &Client, project: &str) -> Error {
    Error::NotOurs { remote: client.name().to_owned(), object: format!("project {project}") }
}

/// Makes a prepared project the order's, in one write; nothing where that was done before. What it was before counts no longer:
/// it ends as decided for the order, and whoever removes what was prepared finds another id.
pub(crate) async fn take_over(
    client: &Client,
    order: OrderId,
    placement: &Placement,
    prepared: Prepared,
) -> Result<(), Error> {
    let name = placement.project.to_string();
    let mut tries = 1;
    loop {
        let Some(mut project) = client.project(&name).await.found()? else {
            return Err(Error::prepared(placement, "it is gone"));
        };
        if project.config.contains_key(KEY_REMOVING) {
            return Err(Error::BeingRemoved { remote: client.name().to_owned(), project: name });
        }
        if belongs_to(&project, order) {
            return Ok(());
        }
        let is_prepared =
            project.config.get(KEY_STATE).is_some_and(|stage| stage == Stage::Prepared.as_str());
        if !(is_prepared && belongs_to(&project, prepared.id)) {
            return Err(not_ours(client, &name));
        }
        for (key, value) in [
            (KEY_ORDER, order.to_string()),
            (KEY_PREPARED, prepared.id.to_string()),
            (KEY_STATE, Stage::Placing.as_str().to_owned()),
            (KEY_CREATED, Timestamp::now().as_second().to_string()),
            (KEY_EXPIRES, placement.expires().as_second().to_string()),
        ] {
            project.config.insert(key.to_owned(), value);
        }
        match client.update_project(&project).await {
            Err(error) if error.is_conflict() && tries < CHANGE_TRIES => tries += 1,
            other => return Ok(other?),
        }
    }
}

/// Writes what changes at the hand-over; nothing where that was written before.
pub(crate) async fn mark_handed_over(
    client: &Client,
    order: OrderId,
    placement: &Placement,
    expires_at: Timestamp,
) -> Result<(), Error> {
    let expires = expires_at.max(placement.project.expires());
    update(client, order, placement.project, |config| {
        config.insert(KEY_EXPIRES.into(), expires.as_second().to_string());
        config.insert(KEY_STATE.into(), Stage::Provisioned.as_str().into());
    })
    .await
}

/// Moves the end; nothing where it is there already.
pub(crate) async fn move_end(
    client: &Client,
    order: OrderId,
    project: ProjectName,
    expires_at: Timestamp,
) -> Result<(), Error> {
    update(client, order, project, |config| {
        config.insert(KEY_EXPIRES.into(), expires_at.as_second().to_string());
    })
    .await
}

/// Writes the member that an environment's ports are opened on now; nothing where that was written before.
pub(crate) async fn note_member(client: &Client, project: ProjectName, member: &str) -> Result<(), Error> {
    let mut project = client.project(&project.to_string()).await?;
    let is_due = |tags: ProjectTags| tags.removing.is_none() && tags.member.as_deref() != Some(member);
    if !ProjectTags::read(&project.name, &project.config).is_ok_and(is_due) {
        return Ok(());
    }
    project.config.insert(KEY_MEMBER.into(), member.to_owned());
    Ok(client.update_project(&project).await?)
}

/// Changes the configuration of an order's project.
async fn update(
    client: &Client,
    order: OrderId,
    project: ProjectName,
    change: impl Fn(&mut ConfigMap),
) -> Result<(), Error> {
    let name = project.to_string();
    let mut tries = 1;
    loop {
        let mut project = client.project(&name).await?;
        if !belongs_to(&project, order) {
            return Err(not_ours(client, &name));
        }
        if project.config.contains_key(KEY_REMOVING) {
            return Err(Error::BeingRemoved { remote: client.name().to_owned(), project: name });
        }
        let before = project.config.clone();
        change(&mut project.config);
        if project.config == before {
            return Ok(());
        }
        match client.update_project(&project).await {
            Err(error) if error.is_conflict() && tries < CHANGE_TRIES => tries += 1,
            other => return Ok(other?),
        }
    }
}

/// Removes the project and all that is in it, if it is this order's, or that of what the order was about to take over.
pub(crate) async fn remove(client: &Client, order: OrderId, leftover: &Leftover) -> Result<(), Error> {
    let name = leftover.project.to_string();
    let Some(project) = client.project(&name).await.found()? else { return Ok(()) };
    if !leftover.prepared.iter().chain([&order]).any(|id| belongs_to(&project, *id)) {
        tracing::warn!("{}; left alone", not_ours(client, &name));
        return Ok(());
    }
    empty_and_delete(client, &project, STOP_TIMEOUT, DELETE_TIMEOUT).await
}

/// Removes a project that is prepared under this id, unless an order has taken it over.
pub(crate) async fn remove_prepared(
    client: &Client,
    id: OrderId,
    project: ProjectName,
) -> Result<Removal, Error> {
    remove_if(client, &project.to_string(), DELETE_TIMEOUT, |project| {
        let tags = ProjectTags::read(&project.name, &project.config);
        tags.is_ok_and(|tags| tags.order == id && tags.stage == Stage::Prepared)
    })
    .await
}

/// The successful outcomes of [`remove_if`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was there, and is not any more.
    Removed,
    /// Somebody else has removed it.
    Gone,
    /// It is there: what it says now is no reason to remove it.
    Spared,
}

/// Removes the project and all that is in it, if `is_due` says so of what stands there now.
///
/// From then on the project says that it is being removed, so that nobody extends it or hands it over meanwhile. Its keys
/// go last, with the project: what was begun here and not finished is found, and gone on with, by whoever decides anew.
pub(crate) async fn remove_if(
    client: &Client,
    name: &str,
    operation_time: Duration,
    is_due: impl Fn(&Project) -> bool,
) -> Result<Removal, Error> {
    let mut tries = 1;
    let mut project = loop {
        let Some(mut project) = client.project(name).await.found()? else { return Ok(Removal::Gone) };
        if !is_due(&project) {
            return Ok(Removal::Spared);
        }
        if project.config.contains_key(KEY_REMOVING) {
            break project;
        }
        project.config.insert(KEY_REMOVING.into(), Timestamp::now().as_second().to_string());
        match client.update_project(&project).await {
            Ok(()) => break project,
            Err(error) if error.is_not_found() => return Ok(Removal::Gone),
            Err(error) if error.is_conflict() && tries < CHANGE_TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    };
    let deadline = Instant::now() + REMOVAL_TIMEOUT;
    loop {
        let Err(error) = empty_and_delete(client, &project, operation_time, operation_time).await else {
            return Ok(Removal::Removed);
        };
        match client.project(name).await.found() {
            Ok(None) => return Ok(Removal::Gone),
            // Perhaps somebody else is at the same work, and was in our way.
            Ok(Some(now)) if error.severity() != Severity::Passing && Instant::now() < deadline => {
                project = now;
            }
            _ => return Err(error),
        }
        sleep(SETTLE_PAUSE).await;
    }
}

/// Removes all that is in the project, and then the project.
async fn empty_and_delete(
    client: &Client,
    project: &Project,
    stop_time: Duration,
    delete_time: Duration,
) -> Result<(), Error> {
    let name = &project.name;
    let mut contents = project.contents();
    contents.sort_by_key(order_of_removal);
    for content in contents {
        let has_own = |feature| project.has_own(feature);
        match content {
            Content::Instance(instance) => {
                remove_instance(client, name, &instance, stop_time, delete_time).await?;
            }
            Content::Profile(profile) if profile != "default" && has_own("profiles") => {
                client.delete(&Collection::Profiles, name, &profile).await.found()?;
            }
            Content::Network(network) if has_own("networks") => {
                client.delete(&Collection::Networks, name, &network).await.found()?;
            }
            Content::Volume { pool, name: volume } if has_own("storage.volumes") => {
                client.delete(&Collection::StorageVolumes { pool }, name, &volume).await.found()?;
            }
            Content::Image(image) if has_own("images") => {
                client.delete_image(name, &image, delete_time).await.found()?;
            }
            // If it keeps the project from being deleted, that will say so.
            _ => {}
        }
    }
    client.delete_project(name).await.found()?;
    Ok(())
}

/// Users before what they use.
fn order_of_removal(content: &Content) -> u8 {
    match content {
        Content::Instance(_) => 0,
        Content::Profile(_) => 1,
        _ => 2,
    }
}

/// Stops and deletes an instance. Not there any more, or stopped already, is fine.
async fn remove_instance(
    client: &Client,
    project: &str,
    name: &str,
    stop_time: Duration,
    delete_time: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        match client.stop_instance(project, name, Stop::Force, stop_time).await {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.is_transient() => return Err(error.into()),
            // Whether it has to be stopped the deletion will tell.
            _ => {}
        }
        match client.delete_instance(project, name, delete_time).await.found() {
            Err(error) if error.is_conflict() && Instant::now() < deadline => sleep(SETTLE_PAUSE).await,
            other => return Ok(other.map(drop)?),
        }
    }
}
