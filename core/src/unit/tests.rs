//! The state machine against a small simulated cluster.

mod drift;
mod pass;
mod random;
mod sim;
mod status;
mod world;
