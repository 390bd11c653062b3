//! Documents and Kubernetes objects encrypted with SOPS: their formats, the keys that open them, and their values as
//! Flux would have them. Pure: no IO, no clock; whoever calls brings the keys, and carries what is asked of services that
//! have some.
//!
//! [`object::decrypt`] is what the agent does with each object; [`document::decrypt`] is the same for a file that stands
//! in a Secret. No error holds a value, and no key prints itself.

mod cipher;
pub mod document;
mod error;
mod format;
pub mod keys;
pub mod limits;
pub mod object;
mod rule;
pub mod services;
pub mod stanza;
mod tree;

pub use document::Integrity;
pub use error::{Error, ValueProblem};
pub use format::Format;
pub use keys::{KeyError, KeyService, Keys, Unasked};
pub use services::{AskError, Transport};
