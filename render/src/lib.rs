//! Rendering engines without IO or globals.
pub mod yaml;
