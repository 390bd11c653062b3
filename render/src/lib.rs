//! Rendering engines without IO or globals.
<<<<<<< HEAD
pub mod helm;
=======
>>>>>>> 3dd5c95 (render: a native kustomize engine)
pub mod kustomize;
pub mod yaml;
