//! The methods that anybody may call, `lnplaylive-…`.

use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::catalogue::Selection;
use lnplaylive_core::customisation::{CustomisationError, Title};
use lnplaylive_core::{ChannelSetup, CoinDistribution, Customisation, NodeAccess};
use serde_json::{Value, json};

use super::error::{Answer, Failure};
use super::params::Params;
use super::view;
use crate::core::sales::{NewOrder, Wish};
use crate::core::{Shop, ShopError};

/// Longest that `lnplaylive-waitstatus` waits, in seconds.
const MAX_WAIT_SECS: i64 = 60;
/// Stands for a value that is no number: outside of every range that is checked later.
const NOT_A_NUMBER: i64 = i64::MIN;

pub(super) async fn create_order(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(
        params,
        &[
            "node_count",
            "hours",
            "coin_distribution",
            "channel_setup",
            "names",
            "title",
            "node_access",
            "sku",
            "ticket",
        ],
    )?;
    let sku = params.text("sku")?;
    let node_count = match params.integer("node_count") {
        Ok(count) => Some(count.unwrap_or(NOT_A_NUMBER)),
        Err(_) if sku.is_some() => None,
        Err(missing) => return Err(missing),
    };
    let selection = match (sku, node_count) {
        (Some(sku), node_count) => Selection::Sku { sku, node_count },
        (None, node_count) => Selection::NodeCount(node_count.unwrap_or(NOT_A_NUMBER)),
    };
    let wish = Wish {
        selection,
        hours: params.integer("hours")?.unwrap_or(NOT_A_NUMBER),
        customisation: customisation(&params)?,
        names: params.texts("names")?,
        ticket: params.text("ticket")?,
    };
    let NewOrder { order, bolt11, expires_after } = shop.sales.create_order(wish).await?;
    Ok(json!({
        "invoice_id": order.id,
        "bolt11_invoice_id": order.id,
        "bolt11_invoice": bolt11,
        "amount_msat": order.terms.amount_msat,
        "sku": order.terms.sku,
        "node_count": order.terms.node_count,
        "hours": order.terms.hours,
        "invoice_expires_at": order.invoice_expires_at,
        "expires_after": expires_after,
    }))
}

/// Reads everything that a buyer may choose, apart from size and names.
fn customisation(params: &Params) -> Result<Customisation, Failure> {
    fn chosen<T>(
        params: &Params,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
        refusal: CustomisationError,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = params.text(name)? else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| ShopError::from(refusal).into())
    }
    Ok(Customisation {
        coin_distribution: chosen(
            params,
            "coin_distribution",
            CoinDistribution::from_name,
            CustomisationError::CoinDistribution,
        )?
        .unwrap_or_default(),
        channel_setup: chosen(
            params,
            "channel_setup",
            ChannelSetup::from_name,
            CustomisationError::ChannelSetup,
        )?
        .unwrap_or_default(),
        title: chosen(params, "title", Title::new, CustomisationError::Title)?,
        node_access: chosen(params, "node_access", NodeAccess::from_name, CustomisationError::NodeAccess)?
            .unwrap_or_default(),
        names: Vec::new(),
    })
}

pub(super) async fn invoice_status(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["payment_type", "invoice_id"])?;
    match params.text("payment_type")? {
        None | Some("bolt11") => {}
        Some("bolt12") => return Err(Failure::not_supported("payment_type bolt12")),
        Some(_) => {
            return Err(
                Failure::invalid_param("payment_type", "payment_type must be bolt11").allowing(["bolt11"])
            );
        }
    }
    let found = shop.orders.find_for_buyer(params.order_id()?).await?;
    let snapshot = shop.probes.shown(found.snapshot());
    Ok(view::buyer_status(&snapshot, shop.clock.now(), shop.contact.as_deref()))
}

pub(super) async fn wait_status(shop: &Arc<Shop>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "revision", "timeout"])?;
    let id = params.order_id()?;
    let known = u64::try_from(params.integer_or("revision", 0)?).unwrap_or_default();
    let limit = params.integer_or("timeout", MAX_WAIT_SECS)?.min(MAX_WAIT_SECS);
    let snapshot = shop.status_watch.wait(id, known, Duration::from_secs(limit.unsigned_abs())).await?;
    Ok(view::buyer_status(&snapshot, shop.clock.now(), shop.contact.as_deref()))
}

pub(super) async fn products(shop: &Arc<Shop>, params: Value) -> Answer {
    Params::read(params, &[])?;
    Ok(view::storefront(&shop.sales.shown().await?))
}
