//! The hub from its store to its wire: what its tables promise, and what agents and people get over TLS.

mod agent_stream;
mod budgets;
mod bytes;
mod claims;
mod deploys;
mod enrol;
mod fleet_api;
mod history;
mod hub;
mod hubs;
mod monitoring;
mod partitions;
mod presence;
mod puppet;
mod reconcile;
mod releases;
mod renderings;
mod replicas;
mod reports;
mod rollouts;
mod s3;
mod sharing;
mod statements;
mod store;
mod strangers;
mod world;
