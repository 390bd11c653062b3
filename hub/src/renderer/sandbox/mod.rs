//! Runs a program that reads hostile input so that it can do nothing but compute: it reads the paths it is given
//! and nothing else, writes nothing, reaches no network, starts no process, signals nobody, and ends at limits of
//! memory, time and output.
//!
//! All of it comes from what an unprivileged process may do to itself (Landlock, seccomp, resource limits), so it
//! works for any user and in containers without privileges. The restrictions are put on by [`confine`] in a fresh
//! process of the hub's own program, which then becomes the confined one; [`run`] is the parent's side.

pub mod confine;
pub mod policy;
pub mod run;

pub use confine::exec;
pub use policy::{Limits, Policy};
pub use run::{Isolation, Job, RunError, Sandbox, SandboxError};
