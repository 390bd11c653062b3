//! The Flotilla agent.
