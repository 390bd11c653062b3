//! The hub's times as `core` and the wire have them: whole milliseconds.

use flotilla_core::clock::Timestamp;
use time::OffsetDateTime;

/// A time in milliseconds since the Unix epoch.
pub(crate) fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}
