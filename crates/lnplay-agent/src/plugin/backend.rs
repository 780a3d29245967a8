//! lightningd's access to the chain, in place of Core Lightning's plugin `bcli`, which starts six `bitcoin-cli` at each poll.
//!
//! The methods and their answers are those of `bcli` in Core Lightning 26.04. What differs:
//!
//! - A request for a block that does not exist yet is held until it does: lightningd polls for the next block, and gets it as
//!   soon as it is there. The first such request after a block is answered at once, since lightningd finishes its work on a
//!   block with it.
//! - lightningd's own request for fee estimates is held until the last ones are [`FEES_INTERVAL`] old. lightningd sends one each time it polls, and
//!   keeps each request and answer in the 16 MiB of log that it has in memory, which they would fill within hours.
//! - While bitcoind restarts, `getchaininfo` and `getutxout` are tried again for the retry time, after which they fail and
//!   lightningd ends. (`bcli` fails at once, or says that the output is spent.)
//! - Regtest only. Pruned blocks are not fetched from peers: the environment's bitcoind has neither.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bitcoin::Amount;
use serde_json::{Value, json};

use super::bitcoin_rpc::{Answer, BitcoinRpc, Error};
use super::{INVALID_PARAMS, method, refusal, result};

/// The retry time unless `bitcoin-retry-timeout` is given, in seconds; that of `bcli`.
const DEFAULT_RETRY: u64 = 60;

/// The time that bitcoind may take to start before the node does; that of `bcli`.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts while bitcoind does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The interval between two looks for a block that is waited for.
const POLL: Duration = Duration::from_millis(250);

/// A request for a block that does not come is answered after this time. lightningd keeps each request and answer in its log in memory.
const HOLD: Duration = Duration::from_secs(300);

/// The most requests that are held at a time. lightningd makes one; others are the node's owner's.
const MAX_HELD: usize = 16;

/// The interval between two fee estimates. On regtest they hardly ever change; by default lightningd asks each 30 s.
const FEES_INTERVAL: Duration = Duration::from_secs(300);

/// lightningd starts only once these requests for fee estimates are answered.
const FEES_AT_ONCE: u32 = 2;

/// The oldest bitcoind that `bcli` works with.
const MIN_VERSION: u64 = 220_000;

/// The targets of fee estimates, in blocks, and the mode for each.
const ESTIMATES: [(u32, &str); 4] =
    [(2, "CONSERVATIVE"), (6, "ECONOMICAL"), (12, "ECONOMICAL"), (100, "ECONOMICAL")];

/// The lowest fee rate by default, in sat per 1000 virtual bytes. Also the estimate where bitcoind has none, as always on
/// regtest.
const DEFAULT_FEE_RATE: u64 = 1000;

/// The largest fee rate that lightningd reads.
const MAX_FEE_RATE: u64 = u32::MAX as u64;

/// lightningd's code for a backend that failed (`BCLI_ERROR`).
const BACKEND_ERROR: i32 = 500;

const NO_BLOCK: &str = r#"{"blockhash":null,"block":null}"#;

/// The methods, for lightningd's manifest.
pub(super) fn methods() -> Vec<Value> {
    vec![
        method("getchaininfo", "[last_height]", "Ask bitcoind for its chain and height"),
        method("estimatefees", "", "Ask bitcoind for fee estimates"),
        method("getrawblockbyheight", "height", "Ask bitcoind for a block"),
        method("getutxout", "txid vout", "Ask bitcoind for an unspent output"),
        method("sendrawtransaction", "tx allowhighfees", "Give bitcoind a transaction"),
    ]
}

/// The options; those of `bcli` that an environment uses.
pub(super) fn options() -> Vec<Value> {
    let option = |name: &str, kind: &str, default: Value, description: &str| json!({"name": name, "type": kind, "default": default, "description": description});
    vec![
        option("bitcoin-datadir", "string", json!(""), "Directory with bitcoin.conf or regtest/.cookie"),
        option("bitcoin-rpcconnect", "string", json!("127.0.0.1"), "bitcoind's RPC host"),
        option("bitcoin-rpcport", "int", json!(18443), "bitcoind's RPC port"),
        option(
            "bitcoin-retry-timeout",
            "int",
            json!(DEFAULT_RETRY),
            "Seconds to try again while bitcoind is down",
        ),
    ]
}

/// The backend of one node.
#[derive(Default)]
pub(super) struct Backend {
    /// `None` before `init`.
    rpc: Option<BitcoinRpc>,
    retry: Duration,
    fees: Option<Fees>,
    /// How many requests for fee estimates there were.
    fee_requests: u32,
    /// The ids of those that are held.
    held_for_fees: Vec<Value>,
    held: Vec<Held>,
    /// The time of the next look for the blocks in `held`.
    next_look: Option<Instant>,
    /// The height of the block that does not exist, by the last answer to lightningd.
    absent: Option<u32>,
}

/// The last fee estimates.
struct Fees {
    asked: Instant,
    answer: String,
}

/// A request for a block that does not exist yet.
struct Held {
    id: Value,
    height: u32,
    until: Instant,
}

/// The two ways in which a request cannot be done.
enum Refusal {
    /// With wrong parameters.
    Params(String),
    /// By bitcoind.
    Failed(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The results of a request, as JSON; `None` is one that is held.
type Done = Result<Option<String>, Refusal>;

impl Backend {
    /// Connects to bitcoind, as the parameters of `init` say. Fails if that does not start in time or is not usable.
    pub(super) fn init(&mut self, params: &Value) -> io::Result<()> {
        let network = params["configuration"]["network"].as_str().unwrap_or_default();
        if network != "regtest" {
            return Err(io::Error::other(format!(
                "the network is {network}, and lnplay is for regtest only"
            )));
        }
        let options = &params["options"];
        let text = |name: &str| options[name].as_str().unwrap_or_default().to_owned();
        let port = options["bitcoin-rpcport"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| io::Error::other("bitcoin-rpcport is no port"))?;
        let retry = options["bitcoin-retry-timeout"].as_u64().unwrap_or(DEFAULT_RETRY);
        self.retry = Duration::from_secs(retry);
        let dir = PathBuf::from(text("bitcoin-datadir"));
        self.rpc = Some(BitcoinRpc::new(text("bitcoin-rpcconnect"), port, dir));
        let info = self
            .call_for("getnetworkinfo", &json!([]), START_TIMEOUT)?
            .and_then(|answer| answer.value())
            .map_err(|error| io::Error::other(format!("bitcoind is not usable: {error}")))?;
        check(&info).map_err(io::Error::other)
    }

    /// The answer to a request, unless it is held. Fails if lightningd is gone.
    pub(super) fn handle(&mut self, method: &str, id: &Value, params: &Value) -> io::Result<Option<String>> {
        let done = match method {
            "getchaininfo" => self.chain_info()?,
            "estimatefees" => Ok(self.fees(id)),
            "getrawblockbyheight" => self.block(id, params)?,
            "getutxout" => self.output(params)?,
            "sendrawtransaction" => self.send(params),
            // A notification that was not asked for.
            _ => return Ok(None),
        };
        Ok(match done {
            Ok(answer) => answer.map(|answer| result(id, answer)),
            Err(Refusal::Params(text)) => Some(refusal(id, INVALID_PARAMS, &text)),
            Err(Refusal::Failed(text)) => Some(refusal(id, BACKEND_ERROR, &format!("{method}: {text}"))),
        })
    }

    /// The time of the next [`Backend::poll`]; `None` if no request is held.
    pub(super) fn next_poll(&self) -> Option<Instant> {
        let look = self.next_look.filter(|_| !self.held.is_empty());
        let estimate = self.fees_due().filter(|_| !self.held_for_fees.is_empty());
        look.into_iter().chain(estimate).min()
    }

    /// The answers to held requests whose block is there, or has not come in time, and to those for fee estimates.
    pub(super) fn poll(&mut self, now: Instant) -> io::Result<Vec<String>> {
        let mut answers = Vec::new();
        if self.next_poll().is_none_or(|at| now < at) {
            return Ok(answers);
        }
        if self.fees_due().is_none_or(|at| now >= at) && !self.held_for_fees.is_empty() {
            let fees = self.fee_answer();
            answers.extend(self.held_for_fees.drain(..).map(|id| result(&id, &fees)));
        }
        for held in std::mem::take(&mut self.held) {
            match self.block_at(held.height)? {
                Ok(Some(block)) => answers.push(result(&held.id, block)),
                Ok(None) if now < held.until => self.held.push(held),
                Ok(None) => answers.push(result(&held.id, NO_BLOCK)),
                Err(error) => answers.push(refusal(&held.id, BACKEND_ERROR, &error.to_string())),
            }
        }
        self.next_look = Some(Instant::now() + POLL);
        Ok(answers)
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Answer, Error> {
        match &mut self.rpc {
            Some(rpc) => rpc.call(method, params),
            None => Err(io::Error::other("lightningd has not sent init").into()),
        }
    }

    /// Calls a method, again and again while bitcoind is down, for at most `limit`. Fails outright if lightningd is gone.
    fn call_for(
        &mut self,
        method: &str,
        params: &Value,
        limit: Duration,
    ) -> io::Result<Result<Answer, Error>> {
        let begin = Instant::now();
        loop {
            match self.call(method, params) {
                Err(error) if error.may_pass() && begin.elapsed() < limit => pause()?,
                done => return Ok(done),
            }
        }
    }

    fn chain_info(&mut self) -> io::Result<Done> {
        let answer = self.call_for("getblockchaininfo", &json!([]), self.retry)?;
        Ok(answer.and_then(|answer| answer.value()).map_err(Refusal::from).map(|info| {
            let info = json!({
                "chain": info["chain"],
                "headercount": info["headers"],
                "blockcount": info["blocks"],
                "ibd": info["initialblockdownload"],
            });
            Some(info.to_string())
        }))
    }

    /// When fee estimates are asked for anew; `None` if there are none.
    fn fees_due(&self) -> Option<Instant> {
        self.fees.as_ref().map(|fees| fees.asked + FEES_INTERVAL)
    }

    fn fees(&mut self, id: &Value) -> Option<String> {
        self.fee_requests = self.fee_requests.saturating_add(1);
        // Somebody's who calls the method through lightningd has another prefix.
        let of_lightningd = id.as_str().is_some_and(|id| id.starts_with("cln:"));
        let at_once = !of_lightningd
            || self.fee_requests <= FEES_AT_ONCE
            || self.fees_due().is_none_or(|at| Instant::now() >= at)
            || self.held_for_fees.len() >= MAX_HELD;
        if at_once {
            return Some(self.fee_answer());
        }
        self.held_for_fees.push(id.clone());
        None
    }

    fn fee_answer(&mut self) -> String {
        let now = Instant::now();
        if let (Some(fees), Some(due)) = (&self.fees, self.fees_due())
            && now < due
        {
            return fees.answer.clone();
        }
        let Ok(answer) = self.ask_fees() else {
            return json!({"feerates": [], "feerate_floor": DEFAULT_FEE_RATE}).to_string();
        };
        self.fees = Some(Fees { asked: now, answer: answer.clone() });
        answer
    }

    fn ask_fees(&mut self) -> Result<String, Error> {
        let pool = self.call("getmempoolinfo", &json!([]))?.value()?;
        let estimates = ESTIMATES.iter().map(|(blocks, mode)| {
            let estimate = self.call("estimatesmartfee", &json!([blocks, mode]))?.value()?;
            Ok((*blocks, estimate))
        });
        let estimates = estimates.collect::<Result<Vec<_>, Error>>()?;
        Ok(fee_rates(&pool, &estimates)?.to_string())
    }

    fn block(&mut self, id: &Value, params: &Value) -> io::Result<Done> {
        let height = match parameter(params, 0, "height").map(|height| number(&height)) {
            Ok(Some(height)) => height,
            Ok(None) => {
                return Ok(Err(Refusal::Params("height: should be an unsigned 32 bit integer".into())));
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        let block = match self.block_at(height)? {
            Ok(block) => block,
            Err(error) => return Ok(Err(error.into())),
        };
        if block.is_some() {
            self.absent = None;
            return Ok(Ok(block));
        }
        if self.absent.replace(height) == Some(height) && self.held.len() < MAX_HELD {
            let now = Instant::now();
            self.held.push(Held { id: id.clone(), height, until: now + HOLD });
            self.next_look = Some(now + POLL);
            return Ok(Ok(None));
        }
        Ok(Ok(Some(NO_BLOCK.to_owned())))
    }

    /// The block at a height of the chain, as lightningd wants it; `None` if there is none.
    fn block_at(&mut self, height: u32) -> io::Result<Result<Option<String>, Error>> {
        // lightningd has no answer for "cannot tell" and asks again after this one.
        let Ok(hash) = self.call("getblockhash", &json!([height])) else { return Ok(Ok(None)) };
        let hash = match hash.text() {
            Ok(hash) => hash,
            Err(error) => return Ok(Err(error)),
        };
        let block = match self.call_for("getblock", &json!([hash, 0]), self.retry)? {
            Ok(block) => block,
            Err(error) => return Ok(Err(error)),
        };
        self.absent = None;
        Ok(block.text().map(|block| Some(format!(r#"{{"blockhash":"{hash}","block":"{block}"}}"#))))
    }

    fn output(&mut self, params: &Value) -> io::Result<Done> {
        let (txid, output) = match (parameter(params, 0, "txid"), parameter(params, 1, "vout")) {
            (Ok(txid), Ok(output)) => (txid, output),
            (Err(refusal), _) | (_, Err(refusal)) => return Ok(Err(refusal)),
        };
        // A number or its text.
        let output = number(&output).map_or(output, Value::from);
        let found = match self.call_for("gettxout", &json!([txid, output]), self.retry)? {
            Ok(answer) => answer.value(),
            // Whatever is no output, such as an id that is none, is not there.
            Err(Error::Refused { .. }) => Ok(Value::Null),
            Err(error) => Err(error),
        };
        Ok(found.and_then(|found| unspent(&found)).map(Some).map_err(Refusal::from))
    }

    fn send(&mut self, params: &Value) -> Done {
        let transaction = parameter(params, 0, "tx")?;
        let any_fee = parameter(params, 1, "allowhighfees")?;
        let any_fee = any_fee.as_bool().or_else(|| any_fee.as_str()?.parse().ok());
        let any_fee = any_fee
            .ok_or_else(|| Refusal::Params("allowhighfees: should be 'true' or 'false'".to_owned()))?;
        // The highest fee rate in BTC per 1000 virtual bytes; 0 is none.
        let params = if any_fee { json!([transaction, 0]) } else { json!([transaction]) };
        let sent = self.call("sendrawtransaction", &params);
        let text = sent.as_ref().map_or_else(ToString::to_string, |_| String::new());
        Ok(Some(json!({"success": sent.is_ok(), "errmsg": text}).to_string()))
    }
}

/// Waits a little. Fails if lightningd is gone.
fn pause() -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let stdin = io::stdin();
    // Input is not waited for, only its end.
    let mut watched = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    let limit = PollTimeout::try_from(RETRY_PAUSE).unwrap_or(PollTimeout::ZERO);
    match poll(&mut watched, limit) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "lightningd is gone")),
        Err(error) => Err(error.into()),
    }
}

/// A parameter, by position or by name.
fn parameter(params: &Value, position: usize, name: &str) -> Result<Value, Refusal> {
    let found = match params {
        Value::Array(values) => values.get(position),
        params => params.get(name),
    };
    found.cloned().ok_or_else(|| Refusal::Params(format!("missing required parameter: {name}")))
}

/// A number that may be text.
fn number(value: &Value) -> Option<u32> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64().and_then(|number| u32::try_from(number).ok()),
    }
}

/// Checks `getnetworkinfo` for what lightningd needs.
fn check(info: &Value) -> Result<(), String> {
    match info["version"].as_u64() {
        Some(MIN_VERSION..) => {}
        Some(version) => return Err(format!("bitcoind {version} is too old; {MIN_VERSION} is the oldest")),
        None => return Err(format!("bitcoind's getnetworkinfo has no version: {info}")),
    }
    if info["localrelay"] == true {
        Ok(())
    } else {
        Err("bitcoind does not relay transactions (blocksonly), which fee estimates need".to_owned())
    }
}

/// An amount of bitcoind's, which is in BTC, in sat.
fn sat(value: &Value) -> Result<u64, Error> {
    let amount = value.as_f64().and_then(|btc| Amount::from_btc(btc).ok());
    amount.map(Amount::to_sat).ok_or_else(|| io::Error::other(format!("{value} is no amount")).into())
}

/// The answer of `estimatefees`, from `getmempoolinfo` and for each target the answer of `estimatesmartfee`.
fn fee_rates(pool: &Value, estimates: &[(u32, Value)]) -> Result<Value, Error> {
    let floor = sat(&pool["mempoolminfee"])?.max(sat(&pool["minrelaytxfee"])?);
    let mut rates = Vec::new();
    for (blocks, estimate) in estimates {
        let rate = estimate.get("feerate").map_or(Ok(DEFAULT_FEE_RATE), sat)?.min(MAX_FEE_RATE);
        // 0 is unknown.
        if rate > 0 {
            rates.push(json!({"blocks": blocks, "feerate": rate.max(floor)}));
        }
    }
    Ok(json!({"feerates": rates, "feerate_floor": floor}))
}

/// The answer of `getutxout`, from that of `gettxout`.
fn unspent(output: &Value) -> Result<String, Error> {
    if output.is_null() {
        return Ok(json!({"amount": null, "script": null}).to_string());
    }
    let amount = sat(&output["value"])?;
    Ok(json!({"amount": format!("{amount}sat"), "script": output["scriptPubKey"]["hex"]}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fee_rates_are_not_below_the_floor_nor_above_what_lightningd_reads() {
        let pool = json!({"mempoolminfee": 0.000_020_00, "minrelaytxfee": 0.000_010_00});
        let estimates = [
            (2, json!({"feerate": 0.001_234_56})),
            (6, json!({"feerate": 0.000_015})),
            (12, json!({"errors": ["Insufficient data or no feerate found"]})),
            (100, json!({"feerate": 900.0})),
        ];
        let rates = fee_rates(&pool, &estimates).expect("rates");
        let expected = json!({
            "feerates": [
                {"blocks": 2, "feerate": 123_456},
                {"blocks": 6, "feerate": 2000},
                {"blocks": 12, "feerate": 2000},
                {"blocks": 100, "feerate": MAX_FEE_RATE},
            ],
            "feerate_floor": 2000,
        });
        assert_eq!(rates, expected);
        let unknown = fee_rates(&pool, &[(2, json!({"feerate": 0}))]).expect("rates");
        assert_eq!(unknown["feerates"], json!([]));
        for (pool, estimate) in [(json!({}), json!({})), (pool, json!({"feerate": "much"}))] {
            assert!(fee_rates(&pool, &[(2, estimate)]).is_err());
        }
    }

    #[test]
    fn a_bitcoind_without_what_lightningd_needs_is_refused() {
        assert_eq!(check(&json!({"version": 220_000, "localrelay": true})), Ok(()));
        for info in [
            json!({"version": 210_000, "localrelay": true}),
            json!({"version": 310_000, "localrelay": false}),
            json!({}),
        ] {
            assert!(check(&info).is_err(), "{info}");
        }
    }

    #[test]
    fn parameters_come_by_name_and_by_position() {
        let read = |params: Value| parameter(&params, 1, "vout").ok().and_then(|value| number(&value));
        assert_eq!(read(json!({"txid": "ab", "vout": 7})), Some(7));
        assert_eq!(read(json!(["ab", "7"])), Some(7));
        for params in [json!(["ab"]), json!({}), json!(["ab", -1]), json!(["ab", 1u64 << 32])] {
            assert_eq!(read(params), None);
        }
    }
}
