//! The shop without its surroundings: orders, availability, and the provisioning of paid orders.
//!
//! The core speaks [`ShopError`] and reaches the node, the datastore, the remotes and the clock through the traits in
//! [`interfaces`]. It knows nothing of JSON-RPC, Core Lightning or LXD, so tests run all of it on fakes.
//!
//! Files import each other in one direction only, from the bottom of this list to its top:
//!
//! ```text
//! error, storefront, interfaces,
//! snapshot                         plain data and traits
//! reminder                         when to log again what lasts
//! clocks                           this machine's clock and the remotes'
//! tally                            counts what happens
//! order_handle                     one open order and its record
//! expired_orders                   orders that expired unpaid, for a while
//! order_book                       all open orders; closing and reopening
//! availability                     the remotes' answers, and what is reserved on them
//! pool                             the environments that are prepared for orders to come
//! pace                             the clock of rate limits
//! admission                        who may order
//! node_watch                       whether the node can be paid
//! routes                           the gateway's route table
//! recording                        events of orders that may be open or closed
//! cards                            the runes in orders' records, and those that nodes have
//! probes                           the health of environments that were handed over
//! archive                          orders that have ended
//! clean_up                         removes what abandoned placements have left
//! preparing                        keeps the pool as it should be
//! worker                           takes a paid order through its steps
//! sales, operator, status_watch,
//! desk                             the callers' actions
//! products                         what is sold, for the web shop's server
//! observer                         what the operator's monitoring sees
//! shop                             puts it together and runs the background tasks
//! ```

pub mod admission;
pub mod archive;
pub mod availability;
pub mod cards;
pub mod clean_up;
pub mod clocks;
pub mod desk;
pub mod error;
pub mod expired_orders;
pub mod interfaces;
pub mod node_watch;
pub mod observer;
pub mod operator;
pub mod order_book;
pub mod order_handle;
pub mod pace;
pub mod pool;
pub mod preparing;
pub mod probes;
pub mod products;
pub mod recording;
pub mod reminder;
pub mod routes;
pub mod sales;
pub mod shop;
pub mod snapshot;
pub mod status_watch;
pub mod storefront;
pub mod tally;
pub mod worker;

pub use error::ShopError;
pub use shop::{Backends, Shop};
pub use snapshot::Snapshot;
