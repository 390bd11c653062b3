//! Reads files, and standard input, within bounds.

use std::io::{ErrorKind, Read};

use flotilla_core::text::address::shown_address;

use super::error::{Over, TemplateError};
use crate::Host;

/// The most bytes of a values file, or of one that `--set-file` names.
pub(super) const MAX_FILE_BYTES: u64 = 5 << 20;

pub(super) fn read_file(name: &str, host: &mut Host) -> Result<Vec<u8>, TemplateError> {
    if name.trim() == "-" {
        read_bounded(&mut host.stdin, name, MAX_FILE_BYTES)
    } else {
        let file = std::fs::File::open(name).map_err(|source| match source.kind() {
            ErrorKind::NotFound if name.contains("://") => TemplateError::NotFetched(shown_address(name)),
            _ => unreadable(name, source),
        })?;
        read_bounded(file, name, MAX_FILE_BYTES)
    }
}

pub(super) fn read_bounded(from: impl Read, name: &str, limit: u64) -> Result<Vec<u8>, TemplateError> {
    let mut bytes = Vec::new();
    read_into(&mut bytes, from, name, Over::File(limit), limit)?;
    Ok(bytes)
}

/// Puts what can be read in place of what the buffer holds.
pub(super) fn read_into(
    bytes: &mut Vec<u8>,
    from: impl Read,
    name: &str,
    over: Over,
    limit: u64,
) -> Result<(), TemplateError> {
    bytes.clear();
    from.take(limit + 1)
        .read_to_end(bytes)
        .map_err(|source| unreadable(name, source))?;
    if bytes.len() as u64 > limit {
        return Err(TemplateError::TooLarge {
            path: name.to_owned(),
            over,
        });
    }
    Ok(())
}

pub(super) fn unreadable(path: &str, source: std::io::Error) -> TemplateError {
    TemplateError::Read {
        path: path.to_owned(),
        source,
    }
}
