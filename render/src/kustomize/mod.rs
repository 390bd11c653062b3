//! kustomize without Go: builds a directory of a tree into objects, as kustomize v5.8.1 does.
//!
//! Pure: no IO, no globals, no clock. The caller brings the tree and the bounds; the result says what was read.

mod additions;
mod build;
mod carried;
mod config;
mod crds;
mod decode;
mod deprecation;
mod depth;
mod error;
mod expression;
mod fieldspec;
mod file_names;
mod files;
mod generate;
mod generators;
mod id;
mod jsonpatch;
mod kustomization;
mod listed;
mod load;
mod merge;
mod origin;
mod paths;
mod plugins;
mod reader;
mod reads;
mod resmap;
mod resource;
mod schema;
mod selector;
mod steps;
mod tables;
mod target;
mod transform;
mod tree;
mod unknown;

use crate::yaml::node::Limits;

pub use build::{
    KUSTOMIZE_VERSION, Object, RenderInput, Rendered, Restriction, build, build_each, build_each_with_file,
};
pub use deprecation::Deprecation;
pub use error::{BuildError, Place};
pub use file_names::file_names;
pub use files::PathError;
pub use generate::{GenerateError, Generated, Image, Options as GenerateOptions, generate};
pub use load::LoadError;
pub use paths::Paths;
pub use reads::{Dependency, ReadSet};
pub use tree::{Entry, MemoryTree, Overlay, Tree};

/// The names a kustomization file may have; a directory has at most one of them.
pub const KUSTOMIZATION_FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Bounds on one build.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// How many files may be read, repeats included.
    pub files: usize,
    /// How many bytes may be read, repeats included.
    pub bytes: usize,
    /// How deep directories and kustomizations may nest.
    pub depth: usize,
    /// How large one YAML document may grow.
    pub yaml: Limits,
    /// How many steps a build may take: objects visited by transformers, fields followed by references, rows of lists
    /// compared by patches.
    pub steps: u64,
    /// How many bytes of text a build may make: what it writes into objects, and the objects it returns.
    pub output: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            files: 100_000,
            bytes: 100 << 20,
            depth: 64,
            yaml: Limits::default(),
            steps: 500_000_000,
            output: 256 << 20,
        }
    }
}
