//! The state machine against a small simulated cluster.

mod attempt;
mod drift;
mod edges;
mod pass;
mod random;
mod refused;
mod removal;
mod sim;
mod stages;
mod status;
mod world;
