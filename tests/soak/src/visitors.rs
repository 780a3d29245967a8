//! Visitors of the web shop: they open pages of orders, dial environments and print cards, with everything that must not be logged.

use std::time::Duration;

use anyhow::Context as _;
use lnplaylive_core::ConnectionString;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::buyers::Shift;
use crate::dice::Dice;
use crate::ledger::Purchase;
use crate::tally::Group;
use crate::world::World;

/// Longest time of a request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The part of an answer that is read.
const HEAD: u64 = 256;
/// The headers of a WebSocket.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The headers of anything else.
const CLOSE: &str = "Connection: close\r\n";

/// Makes requests until the shift is over.
pub async fn run(world: &World, shift: &Shift) {
    let mut dice = Dice::new(world.settings.seed, "visitor", 0);
    while shift.is_on(world) {
        sleep(dice.millis(200..=1500)).await;
        let orders: Vec<_> = world.ledger.all().into_iter().collect();
        let Some((id, purchase)) = dice.pick(&orders) else { continue };
        let (name, head, body) = request(&mut dice, id, purchase);
        let answer = match timeout(TIMEOUT, send(world, &head, &body)).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => format!("{error}"),
            Err(_) => "no answer".to_owned(),
        };
        world.tally.one(Group::Visitors, format!("{name}: {answer}"));
    }
}

/// The name of a request, its head but for `Host` and the length, and its body.
fn request(dice: &mut Dice, id: &str, purchase: &Purchase) -> (&'static str, String, String) {
    let strings: Vec<_> = purchase.strings.iter().flatten().collect();
    let dialled = strings.first().and_then(|string| string.parse::<ConnectionString>().ok());
    match (dice.between(0..=4), dialled) {
        (0, _) => ("config", format!("GET /config.json HTTP/1.1\r\n{CLOSE}"), String::new()),
        (1, _) => ("unknown path", format!("GET /orders/{id}/{id}?{id} HTTP/1.1\r\n{CLOSE}"), String::new()),
        (2, Some(_)) => {
            let body = json!({"connection_strings": strings, "title": "Soak"}).to_string();
            let head = format!("POST /cards.pdf HTTP/1.1\r\nContent-Type: application/json\r\n{CLOSE}");
            ("cards", head, body)
        }
        (3, Some(string)) => {
            // As behind a gateway; the rune has no place in the URL, and a page may make mistakes.
            let path = format!("/e/{id}/0?rune={}", string.rune);
            ("environment", format!("GET {path} HTTP/1.1\r\n{UPGRADE}"), String::new())
        }
        _ => ("order", format!("GET /orders/{id} HTTP/1.1\r\n{CLOSE}"), String::new()),
    }
}

/// Sends a request and returns the answer's status.
async fn send(world: &World, head: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(world.site).await.context("not connected")?;
    let request = format!("{head}Host: {}\r\nContent-Length: {}\r\n\r\n{body}", world.site, body.len());
    stream.write_all(request.as_bytes()).await.context("not sent")?;
    let mut answer = Vec::new();
    stream.take(HEAD).read_to_end(&mut answer).await.context("not read")?;
    let answer = String::from_utf8_lossy(&answer);
    answer.split_whitespace().nth(1).map(str::to_owned).context("no status")
}
