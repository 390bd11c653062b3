//! Text as Go's libraries read it, where matching Flux to the byte asks for it, and as messages show it.

pub mod address;
pub mod base64;
pub mod edit;
pub(crate) mod glob;
pub mod re2;
pub mod runes;
