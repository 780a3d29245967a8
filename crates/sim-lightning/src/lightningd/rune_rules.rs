//! The RPC methods of runes: creating, listing, blacklisting, and checking requests.

use std::time::{SystemTime, UNIX_EPOCH};

use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef};
use serde_json::{Value, json};

use super::Node;
use super::params::{Params, RpcError, RpcResult};
use super::runes::{Alternative, Field, NotDerived, Restriction, Rune};
use super::store::{Change, RuneRecord};

const NANOS: u64 = 1_000_000_000;
/// Ids from here on cannot be blacklisted.
const MAX_BLACKLIST: u64 = 100_000_000;

fn param_rune(params: &Params) -> Result<Option<(String, Rune, u64)>, RpcError> {
    let Some(text) = params.token("rune") else { return Ok(None) };
    let rune = Rune::from_base64(&text).ok_or_else(|| params.bad("rune", "should be base64 string"))?;
    let id = rune.numeric_id().ok_or_else(|| params.bad("rune", "should have valid numeric unique_id"))?;
    Ok(Some((text, rune, id)))
}

fn param_restrictions(params: &Params) -> Result<Vec<Restriction>, RpcError> {
    let bad = || params.bad("restrictions", "not a valid restriction (should be array)");
    let parse =
        |texts: &[&str]| texts.iter().map(|text| Alternative::parse(text)).collect::<Option<Restriction>>();
    match params.value("restrictions") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) if text == "readonly" => {
            Ok([&["method^list", "method^get", "method=summary"][..], &["method/listdatastore"]]
                .into_iter()
                .map(|texts| parse(texts).expect("these are well-formed"))
                .collect())
        }
        Some(Value::Array(restrictions)) => restrictions
            .iter()
            .map(|restriction| {
                let texts: Option<Vec<_>> =
                    restriction.as_array().ok_or_else(bad)?.iter().map(Value::as_str).collect();
                texts.and_then(|texts| parse(&texts)).ok_or_else(bad)
            })
            .collect(),
        Some(_) => Err(bad()),
    }
}

/// `createrune`: a new rune, or an existing one with more restrictions.
pub(super) fn create(node: &Node, params: &Params) -> RpcResult {
    let given = param_rune(params)?;
    let restrictions = param_restrictions(params)?;
    let rune = if let Some((_, rune, _)) = given {
        restrictions.into_iter().fold(rune, |rune, restriction| rune.restricted(restriction))
    } else {
        let mut store = node.store();
        let mut counters = store.counters;
        let id = counters.next_rune;
        counters.next_rune += 1;
        let start = node.rune_master.with_id(id);
        let rune = restrictions.into_iter().fold(start, |rune, restriction| rune.restricted(restriction));
        let record = RuneRecord { rune: rune.to_base64(), last_used: None };
        node.commit(&mut store, vec![Change::Counters(counters), Change::Rune(id, record)]);
        rune
    };
    let mut answer = json!({"rune": rune.to_base64(), "unique_id": rune.unique_id()});
    if rune.conditions().is_empty() {
        answer["warning_unrestricted_rune"] = json!(
            "WARNING: This rune has no restrictions! Anyone who has access to this rune could drain funds from your node. \
             Be careful when giving this to apps that you don't trust. Consider using the restrictions parameter to only \
             allow access to specific rpc methods."
        );
    }
    Ok(answer)
}

fn is_blacklisted(ranges: &[(u64, u64)], id: u64) -> bool {
    ranges.iter().any(|(from, to)| (*from..=*to).contains(&id))
}

/// `showrunes`.
pub(super) fn show(node: &Node, params: &Params) -> RpcResult {
    let given = param_rune(params)?;
    let store = node.store();
    let describe = |text: &str, rune: &Rune, id: u64| {
        let record = store.runes.get(&id);
        let mut shown = json!({"rune": text, "unique_id": rune.unique_id()});
        if record.is_none_or(|record| record.rune != text) {
            shown["stored"] = json!(false);
        }
        if is_blacklisted(&store.blacklist, id) {
            shown["blacklisted"] = json!(true);
        }
        if rune.derives_from(&node.rune_master).is_err() {
            shown["our_rune"] = json!(false);
        }
        if let Some(used) = record.and_then(|record| record.last_used) {
            shown["last_used"] = json!(std::time::Duration::from_nanos(used).as_secs_f64());
        }
        let mut all = Vec::new();
        let restrictions = rune.conditions().iter().map(|restriction| {
            let alternatives: Vec<_> = restriction
                .iter()
                .map(|alternative| {
                    json!({"fieldname": alternative.field, "value": alternative.value,
                           "condition": alternative.condition.to_string(), "english": alternative.english()})
                })
                .collect();
            let english = restriction.iter().map(Alternative::english).collect::<Vec<_>>().join(" OR ");
            all.push(english.clone());
            json!({"alternatives": alternatives, "english": english})
        });
        shown["restrictions"] = restrictions.collect();
        shown["restrictions_as_english"] = json!(all.join(" AND "));
        shown
    };
    let runes: Vec<_> = match &given {
        Some((text, rune, id)) => vec![describe(text, rune, *id)],
        None => store
            .runes
            .iter()
            .filter_map(|(id, record)| Some(describe(&record.rune, &Rune::from_base64(&record.rune)?, *id)))
            .collect(),
    };
    Ok(json!({"runes": runes}))
}

/// `blacklistrune`.
pub(super) fn blacklist(node: &Node, params: &Params) -> RpcResult {
    let (start, end) = (params.u64("start")?, params.u64("end")?);
    let relist = params.bool("relist")?.unwrap_or(false);
    if end.is_some() && start.is_none() {
        return Err(RpcError::params("Can not specify end without start"));
    }
    if end.or(start).is_some_and(|end| end >= MAX_BLACKLIST) {
        return Err(RpcError::params(format!("Cannot blacklist beyond {MAX_BLACKLIST}")));
    }
    let mut store = node.store();
    if let Some(start) = start {
        let end = end.unwrap_or(start);
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (from, to) in store.blacklist.iter().copied() {
            // The parts outside of the range stay blacklisted.
            if from < start {
                ranges.push((from, to.min(start - 1)));
            }
            if to > end {
                ranges.push((from.max(end + 1), to));
            }
        }
        if !relist && start <= end {
            ranges.push((start, end));
        }
        ranges.sort_unstable();
        let joined = ranges.into_iter().fold(Vec::new(), |mut joined: Vec<(u64, u64)>, (from, to)| {
            match joined.last_mut() {
                Some((_, last)) if *last + 1 >= from => *last = to.max(*last),
                _ => joined.push((from, to)),
            }
            joined
        });
        node.commit(&mut store, vec![Change::Blacklist(joined)]);
    }
    let shown: Vec<_> =
        store.blacklist.iter().map(|(start, end)| json!({"start": start, "end": end})).collect();
    Ok(json!({"blacklist": shown}))
}

/// `checkrune`, which also counts as a use of the rune.
pub(super) fn check_call(node: &Node, params: &Params) -> RpcResult {
    let (_, rune, id) = param_rune(params)?.expect("required");
    let peer = params.node_id("nodeid")?.map(|id| id.to_string());
    let method = params.token("method");
    if params.value("params").is_some_and(|given| !given.is_array() && !given.is_object()) {
        return Err(params.bad("params", "must be object or array"));
    }
    let request =
        Request { peer: peer.as_deref(), method: method.as_deref(), params: params.value("params") };
    check(node, &rune, id, &request)?;
    Ok(json!({"valid": true}))
}

/// The request that a rune is checked against.
pub(super) struct Request<'a> {
    pub(super) peer: Option<&'a str>,
    pub(super) method: Option<&'a str>,
    pub(super) params: Option<&'a Value>,
}

/// Checks whether `rune` permits a request, and if so records its use.
pub(super) fn check(node: &Node, rune: &Rune, id: u64, request: &Request<'_>) -> Result<(), RpcError> {
    let mut store = node.store();
    if is_blacklisted(&store.blacklist, id) {
        return Err(RpcError::new(1503, "Not authorized: Blacklisted rune"));
    }
    rune.derives_from(&node.rune_master)
        .map_err(|NotDerived(problem)| RpcError::new(1501, format!("Not authorized: {problem}")))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let record = store.runes.get(&id);
    // A known rune that was never used counts as used in 1970.
    let last_used = record.map(|record| record.last_used.unwrap_or(0));
    let verdict = rune.test(|alternative| match alternative.field.as_str() {
        "time" => alternative.test(&Field::Int(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))),
        "id" => alternative.test(&text(request.peer)),
        "method" => alternative.test(&text(request.method)),
        "pnum" => {
            let count = request.params.map_or(0, |params| {
                params.as_array().map_or_else(|| params.as_object().map_or(0, serde_json::Map::len), Vec::len)
            });
            alternative.test(&Field::Int(i64::try_from(count).unwrap_or(i64::MAX)))
        }
        "rate" => spaced(last_used, nanos, rate(alternative)?),
        "per" => spaced(last_used, nanos, per(alternative)?),
        field => match field.strip_prefix("pinv") {
            Some(rest) => invoice_condition(alternative, rest, request.params),
            None => alternative.test(&parameter(field, request.params)),
        },
    });
    verdict.map_err(|problem| {
        let english = [
            ("pname", "parameter "),
            ("parr", "parameter #"),
            ("pnum", "number of parameters"),
            ("pinv", "invoice parameter "),
        ]
        .into_iter()
        .find_map(|(prefix, words)| problem.strip_prefix(prefix).map(|rest| format!("{words}{rest}")));
        RpcError::new(1502, format!("Not permitted: {}", english.unwrap_or(problem)))
    })?;
    if let Some(record) = record.cloned() {
        node.commit(&mut store, vec![Change::Rune(id, RuneRecord { last_used: Some(nanos), ..record })]);
    }
    Ok(())
}

fn text(value: Option<&str>) -> Field {
    value.map_or(Field::Missing, |value| Field::Text(value.to_owned()))
}

/// Allows a use if the last one, of this rune or of one with its id, was at least `gap` nanoseconds ago.
fn spaced(last_used: Option<u64>, now: u64, gap: u64) -> Result<(), String> {
    match last_used {
        Some(last) if now.saturating_sub(last) < gap => Err("too soon".into()),
        _ => Ok(()),
    }
}

/// Parses the number at the beginning, and returns it with the rest.
fn leading_number(value: &str) -> (Option<u64>, &str) {
    let value = value.trim_start();
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    (
        value[..digits].parse().ok().filter(|number| (1..u64::from(u32::MAX)).contains(number)),
        &value[digits..],
    )
}

/// Nanoseconds between uses for `rate=N`, where N is per minute.
fn rate(alternative: &Alternative) -> Result<u64, String> {
    if alternative.condition != '=' {
        return Err("rate operator must be =".into());
    }
    match leading_number(&alternative.value) {
        (Some(rate), "") => Ok(60 * NANOS / rate),
        _ => Err("malformed rate".into()),
    }
}

/// Nanoseconds between uses for `per=N` with an optional unit; the default is seconds.
fn per(alternative: &Alternative) -> Result<u64, String> {
    if alternative.condition != '=' {
        return Err("per operator must be =".into());
    }
    let (number, unit) = leading_number(&alternative.value);
    let number = number.ok_or("malformed per")?;
    let unit = match unit {
        "" | "sec" => NANOS,
        "nsec" => 1,
        "usec" => 1_000,
        "msec" => 1_000_000,
        "min" => 60 * NANOS,
        "hour" => 3_600 * NANOS,
        "day" => 86_400 * NANOS,
        _ => return Err("malformed suffix".into()),
    };
    number.checked_mul(unit).ok_or_else(|| "per overflow".into())
}

/// The value of `pnameX` or `parrN`; X may omit punctuation of the name.
fn find_parameter<'a>(field: &str, params: Option<&'a Value>) -> Option<&'a Value> {
    match params? {
        Value::Array(list) => list.get(field.strip_prefix("parr")?.parse::<usize>().ok()?),
        Value::Object(map) => {
            let wanted = field.strip_prefix("pname")?;
            let plain = |name: &str| name.chars().filter(|c| !c.is_ascii_punctuation()).collect::<String>();
            map.iter().find(|(name, _)| *name == wanted || plain(name) == wanted).map(|(_, value)| value)
        }
        _ => None,
    }
}

fn parameter(field: &str, params: Option<&Value>) -> Field {
    match find_parameter(field, params) {
        None => Field::Missing,
        Some(Value::String(text)) => Field::Text(text.clone()),
        Some(value) => value.as_i64().map_or_else(|| Field::Text(value.to_string()), Field::Int),
    }
}

/// `pinvX_amount`, `pinvX_description`, `pinvX_node`: fields of the invoice in parameter X.
fn invoice_condition(alternative: &Alternative, rest: &str, params: Option<&Value>) -> Result<(), String> {
    let (name, field) = ["_amount", "_description", "_node"]
        .into_iter()
        .find_map(|suffix| Some((rest.strip_suffix(suffix)?, suffix)))
        .ok_or_else(|| format!("Unknown invoice field {rest}"))?;
    let value = find_parameter(&format!("pname{name}"), params)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("Unknown invoice parameter {name}"))?;
    let value =
        value.strip_prefix("lightning:").or_else(|| value.strip_prefix("LIGHTNING:")).unwrap_or(value);
    let invoice: Bolt11Invoice = value.parse().map_err(|error| format!("Invalid invoice: {error}"))?;
    alternative.test(&match field {
        "_amount" => invoice
            .amount_milli_satoshis()
            .map_or(Field::Missing, |msat| Field::Int(i64::try_from(msat).unwrap_or(i64::MAX))),
        "_node" => Field::Text(invoice.get_payee_pub_key().to_string()),
        _ => match invoice.description() {
            Bolt11InvoiceDescriptionRef::Direct(text) => Field::Text(text.as_inner().0.clone()),
            Bolt11InvoiceDescriptionRef::Hash(_) => Field::Missing,
        },
    })
}
