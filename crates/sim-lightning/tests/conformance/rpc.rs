//! JSON-RPC over the unix socket: frames, invoices, the datastore.

use serde_json::{Value, json};

use crate::daemons::{Bench, checks, eventually};

checks!(
    frames_and_errors,
    an_invoice_from_making_to_expiry,
    invoices_refuse_bad_parameters,
    invoices_are_listed_by_index,
    the_datastore_has_modes_and_generations,
    the_datastore_is_a_tree,
    a_killed_node_remembers,
    an_unknown_option_stops_the_start,
    a_chain_that_is_a_day_old_is_not_synchronised,
);

fn code(error: &Value) -> i64 {
    error["code"].as_i64().expect("errors have a code")
}

async fn frames_and_errors(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let info = node.call("getinfo", json!({})).await;
    assert_eq!(
        (&info["alias"], &info["color"], &info["network"]),
        (&json!("tested"), &json!("aabbcc"), &json!("regtest"))
    );
    // The real one learns its height from a process of its own.
    eventually("the first block", async || {
        (node.call("getinfo", json!({})).await["blockheight"] == 1).then_some(())
    })
    .await;
    assert_eq!(info["lightning-dir"], node.dir.to_str().expect("UTF-8"));
    // WebSocket addresses are not shown.
    assert_eq!(info["binding"], json!([{"type": "ipv4", "address": "127.0.0.1", "port": node.port}]));

    let error = node.refused("nonsense", json!({})).await;
    assert_eq!((code(&error), &error["message"]), (-32601, &json!("Unknown command 'nonsense'")));
    assert_eq!(code(&node.refused("getinfo", json!({"a": 1})).await), -32602);
    assert_eq!(code(&node.refused("getinfo", json!([1])).await), -32602);

    let mut connection = node.connection().await;
    let request = |id: Value, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    // One that waits does not hold up those behind it, and ids come back as they were.
    let waiting = request(json!("slow"), "waitanyinvoice", json!({"timeout": 1}));
    connection.send(&waiting).await.expect("sent");
    for id in [json!(1), json!("two"), json!("ünïcode \" \\")] {
        connection.send(&request(id.clone(), "getinfo", json!({}))).await.expect("sent");
        let answer = connection.receive().await.expect("an answer");
        assert_eq!(answer["id"], id);
        assert_eq!(answer["result"]["alias"], "tested");
    }
    let answer = connection.receive().await.expect("an answer");
    assert_eq!((&answer["id"], code(&answer["error"])), (&json!("slow"), 904));
    // Several in one write.
    connection.send(&request(json!(7), "getinfo", json!({}))).await.expect("sent");
    connection.send(&request(json!(8), "getinfo", json!({}))).await.expect("sent");
    let mut ids =
        [connection.receive().await.expect("an answer"), connection.receive().await.expect("an answer")]
            .map(|answer| answer["id"].as_u64());
    ids.sort_unstable();
    assert_eq!(ids, [Some(7), Some(8)]);
    let mut filtered = request(json!(9), "getinfo", json!({}));
    filtered["filter"] = json!({"alias": true});
    connection.send(&filtered).await.expect("sent");
    assert_eq!(connection.receive().await.expect("an answer")["result"], json!({"alias": "tested"}));
    let help = node.call("help", json!({"command": "delinvoice"})).await;
    assert_eq!(help["help"][0]["command"], "delinvoice label status [desconly]");
}

async fn an_invoice_from_making_to_expiry(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let order =
        json!({"amount_msat": 76_800_000, "label": "a label", "description": "what for", "expiry": 3600});
    let made = node.call("invoice", order.clone()).await;
    let bolt11 = made["bolt11"].as_str().expect("text");
    assert!(bolt11.starts_with("lnbcrt768u1"), "{bolt11}");
    assert_eq!(made["created_index"], 1);
    let decoded = node.call("decode", json!([bolt11])).await;
    assert_eq!(
        (&decoded["type"], &decoded["valid"], &decoded["currency"]),
        (&json!("bolt11 invoice"), &json!(true), &json!("bcrt"))
    );
    assert_eq!(decoded["amount_msat"], 76_800_000);
    assert_eq!(decoded["payee"], node.id().await);
    assert_eq!(decoded["payment_hash"], made["payment_hash"]);
    assert_eq!(decoded["payment_secret"], made["payment_secret"]);
    assert_eq!((&decoded["expiry"], &decoded["description"]), (&json!(3600), &json!("what for")));
    assert_eq!(decoded["created_at"].as_u64().map(|at| json!(at + 3600)), Some(made["expires_at"].clone()));

    let error = node.refused("invoice", order).await;
    assert_eq!((code(&error), &error["message"]), (900, &json!("Duplicate label 'a label'")));
    for by in [
        json!({"label": "a label"}),
        json!({"payment_hash": made["payment_hash"]}),
        json!({"invstring": bolt11}),
    ] {
        let found = node.call("listinvoices", by).await;
        let invoice = &found["invoices"][0];
        assert_eq!((&invoice["label"], &invoice["status"]), (&json!("a label"), &json!("unpaid")));
        assert_eq!(
            (&invoice["amount_msat"], &invoice["description"]),
            (&json!(76_800_000), &json!("what for"))
        );
        assert_eq!(invoice.get("updated_index"), None);
    }
    assert_eq!(node.call("listinvoices", json!({"label": "another"})).await, json!({"invoices": []}));

    let error = node.refused("delinvoice", json!({"label": "a label", "status": "paid"})).await;
    assert_eq!((code(&error), &error["message"]), (906, &json!("Invoice status is unpaid not paid")));
    assert_eq!(error["data"], json!({"current_status": "unpaid", "expected_status": "paid"}));
    let error = node.refused("delinvoice", json!(["another", "unpaid"])).await;
    assert_eq!((code(&error), &error["message"]), (905, &json!("Unknown invoice")));
    let gone = node.call("delinvoice", json!(["a label", "unpaid"])).await;
    assert_eq!((&gone["label"], &gone["status"]), (&json!("a label"), &json!("unpaid")));
    assert_eq!(node.call("listinvoices", json!({})).await, json!({"invoices": []}));

    let error = node.refused("waitinvoice", json!(["a label"])).await;
    assert_eq!((code(&error), &error["message"]), (-1, &json!("Label not found")));
    node.call("invoice", json!(["any", 5, "short", 1])).await;
    let error = node.refused("waitinvoice", json!(["5"])).await;
    assert_eq!((code(&error), &error["message"]), (903, &json!("invoice expired during wait")));
    let invoice = &node.call("listinvoices", json!(["5"])).await["invoices"][0];
    assert_eq!(
        (&invoice["status"], &invoice["created_index"], &invoice["updated_index"]),
        (&json!("expired"), &json!(2), &json!(1))
    );
    assert_eq!(invoice.get("amount_msat"), None);
    assert_eq!(code(&node.refused("delinvoice", json!(["5", "unpaid"])).await), 906);
    node.call("delinvoice", json!(["5", "expired"])).await;
    assert_eq!(node.call("invoice", json!([1000, "5", "again"])).await["created_index"], 3);
}

async fn invoices_refuse_bad_parameters(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let good = json!({"amount_msat": 1000, "label": "l", "description": "d"});
    let long = "x".repeat(640);
    for (name, value) in [
        ("amount_msat", json!(0)),
        ("amount_msat", json!(-1)),
        ("amount_msat", json!("nonsense")),
        ("amount_msat", json!(1.5)),
        ("label", json!("x".repeat(129))),
        ("label", json!({"a": 1})),
        ("description", json!(long)),
        ("description", json!(5)),
        ("expiry", json!("soon")),
        ("preimage", json!("00")),
        ("nonsense", json!(1)),
    ] {
        let mut params = good.clone();
        params[name] = value.clone();
        assert_eq!(code(&node.refused("invoice", params).await), -32602, "{name}: {value}");
    }
    let error = node.refused("invoice", json!({"amount_msat": 1000, "label": "l"})).await;
    assert_eq!(
        (code(&error), &error["message"]),
        (-32602, &json!("missing required parameter: description"))
    );
    let error = node.refused("delinvoice", json!(["l", "unpaid", false, 1])).await;
    assert_eq!(error["message"], "too many parameters: got 4, expected 3");
    for (text, msat) in [("1sat", 1000), ("5msat", 5), ("0.00000001btc", 1000)] {
        let made = node.call("invoice", json!([text, text, "units"])).await;
        assert_eq!(node.call("decode", json!([made["bolt11"]])).await["amount_msat"], msat);
    }
    let preimage = "01".repeat(32);
    let made = node
        .call("invoice", json!({"amount_msat": 1, "label": "p", "description": "", "preimage": preimage}))
        .await;
    assert_eq!(made["payment_hash"], "72cd6e8422c407fb6d098690f1130b7ded7ec2f7f5e1d30bd9d521f015363793");
    let again = json!({"amount_msat": 1, "label": "q", "description": "", "preimage": preimage});
    assert_eq!(code(&node.refused("invoice", again).await), 901);
    let hashed = node
        .call("invoice", json!({"amount_msat": 1, "label": "h", "description": long, "deschashonly": true}))
        .await;
    assert!(node.call("decode", json!([hashed["bolt11"]])).await["description_hash"].is_string());
}

async fn invoices_are_listed_by_index(mut bench: Bench) {
    let node = bench.node(&[]).await;
    for label in ["c", "b", "a"] {
        node.call("invoice", json!([1000, label, "d", if label == "b" { 1 } else { 3600 }])).await;
    }
    let labels = |listed: Value| {
        listed["invoices"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|invoice| invoice["label"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(node.call("listinvoices", json!({})).await), ["c", "b", "a"]);
    let page = |start: u64, limit: u64| json!({"index": "created", "start": start, "limit": limit});
    assert_eq!(labels(node.call("listinvoices", page(2, 1)).await), ["b"]);
    assert_eq!(labels(node.call("listinvoices", page(3, 9)).await), ["a"]);
    assert_eq!(labels(node.call("listinvoices", page(4, 9)).await), Vec::<String>::new());
    eventually("the invoice to expire", async || {
        let listed = node.call("listinvoices", json!({"index": "updated", "start": 1})).await;
        (labels(listed) == ["b"]).then_some(())
    })
    .await;
    assert_eq!(code(&node.refused("listinvoices", json!({"start": 1})).await), -32602);
    assert_eq!(code(&node.refused("listinvoices", json!({"limit": 1})).await), -32602);
    assert_eq!(
        code(&node.refused("listinvoices", json!({"label": "a", "payment_hash": "00".repeat(32)})).await),
        -32602
    );
    assert_eq!(code(&node.refused("listinvoices", json!({"index": "nonsense"})).await), -32602);
}

async fn the_datastore_has_modes_and_generations(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let key = json!(["plugin", "record"]);
    let stored = node.call("datastore", json!({"key": key, "string": "one"})).await;
    assert_eq!(stored, json!({"key": key, "generation": 0, "hex": "6f6e65", "string": "one"}));
    let refused = async |params: Value| {
        let error = node.refused("datastore", params).await;
        (code(&error), error["message"].as_str().expect("text").to_owned())
    };
    let text = |code: i64, message: &str| (code, message.to_owned());
    assert_eq!(refused(json!({"key": key, "string": "x"})).await, text(1202, "Key already exists"));
    let replace = json!({"key": key, "string": "two", "mode": "must-replace", "generation": 0});
    assert_eq!(node.call("datastore", replace.clone()).await["generation"], 1);
    assert_eq!(refused(replace).await, text(1204, "generation is different"));
    let append = json!({"key": key, "hex": "ff", "mode": "must-append", "generation": 1});
    let appended = node.call("datastore", append).await;
    assert_eq!(
        (&appended["generation"], &appended["hex"], appended.get("string")),
        (&json!(2), &json!("74776fff"), None)
    );
    assert_eq!(
        refused(json!({"key": "none", "string": "x", "mode": "must-replace"})).await,
        text(1203, "Key does not exist")
    );
    assert_eq!(
        refused(json!({"key": "none", "string": "x", "mode": "must-append"})).await,
        text(1203, "Key does not exist")
    );
    let created =
        node.call("datastore", json!({"key": "other", "string": "a", "mode": "create-or-append"})).await;
    assert_eq!((&created["key"], &created["generation"]), (&json!(["other"]), &json!(0)));
    let grown =
        node.call("datastore", json!({"key": "other", "string": "b", "mode": "create-or-append"})).await;
    assert_eq!((&grown["string"], &grown["generation"]), (&json!("ab"), &json!(1)));
    let replaced =
        node.call("datastore", json!({"key": "other", "string": "c", "mode": "create-or-replace"})).await;
    assert_eq!((&replaced["string"], &replaced["generation"]), (&json!("c"), &json!(2)));
    for bad in [
        json!({"key": "k"}),
        json!({"key": "k", "string": "a", "hex": "00"}),
        json!({"key": "k", "hex": "0"}),
        json!({"key": "k", "string": "a", "mode": "nonsense"}),
        json!({"key": "k", "string": "a", "generation": 0}),
        json!({"key": [], "string": "a"}),
        json!({"key": {"a": 1}, "string": "a"}),
    ] {
        assert_eq!(refused(bad.clone()).await.0, -32602, "{bad}");
    }
    let error = node.refused("deldatastore", json!({"key": key, "generation": 0})).await;
    assert_eq!((code(&error), &error["message"]), (1201, &json!("generation is different")));
    assert_eq!(node.call("deldatastore", json!({"key": key, "generation": 2})).await["hex"], "74776fff");
    let error = node.refused("deldatastore", json!({"key": key})).await;
    assert_eq!((code(&error), &error["message"]), (1200, &json!("Key does not exist")));
    assert_eq!(node.call("datastore", json!({"key": key, "string": "new"})).await["generation"], 0);
}

async fn the_datastore_is_a_tree(mut bench: Bench) {
    let node = bench.node(&[]).await;
    for key in
        [json!(["a", "x"]), json!(["a", "y", "1"]), json!(["a", "y", "2"]), json!(["a", "z"]), json!("b")]
    {
        node.call("datastore", json!({"key": key, "string": "v"})).await;
    }
    let error = node.refused("datastore", json!({"key": "a", "string": "v"})).await;
    assert_eq!((code(&error), &error["message"]), (1205, &json!("Key has children already")));
    let error = node.refused("datastore", json!({"key": ["a", "x", "below"], "string": "v"})).await;
    assert_eq!((code(&error), &error["message"]), (1206, &json!("Parent key [a,x] exists")));
    let keys = async |params: Value| {
        let listed = node.call("listdatastore", params).await;
        listed["datastore"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| (entry["key"].clone(), entry.get("hex").is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(json!({"key": "a"})).await,
        [(json!(["a", "x"]), true), (json!(["a", "y"]), false), (json!(["a", "z"]), true)]
    );
    assert_eq!(
        keys(json!({"key": ["a", "y"]})).await,
        [(json!(["a", "y", "1"]), true), (json!(["a", "y", "2"]), true)]
    );
    assert_eq!(keys(json!({"key": ["a", "x"]})).await, [(json!(["a", "x"]), true)]);
    assert_eq!(keys(json!({"key": ["none"]})).await, []);
    let top = keys(json!({})).await;
    assert!(top.contains(&(json!(["a"]), false)) && top.contains(&(json!(["b"]), true)), "{top:?}");
    let usage = node.call("datastoreusage", json!({"key": ["a", "y"]})).await;
    assert_eq!(usage, json!({"datastoreusage": {"key": "[a,y]", "total_bytes": 12}}));
}

async fn a_killed_node_remembers(mut bench: Bench) {
    let mut node = bench.node(&[]).await;
    let id = node.id().await;
    node.call("invoice", json!([1000, "kept", "d"])).await;
    node.call("invoice", json!([1000, "deleted", "d"])).await;
    node.call("delinvoice", json!(["deleted", "unpaid"])).await;
    node.call("datastore", json!({"key": "k", "string": "1"})).await;
    node.call("datastore", json!({"key": "k", "string": "2", "mode": "must-replace"})).await;
    let rune = node.call("createrune", json!({"restrictions": [["method=getinfo"]]})).await["rune"].clone();
    let address = node.call("newaddr", json!(["bech32"])).await["bech32"].clone();
    node.kill_and_restart().await;
    assert_eq!(node.id().await, id);
    let listed = node.call("listinvoices", json!({})).await;
    assert_eq!(listed["invoices"].as_array().map(Vec::len), Some(1));
    assert_eq!(node.call("invoice", json!([1000, "next", "d"])).await["created_index"], 3);
    let replace = json!({"key": "k", "string": "3", "mode": "must-replace", "generation": 1});
    assert_eq!(node.call("datastore", replace).await["generation"], 2);
    assert_eq!(node.call("checkrune", json!({"rune": rune, "method": "getinfo"})).await["valid"], true);
    assert_eq!(node.call("createrune", json!({})).await["unique_id"], "1");
    assert_ne!(node.call("newaddr", json!(["bech32"])).await["bech32"], address);
}

async fn an_unknown_option_stops_the_start(mut bench: Bench) {
    let mut node = bench.start("", &["--nonsense=3"]);
    assert_eq!(node.ended().await, Some(1));
    assert!(Bench::complaint(&node).contains("--nonsense=3: unknown option"), "{}", Bench::complaint(&node));
    let mut node = bench.start("", &["--plugin=/does/not/exist"]);
    assert_eq!(node.ended().await, Some(1));
}

/// bitcoind takes a chain whose newest block is more than a day old for one that it still downloads, after each start.
async fn a_chain_that_is_a_day_old_is_not_synchronised(mut bench: Bench) {
    const WARNING: &str = "warning_bitcoind_sync";
    let node = bench.node(&[]).await;
    assert_eq!(node.call("getinfo", json!({})).await.get(WARNING), None);
    let chain = json!({"chain": "regtest", "headercount": 1, "blockcount": 1, "ibd": false});
    assert_eq!(node.call("getchaininfo", json!({})).await, chain);

    let tip = bench.bitcoind.call("getblockchaininfo", json!([])).await["time"].as_u64().expect("a time");
    bench.bitcoind.restart(&[&format!("-mocktime={}", tip + 2 * 24 * 3600)]).await;
    // Once it was synchronised, a running node does not ask again.
    assert_eq!(node.call("getinfo", json!({})).await.get(WARNING), None);
    let second = bench.node(&[]).await;
    let info = second.call("getinfo", json!({})).await;
    assert_eq!(info[WARNING], "Bitcoind is not up-to-date with network.");
    assert_eq!(info.get("warning_lightningd_sync"), None);
    let chain = json!({"chain": "regtest", "headercount": 1, "blockcount": 1, "ibd": true});
    assert_eq!(second.call("getchaininfo", json!({})).await, chain);

    bench
        .bitcoind
        .call("generatetoaddress", json!([1, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"]))
        .await;
    eventually("the node to be synchronised", async || {
        second.call("getinfo", json!({})).await.get(WARNING).is_none().then_some(())
    })
    .await;
}
