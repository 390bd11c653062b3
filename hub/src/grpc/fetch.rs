//! Content to agents: only what is reachable from the cluster's published entries, compressed once at rest and
//! passed through, or as a delta against what the agent holds. Secrets share no compression context.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{Read as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use flotilla_core::{
    content::Content,
    digest::Digest,
    unit::{Entry, VariableLayer},
};
use flotilla_proto::agent::v1::{Chunk, ContentKind, Encoding, FetchRequest};
use tokio::sync::mpsc;
use tonic::Status;
use zeroize::Zeroizing;

use super::status::from_store;
use crate::{
    auth::seal::Seal,
    store::{
        Store, StoreError,
        content::{Found, Stored},
        publish::DesiredRow,
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
/// Deltas, manifests and desired states kept, each.
const CACHED: usize = 512;

/// Serves content.
#[derive(Clone)]
pub struct Fetcher {
    store: Store,
    seal: Arc<Seal>,
    /// A delta is made once for all agents that go the same way.
    deltas: Arc<Cache<(Digest, Digest), Option<Bytes>>>,
    manifests: Arc<Cache<Digest, Manifest>>,
    /// What desired states name, by their roots.
    named: Arc<Cache<Digest, Arc<Named>>>,
}

type Chunks = mpsc::Sender<Result<Chunk, Status>>;

impl Fetcher {
    /// A fetcher over the store.
    pub fn new(store: Store, seal: Arc<Seal>) -> Self {
        Self {
            store,
            seal,
            deltas: Arc::default(),
            manifests: Arc::default(),
            named: Arc::default(),
        }
    }

    /// Answers a request of a cluster whose desired state is `desired`.
    pub async fn serve(
        &self,
        desired: Option<Arc<DesiredRow>>,
        request: FetchRequest,
        chunks: &Chunks,
    ) -> Result<(), Status> {
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
        let allowed = self
            .allowed(desired.as_deref(), &wants)
            .await
            .map_err(from_store)?;
        for some in wants.chunks(TOGETHER) {
            let mut found = self.found(some, &allowed).await.map_err(from_store)?;
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
    async fn found(&self, wants: &[Wanted], allowed: &Allowed) -> Result<FoundItems, StoreError> {
        let mut found = FoundItems::new();
        for kind in [ContentKind::Content, ContentKind::Object, ContentKind::Config] {
            let digests: Vec<&[u8]> = wants
                .iter()
                .filter(|want| want.kind == kind && allowed.contains(&(kind as i32, want.digest)))
                .map(|want| &want.digest.as_bytes()[..])
                .collect();
            if digests.is_empty() {
                continue;
            }
            for (digest, stored) in self.stored(kind, &digests).await? {
                let digest = Digest::from_bytes(digest);
                if kind == ContentKind::Content {
                    self.keep_manifest(digest, &stored)?;
                }
                found.insert((kind as i32, digest), stored);
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

    /// Which of the wanted items the cluster may have: those that its entries lead to.
    async fn allowed(&self, desired: Option<&DesiredRow>, wants: &[Wanted]) -> Result<Allowed, StoreError> {
        let mut allowed = Allowed::new();
        let Some(desired) = desired else {
            return Ok(allowed);
        };
        let named = self.named(desired)?;
        let mut objects: HashSet<Digest> = HashSet::new();
        for want in wants {
            match want.kind {
                ContentKind::Content if !named.contents.contains(&want.digest) => continue,
                ContentKind::Config if !named.configs.contains(&want.digest) => continue,
                ContentKind::Object => {
                    objects.insert(want.digest);
                    continue;
                }
                ContentKind::Content | ContentKind::Config => {}
                ContentKind::Unspecified => continue,
            }
            allowed.insert((want.kind as i32, want.digest));
        }
        if objects.is_empty() {
            return Ok(allowed);
        }
        let mut find = |manifest: &HashSet<Digest>| {
            objects.retain(|digest| {
                let holds = manifest.contains(digest);
                if holds {
                    allowed.insert((ContentKind::Object as i32, *digest));
                }
                !holds
            });
            objects.is_empty()
        };
        let mut lacking: Vec<Digest> = Vec::new();
        for content in &named.newest_first {
            match self.manifests.get(content) {
                Some(manifest) if find(&manifest) => return Ok(allowed),
                Some(_) => {}
                None => lacking.push(*content),
            }
        }
        // An object that is asked for is mostly one of what was published last.
        for contents in growing(&lacking) {
            for manifest in self.manifests(contents).await? {
                if find(&manifest) {
                    return Ok(allowed);
                }
            }
        }
        Ok(allowed)
    }

    /// What the entries of a desired state name.
    fn named(&self, desired: &DesiredRow) -> Result<Arc<Named>, StoreError> {
        if let Some(cached) = self.named.get(&desired.root) {
            return Ok(cached);
        }
        let mut newest_first: Vec<_> = desired.entries.iter().collect();
        newest_first.sort_by_key(|row| std::cmp::Reverse(row.since));
        let mut named = Named::default();
        for row in newest_first {
            let entry = Entry::from_bytes(&row.bytes)
                .map_err(|e| StoreError::corrupt(format!("entry of unit {}", row.unit), e))?;
            if let Some(content) = entry.content
                && named.contents.insert(content)
            {
                named.newest_first.push(content);
            }
            for layer in &entry.variables {
                if let VariableLayer::Config { digest, .. } = layer {
                    named.configs.insert(*digest);
                }
            }
        }
        let named = Arc::new(named);
        self.named.put(desired.root, named.clone());
        Ok(named)
    }

    /// Reads the objects of contents.
    async fn manifests(&self, contents: &[Digest]) -> Result<Vec<Manifest>, StoreError> {
        let digests: Vec<&[u8]> = contents.iter().map(|digest| &digest.as_bytes()[..]).collect();
        let stored = self.store.contents(&digests).await?;
        stored
            .iter()
            .map(|(digest, stored)| self.keep_manifest(Digest::from_bytes(*digest), stored))
            .collect()
    }

    /// Remembers the objects of a content: who gets it asks for them next.
    fn keep_manifest(&self, digest: Digest, stored: &Stored) -> Result<Manifest, StoreError> {
        let content = Content::from_bytes(&stored.to_plain()?)
            .map_err(|e| StoreError::corrupt(format!("content {digest}"), e))?;
        let objects: Manifest = Arc::new(content.objects().iter().map(|object| object.digest).collect());
        self.manifests.put(digest, objects.clone());
        Ok(objects)
    }
}

/// Objects of a content.
type Manifest = Arc<HashSet<Digest>>;
/// Kinds and digests that the caller may have.
type Allowed = HashSet<(i32, Digest)>;
type FoundItems = HashMap<(i32, Digest), Stored>;

/// An item that is asked for.
#[derive(Clone, Copy)]
struct Wanted {
    kind: ContentKind,
    digest: Digest,
    base: Option<Digest>,
}

/// What a desired state names.
#[derive(Default)]
struct Named {
    /// Contents, those of the newest entries first.
    newest_first: Vec<Digest>,
    contents: HashSet<Digest>,
    configs: HashSet<Digest>,
}

/// Cuts a list in growing pieces: the first mostly does, and all are a few.
fn growing(mut rest: &[Digest]) -> impl Iterator<Item = &[Digest]> {
    let mut step = 1;
    std::iter::from_fn(move || {
        let (now, later) = rest.split_at_checked(step).unwrap_or((rest, &[]));
        rest = later;
        step *= 4;
        (!now.is_empty()).then_some(now)
    })
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
