//! The web shop of a testbed: the real server, with a wallet that pays any invoice.

use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::post};
use serde::Deserialize;
use serde_json::json;
use shop_server::{Settings, Site};

use crate::{Error, Result, Rpc, Shop};

/// Path of the demo's wallet.
const WALLET: &str = "/demo/pay";
/// Larger than any invoice, in bytes.
const MAX_REQUEST: usize = 16 << 10;
/// Generous time-out for a payment over one hop.
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// The id of no node: the generator of the curve, whose secret key is 1.
const NOBODY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
/// Directory of the built web shop.
const DIST: &str = "frontend-dist";

/// The shop's site, and whether it has the web shop's pages: those in `dist` if given, otherwise any that are found. Its `/ws`
/// leads to the node.
pub fn site(shop: &Shop, rune: &str, dist: Option<PathBuf>) -> Result<(Site, bool)> {
    site_with(shop, rune, dist, |_| ())
}

/// As [`site`], with other settings.
pub fn site_with(
    shop: &Shop,
    rune: &str,
    dist: Option<PathBuf>,
    change: impl FnOnce(&mut Settings),
) -> Result<(Site, bool)> {
    let node = &shop.host.node;
    let dir = shop.workdir().subdir("site")?;
    let written = |path: PathBuf, text: &str| match std::fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(source) => Err(Error::File { doing: "writing", path, source }),
    };
    let rune_file = written(dir.join("rune"), rune)?;
    let found = dist.or_else(find_dist);
    let has_pages = found.is_some();
    let dist = if let Some(dist) = found {
        dist
    } else {
        let dist = shop.workdir().subdir("site/dist")?;
        written(dist.join("index.html"), STAND_IN)?;
        dist
    };
    let unusable = |what: &str, why: &dyn std::fmt::Display| Error::Unusable(format!("{what}: {why}"));
    let id = node.id().parse().map_err(|e| unusable("the node's id", &e))?;
    let mut settings = Settings::new(dist, id, rune_file);
    settings.ticket_key_file = shop.ticket_key_file();
    settings.products_file = Some(shop.products_file());
    settings.lightning_websocket = Some(format!("127.0.0.1:{}", node.ws_port()));
    change(&mut settings);
    let site = Site::new(settings).map_err(|e| unusable("the web shop", &e))?;
    Ok((site.demo_wallet(WALLET, wallet(&shop.host.customer.rpc())), has_pages))
}

/// The pages without a shop, which is all that an attendee's link needs: those in `dist` if given, otherwise any that are
/// found; `None` if they are not built. Its `config.json` says that there is no shop.
pub fn pages(dist: Option<PathBuf>) -> Result<Option<Site>> {
    let Some(dist) = dist.or_else(find_dist) else { return Ok(None) };
    let unusable = |what: &str, why: &dyn std::fmt::Display| Error::Unusable(format!("{what}: {why}"));
    let id = NOBODY.parse().map_err(|e| unusable("the id of no node", &e))?;
    // There is no file with a rune, because nobody can order.
    let settings = Settings::new(dist.clone(), id, dist.join("no-shop"));
    Site::new(settings).map(Some).map_err(|e| unusable("the pages", &e))
}

/// Looks in this directory, and in the source tree if cargo runs this program.
pub(crate) fn find_dist() -> Option<PathBuf> {
    let source =
        std::env::var_os("CARGO_MANIFEST_DIR").map(|dir| PathBuf::from(dir).join("../..").join(DIST));
    [Some(PathBuf::from(DIST)), source].into_iter().flatten().find(|dir| dir.join("index.html").is_file())
}

/// A page that says that the web shop is not built.
const STAND_IN: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>lnplay.live demo</title>
<h1>lnplay.live demo</h1>
<p>The shop's node is running, but its pages are not here: start the demo where <code>frontend-dist</code> is, or name that
directory with <code>--frontend-dist</code>. What the pages would read is <a href=\"/config.json\">config.json</a>.</p>
<p>To see an environment bought, run <code>cargo demo -- --once</code> in a terminal.</p>
</html>
";

/// A request to the wallet.
#[derive(Deserialize)]
struct Pay {
    bolt11: String,
}

/// Lets the demo's customer pay every invoice that is posted.
fn wallet(customer: &Rpc) -> Router {
    let customer = customer.within(PAYMENT_TIMEOUT);
    Router::new().route(WALLET, post(pay).layer(DefaultBodyLimit::max(MAX_REQUEST))).with_state(customer)
}

async fn pay(State(customer): State<Rpc>, Json(Pay { bolt11 }): Json<Pay>) -> Response {
    match customer.call("pay", json!({"bolt11": bolt11})).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            // With a code, the customer's node refused; without one, it did not answer.
            let status = match error.code {
                Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
                None => StatusCode::BAD_GATEWAY,
            };
            (status, Json(json!({"error": error.message}))).into_response()
        }
    }
}
