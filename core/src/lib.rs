//! Every decision Flotilla takes, as pure functions.

pub mod version;
