//! The wire between hub, agent and clients.
