//! The organiser's desk, on simulated and on real daemons: each action does what it says, once, and within its bounds.

mod support;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bitcoin::Block;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use lnplaylive_core::desk::{MAX_BLOCKS, MAX_SAT, MIN_SAT, fingerprint};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use sim_lightning::commando::{Client, Error};
use support::{Daemons, Environment, LIMIT, LISTEN_FIRST, answer_of, checks, sat, spec};

checks!(
    a_new_card_works_and_every_older_one_is_dead,
    a_new_card_that_was_interrupted_is_finished_at_the_next_start,
    coins_come_at_once_to_one_or_to_all,
    a_payment_that_was_interrupted_is_made_once,
    channels_are_opened_as_far_as_they_are_missing,
    blocks_come_when_asked_for_and_not_while_they_are_paused,
    a_node_that_is_switched_off_stays_off_and_is_no_fault,
    one_action_at_a_time,
    what_cannot_be_done_is_refused_and_changes_nothing,
);

/// Commando's code for a rune that does not permit the call.
const REFUSED: i64 = 0x4c51;

/// What was done, or a failure of the test.
fn done(answer: &Value) -> &Value {
    assert_eq!(answer["answer"], "done", "{answer}");
    &answer["did"]
}

/// The reason for a refusal.
fn refusal(answer: &Value) -> &str {
    assert_eq!(answer["answer"], "refused", "{answer}");
    answer["reason"].as_str().expect("a reason")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// True if a rune permits a call, as the node itself says; the parameters are those of no method.
fn permits(environment: &Environment, node: u16, rune: &str, method: &str) -> bool {
    let id = environment.rpc(node.into(), "getinfo")["id"].clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let begin = Instant::now();
        // lightningd answers its RPC a moment before it listens.
        let client = loop {
            match Client::connect(&environment.websocket(node), text(&id)).await {
                Ok(client) => break client,
                Err(error) => assert!(begin.elapsed() < LIMIT, "it does not listen: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        match client.call(rune, method, json!({"no-such-parameter": 1})).await {
            Ok(_) => true,
            Err(Error::Rpc { code, .. }) => code != REFUSED,
            Err(error) => panic!("{method}: {error}"),
        }
    })
}

/// Kills the supervisor and starts another.
fn restart(environment: &Environment, spec: &Value) -> Vec<lnplaylive_core::ConnectionString> {
    kill(environment.supervisor(), Signal::SIGKILL).expect("a supervisor to kill");
    environment.up(spec).strings()
}

fn a_new_card_works_and_every_older_one_is_dead(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec(2);
    let before = environment.up(&spec).strings();
    let card = |status: &Value, node: usize| text(&status["nodes"][node]["card"]).to_owned();
    assert_eq!(card(&environment.status(), 0), fingerprint(&before[0].rune));
    // An attendee may have passed on a narrower rune made from the first.
    let narrower = environment.call(
        0,
        "createrune",
        &json!({"rune": before[0].rune, "restrictions": [["method=getinfo"]]}),
    );
    assert!(permits(&environment, 0, text(&narrower["rune"]), "getinfo"));

    let answer = environment.desk(&json!({"action": "new_card", "node": 0, "request": "r-1"}));
    assert_eq!(done(&answer)["node"], 0);
    let first = text(&done(&answer)["rune"]).to_owned();
    assert_eq!(answer["overview"]["nodes"][0]["card"], fingerprint(&first));
    let again = environment.desk(&json!({"action": "new_card", "node": 0, "request": "r-1"}));
    assert_eq!(done(&again)["rune"], first.as_str(), "the same request");
    let other = environment.desk(&json!({"action": "new_card", "node": 1, "request": "r-1"}));
    assert_eq!(refusal(&other), "request_reused");
    let second = text(&done(&environment.desk(&json!({"action": "new_card", "node": 0})))["rune"]).to_owned();
    assert_ne!(first, second);

    let check = |strings: &[lnplaylive_core::ConnectionString]| {
        assert_eq!(strings[0].rune, second, "what is handed out is what works");
        assert_eq!(strings[1], before[1], "the neighbour's card is as it was");
        assert!(permits(&environment, 1, &before[1].rune, "getinfo"));
        for dead in [&before[0].rune, &first, text(&narrower["rune"])] {
            assert!(!permits(&environment, 0, dead, "getinfo"));
        }
        for (method, allowed) in
            [("getinfo", true), ("invoice", true), ("createrune", false), ("plugin", false)]
        {
            assert_eq!(permits(&environment, 0, &second, method), allowed, "{method}");
        }
    };
    check(&environment.up(&spec).strings());
    check(&restart(&environment, &spec));
    let runes = environment.desk(&json!({"action": "cards"}));
    assert_eq!(done(&runes)["runes"], json!([second, before[1].rune]));
    let log = fs::read_to_string(environment.path().join("logs/supervisor.log")).expect("a log");
    assert!(!log.contains(&second) && !log.contains(&first), "a rune is logged");
}

fn a_new_card_that_was_interrupted_is_finished_at_the_next_start(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec(1);
    let before = environment.up(&spec).strings().remove(0);
    // As it is on disk when the supervisor is killed between storing the new rune and revoking the old one.
    let made = environment.call(0, "createrune", &json!({"restrictions": [["method=getinfo"]]}));
    let id: u64 = text(&made["unique_id"]).parse().expect("a number");
    let path = environment.path().join("nodes/00.json");
    let identity = json!({"node_id": before.node_id, "rune": made["rune"], "revoke_below": id});
    fs::write(&path, identity.to_string()).expect("written");
    assert!(permits(&environment, 0, &before.rune, "getinfo"), "nothing has happened yet");
    assert_eq!(restart(&environment, &spec)[0].rune, text(&made["rune"]));
    assert!(!permits(&environment, 0, &before.rune, "getinfo"));
    assert!(permits(&environment, 0, text(&made["rune"]), "getinfo"));
    let stored = fs::read_to_string(&path).expect("there");
    assert!(!stored.contains("revoke_below"), "it is done: {stored}");
}

fn funds(environment: &Environment, nodes: u32) -> Vec<u64> {
    (0..nodes).map(|node| sat(&environment.rpc(node, "listfunds"))).collect()
}

fn coins_come_at_once_to_one_or_to_all(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    environment.up(&spec(3)).strings();
    // Nobody mines but the payment itself.
    done(&environment.desk(&json!({"action": "pause_blocks"})));
    let before = funds(&environment, 3);
    let all = json!({"action": "send_coins", "sat": 1_000_000, "request": "all"});
    let did = environment.desk(&all);
    assert_eq!((&done(&did)["nodes"], &done(&did)["left_out"]), (&json!([0, 1, 2]), &json!([])));
    let plus = |amounts: [u64; 3]| before.iter().zip(amounts).map(|(a, b)| a + b).collect::<Vec<_>>();
    assert_eq!(funds(&environment, 3), plus([1_000_000; 3]));
    let confirmed = environment.rpc(0, "listfunds");
    assert!(confirmed["outputs"].as_array().expect("coins").iter().all(|coin| coin["status"] == "confirmed"));

    assert_eq!(done(&environment.desk(&all)), done(&did), "the same request");
    assert_eq!(funds(&environment, 3), plus([1_000_000; 3]), "pays once");
    let one = environment.desk(&json!({"action": "send_coins", "node": 1, "sat": MAX_SAT}));
    assert_eq!(done(&one)["nodes"], json!([1]));
    assert_eq!(funds(&environment, 3), plus([1_000_000, 1_000_000 + MAX_SAT, 1_000_000]));

    // One that is off gets nothing, and the others theirs.
    done(&environment.desk(&json!({"action": "switch_off", "node": 2})));
    let some = environment.desk(&json!({"action": "send_coins", "sat": MIN_SAT}));
    assert_eq!(done(&some)["nodes"], json!([0, 1]));
    assert_eq!(done(&some)["left_out"], json!([{"node": 2, "why": "off"}]));
    assert_eq!(
        refusal(&environment.desk(&json!({"action": "send_coins", "node": 2, "sat": MIN_SAT}))),
        "node_off"
    );
    done(&environment.desk(&json!({"action": "switch_on", "node": 2})));
    assert_eq!(sat(&environment.rpc(2, "listfunds")), before[2] + 1_000_000);
}

fn a_payment_that_was_interrupted_is_made_once(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec(2);
    environment.up(&spec).strings();
    done(&environment.desk(&json!({"action": "pause_blocks"})));
    let before = funds(&environment, 2);
    let pay = json!({"action": "send_coins", "node": 0, "sat": 50_000, "request": "p"});
    let did = done(&environment.desk(&pay)).clone();
    // As it is on disk when the supervisor is killed after the payment was confirmed and before that was remembered.
    let tip = environment.bitcoind("getbestblockhash", json!([]));
    let block: Block =
        deserialize_hex(text(&environment.bitcoind("getblock", json!([tip, 0])))).expect("a block");
    assert_eq!(block.txdata.len(), 2, "the coinbase and the payment");
    let pending = json!({"transaction": serialize_hex(&block.txdata[1]), "request": "p", "did": did});
    let ledger = environment.path().join("ledger.json");
    fs::write(&ledger, json!({"pending": pending, "entries": []}).to_string()).expect("written");
    restart(&environment, &spec);
    assert_eq!(done(&environment.desk(&pay)), &did);
    assert_eq!(funds(&environment, 2), [before[0] + 50_000, before[1]]);
    // And before it was confirmed: the next payment, of another request, finishes the first.
    let stored: Value = serde_json::from_slice(&fs::read(&ledger).expect("there")).expect("JSON");
    assert_eq!(stored["pending"], Value::Null);
    let next = json!({"action": "send_coins", "node": 1, "sat": 60_000, "request": "q"});
    done(&environment.desk(&next));
    assert_eq!(funds(&environment, 2), [before[0] + 50_000, before[1] + 60_000]);
}

fn channels_of(environment: &Environment, node: u32) -> usize {
    let channels = environment.rpc(node, "listpeerchannels");
    let open = |channel: &&Value| channel["state"] == "CHANNELD_NORMAL";
    channels["channels"].as_array().expect("a list").iter().filter(open).count()
}

fn channels_are_opened_as_far_as_they_are_missing(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let mut spec = spec(4);
    spec["coin_distribution"] = json!("egalitarian");
    let strings = environment.up(&spec).strings();
    done(&environment.desk(&json!({"action": "pause_blocks"})));
    // An attendee was faster, from the other end, and confirms it.
    let hub = format!("{}@{}:9735", strings[0].node_id, environment.address);
    environment.call(1, "multifundchannel", &json!([[{"id": hub, "amount": 1_000_000}]]));
    done(&environment.desk(&json!({"action": "mine", "blocks": 6})));
    environment.until("open", |_| channels_of(&environment, 0) == 1);
    done(&environment.desk(&json!({"action": "switch_off", "node": 3})));

    let star = json!({"action": "open_channels", "setup": "star"});
    let did = environment.desk(&star);
    assert_eq!((&done(&did)["opened"], &done(&did)["open_already"]), (&json!(1), &json!(1)));
    assert_eq!(done(&did)["left_out"], json!([{"node": 3, "why": "off"}]));
    environment.until("open", |_| channels_of(&environment, 0) == 2 && channels_of(&environment, 2) == 1);
    done(&environment.desk(&json!({"action": "switch_on", "node": 3})));
    let did = environment.desk(&star);
    assert_eq!((&done(&did)["opened"], &done(&did)["open_already"]), (&json!(1), &json!(2)));
    assert_eq!(done(&did)["left_out"], json!([]));
    environment.until("open", |_| (0..4).map(|node| channels_of(&environment, node)).eq([3, 1, 1, 1]));
    let did = environment.desk(&star);
    assert_eq!((&done(&did)["opened"], &done(&did)["open_already"]), (&json!(0), &json!(3)), "once");
    // Another set-up adds what it has and the first has not: 1 to 2 and 2 to 3.
    let did = environment.desk(&json!({"action": "open_channels", "setup": "circular"}));
    assert_eq!((&done(&did)["opened"], &done(&did)["open_already"]), (&json!(2), &json!(2)));
    environment.until("open", |_| (0..4).map(|node| channels_of(&environment, node)).eq([3, 2, 3, 2]));
}

fn height(environment: &Environment) -> u64 {
    environment.bitcoind("getblockcount", json!([])).as_u64().expect("a height")
}

fn blocks_come_when_asked_for_and_not_while_they_are_paused(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec(1);
    environment.up(&spec).strings();
    let answer = environment.desk(&json!({"action": "pause_blocks"}));
    assert_eq!(
        (&done(&answer)["what"], &answer["overview"]["blocks_paused"]),
        (&json!("blocks_paused"), &json!(true))
    );
    let paused_at = height(&environment);
    // After the start a block comes each block time, a second.
    let hold = |at: u64| {
        let end = Instant::now() + Duration::from_secs(3);
        environment.until("three block times later", |status| {
            assert_eq!(status["block_height"], at, "a block came by itself");
            assert_eq!(status["blocks_paused"], true);
            Instant::now() > end
        });
    };
    hold(paused_at);
    let mine = json!({"action": "mine", "blocks": 3, "request": "m"});
    assert_eq!(done(&environment.desk(&mine))["blocks"], 3);
    assert_eq!(done(&environment.desk(&mine))["blocks"], 3, "the same request");
    assert_eq!(height(&environment), paused_at + 3);
    assert_eq!(
        environment.desk(&json!({"action": "mine", "blocks": 1}))["overview"]["block_height"],
        paused_at + 4
    );

    // A start mines one block, whatever is paused: daemons need a recent one.
    restart(&environment, &spec);
    hold(paused_at + 5);
    let answer = environment.desk(&json!({"action": "resume_blocks"}));
    assert_eq!(answer["overview"]["blocks_paused"], false);
    environment.until("mining again", |status| status["block_height"].as_u64() > Some(paused_at + 5));
    assert_eq!(environment.status()["blocks_paused"], false);
}

fn a_node_that_is_switched_off_stays_off_and_is_no_fault(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec(3);
    let strings = environment.up(&spec).strings();
    let off = json!({"action": "switch_off", "node": 1});
    for _ in 0..2 {
        let answer = environment.desk(&off);
        assert_eq!(done(&answer), &json!({"what": "switched_off", "node": 1}));
        let states: Vec<_> = (0..3).map(|node| text(&answer["overview"]["nodes"][node]["state"])).collect();
        assert_eq!(states, ["running", "off", "running"]);
    }
    let is_off = |status: &Value| {
        let node = &status["nodes"][1];
        assert_eq!((&node["off"], &node["pid"]), (&json!(true), &Value::Null));
        assert_eq!(status["ready"], true, "it is no fault");
    };
    is_off(&environment.status());
    let node_1 = |environment: &Environment| {
        environment.processes().iter().filter(|(_, command)| command.contains("nodes/01")).count()
    };
    assert_eq!(node_1(&environment), 0);
    assert_eq!(refusal(&environment.desk(&json!({"action": "new_card", "node": 1}))), "node_off");

    // Neither a new supervisor starts it, nor the next day.
    assert_eq!(restart(&environment, &spec), strings);
    is_off(&environment.until("ready", |status| status["ready"] == true));
    assert!(environment.down().status.success());
    assert_eq!(environment.up(&spec).strings(), strings);
    is_off(&environment.until("ready", |status| status["ready"] == true));
    assert_eq!(node_1(&environment), 0);

    for _ in 0..2 {
        let answer = environment.desk(&json!({"action": "switch_on", "node": 1}));
        assert_eq!(done(&answer), &json!({"what": "switched_on", "node": 1}));
        assert_eq!(answer["overview"]["nodes"][1]["state"], "running");
    }
    assert_eq!(environment.rpc(1, "getinfo")["id"], strings[1].node_id.as_str());
    assert!(permits(&environment, 1, &strings[1].rune, "getinfo"));
    // And it is kept running like any other.
    kill(support::pid(&environment.status()["nodes"][1]["pid"]), Signal::SIGKILL).expect("a node to kill");
    environment.until("restarted", |status| status["nodes"][1]["restarts"] == 1 && status["ready"] == true);
}

fn one_action_at_a_time(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    environment.up(&spec(2)).strings();
    done(&environment.desk(&json!({"action": "switch_off", "node": 1})));
    // A start that takes its time: the port is taken.
    let taken = TcpListener::bind((environment.address.as_str(), LISTEN_FIRST + 1)).expect("a port");
    let starting = environment.start_desk(r#"{"action": "switch_on", "node": 1}"#);
    environment.until("starting", |status| status["nodes"][1]["state"] == "waiting");
    assert_eq!(refusal(&environment.desk(&json!({"action": "mine", "blocks": 1}))), "busy");
    let looked = environment.desk(&json!({"action": "look"}));
    assert_eq!(done(&looked)["what"], "looked", "a look is always possible");
    assert_eq!(looked["overview"]["nodes"][1]["state"], "down");
    assert_eq!(refusal(&answer_of(&starting.wait_with_output().expect("it ends"))), "no_answer");
    done(&environment.desk(&json!({"action": "mine", "blocks": 1})));
    drop(taken);
    environment.until("started", |status| status["ready"] == true);
}

fn what_cannot_be_done_is_refused_and_changes_nothing(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let look = json!({"action": "look"});
    assert_eq!(refusal(&environment.desk(&look)), "not_running", "there is none");
    environment.up(&spec(2)).strings();
    done(&environment.desk(&json!({"action": "pause_blocks"})));
    let before = (height(&environment), funds(&environment, 2));
    for action in [
        json!({"action": "new_card", "node": 2}),
        json!({"action": "send_coins", "sat": MIN_SAT - 1}),
        json!({"action": "send_coins", "sat": MAX_SAT + 1}),
        json!({"action": "send_coins", "node": 2, "sat": MIN_SAT}),
        json!({"action": "mine", "blocks": 0}),
        json!({"action": "mine", "blocks": MAX_BLOCKS + 1}),
        json!({"action": "open_channels", "setup": "none"}),
        json!({"action": "open_channels", "setup": "mesh"}),
        json!({"action": "switch_off", "node": -1}),
        json!({"action": "stop"}),
        json!({"action": "mine", "blocks": 1, "version": 2}),
        json!({}),
        json!([]),
    ] {
        assert_eq!(refusal(&environment.desk(&action)), "invalid", "{action}");
    }
    for garbage in ["", "{", "\u{0}", &"[".repeat(10_000)] {
        let output = environment.start_desk(garbage).wait_with_output().expect("it ends");
        assert_eq!(refusal(&answer_of(&output)), "invalid", "{garbage:.20}");
    }
    assert_eq!((height(&environment), funds(&environment, 2)), before);
    // As it comes over SSH.
    let mut attend = environment.lnplay(&["attend"]).spawn().expect("lnplay runs");
    let request = b"lnplay desk\n{\"action\": \"look\"}";
    attend.stdin.take().expect("piped").write_all(request).expect("it reads");
    assert_eq!(done(&answer_of(&attend.wait_with_output().expect("it ends")))["what"], "looked");
    assert!(environment.down().status.success());
    assert_eq!(refusal(&environment.desk(&look)), "not_running");
}
