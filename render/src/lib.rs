//! Rendering engines without IO or globals.
pub mod helm;
pub mod kustomize;
mod surrogates;

pub use flotilla_yaml as yaml;
