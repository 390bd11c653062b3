//! The state machine against a small simulated cluster.

mod drift;
mod pass;
mod sim;
mod status;
mod world;
