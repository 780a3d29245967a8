//! A fake node, fake remotes and a fake clock, which outlive the shops that are started on them.
//!
//! Time is tokio's, paused: it passes only while every task waits, so a test that spans days takes milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::Selection;
use lnplaylive_core::desk::{self, Did, NodeState, NodeView, Overview, RequestId, fingerprint};
use lnplaylive_core::health::Answer;
use lnplaylive_core::order::{Handover, Leftover, Placement, Prepared, Severity};
use lnplaylive_core::progress::Progress;
use lnplaylive_core::readiness::{Chain, Channel, InvoiceWarning, NodeReport, SyncState};
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{
    ConnectionString, Customisation, Order, OrderId, PortBlock, ProjectName, RouteTable, Secret, Settings,
    State, TicketKey,
};
use lnplaylive_plugin::core::interfaces::{
    ArchivePart, Clock, DamagedRecord, InvoiceStatus, Invoices, Lookup, MadeInvoice, NewInvoice,
    NodeCondition, NodeError, OnProgress, OrderList, OrderStore, ProductsOutlet, Record, Records,
    RemoteError, Remotes, Removal, RemoveIf, RouteFile,
};
use lnplaylive_plugin::core::sales::{NewOrder, Wish};
use lnplaylive_plugin::core::shop::Background;
use lnplaylive_plugin::core::storefront::Storefront;
use lnplaylive_plugin::core::{Backends, Shop, ShopError};
use provisioner::{Deployed, DeskError, Environment, Load, Machine, Member, Memory, Placed, RemoteReport};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Virtual time after which a test gives up waiting: longer than any order is worked on.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Duration of a deployment on a remote.
const DEPLOYMENT: Duration = Duration::from_secs(20);

/// Fault of a call.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// No answer, and the call was not carried out.
    Lost,
    /// No answer, although the call was carried out.
    AnswerLost,
    /// The call is refused.
    Refused,
    /// The remote answers that this placement will never work.
    Final,
    /// The remote answers that no environment works there.
    RemoteBroken,
    /// Nobody answers, and time passes: a hung remote.
    Hangs,
    /// The code under test panics.
    Panics,
    /// Everything ends before the call is carried out.
    CrashBefore,
    /// Everything ends once the call is carried out.
    CrashAfter,
    /// The call waits, before it is carried out, until the test lets it go on.
    Held(Arc<Hold>),
}

/// A call that the test holds back.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    reached: Notify,
    released: Notify,
}

impl Hold {
    /// Returns once the call has come.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the call go on.
    pub(crate) fn release(&self) {
        self.released.notify_one();
    }
}

/// A fault and the calls that it happens to.
#[derive(Debug)]
struct Rule {
    /// Beginning of the call's name.
    call: &'static str,
    /// Number of such calls that go well before.
    after: usize,
    /// Number of calls that it happens to.
    times: usize,
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Invoice {
    amount_msat: u64,
    expires_at: Timestamp,
    paid: bool,
}

/// A project on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// The order, or the id that it is prepared under.
    pub(crate) order: OrderId,
    pub(crate) ports: PortBlock,
    pub(crate) runs: bool,
    pub(crate) stage: Stage,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Data {
    invoices: BTreeMap<String, Invoice>,
    pub(crate) open: BTreeMap<OrderId, (Order, u64)>,
    pub(crate) closed: BTreeMap<OrderId, Order>,
    pub(crate) archive: BTreeMap<OrderId, Order>,
    damaged: Vec<DamagedRecord>,
    generation: u64,
    /// Projects by remote and name.
    pub(crate) projects: BTreeMap<(String, ProjectName), Project>,
    /// What environments answer to probes, if it is not that they run.
    pub(crate) answers: BTreeMap<ProjectName, Answer>,
    /// The desks of environments.
    pub(crate) desks: BTreeMap<ProjectName, FakeDesk>,
    /// Probes under way, and the most that there were at a time.
    pub(crate) probing: (usize, usize),
    /// Time and project of each probe.
    pub(crate) probes: Vec<(Timestamp, ProjectName)>,
    /// What the node says about itself, if it is not that it does not answer; `None`: that all is well.
    pub(crate) node: Option<Result<NodeReport, NodeError>>,
    /// Number of times that it was asked.
    pub(crate) node_asked: usize,
    /// The node's warnings about new invoices.
    pub(crate) invoice_warnings: BTreeSet<InvoiceWarning>,
    /// The route table's file.
    pub(crate) routes: Option<RouteTable>,
    /// What was published about the products, each with its time.
    pub(crate) published: Vec<(Storefront, Timestamp)>,
    rules: Vec<Rule>,
    /// Names of all calls so far.
    pub(crate) calls: Vec<String>,
    /// The lead of this machine's clock over the true time, which remotes and the node's timers have.
    lead: SignedDuration,
    /// True if it was ever set.
    clock_was_set: bool,
    /// The lead of remotes' clocks over the true time, by name.
    pub(crate) remote_leads: BTreeMap<String, SignedDuration>,
}

/// The desk in an environment of one node.
#[derive(Debug)]
pub(crate) struct FakeDesk {
    /// The node's rune.
    pub(crate) rune: String,
    /// What was done for requests.
    requests: Vec<(RequestId, Did)>,
    /// Actions that were carried out, other than looks.
    pub(crate) acted: Vec<desk::Action>,
    /// What it answers instead, whatever is asked.
    pub(crate) answer: Option<Result<desk::Answer, DeskError>>,
}

impl Default for FakeDesk {
    fn default() -> Self {
        Self { rune: "r".to_owned(), requests: Vec::new(), acted: Vec::new(), answer: None }
    }
}

impl FakeDesk {
    fn act(&mut self, action: &desk::Action) -> Result<desk::Answer, DeskError> {
        if let Some(answer) = &self.answer {
            return answer.clone();
        }
        let did = self.did(action);
        let node = NodeView {
            index: 0,
            name: "Alice".to_owned(),
            state: NodeState::Running,
            block_height: Some(101),
            card: Some(fingerprint(&self.rune)),
        };
        let overview = Overview { block_height: Some(101), blocks_paused: false, nodes: vec![node] };
        Ok(desk::Answer::Done { did, overview })
    }

    fn did(&mut self, action: &desk::Action) -> Did {
        let remembered = |id: &RequestId| self.requests.iter().find(|(known, _)| known == id);
        if let Some((_, did)) = action.request().and_then(remembered) {
            return did.clone();
        }
        if !action.only_looks() {
            self.acted.push(action.clone());
        }
        let did = match action {
            desk::Action::Cards => Did::Cards { runes: vec![Some(Secret::new(self.rune.clone()))] },
            desk::Action::NewCard { node, .. } => {
                self.rune = format!("new{}", self.acted.len());
                Did::NewCard { node: *node, rune: Secret::new(self.rune.clone()) }
            }
            desk::Action::Mine { blocks, .. } => Did::Mined { blocks: *blocks },
            desk::Action::SwitchOff { node } => Did::SwitchedOff { node: *node },
            desk::Action::SwitchOn { node } => Did::SwitchedOn { node: *node },
            desk::Action::PauseBlocks => Did::BlocksPaused,
            desk::Action::ResumeBlocks => Did::BlocksResumed,
            desk::Action::SendCoins { sat, .. } => {
                Did::CoinsSent { nodes: vec![0], sat: *sat, left_out: Vec::new() }
            }
            _ => Did::Looked,
        };
        if let Some(request) = action.request() {
            self.requests.push((request.clone(), did.clone()));
        }
        did
    }
}

/// Everything that the shop needs, faked.
#[derive(Debug)]
pub(crate) struct World {
    data: Mutex<Data>,
    settings: Mutex<(Value, Settings)>,
    time: Mutex<(Timestamp, Option<Instant>)>,
    ticket_key: Mutex<Option<TicketKey>>,
    crashed: Notify,
}

/// Settings with one remote and a product T of one node.
fn settings() -> Value {
    json!({
        "products": [{"sku": "T", "node_count": 1, "msat_per_node_hour": 1000}],
        "node": {},
        "shop": {"routes_file": "/routes.json", "invoice_expiry_secs": 600, "unpaid_retention_secs": 60},
        "provisioning": {"max_attempts": 2, "patience": 2, "retry_pause_ms": 1000},
        "remotes": [remote("a")],
    })
}

fn read(settings: &Value) -> Settings {
    Settings::deserialize(settings).expect("settings")
}

/// Settings of a remote.
pub(crate) fn remote(name: &str) -> Value {
    json!({
        "name": name, "url": "https://192.0.2.1:8443", "instance_type": "container",
        "ports": {"first": 20000, "last": 20099},
    })
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let start = Timestamp::from_second(1_800_000_000).expect("in range");
        Arc::new(Self {
            data: Mutex::default(),
            settings: Mutex::new((settings(), read(&settings()))),
            time: Mutex::new((start, None)),
            ticket_key: Mutex::default(),
            crashed: Notify::new(),
        })
    }

    /// Changes a setting, named by a JSON pointer.
    pub(crate) fn set(&self, pointer: &str, value: Value) {
        let mut settings = self.settings.lock().expect("not poisoned");
        let (table, key) = pointer.rsplit_once('/').expect("a pointer");
        settings.0.pointer_mut(table).expect("a table")[key] = value;
        settings.1 = read(&settings.0);
    }

    /// Rations orders by tickets from the next start on, and returns their key.
    pub(crate) fn ration(&self) -> TicketKey {
        let key = TicketKey::new(Secret::new("k".repeat(32))).expect("long enough");
        *self.ticket_key.lock().expect("not poisoned") = Some(key.clone());
        key
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.lock().expect("not poisoned").1.clone()
    }

    /// Everything that is stored. A panic of the code under test leaves it as it is.
    pub(crate) fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next call with this name go wrong.
    pub(crate) fn fail(&self, call: &'static str, fault: Fault) {
        self.fail_times(call, 0, 1, fault);
    }

    /// Has `times` calls with this name go wrong after the next `after` ones.
    pub(crate) fn fail_times(&self, call: &'static str, after: usize, times: usize, fault: Fault) {
        self.data().rules.push(Rule { call, after, times, fault });
    }

    /// Holds the next call with this name back.
    pub(crate) fn hold(&self, call: &'static str) -> Arc<Hold> {
        let hold = Arc::new(Hold::default());
        self.fail(call, Fault::Held(Arc::clone(&hold)));
        hold
    }

    /// Holds the call back that comes after `nth` others, whatever it is.
    pub(crate) fn hold_nth(&self, nth: usize) -> Arc<Hold> {
        let hold = Arc::new(Hold::default());
        self.fail_times("", nth, 1, Fault::Held(Arc::clone(&hold)));
        hold
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.data().rules.clear();
    }

    /// Number of calls with this name so far.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.data().calls.iter().filter(|name| name.starts_with(call)).count()
    }

    pub(crate) fn backends(self: &Arc<Self>) -> Backends {
        Backends {
            invoices: Arc::clone(self) as _,
            node: Arc::clone(self) as _,
            store: Arc::clone(self) as _,
            remotes: Arc::clone(self) as _,
            route_file: Some(Arc::clone(self) as _),
            products: self.settings().shop.products_file.map(|_| Arc::clone(self) as _),
            ticket_key: self.ticket_key.lock().expect("not poisoned").clone(),
            clock: Arc::clone(self) as _,
        }
    }

    fn shop(self: &Arc<Self>) -> (Arc<Shop>, Background) {
        let (shop, background) = Shop::new(&self.settings(), self.backends()).expect("a shop");
        (Arc::new(shop), background)
    }

    /// Starts a shop, runs the test's part, and ends everything in the middle of whatever it does: with the test's part,
    /// or at the first crash. Returns the result of the test's part, if it got to its end.
    pub(crate) fn run<T>(self: &Arc<Self>, test: impl AsyncFnOnce(Arc<Shop>) -> T) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let result = runtime.block_on(async {
            self.time.lock().expect("not poisoned").1 = Some(Instant::now());
            let (shop, background) = self.shop();
            tokio::spawn(background.run());
            let result = tokio::select! {
                biased;
                () = self.crashed.notified() => None,
                result = test(shop) => Some(result),
            };
            // The clock goes on from here in the next run.
            let now = self.true_time();
            *self.time.lock().expect("not poisoned") = (now, None);
            result
        });
        drop(runtime);
        result
    }

    /// As [`World::run`], for a run without a crash.
    pub(crate) fn run_whole<T>(self: &Arc<Self>, test: impl AsyncFnOnce(Arc<Shop>) -> T) -> T {
        self.run(test).expect("nothing crashes")
    }

    /// The true time, whatever the clock shows.
    pub(crate) fn true_time(&self) -> Timestamp {
        let (start, since) = *self.time.lock().expect("not poisoned");
        let passed = since.map_or(Duration::ZERO, |since| since.elapsed());
        start.checked_add(SignedDuration::try_from(passed).expect("not long")).expect("in range")
    }

    /// Lets time pass between two runs.
    pub(crate) fn pass(&self, time: Duration) {
        let mut clock = self.time.lock().expect("not poisoned");
        clock.0 = clock.0.checked_add(SignedDuration::try_from(time).expect("not long")).expect("in range");
    }

    /// Sets this machine's clock, ahead of the true time by `lead`.
    pub(crate) fn set_clock(&self, lead: SignedDuration) {
        let mut data = self.data();
        (data.lead, data.clock_was_set) = (lead, true);
    }

    /// Waits until an order is closed, or gone.
    pub(crate) async fn closed(&self, id: OrderId) {
        until("the order is closed", || !self.data().open.contains_key(&id)).await;
    }

    /// Waits until there are no open orders.
    pub(crate) async fn settled(&self) {
        until("no open orders", || self.data().open.is_empty()).await;
    }

    /// Marks an invoice as paid, unless it has expired or is gone. The shop is not told.
    pub(crate) fn pay(&self, id: OrderId) -> bool {
        let now = self.true_time();
        let mut data = self.data();
        let Some(invoice) = data.invoices.get_mut(&id.to_string()) else { return false };
        invoice.paid |= invoice.expires_at > now;
        invoice.paid
    }

    /// Marks an invoice as paid, however late.
    pub(crate) fn pay_late(&self, id: OrderId) {
        self.data().invoices.get_mut(&id.to_string()).expect("an invoice").paid = true;
    }

    /// True if there is an invoice for this order.
    pub(crate) fn has_invoice(&self, id: OrderId) -> bool {
        self.data().invoices.contains_key(&id.to_string())
    }

    /// Removes an invoice, as somebody with access to the node could.
    pub(crate) fn drop_invoice(&self, id: OrderId) {
        self.data().invoices.remove(&id.to_string());
    }

    /// Stores a record that cannot be read.
    pub(crate) fn damage(&self, id: OrderId) {
        let damaged = DamagedRecord { key: id.to_string(), error: "half a record".into() };
        self.data().damaged.push(damaged);
    }

    /// The order as it is stored: of several records the open one counts, then the closed one.
    pub(crate) fn stored(&self, id: OrderId) -> Option<Order> {
        let data = self.data();
        let open = data.open.get(&id).map(|(order, _)| order);
        open.or(data.closed.get(&id)).or(data.archive.get(&id)).cloned()
    }

    /// Name of the order's state, as it is stored.
    pub(crate) fn state(&self, id: OrderId) -> &'static str {
        self.stored(id).map_or("none", |order| order.state.name())
    }

    /// Number of this order's projects on all remotes.
    pub(crate) fn projects(&self, id: OrderId) -> usize {
        self.data().projects.values().filter(|p| p.order == id).count()
    }

    /// Number of projects on all remotes that are prepared.
    pub(crate) fn prepared(&self) -> usize {
        self.data().projects.values().filter(|project| project.stage == Stage::Prepared).count()
    }

    /// Checks the books once nothing is left to do: an order that was paid was delivered once, or is owed or refunded
    /// once; one that was not paid is gone. Nothing is on a remote without an owner.
    pub(crate) fn check_books(&self) {
        let data = self.data();
        assert!(data.open.is_empty(), "{:?}", data.open);
        for (label, invoice) in &data.invoices {
            let id: OrderId = label.parse().expect("an order's label");
            assert!(invoice.paid, "an unpaid invoice without an order: {label}");
            let closed = data.closed.get(&id);
            let order = closed.or(data.archive.get(&id)).expect("a paid order has a record");
            let handed_over: Vec<_> = data.projects.values().filter(|p| p.order == id).collect();
            match &order.state {
                State::Provisioned { handover, .. } => {
                    let [project] = handed_over[..] else { panic!("one project: {handed_over:?}") };
                    assert!(project.stage == Stage::Provisioned && project.runs, "{project:?}");
                    let strings = if closed.is_some() { order.terms.node_count } else { 0 };
                    assert_eq!(handover.connection_strings.len(), strings as usize);
                    assert!(project.expires_at >= handover.expires_at, "the remote keeps what was promised");
                    let paid = SignedDuration::from_hours(order.terms.hours.into());
                    let paid_at = order.state.paid_at().expect("it is paid");
                    // By a wrong clock nobody knows when that was.
                    let in_full = data.clock_was_set || handover.expires_at >= paid_at + paid;
                    assert!(in_full, "the buyer gets all that was paid for");
                }
                State::Failed { .. } => {
                    assert!(handed_over.is_empty(), "owed and delivered: {handed_over:?}");
                }
                other => panic!("{other:?} is closed"),
            }
        }
        for order in data.closed.values() {
            assert!(order.replaces.is_none() || matches!(order.state, State::Failed { .. }), "{order:?}");
            let refunds = order.history.iter().filter(|entry| entry.what.starts_with("paid back")).count();
            assert!(refunds <= 1, "paid back twice");
        }
        for id in data.closed.keys().chain(data.archive.keys()) {
            assert!(data.invoices.contains_key(&id.to_string()), "a record without an invoice");
        }
        for project in data.projects.values().filter(|project| project.stage != Stage::Prepared) {
            let owned = data.closed.contains_key(&project.order) || data.archive.contains_key(&project.order);
            assert!(owned, "nobody's project: {project:?}");
        }
    }

    async fn begin(&self, call: &str) -> Option<Fault> {
        let fault = {
            let mut data = self.data();
            data.calls.push(call.to_owned());
            let mut found = None;
            for rule in data.rules.iter_mut().filter(|rule| call.starts_with(rule.call)) {
                if rule.after > 0 {
                    rule.after -= 1;
                } else if rule.times > 0 && found.is_none() {
                    rule.times -= 1;
                    found = Some(rule.fault.clone());
                }
            }
            found
        };
        match &fault {
            Some(Fault::CrashBefore) => self.crash().await,
            Some(Fault::Panics) => panic!("the test says so"),
            Some(Fault::Hangs) => sleep(Duration::from_secs(30)).await,
            Some(Fault::Held(hold)) => {
                hold.reached.notify_one();
                hold.released.notified().await;
            }
            _ => {}
        }
        // Others get their turn here, as they would while a call is under way.
        tokio::task::yield_now().await;
        fault
    }

    async fn crash(&self) -> ! {
        self.crashed.notify_one();
        std::future::pending::<()>().await;
        unreachable!()
    }

    async fn end(&self, fault: Option<&Fault>) {
        if let Some(Fault::CrashAfter) = fault {
            self.crash().await;
        }
        tokio::task::yield_now().await;
    }

    /// A call to the node.
    async fn node<T>(
        &self,
        call: &str,
        action: impl FnOnce(&mut Data) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let fault = self.begin(call).await;
        match fault {
            Some(Fault::Lost | Fault::Hangs) => {
                return Err(NodeError::NoAnswer(format!("no answer: {call}")));
            }
            Some(Fault::Refused) => return Err(NodeError::Refused(format!("refused: {call}"))),
            _ => {}
        }
        let result = action(&mut self.data());
        self.end(fault.as_ref()).await;
        match fault {
            Some(Fault::AnswerLost) => Err(NodeError::NoAnswer(format!("answer lost: {call}"))),
            _ => result,
        }
    }

    /// A step on a remote.
    async fn step<T>(
        &self,
        call: &str,
        action: impl FnOnce(&mut Data) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let fault = self.begin(call).await;
        let error = |severity| RemoteError { severity, reason: format!("{call} failed") };
        match fault {
            Some(Fault::Lost | Fault::Hangs) => return Err(error(Severity::Passing)),
            Some(Fault::Refused | Fault::Final) => return Err(error(Severity::Final)),
            Some(Fault::RemoteBroken) => return Err(error(Severity::Remote)),
            _ => {}
        }
        let result = action(&mut self.data());
        self.end(fault.as_ref()).await;
        match fault {
            Some(Fault::AnswerLost) => Err(error(Severity::Passing)),
            _ => result,
        }
    }
}

/// Waits until something holds, looking every few milliseconds of virtual time, then less and less often.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        sleep(pause).await;
        pause = (pause * 11 / 10).min(Duration::from_secs(1));
    }
}

/// A wish for one hour of product T.
pub(crate) fn wish() -> Wish<'static> {
    Wish {
        selection: Selection::NodeCount(1),
        hours: 1,
        customisation: Customisation::default(),
        names: Vec::new(),
        ticket: None,
    }
}

/// Orders one hour of product T.
pub(crate) async fn order(shop: &Shop) -> Result<OrderId, ShopError> {
    let NewOrder { order, .. } = shop.sales.create_order(wish()).await?;
    Ok(order.id)
}

/// Pays an order, and the shop is told.
pub(crate) async fn pay(world: &World, shop: &Shop, id: OrderId) {
    if world.pay(id) {
        shop.orders.on_payment(&id.to_string()).await;
    }
}

/// Orders one hour of product T and pays.
pub(crate) async fn buy(world: &World, shop: &Shop) -> OrderId {
    let id = order(shop).await.expect("an order");
    pay(world, shop, id).await;
    id
}

fn conflict(what: &str) -> NodeError {
    NodeError::Conflict(what.to_owned())
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.true_time().checked_add(self.data().lead).expect("in range")
    }
}

/// A node on mainnet with this much to receive.
pub(crate) fn node_report(receivable_msat: u64) -> NodeReport {
    let state = "CHANNELD_NORMAL".to_owned();
    NodeReport {
        id: "02".repeat(33),
        network: "bitcoin".into(),
        height: 100,
        sync: SyncState::Synchronised,
        chain: Some(Chain { blocks: 100, headers: 100 }),
        peers: 1,
        channels: vec![Channel { state, connected: true, receivable_msat, spendable_msat: 0 }],
        addresses: vec!["203.0.113.7:9735".into()],
    }
}

impl NodeCondition for World {
    // Not one of the calls that are counted: it belongs to no order.
    fn report(&self) -> BoxFuture<'_, Result<NodeReport, NodeError>> {
        let mut data = self.data();
        data.node_asked += 1;
        let answer = data.node.clone().unwrap_or_else(|| Ok(node_report(u64::MAX)));
        std::future::ready(answer).boxed()
    }
}

impl Invoices for World {
    fn create<'a>(&'a self, invoice: NewInvoice<'a>) -> BoxFuture<'a, Result<MadeInvoice, NodeError>> {
        let lasts = SignedDuration::from_secs(invoice.expiry_secs.into());
        self.node("invoice.create", move |data| {
            // Counted from when it is made.
            let expires_at = self.true_time().checked_add(lasts).expect("in range");
            let amount_msat = invoice.amount_msat;
            let entry = Invoice { amount_msat, expires_at, paid: false };
            data.invoices.insert(invoice.label.to_owned(), entry);
            Ok(MadeInvoice { bolt11: "lnbcrt1".to_owned(), warnings: data.invoice_warnings.clone() })
        })
        .boxed()
    }

    fn status<'a>(&'a self, label: &'a str) -> BoxFuture<'a, Result<InvoiceStatus, NodeError>> {
        let now = self.true_time();
        self.node("invoice.status", move |data| {
            Ok(match data.invoices.get(label) {
                None => InvoiceStatus::Missing,
                Some(invoice) if invoice.paid => InvoiceStatus::Paid,
                Some(invoice) if invoice.expires_at <= now => InvoiceStatus::Expired,
                Some(_) => InvoiceStatus::Unpaid,
            })
        })
        .boxed()
    }

    fn remove<'a>(&'a self, label: &'a str, when: RemoveIf) -> BoxFuture<'a, Result<Removal, NodeError>> {
        self.node("invoice.remove", move |data| {
            let Some(invoice) = data.invoices.get(label) else { return Ok(Removal::Missing) };
            let expired = invoice.expires_at <= self.true_time();
            if invoice.paid || expired != (when == RemoveIf::Expired) {
                return Ok(Removal::OtherState);
            }
            data.invoices.remove(label);
            Ok(Removal::Removed)
        })
        .boxed()
    }
}

impl OrderStore for World {
    fn list(&self, list: OrderList) -> BoxFuture<'_, Result<Records, NodeError>> {
        self.node("store.list", move |data| {
            let record = |order: &Order, generation| Record { order: order.clone(), generation };
            Ok(match list {
                OrderList::Open => Records {
                    readable: data
                        .open
                        .values()
                        .map(|(order, generation)| record(order, *generation))
                        .collect(),
                    damaged: data.damaged.clone(),
                },
                OrderList::Closed => Records {
                    readable: data.closed.values().map(|order| record(order, 0)).collect(),
                    damaged: Vec::new(),
                },
            })
        })
        .boxed()
    }

    fn find(&self, list: OrderList, id: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>> {
        self.node("store.find", move |data| {
            let found = match list {
                OrderList::Open => data.open.get(&id).map(|(order, generation)| (order, *generation)),
                OrderList::Closed => data.closed.get(&id).map(|order| (order, 0)),
            };
            Ok(found.map(|(order, generation)| Ok(Record { order: order.clone(), generation })))
        })
        .boxed()
    }

    fn insert(&self, order: Order) -> BoxFuture<'_, Result<Record, NodeError>> {
        self.node("store.insert", move |data| {
            if data.open.contains_key(&order.id) {
                return Err(conflict("it is there already"));
            }
            data.generation += 1;
            data.open.insert(order.id, (order.clone(), data.generation));
            Ok(Record { order, generation: data.generation })
        })
        .boxed()
    }

    fn replace<'a>(&'a self, record: &'a Record, order: Order) -> BoxFuture<'a, Result<Record, NodeError>> {
        self.node("store.replace", move |data| {
            data.generation += 1;
            let generation = data.generation;
            match data.open.get_mut(&order.id) {
                Some(entry) if entry.1 == record.generation => *entry = (order.clone(), generation),
                _ => return Err(conflict("wrong generation")),
            }
            Ok(Record { order, generation })
        })
        .boxed()
    }

    fn remove<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), NodeError>> {
        self.node("store.remove", move |data| match data.open.get(&record.order.id) {
            Some((_, generation)) if *generation == record.generation => {
                data.open.remove(&record.order.id);
                Ok(())
            }
            _ => Err(conflict("wrong generation")),
        })
        .boxed()
    }

    fn put_closed<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), NodeError>> {
        self.node("store.put_closed", move |data| {
            data.closed.insert(order.id, order.clone());
            Ok(())
        })
        .boxed()
    }

    fn remove_closed(&self, id: OrderId) -> BoxFuture<'_, Result<(), NodeError>> {
        self.node("store.remove_closed", move |data| {
            data.closed.remove(&id).map(drop).ok_or_else(|| conflict("there is none"))
        })
        .boxed()
    }

    fn list_archived(&self, part: ArchivePart) -> BoxFuture<'_, Result<Records, NodeError>> {
        self.node("archive.list", move |data| {
            let of_part = data.archive.values().filter(|order| ArchivePart::of(order.id) == part);
            let readable = of_part.map(|order| Record { order: order.clone(), generation: 0 }).collect();
            Ok(Records { readable, damaged: Vec::new() })
        })
        .boxed()
    }

    fn find_archived(&self, id: OrderId) -> BoxFuture<'_, Result<Lookup, NodeError>> {
        self.node("archive.find", move |data| {
            let found = data.archive.get(&id);
            Ok(found.map(|order| Ok(Record { order: order.clone(), generation: 0 })))
        })
        .boxed()
    }

    fn put_archived<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), NodeError>> {
        self.node("archive.put", move |data| {
            data.archive.insert(order.id, order.clone());
            Ok(())
        })
        .boxed()
    }

    fn remove_archived(&self, id: OrderId) -> BoxFuture<'_, Result<(), NodeError>> {
        self.node("archive.remove", move |data| {
            data.archive.remove(&id).map(drop).ok_or_else(|| conflict("there is none"))
        })
        .boxed()
    }
}

/// Makes a prepared project an order's, if it is there and nobody else's.
fn take_over(project: Option<&mut Project>, order: OrderId, prepared: Prepared) -> Result<(), RemoteError> {
    let error = |reason: &str| RemoteError { severity: Severity::Final, reason: reason.to_owned() };
    let project = project.ok_or_else(|| error("it is gone"))?;
    if project.order != order {
        if project.order != prepared.id || project.stage != Stage::Prepared {
            return Err(error("it is another's"));
        }
        (project.order, project.stage, project.expires_at) = (order, Stage::Placing, prepared.expires);
    }
    if project.runs { Ok(()) } else { Err(error("it does not run")) }
}

/// A connection string for each node of a placement.
fn strings(placement: &Placement) -> Vec<ConnectionString> {
    let string = |port| {
        let id = "02".to_owned() + &"00".repeat(32);
        format!("http://x/#address={id}@192.0.2.1:{port}&type=direct&value=ws:&rune=r")
            .parse()
            .expect("a link")
    };
    placement.ports.nodes().map(string).collect()
}

impl ProductsOutlet for World {
    fn write(&self, shown: Storefront, as_of: Timestamp) -> BoxFuture<'_, Result<(), String>> {
        self.data().published.push((shown, as_of));
        async { Ok(()) }.boxed()
    }
}

impl Remotes for World {
    fn poll(&self) -> BoxFuture<'_, Vec<RemoteReport>> {
        async move {
            let mut reports = Vec::new();
            let names: Vec<_> = self.settings().remotes.into_iter().map(|remote| remote.name).collect();
            for name in names {
                let (ours, theirs) = (self.now(), self.true_time());
                let load = self.step("remote.poll", |data| {
                    let lead = data.remote_leads.get(&name).copied().unwrap_or_default();
                    let on_it = data.projects.iter().filter(|((remote, _), _)| *remote == name);
                    let environments = on_it.map(|((_, project), p)| Environment {
                        project: *project,
                        order: p.order,
                        is_own: true,
                        expires_at: p.expires_at,
                        hours: 1,
                        ports: p.ports,
                        address: None,
                        stage: p.stage,
                        member: None,
                        moved_from: None,
                        host: Some("192.0.2.1".into()),
                    });
                    let memory = Memory { total: 64 << 30, used: 1 << 30 };
                    let machine = Machine { memory, cpus: 8, cpu_load: None, storage: None };
                    Ok(Load {
                        environments: environments.collect(),
                        members: vec![Member { name: None, host: "192.0.2.1".into(), machine: Ok(machine) }],
                        clustered: false,
                        malformed: Vec::new(),
                        warnings: Vec::new(),
                        clock_ahead: Some(theirs.duration_since(ours) + lead),
                    })
                });
                let load = load.await.map_err(|e| e.reason);
                reports.push(RemoteReport { name, load });
            }
            reports
        }
        .boxed()
    }

    fn try_out<'a>(&'a self, _: &'a str, _: &'a [Placed]) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.step("remote.try_out", |_| Ok(())).boxed()
    }

    fn follow_moves<'a>(&'a self, _: &'a [RemoteReport]) -> BoxFuture<'a, ()> {
        self.begin("remote.follow_moves").map(drop).boxed()
    }

    fn bring_up<'a>(
        &'a self,
        order: &'a Order,
        placement: &'a Placement,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.step("remote.bring_up", move |data| {
            let key = (placement.remote.clone(), placement.project);
            if let Some(prepared) = placement.prepared {
                return take_over(data.projects.get_mut(&key), order.id, prepared);
            }
            let project = data.projects.entry(key).or_insert_with(|| Project {
                order: order.id,
                ports: placement.ports,
                runs: false,
                stage: Stage::Placing,
                expires_at: placement.project.expires(),
            });
            project.runs = true;
            Ok(())
        })
        .boxed()
    }

    fn prepare<'a>(
        &'a self,
        id: OrderId,
        node_count: u32,
        placement: &'a Placement,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        assert_eq!(placement.ports.node_count(), node_count);
        self.step("remote.prepare", move |data| {
            let (ports, expires_at) = (placement.ports, placement.project.expires());
            let project = Project { order: id, ports, runs: true, stage: Stage::Prepared, expires_at };
            data.projects.insert((placement.remote.clone(), placement.project), project);
            Ok(())
        })
        .boxed()
    }

    fn give_up<'a>(
        &'a self,
        remote: &'a str,
        id: OrderId,
        project: ProjectName,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.step("remote.give_up", move |data| {
            let key = (remote.to_owned(), project);
            let is_prepared = |project: &Project| project.order == id && project.stage == Stage::Prepared;
            if data.projects.get(&key).is_some_and(is_prepared) {
                data.projects.remove(&key);
            }
            Ok(())
        })
        .boxed()
    }

    fn deploy<'a>(
        &'a self,
        _: &'a Order,
        placement: &'a Placement,
        on_progress: OnProgress<'a>,
    ) -> BoxFuture<'a, Result<Deployed, RemoteError>> {
        async move {
            let progress = |done| Progress {
                step: "start-nodes".into(),
                done,
                total: 2,
                message: "Starting the nodes".into(),
            };
            on_progress(progress(1));
            sleep(DEPLOYMENT / 2).await;
            on_progress(progress(2));
            sleep(DEPLOYMENT / 2).await;
            self.step("remote.deploy", |data| {
                let key = (placement.remote.clone(), placement.project);
                if !data.projects.get(&key).is_some_and(|project| project.runs) {
                    let reason = "there is no instance".to_owned();
                    return Err(RemoteError { severity: Severity::Final, reason });
                }
                let connection_strings = strings(placement);
                Ok(Deployed { host: "192.0.2.1".into(), connection_strings })
            })
            .await
        }
        .boxed()
    }

    fn hand_over<'a>(
        &'a self,
        order: OrderId,
        placement: &'a Placement,
        expires_at: Timestamp,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.step("remote.hand_over", move |data| {
            let key = (placement.remote.clone(), placement.project);
            let project = data.projects.get_mut(&key).expect("a deployed project");
            assert_eq!(project.order, order);
            project.stage = Stage::Provisioned;
            project.expires_at = expires_at.max(placement.project.expires());
            Ok(())
        })
        .boxed()
    }

    fn extend<'a>(
        &'a self,
        order: OrderId,
        remote: &'a str,
        project: ProjectName,
        expires_at: Timestamp,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.step("remote.extend", move |data| {
            let project = data.projects.get_mut(&(remote.to_owned(), project)).expect("a project");
            assert_eq!(project.order, order);
            project.expires_at = expires_at;
            Ok(())
        })
        .boxed()
    }

    fn probe<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Answer> {
        async move {
            {
                let mut data = self.data();
                let now = self.true_time();
                data.probes.push((now, handover.project));
                data.probing.0 += 1;
                data.probing.1 = data.probing.1.max(data.probing.0);
            }
            let key = (handover.remote.clone(), handover.project);
            let answer = self.step("remote.probe", |data| {
                let there = data.projects.get(&key).is_some_and(|project| project.runs);
                let usual = if there { Answer::Runs } else { Answer::Stopped("its instance is gone".into()) };
                Ok(data.answers.get(&handover.project).cloned().unwrap_or(usual))
            });
            let answer = answer.await;
            self.data().probing.0 -= 1;
            answer.unwrap_or_else(|error| match error.severity {
                Severity::Passing => Answer::NotAsked(error.reason),
                _ => Answer::Unreachable(error.reason),
            })
        }
        .boxed()
    }

    fn desk<'a>(
        &'a self,
        handover: &'a Handover,
        action: &'a desk::Action,
    ) -> BoxFuture<'a, Result<desk::Answer, DeskError>> {
        async move {
            let call = if *action == desk::Action::Cards { "remote.cards" } else { "remote.desk" };
            let acted =
                self.step(call, |data| Ok(data.desks.entry(handover.project).or_default().act(action)));
            acted.await.unwrap_or_else(|error| Err(DeskError::NoAnswer(error.reason)))
        }
        .boxed()
    }

    fn take_down<'a>(
        &'a self,
        order: OrderId,
        leftover: &'a Leftover,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.step("remote.take_down", move |data| {
            let stored = data.open.get(&order).map(|(order, _)| order).or(data.closed.get(&order));
            let held = stored.and_then(|order| match (&order.state, &order.replaces) {
                (State::Provisioned { handover, .. }, _) => Some(handover.project),
                (_, Some(replaced)) => replaced.leftover.as_ref().map(|leftover| leftover.project),
                _ => None,
            });
            assert_ne!(held, Some(leftover.project), "what the buyer has is not removed");
            let gone = data.projects.remove(&(leftover.remote.clone(), leftover.project));
            let owners = [Some(order), leftover.prepared];
            assert!(
                gone.is_none_or(|project| owners.contains(&Some(project.order))),
                "another order's project"
            );
            Ok(())
        })
        .boxed()
    }
}

impl RouteFile for World {
    fn read(&self) -> BoxFuture<'_, Option<RouteTable>> {
        async move { self.node("routes.read", |data| Ok(data.routes.clone())).await.ok().flatten() }.boxed()
    }

    fn write(&self, table: RouteTable) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let written = self.node("routes.write", |data| {
                data.routes = Some(table);
                Ok(())
            });
            written.await.map_err(|e| e.to_string())
        }
        .boxed()
    }
}
