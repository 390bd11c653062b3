//! Sources: when one is looked at, what a look does to what is known and shown of it, and what of it becomes an
//! artifact. The same for every kind.

pub mod ignore;
mod state;
#[cfg(test)]
mod tests;

pub use state::{
    Due, Event, Failure, Found, Look, Next, Present, Remedy, Spec, State, due, is_present, next,
};
