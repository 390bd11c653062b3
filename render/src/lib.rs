//! Rendering engines without IO or globals.
pub mod kustomize;
pub mod yaml;
