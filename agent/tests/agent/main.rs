//! Claims about the agent as a whole, over a cluster and storage in memory and in virtual time: the least
//! powerful place where they can fail. What they rely on of the cluster, `real_cluster` holds against real API
//! servers.

#![expect(clippy::unwrap_used, reason = "tests")]

mod acting;
mod adoption;
mod connect;
mod cost;
mod decryption;
mod departure;
mod dependencies;
mod drift;
mod faults;
mod fights;
mod fleet;
mod force;
mod key_services;
mod left;
mod limits;
mod logs;
mod looks;
mod order;
mod ownership;
mod prune;
mod prune_checks;
mod reconcile;
mod recovery;
mod restart;
mod restore;
mod scale;
mod scenes;
mod secrets;
mod stages;
mod switches;
mod watching;
mod widths;
mod wiring;
mod world;
