//! Coins, channels and payments between two nodes.

use cln_rpc::model::responses;
use serde_json::{Value, json};

use crate::bitcoin::{ADDRESS, KEY};
use crate::daemons::{Bench, Bitcoind, Lightningd, checks, eventually};

checks!(
    coins_channels_and_payments,
    several_channels_in_one_transaction,
    nobody_to_connect_to,
    payments_by_index
);

/// Pays `btc` from the bench's coins to each address and mines it.
async fn fund(bitcoind: &Bitcoind, outputs: Value) {
    let scan = bitcoind.call("scantxoutset", json!(["start", [format!("addr({ADDRESS})")]])).await;
    let coin = scan["unspents"]
        .as_array()
        .expect("a list")
        .iter()
        .min_by_key(|coin| coin["height"].as_u64())
        .expect("mined")
        .clone();
    let inputs = json!([{"txid": coin["txid"], "vout": coin["vout"]}]);
    let raw = bitcoind.call("createrawtransaction", json!([inputs, outputs])).await;
    let signed = bitcoind.call("signrawtransactionwithkey", json!([raw, [KEY]])).await;
    // What is left over goes to the miner; that is no mistake here.
    bitcoind.call("sendrawtransaction", json!([signed["hex"], 0])).await;
    bitcoind.call("generatetoaddress", json!([1, ADDRESS])).await;
}

async fn state(node: &Lightningd) -> Value {
    node.call("listpeerchannels", json!({})).await["channels"][0]["state"].clone()
}

/// The lists match the types with which callers parse them.
async fn everything_reads(node: &Lightningd) {
    node.typed::<responses::GetinfoResponse>("getinfo", json!({})).await;
    node.typed::<responses::ListfundsResponse>("listfunds", json!({})).await;
    node.typed::<responses::ListpeersResponse>("listpeers", json!({})).await;
    node.typed::<responses::ListpeerchannelsResponse>("listpeerchannels", json!({})).await;
    node.typed::<responses::ListchannelsResponse>("listchannels", json!({})).await;
    node.typed::<responses::ListnodesResponse>("listnodes", json!({})).await;
    node.typed::<responses::ListinvoicesResponse>("listinvoices", json!({})).await;
    node.typed::<responses::ListpaysResponse>("listpays", json!({})).await;
    node.typed::<responses::ListdatastoreResponse>("listdatastore", json!({})).await;
    node.typed::<responses::ShowrunesResponse>("showrunes", json!({})).await;
    node.typed::<responses::NewaddrResponse>("newaddr", json!({})).await;
    node.typed::<responses::CreateruneResponse>("createrune", json!({})).await;
    node.typed::<responses::ListconfigsResponse>("listconfigs", json!({})).await;
    let label = "typed";
    let made: responses::InvoiceResponse = node.typed("invoice", json!([1000, label, "d"])).await;
    node.typed::<responses::DecodeResponse>("decode", json!([made.bolt11])).await;
    node.typed::<responses::DelinvoiceResponse>("delinvoice", json!([label, "unpaid"])).await;
    let key = json!(["typed", label]);
    node.typed::<responses::DatastoreResponse>("datastore", json!({"key": key, "string": "v"})).await;
    node.typed::<responses::DeldatastoreResponse>("deldatastore", json!({"key": key})).await;
}

#[allow(clippy::too_many_lines, reason = "one life of a channel, told in order")]
async fn coins_channels_and_payments(mut bench: Bench) {
    bench.bitcoind.call("generatetoaddress", json!([101, ADDRESS])).await;
    let buyer = bench.node(&[]).await;
    let seen = buyer.call("waitblockheight", json!({"blockheight": 102, "timeout": 30})).await;
    assert_eq!(seen["blockheight"], 102);
    assert_eq!(buyer.refused("waitblockheight", json!([1000, 0])).await["code"], 2000);
    assert_eq!(buyer.refused("waitblockheight", json!([])).await["code"], -32602);
    let shop = bench.node_with_plugin("", &[]).await;
    let shop_id = shop.id().await;

    let p2tr = buyer.call("newaddr", json!(["p2tr"])).await["p2tr"].clone();
    assert!(p2tr.as_str().expect("text").starts_with("bcrt1p"));
    // In developer mode; otherwise both, for as long as that is deprecated and not gone.
    assert_eq!(
        buyer.call("newaddr", json!({})).await.as_object().map(|both| both.keys().cloned().collect()),
        Some(vec!["p2tr".to_owned()])
    );
    let bech32 = buyer.call("newaddr", json!({"addresstype": "bech32"})).await;
    assert_eq!(bech32.as_object().map(serde_json::Map::len), Some(1));
    let bech32 = bech32["bech32"].clone();
    assert!(bech32.as_str().expect("text").starts_with("bcrt1q"));
    assert_eq!(buyer.refused("newaddr", json!(["nonsense"])).await["code"], -32602);

    let (bech32, p2tr) = (bech32.as_str().expect("text"), p2tr.as_str().expect("text"));
    fund(&bench.bitcoind, json!([{bech32: 0.02}, {p2tr: 0.03}])).await;
    let outputs = eventually("the coins", async || {
        let funds = buyer.call("listfunds", json!({})).await;
        let outputs = funds["outputs"].as_array().expect("a list").clone();
        (outputs.len() == 2).then_some(outputs)
    })
    .await;
    let mut amounts: Vec<_> = outputs.iter().map(|output| output["amount_msat"].as_u64()).collect();
    amounts.sort_unstable();
    assert_eq!(amounts, [Some(2_000_000_000), Some(3_000_000_000)]);
    assert!(outputs.iter().all(|output| output["status"] == "confirmed" && output["blockheight"] == 103));

    // Not a peer, and no address for it.
    assert_eq!(buyer.refused("fundchannel", json!([shop_id, 1_000_000])).await["code"], 400);
    let connected = buyer.call("connect", json!([format!("{shop_id}@127.0.0.1:{}", shop.port)])).await;
    assert_eq!((&connected["id"], &connected["direction"]), (&json!(shop_id), &json!("out")));
    assert_eq!(connected["address"], json!({"type": "ipv4", "address": "127.0.0.1", "port": shop.port}));
    let again = buyer.call("connect", json!({"id": shop_id, "host": "127.0.0.1", "port": shop.port})).await;
    assert_eq!(again["id"], json!(shop_id));
    let peers = buyer.call("listpeers", json!({})).await;
    assert_eq!((&peers["peers"][0]["id"], &peers["peers"][0]["connected"]), (&json!(shop_id), &json!(true)));
    assert_eq!(buyer.call("ping", json!([shop_id])).await["totlen"], 132);

    assert_eq!(buyer.refused("fundchannel", json!([shop_id, 100_000_000])).await["code"], 301);
    // More than either coin holds.
    let opened =
        buyer.call("fundchannel", json!({"id": shop_id, "amount": 4_000_000, "push_msat": 50_000_000})).await;
    assert_eq!(opened["txid"].as_str().map(str::len), Some(64));
    assert_eq!(state(&buyer).await, "CHANNELD_AWAITING_LOCKIN");
    everything_reads(&buyer).await;
    let found = bench.bitcoind.call("getrawmempool", json!([])).await;
    assert_eq!(found, json!([opened["txid"]]));
    bench.bitcoind.call("generatetoaddress", json!([6, ADDRESS])).await;
    for node in [&buyer, &shop] {
        eventually("the channel", async || (state(node).await == "CHANNELD_NORMAL").then_some(())).await;
    }
    let channel = buyer.call("listpeerchannels", json!({"id": shop_id})).await["channels"][0].clone();
    assert_eq!(
        (&channel["to_us_msat"], &channel["total_msat"]),
        (&json!(3_950_000_000u64), &json!(4_000_000_000u64))
    );
    assert_eq!((&channel["funding_txid"], &channel["channel_id"]), (&opened["txid"], &opened["channel_id"]));
    let block = bench
        .bitcoind
        .call("getblock", json!([bench.bitcoind.call("getblockhash", json!([104])).await]))
        .await;
    let place = block["tx"]
        .as_array()
        .expect("a list")
        .iter()
        .position(|txid| *txid == opened["txid"])
        .expect("mined");
    assert_eq!(channel["short_channel_id"], format!("104x{place}x{}", opened["outnum"]));
    let funds = buyer.call("listfunds", json!({})).await;
    assert_eq!(funds["channels"][0]["our_amount_msat"], 3_950_000_000u64);
    assert_eq!(buyer.call("getinfo", json!({})).await["num_active_channels"], 1);

    everything_reads(&buyer).await;
    let invoice = shop.call("invoice", json!([76_800_000, "lnplaylive-1", "an environment"])).await;
    let paid = buyer.call("pay", json!([invoice["bolt11"]])).await;
    assert_eq!(
        (&paid["status"], &paid["amount_msat"], &paid["destination"]),
        (&json!("complete"), &json!(76_800_000), &json!(shop_id))
    );
    let received = shop.call("waitanyinvoice", json!([0])).await;
    assert_eq!(
        (&received["label"], &received["pay_index"], &received["status"]),
        (&json!("lnplaylive-1"), &json!(1), &json!("paid"))
    );
    assert_eq!(
        (&received["amount_received_msat"], &received["payment_preimage"]),
        (&json!(76_800_000), &paid["payment_preimage"])
    );
    assert_eq!(shop.call("waitinvoice", json!(["lnplaylive-1"])).await["status"], "paid");
    let news = eventually("invoice_payment", async || {
        let events = shop.call("test-events", json!({})).await;
        events["events"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|event| event["topic"] == "invoice_payment")
            .cloned()
    })
    .await["params"]["invoice_payment"]
        .clone();
    assert_eq!(
        (&news["label"], &news["msat"], &news["preimage"]),
        (&json!("lnplaylive-1"), &json!(76_800_000), &paid["payment_preimage"])
    );

    // Paying twice is paying once.
    let again = buyer.call("pay", json!([invoice["bolt11"]])).await;
    assert_eq!(again["payment_preimage"], paid["payment_preimage"]);
    assert_eq!(
        shop.call("listinvoices", json!({"index": "updated", "start": 1})).await["invoices"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let pays = buyer.call("listpays", json!({"bolt11": invoice["bolt11"]})).await;
    assert_eq!(
        (&pays["pays"][0]["status"], pays["pays"].as_array().map(Vec::len)),
        (&json!("complete"), Some(1))
    );
    assert_eq!(shop.refused("delinvoice", json!(["lnplaylive-1", "unpaid"])).await["code"], 906);

    let any = shop.call("invoice", json!(["any", "any", "d"])).await;
    assert_eq!(buyer.refused("xpay", json!([any["bolt11"]])).await["code"], -32602);
    let paid = buyer.call("xpay", json!({"invstring": any["bolt11"], "amount_msat": 5000})).await;
    assert_eq!((&paid["amount_msat"], &paid["successful_parts"]), (&json!(5000), &json!(1)));
    let next = shop.call("waitanyinvoice", json!({"lastpay_index": 1, "timeout": 10})).await;
    assert_eq!(
        (&next["label"], &next["pay_index"], &next["updated_index"]),
        (&json!("any"), &json!(2), &json!(2))
    );

    let big = shop.call("invoice", json!([4_100_000_000u64, "big", "d"])).await;
    // The real `pay` keeps trying this for minutes, whatever `retry_for` says.
    let error = buyer.refused("xpay", json!({"invstring": big["bolt11"], "retry_for": 2})).await;
    assert_eq!(error["code"], 205, "{error}");
    let gone = shop.call("invoice", json!([1000, "gone", "d"])).await;
    shop.call("delinvoice", json!(["gone", "unpaid"])).await;
    assert_eq!(buyer.refused("pay", json!([gone["bolt11"]])).await["code"], 203);
    let short = shop.call("invoice", json!([1000, "short", "d", 1])).await;
    assert_eq!(shop.refused("waitinvoice", json!(["short"])).await["code"], 903);
    let late = async |method: &str| buyer.try_call(method, json!([short["bolt11"]])).await.expect("answers");
    let error = eventually("the buyer to see it expired", async || {
        late("pay").await.err().filter(|error| error["code"] == 207)
    })
    .await;
    assert_eq!(error["message"], "Invoice expired");
    assert_eq!(late("xpay").await.expect_err("expired")["code"], 207);

    everything_reads(&buyer).await;
    everything_reads(&shop).await;

    // A payment over a channel that was there before a kill.
    let mut shop = shop;
    shop.kill_and_restart().await;
    let invoice = shop.call("invoice", json!([1000, "after", "d"])).await;
    eventually("the peers to find each other again", async || {
        let channels = buyer.call("listpeerchannels", json!({})).await;
        let channel = &channels["channels"][0];
        (channel["peer_connected"] == true && channel["reestablished"] == true).then_some(())
    })
    .await;
    buyer.call("pay", json!([invoice["bolt11"]])).await;
    assert_eq!(shop.call("waitinvoice", json!(["after"])).await["pay_index"], 3);
    eventually("the payments to be irrevocable", async || {
        let channel = shop.call("listpeerchannels", json!({})).await["channels"][0].clone();
        (channel["to_us_msat"] == 50_000_000 + 76_800_000 + 5000 + 1000).then_some(())
    })
    .await;
    assert_eq!(buyer.refused("disconnect", json!([shop_id])).await["code"], -1);
}

async fn several_channels_in_one_transaction(mut bench: Bench) {
    bench.bitcoind.call("generatetoaddress", json!([101, ADDRESS])).await;
    let (hub, one, two) = (bench.node(&[]).await, bench.node(&[]).await, bench.node(&[]).await);
    for node in [&hub, &one, &two] {
        node.call("waitblockheight", json!([102, 30])).await;
    }
    let address = hub.call("newaddr", json!(["bech32"])).await["bech32"].clone();
    fund(&bench.bitcoind, json!([{address.as_str().expect("text"): 0.05}])).await;
    for node in [&hub, &one, &two] {
        node.call("waitblockheight", json!([103, 30])).await;
    }
    let mut destinations = Vec::new();
    for (node, amount) in [(&one, 1_000_000), (&two, 2_000_000)] {
        let id = node.id().await;
        destinations.push(json!({"id": format!("{id}@127.0.0.1:{}", node.port), "amount": amount}));
    }

    assert_eq!(hub.refused("multifundchannel", json!({"destinations": []})).await["code"], -32602);
    let twice = json!({"destinations": [destinations[0], destinations[0]]});
    assert_eq!(hub.refused("multifundchannel", twice).await["code"], -32602);
    let mut dear = destinations.clone();
    dear[1]["amount"] = json!(9_000_000);
    assert_eq!(hub.refused("multifundchannel", json!({"destinations": dear})).await["code"], 301);
    let nothing = hub.call("listpeerchannels", json!({})).await;
    assert_eq!(nothing["channels"], json!([]), "nothing comes of what cannot be paid for");

    let opened = hub.call("multifundchannel", json!({"destinations": destinations})).await;
    assert_eq!(bench.bitcoind.call("getrawmempool", json!([])).await, json!([opened["txid"]]));
    assert_eq!(opened["channel_ids"].as_array().map(Vec::len), Some(2));
    bench.bitcoind.call("generatetoaddress", json!([1, ADDRESS])).await;
    for node in [&hub, &one, &two] {
        eventually("the channel", async || (state(node).await == "CHANNELD_NORMAL").then_some(())).await;
    }
    let channels = eventually("both channels", async || {
        let channels = hub.call("listpeerchannels", json!({})).await["channels"].as_array().cloned()?;
        channels.iter().all(|channel| channel["state"] == "CHANNELD_NORMAL").then_some(channels)
    })
    .await;
    assert_eq!(channels.len(), 2);
    for (node, msat) in [(&one, 1_000_000_000u64), (&two, 2_000_000_000)] {
        let id = json!(node.id().await);
        let channel = channels.iter().find(|channel| channel["peer_id"] == id).expect("a channel with it");
        assert_eq!((&channel["total_msat"], &channel["opener"]), (&json!(msat), &json!("local")));
        assert_eq!(channel["funding_txid"], opened["txid"]);
    }
    let left = hub.call("listfunds", json!({})).await["outputs"].as_array().cloned().expect("outputs");
    assert_eq!(left.len(), 1, "the change: {left:?}");
    assert!(left[0]["amount_msat"].as_u64().is_some_and(|msat| msat < 2_000_000_000));
}

async fn nobody_to_connect_to(mut bench: Bench) {
    let node = bench.node(&[]).await;
    let other = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
    assert_eq!(node.refused("connect", json!([other])).await["code"], 400);
    assert_eq!(node.refused("connect", json!([format!("{other}@127.0.0.1:1")])).await["code"], 401);
    // Somebody else is there.
    let third = bench.node(&[]).await;
    assert_eq!(
        node.refused("connect", json!([format!("{other}@127.0.0.1:{}", third.port)])).await["code"],
        401
    );
    assert_eq!(node.refused("connect", json!(["nonsense"])).await["code"], -32602);
    let id = third.id().await;
    node.call("connect", json!([id, "127.0.0.1", third.port])).await;
    assert_eq!(node.call("disconnect", json!([id])).await, json!({}));
    eventually("the peer to be gone", async || {
        let peers = node.call("listpeers", json!({})).await;
        peers["peers"]
            .as_array()
            .is_some_and(|peers| peers.iter().all(|peer| peer["connected"] == false))
            .then_some(())
    })
    .await;
    assert!(node.refused("disconnect", json!([id])).await["code"].is_i64());
    assert!(node.refused("ping", json!([id])).await["code"].is_i64());
    let invoice = third.call("invoice", json!([1000, "l", "d"])).await;
    let error = node.refused("pay", json!({"bolt11": invoice["bolt11"], "retry_for": 2})).await;
    let expected = format!("Destination {id} is not reachable directly and all routehints were unusable.");
    assert_eq!((&error["code"], &error["message"]), (&json!(0), &json!(expected)));
    assert_eq!(node.refused("xpay", json!([invoice["bolt11"]])).await["code"], 205);
}

/// What a page that follows payments asks for, from both ends of a payment.
async fn payments_by_index(mut bench: Bench) {
    bench.bitcoind.call("generatetoaddress", json!([101, ADDRESS])).await;
    let (buyer, shop) = (bench.node(&[]).await, bench.node(&[]).await);
    for node in [&buyer, &shop] {
        node.call("waitblockheight", json!([102, 30])).await;
    }
    let address = buyer.call("newaddr", json!(["bech32"])).await["bech32"].clone();
    fund(&bench.bitcoind, json!([{address.as_str().expect("text"): 0.05}])).await;
    buyer.call("waitblockheight", json!([103, 30])).await;
    let shop_id = shop.id().await;
    buyer.call("connect", json!([format!("{shop_id}@127.0.0.1:{}", shop.port)])).await;
    buyer.call("fundchannel", json!([shop_id, 1_000_000])).await;
    bench.bitcoind.call("generatetoaddress", json!([6, ADDRESS])).await;
    eventually("the channel", async || (state(&buyer).await == "CHANNELD_NORMAL").then_some(())).await;
    let channel = buyer.call("listpeerchannels", json!({})).await["channels"][0]["channel_id"].clone();

    let wait = |subsystem: &str, index: &str, next: u64| json!({"subsystem": subsystem, "indexname": index, "nextvalue": next});
    for (subsystem, index) in [
        ("sendpays", "created"),
        ("sendpays", "updated"),
        ("channelmoves", "created"),
        ("forwards", "created"),
        ("htlcs", "created"),
    ] {
        let now = buyer.call("wait", wait(subsystem, index, 0)).await;
        assert_eq!((&now["subsystem"], &now[index]), (&json!(subsystem), &json!(0)), "{subsystem} {index}");
    }
    assert_eq!(buyer.refused("wait", wait("tea", "created", 0)).await["code"], -32602);
    assert_eq!(buyer.refused("wait", wait("sendpays", "drunk", 0)).await["code"], -32602);
    assert_eq!(buyer.refused("listsendpays", json!({"start": 1})).await["code"], -32602);

    let invoice = shop.call("invoice", json!([21_000_000, "tea", "d"])).await;
    let pay = async { buyer.call("xpay", json!([invoice["bolt11"]])).await };
    let waiting = async {
        tokio::join!(
            buyer.call("wait", wait("sendpays", "updated", 1)),
            buyer.call("wait", wait("channelmoves", "created", 1)),
            shop.call("wait", wait("channelmoves", "created", 1)),
        )
    };
    let (_, (sent, left, came)) = tokio::join!(pay, waiting);
    assert_eq!((&sent["updated"], &left["created"], &came["created"]), (&json!(1), &json!(1), &json!(1)));
    let rows = buyer.call("listsendpays", json!({"index": "updated", "start": 1})).await["payments"].clone();
    assert_eq!(
        (&rows[0]["status"], &rows[0]["destination"], &rows[0]["amount_msat"], &rows[0]["updated_index"]),
        (&json!("complete"), &json!(shop_id), &json!(21_000_000), &json!(1))
    );
    assert_eq!(rows[0]["payment_hash"], invoice["payment_hash"]);
    for (node, credit, debit) in [(&buyer, 0, 21_000_000), (&shop, 21_000_000, 0)] {
        let rows =
            node.call("listchannelmoves", json!({"index": "created", "start": 1})).await["channelmoves"]
                .clone();
        assert_eq!(
            (
                &rows[0]["account_id"],
                &rows[0]["credit_msat"],
                &rows[0]["debit_msat"],
                &rows[0]["payment_hash"]
            ),
            (&channel, &json!(credit), &json!(debit), &invoice["payment_hash"])
        );
        assert_eq!(rows.as_array().map(Vec::len), Some(1));
    }
    let later = buyer.call("listsendpays", json!({"index": "updated", "start": 2})).await;
    assert_eq!(later["payments"], json!([]));
    assert_eq!(
        buyer.call("listforwards", json!({"index": "created", "start": 1})).await["forwards"],
        json!([])
    );
}
