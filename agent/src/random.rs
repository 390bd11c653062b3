//! The one place where the agent draws random numbers.

use std::time::Duration;

/// Returns a random number.
pub(crate) fn random() -> u64 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    // The first eight bytes of a version 4 UUID hold four fixed bits; the last eight two.
    bytes[8..]
        .iter()
        .chain(&bytes[..6])
        .fold(0, |all, byte| all.rotate_left(8) ^ u64::from(*byte))
}

/// Returns a random part of a duration: full jitter.
pub(crate) fn jittered(most: Duration) -> Duration {
    let nanos = (most.as_nanos().min(u128::from(u64::MAX)) * u128::from(random())) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
