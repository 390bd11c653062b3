//! Git sources against a real server and against evil ones.

mod credentials;
mod evil;
mod fetching;
mod references;
mod world;
