//! Commando over TCP and over WebSocket, with the client that tests and demo use.

use std::time::Duration;

use serde_json::json;
use sim_lightning::commando::{Client, Error};

use crate::daemons::{Bench, Lightningd, checks};

checks!(calls_over_both_transports, long_requests_and_replies, refusals, many_at_once, the_key_is_checked);

async fn clients(node: &Lightningd) -> [Client; 2] {
    let id = node.id().await;
    let tcp = Client::connect(&format!("127.0.0.1:{}", node.port), &id).await.expect("TCP connects");
    let ws =
        Client::connect(&format!("ws://127.0.0.1:{}", node.ws_port), &id).await.expect("WebSocket connects");
    [tcp, ws]
}

async fn rune(node: &Lightningd, restrictions: serde_json::Value) -> String {
    node.call("createrune", json!({"restrictions": restrictions})).await["rune"]
        .as_str()
        .expect("text")
        .to_owned()
}

async fn calls_over_both_transports(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let rune = rune(&node, json!([])).await;
    for (index, client) in clients(&node).await.into_iter().enumerate() {
        let info = client.call(&rune, "getinfo", json!({})).await.expect("permitted");
        assert_eq!(info["id"], node.id().await);
        let error = client.call(&rune, "nonsense", json!([])).await.expect_err("no such method");
        assert_eq!(error.code(), Some(-32601));
        let made = client.call(&rune, "invoice", json!(["any", index, "over commando"])).await;
        assert!(made.expect("permitted")["bolt11"].is_string());
    }
}

async fn long_requests_and_replies(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let rune = rune(&node, json!([])).await;
    for (index, client) in clients(&node).await.into_iter().enumerate() {
        // Four pieces there and, in hex and in text, more than eight back.
        let long = "0123456789".repeat(20_000);
        let key = json!(["long", index.to_string()]);
        let stored =
            client.call(&rune, "datastore", json!({"key": key, "string": long})).await.expect("permitted");
        assert_eq!(stored["string"], long);
        assert_eq!(stored["hex"].as_str().map(str::len), Some(400_000));
        let client = client.with_limit(Duration::from_secs(2));
        let huge = "0".repeat(1024 * 1024);
        let error = client
            .call(&rune, "datastore", json!({"key": "huge", "string": huge}))
            .await
            .expect_err("ignored");
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        client.call(&rune, "getinfo", json!({})).await.expect("the connection still works");
    }
}

async fn refusals(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let rune = rune(&node, json!([["method^lnplaylive-", "method=getinfo"]])).await;
    for client in clients(&node).await {
        client.call(&rune, "getinfo", json!({})).await.expect("permitted");
        let refused = async |rune: &str, method: &str| match client.call(rune, method, json!({})).await {
            Err(Error::Rpc { code, message, .. }) => (code, message),
            other => panic!("{method} must be refused, not {other:?}"),
        };
        let unlisted = "Invalid rune: Not permitted: method does not start with lnplaylive- AND method is not equal to getinfo";
        assert_eq!(refused(&rune, "listfunds").await, (0x4c51, unlisted.to_owned()));
        // Not even a method that does not exist is told apart without permission.
        assert_eq!(refused(&rune, "nonsense").await.0, 0x4c51);
        assert_eq!(refused(&rune, "lnplaylive-nonsense").await.0, -32601);
        assert_eq!(refused("nonsense", "getinfo").await, (0x4c50, "Invalid rune".to_owned()));
        let foreign = "zFMd1fjhrAYxUeFA54TjloZqOt8JrA_i_nYwIgXkag49MA==";
        assert_eq!(
            refused(foreign, "getinfo").await,
            (0x4c51, "Invalid rune: Not authorized: Not derived from master".to_owned())
        );
    }
}

async fn many_at_once(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let rune = rune(&node, json!([])).await;
    for client in clients(&node).await {
        let waiting = client.call(&rune, "waitanyinvoice", json!({"timeout": 1}));
        let others = async {
            let calls = (0..20).map(|_| client.call(&rune, "getinfo", json!({})));
            for answer in futures_util::future::join_all(calls).await {
                assert_eq!(answer.expect("permitted")["alias"], "tested");
            }
        };
        let (waited, ()) = tokio::join!(waiting, others);
        assert_eq!(waited.expect_err("nobody paid").code(), Some(904));
    }
}

async fn the_key_is_checked(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let other = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
    for address in [format!("127.0.0.1:{}", node.port), format!("ws:127.0.0.1:{}", node.ws_port)] {
        assert!(matches!(Client::connect(&address, other).await, Err(Error::Dial { .. })), "{address}");
    }
    let mut node = node;
    let [tcp, _ws] = clients(&node).await;
    node.call("stop", json!({})).await;
    node.ended().await;
    assert!(matches!(tcp.call("x", "getinfo", json!({})).await, Err(Error::Closed { .. })));
}
