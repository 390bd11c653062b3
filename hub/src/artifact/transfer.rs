//! Artifacts on their way to a place and back, part by part: what counts is that something comes of it, not how long the
//! whole takes.

use std::{fs::File, io::Read as _};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{
    GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, Result,
    path::Path as Key,
};

use super::{bounds::Progress, failure::local};

/// Bytes of a part: the least that S3 takes, as each has a minute.
const PART: u64 = 5 << 20;
/// Memory that is taken because a server says how much it will send.
const MAX_AT_ONCE: usize = 64 << 20;

/// Writes a file of `size` bytes from where it stands. What was written of one that fails is taken away again.
pub(super) async fn upload(
    store: &dyn ObjectStore,
    key: &Key,
    mut file: File,
    size: u64,
    progress: &Progress,
) -> Result<()> {
    if size <= PART {
        let (bytes, _) = part(file).await?;
        return store.put(key, bytes).await.map(drop);
    }
    let mut parts = store.put_multipart(key).await?;
    let sent = async {
        let mut rest = size;
        while rest > 0 {
            let (bytes, read) = part(file).await?;
            if bytes.content_length() == 0 {
                return Err(local(std::io::ErrorKind::UnexpectedEof.into()));
            }
            rest = rest.saturating_sub(bytes.content_length() as u64);
            file = read;
            parts.put_part(bytes).await?;
            progress.made();
        }
        parts.complete().await.map(drop)
    };
    if let Err(error) = sent.await {
        // A bucket would keep the parts of a large one for ever.
        if let Err(error) = parts.abort().await {
            tracing::debug!(%error, "what was written of an artifact is left behind");
        }
        return Err(error);
    }
    Ok(())
}

/// The next part of a file, which is given back.
async fn part(file: File) -> Result<(PutPayload, File)> {
    let read = move || {
        let mut bytes = Vec::new();
        let mut part = file.take(PART);
        part.read_to_end(&mut bytes).map_err(local)?;
        Ok((PutPayload::from(bytes), part.into_inner()))
    };
    tokio::task::spawn_blocking(read).await?
}

/// The bytes of an object.
pub(super) async fn download(store: &dyn ObjectStore, key: &Key, progress: &Progress) -> Result<Bytes> {
    let found = store.get(key).await?;
    progress.made();
    // A file is read by one thread, in one go.
    if let GetResultPayload::File(..) = found.payload {
        return found.bytes().await;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.meta.size).unwrap_or(0).min(MAX_AT_ONCE));
    let mut chunks = found.into_stream();
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
        progress.made();
    }
    Ok(bytes.into())
}
