//! Content by digest: objects, contents, values of variables. Writing what is there already only touches it, so
//! that retention counts from the last use. Secret bytes are sealed and never compressed.

use std::{collections::HashMap, io::Read as _, sync::Arc};

use flotilla_core::{content::Content, digest::Digest};
use zeroize::Zeroizing;

use super::{Connection, Result, Store, StoreError};
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

impl Store {
    /// Reads objects, each once.
    pub async fn objects(&self, digests: &[&[u8]], seal: &Seal) -> Result<Found> {
        let rows = sqlx::query!(
            "SELECT digest, bytes, decoded_size, secret FROM object WHERE digest = ANY($1)",
            digests as &[&[u8]]
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let stored = stored(
                    "object",
                    &row.digest,
                    row.bytes,
                    row.decoded_size,
                    row.secret,
                    seal,
                )?;
                Ok((key(&row.digest)?, stored))
            })
            .collect()
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

    /// Reads one content manifest.
    pub async fn content(&self, digest: &[u8]) -> Result<Option<Stored>> {
        Ok(self.contents(&[digest]).await?.into_values().next())
    }

    /// Reads the values of variable layers, each once.
    pub async fn config_values(&self, digests: &[&[u8]], seal: &Seal) -> Result<Found> {
        let rows = sqlx::query!(
            "SELECT digest, bytes, decoded_size, secret FROM config_value WHERE digest = ANY($1)",
            digests as &[&[u8]]
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let stored = stored(
                    "config_value",
                    &row.digest,
                    row.bytes,
                    row.decoded_size,
                    row.secret,
                    seal,
                )?;
                Ok((key(&row.digest)?, stored))
            })
            .collect()
    }
}

fn key(digest: &[u8]) -> Result<[u8; 32]> {
    <[u8; 32]>::try_from(digest).map_err(|e| StoreError::corrupt("digest of a stored item", e))
}

/// Objects in one statement.
const BATCH: usize = 500;
/// Their bytes in one statement.
const BATCH_BYTES: usize = 8 << 20;

/// Rows ready to be written: compressed and sealed outside of any transaction. In one order for all writers, so that two
/// that share blobs wait for each other and never deadlock.
#[derive(Default)]
pub(crate) struct Prepared {
    batches: Vec<Rows>,
}

impl Prepared {
    /// Of objects.
    fn objects(blobs: &[Blob], seal: &Seal) -> Result<Self> {
        Self::of("object", blobs, seal)
    }

    /// Of values of variable layers.
    pub(crate) fn config_values(blobs: &[Blob], seal: &Seal) -> Result<Self> {
        Self::of("config_value", blobs, seal)
    }

    fn of(table: &str, blobs: &[Blob], seal: &Seal) -> Result<Self> {
        let mut batches: Vec<Rows> = Vec::new();
        let mut bytes = 0;
        for blob in in_order(blobs) {
            if batches.last().is_none_or(|rows| rows.digests.len() >= BATCH) || bytes > BATCH_BYTES {
                batches.push(Rows::default());
                bytes = 0;
            }
            bytes += blob.bytes.len();
            if let Some(rows) = batches.last_mut() {
                rows.add(table, blob, seal)?;
            }
        }
        Ok(Self { batches })
    }
}

/// Stores objects, in the caller's transaction.
async fn put_objects(tx: &mut Connection, prepared: &Prepared) -> Result<()> {
    for rows in &prepared.batches {
        sqlx::query!(
            "INSERT INTO object (digest, bytes, decoded_size, secret)
             SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int[], $4::boolean[])
             ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
               WHERE object.referenced_at < now() - interval '1 hour'",
            &rows.digests,
            &rows.bytes,
            &rows.sizes,
            &rows.secrets
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Stores the values of variable layers, in the caller's transaction.
pub(crate) async fn put_config_values(tx: &mut Connection, prepared: &Prepared) -> Result<()> {
    for rows in &prepared.batches {
        sqlx::query!(
            "INSERT INTO config_value (digest, bytes, decoded_size, secret)
             SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int[], $4::boolean[])
             ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
               WHERE config_value.referenced_at < now() - interval '1 hour'",
            &rows.digests,
            &rows.bytes,
            &rows.sizes,
            &rows.secrets
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

impl Store {
    /// Digest of the keys of a content's objects; `None`: a name holds a variable, or there is no such content.
    pub async fn content_keys(&self, content: Digest) -> Result<Option<Digest>> {
        let keys = sqlx::query_scalar!("SELECT keys FROM content WHERE digest = $1", content.as_bytes())
            .fetch_optional(self.pool())
            .await?
            .flatten();
        let digest = keys.as_deref().map(Digest::try_from_slice).transpose();
        digest.map_err(|e| StoreError::corrupt(format!("keys of content {content}"), e))
    }
}

/// A content ready to be written, with its objects: compressed and sealed outside of any transaction, and beside the
/// runtime's own threads, which have streams to serve.
pub(crate) struct PreparedContent {
    digest: [u8; 32],
    frame: Vec<u8>,
    size: i32,
    keys: Option<Vec<u8>>,
    count: i32,
    held: Vec<Vec<u8>>,
    objects: Prepared,
}

impl PreparedContent {
    /// Of a manifest and what it holds.
    pub(crate) async fn of(
        digest: [u8; 32],
        manifest: &Arc<[u8]>,
        objects: &Arc<[Blob]>,
        seal: &Arc<Seal>,
    ) -> Result<Self> {
        let (manifest, objects, seal) = (manifest.clone(), objects.clone(), seal.clone());
        let made = move || {
            Ok(Self {
                digest,
                frame: zstd(&manifest)?,
                size: size(&manifest)?,
                keys: Content::from_bytes(&manifest)
                    .map_err(|e| StoreError::corrupt(format!("content {}", hex::encode(digest)), e))?
                    .keys_digest()
                    .map(|digest| digest.as_bytes().to_vec()),
                count: i32::try_from(objects.len()).map_err(|e| StoreError::corrupt("content count", e))?,
                held: in_order(&objects)
                    .iter()
                    .map(|blob| blob.digest.to_vec())
                    .collect(),
                objects: Prepared::objects(&objects, &seal)?,
            })
        };
        tokio::task::spawn_blocking(made)
            .await
            .map_err(|e| StoreError::corrupt("content to be stored", e))?
    }
}

/// Stores a content manifest and what it holds, in the caller's transaction.
pub(crate) async fn put_content(tx: &mut Connection, content: &PreparedContent) -> Result<()> {
    put_objects(tx, &content.objects).await?;
    let added = sqlx::query_scalar!(
        r#"INSERT INTO content (digest, bytes, decoded_size, objects, keys) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
         RETURNING (xmax = 0) AS "added!""#,
        &content.digest[..],
        content.frame,
        content.size,
        content.count,
        content.keys
    )
    .fetch_one(&mut *tx)
    .await?;
    if added {
        sqlx::query!(
            "INSERT INTO content_object (content, object) SELECT $1, o FROM unnest($2::bytea[]) AS o",
            &content.digest[..],
            &content.held
        )
        .execute(tx)
        .await?;
    }
    Ok(())
}

#[derive(Default)]
struct Rows {
    digests: Vec<Vec<u8>>,
    bytes: Vec<Vec<u8>>,
    sizes: Vec<i32>,
    secrets: Vec<bool>,
}

/// Each blob once, since one statement may not touch a row twice.
fn in_order(blobs: &[Blob]) -> Vec<&Blob> {
    let mut ordered: Vec<&Blob> = blobs.iter().collect();
    ordered.sort_by_key(|blob| blob.digest);
    ordered.dedup_by_key(|blob| blob.digest);
    ordered
}

impl Rows {
    fn add(&mut self, table: &str, blob: &Blob, seal: &Seal) -> Result<()> {
        let bytes = if blob.secret {
            let place = place(table, &blob.digest);
            seal.seal(&place, &blob.bytes)
                .map_err(|e| StoreError::corrupt(place, e))?
        } else {
            zstd(&blob.bytes)?
        };
        self.digests.push(blob.digest.to_vec());
        self.bytes.push(bytes);
        self.sizes.push(size(&blob.bytes)?);
        self.secrets.push(blob.secret);
        Ok(())
    }
}

fn stored(
    table: &str,
    digest: &[u8],
    bytes: Vec<u8>,
    size: i32,
    secret: bool,
    seal: &Seal,
) -> Result<Stored> {
    if secret {
        let place = place(table, digest);
        let plain = seal
            .open(&place, &bytes)
            .map_err(|e| StoreError::corrupt(place, e))?;
        Ok(Stored::Secret(plain))
    } else {
        Ok(Stored::Zstd {
            frame: bytes,
            decoded_size: u64::from(size.unsigned_abs()),
        })
    }
}

fn place(table: &str, digest: &[u8]) -> String {
    format!("{table}/bytes/{}", hex::encode(digest))
}

fn size(bytes: &[u8]) -> Result<i32> {
    i32::try_from(bytes.len()).map_err(|e| StoreError::corrupt("blob size", e))
}

fn zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).map_err(|e| StoreError::corrupt("zstd frame", e))
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

#[cfg(test)]
mod tests {
    use flotilla_core::content::Objects;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_compressed_and_sealed_holds_up_no_other_task() {
        let content = Content::Objects(Objects {
            entries: Vec::new(),
            count: 0,
            complete: true,
        });
        let digest = *content.digest().as_bytes();
        let manifest: Arc<[u8]> = content.to_bytes().into();
        let blob = Blob {
            digest: [1; 32],
            bytes: Zeroizing::new(vec![7; 1 << 20]),
            secret: true,
        };
        let (objects, seal): (Arc<[Blob]>, _) = (vec![blob].into(), Arc::new(Seal::new([1; 32])));
        let mut preparing = Box::pin(PreparedContent::of(digest, &manifest, &objects, &seal));
        assert!(
            (&mut preparing).now_or_never().is_none(),
            "nothing of it is done on this thread"
        );
        let prepared = preparing.await.expect("prepared");
        assert_eq!((prepared.count, prepared.held.len()), (1, 1));
    }
}
