//! Orders in the node's datastore.
//!
//! One JSON record a key: `["lnplaylive","open",ID]` while there is work left to do, `["lnplaylive","closed",ID]` after
//! that, and `["lnplaylive","archive",PART,ID]` from the order's end on, where PART is the first two digits of the id's UUID.
//! Open records are replaced by compare-and-swap on their generation.

use cln_rpc::model::responses::ListdatastoreDatastore;
use futures_util::future::{BoxFuture, FutureExt as _};
use lnplaylive_core::{Order, OrderId, version};

use super::node::Node;
use crate::core::interfaces::{
    ArchivePart, DamagedRecord, Lookup, NodeError, OrderList, OrderStore, Record, Records,
};

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

fn part_key(part: ArchivePart) -> Vec<String> {
    vec![ROOT.into(), "archive".into(), part.name()]
}

fn archive_key(id: OrderId) -> Vec<String> {
    let mut key = part_key(ArchivePart::of(id));
    key.push(id.to_string());
    key
}

fn parse_all(entries: &[ListdatastoreDatastore]) -> Records {
    let mut records = Records::default();
    for entry in entries {
        match parse(entry) {
            Ok(record) => records.readable.push(record),
            Err(damaged) => records.damaged.push(damaged),
        }
    }
    records
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
        async move { Ok(parse_all(&self.list_data(list_key(list)).await?)) }.boxed()
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

    fn list_archived(&self, part: ArchivePart) -> BoxFuture<'_, Result<Records, NodeError>> {
        async move { Ok(parse_all(&self.list_data(part_key(part)).await?)) }.boxed()
    }

    fn find_archived(&self, id: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>> {
        async move { Ok(self.list_data(archive_key(id)).await?.first().map(parse)) }.boxed()
    }

    fn put_archived<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), NodeError>> {
        async move { self.put_data(archive_key(order.id), text(order)).await.map(drop) }.boxed()
    }

    fn remove_archived(&self, id: OrderId) -> BoxFuture<'_, Result<(), NodeError>> {
        self.delete_data(archive_key(id), None).boxed()
    }
}
