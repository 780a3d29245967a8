//! Bad input gets a clear error, and nothing is lost.

use e2e::{QUICK, daemons, provisioned_once, text};
use serde_json::{Value, json};
use testbed::{Flavor, Host, HostConfig, PluginRun, Remotes, Shop, ShopConfig, on_both_flavors};

on_both_flavors!(
    parameters_of_an_order,
    what_a_buyer_may_choose,
    ids_and_other_parameters,
    invoices_that_are_not_ours,
    a_damaged_record_holds_nobody_up,
    nothing_is_sold_without_a_remote,
    wrong_settings_stop_the_plugin_and_not_the_node,
    settings_can_be_named_by_the_environment,
);

async fn parameters_of_an_order(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "parameters_of_an_order") else { return };
    let shop = Shop::start(ShopConfig::new(daemons)).await.expect("a shop");
    let long = "a".repeat(10_000);
    let counts = "node_count must be one of 8, 16, 32, 64";
    let hours = "hours must be a whole number from 1 to 504";
    for (params, message) in [
        (json!({}), "missing parameter `node_count`"),
        (json!([]), "missing parameter `node_count`"),
        (json!({"node_count": 8}), "missing parameter `hours`"),
        (json!({"node_count": null, "hours": 1}), "missing parameter `node_count`"),
        (json!({"node_count": 9, "hours": 1}), counts),
        (json!({"node_count": "9", "hours": 1}), counts),
        (json!({"node_count": -8, "hours": 1}), counts),
        (json!({"node_count": "eight", "hours": 1}), counts),
        (json!({"node_count": [8], "hours": 1}), counts),
        (json!({"node_count": 1e30, "hours": 1}), counts),
        (json!({"node_count": 8, "hours": 0}), hours),
        (json!({"node_count": 8, "hours": 505}), hours),
        (json!({"node_count": 8, "hours": -1}), hours),
        (json!({"node_count": 8, "hours": 1.5}), hours),
        (json!({"node_count": 8, "hours": "1.5"}), hours),
        (json!({"node_count": 8, "hours": "abc"}), hours),
        (json!({"node_count": 8, "hours": ""}), hours),
        (json!({"node_count": 8, "hours": true}), hours),
        (json!({"node_count": 8, "hours": long}), hours),
        (json!({"node_count": 8, "hours": "99999999999999999999999"}), hours),
        (
            json!([8, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            "10 parameters are too many; the parameters are node_count, hours, coin_distribution, channel_setup, \
             names, title, node_access, sku, ticket",
        ),
        (
            json!({"node_count": 8, "hours": 1, "colour": 1}),
            "unknown parameter `colour`; the parameters are node_count, hours, coin_distribution, channel_setup, \
             names, title, node_access, sku, ticket",
        ),
        (json!({"title": "a".repeat(70_000)}), "the parameters are more than 65536 bytes"),
    ] {
        let error = shop.host.node.call("lnplaylive-createorder", &params).await.expect_err("refused");
        assert_eq!((error.code, error.message.as_str()), (Some(-32602), message), "{params}");
    }
    let unknown = shop.host.node.call("lnplaylive-createorder", json!({ long.clone(): 1 })).await;
    let unknown = unknown.expect_err("refused");
    assert!(unknown.code == Some(-32602) && unknown.message.len() < 200, "{unknown}");
    // Numbers come as strings from browsers and `lightning-cli`.
    for params in [
        json!({"node_count": "8", "hours": "48"}),
        json!(["8", 48]),
        json!([8, "48"]),
        json!([8, 48, null, null, []]),
    ] {
        let order = shop.host.node.call("lnplaylive-createorder", params).await.expect("an order");
        assert_eq!(order["amount_msat"], 76_800_000);
    }
}

async fn what_a_buyer_may_choose(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "what_a_buyer_may_choose") else { return };
    let shop = Shop::start(ShopConfig::new(daemons)).await.expect("a shop");
    let coins = "coin_distribution must be one of egalitarian, political, poisson, pow";
    let channels = "channel_setup must be one of none, star, circular, prism";
    let name = "names[7]: a name is 1 to 32 bytes long, not blank, and without control characters";
    let title = "title must be 1 to 80 characters long, not blank, and without control characters";
    let named = |last: &str| json!(["a", "a", "a", "a", "a", "a", "a", last]);
    for (key, value, message) in [
        ("coin_distribution", json!("fair"), coins),
        ("coin_distribution", json!("Poisson"), coins),
        ("coin_distribution", json!(""), coins),
        ("coin_distribution", json!(1), "coin_distribution must be a string"),
        ("channel_setup", json!("mesh"), channels),
        ("channel_setup", json!(["star"]), "channel_setup must be a string"),
        ("names", json!("Alice"), "names must be a list of strings"),
        ("names", json!([1, 2, 3, 4, 5, 6, 7, 8]), "names must be a list of strings"),
        ("names", json!(vec!["a"; 7]), "names has 7 entries for 8 nodes; give one for each node, or none"),
        ("names", json!(vec!["a"; 9]), "names has 9 entries for 8 nodes; give one for each node, or none"),
        ("names", named(""), name),
        ("names", named("  "), name),
        ("names", named("a\nb"), name),
        ("names", named("a\u{0}"), name),
        ("names", named(&"a".repeat(33)), name),
        ("names", named(&"a".repeat(500)), name),
        ("names", named(&"é".repeat(17)), name),
        ("title", json!(""), title),
        ("title", json!("a\tb"), title),
        ("title", json!("a".repeat(81)), title),
        ("title", json!(false), "title must be a string"),
        ("node_access", json!("root"), "node_access must be one of class, full"),
        (
            "node_access",
            json!("full"),
            "node_access=full is not sold here; leave node_access out, or ask the operator for shop.full_node_access",
        ),
    ] {
        let params = json!({"node_count": 8, "hours": 1, key: value});
        let error = shop.host.node.call("lnplaylive-createorder", &params).await.expect_err("refused");
        assert_eq!((error.code, error.message.as_str()), (Some(-32602), message), "{params}");
    }
}

async fn ids_and_other_parameters(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "ids_and_other_parameters") else { return };
    let shop = Shop::start(ShopConfig::new(daemons)).await.expect("a shop");
    let long = "a".repeat(10_000);
    for id in [
        json!("lnplaylive-00000000-0000-4000-8000-000000000000"),
        json!("nonsense"),
        json!(""),
        json!(5),
        json!({}),
        json!(long),
    ] {
        for (method, params) in [
            ("lnplaylive-invoicestatus", json!({"payment_type": "bolt11", "invoice_id": id})),
            ("lnplaylive-invoicestatus", json!({"invoice_id": id})),
            ("lnplaylive-waitstatus", json!({"invoice_id": id, "revision": 0, "timeout": 1})),
            ("lnplayops-retry", json!({"invoice_id": id})),
            ("lnplayops-order", json!({"invoice_id": id})),
            ("lnplayops-cancel", json!({"invoice_id": id})),
            ("lnplayops-extend", json!({"invoice_id": id, "hours": 1})),
            ("lnplayops-forget", json!({"invoice_id": id, "project": "lnplaylive-1800000000-00000000"})),
        ] {
            let error = shop.host.node.call(method, &params).await.expect_err("refused");
            assert_eq!(
                (error.code, error.message.as_str()),
                (Some(7000), "no such order"),
                "{method} {params}"
            );
        }
    }
    for (method, params, message) in [
        ("lnplaylive-invoicestatus", json!({}), "missing parameter `invoice_id`"),
        (
            "lnplaylive-invoicestatus",
            json!({"payment_type": "cash", "invoice_id": "x"}),
            "payment_type must be bolt11",
        ),
        ("lnplaylive-waitstatus", json!({"invoice_id": "x", "revision": -1}), "no such order"),
        ("lnplayops-orders", json!({"which": "mine"}), "which must be open, closed or all"),
        ("lnplaylive-products", json!([1]), "1 parameters are too many; this method takes no parameters"),
    ] {
        let error = shop.host.node.call(method, &params).await.expect_err("refused");
        assert_eq!(error.message, message, "{method} {params}");
    }
    let bolt12 = json!({"payment_type": "bolt12", "invoice_id": "x"});
    let error = shop.host.node.call("lnplaylive-invoicestatus", bolt12).await.expect_err("refused");
    assert_eq!(error.message, "payment_type bolt12 is not supported yet");
}

async fn invoices_that_are_not_ours(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "invoices_that_are_not_ours") else { return };
    let config = ShopConfig { settings: QUICK.into(), ..ShopConfig::new(daemons) };
    let mut shop = Shop::start(config).await.expect("a shop");
    let alike = "lnplaylive-00000000-0000-4000-8000-000000000000";
    for label in ["coffee", alike, "lnplaylive-tip-jar"] {
        let invoice = json!({"amount_msat": 1000, "label": label, "description": "not an order"});
        let invoice = shop.host.node.call("invoice", invoice).await.expect("an invoice");
        shop.host.customer.pay(text(&invoice, "bolt11")).await.expect("paid");
    }
    let words = "and there is no such order";
    shop.host.node.wait_for_log(words, e2e::LONG).await.expect("said so");
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    let log = shop.host.node.log().expect("a log");
    assert_eq!(log.matches(words).count(), 2, "once for each label that looks like ours");
    let invoices = shop.host.node.call("listinvoices", json!({"label": alike})).await.expect("a list");
    assert_eq!(invoices["invoices"][0]["status"], "paid", "left alone");
    assert_eq!(e2e::projects(&shop.remotes[0]).len(), 1);
}

async fn a_damaged_record_holds_nobody_up(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "a_damaged_record_holds_nobody_up") else { return };
    let config = ShopConfig { settings: QUICK.into(), ..ShopConfig::new(daemons) };
    let shop = Shop::start(config).await.expect("a shop");
    let order = shop.order(1, 1).await.expect("an order");
    let damaged = "lnplaylive-11111111-1111-4111-8111-111111111111";
    shop.host.stop_plugin().await.expect("stopped");
    let record = json!({"key": ["lnplaylive", "open", damaged], "string": "{\"id\": \"half a rec", "mode": "must-create"});
    shop.host.node.call("datastore", record).await.expect("written");
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    shop.host.start_plugin().await.expect("started");

    provisioned_once(&shop, text(&order, "invoice_id")).await;
    let orders = shop.host.node.call("lnplayops-orders", json!({})).await.expect("orders");
    assert_eq!(orders["damaged"][0]["invoice_id"], damaged, "{orders}");
    let error = shop.status(damaged).await.expect_err("it cannot be read");
    assert_eq!(error.code, Some(7004));
    let kept = json!({"key": ["lnplaylive", "open", damaged]});
    let kept = shop.host.node.call("listdatastore", kept).await.expect("a list");
    assert_eq!(kept["datastore"][0]["string"], "{\"id\": \"half a rec", "left as it is");
}

async fn nothing_is_sold_without_a_remote(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "nothing_is_sold_without_a_remote") else { return };
    let config = ShopConfig { remotes: Remotes::Simulated(0), ..ShopConfig::new(daemons) };
    let shop = Shop::start(config).await.expect("a shop");
    let error = shop.order(8, 48).await.expect_err("nothing to sell");
    assert_eq!(error.code, Some(7001));
    assert!(error.message.contains("no remote is configured"), "{error}");
    let products = shop.host.node.call("lnplaylive-products", json!({})).await.expect("products");
    assert_eq!(products["products"][0]["available"], Value::Bool(false));
}

async fn wrong_settings_stop_the_plugin_and_not_the_node(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "wrong_settings_stop_the_plugin_and_not_the_node") else { return };
    let remote = "[[remotes]]\nname = \"a\"\n";
    let dir = testbed::Workdir::new("settings").expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (rubbish, token) = (file("rubbish.pem", "not a certificate"), file("token", "not a token"));
    let cases = [
        ("unknown key", "colour = 1".to_owned(), "colour"),
        ("bad URL", format!("{remote}url = \"nonsense\"\ntoken_file = {token:?}"), "url"),
        (
            "missing secret",
            format!("{remote}url = \"https://x\"\ntoken_file = \"/nonexistent/token\""),
            "remotes[0].token_file",
        ),
        (
            "unreadable certificate",
            format!(
                "{remote}url = \"https://x\"\nserver_fingerprint = \"{}\"\ncert_file = {rubbish:?}\nkey_file = {rubbish:?}",
                "00".repeat(32)
            ),
            "cert_file",
        ),
        ("bad token", format!("{remote}url = \"https://x\"\ntoken_file = {token:?}"), "token_file"),
    ];
    let first = file("0.toml", &cases[0].1);
    let config = HostConfig::new(daemons).plugin(PluginRun::Direct, Some(first.into()));
    let mut host = Host::start(config).await.expect("the node goes on");
    host.node.wait_for_log("lnplaylive does not start: settings: colour", e2e::LONG).await.expect("said so");
    host.node.call("lnplaylive-products", json!({})).await.expect_err("there is no such method");

    let plugin = testbed::Binary::Plugin.path().expect("built");
    for (name, text, key) in cases {
        let params = json!({
            "subcommand": "start", "plugin": plugin, "lnplaylive-config": file("next.toml", &text),
        });
        let error = host.node.call("plugin", params).await.expect_err(name);
        assert!(error.message.contains("settings: "), "{name}: {error}");
        assert!(error.message.contains(key), "{name}: `{error}` does not name {key}");
        assert!(!error.message.contains("not a token"), "a secret is not shown: {error}");
    }
    host.node.call("getinfo", json!({})).await.expect("the node goes on");
}

async fn settings_can_be_named_by_the_environment(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "settings_can_be_named_by_the_environment") else { return };
    let dir = testbed::Workdir::new("settings").expect("a directory");
    let path = dir.join("lnplaylive.toml");
    std::fs::write(&path, QUICK).expect("written");
    let config =
        HostConfig::new(daemons).plugin(PluginRun::Direct, None).env("LNPLAYLIVE_CONFIG", path.as_os_str());
    let host = Host::start(config).await.expect("a host");
    let products = host.node.call("lnplaylive-products", json!({})).await.expect("products");
    assert_eq!(products["products"][0]["sku"], "T", "{products}");
}
