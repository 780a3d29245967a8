//! Runes: what they permit, and in which words they refuse.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemons::{Bench, Lightningd, checks};

checks!(a_table_of_restrictions, rates_are_spacing, runes_are_shown_derived_and_blacklisted);

async fn rune(node: &Lightningd, restrictions: &Value) -> Value {
    node.call("createrune", json!({"restrictions": restrictions})).await["rune"].clone()
}

/// "" if the rune permits it, else the refusal.
async fn verdict(node: &Lightningd, mut check: Value, rune: &Value) -> String {
    check["rune"] = rune.clone();
    match node.try_call("checkrune", check).await.expect("answers") {
        Ok(_) => String::new(),
        Err(error) => {
            assert!([1501, 1502, 1503].contains(&error["code"].as_i64().expect("a number")), "{error}");
            error["message"].as_str().expect("text").to_owned()
        }
    }
}

async fn a_table_of_restrictions(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let peer = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
    let other = "022d223620a359a47ff7f7ac447c85c46c923da53389221a0054c11c1e3ca31d59";
    let invoice = node.call("invoice", json!([1000, "l", "tea"])).await["bolt11"].clone();
    let pay = |invoice: &Value| json!({"method": "pay", "params": {"bolt11": invoice}});
    let table = [
        (json!([["method=getinfo"]]), json!({"method": "getinfo"}), ""),
        (json!([["method=getinfo"]]), json!({"method": "stop"}), "method is not equal to getinfo"),
        (json!([["method=getinfo"]]), json!({}), "method not present"),
        (json!([["method/stop"]]), json!({"method": "stop"}), "method is equal to stop"),
        (json!([["method^list", "method^get"]]), json!({"method": "getinfo"}), ""),
        (
            json!([["method^list", "method^get"]]),
            json!({"method": "stop"}),
            "method does not start with list AND method does not start with get",
        ),
        (json!([["method$info"]]), json!({"method": "getinfo"}), ""),
        (json!([["method$info"]]), json!({"method": "stop"}), "method does not end with info"),
        (json!([["method~tin"]]), json!({"method": "getinfo"}), ""),
        (json!([["method~tin"]]), json!({"method": "stop"}), "method does not contain tin"),
        (json!([["method=getinfo"], ["pnum=0"]]), json!({"method": "getinfo", "params": []}), ""),
        (json!([["pnum=0"]]), json!({"params": [1]}), "number of parameters is not equal to 0"),
        (json!([["pnum<2"]]), json!({"params": {"a": 1}}), ""),
        (
            json!([["pnum<2"]]),
            json!({"params": {"a": 1, "b": 2}}),
            "number of parameters is greater or equal to 2",
        ),
        (json!([[format!("id={peer}")]]), json!({"nodeid": peer}), ""),
        (
            json!([[format!("id^{}", &peer[..10])]]),
            json!({"nodeid": other}),
            "id does not start with 02eec7245d",
        ),
        (json!([[format!("id={peer}")]]), json!({}), "id not present"),
        (json!([["time<4000000000"]]), json!({}), ""),
        (json!([["time>4000000000"]]), json!({}), "time is less or equal to 4000000000"),
        (json!([["parr0=x"]]), json!({"params": ["x"]}), ""),
        (json!([["parr0=x"]]), json!({"params": ["y"]}), "parameter #0 is not equal to x"),
        (json!([["parr1=x"]]), json!({"params": ["y"]}), "parameter #1 not present"),
        (json!([["parr0=5"]]), json!({"params": [5]}), ""),
        (json!([["parr0<6"]]), json!({"params": [5]}), ""),
        (json!([["parr0<6"]]), json!({"params": ["5"]}), "parameter #0 is not an integer field"),
        (json!([["pnamelabel^lnplay"]]), json!({"params": {"label": "lnplay-1"}}), ""),
        (
            json!([["pnamelabel^lnplay"]]),
            json!({"params": {"label": "mine"}}),
            "parameter label does not start with lnplay",
        ),
        (json!([["pnamelabel!"]]), json!({"params": {}}), ""),
        (json!([["pnamelabel!"]]), json!({"params": {"label": 1}}), "parameter label is present"),
        (json!([["pnamenodeid=x"]]), json!({"params": {"node_id": "x"}}), ""),
        (json!([["pnamenode_id=x"]]), json!({"params": {"node_id": "x"}}), ""),
        (json!([["pnamea<x"]]), json!({"params": {"a": 1}}), "x is not a valid integer"),
        (json!([["pnamea{b"]]), json!({"params": {"a": "a"}}), ""),
        (json!([["pnamea{b"]]), json!({"params": {"a": "b"}}), "parameter a is equal to or ordered after b"),
        (json!([["pnamea}b"]]), json!({"params": {"a": "c"}}), ""),
        (json!([["pnamea}b"]]), json!({"params": {"a": "b"}}), "parameter a is equal to or ordered before b"),
        (json!([["pnamea=x|y&z"]]), json!({"params": {"a": "x|y&z"}}), ""),
        (json!([["pnamea#remark"]]), json!({}), ""),
        (json!([["pinvbolt11_amount<2000"]]), pay(&invoice), ""),
        (
            json!([["pinvbolt11_amount<1000"]]),
            pay(&invoice),
            "invoice parameter bolt11_amount is greater or equal to 1000",
        ),
        (json!([["pinvbolt11_description=tea"]]), pay(&invoice), ""),
        (json!([["pinvbolt11_nonsense=tea"]]), pay(&invoice), "Unknown invoice field bolt11_nonsense"),
        (json!([["rate/5"]]), json!({}), "rate operator must be ="),
        (json!([["rate=x"]]), json!({}), "malformed rate"),
        (json!([["rate=0"]]), json!({}), "malformed rate"),
        (json!([["per=5parsec"]]), json!({}), "malformed suffix"),
        (json!([["per=x"]]), json!({}), "malformed per"),
        (json!([["rate=x", "method=getinfo"]]), json!({"method": "getinfo"}), ""),
        (json!("readonly"), json!({"method": "listfunds"}), ""),
        (json!("readonly"), json!({"method": "listdatastore"}), "method is equal to listdatastore"),
    ];
    for (restrictions, check, expected) in table {
        let rune = rune(&node, &restrictions).await;
        let expected = if expected.is_empty() { String::new() } else { format!("Not permitted: {expected}") };
        assert_eq!(verdict(&node, check.clone(), &rune).await, expected, "{restrictions} on {check}");
    }
    for bad in [json!([["=1"]]), json!([["method"]]), json!(["method=x"]), json!("nonsense"), json!([[5]])] {
        assert_eq!(node.refused("createrune", json!({"restrictions": bad})).await["code"], -32602, "{bad}");
    }
    assert_eq!(node.refused("checkrune", json!({"rune": "nonsense"})).await["code"], -32602);
}

async fn rates_are_spacing(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let soon = "Not permitted: too soon";
    let rated = rune(&node, &json!([["rate=6"]])).await;
    assert_eq!(verdict(&node, json!({}), &rated).await, "");
    assert_eq!(verdict(&node, json!({}), &rated).await, soon);
    // Who derives from it shares its pace.
    let derived = node.call("createrune", json!({"rune": rated, "restrictions": [["method=getinfo"]]})).await
        ["rune"]
        .clone();
    assert_eq!(verdict(&node, json!({"method": "getinfo"}), &derived).await, soon);
    let unhurried = rune(&node, &json!([["rate=6"]])).await;
    assert_eq!(verdict(&node, json!({}), &unhurried).await, "");

    let spaced = rune(&node, &json!([["per=300msec"]])).await;
    let started = Instant::now();
    assert_eq!(verdict(&node, json!({}), &spaced).await, "");
    // A refusal does not start the time anew.
    while verdict(&node, json!({}), &spaced).await == soon {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(290), "{:?}", started.elapsed());

    // The rate counts only where it is reached, and any use sets the time.
    let mixed = json!([["method^lnplaylive-"], ["method/lnplaylive-createorder", "rate=6"]]);
    let mixed = rune(&node, &mixed).await;
    let order = json!({"method": "lnplaylive-createorder"});
    let status = json!({"method": "lnplaylive-invoicestatus"});
    assert_eq!(verdict(&node, order.clone(), &mixed).await, "");
    for _ in 0..3 {
        assert_eq!(verdict(&node, status.clone(), &mixed).await, "");
    }
    let expected = "Not permitted: method is equal to lnplaylive-createorder AND too soon";
    assert_eq!(verdict(&node, order, &mixed).await, expected);
}

async fn runes_are_shown_derived_and_blacklisted(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let made = node.call("createrune", json!({})).await;
    assert_eq!(made["unique_id"], "0");
    assert!(made["warning_unrestricted_rune"].is_string());
    let restricted = node
        .call("createrune", json!({"restrictions": [["method=getinfo", "method^list"], ["pnum=0"]]}))
        .await;
    assert_eq!((&restricted["unique_id"], restricted.get("warning_unrestricted_rune")), (&json!("1"), None));
    let shown = node.call("showrunes", json!({})).await;
    let shown = shown["runes"].as_array().expect("a list").clone();
    assert_eq!(shown.len(), 2);
    let second = shown.iter().find(|shown| shown["unique_id"] == "1").expect("made");
    assert_eq!(second["rune"], restricted["rune"]);
    assert_eq!(
        second["restrictions_as_english"],
        "method equal to getinfo OR method starts with list AND pnum equal to 0"
    );
    let first = json!({"fieldname": "method", "value": "getinfo", "condition": "=", "english": "method equal to getinfo"});
    assert_eq!(second["restrictions"][0]["alternatives"][0], first);

    let derived =
        node.call("createrune", json!({"rune": made["rune"], "restrictions": [["method=getinfo"]]})).await;
    assert_eq!(derived["unique_id"], "0");
    let shown = node.call("showrunes", json!({"rune": derived["rune"]})).await;
    assert_eq!(shown["runes"][0]["stored"], false);
    let decoded = node.call("decode", json!([restricted["rune"]])).await;
    assert_eq!(
        (&decoded["type"], &decoded["valid"], &decoded["unique_id"]),
        (&json!("rune"), &json!(true), &json!("1"))
    );
    assert!(decoded["string"].as_str().expect("text").ends_with(":=1&method=getinfo|method^list&pnum=0"));

    assert_eq!(
        node.call("blacklistrune", json!({"start": 0})).await,
        json!({"blacklist": [{"start": 0, "end": 0}]})
    );
    let refused = node.refused("checkrune", json!({"rune": derived["rune"], "method": "getinfo"})).await;
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!(1503), &json!("Not authorized: Blacklisted rune"))
    );
    assert_eq!(
        node.call("blacklistrune", json!({"start": 1, "end": 9})).await,
        json!({"blacklist": [{"start": 0, "end": 9}]})
    );
    let relisted = node.call("blacklistrune", json!({"start": 0, "end": 5, "relist": true})).await;
    assert_eq!(relisted, json!({"blacklist": [{"start": 6, "end": 9}]}));
    assert_eq!(
        node.call("checkrune", json!({"rune": derived["rune"], "method": "getinfo"})).await["valid"],
        true
    );
}
