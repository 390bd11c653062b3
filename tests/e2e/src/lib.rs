//! A fleet as users run it: the built `flotilla-hub`, `flotilla-agent` and `flotilla` against real control planes
//! and a real Git server. Tests, demo and benchmarks stand on it. What is claimed about a cluster is read from
//! that cluster's API server.

pub mod agent;
pub mod cluster;
pub mod command_line;
pub mod disk;
pub mod hub;
pub mod pod;
pub mod program;
pub mod quiet;
pub mod sim;
pub mod tables;

pub use agent::AgentProcess;
pub use cluster::Objects;
pub use command_line::CommandLine;
pub use hub::HubProcess;
