//! Attacks on a shop's front door, which go on while others do something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sim_lightning::commando::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, Notify};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::front::Front;

/// How long an attacker keeps a WebSocket on which it says nothing; the server closes it after ten seconds.
const SILENCE: Duration = Duration::from_secs(2);
/// How long an attacker waits for its cards before it hangs up.
const HANG_UP: Duration = Duration::from_millis(250);
/// Calls of one connection that are under way at a time.
const PIPELINE: usize = 64;

/// Parameters that are wrong, and take nothing but the time to say so.
pub fn junk() -> Value {
    json!({"node_count": 0})
}

/// Parameters of an order that could be anybody's.
pub fn valid() -> Value {
    json!({"node_count": 8, "hours": 1})
}

/// Attackers, who go on until [`Attack::end`], and count what became of their calls.
#[derive(Default)]
pub struct Attack {
    stop: Arc<AtomicBool>,
    begun: Arc<Notify>,
    tasks: Vec<JoinHandle<BTreeMap<String, u32>>>,
}

/// How a call ended, in a word.
fn outcome(result: &Result<Value, Error>) -> String {
    match result {
        Ok(_) => "ordered".into(),
        Err(Error::Rpc { data, code, .. }) => {
            data["kind"].as_str().map_or_else(|| format!("code {code}"), str::to_owned)
        }
        Err(Error::Timeout { .. }) => "no answer".into(),
        Err(_) => "no connection".into(),
    }
}

impl Attack {
    /// Everything that is tried against orders, at once.
    pub async fn with_everything(front: &Arc<Front>) -> Self {
        let mut attack = Self::default();
        let [a, b, c] = [9, 10, 11].map(|number| front.attacker(113, number));
        attack.add_calls(front, &a, junk()).await;
        attack.add_calls(front, &b, valid()).await;
        attack.add_holder(front, 64, move |_, _| a.clone()).await;
        attack.add_holder(front, 8, Front::neighbour).await;
        attack.add_looks(front, &c);
        attack
    }

    /// Adds an attacker, who does this again and again; `n` counts the times.
    pub fn add<F: Future<Output = String> + Send>(&mut self, act: impl Fn(usize) -> F + Send + 'static) {
        let (stop, begun) = (Arc::clone(&self.stop), Arc::clone(&self.begun));
        self.tasks.push(tokio::spawn(async move {
            let mut outcomes = BTreeMap::new();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                *outcomes.entry(act(n).await).or_default() += 1;
                if n == 2 {
                    begun.notify_one();
                }
                tokio::task::yield_now().await;
            }
            outcomes
        }));
    }

    /// Adds an attacker who makes the same order again and again, on one connection.
    pub async fn add_calls(&mut self, front: &Arc<Front>, visitor: &str, params: Value) {
        let front = Arc::clone(front);
        let client = Arc::new(front.connect(visitor).await.expect("a connection"));
        self.add(move |_| {
            let (front, client, params) = (Arc::clone(&front), Arc::clone(&client), params.clone());
            async move { outcome(&front.create_order(&client, params).await) }
        });
    }

    /// Adds an attacker who orders with as many tickets as it gets, from these addresses.
    pub async fn add_holder(
        &mut self,
        front: &Arc<Front>,
        node_count: u32,
        address: impl Fn(&Front, usize) -> String + Send + 'static,
    ) {
        let front = Arc::clone(front);
        let client = Arc::new(front.connect(&address(&front, 0)).await.expect("a connection"));
        self.add(move |n| {
            let (front, client, address) = (Arc::clone(&front), Arc::clone(&client), address(&front, n));
            async move {
                let Some(ticket) = front.ticket(&address).await else { return "no ticket".into() };
                let wish = json!({"node_count": node_count, "hours": 1, "ticket": ticket});
                outcome(&front.create_order(&client, wish).await)
            }
        });
    }

    /// Adds an attacker who looks at the products again and again.
    pub fn add_looks(&mut self, front: &Arc<Front>, visitor: &str) {
        let (front, visitor) = (Arc::clone(front), visitor.to_owned());
        self.add(move |_| {
            let (front, visitor) = (Arc::clone(&front), visitor.clone());
            async move {
                let page = front.request("GET", "/products", &visitor).await;
                page.map_or_else(|_| "no page".into(), |page| format!("products {}", page.status))
            }
        });
    }

    /// Adds an attacker who makes as many permitted calls at a time as one connection takes.
    pub async fn add_pipeline(&mut self, front: &Arc<Front>, visitor: &str, method: &str, params: Value) {
        let front = Arc::clone(front);
        let client = Arc::new(front.connect(visitor).await.expect("a connection"));
        let method = method.to_owned();
        let calls = Arc::new(Mutex::new(JoinSet::new()));
        self.add(move |_| {
            let (front, client, calls) = (Arc::clone(&front), Arc::clone(&client), Arc::clone(&calls));
            let (method, params) = (method.clone(), params.clone());
            async move {
                let mut calls = calls.lock().await;
                while calls.len() < PIPELINE {
                    let (front, client) = (Arc::clone(&front), Arc::clone(&client));
                    let (method, params) = (method.clone(), params.clone());
                    calls.spawn(async move { client.call(&front.rune, &method, params).await });
                }
                match calls.join_next().await.expect("there are some").expect("no panic") {
                    Ok(_) => method,
                    error => outcome(&error),
                }
            }
        });
    }

    /// Adds an attacker who opens WebSockets to the node and says nothing on them, one after the other.
    pub fn add_silence(&mut self, front: &Arc<Front>, visitor: &str) {
        let (front, visitor) = (Arc::clone(front), visitor.to_owned());
        self.add(move |_| {
            let (front, visitor) = (Arc::clone(&front), visitor.clone());
            async move {
                let Ok(mut stream) = front.dial(&visitor).await else { return "no connection".into() };
                let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                let head = front.head("GET", "/ws", &visitor, more);
                if stream.write_all(head.as_bytes()).await.is_err() {
                    return "no connection".into();
                }
                let mut answer = Vec::new();
                timeout(SILENCE, stream.read_to_end(&mut answer)).await.ok();
                let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
                format!("silent WebSocket {status}")
            }
        });
    }

    /// Adds an attacker who asks for these cards and hangs up before they are there.
    pub fn add_cards(&mut self, front: &Arc<Front>, visitor: &str, request: &Value) {
        let (front, visitor, body) = (Arc::clone(front), visitor.to_owned(), Arc::new(request.to_string()));
        self.add(move |_| {
            let (front, visitor, body) = (Arc::clone(&front), visitor.clone(), Arc::clone(&body));
            async move {
                let Ok(mut stream) = front.dial(&visitor).await else { return "no connection".into() };
                let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
                let head = front.head("POST", "/cards.pdf", &visitor, &more);
                let mut answer = [0; 12];
                let ask = async {
                    stream.write_all(head.as_bytes()).await?;
                    stream.write_all(body.as_bytes()).await?;
                    stream.read_exact(&mut answer).await
                };
                match timeout(HANG_UP, ask).await {
                    Ok(Ok(_)) => format!("cards {}", String::from_utf8_lossy(&answer[9..])),
                    Ok(Err(_)) => "no connection".into(),
                    Err(_) => "cards abandoned".into(),
                }
            }
        });
    }

    /// Returns when the first attacker has done its third act.
    pub async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Ends it; returns what became of the calls.
    pub async fn end(self) -> BTreeMap<String, u32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for task in self.tasks {
            for (outcome, count) in task.await.expect("no panic") {
                *all.entry(outcome).or_default() += count;
            }
        }
        all
    }
}
