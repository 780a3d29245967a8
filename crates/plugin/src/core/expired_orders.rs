//! Orders whose invoices expired unpaid: remembered for a while after their records are gone, for buyers who come back to
//! the page of such an order.
//!
//! Kept in memory only, and bounded: anybody can make orders that are never paid. After a restart these orders are unknown.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::Terms;
use lnplaylive_core::{Customisation, Order, OrderId};

use super::order_handle::lock;

/// Time for which they are remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// Most that are remembered; the oldest are forgotten first. About 250 bytes each.
const MAX_REMEMBERED: usize = 20_000;

/// The orders that are remembered.
#[derive(Debug, Default)]
pub struct ExpiredOrders(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    orders: HashMap<OrderId, Order>,
    /// When each is forgotten, the oldest first.
    ends: VecDeque<(Timestamp, OrderId)>,
}

impl ExpiredOrders {
    /// Remembers an order. The texts that its buyer chose are dropped.
    pub fn remember(&self, order: Order, now: Timestamp) {
        let Customisation { coin_distribution, channel_setup, node_access, .. } = order.terms.customisation;
        let customisation =
            Customisation { coin_distribution, channel_setup, node_access, ..Customisation::default() };
        let terms = Terms { customisation, ..order.terms };
        let order = Order { terms, history: Vec::new(), ..order };
        let mut remembered = lock(&self.0);
        remembered.forget(now, MAX_REMEMBERED - 1);
        remembered.ends.push_back((now.checked_add(REMEMBERED).unwrap_or(Timestamp::MAX), order.id));
        remembered.orders.insert(order.id, order);
    }

    /// The order, if it is remembered.
    pub fn get(&self, id: OrderId, now: Timestamp) -> Option<Order> {
        let mut remembered = lock(&self.0);
        remembered.forget(now, MAX_REMEMBERED);
        remembered.orders.get(&id).cloned()
    }
}

impl Remembered {
    /// Forgets those whose time is over, and the oldest while there are more than `most`.
    fn forget(&mut self, now: Timestamp, most: usize) {
        while let Some((end, id)) = self.ends.front()
            && (*end <= now || self.ends.len() > most)
        {
            self.orders.remove(id);
            self.ends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use lnplaylive_core::Sku;
    use lnplaylive_core::customisation::Title;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    fn order() -> Order {
        let customisation = Customisation { title: Title::new("a class"), ..Customisation::default() };
        let terms = Terms { sku: Sku("T".into()), node_count: 3, hours: 2, amount_msat: 6, customisation };
        Order::new(OrderId::random(), terms, at(0), at(600))
    }

    #[test]
    fn an_order_is_forgotten_after_a_day() {
        let expired = ExpiredOrders::default();
        let order = order();
        expired.remember(order.clone(), at(660));
        let found = expired.get(order.id, at(660 + 24 * 3600 - 1)).expect("it is remembered");
        assert_eq!((found.terms.node_count, found.terms.hours), (3, 2));
        assert_eq!((found.state, found.invoice_expires_at), (order.state, order.invoice_expires_at));
        assert_eq!(found.terms.customisation.title, None);
        assert_eq!(expired.get(order.id, at(660 + 24 * 3600)), None);
        assert!(lock(&expired.0).ends.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_where_there_are_too_many() {
        let expired = ExpiredOrders::default();
        let template = order();
        let ids: Vec<_> = (0..=MAX_REMEMBERED).map(|_| OrderId::random()).collect();
        for &id in &ids {
            expired.remember(Order { id, ..template.clone() }, at(0));
        }
        assert_eq!(lock(&expired.0).orders.len(), MAX_REMEMBERED);
        assert_eq!(expired.get(ids[0], at(1)), None);
        assert!(expired.get(ids[1], at(1)).is_some());
    }
}
