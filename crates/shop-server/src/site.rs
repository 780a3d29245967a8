//! The site's routes and their handlers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, MatchedPath, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use lnplaylive_core::products_file::ProductsFile;
use lnplaylive_core::routes::{NoRoute, RouteTable};
use lnplaylive_core::{Endpoint, Ticket, TicketKey};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assets::Assets;
use crate::cards::{CardsError, CardsRequest, Fonts};
use crate::clients::{Clients, Origin, Refusal, Slot};
use crate::error::Error;
use crate::metrics::{GaugeGuard, Metrics};
use crate::pool::{Place, Pool};
use crate::ration::{Ration, UsedUp};
use crate::relay::{self, Ends};
use crate::settings::Settings;
use crate::shop::ShopConfig;
use crate::upgrade::{self, Upstream};
use crate::watched::Watched;
use crate::{headers, reply};

/// Maximum size of a request for cards, in bytes: 64 strings and a logo of half a megabyte, with room to spare.
const CARDS_BYTES: usize = 2 << 20;
/// Time-out for the body of such a request.
const CARDS_BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Time-out for the body of one that is refused.
const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Time-out for earlier requests to be drawn.
const CARDS_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of requests drawn at the same time; each keeps a core busy for some tenths of a second.
const MAX_CONCURRENT_DRAWINGS: usize = 2;
/// Interval at which the route of a relay is looked up again, at the latest.
const ROUTE_INTERVAL: Duration = Duration::from_secs(60);
/// Delay in `Retry-After` headers, in seconds.
const RETRY_SECS: u64 = 10;

/// The web shop's site.
#[derive(Debug)]
pub struct Site {
    pub(crate) shared: Shared,
    extra: Router,
}

/// State shared by all requests.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clients: Arc<Clients>,
    pub(crate) metrics: Metrics,
    /// Cancelled when the server stops.
    pub(crate) stop: CancellationToken,
    /// Tasks of connections and relays.
    pub(crate) tasks: TaskTracker,
    assets: Assets,
    shop: ShopConfig,
    routes: Option<Watched<RouteTable>>,
    ticket_key: Option<Watched<TicketKey>>,
    products: Option<Watched<ProductsFile>>,
    fonts: Arc<Fonts>,
    drawing: Arc<Semaphore>,
}

impl Site {
    /// Reads the web shop's files and the fonts. The other files may still be missing.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        let routes = settings.routes_file.clone().map(watch_routes);
        let shared = Shared {
            clients: Arc::new(Clients::new(settings.limits, settings.trusted_proxies.clone())),
            metrics: Metrics::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            assets: Assets::load(&settings.dist_dir)?,
            shop: ShopConfig::new(&settings),
            routes,
            ticket_key: settings
                .ticket_key_file
                .clone()
                .map(|path| Watched::new("ticket_key_file", path, |path| Ok(TicketKey::read(path)?))),
            products: settings
                .products_file
                .clone()
                .map(|path| Watched::new("products_file", path, |path| Ok(ProductsFile::read(path)?))),
            fonts: Arc::new(Fonts::load(&settings.card_fonts)?),
            drawing: Arc::new(Semaphore::new(MAX_CONCURRENT_DRAWINGS)),
            settings,
        };
        Ok(Self { shared, extra: Router::new() })
    }

    /// Adds the demo's wallet: `config.json` names `path`, and `routes` serves it.
    #[must_use]
    pub fn demo_wallet(mut self, path: &str, routes: Router) -> Self {
        self.shared.shop.demo_wallet = Some(path.to_owned());
        self.extra = self.extra.merge(routes);
        self
    }

    /// Builds the router.
    pub(crate) fn into_router(self) -> (Arc<Shared>, Router) {
        let shared = Arc::new(self.shared);
        let router = Router::new()
            .route("/config.json", get(config))
            .route("/products", get(products))
            .route("/tickets", post(tickets))
            .route("/ws", any(to_node))
            // Wallets and web shops with lnmessage's `wsProxy` append `/HOST:PORT` of the node.
            .route("/ws/{*node}", any(to_node))
            .route("/e/{environment}/{node}", any(to_environment))
            .route("/cards.pdf", post(cards))
            .route("/healthz", get(async || Json(json!({"status": "ok"}))))
            .fallback(asset)
            .with_state(Arc::clone(&shared))
            .merge(self.extra)
            .layer(from_fn_with_state(Arc::clone(&shared), response_middleware));
        (shared, router)
    }
}

fn watch_routes(path: PathBuf) -> Watched<RouteTable> {
    Watched::new("routes_file", path, |path| Ok(RouteTable::read(path)?))
}

type Shop = State<Arc<Shared>>;

/// Adds headers to every response, and counts and logs it. A single function instead of tower-http layers, because one header
/// depends on the visitor and the labels depend on the matched route.
async fn response_middleware(State(shared): Shop, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = route_of(request.extensions().get::<MatchedPath>());
    let tls = request
        .extensions()
        .get::<Origin>()
        .is_some_and(|origin| origin.visitor(&shared.clients, request.headers()).tls);
    let mut response = next.run(request).await;
    headers::add(response.headers_mut(), tls);
    let status = response.status().as_u16();
    shared.metrics.answered(route, status);
    tracing::debug!(route, status, ms = began.elapsed().as_millis(), "answered");
    response
}

/// The name of a route in the log and in metrics. Paths are not used, because they contain order ids.
fn route_of(matched: Option<&MatchedPath>) -> &'static str {
    match matched.map(MatchedPath::as_str) {
        Some("/config.json") => "config",
        Some("/products") => "products",
        Some("/tickets") => "tickets",
        Some("/ws" | "/ws/{*node}") => "ws",
        Some("/e/{environment}/{node}") => "environment",
        Some("/cards.pdf") => "cards",
        Some("/healthz") => "healthz",
        Some(_) => "other",
        None => "file",
    }
}

async fn asset(State(shared): Shop, method: Method, uri: Uri, request: Request) -> Response {
    shared.assets.respond(&method, uri.path(), request.headers())
}

async fn config(State(shared): Shop) -> Response {
    match shared.shop.document().await {
        Some(document) => ([(CACHE_CONTROL, "no-store")], Json(document)).into_response(),
        None => reply::starting(RETRY_SECS),
    }
}

/// `GET /products`: the answer of `lnplaylive-products`, as the plugin wrote it last.
async fn products(State(shared): Shop, Extension(origin): Extension<Origin>, request: Request) -> Response {
    let Some(file) = &shared.products else {
        return reply::error(StatusCode::NOT_FOUND, "this server does not know the products; ask the node");
    };
    if let Err(used_up) = take(&shared, &shared.clients.products, &origin, &request) {
        return wait(used_up);
    }
    match file.current().await {
        Some(products) if !products.is_stale(Timestamp::now()) => {
            ([(CACHE_CONTROL, "max-age=2")], Json(&*products)).into_response()
        }
        None => reply::starting(RETRY_SECS),
        Some(_) => reply::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "the node has not told lately what is sold; ask it, or try again in a moment",
            RETRY_SECS,
        ),
    }
}

/// `POST /tickets`: a ticket for one order.
async fn tickets(State(shared): Shop, Extension(origin): Extension<Origin>, request: Request) -> Response {
    let Some(key) = &shared.ticket_key else {
        return reply::error(StatusCode::NOT_FOUND, "this shop has no tickets; order without one");
    };
    let Some(key) = key.current().await else {
        let sentence = "the key of tickets is not set up yet; try again in a moment";
        return reply::later(StatusCode::SERVICE_UNAVAILABLE, sentence, RETRY_SECS);
    };
    if let Err(used_up) = take(&shared, &shared.clients.tickets, &origin, &request) {
        return wait(used_up);
    }
    let address = origin.visitor(&shared.clients, request.headers()).address;
    let ticket = Ticket::new(key.holder(address), Timestamp::now());
    let answer = json!({"ticket": key.sign(&ticket), "expires_at": ticket.expires_at()});
    shared.metrics.tickets.inc();
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// Counts a request of a ration.
fn take(shared: &Shared, ration: &Ration, origin: &Origin, request: &Request) -> Result<(), UsedUp> {
    let address = origin.visitor(&shared.clients, request.headers()).address;
    ration.take(address).inspect_err(|used_up| shared.metrics.refused(used_up.metric_label()))
}

fn wait(used_up: UsedUp) -> Response {
    reply::later(StatusCode::TOO_MANY_REQUESTS, &used_up.to_string(), used_up.retry_secs())
}

/// `/ws`: connects to the shop's node.
async fn to_node(State(shared): Shop, Extension(origin): Extension<Origin>, request: Request) -> Response {
    match shared.settings.lightning_websocket.clone() {
        Some(address) => {
            let sockets = Arc::clone(&shared.clients.node_sockets);
            relay_to(shared, &origin, (&address, sockets), None, request).await
        }
        None => reply::error(StatusCode::NOT_FOUND, "this server does not connect to the node"),
    }
}

/// `/e/<environment>/<node>`: connects to a node of an environment.
async fn to_environment(
    State(shared): Shop,
    Extension(origin): Extension<Origin>,
    Path((environment, node)): Path<(String, String)>,
    request: Request,
) -> Response {
    let found = shared.find_route(&environment, &node).await;
    match found {
        Ok((endpoint, _)) => {
            let address = format!("{}:{}", endpoint.host, endpoint.port);
            let sockets = Arc::clone(&shared.clients.environment_sockets);
            relay_to(shared, &origin, (&address, sockets), Some((environment, node)), request).await
        }
        Err(reason) => {
            let status = match reason {
                NoRoute::Unknown => StatusCode::NOT_FOUND,
                NoRoute::Expired => StatusCode::GONE,
            };
            reply::error(status, &reason.to_string())
        }
    }
}

impl Shared {
    /// The endpoint of an environment's node by the current table, and the environment's end.
    async fn find_route(&self, environment: &str, node: &str) -> Result<(Endpoint, Timestamp), NoRoute> {
        let file = self.routes.as_ref().ok_or(NoRoute::Unknown)?;
        let table = file.current().await.ok_or(NoRoute::Unknown)?;
        let endpoint = table.lookup(environment, node, Timestamp::now())?.clone();
        let ends = table.expires_at(environment).ok_or(NoRoute::Unknown)?;
        Ok((endpoint, ends))
    }

    /// Returns when the route is no longer in the table, or its environment has ended. An end can be moved.
    async fn route_over(&self, (environment, node): &(String, String)) {
        while let Ok((_, ends)) = self.find_route(environment, node).await {
            let left = Duration::try_from(ends.duration_since(Timestamp::now())).unwrap_or_default();
            // Not earlier than the end, in whole milliseconds.
            sleep(left.saturating_add(Duration::from_millis(1)).min(ROUTE_INTERVAL)).await;
        }
    }
}

/// The slot of the visitor: that of the connection, or behind a proxy a new one.
fn slot_of(shared: &Shared, origin: &Origin, request: &Request) -> Result<Arc<Slot>, Refusal> {
    match origin {
        Origin::Direct(_, slot) => Ok(Arc::clone(slot)),
        Origin::Proxied(_) => {
            let address = origin.visitor(&shared.clients, request.headers()).address;
            let admitted = shared.clients.admit(address);
            admitted.map(Arc::new).inspect_err(|refusal| shared.metrics.refused(refusal.metric_label()))
        }
    }
}

/// A place of a pool for the visitor.
fn place_in(pool: &Arc<Pool>, shared: &Shared, origin: &Origin, request: &Request) -> Result<Place, Refusal> {
    let address = origin.visitor(&shared.clients, request.headers()).address;
    let taken: Result<_, Refusal> = pool.take(address, || Ok(()));
    taken.inspect_err(|refusal| shared.metrics.refused(refusal.metric_label()))
}

fn refused(refusal: Refusal) -> Response {
    reply::later(StatusCode::TOO_MANY_REQUESTS, &refusal.to_string(), RETRY_SECS)
}

/// Turns a request into a WebSocket to `address`, with a place of this pool. It ends with the route, if there is one.
async fn relay_to(
    shared: Arc<Shared>,
    origin: &Origin,
    (address, sockets): (&str, Arc<Pool>),
    route: Option<(String, String)>,
    mut request: Request,
) -> Response {
    let key = match upgrade::check(request.method(), request.headers()) {
        Ok(key) => key,
        Err(reason) => return reply::error(reason.status(), &reason.to_string()),
    };
    let slot = match slot_of(&shared, origin, &request) {
        Ok(slot) => slot,
        Err(refusal) => return refused(refusal),
    };
    let place = match place_in(&sockets, &shared, origin, &request) {
        Ok(place) => place,
        Err(refusal) => return refused(refusal),
    };
    let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return reply::error(StatusCode::BAD_REQUEST, "this connection cannot become a WebSocket");
    };
    let within = Duration::from_secs(shared.settings.limits.connect_timeout_secs.into());
    let node = match upgrade::dial(address, &key, within).await {
        Ok(node) => node,
        Err(error) => {
            shared.metrics.not_dialled(error.metric_label());
            return reply::later(error.status(), &error.to_string(), RETRY_SECS);
        }
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, node.accept.clone());
    let task = carry(Arc::clone(&shared), on_upgrade, node, (slot, place), route);
    shared.tasks.spawn(task);
    response
}

/// Relays once the visitor has received the response.
async fn carry(
    shared: Arc<Shared>,
    on_upgrade: OnUpgrade,
    node: Upstream,
    (slot, _place): (Arc<Slot>, Place),
    route: Option<(String, String)>,
) {
    // The visitor may have left.
    let Ok(upgraded) = on_upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        tracing::error!("unexpected type of connection");
        return;
    };
    let held = GaugeGuard::new(&shared.metrics.websockets);
    let ends = Ends {
        visitor: parts.io.into_inner(),
        visitor_first: parts.read_buf.to_vec(),
        node: node.stream,
        node_first: node.first,
    };
    let over = async {
        match &route {
            Some(route) => shared.route_over(route).await,
            None => std::future::pending().await,
        }
    };
    let (ending, up, down) = relay::run(ends, &slot, shared.settings.limits, over, &shared.stop).await;
    drop(held);
    shared.metrics.relayed(ending.metric_label(), up, down);
    tracing::debug!(ending = ending.metric_label(), up, down, "a WebSocket ended");
}

/// Reads a body of at most [`CARDS_BYTES`] and keeps nothing of it. A proxy that is answered while it still sends may report the broken
/// connection instead of the answer.
async fn discard(body: Body) {
    let mut chunks = body.into_data_stream();
    let mut read = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        read += chunk.len();
        if read > CARDS_BYTES {
            return;
        }
    }
}

/// `POST /cards.pdf`. Nothing is stored.
async fn cards(State(shared): Shop, Extension(origin): Extension<Origin>, request: Request) -> Response {
    let admitted = slot_of(&shared, &origin, &request)
        .and_then(|slot| Ok((slot, place_in(&shared.clients.card_requests, &shared, &origin, &request)?)));
    let (slot, place) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            drop(timeout(REFUSED_BODY_TIMEOUT, discard(request.into_body())).await);
            return refused(refusal);
        }
    };
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let sentence = format!("a request for cards has at most {CARDS_BYTES} bytes; use a smaller logo");
        reply::error(StatusCode::PAYLOAD_TOO_LARGE, &sentence)
    };
    if announced.is_some_and(|length| length > CARDS_BYTES as u64) {
        return too_large();
    }
    let body = match timeout(CARDS_BODY_TIMEOUT, to_bytes(request.into_body(), CARDS_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return too_large(),
        Err(_) => return reply::error(StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive"),
    };
    let turn = timeout(CARDS_QUEUE_TIMEOUT, Arc::clone(&shared.drawing).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        let sentence = "too many requests for cards at the moment; try again shortly";
        return reply::later(StatusCode::SERVICE_UNAVAILABLE, sentence, RETRY_SECS);
    };
    let fonts = Arc::clone(&shared.fonts);
    let drawn = tokio::task::spawn_blocking(move || {
        // A drawing goes on if its visitor leaves, so it holds the permits itself.
        let _held = (turn, place, slot);
        let sheet = CardsRequest::from_json(&body)?.check()?;
        Ok::<_, CardsError>((sheet.len(), sheet.draw(&fonts)?))
    })
    .await;
    match drawn {
        Ok(Ok((count, pdf))) => {
            shared.metrics.drew(count);
            let headers = [
                (CONTENT_TYPE, "application/pdf"),
                (CONTENT_DISPOSITION, "attachment; filename=\"cards.pdf\""),
                (CACHE_CONTROL, "no-store"),
            ];
            (headers, pdf).into_response()
        }
        Ok(Err(CardsError::Unreadable(reason))) => {
            reply::error(StatusCode::BAD_REQUEST, &CardsError::Unreadable(reason).to_string())
        }
        Ok(Err(CardsError::Drawing(reason))) => {
            tracing::error!("drawing cards: {reason}");
            reply::error(StatusCode::INTERNAL_SERVER_ERROR, "the cards could not be drawn")
        }
        Ok(Err(error @ CardsError::Logo(_))) => {
            reply::error_of(StatusCode::UNPROCESSABLE_ENTITY, "logo", &error.to_string())
        }
        Ok(Err(error)) => reply::error(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        Err(_) => {
            tracing::error!("drawing cards: a panic");
            reply::error(StatusCode::INTERNAL_SERVER_ERROR, "the cards could not be drawn")
        }
    }
}
