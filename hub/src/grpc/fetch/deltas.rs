//! Deltas between items: what one frame takes with another as its reference.

use std::io::Write as _;

use bytes::Bytes;
use zeroize::Zeroizing;

/// An item as a patch of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) patch: Bytes,
    /// Bytes of the item.
    pub(super) decoded_size: u64,
}

impl Delta {
    pub(super) fn new(patch: Vec<u8>, decoded_size: u64) -> Self {
        Self {
            patch: patch.into(),
            decoded_size,
        }
    }
}

/// A zstd frame of `new` with `old` as reference prefix.
pub(super) fn patch(old: &[u8], new: &Zeroizing<Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 3, old)?;
    // The window must reach back over the new bytes into the old ones.
    let window = (old.len() + new.len())
        .max(1 << 10)
        .next_power_of_two()
        .trailing_zeros()
        .clamp(10, 27);
    encoder.window_log(window)?;
    encoder.long_distance_matching(true)?;
    encoder.include_contentsize(false)?;
    encoder.include_checksum(false)?;
    encoder.write_all(new)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_patch_of_one_changed_line_is_small_and_reads_back() {
        let old = (0..3000)
            .map(|n| format!("key{n}: value{}\n", n * 7919 % 104_729))
            .collect::<String>();
        let new = old.replacen("value0\n", "changed\n", 1);
        let patch = patch(old.as_bytes(), &Zeroizing::new(new.clone().into_bytes())).expect("made");
        assert!(patch.len() < 100, "{} bytes", patch.len());
        let mut decoder =
            zstd::stream::read::Decoder::with_ref_prefix(&patch[..], old.as_bytes()).expect("a frame");
        let mut read = String::new();
        decoder.read_to_string(&mut read).expect("read");
        assert_eq!(read, new);
    }
}
