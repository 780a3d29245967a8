//! JSON-RPC over the unix socket.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::options::Refused;
use super::params::{Params, RpcError, RpcResult};
use super::{
    ExitReason, Node, channels, datastore, indexes, info, invoices, peers, rune_rules, set_mode, wallet,
};

/// A request larger than this ends the connection.
const MAX_REQUEST: usize = 64 << 20;

/// The node's own methods with their usage.
const METHODS: &[(&str, &str)] = &[
    ("batching", "enable"),
    ("blacklistrune", "[start] [end] [relist]"),
    ("checkrune", "rune [nodeid] [method] [params]"),
    ("connect", "id [host] [port]"),
    ("createrune", "[rune] [restrictions]"),
    ("datastore", "key [string] [hex] [mode] [generation]"),
    ("datastoreusage", "[key]"),
    ("decode", "string"),
    ("deldatastore", "key [generation]"),
    ("delinvoice", "label status [desconly]"),
    ("disconnect", "id [force]"),
    (
        "fundchannel",
        "id amount [feerate] [announce] [minconf] [utxos] [push_msat] [close_to] [request_amt] [compact_lease] [mindepth] [reserve] [channel_type]",
    ),
    ("getinfo", ""),
    ("help", "[command]"),
    (
        "invoice",
        "amount_msat label description [expiry] [fallbacks] [preimage] [exposeprivatechannels] [cltv] [deschashonly]",
    ),
    ("listchannels", "[short_channel_id] [source] [destination]"),
    ("listchainmoves", "[index] [start] [limit]"),
    ("listchannelmoves", "[index] [start] [limit]"),
    ("listconfigs", "[config]"),
    ("listdatastore", "[key]"),
    ("listforwards", "[status] [in_channel] [out_channel] [index] [start] [limit]"),
    ("listfunds", "[spent]"),
    ("listhtlcs", "[id] [index] [start] [limit]"),
    ("listinvoices", "[label] [invstring] [payment_hash] [offer_id] [index] [start] [limit]"),
    ("listnodes", "[id]"),
    ("listpays", "[bolt11] [payment_hash] [status] [index] [start] [limit]"),
    ("listpeerchannels", "[id] [short_channel_id] [channel_id]"),
    ("listpeers", "[id] [level]"),
    ("listsendpays", "[bolt11] [payment_hash] [status] [index] [start] [limit]"),
    ("multifundchannel", "destinations [feerate] [minconf] [utxos] [minchannels] [commitment_feerate]"),
    ("newaddr", "[addresstype]"),
    ("notifications", "enable"),
    (
        "pay",
        "bolt11 [amount_msat] [label] [riskfactor] [maxfeepercent] [retry_for] [maxdelay] [exemptfee] [localinvreqid] [exclude] [maxfee] [description] [partial_msat]",
    ),
    ("ping", "id [len] [pongbytes]"),
    ("plugin", "subcommand=start|stop|startdir|rescan|list"),
    ("showrunes", "[rune]"),
    ("stop", ""),
    ("wait", "subsystem indexname nextvalue"),
    ("waitanyinvoice", "[lastpay_index] [timeout]"),
    ("waitblockheight", "blockheight [timeout]"),
    ("waitinvoice", "label"),
    ("xpay", "invstring [amount_msat] [maxfee] [layers] [retry_for] [partial_msat] [maxdelay] [payer_note]"),
];

/// Methods of the plugin `bcli`, which another plugin may have in its place.
const BACKEND: &[(&str, &str)] = &[("getchaininfo", "[last_height]")];

/// Returns whether `method` is one of the node's own.
pub(super) fn is_own(method: &str) -> bool {
    METHODS.iter().any(|(name, _)| *name == method)
}

/// Path of the socket.
pub(super) fn socket_path(node: &Node) -> PathBuf {
    PathBuf::from(node.options.last("rpc-file").unwrap_or("lightning-rpc"))
}

/// Opens the socket and starts serving it.
pub(super) fn listen(node: &Arc<Node>) -> anyhow::Result<()> {
    let path = socket_path(node);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("removing the old {}", path.display()));
    }
    let mode = node.options.last("rpc-file-mode").unwrap_or("0600");
    let mode = u32::from_str_radix(mode, 8)
        .map_err(|_| anyhow::anyhow!("--rpc-file-mode={mode}: not an octal number"))?;
    let listener =
        UnixListener::bind(&path).with_context(|| format!("Binding rpc socket to '{}'", path.display()))?;
    set_mode(&path, mode).with_context(|| format!("changing the mode of {}", path.display()))?;
    let node = Arc::clone(node);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => drop(tokio::spawn(serve(Arc::clone(&node), socket))),
                Err(error) => {
                    node.log.unusual(&format!("accepting on the rpc socket: {error}"));
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn serve(node: Arc<Node>, socket: UnixStream) {
    let (mut reader, mut writer) = socket.into_split();
    let (answers, mut to_write) = mpsc::channel::<Value>(64);
    tokio::spawn(async move {
        while let Some(answer) = to_write.recv().await {
            if writer.write_all(format!("{answer}\n\n").as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let mut buffer = Vec::new();
    loop {
        match next_json(&mut buffer) {
            Parsed::Request(request) => {
                let (node, answers) = (Arc::clone(&node), answers.clone());
                tokio::spawn(async move {
                    let answer = answer(&node, &request).await;
                    // The caller may have closed the connection.
                    drop(answers.send(answer).await);
                });
            }
            Parsed::Malformed => {
                let error = RpcError::new(-32600, "Invalid token in json input");
                drop(answers.send(json!({"jsonrpc": "2.0", "id": null, "error": error.to_json()})).await);
                return;
            }
            Parsed::Incomplete => {
                if buffer.len() > MAX_REQUEST || !matches!(reader.read_buf(&mut buffer).await, Ok(1..)) {
                    return;
                }
            }
        }
    }
}

pub(super) enum Parsed {
    Request(Value),
    Incomplete,
    Malformed,
}

/// Removes the first JSON value from `buffer`.
pub(super) fn next_json(buffer: &mut Vec<u8>) -> Parsed {
    // A frame is a complete object, so there is nothing to parse before its last byte.
    if !buffer.trim_ascii_end().ends_with(b"}") && !buffer.trim_ascii_end().ends_with(b"]") {
        return Parsed::Incomplete;
    }
    let mut values = serde_json::Deserializer::from_slice(buffer).into_iter();
    match values.next() {
        Some(Ok(value)) => {
            let used = values.byte_offset();
            buffer.drain(..used);
            Parsed::Request(value)
        }
        Some(Err(error)) if !error.is_eof() => Parsed::Malformed,
        _ => Parsed::Incomplete,
    }
}

/// Executes a request and formats its answer, for both the socket and commando.
pub(super) async fn answer(node: &Arc<Node>, request: &Value) -> Value {
    let fail = |id: Value, message: &str| json!({"jsonrpc": "2.0", "id": id, "error": RpcError::new(-32600, message).to_json()});
    if !request.is_object() {
        return fail(Value::Null, "Expected {} for json command");
    }
    let Some(id) = request.get("id").cloned() else { return fail(Value::Null, "No id") };
    if id.is_object() || id.is_array() {
        return fail(Value::Null, "Expected string/primitive for id");
    }
    if request.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return fail(Value::Null, "jsonrpc: \"2.0\" must be specified in the request");
    }
    let (Some(method), Some(params)) = (request.get("method"), request.get("params")) else {
        return fail(id, if request.get("method").is_some() { "No params" } else { "No method" });
    };
    let Some(method) = method.as_str() else { return fail(id, "Expected string for method") };
    if !is_own(method)
        && let Some(plugin) = node.plugins.serving(method)
    {
        // A plugin's answer is passed on unchanged except for its id.
        let mut answer = plugin.request(method, params.clone()).await;
        answer["id"] = id;
        return answer;
    }
    match call(node, method, params).await {
        Ok(mut result) => {
            if let Some(filter) = request.get("filter") {
                result = filtered(&result, filter);
            }
            json!({"jsonrpc": "2.0", "id": id, "result": result})
        }
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error.to_json()}),
    }
}

/// Applies the caller's filter to `result`: objects name the wanted members, and an array's only element is the filter of all
/// elements.
fn filtered(result: &Value, filter: &Value) -> Value {
    match (result, filter) {
        (Value::Object(members), Value::Object(wanted)) => members
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), filtered(value, wanted.get(name)?))))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        (Value::Array(elements), Value::Array(wanted)) => match wanted.first() {
            Some(wanted) => elements.iter().map(|element| filtered(element, wanted)).collect(),
            None => result.clone(),
        },
        _ => result.clone(),
    }
}

async fn call(node: &Arc<Node>, method: &str, given: &Value) -> RpcResult {
    let parse = |names: &[&'static str]| Params::parse(names, given, node.developer);
    match method {
        "batching" | "notifications" => parse(&["enable!"]).map(|_| json!({})),
        "blacklistrune" => rune_rules::blacklist(node, &parse(&["start", "end", "relist"])?),
        "checkrune" => rune_rules::check_call(node, &parse(&["rune!", "nodeid", "method", "params"])?),
        "connect" => peers::connect(node, &parse(&["id!", "host", "port"])?).await,
        "createrune" => rune_rules::create(node, &parse(&["rune", "restrictions"])?),
        "datastore" => datastore::set(node, &parse(&["key!", "string", "hex", "mode", "generation"])?),
        "datastoreusage" => datastore::usage(node, &parse(&["key"])?),
        "decode" => invoices::decode(&parse(&["string!"])?),
        "deldatastore" => datastore::delete(node, &parse(&["key!", "generation"])?),
        "delinvoice" => invoices::delete(node, &parse(&["label!", "status!", "desconly"])?),
        "disconnect" => peers::disconnect(node, &parse(&["id!", "force"])?).await,
        "fundchannel" => channels::fund(node, &parse(channels::FUND_PARAMS)?).await,
        "getchaininfo" => wallet::chain_info(node, &parse(&["last_height"])?).await,
        "getinfo" => parse(&[]).map(|_| info(node)),
        "help" => help(node, &parse(&["command"])?),
        "invoice" => invoices::create(node, &parse(invoices::CREATE_PARAMS)?),
        "listchannels" => {
            channels::list_gossip(node, &parse(&["short_channel_id", "source", "destination"])?)
        }
        "listchainmoves" => indexes::list_nothing(&parse(indexes::PAGE_PARAMS)?, "chainmoves"),
        "listchannelmoves" => indexes::list_channel_moves(node, &parse(indexes::PAGE_PARAMS)?),
        "listconfigs" => parse(&["config"]).map(|_| json!({"configs": {}})),
        "listdatastore" => datastore::list(node, &parse(&["key"])?),
        "listforwards" => indexes::list_nothing(&parse(indexes::FORWARD_PARAMS)?, "forwards"),
        "listhtlcs" => indexes::list_nothing(&parse(indexes::HTLC_PARAMS)?, "htlcs"),
        "listfunds" => wallet::list_funds(node, &parse(&["spent"])?).await,
        "listinvoices" => invoices::list(node, &parse(invoices::LIST_PARAMS)?),
        "listnodes" => peers::list_nodes(node, &parse(&["id"])?),
        "listpays" => channels::list_pays(
            node,
            &parse(&["bolt11", "payment_hash", "status", "index", "start", "limit"])?,
        ),
        "listpeerchannels" => channels::list(node, &parse(&["id", "short_channel_id", "channel_id"])?),
        "listpeers" => peers::list(node, &parse(&["id", "level"])?),
        "listsendpays" => indexes::list_sendpays(node, &parse(indexes::SENDPAY_PARAMS)?),
        "multifundchannel" => channels::fund_many(node, &parse(channels::FUND_MANY_PARAMS)?).await,
        "newaddr" => wallet::new_address(node, &parse(&["addresstype"])?),
        "pay" => channels::pay(node, &parse(channels::PAY_PARAMS)?).await,
        "ping" => peers::ping(node, &parse(&["id!", "len", "pongbytes"])?),
        "plugin" => plugin(node, given).await,
        "showrunes" => rune_rules::show(node, &parse(&["rune"])?),
        "stop" => {
            parse(&[])?;
            node.end(ExitReason::Asked);
            Ok(json!({"result": "Shutdown complete"}))
        }
        "wait" => indexes::wait(node, &parse(&["subsystem!", "indexname!", "nextvalue!"])?).await,
        "waitanyinvoice" => invoices::wait_any(node, &parse(&["lastpay_index", "timeout"])?).await,
        "waitblockheight" => wallet::wait_for_height(node, &parse(&["blockheight!", "timeout"])?).await,
        "waitinvoice" => invoices::wait_one(node, &parse(&["label!"])?).await,
        "xpay" => channels::xpay(node, &parse(channels::XPAY_PARAMS)?).await,
        _ => Err(RpcError::new(-32601, format!("Unknown command '{method}'"))),
    }
}

fn help(node: &Node, params: &Params) -> RpcResult {
    let wanted = params.token("command");
    let backend = BACKEND.iter().filter(|(name, _)| node.plugins.serving(name).is_none());
    let mut all: Vec<(String, String)> = METHODS
        .iter()
        .chain(backend)
        .map(|(name, usage)| ((*name).to_owned(), (*usage).to_owned()))
        .collect();
    all.extend(node.plugins.usages());
    all.sort();
    if let Some(wanted) = wanted {
        all.retain(|(name, _)| *name == wanted);
        if all.is_empty() {
            return Err(RpcError::new(-32601, format!("Unknown command '{wanted}'")));
        }
    }
    let help: Vec<_> =
        all.iter().map(|(name, usage)| json!({"command": format!("{name} {usage}")})).collect();
    Ok(json!({"help": help, "format-hint": "simple"}))
}

/// `plugin list|start|stop`.
async fn plugin(node: &Arc<Node>, given: &Value) -> RpcResult {
    let member = |name: &str, place: usize| {
        let value = if given.is_array() { given.get(place) } else { given.get(name) };
        value.and_then(Value::as_str).map(str::to_owned)
    };
    let missing = |name: &str| RpcError::params(format!("missing required parameter: {name}"));
    let subcommand = member("subcommand", 0).ok_or_else(|| missing("subcommand"))?;
    match subcommand.as_str() {
        "list" => {}
        "start" => {
            let path = member("plugin", 1).ok_or_else(|| missing("plugin"))?;
            let mut settings = given.as_object().cloned().unwrap_or_default();
            settings.retain(|name, _| name != "subcommand" && name != "plugin");
            node.plugins.start(node, &path, settings).await?;
        }
        "stop" => {
            let name = member("plugin", 1).ok_or_else(|| missing("plugin"))?;
            let stopped = node.plugins.stop(node, &name).await?;
            return Ok(json!({"command": "stop", "result": format!("Successfully stopped {stopped}.")}));
        }
        "startdir" | "rescan" => {
            return Err(RpcError::general(format!(
                "plugin {subcommand} is not supported by this simulated lightningd"
            )));
        }
        other => return Err(RpcError::params(format!("Unknown subcommand '{other}'"))),
    }
    Ok(json!({"command": subcommand, "plugins": node.plugins.list()}))
}

impl From<Refused> for RpcError {
    fn from(Refused(sentence): Refused) -> Self {
        Self::new(-3, sentence)
    }
}
