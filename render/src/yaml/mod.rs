//! YAML as Kubernetes means it: read and written exactly as `sigs.k8s.io/yaml` does.

pub mod node;
mod value;

pub use value::{Map, Value};
