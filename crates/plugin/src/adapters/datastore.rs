//! Orders in the node's datastore.
//!
//! One JSON record a key: `["lnplaylive","open",ID]` while there is work left to do, `["lnplaylive","closed",ID]` after
//! that. Open records are replaced by compare-and-swap on their generation.

use cln_rpc::model::responses::ListdatastoreDatastore;
use futures_util::future::{BoxFuture, FutureExt as _};
use lnplaylive_core::{Order, OrderId, version};

use super::node::Node;
use crate::core::interfaces::{DamagedRecord, Lookup, NodeError, OrderList, OrderStore, Record, Records};

/// First part of all our keys.
const ROOT: &str = "lnplaylive";

fn list_key(list: OrderList) -> Vec<String> {
    let name = match list {
        OrderList::Open => "open",
        OrderList::Closed => "closed",
    };
    vec![ROOT.into(), name.into()]
}

fn order_key(list: OrderList, id: OrderId) -> Vec<String> {
    let mut key = list_key(list);
    key.push(id.to_string());
    key
}

fn parse(entry: &ListdatastoreDatastore) -> Result<Record, DamagedRecord> {
    let key = entry.key.last().cloned().unwrap_or_default();
    let read = || {
        let text = entry.string.as_deref().ok_or("it is not text")?;
        let order: Order = version::read(text.as_bytes()).map_err(|e| e.to_string())?;
        if order.id.to_string() != key {
            return Err("it is the record of another order".to_owned());
        }
        Ok(Record { order, generation: entry.generation.unwrap_or(0) })
    };
    read().map_err(|error| DamagedRecord { error, key: key.clone() })
}

fn text(order: &Order) -> String {
    version::write(order)
}

impl OrderStore for Node {
    fn list(&self, list: OrderList) -> BoxFuture<'_, Result<Records, NodeError>> {
        async move {
            let mut records = Records::default();
            for entry in self.list_data(list_key(list)).await? {
                match parse(&entry) {
                    Ok(record) => records.readable.push(record),
                    Err(damaged) => records.damaged.push(damaged),
                }
            }
            Ok(records)
        }
        .boxed()
    }

    fn find(&self, list: OrderList, id: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>> {
        async move { Ok(self.list_data(order_key(list, id)).await?.first().map(parse)) }.boxed()
    }

    fn insert(&self, order: Order) -> BoxFuture<'_, Result<Record, NodeError>> {
        async move {
            let generation = self.create_data(order_key(OrderList::Open, order.id), text(&order)).await?;
            Ok(Record { order, generation })
        }
        .boxed()
    }

    fn replace<'a>(&'a self, record: &'a Record, order: Order) -> BoxFuture<'a, Result<Record, NodeError>> {
        async move {
            let key = order_key(OrderList::Open, record.order.id);
            let generation = self.replace_data(key, text(&order), record.generation).await?;
            Ok(Record { order, generation })
        }
        .boxed()
    }

    fn remove<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), NodeError>> {
        let key = order_key(OrderList::Open, record.order.id);
        self.delete_data(key, Some(record.generation)).boxed()
    }

    fn put_closed<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), NodeError>> {
        async move { self.put_data(order_key(OrderList::Closed, order.id), text(order)).await.map(drop) }
            .boxed()
    }

    fn remove_closed(&self, id: OrderId) -> BoxFuture<'_, Result<(), NodeError>> {
        self.delete_data(order_key(OrderList::Closed, id), None).boxed()
    }
}
