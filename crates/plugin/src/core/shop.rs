//! The shop as a whole: its parts, and the tasks that run in the background.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::settings::SettingsError;
use lnplaylive_core::{Settings, TicketKey};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::admission::Admission;
use super::archive::Archivist;
use super::availability::{Availability, HoldLimits};
use super::cards::Cards;
use super::desk::Desk;
use super::interfaces::{
    Clock, Invoices, NodeCondition, NodeError, OrderStore, ProductsOutlet, Remotes, RouteFile,
};
use super::node_watch::NodeWatch;
use super::observer::Observer;
use super::operator::Operator;
use super::order_book::OrderBook;
use super::order_handle::{OrderHandle, Recorder};
use super::pool::Pool;
use super::preparing::Preparing;
use super::probes::Probes;
use super::products::ProductsPublisher;
use super::routes::RoutesPublisher;
use super::sales::{Sales, Sources};
use super::status_watch::StatusWatch;
use super::tally::Tally;
use super::worker::{Parts, Workers};

/// Pause between two sweeps. A sweep costs nothing unless an invoice has expired.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two attempts to read the datastore at start-up.
const START_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The shop's surroundings.
#[derive(Debug, Clone)]
pub struct Backends {
    /// The node's invoices.
    pub invoices: Arc<dyn Invoices>,
    /// The node's own condition.
    pub node: Arc<dyn NodeCondition>,
    /// The stored orders.
    pub store: Arc<dyn OrderStore>,
    /// The remotes.
    pub remotes: Arc<dyn Remotes>,
    /// The route table's file, if one is to be written.
    pub route_file: Option<Arc<dyn RouteFile>>,
    /// The products' file, if one is to be written.
    pub products: Option<Arc<dyn ProductsOutlet>>,
    /// The key of tickets, if orders are rationed.
    pub ticket_key: Option<TicketKey>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// The shop.
#[derive(Debug)]
pub struct Shop {
    /// All open orders, and the way to closed ones.
    pub orders: Arc<OrderBook>,
    /// Room on the remotes, and what is reserved there.
    pub availability: Arc<Availability>,
    /// The health of environments that were handed over.
    pub probes: Arc<Probes>,
    /// What is prepared for orders to come.
    pub pool: Arc<Pool>,
    /// What the operator's monitoring sees.
    pub observer: Observer,
    /// Whether the node can be paid.
    pub node: Arc<NodeWatch>,
    /// New orders.
    pub sales: Arc<Sales>,
    /// The operator's actions.
    pub operator: Operator,
    /// The actions of orders' holders on their environments.
    pub desk: Desk,
    /// Waits for changes of orders.
    pub status_watch: StatusWatch,
    /// Contact for buyers of failed orders.
    pub contact: Option<String>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// The shop's background tasks.
#[derive(Debug)]
pub struct Background {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    node: Arc<NodeWatch>,
    workers: Arc<Workers>,
    preparing: Arc<Preparing>,
    routes: Arc<RoutesPublisher>,
    products: ProductsPublisher,
    probes: Arc<Probes>,
    archivist: Archivist,
    remotes: Arc<dyn Remotes>,
    to_work: mpsc::UnboundedReceiver<Arc<OrderHandle>>,
}

impl Shop {
    /// Puts the shop together. Nothing happens before [`Background::run`]. Fails on settings that describe no catalogue.
    pub fn new(settings: &Settings, backends: Backends) -> Result<(Self, Background), SettingsError> {
        let Backends { invoices, node, store, remotes, route_file, products, ticket_key, clock } = backends;
        let catalogue = settings.catalogue()?;
        let (request_work, to_work) = mpsc::unbounded_channel();
        let orders =
            Arc::new(order_book(settings, store, Arc::clone(&invoices), Arc::clone(&clock), request_work));
        let availability = Arc::new(availability(settings, &remotes, &clock, &orders));
        let routes = Arc::new(RoutesPublisher::new(
            route_file,
            Arc::clone(&clock),
            Arc::clone(&availability),
            settings.remotes.iter().map(|remote| remote.name.clone()).collect(),
        ));
        let node = Arc::new(NodeWatch::new(node, Arc::clone(&clock), settings.node.require_inbound));
        let sales = Arc::new(Sales::new(
            Sources {
                orders: Arc::clone(&orders),
                availability: Arc::clone(&availability),
                node: Arc::clone(&node),
            },
            invoices,
            Arc::clone(&clock),
            Admission::new(ticket_key, Arc::clone(&clock), &settings.shop),
            catalogue,
            settings.shop.clone(),
        ));
        let cards = Arc::new(Cards::new(Arc::clone(&orders), Arc::clone(&remotes)));
        let probes = Arc::new(Probes::new(
            Arc::clone(&orders),
            Arc::clone(&availability),
            Arc::clone(&cards),
            Arc::clone(&remotes),
            Arc::clone(&clock),
            settings.provisioning.probes_per_min,
        ));
        let pool = Arc::new(Pool::new(&settings.products));
        let preparing = Arc::new(Preparing::new(
            Arc::clone(&orders),
            Arc::clone(&availability),
            Arc::clone(&remotes),
            Arc::clone(&clock),
            Arc::clone(&pool),
        ));
        let background = Background {
            orders: Arc::clone(&orders),
            availability: Arc::clone(&availability),
            node: Arc::clone(&node),
            workers: Arc::new(Workers::new(
                Parts {
                    orders: Arc::clone(&orders),
                    availability: Arc::clone(&availability),
                    routes: Arc::clone(&routes),
                    probes: Arc::clone(&probes),
                    pool: Arc::clone(&pool),
                    preparing: Arc::clone(&preparing),
                },
                Arc::clone(&remotes),
                Arc::clone(&clock),
                settings.provisioning.clone(),
            )),
            preparing,
            routes,
            products: ProductsPublisher::new(products, Arc::clone(&clock), Arc::clone(&sales)),
            probes: Arc::clone(&probes),
            archivist: Archivist::new(
                Arc::clone(&orders),
                Arc::clone(&availability),
                settings.shop.closed_retention(),
            ),
            remotes: Arc::clone(&remotes),
            to_work,
        };
        let observer = Observer::new(
            Arc::clone(&orders),
            Arc::clone(&availability),
            Arc::clone(&probes),
            Arc::clone(&sales),
            Arc::clone(&node),
            Arc::clone(&pool),
            Arc::clone(&clock),
        );
        let shop = Self {
            observer,
            node,
            sales,
            desk: Desk::new(Arc::clone(&orders), cards, Arc::clone(&remotes), Arc::clone(&clock)),
            operator: Operator::new(
                Arc::clone(&orders),
                Arc::clone(&availability),
                remotes,
                Arc::clone(&clock),
            ),
            status_watch: StatusWatch::new(Arc::clone(&orders), Arc::clone(&probes), Arc::clone(&clock)),
            contact: settings.shop.contact.clone(),
            orders,
            availability,
            probes,
            pool,
            clock,
        };
        Ok((shop, background))
    }
}

/// The room on the remotes.
fn availability(
    settings: &Settings,
    remotes: &Arc<dyn Remotes>,
    clock: &Arc<dyn Clock>,
    orders: &Arc<OrderBook>,
) -> Availability {
    Availability::new(
        Arc::clone(remotes),
        Arc::clone(clock),
        Arc::clone(orders),
        settings.remotes.clone(),
        Duration::from_secs(settings.provisioning.survey_secs.into()),
        settings.breaker_limits(),
        HoldLimits {
            orders: settings.shop.max_unpaid_orders,
            contested_after: SignedDuration::from_secs(settings.shop.contested_hold_secs.into()),
        },
    )
}

/// The orders of the shop, whose changes are counted for the operator's monitoring.
fn order_book(
    settings: &Settings,
    store: Arc<dyn OrderStore>,
    invoices: Arc<dyn Invoices>,
    clock: Arc<dyn Clock>,
    request_work: mpsc::UnboundedSender<Arc<OrderHandle>>,
) -> OrderBook {
    let remote_names = settings.remotes.iter().map(|remote| remote.name.as_str());
    let tally = Arc::new(Tally::new(Arc::clone(&clock), remote_names));
    OrderBook::new(
        Recorder { store, clock, policy: settings.policy(), tally },
        invoices,
        SignedDuration::from_secs(settings.shop.unpaid_retention_secs.into()),
        usize::try_from(settings.shop.max_unpaid_orders).unwrap_or(Semaphore::MAX_PERMITS),
        request_work,
    )
}

impl Background {
    /// Reads the open orders, finds missed payments, sweeps, provisions, polls, publishes, probes and archives, for as long as
    /// the runtime lives.
    pub async fn run(self) {
        let Self {
            orders,
            availability,
            node,
            workers,
            preparing,
            routes,
            products,
            probes,
            archivist,
            remotes,
            to_work,
        } = self;
        tokio::join!(
            workers.run(to_work),
            preparing.run(),
            poll(&availability, &routes, &*remotes),
            sweep(&orders, &availability),
            node.run(),
            products.run(),
            probes.run(),
            archivist.run(),
        );
    }
}

/// Polls the remotes, follows environments that were moved, publishes routes, and starts trials, for ever.
async fn poll(availability: &Arc<Availability>, routes: &RoutesPublisher, remotes: &dyn Remotes) {
    loop {
        let reports = availability.poll_remotes().await;
        remotes.follow_moves(&reports).await;
        routes.publish().await;
        for remote in availability.begin_trials() {
            let availability = Arc::clone(availability);
            tokio::spawn(async move { availability.try_out(&remote).await });
        }
        availability.next_poll().await;
    }
}

/// Reads the open orders, finds missed payments, and removes unpaid orders, for ever.
async fn sweep(orders: &OrderBook, availability: &Availability) {
    until_it_works("read the open orders", || orders.load()).await;
    availability.restore_breakers();
    until_it_works("look for payments", || orders.find_payments()).await;
    let mut ticks = interval(SWEEP_PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        orders.sweep().await;
    }
}

async fn until_it_works<F: Future<Output = Result<(), NodeError>>>(what: &str, attempt: impl Fn() -> F) {
    while let Err(error) = attempt().await {
        tracing::warn!("cannot {what}, trying again: {error}");
        sleep(START_RETRY_PAUSE).await;
    }
}
