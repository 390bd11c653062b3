//! The state machine against a small simulated cluster.

mod attempt;
mod drift;
mod edges;
mod pass;
mod random;
mod removal;
mod sim;
mod stages;
mod status;
mod world;
