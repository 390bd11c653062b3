//! What must never happen again, by number: the failures of the reference on reliability (`r26_…`) and the disasters of
//! other fleet tools (`fleet_5406_…`). All share two control planes, a hub and a Git server; who breaks one of these has
//! it to itself. What is claimed about a cluster is read from its API server.

#![expect(clippy::unwrap_used, reason = "tests")]

mod agent;
mod app;
mod deletion;
mod denial;
mod disasters;
mod hubs;
mod identity;
mod own;
mod rest;
mod rig;
mod servers;
