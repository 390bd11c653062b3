//! Helm's engine: charts, values and templates to manifests.

pub mod archive;
mod ast;
pub mod capabilities;
mod cases;
pub mod chart;
pub mod context;
mod eval;
mod fault;
mod files;
mod funcs;
pub mod hooks;
pub mod ignore;
mod json;
mod lex;
pub mod manifest;
pub mod object;
mod parse;
pub mod pathmatch;
mod print;
mod quote;
pub mod render;
pub mod strvals;
mod time;
mod toml;
mod typed;
pub mod value;
pub mod values;
