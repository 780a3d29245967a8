//! The operator: retries, cancels, refunds, extends, and looks at orders and remotes.

use serde_json::{Value, json};
use testbed::RpcError;
use tokio::time::sleep;

use crate::buyers::{Shift, kind};
use crate::dice::Dice;
use crate::tally::Group;
use crate::world::World;

/// Acts until the shift is over.
pub async fn run(world: &World, shift: &Shift) {
    let mut dice = Dice::new(world.settings.seed, "operator", 0);
    while shift.is_on(world) {
        sleep(dice.millis(200..=2000)).await;
        once(world, &mut dice).await;
    }
}

async fn once(world: &World, dice: &mut Dice) {
    let ids: Vec<_> = world.ledger.all().into_iter().collect();
    let failed: Vec<_> = ids.iter().filter(|(_, p)| p.seen_failed && !p.refunded).collect();
    let delivered: Vec<_> = ids.iter().filter(|(_, p)| p.strings.is_some()).collect();
    let waiting: Vec<_> = ids.iter().filter(|(_, p)| p.paid && p.strings.is_none()).collect();
    let any = |dice: &mut Dice| dice.pick(&ids).map(|(id, _)| id.clone());
    let pick = |dice: &mut Dice, of: &[&(String, _)]| dice.pick(of).map(|(id, _)| id.clone());
    match dice.between(0..=11) {
        0 => drop(ask(world, "lnplayops-orders", json!({})).await),
        1 => {
            let params = json!({"which": "all", "newer_than": 1, "limit": 20});
            ask(world, "lnplayops-orders", params).await.ok();
        }
        2 => drop(ask(world, "lnplayops-remotes", json!({})).await),
        3 => {
            if let Some(id) = any(dice) {
                ask(world, "lnplayops-order", json!({"invoice_id": id})).await.ok();
            }
        }
        4..=6 => {
            let id = if dice.chance(80) { pick(dice, &failed) } else { any(dice) };
            let Some(id) = id else { return };
            let was_refunded = world.ledger.find(&id).is_some_and(|purchase| purchase.refunded);
            if ask(world, "lnplayops-retry", json!({"invoice_id": id})).await.is_ok() {
                world.ledger.note(&id, |purchase| purchase.seen_failed = false);
                if was_refunded {
                    world.findings.add(format!("{id:.19} was retried after its refund"));
                }
            }
        }
        7 | 8 => {
            let Some(id) = pick(dice, &failed) else { return };
            refund(world, &id).await;
        }
        9 => {
            let id = if dice.chance(50) { pick(dice, &waiting) } else { any(dice) };
            let Some(id) = id else { return };
            if let Ok(order) = ask(world, "lnplayops-cancel", json!({"invoice_id": id})).await
                && order["state"] != "removed"
            {
                world.ledger.note(&id, |purchase| purchase.seen_failed = true);
            }
        }
        10 => {
            let Some(id) = pick(dice, &delivered) else { return };
            let hours = dice.between(1..=3);
            ask(world, "lnplayops-extend", json!({"invoice_id": id, "hours": hours})).await.ok();
        }
        _ => {
            // Of an order that was delivered, too: it keeps its state.
            let Some(id) = any(dice) else { return };
            if dice.chance(20) {
                refund(world, &id).await;
            }
        }
    }
}

async fn refund(world: &World, id: &str) {
    let params = json!({"invoice_id": id, "note": "preimage 00"});
    if let Ok(order) = ask(world, "lnplayops-refunded", params).await
        && order["state"] == "refunded"
    {
        world.ledger.note(id, |purchase| purchase.refunded = true);
    }
}

async fn ask(world: &World, method: &str, params: Value) -> Result<Value, RpcError> {
    let result = world.ask(method, params).await;
    let end = match &result {
        Ok(_) => "done".to_owned(),
        Err(error) => kind(error),
    };
    world.tally.one(Group::Operator, format!("{method}: {end}"));
    result
}
