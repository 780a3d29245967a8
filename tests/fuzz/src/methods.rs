//! Calls of the plugin's methods.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use jiff::Timestamp;
use lnplaylive_core::readiness::NodeReport;
use lnplaylive_core::{Order, OrderId, Settings};
use lnplaylive_plugin::adapters::rpc;
use lnplaylive_plugin::core::interfaces::{
    ArchivePart, Clock, InvoiceStatus, Invoices, Lookup, MadeInvoice, NewInvoice, NodeCondition, NodeError,
    OrderList, OrderStore, Record, Records, Removal, RemoveIf,
};
use lnplaylive_plugin::core::{Backends, Shop};
use provisioner::Provisioner;
use serde_json::Value;
use tokio::runtime::Runtime;

/// The name of a method in the first line, its parameters in JSON in the rest. The answer is a value, or an error with a code and a
/// kind that is not `internal`.
pub(crate) fn method_call(input: &[u8]) {
    static SHOP: LazyLock<(Runtime, Arc<Shop>)> = LazyLock::new(|| {
        let runtime = Runtime::new().expect("a runtime");
        let shop = runtime.block_on(open());
        (runtime, shop)
    });
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (method, params) = text.split_once('\n').unwrap_or((text, "null"));
    let Ok(params) = serde_json::from_str::<Value>(params) else { return };
    // It may wait for a minute.
    if method == "lnplaylive-waitstatus" {
        return;
    }
    let (runtime, shop) = &*SHOP;
    if let Some(Err(error)) = runtime.block_on(rpc::call(shop, method, params)) {
        assert!(error["code"].is_i64() && error["message"].is_string(), "{error}");
        assert!(error["data"]["kind"].as_str().is_some_and(|kind| kind != "internal"), "{error}");
    }
}

/// A shop that sells one small product, without a remote, and holds one order.
async fn open() -> Arc<Shop> {
    let state_dir = tempfile::tempdir().expect("a directory");
    let settings: Settings = toml::from_str("").expect("every setting has a default");
    let now = Timestamp::now();
    let mut store = Store::default();
    let record = include_str!("../seeds/order_record/provisioned.json");
    let order: Order = lnplaylive_core::version::read(record.as_bytes()).expect("a record");
    store.0.get_mut().expect("nobody has it").insert(order.id, order);
    let backends = Backends {
        invoices: Arc::new(NoInvoices),
        node: Arc::new(NoInvoices),
        store: Arc::new(store),
        remotes: Arc::new(Provisioner::new(&settings, state_dir.path()).expect("no remotes")),
        route_file: None,
        products: None,
        ticket_key: None,
        clock: Arc::new(StoppedClock(now)),
    };
    let (shop, background) = Shop::new(&settings, backends).expect("default settings");
    let shop = Arc::new(shop);
    tokio::spawn(background.run());
    shop.orders.loaded().await;
    shop
}

/// Orders in memory; all are closed. Nothing is ever opened, because there is nothing to sell.
#[derive(Debug, Default)]
struct Store(Mutex<HashMap<OrderId, Order>>);

impl Store {
    fn orders(&self) -> MutexGuard<'_, HashMap<OrderId, Order>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(order: Order) -> Record {
    Record { order, generation: 1 }
}

fn refused<T: Send + 'static>() -> BoxFuture<'static, Result<T, NodeError>> {
    ready(Err(NodeError::Refused("not in this shop".into()))).boxed()
}

impl OrderStore for Store {
    fn list(&self, list: OrderList) -> BoxFuture<'_, Result<Records, NodeError>> {
        let mut records = Records::default();
        if list == OrderList::Closed {
            records.readable = self.orders().values().cloned().map(record).collect();
        }
        ready(Ok(records)).boxed()
    }

    fn find(&self, list: OrderList, id: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>> {
        let order = self.orders().get(&id).filter(|_| list == OrderList::Closed).cloned();
        ready(Ok(order.map(|order| Ok(record(order))))).boxed()
    }

    fn insert(&self, _: Order) -> BoxFuture<'_, Result<Record, NodeError>> {
        refused()
    }

    fn replace<'a>(&'a self, _: &'a Record, _: Order) -> BoxFuture<'a, Result<Record, NodeError>> {
        refused()
    }

    fn remove<'a>(&'a self, _: &'a Record) -> BoxFuture<'a, Result<(), NodeError>> {
        refused()
    }

    fn put_closed<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), NodeError>> {
        self.orders().insert(order.id, order.clone());
        ready(Ok(())).boxed()
    }

    fn remove_closed(&self, _: OrderId) -> BoxFuture<'_, Result<(), NodeError>> {
        refused()
    }

    fn list_archived(&self, _: ArchivePart) -> BoxFuture<'_, Result<Records, NodeError>> {
        ready(Ok(Records::default())).boxed()
    }

    fn find_archived(&self, _: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>> {
        ready(Ok(None)).boxed()
    }

    fn put_archived<'a>(&'a self, _: &'a Order) -> BoxFuture<'a, Result<(), NodeError>> {
        refused()
    }

    fn remove_archived(&self, _: OrderId) -> BoxFuture<'_, Result<(), NodeError>> {
        refused()
    }
}

#[derive(Debug)]
struct NoInvoices;

impl NodeCondition for NoInvoices {
    fn report(&self) -> BoxFuture<'_, Result<NodeReport, NodeError>> {
        refused()
    }
}

impl Invoices for NoInvoices {
    fn create<'a>(&'a self, _: NewInvoice<'a>) -> BoxFuture<'a, Result<MadeInvoice, NodeError>> {
        refused()
    }

    fn status<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<InvoiceStatus, NodeError>> {
        ready(Ok(InvoiceStatus::Missing)).boxed()
    }

    fn remove<'a>(&'a self, _: &'a str, _: RemoveIf) -> BoxFuture<'a, Result<Removal, NodeError>> {
        ready(Ok(Removal::Missing)).boxed()
    }
}

#[derive(Debug)]
struct StoppedClock(Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}
