//! Gets contents from the hub by digest, and believes nothing else: sizes are bounded before bytes are kept,
//! digests are computed over what was decoded. Secrets come as they are, whole, in frames of their own.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use flotilla_core::{
    content::{Content, Form, object_digest},
    digest::Digest,
};
use flotilla_proto::agent::v1::{
    Chunk, ContentKind, Encoding, FetchRequest, Want, agent_service_client::AgentServiceClient,
};
use tonic::{Request, transport::Channel};

use crate::{
    blocking,
    ledger::{
        delta,
        state::{Blob, BlobKind, Storing},
    },
};

/// Bytes of one item after decoding. An API server takes no object near this.
pub const ITEM_MAX: u64 = 8 << 20;
/// Items asked for at once.
pub const BATCH: usize = 500;
/// Bytes of a batch, as they are kept, after which no more of it is taken: the rest is asked for again once these are
/// stored, or have found no room.
const BATCH_BYTES: usize = 4 << 20;
const CALL: Duration = Duration::from_secs(120);
const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// One item to get.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub kind: BlobKind,
    /// How its bytes are read, which the digest of an object covers.
    pub form: Form,
    /// A Secret: its digest has a key that only the hub knows, so a checksum stands in.
    pub secret: bool,
    /// What it likely differs little from.
    pub base: Option<Digest>,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The call failed; what came before it was given.
    #[error("fetch failed: {0}")]
    Call(#[from] tonic::Status),
    /// The hub broke the protocol.
    #[error("hub broke the fetch protocol: {0}")]
    Protocol(&'static str),
}

/// What came of an item.
#[derive(Debug)]
pub enum Fetched {
    /// It is here, verified.
    Blob(Digest, Blob),
    /// It is not, and why.
    Missing(Digest, String),
}

impl Fetched {
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Blob(digest, _) | Self::Missing(digest, _) => *digest,
        }
    }
}

/// Gives what is stored under a digest.
pub type Bases<'a> = dyn for<'d> Fn(&'d Digest) -> Option<Blob> + Send + Sync + 'a;

/// Bytes of an item from which on reading it takes long enough to be noticed.
const HEAVY: u64 = 64 << 10;

/// Fetches at most [`BATCH`] items into `fetched`, where they are also when the call fails later; of large ones those
/// that come first. `bases` gives the
/// bases named.
pub async fn fetch(
    client: &mut AgentServiceClient<Channel>,
    epoch: u64,
    items: &[Item],
    bases: &Bases<'_>,
    fetched: &mut Vec<Fetched>,
) -> Result<(), FetchError> {
    let mut wanted: HashMap<Digest, &Item> = items.iter().map(|item| (item.digest, item)).collect();
    let mut request = Request::new(FetchRequest {
        want: items.iter().map(want).collect(),
        epoch,
    });
    request.set_timeout(CALL);
    let mut stream = client.fetch(request).await?.into_inner();
    let mut partial: Option<Partial> = None;
    let mut storing = Storing::default();
    let mut bytes = 0;
    while let Some(chunk) = stream.message().await? {
        let digest = Digest::try_from_slice(&chunk.digest).map_err(|_| FetchError::Protocol("no digest"))?;
        let item = *wanted
            .get(&digest)
            .ok_or(FetchError::Protocol("an item nobody asked for, or twice"))?;
        if chunk.missing {
            wanted.remove(&digest);
            fetched.push(Fetched::Missing(digest, "the hub does not hold it".to_owned()));
            continue;
        }
        if partial.as_ref().is_some_and(|partial| partial.digest != digest) {
            return Err(FetchError::Protocol("an item begins before another ended"));
        }
        let last = chunk.last;
        let partial_item = partial.get_or_insert_with(|| Partial::new(digest, &chunk));
        partial_item.add(&chunk);
        if last && let Some(whole) = partial.take() {
            wanted.remove(&digest);
            match whole.finished(item, bases, &mut storing).await {
                Ok(blob) => {
                    bytes += blob.room();
                    fetched.push(Fetched::Blob(digest, blob));
                }
                Err(why) => fetched.push(Fetched::Missing(digest, why)),
            }
            if bytes >= BATCH_BYTES {
                return Ok(());
            }
        }
    }
    // Else it would be asked for again at once, and again.
    let left_out = wanted.into_keys();
    fetched.extend(
        left_out.map(|digest| Fetched::Missing(digest, "the hub's answer ended without it".to_owned())),
    );
    Ok(())
}

fn want(item: &Item) -> Want {
    Want {
        kind: match item.kind {
            BlobKind::Content => ContentKind::Content,
            BlobKind::Object => ContentKind::Object,
            BlobKind::Config => ContentKind::Config,
        } as i32,
        digest: Bytes::copy_from_slice(item.digest.as_bytes()),
        // A secret shares no compression context with anything.
        base: item
            .base
            .filter(|_| !item.secret)
            .map(|base| Bytes::copy_from_slice(base.as_bytes()))
            .unwrap_or_default(),
    }
}

/// An item on its way.
pub(super) struct Partial {
    digest: Digest,
    encoding: i32,
    size: u64,
    checksum: u32,
    data: Vec<u8>,
}

impl Partial {
    pub(super) fn new(digest: Digest, first: &Chunk) -> Self {
        Self {
            digest,
            encoding: first.encoding,
            size: first.decoded_size,
            checksum: first.checksum,
            data: Vec::new(),
        }
    }

    /// Adds bytes; of an item larger than the limit none are kept, and the others of the batch go on.
    pub(super) fn add(&mut self, chunk: &Chunk) {
        // Encoded bytes are never much longer than decoded ones.
        if self.size > ITEM_MAX || self.data.len() + chunk.data.len() > ITEM_MAX as usize + 4096 {
            self.size = u64::MAX;
            self.data = Vec::new();
            return;
        }
        self.data.extend_from_slice(&chunk.data);
    }

    /// Decodes and verifies; on another thread where that takes long.
    pub(super) async fn finished(
        self,
        item: &Item,
        bases: &Bases<'_>,
        storing: &mut Storing,
    ) -> Result<Blob, String> {
        let base = item.base.as_ref().and_then(bases);
        if self.size <= HEAVY && base.as_ref().is_none_or(|base| u64::from(base.size) <= HEAVY) {
            return self.finish(item, base.as_ref(), storing);
        }
        let item = item.clone();
        blocking::run(move || self.finish(&item, base.as_ref(), &mut Storing::default())).await
    }

    fn finish(self, item: &Item, base: Option<&Blob>, storing: &mut Storing) -> Result<Blob, String> {
        if self.size > ITEM_MAX {
            return Err(format!("it is larger than {ITEM_MAX} bytes"));
        }
        // What came whole is in the very form in which it is kept.
        let (bytes, frame) = match Encoding::try_from(self.encoding) {
            Ok(Encoding::Identity) => (self.data, None),
            Ok(Encoding::Zstd) => match storing.read(&self.data, self.size as usize) {
                Ok(bytes) => (bytes, Some(self.data)),
                Err(_) => (inflate(&self.data, None, self.size)?, None),
            },
            Ok(Encoding::ZstdDelta) => {
                let base = base.and_then(|base| storing.bytes(base).ok());
                let base = base.ok_or("the delta's base is not here")?;
                (inflate(&self.data, Some(base), self.size)?, None)
            }
            _ => return Err("unknown encoding".to_owned()),
        };
        if bytes.len() as u64 != self.size {
            return Err("its size is not the one announced".to_owned());
        }
        verify(item, &bytes, self.checksum)?;
        // Of a Secret nobody else decides in which bytes it is kept.
        let frame = frame.filter(|_| !item.secret);
        let blob = match frame.and_then(|frame| Blob::of_frame(item.kind, bytes.len(), &frame)) {
            Some(blob) => blob,
            None => storing.compressed(item.kind, &bytes).map_err(|e| e.to_string())?,
        };
        Ok(blob.against(item.base))
    }
}

fn inflate(data: &[u8], base: Option<&[u8]>, size: u64) -> Result<Vec<u8>, String> {
    delta::inflate(data, base, size).map_err(|_| "it cannot be decompressed".to_owned())
}

fn verify(item: &Item, bytes: &[u8], checksum: u32) -> Result<(), String> {
    let good = match (item.secret, item.kind) {
        (true, _) => CRC32C.checksum(bytes) == checksum,
        (false, BlobKind::Content) => Content::digest_of(bytes) == item.digest,
        (false, BlobKind::Object) => object_digest(item.form, bytes, None) == item.digest,
        (false, BlobKind::Config) => Digest::of("config", bytes) == item.digest,
    };
    if good {
        Ok(())
    } else {
        Err("its bytes do not give its digest".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: &[u8], base: Option<Digest>) -> Item {
        Item {
            digest: object_digest(Form::Json, bytes, None),
            kind: BlobKind::Object,
            form: Form::Json,
            secret: false,
            base,
        }
    }

    fn partial(encoding: Encoding, data: Vec<u8>, size: usize) -> Partial {
        Partial {
            digest: Digest::of("x", b""),
            encoding: encoding as i32,
            size: size as u64,
            checksum: 0,
            data,
        }
    }

    fn text(n: usize) -> Vec<u8> {
        (0..n)
            .map(|i| format!("\"key{}\":\"{}\",", i, i * 7919 % 1009))
            .collect::<String>()
            .into_bytes()
    }

    #[test]
    fn a_delta_is_applied_to_its_base_and_verified() {
        let base = text(500);
        let mut new = base.clone();
        new[40] = b'#';
        let delta = {
            use std::io::Write as _;
            let mut encoder =
                zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 3, &base).expect("an encoder");
            encoder.write_all(&new).expect("encodes");
            encoder.finish().expect("encodes")
        };
        assert!(delta.len() < 60, "{} bytes", delta.len());
        let digest = object_digest(Form::Json, &base, None);
        let stored = Blob::new(BlobKind::Object, &base).expect("compresses");
        let blob = partial(Encoding::ZstdDelta, delta.clone(), new.len())
            .finish(&item(&new, Some(digest)), Some(&stored), &mut Storing::default())
            .expect("verifies");
        assert_eq!(blob.bytes().expect("reads"), new);
        assert!(
            partial(Encoding::ZstdDelta, delta, new.len())
                .finish(&item(&new, Some(digest)), None, &mut Storing::default())
                .is_err()
        );
    }

    #[test]
    fn other_tasks_run_while_a_large_item_is_verified() {
        let large = text(200_000);
        let wanted = item(&large, None);
        let whole = partial(Encoding::Identity, large.clone(), large.len());
        let mut storing = Storing::default();
        let finished = whole.finished(&wanted, &|_| None, &mut storing);
        let blob = flotilla_testkit::done_beside(finished).expect("verifies");
        assert_eq!(blob.size as usize, large.len());
    }

    #[test]
    fn more_bytes_than_announced_are_not_held() {
        let bomb = zstd::bulk::compress(&vec![0; 4 << 20], 3).expect("compresses");
        assert!(bomb.len() < 1000);
        let bomb = partial(Encoding::Zstd, bomb, 100);
        let result = bomb.finish(&item(&[0; 100], None), None, &mut Storing::default());
        assert_eq!(result.err().as_deref(), Some("its size is not the one announced"));
    }

    #[test]
    fn what_comes_whole_is_kept_as_it_came_and_what_is_padded_or_secret_is_not() {
        let bytes = text(500);
        let frame = zstd::bulk::compress(&bytes, 3).expect("compresses");
        // A frame that is passed over, of more bytes than all of it may take.
        let mut padded = frame.clone();
        let padding = 2 * bytes.len();
        padded.extend_from_slice(&0x184D_2A50_u32.to_le_bytes());
        padded.extend_from_slice(&u32::try_from(padding).expect("few").to_le_bytes());
        padded.resize(padded.len() + padding, 0);
        let open = item(&bytes, None);
        let secret = Item {
            secret: true,
            ..open.clone()
        };
        // At another level, so that it is seen whose bytes they are.
        let other = zstd::bulk::compress(&bytes, 19).expect("compresses");
        assert_ne!(other, frame);
        let mut storing = Storing::default();
        for (item, came, kept) in [
            (&open, &other, &other),
            (&open, &padded, &frame),
            (&secret, &other, &frame),
        ] {
            let mut whole = partial(Encoding::Zstd, came.clone(), bytes.len());
            whole.checksum = CRC32C.checksum(&bytes);
            let blob = whole.finish(item, None, &mut storing).expect("verifies");
            assert_eq!(&blob.zstd()[..], &kept[..]);
            assert_eq!(blob.bytes().expect("reads"), bytes);
        }
    }

    #[test]
    fn other_bytes_than_the_digest_names_are_refused() {
        let other = partial(Encoding::Identity, b"{}".to_vec(), 2);
        let result = other.finish(&item(b"[]", None), None, &mut Storing::default());
        assert_eq!(result.err().as_deref(), Some("its bytes do not give its digest"));
    }

    #[test]
    fn a_secret_is_checked_by_its_checksum() {
        let secret = Item {
            secret: true,
            ..item(b"other", None)
        };
        let mut whole = partial(Encoding::Identity, b"{}".to_vec(), 2);
        whole.checksum = CRC32C.checksum(b"{}");
        let mut storing = Storing::default();
        assert!(whole.finish(&secret, None, &mut storing).is_ok());
        assert!(
            partial(Encoding::Identity, b"{}".to_vec(), 2)
                .finish(&secret, None, &mut storing)
                .is_err()
        );
    }
}
