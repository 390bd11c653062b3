//! A content that differs little from one that is stored already is stored as what differs. In memory each is whole.
//! What is written anew from memory is written whole, so that a delta never outlives what it is against.

use std::sync::Arc;

use flotilla_core::{content::Content, digest::Digest};

use super::{
    blob::{Blob, BlobKind, LEVEL},
    blobs::Blobs,
};

/// Deltas that stand behind one another, before the next is written whole.
pub(super) const CHAIN: u8 = 8;
/// A window above 16 MiB is for nothing that an agent takes.
const WINDOW_LOG_MAX: u32 = 24;

/// A content as what differs from another.
#[derive(Debug, Clone)]
pub struct Delta {
    /// Its digest.
    pub(super) digest: Digest,
    /// What it is against: a content whose record comes before.
    pub(super) base: Digest,
    /// How many deltas stand behind one another, with this one.
    pub(super) depth: u8,
    /// Bytes when decompressed.
    pub(super) size: u32,
    /// Compressed, with the base before it.
    pub(super) zstd: Arc<[u8]>,
}

impl Delta {
    /// Makes a delta; `None` where it saves little.
    pub(super) fn new(digest: Digest, blob: &Blob, base: (Digest, &Blob), depth: u8) -> Option<Self> {
        let zstd = deflate(&blob.bytes().ok()?, &base.1.bytes().ok()?).ok()?;
        (zstd.len() < blob.room() / 2).then(|| Self {
            digest,
            base: base.0,
            depth,
            size: blob.size,
            zstd: zstd.into(),
        })
    }

    /// Returns the content, in whose bytes its digest is found again; `None`: the base is not here, or not what it was.
    pub(super) fn resolve(&self, blobs: &Blobs) -> Option<Blob> {
        let base = blobs.get(&self.base)?.bytes().ok()?;
        let bytes = inflate(&self.zstd, Some(&base), self.size.into()).ok()?;
        if bytes.len() as u64 != u64::from(self.size) || Content::digest_of(&bytes) != self.digest {
            return None;
        }
        Blob::new(BlobKind::Content, &bytes).ok()
    }
}

/// Compresses bytes with others before them.
fn deflate(bytes: &[u8], base: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), LEVEL, base)?;
    // The window reaches back over the new bytes into the old ones.
    let window = (base.len() + bytes.len()).next_power_of_two().trailing_zeros();
    encoder.window_log(window.clamp(10, WINDOW_LOG_MAX))?;
    encoder.long_distance_matching(true)?;
    encoder.include_contentsize(false)?;
    encoder.include_checksum(false)?;
    std::io::Write::write_all(&mut encoder, bytes)?;
    encoder.finish()
}

/// Decompresses bytes, with others before them where there are any. `size` bounds what is read: one byte more tells that
/// there is more.
pub(crate) fn inflate(data: &[u8], base: Option<&[u8]>, size: u64) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    let mut decoder = match base {
        Some(base) => zstd::stream::read::Decoder::with_ref_prefix(data, base),
        None => zstd::stream::read::Decoder::with_buffer(data),
    }?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, size + 1), &mut out)?;
    Ok(out)
}
