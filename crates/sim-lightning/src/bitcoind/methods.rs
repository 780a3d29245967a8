//! The supported methods.

use std::collections::HashSet;
use std::str::FromStr as _;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{
    Address, Amount, Block, BlockHash, Network, OutPoint, PrivateKey, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Witness, absolute, transaction,
};
use serde_json::{Value, json};

use super::chain::{Chain, Coin};
use super::rpc::{Node, RpcError};
use super::{VERSION, show, sign};

const INVALID_PARAMETER: i32 = -8;
const INVALID_ADDRESS_OR_KEY: i32 = -5;
const TYPE_ERROR: i32 = -3;
const DESERIALIZATION: i32 = -22;
/// `sendrawtransaction`'s default, 0.10 BTC per 1000 virtual bytes.
const DEFAULT_MAX_FEE_RATE: u64 = 10_000_000;

/// Every method with the names of its parameters, in order.
const METHODS: &[(&str, &[&str])] = &[
    ("createrawtransaction", &["inputs", "outputs", "locktime", "replaceable"]),
    ("estimatesmartfee", &["conf_target", "estimate_mode"]),
    ("generatetoaddress", &["nblocks", "address", "maxtries"]),
    ("getbestblockhash", &[]),
    ("getblock", &["blockhash", "verbosity"]),
    ("getblockchaininfo", &[]),
    ("getblockcount", &[]),
    ("getblockhash", &["height"]),
    ("getblockheader", &["blockhash", "verbose"]),
    ("getmempoolinfo", &[]),
    ("getnetworkinfo", &[]),
    ("getrawmempool", &["verbose"]),
    ("gettxout", &["txid", "n", "include_mempool"]),
    ("gettxoutsetinfo", &["hash_type"]),
    ("scantxoutset", &["action", "scanobjects"]),
    ("sendrawtransaction", &["hexstring", "maxfeerate", "maxburnamount"]),
    ("setmocktime", &["timestamp"]),
    ("signrawtransactionwithkey", &["hexstring", "privkeys", "prevtxs", "sighashtype"]),
    ("stop", &["wait"]),
];

/// Parameters in their method's order; missing ones are null.
struct Args(Vec<Value>);

impl Args {
    fn of(names: &[&str], params: &Value) -> Result<Self, RpcError> {
        match params {
            Value::Null => Ok(Self(Vec::new())),
            Value::Array(values) if values.len() > names.len() => Err(RpcError::new(
                -1,
                format!("takes at most {} parameters: {}", names.len(), names.join(" ")),
            )),
            Value::Array(values) => Ok(Self(values.clone())),
            Value::Object(by_name) => {
                if let Some(unknown) = by_name.keys().find(|name| !names.contains(&name.as_str())) {
                    return Err(RpcError::new(
                        INVALID_PARAMETER,
                        format!("Unknown named parameter {unknown}"),
                    ));
                }
                Ok(Self(names.iter().map(|name| by_name.get(*name).cloned().unwrap_or_default()).collect()))
            }
            _ => Err(RpcError::new(-32600, "Params must be an array or object")),
        }
    }

    fn value(&self, index: usize) -> &Value {
        self.0.get(index).unwrap_or(&Value::Null)
    }

    fn str(&self, index: usize) -> Result<&str, RpcError> {
        self.value(index).as_str().ok_or_else(|| wrong_type(index, "string", self.value(index)))
    }

    fn number<T: TryFrom<u64>>(&self, index: usize) -> Result<T, RpcError> {
        let number = self.value(index).as_u64().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| wrong_type(index, "number", self.value(index)))
    }

    /// A number, for which the real daemon also accepts a boolean; `absent` is the default.
    fn level(&self, index: usize, absent: u64) -> Result<u64, RpcError> {
        match self.value(index) {
            Value::Null => Ok(absent),
            Value::Bool(flag) => Ok(u64::from(*flag)),
            _ => self.number(index),
        }
    }

    fn array(&self, index: usize) -> Result<&[Value], RpcError> {
        self.value(index)
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| wrong_type(index, "array", self.value(index)))
    }

    /// A block hash or transaction id.
    fn hash<T: std::str::FromStr>(&self, index: usize, name: &str) -> Result<T, RpcError> {
        parse_hash(self.str(index)?, name)
    }

    fn transaction(&self, index: usize) -> Result<Transaction, RpcError> {
        deserialize_hex(self.str(index)?).map_err(|_| {
            RpcError::new(DESERIALIZATION, "TX decode failed. Make sure the tx has at least one input.")
        })
    }
}

fn wrong_type(index: usize, wanted: &str, got: &Value) -> RpcError {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    RpcError::new(
        TYPE_ERROR,
        format!(
            "Wrong type passed: position {}: JSON value of type {got} is not of expected type {wanted}",
            index + 1
        ),
    )
}

fn parse_hash<T: std::str::FromStr>(text: &str, name: &str) -> Result<T, RpcError> {
    text.parse().map_err(|_| {
        let problem = if text.len() == 64 {
            format!("{name} must be hexadecimal string (not '{text}')")
        } else {
            format!("{name} must be of length 64 (not {}, for '{text}')", text.len())
        };
        RpcError::new(INVALID_PARAMETER, problem)
    })
}

/// Runs one method.
pub(super) fn call(node: &Node, method: &str, params: &Value) -> Result<Value, RpcError> {
    let Some((_, names)) = METHODS.iter().find(|(name, _)| *name == method) else {
        return Err(RpcError::new(-32601, "Method not found"));
    };
    let args = Args::of(names, params)?;
    let mut guard = node.chain.lock().expect("no handler panics");
    let chain = &mut *guard;
    Ok(match method {
        "createrawtransaction" => json!(serialize_hex(&create(&args)?)),
        // The real daemon's answer on a chain without fees.
        "estimatesmartfee" => {
            json!({"errors": ["Insufficient data or no feerate found"], "blocks": args.number::<u32>(0)?})
        }
        "generatetoaddress" => generate(chain, &args)?,
        "getbestblockhash" => json!(chain.best()),
        "getblock" => block(chain, &args)?,
        "getblockchaininfo" => chain_info(chain),
        "getblockcount" => json!(chain.height()),
        "getblockhash" => {
            let found =
                u32::try_from(args.value(0).as_i64().ok_or_else(|| wrong_type(0, "number", args.value(0)))?);
            let found = found.ok().and_then(|height| chain.at(height));
            json!(found.ok_or_else(|| RpcError::new(INVALID_PARAMETER, "Block height out of range"))?.0)
        }
        // Callers use it mostly for a side effect of the real daemon: it writes the coins to disk.
        "gettxoutsetinfo" => {
            json!({"height": chain.height(), "bestblock": chain.best(), "txouts": chain.coin_count()})
        }
        "getblockheader" => {
            let (height, block) = find_block(chain, &args)?;
            match args.level(1, 1)? {
                0 => json!(serialize_hex(&block.header)),
                _ => show::header(chain, height, block),
            }
        }
        "getmempoolinfo" => {
            let size: usize = chain.pool().iter().map(|pooled| pooled.tx.vsize()).sum();
            json!({"loaded": true, "size": chain.pool().len(), "bytes": size, "mempoolminfee": 0.000_001,
                   "minrelaytxfee": 0.000_001, "incrementalrelayfee": 0.000_001})
        }
        "getnetworkinfo" => json!({
            "version": VERSION, "subversion": "/Satoshi:31.0.0(simulated)/", "protocolversion": 70016,
            "localrelay": true, "timeoffset": 0, "networkactive": true, "connections": 0, "connections_in": 0,
            "connections_out": 0, "networks": [], "relayfee": 0.000_001, "incrementalfee": 0.000_001,
            "localaddresses": [], "warnings": [],
        }),
        "getrawmempool" => match args.level(0, 0)? {
            0 => chain.pool().iter().map(|pooled| json!(pooled.txid)).collect(),
            _ => chain
                .pool()
                .iter()
                .map(|pooled| {
                    let shown = json!({"vsize": pooled.tx.vsize(), "fees": {"base": show::btc(pooled.fee)}});
                    (pooled.txid.to_string(), shown)
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
        },
        "gettxout" => {
            let outpoint = OutPoint { txid: args.hash(0, "txid")?, vout: args.number(1)? };
            let found = chain.coin(&outpoint, args.level(2, 1)? != 0);
            found.map_or(Value::Null, |coin| tx_out(chain, &coin))
        }
        "scantxoutset" => scan(chain, &args)?,
        "sendrawtransaction" => {
            let limit = match args.value(1) {
                Value::Null => DEFAULT_MAX_FEE_RATE,
                rate => amount(rate)?.to_sat(),
            };
            json!(chain.accept(args.transaction(0)?, Some(limit).filter(|limit| *limit > 0))?)
        }
        "setmocktime" => {
            let time = args.value(0).as_i64().ok_or_else(|| wrong_type(0, "number", args.value(0)))?;
            let time = u32::try_from(time).map_err(|_| {
                let reason = format!("Mocktime must be in the range [0, 4294967295], not {time}.");
                RpcError::new(INVALID_PARAMETER, reason)
            })?;
            chain.set_time(Some(time).filter(|time| *time > 0));
            Value::Null
        }
        "signrawtransactionwithkey" => sign_with_keys(chain, &args)?,
        "stop" => {
            node.stop();
            json!("Bitcoin Core stopping")
        }
        _ => unreachable!("every method of the table has an arm"),
    })
}

fn chain_info(chain: &Chain) -> Value {
    let tip = chain.at(chain.height()).expect("the tip is there").1;
    json!({
        "chain": "regtest", "blocks": chain.height(), "headers": chain.height(), "bestblockhash": chain.best(),
        "bits": "207fffff", "difficulty": 4.656_542_373_906_925e-10, "time": tip.header.time,
        "mediantime": chain.median_time(chain.height()), "verificationprogress": 1, "initialblockdownload": chain.downloads(),
        "chainwork": format!("{:064x}", 2 * (u64::from(chain.height()) + 1)), "size_on_disk": 0, "pruned": false,
        "warnings": [],
    })
}

fn find_block<'a>(chain: &'a Chain, args: &Args) -> Result<(u32, &'a Block), RpcError> {
    let hash: BlockHash = args.hash(0, "blockhash")?;
    let height =
        chain.height_of(&hash).ok_or_else(|| RpcError::new(INVALID_ADDRESS_OR_KEY, "Block not found"))?;
    Ok((height, chain.at(height).expect("indexed").1))
}

fn block(chain: &Chain, args: &Args) -> Result<Value, RpcError> {
    let (height, block) = find_block(chain, args)?;
    Ok(match args.level(1, 1)? {
        0 => json!(serialize_hex(block)),
        level => show::block(chain, height, block, level > 1),
    })
}

fn tx_out(chain: &Chain, coin: &Coin) -> Value {
    json!({
        "bestblock": chain.best(),
        "confirmations": coin.height.map_or(0, |height| chain.height() - height + 1),
        "value": show::btc(coin.out.value),
        "scriptPubKey": show::script(&coin.out.script_pubkey),
        "coinbase": coin.coinbase,
    })
}

fn address(text: &str) -> Result<Address, RpcError> {
    let parsed =
        Address::from_str(text).ok().and_then(|address| address.require_network(Network::Regtest).ok());
    parsed.ok_or_else(|| RpcError::new(INVALID_ADDRESS_OR_KEY, "Error: Invalid address"))
}

fn generate(chain: &mut Chain, args: &Args) -> Result<Value, RpcError> {
    let count: u32 = args.number(0)?;
    let script = address(args.str(1)?)?.script_pubkey();
    let mut hashes = Vec::new();
    for _ in 0..count {
        hashes.push(json!(chain.mine(&script)?));
    }
    Ok(hashes.into())
}

/// A positive amount in bitcoin, as a number or a string.
fn amount(value: &Value) -> Result<Amount, RpcError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            number.as_f64().map_or_else(|| number.to_string(), |btc| format!("{btc:.8}"))
        }
        _ => return Err(RpcError::new(TYPE_ERROR, "Amount is not a number or string")),
    };
    Amount::from_str_in(&text, bitcoin::Denomination::Bitcoin)
        .map_err(|_| RpcError::new(TYPE_ERROR, "Invalid amount"))
}

fn create(args: &Args) -> Result<Transaction, RpcError> {
    let mut input = Vec::new();
    for entry in args.array(0)? {
        let txid = entry["txid"]
            .as_str()
            .ok_or_else(|| RpcError::new(INVALID_PARAMETER, "Invalid parameter, missing txid key"))?;
        let vout = entry["vout"].as_u64().and_then(|vout| u32::try_from(vout).ok());
        let vout =
            vout.ok_or_else(|| RpcError::new(INVALID_PARAMETER, "Invalid parameter, missing vout key"))?;
        let sequence = entry["sequence"].as_u64().and_then(|sequence| u32::try_from(sequence).ok());
        input.push(TxIn {
            previous_output: OutPoint { txid: parse_hash(txid, "txid")?, vout },
            script_sig: ScriptBuf::new(),
            sequence: sequence.map_or(Sequence::ENABLE_RBF_NO_LOCKTIME, Sequence::from_consensus),
            witness: Witness::new(),
        });
    }
    let pairs: Vec<(&String, &Value)> = match args.value(1) {
        Value::Object(map) => map.iter().collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_object).flatten().collect(),
        other => return Err(wrong_type(1, "array", other)),
    };
    let mut output = Vec::new();
    for (to, value) in pairs {
        output.push(if to == "data" {
            let data = value.as_str().and_then(|text| hex::decode(text).ok());
            let pushed = data.and_then(|data| bitcoin::script::PushBytesBuf::try_from(data).ok());
            let pushed =
                pushed.ok_or_else(|| RpcError::new(INVALID_PARAMETER, "Data must be hexadecimal string"))?;
            TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(pushed) }
        } else {
            let script = address(to).map_err(|_| {
                RpcError::new(INVALID_ADDRESS_OR_KEY, format!("Invalid Bitcoin address: {to}"))
            })?;
            TxOut { value: amount(value)?, script_pubkey: script.script_pubkey() }
        });
    }
    let lock_time = u32::try_from(args.level(2, 0)?)
        .map_err(|_| RpcError::new(INVALID_PARAMETER, "Invalid parameter, locktime out of range"))?;
    Ok(Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(lock_time),
        input,
        output,
    })
}

fn sign_with_keys(chain: &Chain, args: &Args) -> Result<Value, RpcError> {
    let mut tx = args.transaction(0)?;
    let mut keys = Vec::new();
    for key in args.array(1)? {
        let parsed = key.as_str().and_then(|text| PrivateKey::from_wif(text).ok());
        keys.push(parsed.ok_or_else(|| RpcError::new(INVALID_ADDRESS_OR_KEY, "Invalid private key"))?);
    }
    let given = args.value(2).as_array().map(Vec::as_slice).unwrap_or_default();
    let mut prevouts = Vec::new();
    for txin in &tx.input {
        let OutPoint { txid, vout } = txin.previous_output;
        let told = given.iter().find(|prev| prev["txid"] == json!(txid) && prev["vout"] == json!(vout));
        let told = told.and_then(|prev| {
            let script_pubkey = ScriptBuf::from_hex(prev["scriptPubKey"].as_str()?).ok()?;
            Some(TxOut { value: amount(&prev["amount"]).ok()?, script_pubkey })
        });
        prevouts.push(told.or_else(|| chain.coin(&txin.previous_output, true).map(|coin| coin.out)));
    }
    let open = sign::sign(&mut tx, &prevouts, &keys);
    let mut answer = json!({"hex": serialize_hex(&tx), "complete": open.is_empty()});
    if !open.is_empty() {
        let errors = open.into_iter().map(|index| {
            let txin = &tx.input[index];
            let error = if prevouts[index].is_none() {
                "Input not found or already spent"
            } else {
                "Unable to sign input, invalid stack size (possibly missing key)"
            };
            json!({"txid": txin.previous_output.txid, "vout": txin.previous_output.vout, "witness": [],
                   "scriptSig": "", "sequence": txin.sequence.0, "error": error})
        });
        answer["errors"] = errors.collect();
    }
    Ok(answer)
}

/// The script of an `addr()` or `raw()` descriptor.
fn descriptor_script(descriptor: &str) -> Result<ScriptBuf, RpcError> {
    let body = descriptor.split('#').next().unwrap_or_default();
    let inner =
        |kind: &str| body.strip_prefix(kind).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
    let script = if let Some(text) = inner("addr") {
        address(text).ok().map(|address| address.script_pubkey())
    } else {
        inner("raw").and_then(|text| ScriptBuf::from_hex(text).ok())
    };
    script.ok_or_else(|| {
        let problem = format!("Invalid descriptor '{descriptor}' (simulated: addr() and raw() only)");
        RpcError::new(INVALID_ADDRESS_OR_KEY, problem)
    })
}

fn scan(chain: &Chain, args: &Args) -> Result<Value, RpcError> {
    match args.str(0)? {
        "start" => {}
        "abort" => return Ok(json!(false)),
        "status" => return Ok(Value::Null),
        other => return Err(RpcError::new(INVALID_PARAMETER, format!("Invalid action '{other}'"))),
    }
    let mut wanted = HashSet::new();
    for object in args.array(1)? {
        let descriptor = object.as_str().or_else(|| object["desc"].as_str());
        let descriptor = descriptor.ok_or_else(|| {
            RpcError::new(INVALID_PARAMETER, "Scan object needs to be either a string or an object")
        })?;
        wanted.insert(descriptor_script(descriptor)?);
    }
    let found = chain.scan(|script| wanted.contains(script));
    let total: Amount = found.iter().map(|(_, coin)| coin.out.value).sum();
    let unspents = found.iter().map(|(outpoint, coin)| {
        let height = coin.height.unwrap_or_default();
        let script = &coin.out.script_pubkey;
        json!({
            "txid": outpoint.txid, "vout": outpoint.vout, "scriptPubKey": script.to_hex_string(),
            "desc": format!("raw({})", script.to_hex_string()), "amount": show::btc(coin.out.value),
            "coinbase": coin.coinbase, "height": height, "blockhash": chain.at(height).map(|(hash, _)| hash),
            "confirmations": chain.height() - height + 1,
        })
    });
    Ok(json!({
        "success": true, "txouts": chain.coin_count(), "height": chain.height(), "bestblock": chain.best(),
        "unspents": unspents.collect::<Vec<_>>(), "total_amount": show::btc(total),
    }))
}
