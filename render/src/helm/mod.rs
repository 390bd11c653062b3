//! Helm's engine: charts, values and templates to manifests.

pub mod archive;
mod ast;
mod bytes;
pub mod capabilities;
mod cases;
pub mod chart;
pub mod context;
pub mod driver;
mod eval;
mod fault;
mod files;
mod funcs;
mod glob;
pub mod hooks;
pub mod ignore;
pub mod index;
mod json;
mod keys;
mod lex;
pub mod manifest;
pub mod object;
#[cfg(test)]
#[path = "../../tests/oracle/mod.rs"]
mod oracle;
mod parse;
pub mod pathmatch;
mod print;
mod quote;
pub mod render;
mod requirements;
pub mod schema;
pub mod scope;
pub mod strvals;
mod time;
mod toml;
mod typed;
pub mod value;
pub mod values;
