//! Records events of orders that may be open or closed, whichever they are by then.

use lnplaylive_core::{Event, OrderId};

use super::error::ShopError;
use super::order_book::{Found, OrderBook};
use super::order_handle::{ApplyError, OrderHandle};
use super::snapshot::Snapshot;

/// Records an event that leaves nothing to do. The caller holds [`OrderBook::changing`].
pub async fn record(orders: &OrderBook, id: OrderId, event: Event) -> Result<Snapshot, ShopError> {
    loop {
        match orders.find_to_change(id).await? {
            Found::Open(handle) => {
                if record_open(orders, &handle, event.clone()).await? {
                    return Ok(handle.snapshot());
                }
            }
            Found::Closed(order) => {
                let next = orders.after(&order, event)?;
                if next != *order {
                    orders.rewrite_closed(&next).await?;
                }
                return Ok(Snapshot::of(next));
            }
        }
    }
}

/// Records an event of an open order. False if its record was closed meanwhile: look for it again.
pub async fn record_open(orders: &OrderBook, handle: &OrderHandle, event: Event) -> Result<bool, ShopError> {
    match orders.apply(handle, event).await {
        Ok(()) => Ok(true),
        Err(ApplyError::Refused(refused)) => Err(refused.into()),
        Err(ApplyError::Store(error)) => Err(error.into()),
        Err(ApplyError::Gone) if !orders.is_open(handle.id()) => Ok(false),
        Err(ApplyError::Gone) => {
            let state = handle.with_order(|order| order.state.name());
            Err(ShopError::invalid_state(state, ApplyError::Gone.to_string()))
        }
    }
}
