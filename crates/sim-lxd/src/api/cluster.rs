//! The members of a cluster.

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Ctx, Params, Shared, accepted, not_found, ok, parse, refuse};
use crate::{evacuation, member::Member};

fn render(shared: &Shared, member: &Member) -> Value {
    let leader = shared.members.iter().find(|m| m.is_alive());
    member.render(shared.offline_after(), leader.is_some_and(|leader| leader.name == member.name))
}

pub(super) async fn list(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    if !shared.clustered {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Server is not clustered");
    }
    let members = shared.members.iter().map(|member| (member.name.clone(), render(&shared, member)));
    Params { project: "default".into(), ..params }.list("cluster/members", members.collect())
}

pub(super) async fn read(State(shared): Ctx, Path(name): Path<String>) -> Answer {
    match shared.member(&name).filter(|_| shared.clustered) {
        Some(member) => ok(render(&shared, member)),
        None => not_found("Cluster member not found"),
    }
}

#[derive(Deserialize)]
struct NewState {
    #[serde(default)]
    action: String,
    /// Incus only: overrides each instance's `cluster.evacuate`.
    #[serde(default)]
    mode: String,
}

pub(super) async fn put_state(State(shared): Ctx, Path(name): Path<String>, body: Bytes) -> Answer {
    let NewState { action, mode } = parse(&body)?;
    let resources = json!({"cluster_members": [format!("/1.0/cluster/members/{name}")]});
    let operation = match action.as_str() {
        "evacuate" => {
            let work = {
                let shared = shared.clone();
                async move { evacuation::evacuate(&shared, &name, &mode).await.map(|()| Value::Null) }
            };
            shared.operations.start("Evacuating cluster member", resources, work)
        }
        "restore" => {
            let work = {
                let shared = shared.clone();
                async move { evacuation::restore(&shared, &name).await.map(|()| Value::Null) }
            };
            shared.operations.start("Restoring cluster member", resources, work)
        }
        _ => return refuse(StatusCode::BAD_REQUEST, format!("Unknown action {action:?}")),
    };
    accepted(&operation)
}
