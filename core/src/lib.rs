//! Every decision Flotilla takes, as pure functions.
