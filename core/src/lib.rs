//! Every decision Flotilla takes, as pure functions: no IO, no clock, no environment, no async. What a decision
//! needs is gathered by hub or agent and passed in, the time included; what comes out leaves no choice.

pub mod app;
pub mod apply;
pub mod backoff;
pub mod carried;
pub mod cel;
pub mod claim;
pub mod clock;
pub mod content;
pub mod desired;
pub mod digest;
pub mod doubt;
pub mod egress;
pub mod enrol;
pub mod explain;
pub mod fleet;
pub mod health;
pub mod history;
pub mod id;
pub mod identity;
pub mod nest;
pub mod object;
pub mod printable;
#[cfg(test)]
mod random;
pub mod removal;
pub mod rights;
pub mod rollout;
pub mod source;
pub mod status;
pub mod substitute;
pub mod takeover;
pub mod text;
pub mod trace;
pub mod unit;
pub mod units;
pub mod version;
