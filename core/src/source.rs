//! What of a source becomes an artifact.

pub mod ignore;
