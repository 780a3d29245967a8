//! bitcoind's RPC, as far as we call it.

use serde_json::{Value, json};

use crate::daemons::{Bench, checks};

checks!(answers_and_refusals, coins_are_mined_spent_and_found, a_chain_that_is_hours_ahead_grows_no_more);

/// A key of the tests' own, and its address.
pub(crate) const KEY: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
pub(crate) const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

async fn answers_and_refusals(bench: Bench) {
    let bitcoind = &bench.bitcoind;
    let info = bitcoind.call("getblockchaininfo", json!([])).await;
    assert_eq!(
        (&info["chain"], &info["blocks"], &info["headers"]),
        (&json!("regtest"), &json!(1), &json!(1))
    );
    assert_eq!(info["initialblockdownload"], false);
    let genesis = bitcoind.call("getblockhash", json!([0])).await;
    assert_eq!(genesis, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206");
    let best = bitcoind.call("getbestblockhash", json!({})).await;
    let header = bitcoind.call("getblockheader", json!([best])).await;
    assert_eq!((&header["height"], &header["previousblockhash"]), (&json!(1), &genesis));
    assert_eq!(bitcoind.call("getblockheader", json!([best, false])).await.as_str().map(str::len), Some(160));

    assert_eq!(bitcoind.refused("nonsense", json!([])).await, -32601);
    assert_eq!(bitcoind.refused("getblockhash", json!([2])).await, -8);
    assert_eq!(bitcoind.refused("getblock", json!(["00"])).await, -8);
    assert_eq!(bitcoind.refused("getblock", json!(["00".repeat(32)])).await, -5);
    assert_eq!(bitcoind.refused("sendrawtransaction", json!(["00"])).await, -22);
    assert_eq!(bitcoind.refused("generatetoaddress", json!([1, "nonsense"])).await, -5);
    assert_eq!(bitcoind.call("gettxout", json!(["00".repeat(32), 0])).await, Value::Null);
    assert!(bitcoind.call("estimatesmartfee", json!([6])).await["errors"].is_array());
    assert_eq!(bitcoind.call("getnetworkinfo", json!([])).await["localrelay"], true);

    let ask = json!({"id": 1, "method": "getblockcount", "params": []});
    let status = async |password, body: &Value| bitcoind.post(password, body).await.expect("an answer").0;
    assert!(status(Some("password"), &ask).await.contains("200"));
    assert!(status(Some("wrong"), &ask).await.contains("401"));
    assert!(status(None, &ask).await.contains("401"));
    assert!(status(Some("password"), &json!({"id": 1, "method": "nonsense"})).await.contains("404"));
    let modern = json!({"jsonrpc": "2.0", "id": 1, "method": "nonsense", "params": []});
    assert!(status(Some("password"), &modern).await.contains("200"));
    let batch = json!([ask, {"id": 2, "method": "nonsense", "params": []}]);
    let (_, body) = bitcoind.post(Some("password"), &batch).await.expect("an answer");
    let answers: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&answers[0]["result"], &answers[1]["error"]["code"]), (&json!(1), &json!(-32601)));
}

async fn coins_are_mined_spent_and_found(bench: Bench) {
    let bitcoind = &bench.bitcoind;
    let hashes = bitcoind.call("generatetoaddress", json!([1, ADDRESS])).await;
    let block = bitcoind.call("getblock", json!([hashes[0], 2])).await;
    let coinbase = &block["tx"][0];
    assert_eq!(coinbase["vout"][0]["value"], 50.0);
    let txid = &coinbase["txid"];
    assert_eq!(bitcoind.call("getblock", json!([hashes[0]])).await["tx"], json!([txid]));

    // The same coinbase again: to itself, an amount less for the fee.
    let spend = async |amount: f64| {
        let inputs = json!([{"txid": txid, "vout": 0}]);
        let raw = bitcoind.call("createrawtransaction", json!([inputs, [{ADDRESS: amount}]])).await;
        let signed = bitcoind.call("signrawtransactionwithkey", json!([raw, [KEY]])).await;
        assert_eq!(signed["complete"], true);
        signed["hex"].clone()
    };
    let early = spend(49.999).await;
    assert_eq!(bitcoind.refused("sendrawtransaction", json!([early])).await, -26, "an immature coinbase");
    bitcoind
        .call(
            "generatetoaddress",
            json!([100, "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"]),
        )
        .await;
    assert_eq!(
        bitcoind.refused("sendrawtransaction", json!([spend(50.001).await])).await,
        -26,
        "more out than in"
    );
    assert_eq!(
        bitcoind.refused("sendrawtransaction", json!([spend(49.0).await])).await,
        -25,
        "an absurd fee"
    );

    let sent = bitcoind.call("sendrawtransaction", json!([early])).await;
    assert_eq!(bitcoind.call("getrawmempool", json!([])).await, json!([sent]));
    assert_eq!(
        bitcoind.call("gettxout", json!([txid, 0])).await,
        Value::Null,
        "spent by a waiting transaction"
    );
    assert_eq!(bitcoind.call("gettxout", json!([txid, 0, false])).await["coinbase"], true);
    assert_eq!(bitcoind.call("gettxout", json!([sent, 0])).await["confirmations"], 0);

    bitcoind
        .call(
            "generatetoaddress",
            json!([1, "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"]),
        )
        .await;
    assert_eq!(bitcoind.call("getrawmempool", json!([])).await, json!([]));
    let height = bitcoind.call("getblockcount", json!([])).await;
    let scan = bitcoind.call("scantxoutset", json!(["start", [format!("addr({ADDRESS})")]])).await;
    // Beside it there is the block that every bench begins with.
    let found = scan["unspents"].as_array().expect("a list");
    let coin = found.iter().find(|coin| coin["txid"] == sent).expect("the coin is found");
    assert_eq!(
        (&coin["amount"], &coin["height"], &coin["coinbase"]),
        (&json!(49.999), &height, &json!(false))
    );
    assert!(found.iter().any(|coin| coin["height"] == 1 && coin["coinbase"] == true));
    assert_eq!(scan["height"], height);
    assert_eq!(bitcoind.refused("sendrawtransaction", json!([early])).await, -27);
}

async fn a_chain_that_is_hours_ahead_grows_no_more(bench: Bench) {
    let bitcoind = &bench.bitcoind;
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let later = now + 5 * 3600;
    assert_eq!(bitcoind.refused("setmocktime", json!([-1])).await, -8);
    bitcoind.call("setmocktime", json!([later])).await;
    bitcoind.call("generatetoaddress", json!([12, ADDRESS])).await;
    let info = bitcoind.call("getblockchaininfo", json!([])).await;
    assert!(info["mediantime"].as_u64() >= Some(later), "{info}");
    bitcoind.call("setmocktime", json!([0])).await;
    assert_eq!(bitcoind.refused("generatetoaddress", json!([1, ADDRESS])).await, -1, "too far in the future");
    bitcoind.call("setmocktime", json!([info["mediantime"]])).await;
    bitcoind.call("generatetoaddress", json!([1, ADDRESS])).await;
}
