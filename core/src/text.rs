//! Text as Go's libraries read it, where matching Flux to the byte asks for it.

pub(crate) mod glob;
pub mod re2;
pub mod runes;
