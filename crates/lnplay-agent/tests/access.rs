//! An attendee's connection string allows exactly what [`lnplay_agent::access`] has decided, on the daemon at hand.

mod support;

use lnplay_agent::access::{Decision, decide};
use lnplay_agent::room;
use serde_json::{Value, json};
use sim_lightning::commando::{Client, Error};
use support::{Daemons, Environment, checks, spec};

/// Commando's code for a rune that does not permit the call.
const REFUSED: i64 = 0x4c51;

checks!(
    a_rune_allows_what_was_decided_of_every_method,
    a_rune_reads_the_room_and_cannot_change_it,
    full_access_is_asked_for_in_the_spec
);

/// The names of all methods that a node has, as it lists them itself.
fn methods(environment: &Environment) -> Vec<String> {
    let help = environment.rpc(0, "help");
    let usages = help["help"].as_array().expect("a list").iter();
    let name = |usage: &Value| usage["command"].as_str()?.split_whitespace().next().map(str::to_owned);
    usages.map(|usage| name(usage).expect("a name")).collect()
}

/// A parameter that no method has: nothing is done, and a rune's verdict comes first.
fn nonsense() -> Value {
    json!({"no-such-parameter": 1})
}

/// True if a connection string's rune permits a call, as the node itself says.
async fn permitted(client: &Client, rune: &str, method: &str) -> bool {
    match client.call(rune, method, nonsense()).await {
        Ok(_) => true,
        Err(Error::Rpc { code, .. }) => code != REFUSED,
        Err(error) => panic!("{method}: {error}"),
    }
}

fn a_rune_allows_what_was_decided_of_every_method(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let string = environment.up(&spec(1)).strings().remove(0);
    let methods = methods(&environment);
    let undecided: Vec<_> = methods.iter().filter(|method| decide(method).is_none()).collect();
    assert!(undecided.is_empty(), "decide in crates/lnplay-agent/src/access.rs about {undecided:?}");
    let allowed = methods.iter().filter(|method| decide(method) == Some(Decision::Allowed)).count();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client =
            Client::connect(&environment.websocket(0), string.node_id.as_str()).await.expect("it listens");
        for method in &methods {
            let decided = decide(method) == Some(Decision::Allowed);
            assert_eq!(permitted(&client, &string.rune, method).await, decided, "{method}");
        }
        // Nor can a name be dressed up as one that is allowed.
        for method in [
            "PLUGIN",
            " plugin",
            "plugin ",
            "list plugin",
            "getinfo\n",
            "pl\\u0075gin",
            "listnodes\",\"method\":\"stop",
        ] {
            let outcome = client.call(&string.rune, method, json!([])).await;
            assert!(outcome.is_err(), "{method:?} was answered: {outcome:?}");
        }
        let info = client.call(&string.rune, "getinfo", json!({})).await.expect("it lives");
        assert_eq!(info["id"], string.node_id.as_str());
    });
    support::figure(&format!(
        "{} lightningd: {} methods, {allowed} of them allowed to attendees; a rune of {} characters, a connection string of {}",
        if daemons.real { "real" } else { "simulated" },
        methods.len(),
        string.rune.len(),
        string.to_string().len(),
    ));
    assert!(
        string.to_string().len() <= 900,
        "too long for a QR code on a card: {}",
        string.to_string().len()
    );
}

fn a_rune_reads_the_room_and_cannot_change_it(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let mut spec = spec(2);
    spec["names"] = json!(["Ana", "Benjam\u{ed}n"]);
    let strings = environment.up(&spec).strings();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for (node, string) in (0..).zip(&strings) {
            let client = Client::connect(&environment.websocket(node), string.node_id.as_str())
                .await
                .expect("it listens");
            let key = json!({"key": room::KEY});
            let stored = client.call(&string.rune, "listdatastore", key).await.expect("the rune allows it");
            let text = stored["datastore"][0]["string"].as_str().expect("a text");
            let room: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(room["version"], room::VERSION);
            let entries = room["nodes"].as_array().expect("a list");
            assert_eq!(entries.len(), strings.len());
            for (entry, string) in entries.iter().zip(&strings) {
                assert_eq!(entry["id"], string.node_id.as_str());
                assert_eq!(entry["name"].as_str(), string.name.as_deref());
                assert_eq!(entry["color"], string.color.expect("a colour").to_string());
                let address = entry["address"].as_str().expect("a text");
                address.parse::<std::net::SocketAddr>().expect("an address and a port");
            }
            assert!(!permitted(&client, &string.rune, "datastore").await);
            assert!(!permitted(&client, &string.rune, "deldatastore").await);
        }
        // What it is for: neighbours who have heard nothing of each other can be connected to.
        let client = Client::connect(&environment.websocket(0), strings[0].node_id.as_str())
            .await
            .expect("it listens");
        let stored =
            client.call(&strings[0].rune, "listdatastore", json!({"key": room::KEY})).await.expect("it");
        let room: Value =
            serde_json::from_str(stored["datastore"][0]["string"].as_str().expect("a text")).expect("JSON");
        let (id, address) = (&room["nodes"][1]["id"], &room["nodes"][1]["address"]);
        let peer = format!("{}@{}", id.as_str().expect("an id"), address.as_str().expect("an address"));
        client.call(&strings[0].rune, "connect", json!({"id": peer})).await.expect("the neighbour answers");
    });
}

fn full_access_is_asked_for_in_the_spec(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let mut spec = spec(1);
    spec["node_access"] = json!("full");
    let string = environment.up(&spec).strings().remove(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client =
            Client::connect(&environment.websocket(0), string.node_id.as_str()).await.expect("it listens");
        for method in ["plugin", "createrune", "stop"] {
            assert!(permitted(&client, &string.rune, method).await, "{method}");
        }
    });
}
