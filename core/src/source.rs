//! Sources: when one is looked at, what a look does to what is known and shown of it, and what of it becomes an
//! artifact. The same for every kind.

pub mod gitmodules;
pub mod ignore;
mod look;
pub mod paths;
mod state;
#[cfg(test)]
mod tests;

pub use look::{Failure, Found, Look, Remedy};
pub use state::{Due, Event, Next, Present, Spec, State, due, is_present, next, rewritten};
