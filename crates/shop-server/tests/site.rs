//! Files, `config.json`, headers and limits, from a visitor's point of view.

mod support;

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use shop_server::Settings;
use support::{INDEX, NODE, SECRET, Served, TIMEOUT, serve};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn plain() -> Served {
    serve(|_, _| {}).await
}

/// Trusts a proxy on this machine.
fn trust_loopback(settings: &mut Settings) {
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
}

#[tokio::test]
async fn only_the_apps_routes_get_its_page() {
    let site = plain().await;
    for path in [
        "/",
        "/order",
        "/connect",
        "/orders/lnplaylive-0819da5d",
        "/orders/%00%ff",
        "/order?x=1",
        "/orders/a/wall",
        "/guide",
        "/guide/class",
    ] {
        let answer = site.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, INDEX), "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    }
    for path in [
        "/order/",
        "/orders/",
        "/orders/a/b",
        "/orders//wall",
        "/orders/a/b/wall",
        "/guide/",
        "/guide/a/b",
        "/nothing",
        "/assets",
        "/assets/",
        "/assets/app.js",
        "/index",
    ] {
        assert_eq!(site.get(path).await.status, 404, "{path}");
        // For browsers the app has a page.
        let answer = site.get_with(path, "Accept: text/html,*/*\r\n").await;
        assert_eq!((answer.status, answer.text().as_str()), (404, INDEX), "{path}");
    }
    let refused = site.post("/", "{}").await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn files_are_sent_in_an_accepted_encoding() {
    let site = plain().await;
    let file = "/assets/app-D4f5e6a7.js";
    for (accept, body, encoding) in [
        ("", "plain script", ""),
        ("gzip, deflate, br", "brotli script", "br"),
        ("gzip;q=0.5", "gzip script", "gzip"),
        ("br;q=0, gzip", "gzip script", "gzip"),
        ("br;q=0.000,gzip;q=0", "plain script", ""),
        ("zstd", "plain script", ""),
    ] {
        let answer = site.get_with(file, &format!("Accept-Encoding: {accept}\r\n")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{accept}");
        assert_eq!(answer.header("content-encoding"), encoding, "{accept}");
        assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
    }
    // The compressed variants are not separate files.
    assert_eq!(site.get("/assets/app-D4f5e6a7.js.br").await.status, 404);

    let first = site.get("/sw.js").await;
    assert_eq!(first.header("cache-control"), "no-cache");
    let etag = first.header("etag");
    for (tag, status) in [(etag, 304), (&format!("\"other\", W/{etag}"), 304), ("*", 304), ("\"other\"", 200)]
    {
        let answer = site.get_with("/sw.js", &format!("If-None-Match: {tag}\r\n")).await;
        assert_eq!((answer.status, answer.header("etag")), (status, etag), "{tag}");
        assert_eq!(answer.body.is_empty(), status == 304, "{tag}");
    }
    let head = site.raw("HEAD /sw.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "11", 0));
}

#[tokio::test]
async fn nothing_but_the_shops_files_can_be_reached() {
    let site = plain().await;
    let secret = site.dir.path().join("secret.txt");
    let absolute = secret.to_str().expect("plain names").to_owned();
    let mut paths = vec![absolute.clone(), format!("/{absolute}"), format!("/assets/{absolute}")];
    for dots in
        ["..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%c0%ae%c0%ae", "%uff0e%uff0e", "....", "..;", "..%00"]
    {
        for slash in ["/", "%2f", "%5c", "\\", "%252f", "%c0%af", "//"] {
            paths.push(format!("/{dots}{slash}secret.txt"));
            paths.push(format!("/assets/{dots}{slash}{dots}{slash}secret.txt"));
            paths.push(format!("/orders/{dots}{slash}{dots}{slash}secret.txt"));
        }
    }
    paths.push("/secret.txt%00.js".into());
    paths.push("http://x/../secret.txt".into());
    for path in paths {
        let answer = site.get(&path).await;
        assert!(matches!(answer.status, 200 | 400 | 404), "{path}: {}", answer.status);
        // 200 only if the rest of the path is a valid id after `/orders/`.
        assert!(answer.status != 200 || answer.text() == INDEX, "{path}");
        assert!(!answer.text().contains(SECRET), "{path}");
    }
}

#[tokio::test]
async fn large_requests_are_refused_before_they_are_read() {
    let site = plain().await;
    let head = |path: &str, how: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n");
    // With a Content-Length.
    let answer = site.raw(head("/cards.pdf", "Content-Length: 104857600\r\nConnection: close")).await;
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("2097152 bytes"), "{}", answer.error());
    // Chunked: of a hundred megabytes, the server reads a few at most.
    let mut stream = TcpStream::connect(site.address).await.expect("it listens");
    let request = head("/cards.pdf", "Transfer-Encoding: chunked");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let chunk = ["10000\r\n", &" ".repeat(0x10000), "\r\n"].concat();
    let mut taken = 0;
    let sending = async {
        while taken < 100 << 20 && stream.write_all(chunk.as_bytes()).await.is_ok() {
            taken += chunk.len();
        }
    };
    timeout(TIMEOUT, sending).await.expect("it does not keep us waiting");
    assert!(taken < 50 << 20, "it took {taken} bytes");
    // On a path without bodies.
    let mut request = head("/", "Content-Length: 104857600").into_bytes();
    request.resize(request.len() + (10 << 20), b'x');
    assert_eq!(site.raw(request).await.status, 405);
    // An endless head.
    let endless = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}", "x".repeat(1 << 20));
    assert_eq!(site.raw(endless).await.status, 431);
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn config_follows_its_files() {
    let site = serve(|dir, settings| {
        (settings.node_id, settings.node_id_file) = (None, Some(dir.join("id")));
        settings.rune_file = dir.join("later");
        settings.contact = Some("help@shop.example".into());
    })
    .await;
    let answer = site.get("/config.json").await;
    assert_eq!((answer.status, answer.header("cache-control")), (503, "no-store"));
    let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(said["kind"], "starting", "the page says that the shop opens soon");
    assert_eq!(site.get("/").await.status, 200);
    assert_eq!(site.get("/healthz").await.status, 200);

    let put = |name: &str, text: &str| std::fs::write(site.dir.path().join(name), text).expect("it is ours");
    put("id", &format!("{NODE}\n"));
    put("later", "Zmlyc3Q=\n");
    let config = async || {
        let answer = site.get("/config.json").await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
        serde_json::from_slice::<Value>(&answer.body).expect("JSON")
    };
    let expected = |rune: &str| json!({"node_id": NODE, "rune": rune, "websocket_url": null, "contact": "help@shop.example"});
    assert_eq!(config().await, expected("Zmlyc3Q="));
    put("later", "another rune");
    assert_eq!(config().await, expected("another rune"));
    put("id", "rubbish");
    std::fs::remove_file(site.dir.path().join("later")).expect("it is ours");
    assert_eq!(config().await, expected("another rune"));
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let site = serve(|_, settings| trust_loopback(settings)).await;
    for path in ["/", "/config.json", "/nothing", "/assets/app-D4f5e6a7.js", "/ws", "/e/a/b", "/cards.pdf"] {
        let answer = site.get(path).await;
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("strict-transport-security"), "", "{path}");
        let over_tls =
            site.get_with(path, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n").await;
        assert!(over_tls.header("strict-transport-security").starts_with("max-age="), "{path}");
    }
}

#[tokio::test]
async fn metrics_are_not_part_of_the_site_and_contain_no_names() {
    let site = serve(|_, settings| settings.metrics_listen = Some((Ipv4Addr::LOCALHOST, 0).into())).await;
    site.get("/orders/lnplaylive-0819da5d").await;
    // Whoever asks, and whatever they say: a proxy in front of the site passes requests from this machine on.
    for headers in ["", "X-Forwarded-For: 127.0.0.1\r\n", "Accept: application/openmetrics-text\r\n"] {
        let answer = site.get_with("/metrics", headers).await;
        assert_eq!(answer.status, 404, "{headers}");
        assert!(!answer.text().contains("lnplaylive_frontend"), "{}", answer.text());
    }
    let text = site.metrics().await;
    assert!(text.contains("requests_total{route=\"file\",status=\"200\"} 1"), "{text}");
    assert!(!text.contains("0819da5d"), "{text}");
}

#[tokio::test]
async fn metrics_show_the_places_that_are_taken() {
    let site = serve(|_, settings| {
        settings.metrics_listen = Some((Ipv4Addr::LOCALHOST, 0).into());
        settings.limits.connections_per_client = 2;
    })
    .await;
    let taken = async |count: u32| {
        let line = format!("places_taken{{kind=\"connections\"}} {count}\n");
        wait_until(async || site.metrics().await.contains(&line)).await;
    };
    taken(0).await;
    let _first = TcpStream::connect(site.address).await.expect("it listens");
    let second = TcpStream::connect(site.address).await.expect("it listens");
    taken(2).await;
    assert!(site.metrics().await.contains("refused_total{reason=\"client_connections\"} 0"));
    assert_eq!(site.get("/").await.status, 429);
    assert!(site.metrics().await.contains("refused_total{reason=\"client_connections\"} 1"));
    drop(second);
    taken(1).await;
}

#[tokio::test]
async fn connections_of_a_client_are_limited() {
    let site = serve(|_, settings| settings.limits.connections_per_client = 2).await;
    let mut first = TcpStream::connect(site.address).await.expect("it listens");
    let _second = TcpStream::connect(site.address).await.expect("it listens");
    let refused = site.get("/").await;
    assert_eq!(refused.status, 429);
    assert!(refused.error().contains("from your address"));
    first.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("it reads");
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.expect("text");
    assert!(answer.contains(" 200 "), "{answer}");
    drop(first);
    wait_until(async || site.get("/").await.status == 200).await;
}

#[tokio::test]
async fn new_connections_of_a_client_are_limited() {
    let site = serve(|_, settings| settings.limits.new_connections_per_minute = 3).await;
    for _ in 0..3 {
        assert_eq!(site.get("/healthz").await.status, 200);
    }
    let refused = site.get("/healthz").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "10"));
}

#[tokio::test]
async fn behind_a_proxy_clients_are_told_apart() {
    let site = serve(|_, settings| {
        trust_loopback(settings);
        settings.limits.new_connections_per_minute = 2;
    })
    .await;
    let cards = async |client: &str| {
        let request = format!(
            "POST /cards.pdf HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1, {client}\r\n\
             Connection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        site.raw(request).await.status
    };
    assert_eq!([cards("192.0.2.1").await, cards("192.0.2.1").await], [400, 400]);
    assert_eq!(cards("192.0.2.1").await, 429);
    assert_eq!(cards("192.0.2.2").await, 400);
    // Pages and files need no slot: the proxy's connections are not the visitors'.
    for _ in 0..10 {
        assert_eq!(site.get_with("/", "X-Forwarded-For: 192.0.2.1\r\n").await.status, 200);
    }
}

/// A proxy that still sends when it is answered may report a broken connection instead of the answer.
#[tokio::test]
async fn a_refused_request_for_cards_is_read_before_it_is_answered() {
    let site = serve(|_, settings| {
        trust_loopback(settings);
        settings.limits.new_connections_per_minute = 1;
    })
    .await;
    let mut proxy = BufReader::new(TcpStream::connect(site.address).await.expect("it listens"));
    let body = vec![b' '; 1 << 20];
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let head = format!(
            "POST /cards.pdf HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        proxy.write_all(head.as_bytes()).await.expect("it reads the head");
        proxy.write_all(&body).await.expect("it reads the body");
        let (mut line, mut length) = (String::new(), 0);
        while timeout(TIMEOUT, proxy.read_line(&mut line)).await.expect("an answer").expect("a line") > 2 {
            let text = std::mem::take(&mut line).to_ascii_lowercase();
            if let Some(status) = text.strip_prefix("http/1.1 ") {
                statuses.push(status[..3].to_owned());
            }
            if let Some(bytes) = text.strip_prefix("content-length: ") {
                length = bytes.trim().parse().expect("a number");
            }
        }
        let mut answer = vec![0; length];
        proxy.read_exact(&mut answer).await.expect("the answer");
    }
    assert_eq!(statuses, ["400", "429", "429"]);
}

#[tokio::test]
async fn shutdown_is_graceful() {
    let mut site = plain().await;
    let mut idle = TcpStream::connect(site.address).await.expect("it listens");
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it reads");
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    site.begin_stop();
    let mut rest = Vec::new();
    timeout(TIMEOUT, idle.read_to_end(&mut rest)).await.expect("it closes").expect("in good order");
    let address = site.address;
    site.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// Repeats until the answer is true.
async fn wait_until(ask: impl AsyncFn() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, asking).await.expect("in time");
}
