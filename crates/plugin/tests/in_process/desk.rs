//! The organiser's desk: allowed to the holder of an order whose environment runs, and no lever against the shop.

use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::desk::{Action, Answer, Did, Overview, Refusal, RequestId, fingerprint};
use lnplaylive_core::health::{self, Report};
use lnplaylive_core::{OrderId, ProjectName, State};
use lnplaylive_plugin::adapters::rpc;
use lnplaylive_plugin::core::{Shop, ShopError};
use provisioner::DeskError;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{Fault, World, buy, order, pay, until};

/// Buys an environment and returns once nothing is left to do for it.
async fn bought(world: &World, shop: &Shop) -> (OrderId, ProjectName) {
    let id = buy(world, shop).await;
    world.closed(id).await;
    (id, project(world, id))
}

fn project(world: &World, id: OrderId) -> ProjectName {
    match world.stored(id).map(|order| order.state) {
        Some(State::Provisioned { handover, .. }) => handover.project,
        other => panic!("{other:?}"),
    }
}

/// The rune in the order's record.
fn rune(world: &World, id: OrderId) -> String {
    match world.stored(id).map(|order| order.state) {
        Some(State::Provisioned { handover, .. }) => handover.connection_strings[0].rune.clone(),
        other => panic!("{other:?}"),
    }
}

async fn call(shop: &Arc<Shop>, params: Value) -> Result<Value, Value> {
    rpc::call(shop, "lnplaylive-desk", params).await.expect("there is such a method")
}

/// The kind of the error with which a call is refused.
async fn refused(shop: &Arc<Shop>, params: Value) -> Value {
    let error = call(shop, params.clone()).await.expect_err("it is refused");
    assert!(!error["message"].as_str().expect("a sentence").is_empty());
    error["data"].clone()
}

fn new_card(request: &str) -> Action {
    Action::NewCard { node: 0, request: RequestId::new(request) }
}

#[test]
fn the_holder_acts_by_name_and_by_position() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, project) = bought(&world, &shop).await;
        let looked = call(&shop, json!({"invoice_id": id, "action": "look"})).await.expect("a look");
        assert_eq!(looked["did"], json!({"what": "looked"}));
        assert_eq!((&looked["block_height"], &looked["blocks_paused"]), (&json!(101), &json!(false)));
        assert_eq!(looked["nodes"][0]["state"], "running");
        assert!(!looked.to_string().contains("card"), "fingerprints are not for callers: {looked}");
        let mined = call(&shop, json!([id, "mine", null, null, null, "3"])).await.expect("mined");
        assert_eq!(mined["did"], json!({"what": "mined", "blocks": 3}));
        let coins = call(&shop, json!([id, "send_coins", 0, "20000"])).await.expect("sent");
        assert_eq!(coins["did"]["nodes"], json!([0]));
        let off = json!({"invoice_id": id, "action": "switch_off", "node": "0"});
        assert_eq!(call(&shop, off).await.expect("off")["did"], json!({"what": "switched_off", "node": 0}));
        let expected = [
            Action::Mine { blocks: 3, request: None },
            Action::SendCoins { node: Some(0), sat: 20_000, request: None },
            Action::SwitchOff { node: 0 },
        ];
        assert_eq!(world.data().desks[&project].acted, expected);
    });
}

#[test]
fn what_no_environment_can_do_is_refused_before_it_is_asked() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, _) = bought(&world, &shop).await;
        for (params, parameter) in [
            (json!({"action": "look"}), json!("invoice_id")),
            (json!({"invoice_id": id}), json!("action")),
            (json!({"invoice_id": id, "action": "stop"}), json!("action")),
            (json!({"invoice_id": id, "action": "cards"}), json!("action")),
            (json!({"invoice_id": id, "action": ["mine"]}), json!("action")),
            (json!({"invoice_id": id, "action": "new_card"}), json!("node")),
            (json!({"invoice_id": id, "action": "new_card", "node": 1}), json!("node")),
            (json!({"invoice_id": id, "action": "new_card", "node": -1}), json!("node")),
            (json!({"invoice_id": id, "action": "new_card", "node": "x"}), json!("node")),
            (json!({"invoice_id": id, "action": "switch_off", "node": 1_u64 << 40}), json!("node")),
            (json!({"invoice_id": id, "action": "send_coins"}), json!("sat")),
            (json!({"invoice_id": id, "action": "send_coins", "sat": 1}), json!("sat")),
            (json!({"invoice_id": id, "action": "send_coins", "sat": -5}), json!("sat")),
            (json!({"invoice_id": id, "action": "send_coins", "sat": u64::MAX}), json!("sat")),
            (json!({"invoice_id": id, "action": "mine", "blocks": 0}), json!("blocks")),
            (json!({"invoice_id": id, "action": "mine", "blocks": 7}), json!("blocks")),
            (json!({"invoice_id": id, "action": "mine", "request": "a b"}), json!("request")),
            (json!({"invoice_id": id, "action": "open_channels"}), json!("setup")),
            (json!({"invoice_id": id, "action": "open_channels", "setup": "none"}), json!("setup")),
            (json!({"invoice_id": id, "action": "look", "amount": 1}), json!("amount")),
        ] {
            let data = refused(&shop, params.clone()).await;
            assert_eq!(
                (&data["kind"], &data["parameter"]),
                (&json!("invalid_params"), &parameter),
                "{params}"
            );
        }
        assert_eq!(world.count("remote.desk"), 0);
    });
}

#[test]
fn only_an_environment_that_runs_has_a_desk() {
    let world = World::new();
    world.run_whole(async |shop| {
        let look = |id: &str| json!({"invoice_id": id, "action": "look"});
        // Exactly as the status of an order that is not there.
        for unknown in ["lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624", "lnplaylive-", "rubbish"] {
            let status = json!({"payment_type": "bolt11", "invoice_id": unknown});
            let status = rpc::call(&shop, "lnplaylive-invoicestatus", status).await.expect("a method");
            assert_eq!(call(&shop, look(unknown)).await, status);
        }
        let invalid = |state: &str| json!({"kind": "invalid_state", "state": state});
        let unpaid = order(&shop).await.expect("an order");
        assert_eq!(refused(&shop, look(&unpaid.to_string())).await, invalid("created"));
        let hold = world.hold("remote.deploy");
        pay(&world, &shop, unpaid).await;
        hold.reached().await;
        assert_eq!(refused(&shop, look(&unpaid.to_string())).await, invalid("deploying"));
        hold.release();
        world.closed(unpaid).await;
        call(&shop, look(&unpaid.to_string())).await.expect("it runs");
        let hold = world.hold("remote.deploy");
        shop.operator.replace(unpaid, false).await.expect("replaced");
        hold.reached().await;
        assert_eq!(refused(&shop, look(&unpaid.to_string())).await, invalid("deploying"));
        hold.release();
        world.closed(unpaid).await;
        sleep(Duration::from_secs(3 * 3600)).await;
        let asked = world.count("remote.desk");
        assert_eq!(refused(&shop, look(&unpaid.to_string())).await, invalid("expired"));
        assert_eq!(world.count("remote.desk"), asked);
    });
}

#[test]
fn an_environment_made_before_the_desk_says_so() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, project) = bought(&world, &shop).await;
        world.data().desks.entry(project).or_default().answer = Some(Err(DeskError::TooOld));
        let error = call(&shop, json!([id, "look"])).await.expect_err("it has none");
        assert_eq!(error["data"], json!({"kind": "desk_too_old"}));
        assert_eq!(error["message"], "this environment was made before the desk");
        let refusal = Answer::Refused { reason: Refusal::NodeOff, message: "<b>anything</b>".to_owned() };
        world.data().desks.entry(project).or_default().answer = Some(Ok(refusal));
        let error = call(&shop, json!([id, "new_card", 0])).await.expect_err("it refuses");
        assert_eq!(error["data"], json!({"kind": "desk_refused", "reason": "node_off"}));
        assert_eq!(error["message"], "the node is switched off; switch it on first", "in our own words");
    });
}

#[test]
fn one_action_of_an_order_at_a_time_and_a_look_beside_it() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, _) = bought(&world, &shop).await;
        let (other, _) = bought(&world, &shop).await;
        let hold = world.hold("remote.desk");
        let acting = shop.desk.act(id, &Action::PauseBlocks);
        let meanwhile = async {
            hold.reached().await;
            let data = refused(&shop, json!([id, "resume_blocks"])).await;
            assert_eq!(data["kind"], "desk_busy");
            assert!(data["retry_after_secs"].as_u64() >= Some(1));
            call(&shop, json!([id, "look"])).await.expect("a look is no action");
            call(&shop, json!([other, "pause_blocks"])).await.expect("another order's desk");
            hold.release();
        };
        let (acted, ()) = tokio::join!(acting, meanwhile);
        acted.expect("the first one goes on");
        call(&shop, json!([id, "resume_blocks"])).await.expect("its turn is over");
    });
}

/// The number of calls that are answered before one is refused for its pace.
async fn calls_at_once(shop: &Shop, id: OrderId) -> usize {
    for count in 0..1000 {
        match shop.desk.act(id, &Action::Look).await {
            Ok(_) => {}
            Err(ShopError::DeskBusy { retry_after_secs }) => {
                assert!((1..=3).contains(&retry_after_secs), "{retry_after_secs}");
                return count;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no bound");
}

#[test]
fn an_order_has_a_bounded_number_of_actions_a_minute() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, _) = bought(&world, &shop).await;
        let (other, _) = bought(&world, &shop).await;
        assert_eq!(calls_at_once(&shop, id).await, 15);
        shop.desk.act(other, &Action::Look).await.expect("another order is not slowed down");
        let (begin, before) = (Instant::now(), world.count("remote.desk"));
        while begin.elapsed() < Duration::from_secs(600) {
            drop(shop.desk.act(id, &Action::Look).await);
            sleep(Duration::from_millis(100)).await;
        }
        let calls = world.count("remote.desk") - before;
        assert!((290..=310).contains(&calls), "{calls} in ten minutes");
    });
}

#[test]
fn a_remote_that_hangs_holds_a_bounded_number_of_actions() {
    let world = World::new();
    world.run_whole(async |shop| {
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(bought(&world, &shop).await.0);
        }
        world.fail_times("remote.desk", 0, usize::MAX, Fault::Hangs);
        let acts = ids.iter().map(|id| shop.desk.act(*id, &Action::Look));
        let begin = Instant::now();
        let ended = futures_util::future::join_all(acts).await;
        assert!(begin.elapsed() < Duration::from_secs(60));
        let count = |kind: fn(&ShopError) -> bool| {
            ended.iter().filter(|result| result.as_ref().is_err_and(kind)).count()
        };
        assert_eq!(count(|error| matches!(error, ShopError::DeskNoAnswer)), 8);
        assert_eq!(count(|error| matches!(error, ShopError::DeskBusy { .. })), 2);
        world.heal();
        shop.desk.act(ids[0], &Action::Look).await.expect("all is well again");
    });
}

#[test]
fn an_environment_that_never_answers_is_given_up() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, _) = bought(&world, &shop).await;
        let _never_released = world.hold("remote.desk");
        let begin = Instant::now();
        let ended = shop.desk.act(id, &Action::PauseBlocks).await;
        assert!(matches!(ended, Err(ShopError::DeskNoAnswer)), "{ended:?}");
        assert!(begin.elapsed() < Duration::from_secs(200), "{:?}", begin.elapsed());
        shop.desk.act(id, &Action::PauseBlocks).await.expect("its turn is over");
    });
}

#[test]
fn a_new_card_is_in_the_order_at_once_and_whoever_waits_is_told() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, project) = bought(&world, &shop).await;
        let (other, _) = bought(&world, &shop).await;
        assert_eq!(rune(&world, id), "r");
        let known = shop.status_watch.wait(id, 0, Duration::ZERO).await.expect("a status");
        let known = known.revision(shop.clock.now());
        let waiting = shop.status_watch.wait(id, known, Duration::from_secs(60));
        let params = json!({"invoice_id": id, "action": "new_card", "node": 0, "request": "once"});
        let (told, answer) = tokio::join!(waiting, call(&shop, params.clone()));
        let answer = answer.expect("a new card");
        assert_eq!(rune(&world, id), "new1");
        assert_eq!(rune(&world, other), "r");
        let string = answer["did"]["connection_string"].as_str().expect("a string");
        assert!(string.contains("rune=new1"), "{string}");
        assert_ne!(told.expect("a status").revision(shop.clock.now()), known);
        let status = json!({"payment_type": "bolt11", "invoice_id": id});
        let status =
            rpc::call(&shop, "lnplaylive-invoicestatus", status).await.expect("a method").expect("shown");
        assert_eq!(status["deployment_details"]["connection_strings"], json!([string]));
        assert_eq!(status["revision"], answer["revision"]);
        // The same request is carried out once; a lost answer costs nobody a card.
        assert_eq!(call(&shop, params).await.expect("again")["did"], answer["did"]);
        assert_eq!(world.data().desks[&project].acted.len(), 1);
    });
    world.check_books();
}

/// Whatever happens at any call of a new card, the record has the node's rune after the next look at it.
#[test]
fn a_new_card_converges_whatever_is_interrupted() {
    let faults = [Fault::CrashBefore, Fault::CrashAfter, Fault::Lost, Fault::AnswerLost, Fault::Refused];
    let mut interrupted = 0;
    for fault in faults {
        for nth in 0..12 {
            let world = World::new();
            let id = world.run_whole(async |shop| bought(&world, &shop).await.0);
            let project = project(&world, id);
            world.run(async |shop| {
                until("the orders are read", || world.count("store.list") > 1).await;
                world.fail_times("", nth, 1, fault.clone());
                drop(shop.desk.act(id, &new_card("once")).await);
            });
            world.heal();
            let made = world.data().desks.get(&project).map(|desk| desk.rune.clone());
            interrupted += usize::from(made.as_deref().is_some_and(|made| rune(&world, id) != made));
            world.run_whole(async |shop| {
                shop.desk.act(id, &Action::Look).await.expect("it answers");
            });
            let made = world.data().desks[&project].rune.clone();
            assert_eq!(rune(&world, id), made, "{fault:?} {nth}");
            assert!(world.data().desks[&project].acted.len() <= 1);
            world.check_books();
        }
    }
    assert!(interrupted > 0, "nothing was ever to be mended");
}

#[test]
fn a_probe_finds_a_card_that_is_not_recorded() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, project) = bought(&world, &shop).await;
        world.data().desks.entry(project).or_default().rune = "other".to_owned();
        let report = |card: &str| {
            let nodes = json!([{"index": 0, "name": "Alice", "block_height": 101, "card": card}]);
            let report = json!({"phase": "ready", "block_height": 101, "nodes": nodes}).to_string();
            health::Answer::Report(Report::parse(report.as_bytes()).expect("a report"))
        };
        world.data().answers.insert(project, report(&fingerprint("other")));
        until("it is recorded", || rune(&world, id) == "other").await;
        let (written, fetched) = (world.count("store.put_closed"), world.count("remote.cards"));
        sleep(Duration::from_secs(600)).await;
        assert_eq!(
            (world.count("store.put_closed"), world.count("remote.cards")),
            (written, fetched),
            "once"
        );
    });
}

#[test]
fn an_environment_that_lies_changes_nothing_but_its_own_runes() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, project) = bought(&world, &shop).await;
        let before = world.stored(id).expect("a record");
        let overview = |card: &str| Overview {
            block_height: Some(1),
            blocks_paused: true,
            nodes: (0..100)
                .map(|index| lnplaylive_core::desk::NodeView {
                    index,
                    name: "<script>".to_owned(),
                    state: lnplaylive_core::desk::NodeState::Off,
                    block_height: None,
                    card: Some(card.to_owned()),
                })
                .collect(),
        };
        let answers = |did: Did| Some(Ok(Answer::Done { did, overview: overview("0011") }));
        let string = |text: &str| lnplaylive_core::Secret::new(text.to_owned());
        for did in [
            Did::Looked,
            Did::NewCard { node: 7, rune: string("x") },
            Did::NewCard { node: 0, rune: string("x&page=https://evil.example") },
            Did::NewCard { node: 0, rune: string(&"a".repeat(2000)) },
            Did::Cards { runes: vec![Some(string("not a rune!"))] },
            Did::Cards { runes: Vec::new() },
        ] {
            world.data().desks.entry(project).or_default().answer = answers(did.clone());
            drop(shop.desk.act(id, &new_card("once")).await);
            let looked = call(&shop, json!([id, "look"])).await;
            if let Ok(looked) = looked {
                assert_eq!(looked["nodes"].as_array().map(Vec::len), Some(1), "{looked}");
                assert!(!looked.to_string().contains("script"), "{looked}");
            }
            assert_eq!(world.stored(id), Some(before.clone()), "{did:?}");
        }
    });
}
