//! YAML as Kubernetes, kustomize and Helm mean it: read and written exactly as `sigs.k8s.io/yaml` and go-yaml do.
//!
//! One scanner and one parser give the events of a text; one resolver says what a scalar without quotes means. Two
//! builders make something of the events: [`read`] and [`read_all`] plain values, the [`node`] module trees that keep
//! how each scalar was written. [`places`] tells where fields stand. One emitter writes
//! YAML, and [`json`] the JSON of Go's encoder.

mod binary;
mod encoding;
pub mod json;
mod memory;
mod meter;
mod natural;
pub mod node;
pub mod number;
mod parse;
mod place;
mod plain;
mod read;
mod resolve;
#[cfg(test)]
mod samples;
mod scan;
mod shape;
mod value;
mod write;

pub use encoding::decode;
pub use memory::{NODES_PER_MAP, json_bytes, map_bytes};
pub use place::{Place, places};
pub use read::{EXPANDED, Limits, Meaningless, NODES, ReadError, read, read_all, read_fields};
pub use value::{Map, Value, from_float};
pub use write::{MAX_WRITE_DEPTH, WriteError, push_json, write, write_indented};

/// Whose rules hold: go-yaml's second version, which Kubernetes reads and writes with, or the third, which kustomize
/// parses with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V2,
    V3,
}
