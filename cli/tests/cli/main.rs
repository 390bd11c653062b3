//! Whole commands, in-process, against a hub that answers what a test says: output, errors and exit codes.

mod apply;
mod approve;
mod charts;
mod connect;
mod create;
mod deadline;
mod delete;
mod departure;
mod drop_in;
mod explain;
mod fleet;
mod get;
mod history;
mod hub;
mod inventory;
mod kustomize;
mod offline;
mod result;
mod steer;
mod template;
mod template_flags;
mod terminal;
