//! Git sources against a real server and against evil ones.

mod credentials;
mod evil;
mod fetching;
mod made_of;
mod references;
mod ssh;
mod world;
