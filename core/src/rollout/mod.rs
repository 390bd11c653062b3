//! Rollouts: what moves where, and why something waits.

pub mod admission;
pub mod dependencies;
pub mod plan;
pub mod removal;
pub mod waiting;

#[cfg(test)]
mod tests;
