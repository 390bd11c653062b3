//! Content to agents: only what is reachable from the cluster's published entries, compressed once at rest and
//! passed through, or as a delta against what the agent holds. Secrets share no compression context.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{Read as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use flotilla_core::digest::Digest;
use flotilla_proto::agent::v1::{Chunk, ContentKind, Encoding, FetchRequest};
use tokio::sync::mpsc;
use tonic::Status;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::status::from_store;
use crate::{
    auth::seal::Seal,
    store::{
        Store, StoreError,
        content::{Found, Stored},
    },
};

/// Bytes of one chunk.
const CHUNK: usize = 1 << 20;
/// Items of one request.
const MAX_WANTS: usize = 10_000;
/// Above this a delta's window grows too large; the whole item is sent.
const MAX_DELTA_BASE: u64 = 16 << 20;
/// Items read at once: what an agent is slow to take is held meanwhile.
const TOGETHER: usize = 32;
/// Deltas kept.
const CACHED: usize = 512;

/// Serves content.
#[derive(Clone)]
pub struct Fetcher {
    store: Store,
    seal: Arc<Seal>,
    /// A delta is made once for all agents that go the same way.
    deltas: Arc<Cache<(Digest, Digest), Option<Bytes>>>,
}

type Chunks = mpsc::Sender<Result<Chunk, Status>>;

impl Fetcher {
    /// A fetcher over the store.
    pub fn new(store: Store, seal: Arc<Seal>) -> Self {
        Self {
            store,
            seal,
            deltas: Arc::default(),
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
        let reachable = self.reachable(cluster, &wants).await.map_err(from_store)?;
        for some in wants.chunks(TOGETHER) {
            let mut found = self.found(some, &reachable).await.map_err(from_store)?;
            for want in some {
                let stored = found.remove(&(want.kind as i32, want.digest));
                let item = match stored {
                    Some(stored) => Some(self.item(want, stored).await.map_err(from_store)?),
                    None => None,
                };
                if send(chunks, want.kind, want.digest, item).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads what is wanted and allowed, in a statement for each kind.
    async fn found(&self, wants: &[Wanted], reachable: &HashSet<Digest>) -> Result<FoundItems, StoreError> {
        let mut found = FoundItems::new();
        for kind in [ContentKind::Content, ContentKind::Object, ContentKind::Config] {
            let digests: Vec<&[u8]> = wants
                .iter()
                .filter(|want| want.kind == kind && reachable.contains(&want.digest))
                .map(|want| &want.digest.as_bytes()[..])
                .collect();
            if digests.is_empty() {
                continue;
            }
            for (digest, stored) in self.stored(kind, &digests).await? {
                found.insert((kind as i32, Digest::from_bytes(digest)), stored);
            }
        }
        Ok(found)
    }

    async fn item(&self, want: &Wanted, stored: Stored) -> Result<Item, StoreError> {
        let Wanted { kind, digest, base } = *want;
        let (frame, decoded_size) = match stored {
            Stored::Secret(bytes) => {
                let checksum = crc32c(&bytes);
                let decoded_size = bytes.len() as u64;
                // One copy leaves the zeroised buffer: the wire needs it.
                let data = Bytes::copy_from_slice(&bytes);
                return Ok(Item {
                    encoding: Encoding::Identity,
                    data,
                    decoded_size,
                    checksum,
                });
            }
            Stored::Zstd { frame, decoded_size } => (Bytes::from(frame), decoded_size),
        };
        if let Some(base) = base
            && let Some(data) = self.delta(kind, base, digest, (&frame, decoded_size)).await?
        {
            return Ok(Item {
                encoding: Encoding::ZstdDelta,
                data,
                decoded_size,
                checksum: 0,
            });
        }
        Ok(Item {
            encoding: Encoding::Zstd,
            data: frame,
            decoded_size,
            checksum: 0,
        })
    }

    /// The wanted item as a patch of `base`; `None` when the base is not here or the patch is no smaller.
    async fn delta(
        &self,
        kind: ContentKind,
        base: Digest,
        want: Digest,
        (frame, decoded_size): (&Bytes, u64),
    ) -> Result<Option<Bytes>, StoreError> {
        if let Some(cached) = self.deltas.get(&(base, want)) {
            return Ok(cached);
        }
        let stored = self.stored(kind, &[base.as_bytes()]).await?;
        let Some(Stored::Zstd {
            frame: base_frame,
            decoded_size: base_size,
        }) = stored.into_values().next()
        else {
            return Ok(None);
        };
        let patch = if base_size > MAX_DELTA_BASE {
            None
        } else {
            let (old, new) = (
                Stored::plain(&base_frame, base_size)?,
                Stored::plain(frame, decoded_size)?,
            );
            let made = tokio::task::spawn_blocking(move || patch(&old, &new)).await;
            made.ok()
                .and_then(Result::ok)
                .filter(|patch| patch.len() < frame.len())
                .map(Bytes::from)
        };
        self.deltas.put((base, want), patch.clone());
        Ok(patch)
    }

    async fn stored(&self, kind: ContentKind, digests: &[&[u8]]) -> Result<Found, StoreError> {
        match kind {
            ContentKind::Content => self.store.contents(digests).await,
            ContentKind::Object => self.store.objects(digests, &self.seal).await,
            ContentKind::Config => self.store.config_values(digests, &self.seal).await,
            ContentKind::Unspecified => Ok(Found::new()),
        }
    }

    /// Those of the wanted items that the cluster may have. Digests of different kinds never meet.
    async fn reachable(&self, cluster: Uuid, wants: &[Wanted]) -> Result<HashSet<Digest>, StoreError> {
        let of = |kind| {
            let wanted = wants.iter().filter(|want| want.kind == kind);
            wanted
                .map(|want| want.digest.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        let (contents, objects, configs) = (
            of(ContentKind::Content),
            of(ContentKind::Object),
            of(ContentKind::Config),
        );
        let found = self
            .store
            .reachable(cluster, &contents, &objects, &configs)
            .await?;
        Ok(found
            .iter()
            .filter_map(|digest| Digest::try_from_slice(digest).ok())
            .collect())
    }
}

type FoundItems = HashMap<(i32, Digest), Stored>;

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
        };
        chunks.send(Ok(chunk)).await.map_err(drop)?;
        if last {
            return Ok(());
        }
    }
}

/// A zstd frame of `new` with `old` as reference prefix.
fn patch(old: &[u8], new: &Zeroizing<Vec<u8>>) -> std::io::Result<Vec<u8>> {
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

/// Reverses [`patch`].
pub fn unpatch(old: &[u8], patch: &[u8], decoded_size: u64) -> std::io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(patch, old)?;
    decoder.window_log_max(27)?;
    let mut out = Vec::new();
    decoder.take(decoded_size + 1).read_to_end(&mut out)?;
    Ok(out)
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

/// A bounded cache that forgets its oldest entries.
struct Cache<K, V> {
    inner: Mutex<(HashMap<K, V>, VecDeque<K>)>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self {
            inner: Mutex::new((HashMap::new(), VecDeque::new())),
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .get(key)
            .cloned()
    }

    fn put(&self, key: K, value: V) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, order) = &mut *inner;
        if map.insert(key.clone(), value).is_none() {
            order.push_back(key);
        }
        while order.len() > CACHED {
            if let Some(oldest) = order.pop_front() {
                map.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_of_one_changed_line_is_small_and_reads_back() {
        let old = (0..3000)
            .map(|n| format!("key{n}: value{}\n", n * 7919 % 104_729))
            .collect::<String>();
        let new = old.replacen("value0\n", "changed\n", 1);
        let patch = patch(old.as_bytes(), &Zeroizing::new(new.clone().into_bytes())).expect("made");
        assert!(patch.len() < 100, "{} bytes", patch.len());
        let size = new.len() as u64;
        assert_eq!(
            unpatch(old.as_bytes(), &patch, size).expect("read"),
            new.as_bytes()
        );
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn the_cache_forgets_its_oldest() {
        let cache = Cache::default();
        for number in 0..=CACHED {
            cache.put(number, number);
        }
        assert_eq!(cache.get(&0), None);
        assert_eq!(cache.get(&CACHED), Some(CACHED));
    }
}
