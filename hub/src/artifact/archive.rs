//! Writes artifacts as Flux packages them: tar within gzip, regular files and directories only, in the order of a
//! lexical walk, headers without owner and time, modes 0750, 0600 and 0700. The same content gives the same bytes.

use std::{
    cmp::Ordering,
    io::{self, Write},
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use tar::{EntryType, Header};

use super::path::{is_safe, walk_order};

const BLOCK: usize = 512;

/// Why an entry is not written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The path is not one that an artifact may hold.
    #[error("the path '{0}' cannot stand in an artifact")]
    Path(String),
    /// Entries must come in order, or the bytes would depend on who wrote them.
    #[error("the path '{0}' is out of order")]
    Order(String),
    /// Writing failed.
    #[error("cannot write the artifact")]
    Io(#[from] io::Error),
}

/// Writes one artifact to `W`.
pub struct ArchiveWriter<W: Write> {
    gzip: GzEncoder<W>,
    last: String,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an artifact.
    pub fn new(out: W) -> Self {
        // No name, no time, and the operating system "unknown", which is the builder's default.
        Self {
            gzip: GzBuilder::new().write(out, Compression::default()),
            last: String::new(),
        }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &str) -> Result<(), ArchiveError> {
        self.advance(path)?;
        self.header(&format!("{path}/"), EntryType::Directory, 0o750, 0)
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, executable: bool, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.advance(path)?;
        self.header(
            path,
            EntryType::Regular,
            if executable { 0o700 } else { 0o600 },
            bytes.len(),
        )?;
        self.gzip.write_all(bytes)?;
        Ok(self.pad(bytes.len())?)
    }

    /// Ends the artifact and returns what it was written to, flushed.
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.gzip.write_all(&[0; 2 * BLOCK])?;
        let mut out = self.gzip.finish()?;
        out.flush()?;
        Ok(out)
    }

    fn advance(&mut self, path: &str) -> Result<(), ArchiveError> {
        if !is_safe(path) {
            return Err(ArchiveError::Path(path.to_owned()));
        }
        if !self.last.is_empty() && walk_order(&self.last, path) != Ordering::Less {
            return Err(ArchiveError::Order(path.to_owned()));
        }
        path.clone_into(&mut self.last);
        Ok(())
    }

    fn header(&mut self, path: &str, kind: EntryType, mode: u32, size: usize) -> Result<(), ArchiveError> {
        let mut header = blank(kind, mode, size);
        if header.set_path(path).is_err() {
            // Too long for the header: a PAX record carries it, and the header a name that nobody reads.
            self.pax_path(path)?;
            header.set_path("long")?;
        }
        header.set_cksum();
        self.gzip.write_all(header.as_bytes())?;
        Ok(())
    }

    fn pax_path(&mut self, path: &str) -> Result<(), ArchiveError> {
        let record = pax_record("path", path);
        let mut header = blank(EntryType::XHeader, 0o600, record.len());
        header.set_path("PaxHeaders.0/long")?;
        header.set_cksum();
        self.gzip.write_all(header.as_bytes())?;
        self.gzip.write_all(record.as_bytes())?;
        Ok(self.pad(record.len())?)
    }

    fn pad(&mut self, size: usize) -> io::Result<()> {
        let rest = (BLOCK - size % BLOCK) % BLOCK;
        self.gzip.write_all(&[0; BLOCK][..rest])
    }
}

fn blank(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// `<length> <key>=<value>\n`, the length counting itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    format!("{length}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{ArtifactDigest, ReadLimits, read_tree};

    fn sample() -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new());
        writer.directory("base").expect("written");
        writer
            .file("base/deploy.yaml", false, b"kind: Deployment\n")
            .expect("written");
        writer.file("base/run.sh", true, b"#!/bin/sh\n").expect("written");
        writer
            .file("kustomization.yaml", false, b"resources: [base]\n")
            .expect("written");
        writer.finish().expect("finished")
    }

    #[test]
    fn the_digest_of_a_sample_is_pinned() {
        assert_eq!(sample(), sample());
        assert_eq!(
            ArtifactDigest::of(&sample()).to_string(),
            "sha256:b55f2cd90770626fe92eda6178c62f1c0cf01f658a3051fe497ba29b67398416"
        );
    }

    #[test]
    fn entries_out_of_order_or_twice_are_refused() {
        let mut writer = ArchiveWriter::new(Vec::new());
        writer.file("b", false, b"").expect("written");
        for path in ["a", "b"] {
            assert!(
                matches!(writer.file(path, false, b""), Err(ArchiveError::Order(_))),
                "{path}"
            );
        }
        assert!(matches!(
            writer.file("../x", false, b""),
            Err(ArchiveError::Path(_))
        ));
    }

    #[test]
    fn long_paths_read_back() {
        for length in [99, 100, 101, 155, 256, 300, 980, 1000, 4000] {
            let path = format!("{}/f", "x".repeat(length));
            let mut writer = ArchiveWriter::new(Vec::new());
            writer.file(&path, false, b"content").expect("written");
            let bytes = writer.finish().expect("finished");
            let tree = read_tree(&bytes[..], ReadLimits::default()).expect("read");
            assert_eq!(
                tree.file(&path).map(|file| &file.bytes[..]),
                Some(&b"content"[..]),
                "{length}"
            );
        }
    }

    #[test]
    fn a_pax_record_counts_its_own_length() {
        assert_eq!(pax_record("path", "a"), "9 path=a\n");
        for length in 80..120 {
            let record = pax_record("path", &"x".repeat(length));
            let count = record
                .split(' ')
                .next()
                .and_then(|count| count.parse::<usize>().ok());
            assert_eq!(count, Some(record.len()));
        }
    }
}
