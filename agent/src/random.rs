//! The one place where the agent draws random numbers.

/// Returns a random number.
pub(crate) fn random() -> u64 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    // The first eight bytes of a version 4 UUID hold four fixed bits; the last eight two.
    bytes[8..]
        .iter()
        .chain(&bytes[..6])
        .fold(0, |all, byte| all.rotate_left(8) ^ u64::from(*byte))
}
