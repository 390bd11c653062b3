//! Rendering engines without IO or globals.
pub mod helm;
pub mod kustomize;

pub use flotilla_yaml as yaml;
