//! The shop's core on fakes: every branch in seconds, and each scenario again with a crash, a lost answer or the operator
//! in between at every single call.

mod archive;
mod availability;
mod breaker;
mod clean_up;
mod clocks;
mod desk;
mod interruptions;
mod layers;
mod metrics;
mod node_watch;
mod operator;
mod payments;
mod prepared;
mod probes;
mod provisioning;
mod rationing;
mod replacement;
mod status;
mod world;
