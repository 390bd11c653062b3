//! What users write: good documents, bad documents, any documents.

mod invalid;
mod old_versions;
mod parse;
mod properties;
mod support;
