//! Content to agents: only what is reachable from the cluster's published entries, compressed once at rest and
//! passed through, or as a delta against what the agent holds. Secrets share no compression context.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{Read as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use flotilla_core::digest::Digest;
use flotilla_proto::agent::v1::{Chunk, ContentKind, Encoding, FetchRequest};
use tokio::sync::{OnceCell, mpsc};
use tonic::Status;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::status::from_store;
use crate::{
    auth::seal::Seal,
    store::{
        Store, StoreError,
        content::{Found, Stored},
        publish::{Named, Reachable},
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
/// Bytes of deltas kept.
const CACHED: usize = 64 << 20;
/// What a delta that is kept costs besides its bytes; so one that is no smaller is bounded too.
const ENTRY: usize = 256;

/// Serves content.
#[derive(Clone)]
pub struct Fetcher {
    store: Store,
    seal: Arc<Seal>,
    /// A delta is made once for all agents that go the same way.
    deltas: Arc<Deltas>,
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
        for want in &mut wants {
            want.base = want.base.filter(|base| reachable.bases.contains(base));
        }
        for some in wants.chunks(TOGETHER) {
            let mut found = self.found(some, &reachable.wanted).await.map_err(from_store)?;
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
        let way = (base, want);
        self.deltas
            .get(way, async || {
                let stored = self.stored(kind, &[base.as_bytes()]).await?;
                let Some(Stored::Zstd {
                    frame: base_frame,
                    decoded_size: base_size,
                }) = stored.into_values().next()
                else {
                    return Ok(None);
                };
                if base_size > MAX_DELTA_BASE {
                    return Ok(None);
                }
                let new_frame = frame.clone();
                let made = tokio::task::spawn_blocking(move || {
                    let old = Stored::plain(&base_frame, base_size)?;
                    let new = Stored::plain(&new_frame, decoded_size)?;
                    Ok::<_, StoreError>(patch(&old, &new).ok())
                });
                let made = made.await.ok().transpose()?.flatten();
                Ok(made.filter(|patch| patch.len() < frame.len()).map(Bytes::from))
            })
            .await
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
    async fn reachable(&self, cluster: Uuid, wants: &[Wanted]) -> Result<Reachable, StoreError> {
        let of = |kind| wants.iter().filter(move |want| want.kind == kind);
        let wanted = |kind| of(kind).map(|want| want.digest.as_bytes().to_vec()).collect();
        let bases = |kind| {
            let bases = of(kind).filter_map(|want| want.base);
            bases.map(|base| base.as_bytes().to_vec()).collect()
        };
        let named = Named {
            contents: wanted(ContentKind::Content),
            objects: wanted(ContentKind::Object),
            configs: wanted(ContentKind::Config),
            base_contents: bases(ContentKind::Content),
            base_objects: bases(ContentKind::Object),
            base_configs: bases(ContentKind::Config),
        };
        self.store.reachable(cluster, &named).await
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

type Way = (Digest, Digest);

/// Deltas by the way they lead, bounded in bytes: the oldest is forgotten first. Whoever asks for one while it is made
/// waits for it: ten thousand agents that go the same way at once cost one.
#[derive(Default)]
struct Deltas {
    held: Mutex<HeldDeltas>,
}

#[derive(Default)]
struct HeldDeltas {
    cells: HashMap<Way, Arc<OnceCell<Option<Bytes>>>>,
    /// Those that are made, oldest first, with what they cost.
    made: VecDeque<(Way, usize)>,
    bytes: usize,
}

impl Deltas {
    /// The delta, by `make` where it is not held. What fails is not held: the next one makes it again.
    async fn get<E>(
        &self,
        way: Way,
        make: impl AsyncFnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<Option<Bytes>, E> {
        let cell = self.lock().cells.entry(way).or_default().clone();
        let mut is_new = false;
        let delta = cell
            .get_or_try_init(async || {
                is_new = true;
                make().await
            })
            .await
            .cloned();
        let mut held = self.lock();
        match &delta {
            Ok(delta) if is_new => held.keep(way, ENTRY + delta.as_ref().map_or(0, Bytes::len)),
            Ok(_) => {}
            // Unless somebody is at it again.
            Err(_) if Arc::strong_count(&cell) <= 2 => drop(held.cells.remove(&way)),
            Err(_) => {}
        }
        delta
    }

    fn lock(&self) -> MutexGuard<'_, HeldDeltas> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldDeltas {
    fn keep(&mut self, way: Way, cost: usize) {
        self.made.push_back((way, cost));
        self.bytes += cost;
        while self.bytes > CACHED
            && let Some((oldest, cost)) = self.made.pop_front()
        {
            self.cells.remove(&oldest);
            self.bytes -= cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

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

    #[tokio::test]
    async fn a_delta_that_a_thousand_ask_for_at_once_is_made_once() {
        let deltas = Deltas::default();
        let made = AtomicUsize::new(0);
        let way = (Digest::of("content", b"old"), Digest::of("content", b"new"));
        let ask = async || {
            deltas
                .get(way, async || {
                    made.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(Some(Bytes::from_static(b"delta")))
                })
                .await
        };
        let answers = futures::future::join_all((0..1000).map(|_| ask())).await;
        assert!(
            answers
                .iter()
                .all(|one| matches!(one, Ok(Some(bytes)) if bytes == "delta"))
        );
        assert_eq!(made.load(Ordering::SeqCst), 1);
        // What fails is made again by the next.
        let other = (way.1, way.0);
        let failed = deltas.get(other, async || Err("away")).await;
        assert_eq!(failed, Err("away"));
        let again = deltas.get(other, async || Ok::<_, Infallible>(None)).await;
        assert_eq!(again, Ok(None));
    }

    #[tokio::test]
    async fn deltas_are_bounded_in_bytes_and_the_oldest_is_forgotten() {
        let deltas = Deltas::default();
        let large = Bytes::from(vec![0; CACHED / 4]);
        let way = |number: u8| (Digest::of("a", &[number]), Digest::of("b", &[number]));
        for number in 0..5 {
            let made = deltas.get(way(number), async || Ok::<_, Infallible>(Some(large.clone())));
            made.await.expect("made");
        }
        let held = deltas.lock();
        assert!(held.bytes <= CACHED && held.made.len() == 3, "{}", held.bytes);
        assert!(!held.cells.contains_key(&way(0)) && held.cells.contains_key(&way(4)));
    }
}
