//! What follows from all units of one cluster together: who waits for whom, who owns an object that several want,
//! and in which order units are applied and removed. Pure; asked anew with each entry and each step.

pub mod claims;
pub mod cycle;
mod edges;
mod owners;
mod readiness;
#[cfg(test)]
mod tests;

pub use edges::{Edges, Judgement, Standing, Wait};
pub use owners::{Claim, Owners};
