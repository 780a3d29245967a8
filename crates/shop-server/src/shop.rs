//! `config.json`, which tells the web shop about this host. Generated from settings and files at run time.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use lnplaylive_core::secret::read_secret;
use lnplaylive_core::{Endpoint, NodeId, Secret};
use serde_json::{Map, Value, json};

use crate::settings::Settings;
use crate::watched::Watched;

/// The sources of `config.json`.
#[derive(Debug)]
pub(crate) struct ShopConfig {
    node_id: NodeIdSource,
    rune: Watched<Secret>,
    websocket_url: Option<Endpoint>,
    contact: Option<String>,
    /// Path of the demo's wallet, in the demo.
    pub(crate) demo_wallet: Option<String>,
}

#[derive(Debug)]
enum NodeIdSource {
    Given(NodeId),
    File(Watched<NodeId>),
}

impl ShopConfig {
    /// Takes validated settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        let node_id = match (&settings.node_id, &settings.node_id_file) {
            (Some(id), _) => NodeIdSource::Given(id.clone()),
            (None, path) => {
                let path = path.clone().unwrap_or_default();
                NodeIdSource::File(Watched::new("node_id_file", path, read_node_id))
            }
        };
        Self {
            node_id,
            rune: Watched::new("rune_file", settings.rune_file.clone(), |path| Ok(read_secret(path)?)),
            websocket_url: settings.websocket_url.clone(),
            contact: settings.contact.clone(),
            demo_wallet: None,
        }
    }

    /// The document; `None` while the node's id or the rune is unknown.
    pub(crate) async fn document(&self) -> Option<Value> {
        let node_id = match &self.node_id {
            NodeIdSource::Given(id) => Arc::new(id.clone()),
            NodeIdSource::File(file) => file.current().await?,
        };
        let rune = self.rune.current().await?;
        let mut document = Map::new();
        document.insert("node_id".into(), json!(node_id.as_str()));
        document.insert("websocket_url".into(), json!(self.websocket_url));
        document.insert("rune".into(), json!(rune.expose()));
        document.insert("contact".into(), json!(self.contact));
        if let Some(path) = &self.demo_wallet {
            document.insert("demo_wallet".into(), json!(path));
        }
        Some(document.into())
    }
}

fn read_node_id(path: &Path) -> anyhow::Result<NodeId> {
    let text = read_secret(path)?;
    text.expose().parse().context("it does not contain a node id")
}
