//! YAML as Kubernetes means it: read and written exactly as `sigs.k8s.io/yaml` does.

mod encoding;
mod meter;
mod natural;
pub mod node;
pub(crate) mod number;
mod plain;
mod read;
pub(crate) mod resolve;
#[cfg(test)]
mod samples;
mod shape;
mod tabs;
mod unfinished;
mod v1_1;
mod value;
pub(crate) mod write;

pub use encoding::decode;
pub(crate) use read::read_fields;
pub use read::{Limits, ReadError, as_yaml_1_2, read, read_all};
pub(crate) use value::from_float;
pub use value::{Map, Value};
pub(crate) use write::push_json;
pub use write::{MAX_WRITE_DEPTH, WriteError, write, write_indented};
