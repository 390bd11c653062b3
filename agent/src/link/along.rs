//! Contents that come along with an offer: they are taken in as if they had been fetched, and believed no more. What cannot
//! be used, such as a delta against what is not held here, is fetched.

use std::collections::HashMap;

use flotilla_core::digest::Digest;
use flotilla_proto::agent::v1::Chunk;

use super::fetch::{Bases, Fetched, Item, Partial};
use crate::ledger::state::Storing;

/// What came along, by digest.
#[derive(Debug, Default)]
pub(super) struct Along(HashMap<Digest, Chunk>);

impl Along {
    /// Keeps whole items; pieces of others are none.
    pub(super) fn new(chunks: Vec<Chunk>) -> Self {
        let whole = chunks.into_iter().filter(|chunk| chunk.last && !chunk.missing);
        let named = whole.filter_map(|chunk| Some((Digest::try_from_slice(&chunk.digest).ok()?, chunk)));
        Self(named.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what is there of some items. A Secret has a frame of its own, which is asked for.
    pub(super) fn take(&mut self, items: &[Item]) -> Vec<(Item, Chunk)> {
        let mut taken = Vec::new();
        for item in items.iter().filter(|item| !item.secret) {
            if let Some(chunk) = self.0.remove(&item.digest) {
                let base = Digest::try_from_slice(&chunk.base).ok();
                taken.push((Item { base, ..item.clone() }, chunk));
            }
        }
        taken
    }
}

/// Decodes and verifies what came along. What is none is in the hub's answer, once it is asked for.
pub(super) async fn decoded(taken: Vec<(Item, Chunk)>, bases: &Bases<'_>) -> Vec<Fetched> {
    let (mut fetched, mut storing) = (Vec::new(), Storing::default());
    for (item, chunk) in taken {
        let mut whole = Partial::new(item.digest, &chunk);
        whole.add(&chunk);
        match whole.finished(&item, bases, &mut storing).await {
            Ok(blob) => fetched.push(Fetched::Blob(item.digest, blob)),
            Err(why) => {
                tracing::debug!(item = %item.digest, why, "what came along is of no use, and is fetched")
            }
        }
    }
    fetched
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flotilla_core::content::{Form, object_digest};
    use flotilla_proto::agent::v1::{ContentKind, Encoding};

    use super::*;
    use crate::ledger::state::{Blob, BlobKind};

    const BYTES: &[u8] = b"{\"a\":1}";

    fn item() -> Item {
        Item {
            digest: object_digest(Form::Json, BYTES, None),
            kind: BlobKind::Object,
            form: Form::Json,
            secret: false,
            base: None,
        }
    }

    fn chunk(data: &[u8], encoding: Encoding, base: Option<Digest>) -> Chunk {
        let bytes = |digest: Digest| Bytes::copy_from_slice(digest.as_bytes());
        Chunk {
            digest: bytes(item().digest),
            kind: ContentKind::Object.into(),
            encoding: encoding.into(),
            decoded_size: BYTES.len() as u64,
            data: data.to_vec().into(),
            last: true,
            base: base.map(bytes).unwrap_or_default(),
            ..Chunk::default()
        }
    }

    async fn got(chunk: Chunk, item: &Item) -> bool {
        let mut along = Along::new(vec![chunk]);
        let held = Blob::new(BlobKind::Object, BYTES).expect("compresses");
        let bases = move |digest: &Digest| (*digest == item_base()).then(|| held.clone());
        let fetched = decoded(along.take(std::slice::from_ref(item)), &bases).await;
        assert!(along.is_empty() || item.secret, "nothing is taken twice");
        fetched.iter().any(|one| matches!(one, Fetched::Blob(digest, blob) if *digest == item.digest && blob.bytes().is_ok_and(|bytes| bytes == BYTES)))
    }

    fn item_base() -> Digest {
        Digest::of("object", b"the former one")
    }

    fn delta() -> Vec<u8> {
        use std::io::Write as _;
        let mut encoder =
            zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 3, BYTES).expect("an encoder");
        encoder.write_all(BYTES).expect("encodes");
        encoder.finish().expect("encodes")
    }

    #[tokio::test]
    async fn what_came_along_is_taken_where_it_gives_its_digest_and_its_base_is_here() {
        let frame = zstd::bulk::compress(BYTES, 3).expect("compresses");
        let item = item();
        assert!(got(chunk(&frame, Encoding::Zstd, None), &item).await);
        assert!(got(chunk(&delta(), Encoding::ZstdDelta, Some(item_base())), &item).await);
        let elsewhere = Digest::of("object", b"never here");
        assert!(!got(chunk(&delta(), Encoding::ZstdDelta, Some(elsewhere)), &item).await);
        assert!(!got(chunk(&delta(), Encoding::ZstdDelta, None), &item).await);
        let other = zstd::bulk::compress(b"{\"a\":2}", 3).expect("compresses");
        assert!(!got(chunk(&other, Encoding::Zstd, None), &item).await);
        let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 3).expect("compresses");
        assert!(!got(chunk(&bomb, Encoding::Zstd, None), &item).await);
        let piece = Chunk {
            last: false,
            ..chunk(&frame, Encoding::Zstd, None)
        };
        assert!(!got(piece, &item).await);
        // Of a Secret nothing is taken that has not a frame of its own.
        let secret = Item { secret: true, ..item };
        assert!(!got(chunk(&frame, Encoding::Zstd, None), &secret).await);
    }
}
