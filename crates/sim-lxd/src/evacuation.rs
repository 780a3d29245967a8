//! Evacuates and restores cluster members, as `evacuateClusterMember` and `restoreClusterMember` in LXD 5.0.2's
//! `lxd/api_cluster.go` do.

use std::{sync::Arc, time::Duration};

use crate::{
    api::{self, Shared, least_used},
    instance::{DeviceMap, Instance},
    proxy,
};

/// The original member of an instance that was moved.
const ORIGIN: &str = "volatile.evacuate.origin";

/// Time-out of a clean stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Stops a member's instances and moves those that can be moved. A mode that is neither empty nor `auto` overrides all
/// instances' settings. If an instance does not start on its new member, the evacuation fails, and the member is back in service.
pub(crate) async fn evacuate(shared: &Arc<Shared>, name: &str, mode: &str) -> Result<(), String> {
    let member = shared.member(name).ok_or("Cluster member not found")?;
    if std::mem::replace(&mut member.state().evacuated, true) {
        return Err("Cluster member is already evacuated".into());
    }
    let result = async {
        for instance in instances(shared, |i| i.member().name == name) {
            let ran = instance.is_running();
            if ran {
                // It may have stopped already.
                instance.end(STOP_TIMEOUT).await.ok();
            }
            let mode =
                if ["", "auto"].contains(&mode) { policy(shared, &instance)? } else { mode.to_owned() };
            if !["migrate", "live-migrate"].contains(&mode.as_str()) {
                continue;
            }
            let Some(target) = least_used(shared, None) else { continue };
            if instance.volatile(ORIGIN).is_none() {
                instance.set_volatile(ORIGIN, Some(name));
            }
            instance.move_to(target);
            if ran {
                start(shared, &instance).await?;
            }
        }
        Ok(())
    }
    .await;
    if result.is_err() {
        member.state().evacuated = false;
    }
    result
}

/// Puts a member back into service, with the instances that were stopped or moved.
pub(crate) async fn restore(shared: &Arc<Shared>, name: &str) -> Result<(), String> {
    let member = shared.member(name).ok_or("Cluster member not found")?;
    if !std::mem::replace(&mut member.state().evacuated, false) {
        return Err("Cluster member is already restored".into());
    }
    let result = async {
        for instance in instances(shared, |i| i.member().name == name && i.was_running() && !i.is_running()) {
            start(shared, &instance).await?;
        }
        for instance in instances(shared, |i| i.volatile(ORIGIN).as_deref() == Some(name)) {
            let ran = instance.is_running();
            if ran {
                instance.end(STOP_TIMEOUT).await.ok();
            }
            instance.move_to(member.clone());
            instance.set_volatile(ORIGIN, None);
            if ran {
                start(shared, &instance).await?;
            }
        }
        Ok(())
    }
    .await;
    if result.is_err() {
        member.state().evacuated = true;
    }
    result
}

async fn start(shared: &Shared, instance: &Arc<Instance>) -> Result<(), String> {
    let failed = |e| format!("Failed to start instance {:?}: {e}", instance.name);
    api::start(shared, instance).await.map_err(failed)
}

fn instances(shared: &Shared, which: impl Fn(&Instance) -> bool) -> Vec<Arc<Instance>> {
    let model = shared.model();
    let all = model.projects.values().flat_map(|p| p.instances.values());
    all.filter(|instance| which(instance)).cloned().collect()
}

/// The policy in the instance's configuration; otherwise derived from its devices: an instance with a proxy cannot be moved.
fn policy(shared: &Shared, instance: &Instance) -> Result<String, String> {
    let settings = instance.settings();
    match settings.config.get("cluster.evacuate").map(String::as_str) {
        None | Some("" | "auto") => {
            let devices = shared.start_of(instance, &settings)?.devices;
            Ok(if can_move(&devices) { "migrate" } else { "stop" }.to_owned())
        }
        Some(policy) => Ok(policy.to_owned()),
    }
}

/// `CanMigrate` of the devices: only the kinds below can be moved.
fn can_move(devices: &DeviceMap) -> bool {
    devices.values().all(|options| {
        let option = |key: &str| options.get(key).map_or("", String::as_str);
        !proxy::is_proxy(options)
            && match option("type") {
                "none" => true,
                "disk" => option("path") == "/",
                "nic" => !option("network").is_empty(),
                _ => false,
            }
    })
}
