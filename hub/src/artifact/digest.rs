//! The digest of an artifact: SHA-256 over its bytes as stored, written `sha256:<hex>` as Flux writes it.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactDigest([u8; 32]);

/// Text that is no `sha256:<hex>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an artifact digest: expected sha256: and 64 hexadecimal digits")]
pub struct InvalidArtifactDigest;

impl ArtifactDigest {
    /// Digests bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// Ends a digest that was fed in pieces.
    pub fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Reads `sha256:<hex>`.
    pub fn parse(text: &str) -> Result<Self, InvalidArtifactDigest> {
        let digits = text.strip_prefix("sha256:").ok_or(InvalidArtifactDigest)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidArtifactDigest)?;
        Ok(Self(bytes))
    }

    /// The digits alone, for file names.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_flux_writes_it_and_reads_back() {
        let digest = ArtifactDigest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(ArtifactDigest::parse(text), Ok(digest));
        for text in ["", &text[7..], "sha512:00", "sha256:xx", &format!("{text}0")] {
            assert!(ArtifactDigest::parse(text).is_err(), "{text}");
        }
    }
}
