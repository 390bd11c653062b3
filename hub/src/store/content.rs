//! Content by digest: objects, contents, values of variables. Secret bytes are sealed and never compressed.

mod part;
mod write;

use std::{collections::HashMap, io::Read as _, sync::Arc};

use flotilla_core::{content::Content, digest::Digest};
pub(super) use write::{Known, Made, Prepared, PreparedContent, put_config_values, put_contents};
use zeroize::Zeroizing;

use super::{Result, Store, StoreError};
use crate::auth::seal::Seal;

/// Level at which content is compressed once, at rest, for every reader.
const ZSTD_LEVEL: i32 = 3;

/// Something to store under its digest.
#[derive(Clone)]
pub struct Blob {
    /// Digest of the plain bytes.
    pub digest: [u8; 32],
    /// Plain bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// A Secret's.
    pub secret: bool,
}

/// What is stored under a digest.
pub enum Stored {
    /// zstd frame, passed through as it is.
    Zstd {
        /// The frame.
        frame: Vec<u8>,
        /// Bytes after decoding.
        decoded_size: u64,
    },
    /// An opened secret.
    Secret(Zeroizing<Vec<u8>>),
}

impl Stored {
    /// The plain bytes of a frame.
    pub fn plain(frame: &[u8], decoded_size: u64) -> Result<Zeroizing<Vec<u8>>> {
        unzstd(frame, decoded_size).map(Zeroizing::new)
    }

    /// The plain bytes.
    pub fn to_plain(&self) -> Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Secret(bytes) => Ok(bytes.clone()),
            Self::Zstd { frame, decoded_size } => Self::plain(frame, *decoded_size),
        }
    }

    /// The plain bytes.
    pub fn into_plain(self) -> Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Secret(bytes) => Ok(bytes),
            Self::Zstd { .. } => self.to_plain(),
        }
    }
}

/// What was found, by digest. What is not there is left out.
pub type Found = HashMap<[u8; 32], Stored>;

/// Items as they lie there, by digest; `None`: a Secret's, which is not opened.
pub type Frames = HashMap<[u8; 32], Option<Frame>>;

/// The zstd frame of an item that is no Secret's.
pub struct Frame {
    /// The frame.
    pub bytes: Vec<u8>,
    /// Bytes after decoding.
    pub decoded_size: u64,
}

/// An item as it lies there.
struct Row {
    digest: Vec<u8>,
    bytes: Vec<u8>,
    decoded_size: i32,
    secret: bool,
}

impl Row {
    fn frame(self) -> Result<([u8; 32], Option<Frame>)> {
        let frame = Frame {
            bytes: self.bytes,
            decoded_size: u64::from(self.decoded_size.unsigned_abs()),
        };
        Ok((key(&self.digest)?, (!self.secret).then_some(frame)))
    }

    fn open(self, table: &str, seal: &Seal) -> Result<([u8; 32], Stored)> {
        let stored = if self.secret {
            let aad = aad(table, &self.digest);
            let plain = seal
                .open(&aad, &self.bytes)
                .map_err(|e| StoreError::corrupt(aad, e))?;
            Stored::Secret(plain)
        } else {
            Stored::Zstd {
                frame: self.bytes,
                decoded_size: u64::from(self.decoded_size.unsigned_abs()),
            }
        };
        Ok((key(&self.digest)?, stored))
    }
}

impl Store {
    /// Reads objects, each once.
    pub async fn objects(&self, digests: &[&[u8]], seal: &Seal) -> Result<Found> {
        let rows = self.object_rows(digests).await?;
        rows.into_iter().map(|row| row.open("object", seal)).collect()
    }

    /// Reads the frames of objects, each once.
    pub async fn object_frames(&self, digests: &[&[u8]]) -> Result<Frames> {
        let rows = self.object_rows(digests).await?;
        rows.into_iter().map(Row::frame).collect()
    }

    async fn object_rows(&self, digests: &[&[u8]]) -> Result<Vec<Row>> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT digest, bytes, decoded_size, secret FROM object WHERE digest = ANY($1)",
            digests as &[&[u8]]
        );
        Ok(rows.fetch_all(self.pool()).await?)
    }

    /// Reads content manifests, each once.
    pub async fn contents(&self, digests: &[&[u8]]) -> Result<Found> {
        let rows = sqlx::query!(
            "SELECT digest, bytes, decoded_size FROM content WHERE digest = ANY($1)",
            digests as &[&[u8]]
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let stored = Stored::Zstd {
                    frame: row.bytes,
                    decoded_size: u64::from(row.decoded_size.unsigned_abs()),
                };
                Ok((key(&row.digest)?, stored))
            })
            .collect()
    }

    /// Reads the frames of content manifests, each once.
    pub async fn content_frames(&self, digests: &[&[u8]]) -> Result<Frames> {
        let found = self.contents(digests).await?;
        let frames = found.into_iter().map(|(digest, stored)| match stored {
            Stored::Zstd { frame, decoded_size } => {
                let frame = Frame {
                    bytes: frame,
                    decoded_size,
                };
                (digest, Some(frame))
            }
            Stored::Secret(_) => (digest, None),
        });
        Ok(frames.collect())
    }

    /// Reads the values of variable layers, each once.
    pub async fn config_values(&self, digests: &[&[u8]], seal: &Seal) -> Result<Found> {
        let rows = self.config_rows(digests).await?;
        rows.into_iter()
            .map(|row| row.open("config_value", seal))
            .collect()
    }

    /// Reads the frames of such values, each once.
    pub async fn config_frames(&self, digests: &[&[u8]]) -> Result<Frames> {
        let rows = self.config_rows(digests).await?;
        rows.into_iter().map(Row::frame).collect()
    }

    async fn config_rows(&self, digests: &[&[u8]]) -> Result<Vec<Row>> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT digest, bytes, decoded_size, secret FROM config_value WHERE digest = ANY($1)",
            digests as &[&[u8]]
        );
        Ok(rows.fetch_all(self.pool()).await?)
    }
}

fn key(digest: &[u8]) -> Result<[u8; 32]> {
    <[u8; 32]>::try_from(digest).map_err(|e| StoreError::corrupt("digest of a stored item", e))
}

/// A content manifest, or that there is no need of it.
pub enum Manifest {
    /// Its objects have the keys that are known.
    Known,
    /// They have others, or a name holds a variable.
    Read(Stored),
}

impl Store {
    /// Stores the content that holds nothing.
    pub async fn put_nothing(&self, content: &Content, seal: &Arc<Seal>) -> Result<()> {
        let manifest: Arc<[u8]> = content.to_bytes().into();
        let digest = *content.digest().as_bytes();
        let objects: Arc<[Blob]> = Vec::new().into();
        let made = Made {
            digest,
            manifest,
            objects,
            known: Known::default(),
        };
        let prepared = PreparedContent::of(vec![made], seal).await?;
        let mut tx = self.pool().begin().await?;
        put_contents(&mut tx, &prepared).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Reads a content manifest unless its objects have the keys of which this is the digest; `None`: there is none.
    pub async fn manifest(&self, content: Digest, known: Option<Digest>) -> Result<Option<Manifest>> {
        let row = sqlx::query!(
            "SELECT CASE WHEN keys IS DISTINCT FROM $2 OR keys IS NULL THEN bytes END AS bytes, decoded_size
             FROM content WHERE digest = $1",
            content.as_bytes(),
            known.map(|known| known.as_bytes().to_vec())
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| {
            row.bytes.map_or(Manifest::Known, |frame| {
                Manifest::Read(Stored::Zstd {
                    frame,
                    decoded_size: u64::from(row.decoded_size.unsigned_abs()),
                })
            })
        }))
    }
}

/// Associated data of a sealed row.
fn aad(table: &str, digest: &[u8]) -> String {
    format!("{table}/bytes/{}", hex::encode(digest))
}

fn size(bytes: &[u8]) -> Result<i32> {
    i32::try_from(bytes.len()).map_err(|e| StoreError::corrupt("blob size", e))
}

/// Compresses one after the other: to make what that needs takes longer than to compress a small object.
#[derive(Default)]
struct Compressing(Option<zstd::bulk::Compressor<'static>>);

impl Compressing {
    fn frame(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let corrupt = |e| StoreError::corrupt("zstd frame", e);
        let compressor = match &mut self.0 {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(corrupt)?),
        };
        compressor.compress(bytes).map_err(corrupt)
    }
}

fn unzstd(frame: &[u8], decoded_size: u64) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    let decoder =
        zstd::stream::read::Decoder::new(frame).map_err(|e| StoreError::corrupt("zstd frame", e))?;
    decoder
        .take(decoded_size.saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(|e| StoreError::corrupt("zstd frame", e))?;
    if u64::try_from(plain.len()) != Ok(decoded_size) {
        return Err(StoreError::corrupt(
            "zstd frame",
            "its size is not the recorded one",
        ));
    }
    Ok(plain)
}
