//! Tickets, the shares of unpaid orders, and what everybody is shown without asking.

use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::catalogue::Selection;
use lnplaylive_core::holds::Share;
use lnplaylive_core::{OrderId, Ticket, TicketKey};
use lnplaylive_plugin::core::sales::Wish;
use lnplaylive_plugin::core::{Shop, ShopError};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, order, pay, until, wish};

/// A ticket for the visitor with this address.
fn ticket(key: &TicketKey, shop: &Shop, address: &str) -> String {
    let holder = key.holder(address.parse().expect("an address"));
    key.sign(&Ticket::new(holder, shop.clock.now()))
}

async fn order_with(shop: &Shop, ticket: &str) -> Result<OrderId, ShopError> {
    let wish = Wish { ticket: Some(ticket), ..wish() };
    Ok(shop.sales.create_order(wish).await?.order.id)
}

/// Orders as the visitor with this address.
async fn order_as(key: &TicketKey, shop: &Shop, address: &str) -> Result<OrderId, ShopError> {
    order_with(shop, &ticket(key, shop, address)).await
}

/// Orders as this visitor until it is refused; returns the number of orders and the refusal.
async fn order_all(key: &TicketKey, shop: &Shop, address: impl Fn(usize) -> String) -> (usize, ShopError) {
    for count in 0.. {
        if let Err(refusal) = order_as(key, shop, &address(count)).await {
            return (count, refusal);
        }
    }
    unreachable!()
}

fn share(refusal: &ShopError) -> Option<Share> {
    match refusal {
        ShopError::UnpaidLimit { share, retry_after_secs } => {
            assert!((1..=606).contains(retry_after_secs), "{refusal:?}");
            Some(*share)
        }
        _ => None,
    }
}

#[test]
fn a_ticket_is_good_for_one_order() {
    let world = World::new();
    let key = world.ration();
    world.run_whole(async |shop| {
        let text = ticket(&key, &shop, "192.0.2.7");
        order_with(&shop, &text).await.expect("an order");
        let again = order_with(&shop, &text).await;
        assert!(matches!(again, Err(ShopError::TicketSpent(_))), "{again:?}");

        let late = ticket(&key, &shop, "198.51.100.7");
        sleep(Duration::from_secs(301)).await;
        let late = order_with(&shop, &late).await;
        assert!(matches!(late, Err(ShopError::TicketSpent(_))), "{late:?}");

        for foreign in ["", "rubbish", &text[1..], &text.replace('A', "B")] {
            let refused = order_with(&shop, foreign).await;
            let required = matches!(refused, Err(ShopError::TicketRequired { retry_after_secs: None, .. }));
            assert!(required, "{foreign}: {refused:?}");
        }
    });
}

#[test]
fn a_ticket_is_not_good_once_more_after_a_restart() {
    let world = World::new();
    let key = world.ration();
    let text = world.run_whole(async |shop| {
        let text = ticket(&key, &shop, "192.0.2.7");
        order_with(&shop, &text).await.expect("an order");
        sleep(Duration::from_secs(1)).await;
        text
    });
    world.run_whole(async |shop| {
        let again = order_with(&shop, &text).await;
        assert!(matches!(again, Err(ShopError::TicketSpent(_))), "{again:?}");
        order_as(&key, &shop, "198.51.100.7").await.expect("a new one is good");
    });
}

#[test]
fn a_ticket_is_looked_at_after_everything_else() {
    let world = World::new();
    let key = world.ration();
    world.run_whole(async |shop| {
        let text = ticket(&key, &shop, "192.0.2.7");
        for wrong in [
            Wish { hours: 0, ..wish() },
            Wish { selection: Selection::NodeCount(0), ..wish() },
            Wish { names: vec!["a", "b"], ..wish() },
        ] {
            for ticket in [None, Some(text.as_str()), Some("rubbish")] {
                // As often as somebody likes: it takes nothing of the budget of orders without a ticket.
                for _ in 0..20 {
                    let refused = shop.sales.create_order(Wish { ticket, ..wrong.clone() }).await;
                    let wish = matches!(refused, Err(ShopError::Quote(_) | ShopError::Customisation(_)));
                    assert!(wish, "{refused:?}");
                }
            }
        }
        order_with(&shop, &text).await.expect("the ticket was not used");
        order(&shop).await.expect("the budget was not used");
    });
}

#[test]
fn orders_without_a_ticket_share_a_budget_and_others_do_not_wait() {
    let world = World::new();
    let key = world.ration();
    world.set("/shop/orders_without_ticket_burst", json!(3));
    world.set("/shop/orders_without_ticket_per_minute", json!(2));
    world.set("/remotes/0/ports", json!({"first": 20000, "last": 21999}));
    world.run_whole(async |shop| {
        for _ in 0..3 {
            order(&shop).await.expect("on a quiet day");
        }
        for _ in 0..1000 {
            let refused = order(&shop).await.expect_err("the budget is used up");
            let ShopError::TicketRequired { retry_after_secs: Some(secs), .. } = refused else {
                panic!("{refused:?}");
            };
            assert!((1..=31).contains(&secs), "{secs}");
        }
        order_as(&key, &shop, "192.0.2.7").await.expect("with a ticket");
        sleep(Duration::from_secs(31)).await;
        order(&shop).await.expect("one more");
        order(&shop).await.expect_err("and no more");
    });
}

#[test]
fn without_a_key_everybody_may_order() {
    let world = World::new();
    world.run_whole(async |shop| {
        for _ in 0..20 {
            order(&shop).await.expect("an order");
        }
        order_with(&shop, "rubbish").await.expect("nobody looks at it");
    });
}

#[test]
fn a_client_holds_an_eighth_and_a_network_a_quarter() {
    let world = World::new();
    let key = world.ration();
    world.set("/remotes/0/max_environments", json!(32));
    world.run_whole(async |shop| {
        let (held, refusal) = order_all(&key, &shop, |_| "192.0.2.7".into()).await;
        assert_eq!((held, share(&refusal)), (4, Some(Share::Client)), "{refusal:?}");
        let site = |n| format!("2001:db8:7:{n:x}::1");
        let (held, refusal) = order_all(&key, &shop, site).await;
        assert_eq!((held, share(&refusal)), (8, Some(Share::Network)), "{refusal:?}");
        let household = |n| format!("2001:db8:8:1::{n:x}");
        let (held, refusal) = order_all(&key, &shop, household).await;
        assert_eq!((held, share(&refusal)), (4, Some(Share::Client)), "{refusal:?}");
        for _ in 0..4 {
            order(&shop).await.expect("an order without a ticket");
        }
        let refusal = order(&shop).await.expect_err("they hold as much as a client");
        assert_eq!(share(&refusal), Some(Share::WithoutTicket), "{refusal:?}");
        order_as(&key, &shop, "203.0.113.1").await.expect("a buyer");
    });
}

#[test]
fn one_order_is_always_held() {
    let world = World::new();
    let key = world.ration();
    world.set("/remotes/0/max_environments", json!(3));
    world.run_whole(async |shop| {
        for (address, refused) in [("192.0.2.7", Share::Client), ("198.51.100.7", Share::Client)] {
            order_as(&key, &shop, address).await.expect("the first");
            let refusal = order_as(&key, &shop, address).await.expect_err("the second");
            assert_eq!(share(&refusal), Some(refused), "{refusal:?}");
        }
        let neighbour = order_as(&key, &shop, "192.0.2.8").await.expect_err("a neighbour");
        assert_eq!(share(&neighbour), Some(Share::Network), "{neighbour:?}");
    });
}

#[test]
fn a_payment_gives_the_share_back() {
    let world = World::new();
    let key = world.ration();
    world.set("/remotes/0/max_environments", json!(8));
    world.run_whole(async |shop| {
        let id = order_as(&key, &shop, "192.0.2.7").await.expect("the first");
        order_as(&key, &shop, "192.0.2.7").await.expect_err("the second");
        pay(&world, &shop, id).await;
        order_as(&key, &shop, "192.0.2.7").await.expect("what is paid is not held");
    });
}

#[test]
fn an_expired_order_gives_the_share_back() {
    let world = World::new();
    let key = world.ration();
    world.set("/remotes/0/max_environments", json!(8));
    world.run_whole(async |shop| {
        order_as(&key, &shop, "192.0.2.7").await.expect("the first");
        let refusal = order_as(&key, &shop, "192.0.2.7").await.expect_err("the second");
        let ShopError::UnpaidLimit { retry_after_secs, .. } = refusal else { panic!("{refusal:?}") };
        sleep(Duration::from_secs(retry_after_secs.unsigned_abs())).await;
        order_as(&key, &shop, "192.0.2.7").await.expect("as promised");
    });
}

#[test]
fn holds_of_before_a_restart_are_one_clients() {
    let world = World::new();
    let key = world.ration();
    world.set("/remotes/0/max_environments", json!(32));
    world.run_whole(async |shop| {
        for n in 0..6 {
            order_as(&key, &shop, &format!("192.0.{n}.7")).await.expect("an order");
        }
    });
    world.run_whole(async |shop| {
        let refusal = order(&shop).await.expect_err("they count for those without a ticket");
        assert_eq!(share(&refusal), Some(Share::WithoutTicket), "{refusal:?}");
        order_as(&key, &shop, "192.0.0.7").await.expect("and for nobody else");
    });
}

#[test]
fn the_unpaid_orders_that_there_may_be_are_shared_as_well() {
    let world = World::new();
    let key = world.ration();
    world.set("/shop/max_unpaid_orders", json!(16));
    world.run_whole(async |shop| {
        let (held, refusal) = order_all(&key, &shop, |_| "192.0.2.7".into()).await;
        assert_eq!((held, share(&refusal)), (2, Some(Share::Client)), "{refusal:?}");
    });
}

#[test]
fn under_pressure_a_place_is_held_for_less_long() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.set("/shop/contested_hold_secs", json!(100));
    world.run_whole(async |shop| {
        order(&shop).await.expect("the first");
        let Err(ShopError::SoldOut { next_available_at: Some(at) }) = order(&shop).await else {
            panic!("it is sold out, and known until when");
        };
        let wait = at.duration_since(shop.clock.now());
        assert!(wait <= SignedDuration::from_secs(100), "{wait:?}");
        sleep(Duration::try_from(wait).expect("later")).await;
        let offers = shop.sales.offers().await.expect("offers");
        assert_eq!((offers[0].available_count, offers[0].next_available_at), (1, None), "and shown");
        order(&shop).await.expect("it is contested");
        assert!(matches!(order(&shop).await, Err(ShopError::SoldOut { .. })), "once");
        assert_eq!(shop.sales.offers().await.expect("offers")[0].available_count, 0);
    });
}

#[test]
fn nothing_is_contested_while_there_is_room() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(2));
    world.set("/shop/contested_hold_secs", json!(100));
    world.run_whole(async |shop| {
        order(&shop).await.expect("the first");
        sleep(Duration::from_secs(150)).await;
        assert_eq!(shop.sales.offers().await.expect("offers")[0].available_count, 1);
        let second = order(&shop).await.expect("the other place");
        pay(&world, &shop, second).await;
        // Now nothing else is free.
        order(&shop).await.expect("the first one's place");
    });
}

#[test]
fn whoever_pays_in_the_last_second_is_served_even_if_the_place_was_sold() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.set("/shop/contested_hold_secs", json!(100));
    world.run_whole(async |shop| {
        let first = order(&shop).await.expect("the first");
        sleep(Duration::from_secs(101)).await;
        let second = order(&shop).await.expect("its place");
        pay(&world, &shop, second).await;
        world.closed(second).await;
        assert_eq!(world.state(second), "provisioned");

        sleep(Duration::from_secs(450)).await;
        pay(&world, &shop, first).await;
        until("the first is queued", || world.state(first) == "queued").await;
        assert!(matches!(order(&shop).await, Err(ShopError::SoldOut { .. })), "nobody gets in before it");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(world.state(first), "queued", "it waits");
        // The culler removes the environment when it has ended.
        world.data().projects.clear();
        world.closed(first).await;
        assert_eq!((world.state(first), world.projects(first)), ("provisioned", 1));
    });
}

#[test]
fn whoever_has_paid_is_before_whoever_contests() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.set("/shop/contested_hold_secs", json!(100));
    world.run_whole(async |shop| {
        let first = order(&shop).await.expect("the first");
        sleep(Duration::from_secs(101)).await;
        world.fail("remote.bring_up", Fault::Lost);
        pay(&world, &shop, first).await;
        assert!(matches!(order(&shop).await, Err(ShopError::SoldOut { .. })), "it is paid");
        world.closed(first).await;
        assert_eq!(world.state(first), "provisioned");
    });
}

#[test]
fn what_is_sold_is_published_when_it_changes_and_from_time_to_time() {
    let world = World::new();
    world.set("/shop/products_file", json!("/products.json"));
    world.set("/shop/contact", json!("help@shop.example"));
    world.set("/remotes/0/max_environments", json!(3));
    world.run_whole(async |shop| {
        let counts = || -> Vec<_> {
            world.data().published.iter().map(|(shown, _)| shown.offers[0].available_count).collect()
        };
        until("something is published", || !counts().is_empty()).await;
        let storefront = shop.sales.storefront().await.expect("a storefront");
        assert_eq!(world.data().published[0].0, storefront);
        order(&shop).await.expect("an order");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(counts(), [3, 2], "within seconds");
        sleep(Duration::from_secs(100)).await;
        let published = world.data().published.clone();
        assert!((6..=10).contains(&published.len()), "{}", published.len());
        let gaps = published.windows(2).map(|two| two[1].1.duration_since(two[0].1));
        assert!(gaps.max() <= Some(SignedDuration::from_secs(20)), "an old one tells that nobody writes");

        // As long as nothing is known, nothing is said.
        world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
        sleep(Duration::from_secs(120)).await;
        assert_eq!(counts().last(), Some(&0));
    });
}
