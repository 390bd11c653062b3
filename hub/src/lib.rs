//! The Flotilla hub: watches sources, records revisions in Postgres, renders, decides which cluster gets what
//! when, and streams desired state to agents.

pub mod artifact;
mod process;
pub mod renderer;
pub mod source;
