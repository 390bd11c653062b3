//! The state machine against a small simulated cluster.

mod attempt;
mod drift;
mod pass;
mod random;
mod removal;
mod sim;
mod status;
mod world;
