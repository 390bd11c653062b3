//! What a unit needs that goes from one content to another: where it is little, it travels with the state that names the
//! new content, and no agent fetches it. Nothing of a Secret is in it.

use bytes::Bytes;
use flotilla_core::{content::Table, digest::Digest};
use flotilla_proto::agent::v1::{Chunk, ContentKind, Encoding};
use tracing::debug;

use super::{Change, Fetcher, Item, Unmade, Wanted};
use crate::store::content::{Frame, Stored};

/// Bytes of all items of a change, as they travel.
const MOST: usize = 8 << 10;
/// Objects of a change: each may be read for it.
const OBJECTS: usize = 32;
/// Bytes of a content that is compared with another one for this.
const COMPARED: u64 = 1 << 20;

impl Fetcher {
    /// What goes along with a state in which a unit has `new` where it had `old`; `None`: it is fetched. Who does not wait
    /// for it any more takes it from no other.
    pub async fn change(&self, old: Digest, new: Digest) -> Change {
        let this = self.clone();
        let make = || async move {
            let _turn = this.making.acquire().await;
            this.changed(old, new).await
        };
        match self.changes.get((old, new), make).await? {
            Ok(change) => change,
            Err(Unmade::NotHere) => None,
            Err(Unmade::Failed(error)) => {
                debug!(%error, content = %new, "a change is not sent along; its agent fetches it");
                None
            }
        }
    }

    async fn changed(&self, old: Digest, new: Digest) -> Result<Change, Unmade> {
        let digests = [&old.as_bytes()[..], new.as_bytes()];
        let mut found = self.store.content_frames(&digests).await?;
        let mut taken = |digest: &Digest| found.remove(digest.as_bytes()).flatten().ok_or(Unmade::NotHere);
        let (before, after) = (taken(&old)?, taken(&new)?);
        if before.decoded_size.max(after.decoded_size) > COMPARED {
            return Ok(None);
        }
        let compared = tokio::task::spawn_blocking(move || compared(&before, &after)).await;
        // Another try would read the same.
        let Some(objects) = compared.ok().flatten() else {
            return Ok(None);
        };
        let manifest = Wanted {
            kind: ContentKind::Content,
            digest: new,
            base: Some(old),
        };
        let wants: Vec<Wanted> = [manifest].into_iter().chain(objects).collect();
        let mut items = self.items(&wants).await?;
        let mut chunks = Vec::with_capacity(wants.len());
        let mut bytes = 0;
        for want in wants {
            let item = items.remove(&(want.kind as i32, want.digest));
            let item = item.ok_or(Unmade::NotHere)?;
            bytes += item.data.len();
            if bytes > MOST || item.encoding == Encoding::Identity {
                return Ok(None);
            }
            chunks.push(chunk(want, item));
        }
        Ok(Some(chunks.into()))
    }
}

/// The objects that the later of two contents has and the earlier has not, each with the one that it replaces; `None`: they
/// are too many, or cannot be read.
fn compared(before: &Frame, after: &Frame) -> Option<Vec<Wanted>> {
    let table = |frame: &Frame| {
        let plain = Stored::plain(&frame.bytes, frame.decoded_size).ok()?;
        Table::from_bytes(&plain).ok()
    };
    let (before, after) = (table(before)?, table(after)?);
    let mut wants: Vec<Wanted> = Vec::new();
    for (row, former) in after.beside(&before) {
        let (digest, former) = (after.digest(row), former.map(|row| before.digest(row)));
        // The agent fetches a Secret; what is said of it here stands in the content too.
        if former == Some(digest) || after.key(row).is_secret() {
            continue;
        }
        if wants.len() == OBJECTS {
            return None;
        }
        if wants.iter().all(|want| want.digest != digest) {
            wants.push(Wanted {
                kind: ContentKind::Object,
                digest,
                base: former,
            });
        }
    }
    Some(wants)
}

fn chunk(want: Wanted, item: Item) -> Chunk {
    let bytes = |digest: Digest| Bytes::copy_from_slice(digest.as_bytes());
    let base = want.base.filter(|_| item.encoding == Encoding::ZstdDelta);
    Chunk {
        digest: bytes(want.digest),
        kind: want.kind.into(),
        encoding: item.encoding.into(),
        decoded_size: item.decoded_size,
        data: item.data,
        last: true,
        missing: false,
        checksum: item.checksum,
        base: base.map(bytes).unwrap_or_default(),
    }
}

/// The bytes that a change takes.
pub(super) fn weight(change: &Change) -> usize {
    let chunks = change.iter().flat_map(|chunks| chunks.iter());
    chunks
        .map(|chunk| size_of::<Chunk>() + 2 * 32 + chunk.data.len())
        .sum()
}
