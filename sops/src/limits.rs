//! How much of everything is taken. What is more is refused by a limit's name.

/// Bytes of one document: Flux takes as many.
pub const BYTES: usize = 5 << 20;
/// How deep a document nests.
pub const DEPTH: usize = 100;
/// Values of one document, comments included.
pub const VALUES: usize = 200_000;
/// Groups of keys of one document.
pub const GROUPS: usize = 32;
/// Keys of all groups of one document.
pub const KEYS: usize = 256;
/// Bytes of a data key as one key encrypts it.
pub const ENCRYPTED_KEY: usize = 64 << 10;
/// Bytes of an expression that says which values are encrypted.
pub const PATTERN: usize = 4 << 10;
/// Entries of a file of keys, and of all files of a Secret together.
pub const IDENTITIES: usize = 256;
/// Attempts to find which map a comment of a YAML text belongs to.
pub const COMMENT_ATTEMPTS: usize = 100_000;
/// Bytes of a data key, or of a part of one.
pub const DATA_KEY: usize = 256;
/// Bytes of a file with credentials of a service.
pub const CREDENTIALS: usize = 64 << 10;
/// Data keys that a service has opened and that are kept.
pub const OPENED: usize = 20_000;
