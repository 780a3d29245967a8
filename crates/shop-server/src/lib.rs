//! The web shop's server: static files, ways to the node and to environments, printed cards.
//!
//! It holds files and a route table, nothing else: no access to Core Lightning's RPC socket, no keys. What
//! passes through it to a node is authorised there, by the visitor's rune. Everything that a visitor can
//! make it do is bounded, in time, size and number, by [`settings::Limits`].
//!
//! No order's id, rune or fragment gets into its log: what is logged of a request is the route that matched,
//! never its path.
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
