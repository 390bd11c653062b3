//! Texts that Kubernetes, which reads YAML 1.1, takes otherwise than our parser, which reads YAML 1.2.
//!
//! They are written anew so that the second reads what the first would: [`unified`] before a text is parsed, since
//! it might mean something else; [`lenient`] only once it was refused.

mod block;
mod breaks;
mod lenient;

pub(super) use block::header as block_header;
pub(super) use breaks::{Unclear, unified};
pub(super) use lenient::lenient;
