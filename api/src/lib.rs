//! The configuration kinds of Flotilla: what a user writes, read from YAML, converted from old versions,
//! validated with field paths, and kept as typed values.
//!
//! No IO, no clock, and no decision about what a resource causes: the hub decides that. What this release
//! does not reconcile yet is named in [`support`].

pub mod access;
pub mod convert;
pub mod id;
pub mod kind;
pub mod kinds;
pub mod meta;
mod metadata;
pub mod nested;
pub mod parse;
pub mod problem;
pub mod resource;
pub mod secret;
mod shape;
pub mod support;
pub mod text;
pub mod yaml;

pub use id::{ResourceId, Scope};
pub use kind::Kind;
pub use parse::{Mode, Options, Parsed, parse, parse_value};
pub use problem::{FieldPath, Invalid, Problem};
pub use resource::Resource;
pub use secret::SecretData;
