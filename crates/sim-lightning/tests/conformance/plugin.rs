//! The plugin protocol, with the plugin in `src/bin/sim-test-plugin.rs`.

use serde_json::{Value, json};
use sim_lightning::commando::Client;

use crate::daemons::{Bench, checks, eventually};

checks!(
    options_methods_and_log,
    notifications_reach_subscribers,
    a_dead_plugin_takes_its_methods_with_it,
    a_plugin_may_bow_out,
    a_method_that_is_taken_stays_with_its_owner,
    an_important_plugin_takes_the_node_with_it,
    plugins_come_and_go,
    shutdown_is_announced,
);

const PLUGIN: &str = env!("CARGO_BIN_EXE_sim-test-plugin");

async fn options_methods_and_log(mut bench: Bench) {
    let options = [
        "--test-text=given",
        "--test-number=42",
        "--test-switch=true",
        "--test-flag",
        "--test-many=a",
        "--test-many=b",
    ];
    let node = bench.node_with_plugin("", &options).await;
    let echo = node.call("test-echo", json!({"a": [1, "two", null], "b": {"c": 1.5}})).await;
    assert_eq!(echo["params"], json!({"a": [1, "two", null], "b": {"c": 1.5}}));
    let expected = json!({"test-text": "given", "test-number": 42, "test-switch": true, "test-flag": true, "test-many": ["a", "b"]});
    assert_eq!(echo["options"], expected);
    let configuration = &echo["configuration"];
    assert_eq!(configuration["lightning-dir"], node.dir.to_str().expect("UTF-8"));
    assert_eq!(
        (&configuration["rpc-file"], &configuration["network"], &configuration["startup"]),
        (&json!("lightning-rpc"), &json!("regtest"), &json!(true))
    );
    for place in ["init", "node", "channel", "invoice"] {
        assert!(configuration["feature_set"][place].is_string(), "{configuration}");
    }
    assert_eq!(node.call("test-echo", json!([1, 2])).await["params"], json!([1, 2]));
    let error = node.refused("test-fail", json!({})).await;
    assert_eq!(error, json!({"code": -123, "message": "as asked", "data": {"why": "test"}}));
    let help = node.call("help", json!(["test-echo"])).await;
    assert_eq!(help["help"][0]["command"], "test-echo [anything]");
    for (level, label) in
        [("debug", "DEBUG  "), ("info", "INFO   "), ("warn", "UNUSUAL"), ("error", "**BROKEN**")]
    {
        node.call("test-log", json!({"level": level, "message": format!("said at {level}")})).await;
        let line = format!("{label} plugin-sim-test-plugin: said at {level}");
        eventually(&line, async || node.logged(&line).then_some(())).await;
    }
    // Over commando a plugin's methods are methods like any other.
    let rune = node.call("createrune", json!({"restrictions": [["method^test-"]]})).await;
    let rune = rune["rune"].as_str().expect("text");
    let client = Client::connect(&format!("ws://127.0.0.1:{}", node.ws_port), &node.id().await)
        .await
        .expect("connects");
    let echo = client.call(rune, "test-echo", json!({"over": "commando"})).await.expect("permitted");
    assert_eq!(echo["params"], json!({"over": "commando"}));
    assert_eq!(client.call(rune, "test-fail", json!({})).await.expect_err("fails").code(), Some(-123));

    // What was not given has its default, or is not there.
    let node = bench.node_with_plugin("", &[]).await;
    let echo = node.call("test-echo", json!({})).await;
    assert_eq!(echo["options"], json!({"test-text": "untouched", "test-number": 7, "test-switch": false}));
    let mut node = bench.start("", &[&format!("--plugin={PLUGIN}"), "--test-number=many"]);
    assert_eq!(node.ended().await, Some(1));
}

async fn notifications_reach_subscribers(mut bench: Bench) {
    let node = bench.node_with_plugin("", &[]).await;
    let seen = async |topic: &str| {
        eventually(topic, async || {
            let events = node.call("test-events", json!({})).await;
            events["events"].as_array().expect("a list").iter().find(|event| event["topic"] == topic).cloned()
        })
        .await["params"]
            .clone()
    };
    node.call("invoice", json!([1000, "noted", "d"])).await;
    let news = &seen("invoice_creation").await["invoice_creation"];
    assert_eq!((&news["label"], &news["msat"]), (&json!("noted"), &json!(1000)));
    assert_eq!(news["preimage"].as_str().map(str::len), Some(64));
    let hashes = bench.bitcoind.call("generatetoaddress", json!([1, crate::bitcoin::ADDRESS])).await;
    let last = eventually("the block", async || {
        let events = node.call("test-events", json!({})).await;
        let last = events["events"]
            .as_array()
            .expect("a list")
            .iter()
            .rfind(|event| event["topic"] == "block_added")
            .cloned()?;
        (last["params"]["block_added"]["height"] == 2).then_some(last)
    })
    .await;
    assert_eq!(last["params"]["block_added"]["hash"], hashes[0]);
}

async fn a_dead_plugin_takes_its_methods_with_it(mut bench: Bench) {
    let node = bench.node_with_plugin("", &[]).await;
    let error = node.refused("test-die", json!({})).await;
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!(-4), &json!("Plugin terminated before replying to RPC call."))
    );
    let error = node.refused("test-echo", json!({})).await;
    assert_eq!(error["code"], -32601);
    node.call("getinfo", json!({})).await;
    // Its place is free.
    node.call("plugin", json!(["start", PLUGIN])).await;
    node.call("test-echo", json!({})).await;
}

async fn a_plugin_may_bow_out(mut bench: Bench) {
    for (mode, reason) in [
        ("disable-manifest", "disabled itself: not today"),
        ("disable-init", "disabled itself at init: not with these options"),
        ("die-manifest", "exited"),
        ("die-init", "exited"),
    ] {
        let node = bench.node_with_plugin(mode, &[]).await;
        assert_eq!(node.refused("test-echo", json!({})).await["code"], -32601, "{mode}");
        assert!(
            node.logged(reason),
            "{mode}: {reason} is not in {}",
            std::fs::read_to_string(&node.log).unwrap_or_default()
        );
        node.call("getinfo", json!({})).await;
    }
    // However important it was.
    let important = format!("--important-plugin={PLUGIN}");
    let node = bench.start("disable-init", &[&important]);
    eventually("the node to start", async || node.logged("Server started with public key").then_some(()))
        .await;
}

/// Started once the method's owner has it: at the node's own start either of the two may be the first.
async fn a_method_that_is_taken_stays_with_its_owner(mut bench: Bench) {
    let mut node = bench.start("method-taken", &[]);
    node.ready().await;
    let error = node.refused("plugin", json!(["start", PLUGIN])).await;
    assert_eq!(error["code"], -3, "{error}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("Could not register method \"pay\""), "{message}");
    assert_eq!(node.refused("test-echo", json!({})).await["code"], -32601);
    node.call("getinfo", json!({})).await;
}

async fn an_important_plugin_takes_the_node_with_it(mut bench: Bench) {
    let important = format!("--important-plugin={PLUGIN}");
    let mut node = bench.node(&[&important]).await;
    // The answer may or may not come before the end.
    drop(node.try_call("test-die", json!({})).await);
    assert_eq!(node.ended().await, Some(1));
    assert!(node.logged("Plugin marked as important, shutting down lightningd!"));
    let mut node = bench.start("die-init", &[&important]);
    assert_eq!(node.ended().await, Some(1));
}

async fn plugins_come_and_go(mut bench: Bench) {
    let node = bench.node(&[]).await;
    assert_eq!(node.refused("test-echo", json!({})).await["code"], -32601);
    let started = node
        .call("plugin", json!({"subcommand": "start", "plugin": PLUGIN, "test-text": "at the start"}))
        .await;
    let listed = |answer: &Value| {
        answer["plugins"].as_array().expect("a list").iter().find(|plugin| plugin["name"] == PLUGIN).cloned()
    };
    assert_eq!(listed(&started), Some(json!({"name": PLUGIN, "active": true, "dynamic": true})));
    let echo = node.call("test-echo", json!({})).await;
    assert_eq!(
        (&echo["options"]["test-text"], &echo["configuration"]["startup"]),
        (&json!("at the start"), &json!(false))
    );
    let stopped = node.call("plugin", json!(["stop", "sim-test-plugin"])).await;
    assert_eq!(stopped, json!({"command": "stop", "result": "Successfully stopped sim-test-plugin."}));
    assert_eq!(node.refused("test-echo", json!({})).await["code"], -32601);
    assert_eq!(listed(&node.call("plugin", json!(["list"])).await), None);
    assert_eq!(node.refused("plugin", json!(["stop", "nonsense"])).await["code"], -32602);
    assert_eq!(node.refused("plugin", json!(["start", "/does/not/exist"])).await["code"], -32602);
    assert_eq!(node.refused("plugin", json!(["nonsense"])).await["code"], -32602);
}

async fn shutdown_is_announced(mut bench: Bench) {
    let mut node = bench.node_with_plugin("", &[]).await;
    assert_eq!(node.call("stop", json!({})).await, json!({"result": "Shutdown complete"}));
    assert_eq!(node.ended().await, Some(0));
    assert!(node.dir.join("test-plugin-shutdown").exists());
}
