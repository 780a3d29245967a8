//! The shop's address. There is no web shop yet: what is served is what it will read, and a page that says so.

use axum::http::header::CACHE_CONTROL;
use axum::response::Html;
use axum::{Json, Router, routing::get};
use serde::Serialize;

/// What a web shop needs to know: `config.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShopConfig {
    /// The host's node, 66 hex digits.
    pub(crate) node_id: String,
    /// Where it takes commands from browsers.
    pub(crate) websocket_url: String,
    /// What lets them order.
    pub(crate) rune: String,
}

/// The routes: `/` and `/config.json`.
pub(crate) fn router(config: ShopConfig) -> Router {
    let index = index(&config);
    Router::new()
        .route("/", get(async || Html(index)))
        .route("/config.json", get(async || ([(CACHE_CONTROL, "no-store")], Json(config))))
}

fn index(config: &ShopConfig) -> String {
    // None of these can contain anything that HTML gives a meaning to.
    let ShopConfig { node_id, websocket_url, rune } = config;
    format!(
        "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>lnplay.live demo</title>
<style>body {{ font: 1rem/1.5 system-ui; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }}</style>
<h1>lnplay.live demo</h1>
<p>The shop's node is running. There is no web shop yet; it will be served here and read <a href=\"config.json\">config.json</a>:</p>
<dl>
<dt>Node<dd><code>{node_id}</code>
<dt>WebSocket<dd><code>{websocket_url}</code>
<dt>Public rune: every method whose name starts with <code>lnplaylive-</code><dd><code>{rune}</code>
</dl>
<p>To see an environment bought, run <code>cargo demo -- --once</code> in a terminal.</p>
</html>
"
    )
}
