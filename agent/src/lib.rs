//! The Flotilla agent: applies a cluster's desired state, corrects drift, judges health and reports, with or
//! without the hub. `link` talks to the hub, `ledger` remembers, `reconcile` decides and acts, `cluster` is the
//! API server.

pub mod agent;
mod blocking;
pub mod causes;
pub mod cluster;
pub mod health_port;
pub mod key_services;
pub mod ledger;
pub mod ledger_watch;
pub mod link;
#[cfg(any(test, feature = "testing"))]
pub mod logs;
pub mod metrics;
mod random;
pub mod reconcile;
pub mod report;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
