//! Forwards a call from the member that received it to the member that must execute it.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Query, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{At, Ctx, Entry, Params, Refusal, Shared, error};
use crate::{
    member::{Member, Status},
    serve,
};

/// Without a quorum the database cannot be read, and every call waits for it.
pub(super) async fn await_quorum(State(shared): Ctx, request: Request, next: Next) -> Response {
    // The sender lives as long as the remote.
    shared.quorum.subscribe().wait_for(|has| *has).await.ok();
    next.run(request).await
}

/// Determines the member that must execute the call, and lets it.
pub(super) async fn forward(
    State(shared): Ctx,
    Extension(Entry(entry)): Extension<Entry>,
    mut request: Request,
    next: Next,
) -> Response {
    let member = match destination(&shared, &request) {
        Ok(member) => member.unwrap_or_else(|| entry.clone()),
        Err(refusal) => return refusal.into_response(),
    };
    request.extensions_mut().insert(At(member.clone()));
    if member.name == entry.name {
        return next.run(request).await;
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let broken = |why: &str| {
        let verb = format!("{}{}", &method.as_str()[..1], method.as_str()[1..].to_lowercase());
        error(StatusCode::INTERNAL_SERVER_ERROR, &format!("{verb} \"{}{uri}\": {why}", member.url()))
    };
    if !member.is_alive() {
        if method == Method::POST && uri.path() == "/1.0/instances" {
            // The only call that is forwarded without waiting for the member's events.
            let address = member.address;
            return broken(&format!(
                "Unable to connect to: {address} ([dial tcp {address}: connect: connection refused])"
            ));
        }
        tokio::time::sleep(shared.peer_timeout).await;
        let text = "Missing event connection with target cluster member";
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &shared.in_words_of(text, "context deadline exceeded"),
        );
    }
    let fault = member.faults.forwarded(&method, uri.path(), uri.query().unwrap_or_default());
    let carried = serve::carry_out(&member, fault, next.run(request));
    match member.life().run_until_cancelled(carried).await {
        Some(Some(answer)) => answer,
        Some(None) | None => broken("EOF"),
    }
}

/// The member that must execute a call; `None` if any can.
fn destination(shared: &Shared, request: &Request) -> Result<Option<Arc<Member>>, Refusal> {
    let Ok(Query(params)) = Query::<Params>::try_from_uri(request.uri()) else { return Ok(None) };
    let path: Vec<&str> = request.uri().path().trim_start_matches("/1.0/").split('/').collect();
    match (request.method(), &path[..]) {
        (&Method::POST, ["instances"]) => for_new_instance(shared, &params),
        (_, ["instances", name] | ["instances", name, "state"]) => {
            let model = shared.model();
            let instance = model.projects.get(&params.project).and_then(|p| p.instances.get(*name));
            Ok(instance.map(|instance| instance.member()))
        }
        (_, ["operations", id] | ["operations", id, "wait"]) => {
            let operation = shared.operations.get(id);
            Ok(operation.and_then(|operation| operation.member().cloned()))
        }
        (&Method::POST, ["cluster", "members", name, "state"]) => named(shared, name).map(Some),
        (
            &Method::GET,
            ["resources"] | ["networks" | "storage-pools", _] | ["storage-pools", _, "resources"],
        ) => params.target.as_deref().map(|name| named(shared, name)).transpose(),
        _ => Ok(None),
    }
}

fn named(shared: &Shared, name: &str) -> Result<Arc<Member>, Refusal> {
    let missing = || Refusal(StatusCode::NOT_FOUND, "Cluster member not found".into());
    shared.member(name).cloned().ok_or_else(missing)
}

/// The member for a new instance: the requested one, or the one with the fewest instances among those that accept instances
/// without being targeted.
fn for_new_instance(shared: &Shared, params: &Params) -> Result<Option<Arc<Member>>, Refusal> {
    let refuse = |text: String| Err(Refusal(StatusCode::BAD_REQUEST, text));
    let target = params.target.as_deref().unwrap_or_default();
    if !shared.clustered {
        return if target.is_empty() {
            Ok(None)
        } else {
            refuse("Target only allowed when clustered".into())
        };
    }
    if !shared.model().projects.contains_key(&params.project) {
        return Ok(None);
    }
    let group = target.strip_prefix('@');
    if group.is_none() && !target.is_empty() {
        return named(shared, target).map(Some);
    }
    if let Some(group) = group
        && !shared.members.iter().any(|m| m.state().groups.iter().any(|g| g == group))
    {
        return refuse(format!("Cluster group {group:?} doesn't exist"));
    }
    match least_used(shared, group) {
        Some(member) => Ok(Some(member)),
        None => refuse("No suitable cluster member could be found".into()),
    }
}

/// The member with the fewest instances, in the requested group if any, among those that accept instances without being targeted.
pub(crate) fn least_used(shared: &Shared, group: Option<&str>) -> Option<Arc<Member>> {
    let takes = |member: &&Arc<Member>| {
        let is_online = shared.status(member) == Status::Online;
        let state = member.state();
        let is_in_group = group.is_some_and(|group| state.groups.iter().any(|g| g == group));
        let scheduler = state.config.get("scheduler.instance").map_or("all", String::as_str);
        let by_scheduler = match scheduler {
            "manual" => false,
            "group" => is_in_group,
            _ => group.is_none() || is_in_group,
        };
        is_online && by_scheduler
    };
    let model = shared.model();
    let instances = || model.projects.values().flat_map(|p| p.instances.values());
    let count = |member: &Arc<Member>| instances().filter(|i| i.member().name == member.name).count();
    shared.members.iter().filter(takes).min_by_key(|member| count(member)).cloned()
}
