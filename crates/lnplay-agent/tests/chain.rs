//! The nodes' backend against Core Lightning's own: two lightningd on one bitcoind, one with `bcli`, one with lnplay's plugin,
//! asked the same and made to live through the same.
//!
//! All of them are real; without them the tests pass, with a message.

mod support;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::{Address, CompressedPublicKey, Network, PrivateKey};
use cln_rpc::ClnRpc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::{Daemons, Environment, LIMIT};

const RPC_PORT: u16 = 18443;
/// Blocks before the nodes start: the first coinbases can be spent.
const FIRST_BLOCKS: u64 = 110;
/// Nobody has its key.
const ELSEWHERE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A node, by its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Bcli,
    Lnplay,
}

const BOTH: [Backend; 2] = [Backend::Bcli, Backend::Lnplay];

/// An answer of a node's RPC, or the code and text of its refusal.
type Answer = Result<Value, (Option<i32>, String)>;

/// bitcoind and a node for each backend.
struct Pair {
    dir: TempDir,
    address: IpAddr,
    daemons: Daemons,
    key: PrivateKey,
    bitcoind: Option<Child>,
    nodes: Vec<Child>,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for backend in BOTH {
                eprintln!("the log of {backend:?} ends:\n{}", lnplay_agent::log::tail(&self.log(backend)));
            }
        }
        for child in self.nodes.iter_mut().chain(&mut self.bitcoind) {
            end(child, Signal::SIGKILL);
        }
    }
}

fn start(program: &Path, arguments: &[String], log: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.stderr(log.try_clone().expect("a log")).stdout(log).spawn().expect("it runs")
}

fn end(child: &mut Child, signal: Signal) {
    let _gone = kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal);
    drop(child.wait());
}

fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !wanted() {
        assert!(begin.elapsed() < LIMIT, "never {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Pair {
    /// bitcoind with some blocks, and no nodes yet; `None` without real daemons.
    fn without_nodes() -> Option<Self> {
        let daemons = Daemons::real()?;
        let environment = Environment::new();
        let address = environment.address.parse().expect("an address");
        let key = PrivateKey::new(SecretKey::from_slice(&[7; 32]).expect("a key"), Network::Regtest);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = TempDir::with_prefix("chain-").expect("a directory");
        fs::create_dir(dir.path().join("bitcoin")).expect("made");
        let mut pair = Self { dir, address, daemons, key, bitcoind: None, nodes: Vec::new(), runtime };
        pair.start_bitcoind();
        pair.until_bitcoind_answers();
        pair.mine(FIRST_BLOCKS);
        Some(pair)
    }

    /// The same with both nodes, which have seen all blocks.
    fn new() -> Option<Self> {
        let mut pair = Self::without_nodes()?;
        pair.start_nodes();
        pair.until_all_are_at_the_tip();
        Some(pair)
    }

    fn datadir(&self) -> PathBuf {
        self.dir.path().join("bitcoin")
    }

    fn log(&self, backend: Backend) -> PathBuf {
        self.dir.path().join(format!("{backend:?}.log"))
    }

    fn start_bitcoind(&mut self) {
        let address = self.address;
        let arguments = [
            format!("-datadir={}", self.datadir().display()),
            "-regtest".to_owned(),
            "-server".to_owned(),
            "-listen=0".to_owned(),
            format!("-rpcbind={address}"),
            format!("-rpcallowip={address}"),
            format!("-rpcport={RPC_PORT}"),
        ];
        let log = self.dir.path().join("bitcoind.log");
        self.bitcoind = Some(start(&self.daemons.bitcoind, &arguments, &log));
    }

    fn end_bitcoind(&mut self, signal: Signal) {
        end(&mut self.bitcoind.take().expect("it runs"), signal);
    }

    fn start_nodes(&mut self) {
        for (index, backend) in (0..).zip(BOTH) {
            let mut arguments = vec![
                format!("--lightning-dir={}", self.dir.path().join(format!("{backend:?}")).display()),
                "--network=regtest".to_owned(),
                "--developer".to_owned(),
                "--dev-bitcoind-poll=1".to_owned(),
                "--log-level=debug".to_owned(),
                format!("--bitcoin-datadir={}", self.datadir().display()),
                format!("--bitcoin-rpcconnect={}", self.address),
                format!("--bitcoin-rpcport={RPC_PORT}"),
                format!("--bind-addr={}:{}", self.address, 9735 + index),
            ];
            if backend == Backend::Lnplay {
                arguments.push("--disable-plugin=bcli".to_owned());
                arguments.push(format!("--plugin={}", env!("CARGO_BIN_EXE_lnplay")));
            }
            let node = start(&self.daemons.lightningd, &arguments, &self.log(backend));
            self.nodes.push(node);
        }
    }

    fn assert_all_nodes_run(&mut self) {
        for (node, backend) in self.nodes.iter_mut().zip(BOTH) {
            assert_eq!(node.try_wait().expect("it can be asked"), None, "the node with {backend:?} ended");
        }
    }

    fn try_bitcoind(&self, method: &str, params: Value) -> Result<Value, daemon_rpc::bitcoind::Error> {
        let rpc = daemon_rpc::Bitcoind::regtest(&self.datadir(), (self.address, RPC_PORT).into());
        self.runtime.block_on(rpc.call(method, params))
    }

    fn bitcoind(&self, method: &str, params: Value) -> Value {
        self.try_bitcoind(method, params).unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }

    fn until_bitcoind_answers(&self) {
        until("answered by bitcoind", || self.try_bitcoind("getblockcount", json!([])).is_ok());
    }

    fn own_address(&self) -> Address {
        let public = CompressedPublicKey::from_private_key(&Secp256k1::new(), &self.key).expect("compressed");
        Address::p2wpkh(&public, Network::Regtest)
    }

    /// Mines blocks with whatever waits, to the own address.
    fn mine(&self, blocks: u64) {
        self.bitcoind("generatetoaddress", json!([blocks, self.own_address().to_string()]));
    }

    /// Mines an empty block.
    fn mine_empty(&self) {
        self.bitcoind("generateblock", json!([ELSEWHERE, []]));
    }

    fn height(&self) -> u64 {
        self.bitcoind("getblockcount", json!([])).as_u64().expect("a height")
    }

    /// The coinbase of the block at a height; it pays to the own address.
    fn coinbase(&self, height: u64) -> String {
        let hash = self.bitcoind("getblockhash", json!([height]));
        let block = self.bitcoind("getblock", json!([hash, 1]));
        block["tx"][0].as_str().expect("an id").to_owned()
    }

    /// A signed transaction of a coinbase, with one output of `btc` and the rest as the fee.
    fn spend(&self, height: u64, to: &str, btc: &str) -> String {
        let input = json!([{"txid": self.coinbase(height), "vout": 0}]);
        let raw = self.bitcoind("createrawtransaction", json!([input, [{to: btc}]]));
        let signed = self.bitcoind("signrawtransactionwithkey", json!([raw, [self.key.to_wif()]]));
        assert_eq!(signed["complete"], true, "{signed}");
        signed["hex"].as_str().expect("hex").to_owned()
    }

    fn try_node(&self, backend: Backend, method: &str, params: &Value) -> anyhow::Result<Answer> {
        let socket = self.dir.path().join(format!("{backend:?}/regtest/lightning-rpc"));
        self.runtime.block_on(async {
            let mut rpc = ClnRpc::new(socket).await?;
            let answer = rpc.call_raw::<Value, _>(method, params).await;
            Ok(answer.map_err(|error| (error.code, error.message)))
        })
    }

    fn node(&self, backend: Backend, method: &str, params: &Value) -> Answer {
        let answer = self.try_node(backend, method, params);
        answer.unwrap_or_else(|error| panic!("the node with {backend:?} does not listen: {error}"))
    }

    /// Asks the node with lnplay's backend, in a thread that ends with the answer.
    fn ask(&self, method: &'static str, params: Value) -> std::thread::JoinHandle<Value> {
        let socket = self.dir.path().join("Lnplay/regtest/lightning-rpc");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut rpc = ClnRpc::new(socket).await.expect("the node listens");
                rpc.call_raw::<Value, _>(method, &params).await.expect("an answer")
            })
        })
    }

    fn until_all_are_at_the_tip(&mut self) {
        for backend in BOTH {
            until(&format!("at the tip with {backend:?}"), || {
                self.assert_all_nodes_run();
                let info = self.try_node(backend, "getinfo", &json!({}));
                let at = info.ok().and_then(Result::ok).and_then(|info| info["blockheight"].as_u64());
                at == Some(self.height())
            });
        }
    }

    /// Asks both nodes the same, and returns the one answer that both must give.
    fn same(&self, method: &str, params: &Value) -> Answer {
        let [bcli, lnplay] = BOTH.map(|backend| self.node(backend, method, params));
        match (&bcli, &lnplay) {
            // The texts name programs.
            (Err((bcli, _)), Err((lnplay, _))) => assert_eq!(lnplay, bcli, "{method} {params}"),
            _ => assert_eq!(tidy(lnplay.clone()), tidy(bcli.clone()), "{method} {:.200}", params.to_string()),
        }
        lnplay
    }

    fn same_result(&self, method: &str, params: &Value) -> Value {
        self.same(method, params).unwrap_or_else(|error| panic!("{method} is refused: {error:?}"))
    }
}

/// Without the line break that ends what `bitcoin-cli` prints.
fn tidy(answer: Answer) -> Answer {
    answer.map(|mut answer| {
        if let Some(text) = answer["errmsg"].as_str() {
            answer["errmsg"] = text.trim_end().into();
        }
        answer
    })
}

#[test]
fn blocks_outputs_and_fees_are_told_as_by_bcli() {
    let Some(pair) = Pair::new() else { return };
    let height = pair.height();
    let info = pair.same_result("getchaininfo", &json!({"last_height": 0}));
    assert_eq!((&info["chain"], &info["blockcount"]), (&json!("regtest"), &json!(height)));
    pair.same_result("getchaininfo", &json!([]));

    for known in [0, 1, height] {
        let block = pair.same_result("getrawblockbyheight", &json!({"height": known}));
        let hash = pair.bitcoind("getblockhash", json!([known]));
        assert_eq!(block["blockhash"], hash);
        assert_eq!(block["block"], pair.bitcoind("getblock", json!([hash, 0])));
    }
    pair.same_result("getrawblockbyheight", &json!([height.to_string()]));
    for unknown in [height + 2, 4_294_967_295] {
        let block = pair.same_result("getrawblockbyheight", &json!({"height": unknown}));
        assert_eq!(block, json!({"blockhash": null, "block": null}));
    }
    for wrong in [json!({}), json!([]), json!([-1]), json!(["x"]), json!({"height": 4_294_967_296_u64})] {
        assert!(pair.same("getrawblockbyheight", &wrong).is_err());
    }

    let coinbase = pair.coinbase(1);
    let output = pair.same_result("getutxout", &json!({"txid": coinbase, "vout": 0}));
    assert_eq!(output["amount"], "5000000000sat");
    assert_eq!(output["script"], pair.own_address().script_pubkey().to_hex_string());
    pair.same_result("getutxout", &json!([coinbase, "0"]));
    let nothing = json!({"amount": null, "script": null});
    for unknown in [json!([coinbase, 7]), json!(["00".repeat(32), 0]), json!(["junk", 0])] {
        assert_eq!(pair.same_result("getutxout", &unknown), nothing);
    }
    assert!(pair.same("getutxout", &json!([coinbase])).is_err());
    // Spent in the mempool, then in the chain.
    let spend = pair.spend(1, ELSEWHERE, "49.9999");
    pair.bitcoind("sendrawtransaction", json!([spend]));
    assert_eq!(pair.same_result("getutxout", &json!([coinbase, 0])), nothing);
    pair.mine(1);
    assert_eq!(pair.same_result("getutxout", &json!([coinbase, 0])), nothing);

    let fees = pair.same_result("estimatefees", &json!({}));
    let targets: Vec<_> = fees["feerates"].as_array().expect("a list").iter().map(|r| &r["blocks"]).collect();
    assert_eq!(targets, [2, 6, 12, 100], "{fees}");
}

#[test]
fn transactions_are_sent_and_refused_as_by_bcli() {
    let Some(pair) = Pair::new() else { return };
    let send = |tx: &str, any_fee: bool| {
        pair.same_result("sendrawtransaction", &json!({"tx": tx, "allowhighfees": any_fee}))
    };
    let done = json!({"success": true, "errmsg": ""});
    let good = pair.spend(1, ELSEWHERE, "49.9999");
    assert_eq!(send(&good, false), done);
    assert_eq!(send(&good, false), done, "it waits already");
    pair.mine(1);
    let again = send(&good, false);
    assert!(again["errmsg"].as_str().is_some_and(|text| text.contains("-27")), "{again}");

    let generous = pair.spend(2, ELSEWHERE, "49");
    let refused = send(&generous, false);
    assert_eq!(refused["success"], false, "{refused}");
    assert_eq!(send(&generous, true), done);

    // Spends what is spent; is not a transaction; is not hex.
    let twice = pair.spend(3, ELSEWHERE, "49.9998");
    pair.bitcoind("sendrawtransaction", json!([pair.spend(3, ELSEWHERE, "49.9997")]));
    pair.mine(1);
    for wrong in [twice.as_str(), "00", "junk", ""] {
        assert_eq!(send(wrong, true)["success"], false);
    }
    for wrong in [json!([good]), json!([good, "perhaps"]), json!({"allowhighfees": true})] {
        assert!(pair.same("sendrawtransaction", &wrong).is_err());
    }
}

#[test]
fn a_large_block_reaches_the_nodes() {
    let Some(mut pair) = Pair::new() else { return };
    let raw = pair.bitcoind(
        "createrawtransaction",
        json!([[{"txid": pair.coinbase(1), "vout": 0}], [{"data": "00".repeat(950_000)}]]),
    );
    let signed = pair.bitcoind("signrawtransactionwithkey", json!([raw, [pair.key.to_wif()]]));
    pair.bitcoind("generateblock", json!([ELSEWHERE, [signed["hex"]]]));
    pair.until_all_are_at_the_tip();
    let block = pair.same_result("getrawblockbyheight", &json!([pair.height()]));
    assert!(block["block"].as_str().is_some_and(|hex| hex.len() > 1_900_000));
}

/// The status of the node's only coin.
fn coin(pair: &Pair, backend: Backend) -> Value {
    let funds = pair.node(backend, "listfunds", &json!({})).expect("its funds");
    assert!(funds["outputs"].as_array().is_some_and(|all| all.len() <= 1), "{funds}");
    funds["outputs"][0]["status"].clone()
}

#[test]
fn a_reorganisation_reaches_the_nodes() {
    let Some(mut pair) = Pair::new() else { return };
    for (height, backend) in (1..).zip(BOTH) {
        let address = pair.node(backend, "newaddr", &json!({"addresstype": "bech32"})).expect("an address");
        let deposit = pair.spend(height, address["bech32"].as_str().expect("text"), "49.9999");
        pair.bitcoind("sendrawtransaction", json!([deposit]));
    }
    pair.mine(1);
    let fork = pair.bitcoind("getbestblockhash", json!([]));
    pair.mine(1);
    pair.until_all_are_at_the_tip();
    for backend in BOTH {
        assert_eq!(coin(&pair, backend), "confirmed", "with {backend:?}");
    }
    // A longer chain without the deposits.
    pair.bitcoind("invalidateblock", json!([fork]));
    for _ in 0..4 {
        pair.mine_empty();
    }
    pair.until_all_are_at_the_tip();
    for backend in BOTH {
        until("unconfirmed", || coin(&pair, backend) == "unconfirmed");
    }
    // And the old one again, at a height that the nodes have seen with other blocks, until it is longer.
    pair.bitcoind("reconsiderblock", json!([fork]));
    let stale = pair.bitcoind("getblockhash", json!([pair.height() - 3]));
    pair.bitcoind("invalidateblock", json!([stale]));
    pair.mine(5);
    pair.until_all_are_at_the_tip();
    for backend in BOTH {
        until("confirmed", || coin(&pair, backend) == "confirmed");
    }
}

#[test]
fn nodes_live_through_restarts_of_bitcoind() {
    let Some(mut pair) = Pair::new() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // What is not on disk is lost in a kill, and lightningd does not start on a shorter chain.
        pair.bitcoind("gettxoutsetinfo", json!(["none"]));
        let stopping = Instant::now();
        pair.end_bitcoind(signal);
        // Connections that are kept alive do not keep bitcoind from ending.
        assert!(stopping.elapsed() < lnplay_agent::bitcoind::GRACE, "{:?}", stopping.elapsed());
        // Both ask for a block, or for fees, at least once meanwhile.
        let down = Instant::now();
        until("down for two polls", || down.elapsed() > Duration::from_secs(2));
        pair.assert_all_nodes_run();
        pair.start_bitcoind();
        pair.until_bitcoind_answers();
        pair.mine(2);
        pair.until_all_are_at_the_tip();
    }
    // Where bcli ends the node, or calls the output spent, ours waits.
    let coinbase = pair.coinbase(1);
    pair.end_bitcoind(Signal::SIGTERM);
    let asked = pair.ask("getutxout", json!([coinbase, 0]));
    let down = Instant::now();
    until("down for a second", || down.elapsed() > Duration::from_secs(1));
    assert!(!asked.is_finished(), "the output is told without bitcoind");
    pair.start_bitcoind();
    assert_eq!(asked.join().expect("no panic")["amount"], "5000000000sat");
    pair.assert_all_nodes_run();
}

#[test]
fn nodes_wait_for_bitcoind_to_start() {
    let Some(mut pair) = Pair::without_nodes() else { return };
    pair.end_bitcoind(Signal::SIGTERM);
    pair.start_nodes();
    let begin = Instant::now();
    until("two seconds later", || begin.elapsed() > Duration::from_secs(2));
    pair.assert_all_nodes_run();
    pair.start_bitcoind();
    pair.until_bitcoind_answers();
    pair.until_all_are_at_the_tip();
}

#[test]
fn a_request_for_the_next_block_is_held_until_it_is_there() {
    let Some(mut pair) = Pair::new() else { return };
    let next = pair.height() + 1;
    let ask = |pair: &Pair| pair.ask("getrawblockbyheight", json!([next]));
    // The first request after a block is answered at once, and lightningd may not have made its own.
    let mut asked = ask(&pair);
    until("held", || {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) && !asked.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
        if asked.is_finished() {
            asked = ask(&pair);
            return false;
        }
        true
    });
    pair.mine(1);
    let block = asked.join().expect("no panic");
    assert_eq!(block["blockhash"], pair.bitcoind("getblockhash", json!([next])));
    pair.until_all_are_at_the_tip();
    // The one after it is not held at first: lightningd tells of a block only when it knows that there are no more.
    pair.mine(1);
    let told = json!({"blockheight": next + 1, "timeout": 20});
    pair.node(Backend::Lnplay, "waitblockheight", &told).expect("the block");
}

/// lightningd keeps all requests and answers in the 16 MiB of log that it has in memory.
#[test]
fn fee_estimates_do_not_fill_the_log_in_memory() {
    let Some(mut pair) = Pair::new() else { return };
    let requests = |pair: &Pair| {
        let log = pair.node(Backend::Lnplay, "getlog", &json!({"level": "io"})).expect("its log");
        let lines = log["log"].as_array().expect("lines").iter();
        let asked = |line: &&Value| {
            line["type"] == "IO_OUT"
                && line["log"].as_str().is_some_and(|text| text.contains("cln:estimatefees#"))
        };
        lines.filter(asked).count()
    };
    until("asked for a third time", || requests(&pair) >= 3);
    // It polls for the next block after a second, and gets that one at once if it was waiting for it: these take some seconds.
    for _ in 0..4 {
        pair.mine(1);
        pair.until_all_are_at_the_tip();
    }
    assert_eq!(requests(&pair), 3);
}
