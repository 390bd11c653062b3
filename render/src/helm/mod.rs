//! Helm's engine: charts, values and templates to manifests.

pub mod archive;
pub mod capabilities;
pub mod chart;
pub mod hooks;
pub mod ignore;
pub mod manifest;
pub mod pathmatch;
pub mod strvals;
mod typed;
pub mod values;
