//! The domain of lnplay.live: products and prices, the life of an order, names and formats.
//!
//! Everything here is plain functions over plain data. There is no network, no file system except in [`secret`],
//! [`settings`], [`ticket`],
//! [`products_file`] and [`routes`], no clock (times are passed in) and nothing of Core Lightning or LXD, so that each rule can
//! be read and tested by itself.

pub mod addresses;
pub mod breaker;
pub mod catalogue;
pub mod changes;
pub mod clocks;
pub mod connection;
pub mod culling;
pub mod customisation;
pub mod desk;
pub mod environment;
pub mod expiry;
pub mod health;
pub mod holds;
pub mod ids;
pub mod images;
pub mod order;
pub mod ports;
pub mod prepared;
pub mod products_file;
pub mod progress;
pub mod readiness;
pub mod routes;
pub mod secret;
pub mod settings;
pub mod tags;
pub mod ticket;
pub mod version;
pub mod visitor;

pub use breaker::Breaker;
pub use catalogue::{Catalogue, Product, Sku, Terms};
pub use connection::{ConnectionString, Endpoint, NodeId, Rgb, Scheme};
pub use customisation::Customisation;
pub use environment::{ChannelSetup, CoinDistribution, EnvironmentSpec, NodeAccess};
pub use health::Health;
pub use ids::{OrderId, ProjectName, ShopId};
pub use order::{Event, Order, Placement, Policy, State, Work};
pub use ports::PortBlock;
pub use readiness::Readiness;
pub use routes::{Route, RouteTable};
pub use secret::Secret;
pub use settings::Settings;
pub use tags::ProjectTags;
pub use ticket::{Ticket, TicketKey};
