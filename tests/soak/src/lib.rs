//! The long run: a shop is used, disturbed and broken in every way that the tests know, and then its books are checked.
//!
//! Everything is chosen by a seed: what is ordered and how it is paid, what crashes, which calls of the remotes fail, what the
//! operator does, how the clocks move. Processes run in parallel, so a seed repeats the choices, not every interleaving. See
//! [`books`] for what must hold at the end, [`secrets`] for what must be in no log, and [`clock`] for the time.

pub mod books;
pub mod buyers;
pub mod clock;
pub mod culling;
pub mod dice;
pub mod end;
pub mod findings;
pub mod ledger;
pub mod operator;
pub mod secrets;
pub mod settings;
pub mod survey;
pub mod tally;
pub mod trouble;
pub mod visitors;
pub mod world;
