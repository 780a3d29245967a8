//! Orders in the node's datastore.
//!
//! One JSON record a key: `["lnplaylive","open",ID]` while anything is still to be done,
//! `["lnplaylive","closed",ID]` after. A record is moved from state to state by compare-and-swap on its
//! generation. Closing and reopening takes two writes, and a crash between them leaves both records:
//! the open one counts then, so that closing is simply done again.

use cln_rpc::model::responses::ListdatastoreDatastore;
use lnplaylive_core::{Order, OrderId};

use crate::node::{Node, NodeError};

/// The first part of all our keys.
const ROOT: &str = "lnplaylive";

/// Which of the two lists a record is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    Open,
    Closed,
}

impl Shelf {
    fn all(self) -> Vec<String> {
        let name = match self {
            Self::Open => "open",
            Self::Closed => "closed",
        };
        vec![ROOT.into(), name.into()]
    }

    fn key(self, id: OrderId) -> Vec<String> {
        let mut key = self.all();
        key.push(id.to_string());
        key
    }
}

/// An open order as it is recorded.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) order: Order,
    generation: u64,
}

/// A record that cannot be read. It is left as it is.
#[derive(Debug, Clone)]
pub(crate) struct Damaged {
    /// The last part of its key: the order's id, if nothing is wrong with that.
    pub(crate) key: String,
    /// What is wrong with it.
    pub(crate) error: String,
}

fn parse(entry: &ListdatastoreDatastore) -> Result<Record, Damaged> {
    let key = entry.key.last().cloned().unwrap_or_default();
    let read = || {
        let text = entry.string.as_deref().ok_or("it is not text")?;
        let order: Order = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if order.id.to_string() != key {
            return Err("it is the record of another order".to_owned());
        }
        Ok(Record { order, generation: entry.generation.unwrap_or(0) })
    };
    read().map_err(|error| Damaged { error, key: key.clone() })
}

fn text(order: &Order) -> String {
    serde_json::to_string(order).expect("an order is plain data")
}

/// All records on a shelf, and those that cannot be read.
pub(crate) async fn list(node: &Node, shelf: Shelf) -> Result<(Vec<Record>, Vec<Damaged>), NodeError> {
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for entry in node.list(shelf.all()).await? {
        match parse(&entry) {
            Ok(record) => records.push(record),
            Err(one) => damaged.push(one),
        }
    }
    Ok((records, damaged))
}

/// One record, by its id.
pub(crate) async fn find(
    node: &Node,
    shelf: Shelf,
    id: OrderId,
) -> Result<Option<Result<Record, Damaged>>, NodeError> {
    Ok(node.list(shelf.key(id)).await?.first().map(parse))
}

/// Records a new order.
pub(crate) async fn insert(node: &Node, order: Order) -> Result<Record, NodeError> {
    let generation = node.create(Shelf::Open.key(order.id), text(&order)).await?;
    Ok(Record { order, generation })
}

/// Records what became of an order, if its record still is the one given.
pub(crate) async fn replace(node: &Node, record: &Record, order: Order) -> Result<Record, NodeError> {
    let key = Shelf::Open.key(record.order.id);
    let generation = node.replace(key, text(&order), record.generation).await?;
    Ok(Record { order, generation })
}

/// Removes the record of an order that came to nothing.
pub(crate) async fn remove(node: &Node, record: &Record) -> Result<(), NodeError> {
    node.delete(Shelf::Open.key(record.order.id), Some(record.generation)).await
}

/// Moves a record to the closed ones.
pub(crate) async fn close(node: &Node, record: &Record) -> Result<(), NodeError> {
    node.put(Shelf::Closed.key(record.order.id), text(&record.order)).await?;
    remove(node, record).await
}

/// Writes a closed record anew. Only the operator changes closed orders, one call at a time.
pub(crate) async fn rewrite_closed(node: &Node, order: &Order) -> Result<(), NodeError> {
    node.put(Shelf::Closed.key(order.id), text(order)).await.map(drop)
}

/// Moves a closed record back to the open ones, as what became of it.
pub(crate) async fn reopen(node: &Node, order: Order) -> Result<Record, NodeError> {
    let id = order.id;
    let record = insert(node, order).await?;
    // The open record counts; closing it will write over this one.
    if let Err(error) = node.delete(Shelf::Closed.key(id), None).await {
        tracing::debug!("the closed record of a reopened order stays for now: {error}");
    }
    Ok(record)
}
