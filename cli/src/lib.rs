//! The flotilla command.
