//! The agent against real API servers: what `agent` claims over a cluster in memory, where the difference matters.
//! State is kept in Secrets, as in production.

#![expect(clippy::unwrap_used, reason = "tests")]

mod acting;
#[path = "../chart/mod.rs"]
mod chart;
mod drift;
mod faults;
mod force;
mod reconcile;
mod rest;
mod rights;
mod rotation;
mod world;
