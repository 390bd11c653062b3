//! Content to agents: only what is reachable from the cluster's published entries, compressed once at rest and
//! passed through, or as a delta against what the agent holds. Secrets share no compression context.

mod change;
mod deltas;
mod kept;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use deltas::{Delta, patch};
use flotilla_core::digest::Digest;
use flotilla_proto::agent::v1::{Chunk, ContentKind, Encoding, FetchRequest};
use kept::Kept;
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;
use tracing::warn;
use uuid::Uuid;

use super::status::from_store;
use crate::{
    auth::seal::Seal,
    store::{
        Store, StoreError,
        content::{Found, Frame, Frames, Stored},
        publish::{Question, Reachable},
        together::Together,
    },
};

/// Bytes of one chunk.
const CHUNK: usize = 1 << 20;
/// Items of one request.
const MAX_WANTS: usize = 10_000;
/// Above this a delta's window grows too large; the whole item is sent.
const MAX_DELTA_BASE: u64 = 16 << 20;
/// A question that names more is asked by itself: it may take as long as those of many others. What changed in one object
/// is two questions of two.
const SMALL: usize = 8;
/// Bytes of deltas kept.
const DELTAS: usize = 64 << 20;
/// Bytes of changes kept.
const CHANGES: usize = 16 << 20;
/// Changes made at the same time: agents that fetch use the same connections, and they wait.
const MAKING: usize = 4;
/// Items read at once: what an agent is slow to take is held meanwhile.
const TOGETHER: usize = 32;

/// Serves content.
#[derive(Clone)]
pub struct Fetcher {
    store: Store,
    seal: Arc<Seal>,
    /// A delta is made once for all agents that go the same way.
    deltas: Arc<Kept<Way, Option<Delta>, Unmade>>,
    /// And so is what a unit needs that goes from one content to another.
    changes: Arc<Kept<(Digest, Digest), Change, Unmade>>,
    /// Those that are made at the same time.
    making: Arc<Semaphore>,
    reachable: Together<Question, Reachable>,
}

type Chunks = mpsc::Sender<Result<Chunk, Status>>;
/// Of what, and to what, a delta leads, and what they are: under another kind there is nothing.
type Way = (ContentKind, Digest, Digest);
/// The items of a change, where they are few and small.
type Change = Option<Arc<[Chunk]>>;

impl Fetcher {
    /// A fetcher over the store.
    pub fn new(store: Store, seal: Arc<Seal>) -> Self {
        let asking = store.clone();
        let reachable = Together::start(move |questions: Vec<Question>| {
            let store = asking.clone();
            async move { store.reachable(&questions).await }
        });
        Self {
            store,
            seal,
            deltas: Arc::new(Kept::new(DELTAS, |delta| {
                delta.as_ref().map_or(0, |delta| delta.patch.len())
            })),
            changes: Arc::new(Kept::new(CHANGES, change::weight)),
            making: Arc::new(Semaphore::new(MAKING)),
            reachable,
        }
    }

    /// Answers a request of a cluster: with what is reachable from its published entries.
    pub async fn serve(&self, cluster: Uuid, request: FetchRequest, chunks: &Chunks) -> Result<(), Status> {
        if request.want.len() > MAX_WANTS {
            return Err(Status::invalid_argument(format!(
                "more than {MAX_WANTS} items in one request"
            )));
        }
        let mut wants = Vec::with_capacity(request.want.len());
        let mut named = HashSet::new();
        for want in &request.want {
            let digest = Digest::try_from_slice(&want.digest)
                .map_err(|_| Status::invalid_argument("want.digest is not a digest"))?;
            if named.insert((want.kind, digest)) {
                wants.push(Wanted {
                    kind: want.kind(),
                    digest,
                    base: Digest::try_from_slice(&want.base).ok(),
                });
            }
        }
        let reachable = self.reachable(cluster, &wants).await?;
        for want in &mut wants {
            want.base = want.base.filter(|base| reachable.bases.contains(base));
        }
        let may_have = |want: &Wanted| reachable.wanted.contains(&want.digest);
        for some in wants.chunks(TOGETHER) {
            let allowed: Vec<Wanted> = some.iter().copied().filter(may_have).collect();
            let mut items = self.items(&allowed).await.map_err(from_store)?;
            for want in some {
                let item = items.remove(&(want.kind as i32, want.digest));
                if send(chunks, want.kind, want.digest, item).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What is to be sent of these. Nothing is read of what there is a delta of.
    async fn items(&self, wants: &[Wanted]) -> Result<Items, StoreError> {
        let mut items = Items::new();
        let mut whole = Vec::new();
        for want in wants {
            match self.delta(want).await {
                Some(delta) => drop(items.insert((want.kind as i32, want.digest), delta.into())),
                None => whole.push(*want),
            }
        }
        for kind in [ContentKind::Content, ContentKind::Object, ContentKind::Config] {
            let of_kind = whole.iter().filter(|want| want.kind == kind);
            let digests: Vec<&[u8]> = of_kind.map(|want| &want.digest.as_bytes()[..]).collect();
            if digests.is_empty() {
                continue;
            }
            for (digest, stored) in self.stored(kind, &digests).await? {
                items.insert((kind as i32, Digest::from_bytes(digest)), stored.into());
            }
        }
        Ok(items)
    }

    /// What is wanted, as a patch of its base. It is made once; where it is not, for whatever reason, the item is sent
    /// whole.
    async fn delta(&self, want: &Wanted) -> Option<Delta> {
        let Wanted { kind, digest, base } = *want;
        let base = base?;
        let this = self.clone();
        let make = || async move { this.made(kind, base, digest).await };
        match self.deltas.get((kind, base, digest), make).await? {
            Ok(delta) => delta,
            Err(Unmade::NotHere) => None,
            Err(Unmade::Failed(error)) => {
                warn!(%error, item = %digest, "no patch is made; the item is sent whole");
                None
            }
        }
    }

    /// A patch, of what one statement reads; `None`: there is none of these two.
    async fn made(&self, kind: ContentKind, base: Digest, digest: Digest) -> Result<Option<Delta>, Unmade> {
        let mut found = self.frames(kind, &[base.as_bytes(), digest.as_bytes()]).await?;
        let old = found.remove(base.as_bytes()).ok_or(Unmade::NotHere)?;
        let new = found.remove(digest.as_bytes()).ok_or(Unmade::NotHere)?;
        // Secrets share no compression context.
        let Some((old, new)) = old.zip(new) else {
            return Ok(None);
        };
        if old.decoded_size > MAX_DELTA_BASE {
            return Ok(None);
        }
        let made = tokio::task::spawn_blocking(move || between(&old, &new)).await;
        // Another try would read the same.
        Ok(made.unwrap_or_else(|e| Err(e.to_string())).unwrap_or_else(|why| {
            warn!(why, item = %digest, base = %base, "no patch is made; the item is sent whole");
            None
        }))
    }

    /// The frames of items as they lie there: nothing of a Secret is opened.
    async fn frames(&self, kind: ContentKind, digests: &[&[u8]]) -> Result<Frames, StoreError> {
        match kind {
            ContentKind::Content => self.store.content_frames(digests).await,
            ContentKind::Object => self.store.object_frames(digests).await,
            ContentKind::Config => self.store.config_frames(digests).await,
            ContentKind::Unspecified => Ok(Frames::new()),
        }
    }

    async fn stored(&self, kind: ContentKind, digests: &[&[u8]]) -> Result<Found, StoreError> {
        match kind {
            ContentKind::Content => self.store.contents(digests).await,
            ContentKind::Object => self.store.objects(digests, &self.seal).await,
            ContentKind::Config => self.store.config_values(digests, &self.seal).await,
            ContentKind::Unspecified => Ok(Found::new()),
        }
    }

    /// Those of the wanted items that the cluster may have, and of the bases those that it was given.
    async fn reachable(&self, cluster: Uuid, wants: &[Wanted]) -> Result<Reachable, Status> {
        let of = |kind| wants.iter().filter(move |want| want.kind == kind);
        let wanted = |kind| of(kind).map(|want| want.digest).collect();
        let bases = |kind| of(kind).filter_map(|want| want.base).collect();
        let question = Question {
            cluster,
            contents: wanted(ContentKind::Content),
            objects: wanted(ContentKind::Object),
            configs: wanted(ContentKind::Config),
            base_contents: bases(ContentKind::Content),
            base_objects: bases(ContentKind::Object),
            base_configs: bases(ContentKind::Config),
        };
        if question.size() <= SMALL {
            return self.reachable.ask(question).await.map_err(from_store);
        }
        let answers = self.store.reachable(&[question]).await.map_err(from_store)?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }
}

/// Why there is no patch now; the next one who asks tries again.
#[derive(Clone)]
enum Unmade {
    /// One of the two is not here.
    NotHere,
    Failed(Arc<StoreError>),
}

impl From<StoreError> for Unmade {
    fn from(error: StoreError) -> Self {
        Self::Failed(Arc::new(error))
    }
}

/// The patch from one item to another; `None`: it is no smaller than the item.
fn between(old: &Frame, new: &Frame) -> Result<Option<Delta>, String> {
    let plain = |frame: &Frame| Stored::plain(&frame.bytes, frame.decoded_size).map_err(|e| e.to_string());
    let patch = patch(&plain(old)?, &plain(new)?).map_err(|e| e.to_string())?;
    let is_smaller = patch.len() < new.bytes.len();
    Ok(is_smaller.then(|| Delta::new(patch, new.decoded_size)))
}

type Items = HashMap<(i32, Digest), Item>;

/// An item that is asked for.
#[derive(Clone, Copy)]
struct Wanted {
    kind: ContentKind,
    digest: Digest,
    base: Option<Digest>,
}

struct Item {
    encoding: Encoding,
    data: Bytes,
    decoded_size: u64,
    checksum: u32,
}

impl From<Delta> for Item {
    fn from(delta: Delta) -> Self {
        Self {
            encoding: Encoding::ZstdDelta,
            data: delta.patch,
            decoded_size: delta.decoded_size,
            checksum: 0,
        }
    }
}

impl From<Stored> for Item {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Secret(bytes) => Self {
                encoding: Encoding::Identity,
                // One copy leaves the zeroised buffer: the wire needs it.
                data: Bytes::copy_from_slice(&bytes),
                decoded_size: bytes.len() as u64,
                checksum: crc32c(&bytes),
            },
            Stored::Zstd { frame, decoded_size } => Self {
                encoding: Encoding::Zstd,
                data: frame.into(),
                decoded_size,
                checksum: 0,
            },
        }
    }
}

async fn send(chunks: &Chunks, kind: ContentKind, digest: Digest, item: Option<Item>) -> Result<(), ()> {
    let digest = Bytes::copy_from_slice(digest.as_bytes());
    let Some(item) = item else {
        let chunk = Chunk {
            digest,
            kind: kind.into(),
            missing: true,
            last: true,
            ..Chunk::default()
        };
        return chunks.send(Ok(chunk)).await.map_err(drop);
    };
    let mut rest = item.data;
    loop {
        let data = rest.split_to(rest.len().min(CHUNK));
        let last = rest.is_empty();
        let chunk = Chunk {
            digest: digest.clone(),
            kind: kind.into(),
            encoding: item.encoding.into(),
            decoded_size: item.decoded_size,
            data,
            last,
            missing: false,
            checksum: item.checksum,
            base: Bytes::new(),
        };
        chunks.send(Ok(chunk)).await.map_err(drop)?;
        if last {
            return Ok(());
        }
    }
}

/// CRC-32C (Castagnoli), bit by bit: secrets are small and rare.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
