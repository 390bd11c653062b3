//! Bytes under a digest, compressed by themselves or with others, and how they are read.

use std::{fmt, sync::Arc};

use flotilla_core::{content::Table, digest::Digest};

/// As the hub compresses.
pub(super) const LEVEL: i32 = 3;
/// Bytes of a content from which on parsing it takes long enough to be noticed.
const HEAVY: u32 = 64 << 10;

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlobKind {
    /// A content manifest.
    Content = 1,
    /// One object.
    Object = 2,
    /// Values for a variable layer.
    Config = 3,
}

impl BlobKind {
    /// Reads the byte that the ledger keeps.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Content, Self::Object, Self::Config]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Bytes under a digest. A copy shares them.
#[derive(Clone)]
pub struct Blob {
    /// What it is.
    pub kind: BlobKind,
    /// Bytes when decompressed.
    pub size: u32,
    /// A content that it likely differs little from: it may be stored as what differs.
    pub base: Option<Digest>,
    pub(super) data: Data,
    /// The content that it was parsed to already: whoever has it needs not parse it again.
    pub(super) parsed: Option<Parsed>,
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Compressed by itself.
    Alone(Arc<[u8]>),
    /// Compressed with others, behind so many bytes of them.
    Packed(Arc<Pack>, u32),
    /// A content that is parsed: its bytes are made when they are asked for.
    Content(Arc<Table>),
}

/// Bytes of many blobs, compressed together.
pub(super) struct Pack {
    pub(super) zstd: Box<[u8]>,
    /// Bytes when decompressed.
    pub(super) size: usize,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.kind, self.size)
    }
}

impl Blob {
    /// Compresses bytes.
    pub fn new(kind: BlobKind, bytes: &[u8]) -> std::io::Result<Self> {
        let size = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
        Ok(Self::stored(
            kind,
            size,
            zstd::bulk::compress(bytes, LEVEL)?.into(),
        ))
    }

    /// Takes bytes that are compressed already.
    pub(super) fn stored(kind: BlobKind, size: u32, zstd: Arc<[u8]>) -> Self {
        Self {
            kind,
            size,
            base: None,
            data: Data::Alone(zstd),
            parsed: None,
        }
    }

    /// Takes a frame that was read, as a whole, to so many bytes. `None` where it is larger than one that is made here may
    /// be: who sent it decides nothing about room.
    pub(crate) fn of_frame(kind: BlobKind, size: usize, frame: &[u8]) -> Option<Self> {
        let fits = frame.len() <= zstd::zstd_safe::compress_bound(size);
        let size = u32::try_from(size).ok().filter(|_| fits)?;
        Some(Self::stored(kind, size, frame.into()))
    }

    /// The same with a base, which only a content has.
    pub fn against(self, base: Option<Digest>) -> Self {
        Self {
            base: base.filter(|_| self.kind == BlobKind::Content),
            ..self
        }
    }

    /// Returns how many bytes it takes in storage, or more.
    pub fn room(&self) -> usize {
        match &self.data {
            Data::Alone(zstd) => zstd.len(),
            Data::Packed(..) | Data::Content(_) => zstd::zstd_safe::compress_bound(self.size as usize),
        }
    }

    /// Returns the bytes. The size bounds what is read, whatever the compressed bytes claim.
    pub fn bytes(&self) -> std::io::Result<Vec<u8>> {
        Reader::default().bytes(self).map(<[u8]>::to_vec)
    }

    /// Returns the bytes compressed by themselves, as storage has them.
    pub fn zstd(&self) -> Arc<[u8]> {
        match &self.data {
            Data::Alone(zstd) => zstd.clone(),
            Data::Packed(..) | Data::Content(_) => {
                let zstd = self.bytes().and_then(|bytes| zstd::bulk::compress(&bytes, LEVEL));
                // It was compressed in this memory, from bytes that were compressed so.
                zstd.expect("a packed blob reads and compresses").into()
            }
        }
    }
}

/// Reads and compresses blobs one after another as storage has them: each by itself, without a new context for each.
#[derive(Default)]
pub(crate) struct Storing {
    reader: Reader,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl Storing {
    pub(super) fn stored(&mut self, blob: &Blob) -> Blob {
        let bytes = self.reader.bytes(blob);
        let zstd = bytes.and_then(|bytes| compress(&mut self.compressor, bytes));
        // It was compressed in this memory, from bytes that were compressed so.
        let zstd = zstd.expect("a packed blob reads and compresses");
        Blob::stored(blob.kind, blob.size, zstd.into())
    }

    /// Compresses bytes.
    pub(crate) fn compressed(&mut self, kind: BlobKind, bytes: &[u8]) -> std::io::Result<Blob> {
        let size = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
        let zstd = compress(&mut self.compressor, bytes)?;
        Ok(Blob::stored(kind, size, zstd.into()))
    }

    /// Returns the bytes of a blob.
    pub(crate) fn bytes(&mut self, blob: &Blob) -> std::io::Result<&[u8]> {
        self.reader.bytes(blob)
    }

    /// Decompresses a whole frame, in which there are no more bytes than `size`.
    pub(crate) fn read(&mut self, frame: &[u8], size: usize) -> std::io::Result<Vec<u8>> {
        decompress(&mut self.reader.decompressor, frame, size)
    }
}

fn compress(kept: &mut Option<zstd::bulk::Compressor<'static>>, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let compressor = match kept {
        Some(compressor) => compressor,
        none => none.insert(zstd::bulk::Compressor::new(LEVEL)?),
    };
    compressor.compress(bytes)
}

fn decompress(
    kept: &mut Option<zstd::bulk::Decompressor<'static>>,
    frame: &[u8],
    size: usize,
) -> std::io::Result<Vec<u8>> {
    let decompressor = match kept {
        Some(decompressor) => decompressor,
        none => none.insert(zstd::bulk::Decompressor::new()?),
    };
    decompressor.decompress(frame, size)
}

/// Reads blobs one after another: those of one pack are decompressed together, and none takes a context of its own.
#[derive(Default)]
pub struct Reader {
    pack: Option<Arc<Pack>>,
    bytes: Vec<u8>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader with {} bytes", self.bytes.len())
    }
}

impl Reader {
    /// Returns the bytes of a blob.
    pub fn bytes(&mut self, blob: &Blob) -> std::io::Result<&[u8]> {
        match &blob.data {
            Data::Alone(zstd) => {
                self.pack = None;
                self.bytes = decompress(&mut self.decompressor, zstd, blob.size as usize)?;
                Ok(&self.bytes)
            }
            Data::Content(table) => {
                self.pack = None;
                self.bytes = table.to_bytes();
                Ok(&self.bytes)
            }
            Data::Packed(pack, start) => {
                if !self.pack.as_ref().is_some_and(|last| Arc::ptr_eq(last, pack)) {
                    self.pack = None;
                    self.bytes = decompress(&mut self.decompressor, &pack.zstd, pack.size)?;
                    self.pack = Some(pack.clone());
                }
                let start = *start as usize;
                let bytes = self.bytes.get(start..start + blob.size as usize);
                bytes.ok_or_else(|| std::io::Error::other("a pack is too short"))
            }
        }
    }
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pack of {} bytes", self.size)
    }
}

/// A content that was read.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// Its objects.
    pub table: Arc<Table>,
    /// The table gives the very bytes that it was read from. It does not where a hub writes more into a content than
    /// this version knows.
    pub(super) is_exact: bool,
}

impl Blob {
    /// Reads the content that the bytes are; `None` when they are none that this version can read.
    pub(super) fn parse(&self) -> Option<Parsed> {
        if let Some(parsed) = &self.parsed {
            return Some(parsed.clone());
        }
        let bytes = self.bytes().ok()?;
        let table = Table::from_bytes(&bytes).ok()?;
        let is_exact = table.to_bytes() == bytes;
        let table = Arc::new(table);
        Some(Parsed { table, is_exact })
    }

    /// The same, on another thread where it takes long.
    pub async fn parsed(&self) -> Option<Parsed> {
        if self.size <= HEAVY || self.parsed.is_some() {
            return self.parse();
        }
        let blob = self.clone();
        // Only a panic, or the end of the runtime, breaks it off: the content counts as unreadable then.
        tokio::task::spawn_blocking(move || blob.parse())
            .await
            .ok()
            .flatten()
    }

    /// The same, and it is kept with the bytes and in all their copies.
    pub async fn with_parsed(self) -> Self {
        let parsed = self.parsed().await;
        Self { parsed, ..self }
    }

    /// Returns the content that it was parsed to, where it was and could be.
    pub fn table(&self) -> Option<&Arc<Table>> {
        self.parsed.as_ref().map(|parsed| &parsed.table)
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::{
        content::{Content, Form, ObjectEntry, Objects, object_digest},
        object::ObjectKey,
    };
    use flotilla_testkit::done_beside;
    use futures::FutureExt as _;

    use super::*;

    fn content(count: u32) -> Blob {
        let entry = |n| ObjectEntry {
            key: ObjectKey::new("", "ConfigMap", "team", &format!("c{n}")),
            form: Form::Yaml,
            digest: object_digest(Form::Yaml, format!("{n}").as_bytes(), None),
        };
        let objects = Objects {
            entries: (0..count).map(entry).collect(),
            count,
            complete: true,
        };
        Blob::new(BlobKind::Content, &Content::Objects(objects).to_bytes()).expect("compresses")
    }

    #[test]
    fn large_content_is_parsed_on_another_thread_and_a_small_one_at_once() {
        let small = content(3).parsed().now_or_never().flatten();
        assert_eq!(
            small.map(|parsed| (parsed.table.len(), parsed.is_exact)),
            Some((3, true))
        );
        let large = content(2000);
        assert!(large.size > HEAVY);
        let parsed = done_beside(large.parsed()).expect("it is a content");
        assert_eq!((parsed.table.len(), parsed.is_exact), (2000, true));
    }

    #[test]
    fn content_with_more_in_it_than_is_known_is_read_and_not_taken_for_exact() {
        let text = r#"{"complete":true,"count":0,"entries":[],"more":1,"type":"objects"}"#;
        let blob = Blob::new(BlobKind::Content, text.as_bytes()).expect("compresses");
        assert_eq!(blob.parse().map(|parsed| parsed.is_exact), Some(false));
        let none = Blob::new(BlobKind::Content, b"{\"type\":\"recipe\"}").expect("compresses");
        assert!(none.parse().is_none());
    }
}
