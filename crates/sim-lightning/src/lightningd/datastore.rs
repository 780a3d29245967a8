//! The datastore: a tree of keys, in which every value has a generation.

use std::ops::Bound;

use serde_json::{Value, json};

use super::Node;
use super::params::{Params, RpcError, RpcResult};
use super::store::{Change, Datum, Store};

fn shown(key: &[String], datum: Option<&Datum>) -> Value {
    let mut shown = json!({"key": key});
    if let Some(Datum { data, generation }) = datum {
        shown["generation"] = json!(generation);
        shown["hex"] = json!(hex::encode(data));
        if let Ok(text) = std::str::from_utf8(data) {
            shown["string"] = json!(text);
        }
    }
    shown
}

/// The entries at and below `key`, in order.
fn below<'a>(store: &'a Store, key: &'a [String]) -> impl Iterator<Item = (&'a Vec<String>, &'a Datum)> {
    let from = (Bound::Included(key.to_vec()), Bound::Unbounded);
    store.data.range::<Vec<String>, _>(from).take_while(move |(found, _)| found.starts_with(key))
}

fn key_text(key: &[String]) -> String {
    format!("[{}]", key.join(","))
}

/// `datastore`.
pub(super) fn set(node: &Node, params: &Params) -> RpcResult {
    let key = params.key("key")?.expect("required");
    let bytes =
        params.token("hex").map(|text| hex::decode(text).map_err(|_| params.bad("hex", "should be hex")));
    let mut data = match (params.string("string")?, bytes.transpose()?) {
        (Some(_), Some(_)) => return Err(RpcError::params("Cannot have both hex and string")),
        (Some(text), None) => text.into_bytes(),
        (None, Some(bytes)) => bytes,
        (None, None) => return Err(RpcError::params("Must have either hex or string")),
    };
    let (must_exist, must_not, append) = match params.token("mode").as_deref() {
        None | Some("must-create") => (false, true, false),
        Some("must-replace") => (true, false, false),
        Some("create-or-replace") => (false, false, false),
        Some("must-append") => (true, false, true),
        Some("create-or-append") => (false, false, true),
        Some(_) => {
            let modes = "should be 'must-create', 'must-replace', 'create-or-replace', 'must-append', or 'create-or-append'";
            return Err(params.bad("mode", modes));
        }
    };
    let generation = params.u64("generation")?;
    if generation.is_some() && !must_exist {
        return Err(RpcError::params("generation only valid with must-replace or must-append"));
    }

    let mut store = node.store();
    let previous = store.data.get(&key).cloned();
    if previous.is_none() {
        if below(&store, &key).next().is_some() {
            return Err(RpcError::new(1205, "Key has children already"));
        }
        if let Some(parent) =
            (1..key.len()).map(|length| &key[..length]).find(|parent| store.data.contains_key(*parent))
        {
            return Err(RpcError::new(1206, format!("Parent key {} exists", key_text(parent))));
        }
    }
    let next = match previous {
        Some(_) if must_not => return Err(RpcError::new(1202, "Key already exists")),
        None if must_exist => return Err(RpcError::new(1203, "Key does not exist")),
        Some(old) if generation.is_some_and(|wanted| wanted != old.generation) => {
            return Err(RpcError::new(1204, "generation is different"));
        }
        Some(old) => {
            if append {
                data.splice(..0, old.data);
            }
            old.generation + 1
        }
        None => 0,
    };
    let datum = Datum { data, generation: next };
    let answer = shown(&key, Some(&datum));
    node.commit(&mut store, vec![Change::Datum(key, datum)]);
    Ok(answer)
}

/// `deldatastore`.
pub(super) fn delete(node: &Node, params: &Params) -> RpcResult {
    let key = params.key("key")?.expect("required");
    let generation = params.u64("generation")?;
    let mut store = node.store();
    let datum = store.data.get(&key).ok_or_else(|| RpcError::new(1200, "Key does not exist"))?;
    if generation.is_some_and(|wanted| wanted != datum.generation) {
        return Err(RpcError::new(1201, "generation is different"));
    }
    let answer = shown(&key, Some(datum));
    node.commit(&mut store, vec![Change::DatumGone(key)]);
    Ok(answer)
}

/// `listdatastore`: the key and its children. If only a grandchild exists, its parent is listed without a value.
pub(super) fn list(node: &Node, params: &Params) -> RpcResult {
    let key = params.key("key")?.unwrap_or_default();
    let store = node.store();
    let mut listed: Vec<Value> = Vec::new();
    let mut summarised: Option<&[String]> = None;
    for (found, datum) in below(&store, &key) {
        if found.len() <= key.len() + 1 {
            listed.push(shown(found, Some(datum)));
        } else if summarised.is_none_or(|parent| !found.starts_with(parent)) {
            let parent = &found[..=key.len()];
            listed.push(shown(parent, None));
            summarised = Some(parent);
        }
    }
    Ok(json!({"datastore": listed}))
}

/// `datastoreusage`: bytes of values and keys at and below the key.
pub(super) fn usage(node: &Node, params: &Params) -> RpcResult {
    let mut key = params.key("key")?.unwrap_or_default();
    if key.first().is_some_and(String::is_empty) {
        key.clear();
    }
    let store = node.store();
    let total: usize = below(&store, &key)
        .map(|(found, datum)| {
            datum.data.len() + found.iter().map(String::len).sum::<usize>() + found.len() - 1
        })
        .sum();
    Ok(json!({"datastoreusage": {"key": key_text(&key), "total_bytes": total}}))
}
