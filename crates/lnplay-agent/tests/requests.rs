//! What attendees ask the room for: shown to all, gone once it is paid, and nothing that a node does to its own file changes what
//! the others show.

mod support;

use std::fs;
use std::time::Instant;

use lnplay_agent::requests::OWN_FILE;
use lnplaylive_core::ConnectionString;
use serde_json::{Value, json};
use sim_lightning::commando::Client;

use support::{Daemons, Environment, LIMIT, checks, spec};

checks!(an_invoice_is_seen_by_all_until_it_is_paid, a_node_that_spoils_its_file_hides_only_its_own_requests,);

struct Attendee<'a> {
    client: Client,
    string: &'a ConnectionString,
}

impl<'a> Attendee<'a> {
    async fn of(environment: &Environment, node: u16, string: &'a ConnectionString) -> Self {
        let client = Client::connect(&environment.websocket(node), string.node_id.as_str()).await;
        Self { client: client.expect("it listens"), string }
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.client.call(&self.string.rune, method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    async fn invoice(&self, label: &str) -> String {
        let params = json!({"amount_msat": 21_000, "label": label, "description": "coffee"});
        self.call("invoice", params).await["bolt11"].as_str().expect("a text").to_owned()
    }

    /// Waits until the room's list is this.
    async fn sees(&self, wanted: &[(&Attendee<'_>, &str)]) {
        let entry =
            |(who, request): &(&Attendee<'_>, &str)| json!({"node": who.string.node_id, "request": request});
        let wanted = json!(wanted.iter().map(entry).collect::<Vec<_>>());
        let deadline = Instant::now() + LIMIT;
        loop {
            let list = self.call("listsharedinvoices", json!({})).await;
            if list["requests"] == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "never {wanted}; last seen: {list}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn an_invoice_is_seen_by_all_until_it_is_paid(daemons: &Daemons) {
    let environment = Environment::on(daemons).confined();
    let mut spec = spec(3);
    spec["channel_setup"] = json!("star");
    let strings = environment.up(&spec).strings();
    runtime().block_on(async {
        let ana = Attendee::of(&environment, 0, &strings[0]).await;
        let bruno = Attendee::of(&environment, 1, &strings[1]).await;
        let carla = Attendee::of(&environment, 2, &strings[2]).await;
        bruno.sees(&[]).await;

        let (first, second) = (bruno.invoice("first").await, bruno.invoice("second").await);
        for (invoice, label) in [(&first, "first"), (&second, "second")] {
            bruno.call("shareinvoice", json!({"invoice": invoice, "label": label})).await;
        }
        // Without its label, as an offer, it stays until it is taken back.
        let third = carla.invoice("third").await;
        carla.call("shareinvoice", json!([third])).await;
        for attendee in [&ana, &bruno, &carla] {
            attendee.sees(&[(&bruno, &first), (&bruno, &second), (&carla, &third)]).await;
        }

        ana.call("pay", json!({"bolt11": first})).await;
        carla.sees(&[(&bruno, &second), (&carla, &third)]).await;
        bruno.call("unshareinvoice", json!([second])).await;
        ana.sees(&[(&carla, &third)]).await;
    });

    // They are there again after a night.
    assert!(environment.down().status.success());
    assert_eq!(environment.up(&spec).strings(), strings);
    runtime().block_on(async {
        let ana = Attendee::of(&environment, 0, &strings[0]).await;
        let carla = Attendee::of(&environment, 2, &strings[2]).await;
        let third = carla.call("listinvoices", json!({"label": "third"})).await;
        let third = third["invoices"][0]["bolt11"].as_str().expect("a text");
        ana.sees(&[(&carla, third)]).await;
    });
}

fn a_node_that_spoils_its_file_hides_only_its_own_requests(daemons: &Daemons) {
    let environment = Environment::on(daemons).confined();
    let strings = environment.up(&spec(2)).strings();
    let file = environment.path().join("nodes/00/regtest").join(OWN_FILE);
    let secret = environment.path().join("spec.json");
    runtime().block_on(async {
        let hostile = Attendee::of(&environment, 0, &strings[0]).await;
        let other = Attendee::of(&environment, 1, &strings[1]).await;
        let (good, own) = (other.invoice("good").await, hostile.invoice("own").await);
        other.call("shareinvoice", json!([good])).await;
        let remove = || fs::remove_file(&file).expect("there is one");
        let spoil: [&dyn Fn(); 5] = [
            &|| std::os::unix::fs::symlink(&secret, &file).expect("linked"),
            &|| nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a pipe"),
            &|| fs::write(&file, vec![b' '; 64 << 20]).expect("written"),
            &|| {
                fs::write(&file, r#"[{"request":"<script>"},{"request":"lnbc1mainnet"},7]"#)
                    .expect("written");
            },
            &|| fs::write(&file, b"\xff\xfe").expect("written"),
        ];
        for spoil in spoil {
            hostile.call("shareinvoice", json!([own])).await;
            other.sees(&[(&hostile, &own), (&other, &good)]).await;
            remove();
            spoil();
            // What others ask for meanwhile is still collected.
            let another = other.invoice(&format!("{:?}", Instant::now())).await;
            other.call("shareinvoice", json!([another])).await;
            other.sees(&[(&other, &good), (&other, &another)]).await;
            other.call("unshareinvoice", json!([another])).await;
            other.sees(&[(&other, &good)]).await;
            remove();
        }
    });
}
