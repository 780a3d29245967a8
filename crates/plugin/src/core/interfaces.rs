//! The core's surroundings, as traits over plain data.

use std::collections::BTreeSet;
use std::fmt::Debug;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lnplaylive_core::desk;
use lnplaylive_core::health::Answer;
use lnplaylive_core::order::{Handover, Leftover, Placement, Severity};
use lnplaylive_core::progress::Progress;
use lnplaylive_core::readiness::{InvoiceWarning, NodeReport};
use lnplaylive_core::{Order, OrderId, ProjectName, RouteTable};
use provisioner::{Deployed, DeskError, Placed, RemoteReport};
use thiserror::Error;

use super::storefront::Storefront;

/// A call to the node that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NodeError {
    /// No answer: the call may or may not have been carried out.
    #[error("{0}")]
    NoAnswer(String),
    /// The record was not in the state that the caller expected. Nothing was changed.
    #[error("{0}")]
    Conflict(String),
    /// The node refused. Nothing was changed.
    #[error("{0}")]
    Refused(String),
}

/// State of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceStatus {
    /// It can still be paid.
    Unpaid,
    /// It has been paid.
    Paid,
    /// It can no longer be paid, and was not.
    Expired,
    /// No invoice has this label.
    Missing,
}

/// State that an invoice must have to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveIf {
    /// Remove it only while it is unpaid.
    Unpaid,
    /// Remove it only once it has expired.
    Expired,
}

/// Result of removing an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The invoice is gone.
    Removed,
    /// There was no such invoice.
    Missing,
    /// The invoice is in another state; it may have been paid.
    OtherState,
}

/// An invoice to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewInvoice<'a> {
    /// Its label, the order's id.
    pub label: &'a str,
    /// Text that the buyer's wallet shows.
    pub description: &'a str,
    /// Amount in millisatoshi.
    pub amount_msat: u64,
    /// Seconds until it expires.
    pub expiry_secs: u32,
}

/// An invoice that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MadeInvoice {
    /// BOLT 11 text.
    pub bolt11: String,
    /// The node's warnings that it may be hard to pay.
    pub warnings: BTreeSet<InvoiceWarning>,
}

/// The node's invoices.
pub trait Invoices: Debug + Send + Sync {
    /// Makes an invoice.
    fn create<'a>(&'a self, invoice: NewInvoice<'a>) -> BoxFuture<'a, Result<MadeInvoice, NodeError>>;

    /// State of the invoice with this label.
    fn status<'a>(&'a self, label: &'a str) -> BoxFuture<'a, Result<InvoiceStatus, NodeError>>;

    /// Removes an invoice if it has the given state, in one step: an invoice that was paid meanwhile stays.
    fn remove<'a>(&'a self, label: &'a str, when: RemoveIf) -> BoxFuture<'a, Result<Removal, NodeError>>;
}

/// The node's own condition.
pub trait NodeCondition: Debug + Send + Sync {
    /// Asks the node for its synchronisation and its channels. Bounded in time.
    fn report(&self) -> BoxFuture<'_, Result<NodeReport, NodeError>>;
}

/// The two lists of order records that are read whole. Neither grows with what was ever sold: orders that have ended are in
/// the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrderList {
    /// Orders with work left to do.
    Open,
    /// Orders with nothing left to do whose environment runs, or whose refund is owed.
    Closed,
}

/// One of the [`ArchivePart::COUNT`] parts of the archive. Each is read by itself, so that no answer of the node has all
/// orders that were ever sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArchivePart(u8);

impl ArchivePart {
    /// The number of parts. At 100,000 orders a part has 400 of them, in about 400 kB.
    pub const COUNT: u16 = 256;

    /// The part that has this order. Ids are random, so all parts are about as large.
    pub fn of(id: OrderId) -> Self {
        Self(id.short()[0])
    }

    /// All parts.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// Its name in keys: two hexadecimal digits.
    pub fn name(self) -> String {
        format!("{:02x}", self.0)
    }
}

/// An order as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The order.
    pub order: Order,
    /// Counts the writes of this record; a write names the generation that it replaces.
    pub generation: u64,
}

/// A record that cannot be read. It is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRecord {
    /// Last part of its key; the order's id, unless the key is damaged too.
    pub key: String,
    /// The problem with it.
    pub error: String,
}

/// All records of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Those that can be read.
    pub readable: Vec<Record>,
    /// Those that cannot.
    pub damaged: Vec<DamagedRecord>,
}

/// One record of a list, if it is there.
pub type Lookup = Option<Result<Record, DamagedRecord>>;

/// Stored orders. Each method is one write or one read; [`super::order_book`] combines them.
pub trait OrderStore: Debug + Send + Sync {
    /// All records of a list.
    fn list(&self, list: OrderList) -> BoxFuture<'_, Result<Records, NodeError>>;

    /// One record of a list.
    fn find(&self, list: OrderList, id: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>>;

    /// Adds an open record. [`NodeError::Conflict`] if there is one already.
    fn insert(&self, order: Order) -> BoxFuture<'_, Result<Record, NodeError>>;

    /// Replaces an open record. [`NodeError::Conflict`] if its generation is no longer the one given.
    fn replace<'a>(&'a self, record: &'a Record, order: Order) -> BoxFuture<'a, Result<Record, NodeError>>;

    /// Removes an open record. [`NodeError::Conflict`] if its generation is no longer the one given.
    fn remove<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Writes a closed record, replacing any that is there.
    fn put_closed<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Removes a closed record. [`NodeError::Conflict`] if there is none.
    fn remove_closed(&self, id: OrderId) -> BoxFuture<'_, Result<(), NodeError>>;

    /// All records of a part of the archive.
    fn list_archived(&self, part: ArchivePart) -> BoxFuture<'_, Result<Records, NodeError>>;

    /// One record of the archive.
    fn find_archived(&self, id: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>>;

    /// Writes a record to the archive, replacing any that is there.
    fn put_archived<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Removes a record from the archive. [`NodeError::Conflict`] if there is none.
    fn remove_archived(&self, id: OrderId) -> BoxFuture<'_, Result<(), NodeError>>;
}

/// A step on a remote that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct RemoteError {
    /// Severity: the same step may work later, another placement may, or the remote has to be mended first.
    pub severity: Severity,
    /// The failed step, the remote, and the cause.
    pub reason: String,
}

/// Receives the progress of a deployment.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// The remotes and the steps that are done on them. Every step is idempotent.
pub trait Remotes: Debug + Send + Sync {
    /// Asks every remote for its load, each bounded in time.
    fn poll(&self) -> BoxFuture<'_, Vec<RemoteReport>>;

    /// Makes an environment of one node on a remote, beside what is `reserved`, and removes it. Succeeds if it works.
    fn try_out<'a>(
        &'a self,
        remote: &'a str,
        reserved: &'a [Placed],
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Opens the ports of environments that a cluster has moved on the member that they are on now.
    fn follow_moves<'a>(&'a self, reports: &'a [RemoteReport]) -> BoxFuture<'a, ()>;

    /// Makes the project and the instance of a placement, and starts the instance; or takes over what was prepared.
    fn bring_up<'a>(
        &'a self,
        order: &'a Order,
        placement: &'a Placement,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Makes an environment of so many nodes for an order to come, under an id of its own.
    fn prepare<'a>(
        &'a self,
        id: OrderId,
        node_count: u32,
        placement: &'a Placement,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Removes what was prepared under this id, unless an order has taken it over; succeeds if it is not there.
    fn give_up<'a>(
        &'a self,
        remote: &'a str,
        id: OrderId,
        project: ProjectName,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Brings up the network in the instance.
    fn deploy<'a>(
        &'a self,
        order: &'a Order,
        placement: &'a Placement,
        on_progress: OnProgress<'a>,
    ) -> BoxFuture<'a, Result<Deployed, RemoteError>>;

    /// Marks the project as handed over, ending no earlier than `expires_at`.
    fn hand_over<'a>(
        &'a self,
        order: OrderId,
        placement: &'a Placement,
        expires_at: Timestamp,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Moves the end of an environment that was handed over.
    fn extend<'a>(
        &'a self,
        order: OrderId,
        remote: &'a str,
        project: ProjectName,
        expires_at: Timestamp,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Asks an environment that was handed over how it is. Bounded in time.
    fn probe<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Answer>;

    /// Has an environment that was handed over carry out an action of the organiser's desk. Bounded in time.
    fn desk<'a>(
        &'a self,
        handover: &'a Handover,
        action: &'a desk::Action,
    ) -> BoxFuture<'a, Result<desk::Answer, DeskError>>;

    /// Removes whatever is left of an abandoned placement; succeeds if nothing is.
    fn take_down<'a>(
        &'a self,
        order: OrderId,
        leftover: &'a Leftover,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;
}

/// The route table's file.
pub trait RouteFile: Debug + Send + Sync {
    /// The table as it was written last; `None` if there is none that can be read.
    fn read(&self) -> BoxFuture<'_, Option<RouteTable>>;

    /// Replaces the table. The error is a sentence.
    fn write(&self, table: RouteTable) -> BoxFuture<'_, Result<(), String>>;
}

/// The way of the products to the web shop's server.
pub trait ProductsOutlet: Debug + Send + Sync {
    /// Replaces what was written before by what is sold at `as_of`. The error is a sentence.
    fn write(&self, shown: Storefront, as_of: Timestamp) -> BoxFuture<'_, Result<(), String>>;
}

/// The wall clock. Waits and time-outs use tokio's.
pub trait Clock: Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}
