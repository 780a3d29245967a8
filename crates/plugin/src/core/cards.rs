//! Keeps the runes in orders' records the same as those that the nodes have.
//!
//! A new card is made in the environment first and recorded after that. If the record could not be written, or the plugin
//! was killed in between, the environment has a rune that the record lacks: every answer of the environment has a fingerprint
//! of each node's rune, and one that differs has the runes fetched again.

use std::collections::BTreeMap;
use std::sync::Arc;

use lnplaylive_core::desk::{Action, Answer, Did, fingerprint};
use lnplaylive_core::order::Handover;
use lnplaylive_core::{Event, OrderId, Secret};
use provisioner::DeskError;

use super::error::ShopError;
use super::interfaces::Remotes;
use super::order_book::OrderBook;
use super::recording::record;
use super::snapshot::Snapshot;

/// Records the runes of nodes.
#[derive(Debug)]
pub struct Cards {
    orders: Arc<OrderBook>,
    remotes: Arc<dyn Remotes>,
}

impl Cards {
    /// The cards of these orders.
    pub fn new(orders: Arc<OrderBook>, remotes: Arc<dyn Remotes>) -> Self {
        Self { orders, remotes }
    }

    /// Records the runes that nodes of an environment have now, by their numbers.
    pub async fn record(
        &self,
        id: OrderId,
        handover: &Handover,
        runes: BTreeMap<u32, Secret>,
    ) -> Result<Snapshot, ShopError> {
        let fits = |(node, rune): (&u32, &Secret)| {
            let string = handover.connection_strings.get(*node as usize);
            string.is_some_and(|string| string.with_rune(rune.expose()).is_some())
        };
        if !runes.iter().all(fits) {
            let short = u32::from_be_bytes(id.short());
            tracing::warn!("order {short:08x}: {} gave what is no rune of its nodes", handover.project);
            return Err(ShopError::DeskNoAnswer);
        }
        let changing = self.orders.changing();
        let _changing = changing.lock().await;
        record(&self.orders, id, Event::CardsReplaced { project: handover.project, runes }).await
    }

    /// Compares the runes of an environment, by the fingerprints in its answer, with those of its hand-over, and fetches and
    /// records those that differ. Returns the order if it has changed.
    pub async fn converge<'a>(
        &self,
        id: OrderId,
        handover: &Handover,
        cards: impl IntoIterator<Item = (u32, &'a str)>,
    ) -> Result<Option<Snapshot>, ShopError> {
        let strings = &handover.connection_strings;
        let differs = |(node, card): &(u32, &str)| {
            strings.get(*node as usize).is_some_and(|string| fingerprint(&string.rune) != *card)
        };
        let differing: Vec<_> = cards.into_iter().filter(differs).map(|(node, _)| node).collect();
        if differing.is_empty() {
            return Ok(None);
        }
        let runes = match self.remotes.desk(handover, &Action::Cards).await {
            Ok(Answer::Done { did: Did::Cards { runes }, .. }) => runes,
            Ok(_) => return Err(ShopError::DeskNoAnswer),
            Err(DeskError::TooOld) => return Err(ShopError::DeskTooOld),
            Err(DeskError::NoAnswer(reason)) => {
                let short = u32::from_be_bytes(id.short());
                tracing::info!(
                    "order {short:08x}: its new cards cannot be fetched yet: {}",
                    reason.escape_debug()
                );
                return Err(ShopError::DeskNoAnswer);
            }
        };
        let rune = |node: u32| Some((node, runes.get(node as usize)?.clone()?));
        let runes: BTreeMap<_, _> = differing.into_iter().filter_map(rune).collect();
        self.record(id, handover, runes).await.map(Some)
    }
}
