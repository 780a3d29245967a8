//! Tickets and products, as browsers get them.

mod support;

use jiff::Timestamp;
use lnplaylive_core::TicketKey;
use lnplaylive_core::products_file::ProductsFile;
use serde_json::{Value, json};
use shop_server::settings::Rates;
use support::{Answer, Served, serve};

const KEY: &str = "00112233445566778899aabbccddeeff";

fn key() -> TicketKey {
    TicketKey::new(lnplaylive_core::Secret::new(KEY)).expect("a key")
}

/// A shop with tickets behind a proxy on this machine.
async fn shop(rates: Rates) -> Served {
    serve(|dir, settings| {
        settings.metrics_listen = Some(([127, 0, 0, 1], 0).into());
        std::fs::write(dir.join("key"), format!("{KEY}\n")).expect("it is ours");
        settings.ticket_key_file = Some(dir.join("key"));
        settings.products_file = Some(dir.join("products.json"));
        settings.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        settings.limits.tickets_per_minute = rates;
        settings.limits.products_per_minute = Rates { per_client: 3, per_network: 5 };
    })
    .await
}

/// Asks for a ticket as the visitor with this address.
async fn ask(shop: &Served, address: &str) -> Answer {
    shop.raw(format!(
        "POST /tickets HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {address}\r\n\
         Content-Length: 0\r\n\r\n"
    ))
    .await
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[tokio::test]
async fn a_visitor_gets_a_ticket_that_names_its_address_to_whoever_has_the_key() {
    let shop = shop(Rates { per_client: 6, per_network: 20 }).await;
    let answer = ask(&shop, "192.0.2.7").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    let body = body(&answer);
    let ticket = key().verify(body["ticket"].as_str().expect("text"), Timestamp::now()).expect("a ticket");
    assert_eq!(ticket.holder(), key().holder("192.0.2.7".parse().expect("an address")));
    assert_eq!(body["expires_at"], json!(ticket.expires_at()));
    let again = ask(&shop, "192.0.2.7").await;
    assert_ne!(self::body(&again)["ticket"], body["ticket"], "each is another");
    assert_eq!(shop.get("/tickets").await.status, 405);
}

#[tokio::test]
async fn a_client_and_a_network_get_so_many_and_others_get_theirs() {
    let shop = shop(Rates { per_client: 2, per_network: 5 }).await;
    for status in [200, 200, 429] {
        assert_eq!(ask(&shop, "2001:db8:1:1::7").await.status, status);
    }
    let refused = ask(&shop, "2001:db8:1:1::8").await;
    assert_eq!((refused.status, refused.error().contains("from your address")), (429, true));
    assert!((25..=35).contains(&refused.header("retry-after").parse::<u64>().expect("seconds")));
    let mut granted = 0;
    for n in 0..50 {
        granted += usize::from(ask(&shop, &format!("2001:db8:2:{n:x}::1")).await.status == 200);
    }
    assert_eq!(granted, 5, "one /48");
    let refused = ask(&shop, "2001:db8:2:ffff::1").await;
    assert!(refused.error().contains("network of your address"), "{}", refused.error());
    assert_eq!(ask(&shop, "2001:db8:3::1").await.status, 200, "somebody else");
    let metrics = shop.metrics().await;
    assert!(metrics.contains("refused_total{reason=\"network_ration\"} 46"), "{metrics}");
    assert!(metrics.contains("tickets_total 8\n"), "{metrics}");
}

#[tokio::test]
async fn a_forged_header_gets_nobody_elses_ration() {
    let shop = serve(|dir, settings| {
        std::fs::write(dir.join("key"), KEY).expect("it is ours");
        settings.ticket_key_file = Some(dir.join("key"));
        settings.limits.tickets_per_minute = Rates { per_client: 2, per_network: 5 };
    })
    .await;
    let mut granted = 0;
    for n in 0..9 {
        granted += usize::from(ask(&shop, &format!("203.0.{n}.1")).await.status == 200);
    }
    assert_eq!(granted, 2, "no proxy is trusted");
}

#[tokio::test]
async fn a_shop_without_a_key_says_so() {
    let without = serve(|_, _| {}).await;
    assert_eq!(
        (without.post("/tickets", "").await.status, without.get("/products").await.status),
        (404, 404)
    );
    let later = serve(|dir, settings| settings.ticket_key_file = Some(dir.join("later"))).await;
    assert_eq!(later.post("/tickets", "").await.status, 503);
    std::fs::write(later.dir.path().join("later"), "too short").expect("it is ours");
    assert_eq!(later.post("/tickets", "").await.status, 503);
    std::fs::write(later.dir.path().join("later"), KEY).expect("it is ours");
    assert_eq!(later.post("/tickets", "").await.status, 200);
}

#[tokio::test]
async fn products_are_what_the_plugin_wrote_while_it_is_recent() {
    let shop = shop(Rates { per_client: 6, per_network: 20 }).await;
    let as_client =
        async |n: u32| shop.get_with("/products", &format!("X-Forwarded-For: 192.0.{n}.7\r\n")).await;
    let write = |as_of: Timestamp| {
        let answer = json!({"products": [{"sku": "A"}]}).as_object().expect("an object").clone();
        ProductsFile { as_of, answer }.write(&shop.dir.path().join("products.json")).expect("written");
    };
    let missing = as_client(0).await;
    assert_eq!((missing.status, missing.header("retry-after")), (503, "10"));
    assert_eq!(body(&missing)["kind"], "starting");
    write(Timestamp::now());
    let answer = as_client(1).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "max-age=2"));
    assert_eq!(body(&answer)["products"], json!([{"sku": "A"}]));
    write(Timestamp::now() - jiff::SignedDuration::from_mins(5));
    let stale = as_client(2).await;
    assert_eq!((stale.status, &body(&stale)["kind"]), (503, &Value::Null), "the plugin does not run");

    write(Timestamp::now());
    for status in [200, 200, 200, 429] {
        assert_eq!(as_client(3).await.status, status, "for one client");
    }
    assert_eq!(as_client(4).await.status, 200, "somebody else");
}
