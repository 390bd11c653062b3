//! The Flotilla hub.
