//! The fleet: which clusters an app goes to.

pub mod departure;
pub mod placement;
pub mod selector;
