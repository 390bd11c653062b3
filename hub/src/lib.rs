//! The Flotilla hub: watches sources, records revisions in Postgres, renders, decides which cluster gets what
//! when, and streams desired state to agents.
//!
//! A library with one binary, so that tests run it in their process. `app` wires everything and is the only
//! module that knows all others.

pub mod app;
pub mod artifact;
pub mod auth;
pub mod backup;
mod clock;
pub mod config;
pub mod data_dir;
pub mod database;
pub mod grpc;
pub mod http;
pub mod index;
pub mod lock;
pub mod metrics;
mod pace;
pub mod process;
pub mod renderer;
pub mod source;
pub mod store;
pub mod task;
pub mod trace;
