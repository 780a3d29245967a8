//! Our RPC methods: parameters in, answers out.
//!
//! Anybody on the internet can call the methods that begin with `lnplaylive-`: they show an order only to the holder of
//! its id, add new orders, and change nothing else than the environment of the order whose id the caller holds. Those that
//! begin with `lnplayops-` are the operator's.

mod buyer;
mod desk;
mod error;
mod operator;
mod params;
mod view;

use std::sync::Arc;

use cln_plugin::{Builder, Plugin, RpcMethodBuilder};
use serde_json::{Value, json};
use tokio::io::{Stdin, Stdout};

use crate::core::Shop;
use error::{Answer, Failure};
pub(super) use view::storefront;

macro_rules! methods {
    ($($name:literal $usage:literal $description:literal => $handler:path;)+) => {
        /// Adds our methods to the plugin.
        pub fn register(builder: Builder<Arc<Shop>, Stdin, Stdout>) -> Builder<Arc<Shop>, Stdin, Stdout> {
            builder$(.rpcmethod_from_builder(
                RpcMethodBuilder::new($name, |plugin: Plugin<Arc<Shop>>, params| {
                    let shop = Arc::clone(plugin.state());
                    async move {
                        // cln-plugin reads the error from a message that is such an object.
                        answer(async move { $handler(&shop, params).await })
                            .await
                            .map_err(|failure| anyhow::anyhow!("{failure}"))
                    }
                })
                .description($description)
                .usage($usage),
            ))+
        }

        /// Calls a method as lightningd would. Returns its answer or its error, `{code, message, data}`; `None` if there is no
        /// such method.
        pub async fn call(shop: &Arc<Shop>, method: &str, params: Value) -> Option<Result<Value, Value>> {
            let shop = Arc::clone(shop);
            match method {
                $($name => Some(answer(async move { $handler(&shop, params).await }).await),)+
                _ => None,
            }
        }
    };
}

methods! {
    "lnplaylive-createorder"
        "node_count hours [coin_distribution] [channel_setup] [names] [title] [node_access] [sku] [ticket]"
        "Order an environment; returns its invoice" => buyer::create_order;
    "lnplaylive-invoicestatus" "payment_type invoice_id" "Status of an order" => buyer::invoice_status;
    "lnplaylive-waitstatus" "invoice_id revision [timeout]"
        "Status of an order, as soon as its revision differs from the one given" => buyer::wait_status;
    "lnplaylive-desk" "invoice_id action [node] [sat] [setup] [blocks] [request]"
        "Act on the environment of an order" => desk::desk;
    "lnplaylive-products" "" "Products, prices and availability" => buyer::products;
    "lnplayops-orders" "[which] [state] [older_than] [newer_than] [limit] [health]"
        "Orders: open (default), closed or all; by state, by age in hours, and by health" => operator::orders;
    "lnplayops-order" "invoice_id" "One order with its whole history" => operator::order;
    "lnplayops-retry" "invoice_id" "Try again to provision an order that failed or waits"
        => operator::retry;
    "lnplayops-replace" "invoice_id [remove_first]"
        "Provision an environment again for the time that is left, in place of the present one"
        => operator::replace;
    "lnplayops-cancel" "invoice_id" "Cancel an order that is not provisioned yet" => operator::cancel;
    "lnplayops-refunded" "invoice_id [note]" "Record that the buyer of a failed order was refunded"
        => operator::refunded;
    "lnplayops-extend" "invoice_id hours" "Add hours to the life of an environment" => operator::extend;
    "lnplayops-forget" "invoice_id project"
        "Stop trying to remove what an abandoned placement of an order has left on a remote" => operator::forget;
    "lnplayops-node" "" "Whether the shop's node can be paid: synchronisation, channels, the largest order"
        => operator::node;
    "lnplayops-remotes" "" "Health and load of the remotes" => operator::remotes;
}

/// Runs a handler in a task of its own, so that a handler that panics is answered too.
async fn answer(handler: impl Future<Output = Answer> + Send + 'static) -> Result<Value, Value> {
    let failure = match tokio::spawn(handler).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(failure)) => failure,
        Err(error) => {
            tracing::error!("a method failed: {error}");
            Failure::internal()
        }
    };
    Err(json!(failure))
}
