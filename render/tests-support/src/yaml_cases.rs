//! Values and texts of YAML: tables of them, and random ones built of parts that are known to be told apart by readers
//! and writers of YAML 1.1.

mod random;
mod texts;
mod values;

pub use random::{broken_lines, damage, value};
pub use texts::texts;
pub use values::values;
