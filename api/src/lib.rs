//! The configuration kinds of Flotilla.
