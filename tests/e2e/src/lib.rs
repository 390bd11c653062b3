//! A fleet as users run it: the built `flotilla-hub`, `flotilla-agent` and `flotilla` against real control planes
//! and a real Git server. Tests, demo and benchmarks stand on it. What is claimed about a cluster is read from
//! that cluster's API server.

pub mod agent;
pub mod cluster;
pub mod hub;
pub mod pod;
pub mod program;
pub mod sim;

pub use agent::AgentProcess;
pub use cluster::Objects;
pub use hub::HubProcess;
