//! Rendering engines without IO or globals.
