//! The web shop's server: static files, WebSockets to the node and to environments, and printed cards.
//!
//! It has access to its files, to what the plugin writes for it and to the key of tickets, but not to Core Lightning's RPC socket or
//! to keys of remotes. The nodes authorise requests by the visitor's rune. [`settings::Limits`] bounds the time, size and number of everything that a visitor can cause.
//!
//! The log never contains an order's id, a rune or a fragment: for a request it has the name of the route, not the path.
//!
//! ```no_run
//! # async fn example(settings: shop_server::Settings) -> Result<(), shop_server::Error> {
//! let listeners = shop_server::Listeners::bind(&settings).await?;
//! let site = shop_server::Site::new(settings)?;
//! site.serve(listeners, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod assets;
pub mod cards;
mod clients;
mod error;
mod frames;
mod headers;
mod metrics;
mod pool;
mod ration;
mod relay;
mod reply;
mod server;
pub mod settings;
mod shop;
mod site;
mod upgrade;
mod watched;

pub use error::Error;
pub use server::Listeners;
pub use settings::Settings;
pub use site::Site;
