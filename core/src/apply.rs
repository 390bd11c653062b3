//! Applying a unit's objects: in which order, what with objects already there, which need writing, and whether
//! the live ones still are what was written.
//!
//! Decides only. Reading and writing the cluster, and making the inventory durable, are the agent's.

pub mod drift;
pub mod failure;
pub mod fields;
pub mod ignore;
pub mod inventory;
pub mod managers;
pub mod ownership;
pub mod plan;
pub mod policy;
pub mod protected;
pub mod removal;
pub mod replace;
pub mod stage;

/// The field manager under which every object is applied.
pub const MANAGER: &str = "flotilla";

/// The label that carries our mark: the id of the unit that owns the object. Added at apply, outside content
/// digests.
pub const UNIT_LABEL: &str = "fleet.flotilla.dev/unit";
