//! Deltas between items: what one frame takes with another as its reference, and those that are kept.

use std::{
    collections::{HashMap, VecDeque},
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use flotilla_core::digest::Digest;
use flotilla_proto::agent::v1::ContentKind;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

/// Bytes of deltas kept.
const CACHED: usize = 64 << 20;
/// What a delta that is kept costs besides its bytes; so one that is no smaller is bounded too.
const ENTRY: usize = 256;

/// An item as a patch of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) patch: Bytes,
    /// Bytes of the item.
    pub(super) decoded_size: u64,
}

impl Delta {
    pub(super) fn new(patch: Vec<u8>, decoded_size: u64) -> Self {
        Self {
            patch: patch.into(),
            decoded_size,
        }
    }
}

/// Of what, and to what, it leads, and what they are: under another kind there is nothing.
pub(super) type Way = (ContentKind, Digest, Digest);

/// Deltas by the way they lead, bounded in bytes: the oldest is forgotten first. Whoever asks for one while it is made
/// waits for it: ten thousand agents that go the same way at once cost one.
#[derive(Default)]
pub(super) struct Deltas {
    held: Mutex<HeldDeltas>,
}

#[derive(Default)]
struct HeldDeltas {
    cells: HashMap<Way, Arc<OnceCell<Option<Delta>>>>,
    /// Those that are made, oldest first, with what they cost.
    made: VecDeque<(Way, usize)>,
    bytes: usize,
}

impl Deltas {
    /// The delta, by `make` where it is not held. What fails is not held: the next one makes it again.
    pub(super) async fn get<E>(
        &self,
        way: Way,
        make: impl AsyncFnOnce() -> Result<Option<Delta>, E>,
    ) -> Result<Option<Delta>, E> {
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
            Ok(delta) if is_new => {
                held.keep(way, ENTRY + delta.as_ref().map_or(0, |delta| delta.patch.len()))
            }
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

/// A zstd frame of `new` with `old` as reference prefix.
pub(super) fn patch(old: &[u8], new: &Zeroizing<Vec<u8>>) -> std::io::Result<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        io::Read as _,
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
        let mut decoder =
            zstd::stream::read::Decoder::with_ref_prefix(&patch[..], old.as_bytes()).expect("a frame");
        let mut read = String::new();
        decoder.read_to_string(&mut read).expect("read");
        assert_eq!(read, new);
    }

    #[tokio::test]
    async fn a_delta_that_a_thousand_ask_for_at_once_is_made_once() {
        let deltas = Deltas::default();
        let made = AtomicUsize::new(0);
        let (old, new) = (Digest::of("content", b"old"), Digest::of("content", b"new"));
        let way = (ContentKind::Content, old, new);
        let ask = async || {
            deltas
                .get(way, async || {
                    made.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(Some(Delta::new(b"delta".to_vec(), 9)))
                })
                .await
        };
        let answers = futures::future::join_all((0..1000).map(|_| ask())).await;
        assert!(
            answers
                .iter()
                .all(|one| matches!(one, Ok(Some(delta)) if delta.patch == "delta"))
        );
        assert_eq!(made.load(Ordering::SeqCst), 1);
        // What fails is made again by the next.
        let other = (ContentKind::Content, new, old);
        let failed = deltas.get(other, async || Err("away")).await;
        assert_eq!(failed, Err("away"));
        let again = deltas.get(other, async || Ok::<_, Infallible>(None)).await;
        assert_eq!(again, Ok(None));
    }

    #[tokio::test]
    async fn deltas_are_bounded_in_bytes_and_the_oldest_is_forgotten() {
        let deltas = Deltas::default();
        let large = Delta::new(vec![0; CACHED / 4], 9);
        let way = |number: u8| {
            let (old, new) = (Digest::of("a", &[number]), Digest::of("b", &[number]));
            (ContentKind::Object, old, new)
        };
        for number in 0..5 {
            let made = deltas.get(way(number), async || Ok::<_, Infallible>(Some(large.clone())));
            made.await.expect("made");
        }
        let held = deltas.lock();
        assert!(held.bytes <= CACHED && held.made.len() == 3, "{}", held.bytes);
        assert!(!held.cells.contains_key(&way(0)) && held.cells.contains_key(&way(4)));
    }
}
