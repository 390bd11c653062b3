//! What tests of the rendering engines share: the reference programs, which are built from Go sources and asked line
//! by line, one source of random inputs, and the tables of templates, charts and texts of YAML.

pub mod charts;
mod described;
mod oracle;
mod program;
mod random;
pub mod rendered;
pub mod templates;
pub mod yaml_cases;

pub use described::describe;
pub use oracle::{Answer, Oracle, Output, aborted, shown};
pub use program::Program;
pub use random::{Random, cases, seed};
