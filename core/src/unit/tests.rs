//! The state machine against a small simulated cluster.

mod attempt;
mod drift;
mod edges;
mod looks;
mod pass;
mod prune;
mod prune_random;
mod random;
mod removal;
mod sim;
mod stages;
mod stalled;
mod status;
mod world;
