//! Reads artifacts strictly. Only regular files and directories are taken, each path once and below the root; any
//! link, device, sparse file or extension that changes a size is an error, and so is anything over a limit. Nothing
//! of a refused artifact is used.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

use super::{
    path::MAX_PATH,
    tree::{EntryError, File, Tree},
};

/// Up to here no ratio is asked for: a few repeated lines compress a thousandfold.
const RATIO_FREE: u64 = 4 << 20;

/// Bounds of an artifact.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Files and directories.
    pub entries: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Unpacked bytes for each packed byte.
    pub ratio: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            bytes: 100 << 20,
            ratio: 200,
        }
    }
}

impl ReadLimits {
    /// For artifacts that this hub packaged: the same bounds as when it did, so without one of the ratio, which is
    /// there for what strangers packed.
    pub fn packaged_here() -> Self {
        Self {
            ratio: u64::MAX,
            ..Self::default()
        }
    }
}

/// Why an artifact is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Over a limit.
    #[error("the artifact exceeds the limit of {limit} {what}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An entry that is neither file nor directory, or an extension that is not read.
    #[error("the artifact holds '{path}', a {kind}")]
    Kind {
        /// Its path, as far as it is known.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// An entry that cannot stand where it says.
    #[error("the artifact is refused")]
    Entry(#[from] EntryError),
    /// Not gzip, not tar, cut short, or the disk failed.
    #[error("the artifact cannot be read")]
    Io(#[from] io::Error),
}

/// Reads a packed artifact into memory.
pub fn read_tree(packed: impl Read, limits: ReadLimits) -> Result<Tree, ReadError> {
    let mut archive = Archive::new(Bounded {
        gzip: GzDecoder::new(Counted {
            inner: packed,
            count: 0,
        }),
        limits,
        unpacked: 0,
    });
    let mut tree = Tree::default();
    let mut state = State {
        limits,
        entries: 0,
        bytes: 0,
        long_path: None,
    };
    // Raw: the library would otherwise act on extensions itself.
    for entry in archive.entries()?.raw(true) {
        state.take(&mut tree, entry?)?;
    }
    if state.long_path.is_some() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    // What follows the end of the tar must unpack as well, or the checksum of the whole was never looked at.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(tree)
}

struct State {
    limits: ReadLimits,
    entries: usize,
    bytes: u64,
    long_path: Option<String>,
}

impl State {
    fn take<R: Read>(&mut self, tree: &mut Tree, mut entry: tar::Entry<'_, R>) -> Result<(), ReadError> {
        // A long path is in a header of its own before its entry, and is no entry.
        let long_path = match entry.header().entry_type() {
            EntryType::XHeader => Some(pax_path(&mut entry)?),
            EntryType::GNULongName => Some(text(&mut entry)?.trim_end_matches('\0').to_owned()),
            _ => None,
        };
        if let Some(path) = long_path {
            return match self.long_path.replace(path) {
                None => Ok(()),
                Some(path) => Err(ReadError::Kind {
                    path,
                    kind: "path with another one before its entry",
                }),
            };
        }
        self.count(entry.size())?;
        let path = self.path_of(&entry)?;
        match entry.header().entry_type() {
            EntryType::Directory if entry.size() == 0 => {
                if let Some(path) = relative(&path) {
                    tree.insert_directory(path)?;
                }
            }
            EntryType::Regular => {
                let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0));
                entry.read_to_end(&mut bytes)?;
                let executable = entry.header().mode()? & 0o100 != 0;
                let path = relative(&path).ok_or_else(|| EntryError::Path(path.clone()))?;
                tree.insert_file(
                    path,
                    File {
                        executable,
                        bytes: Bytes::from(bytes),
                    },
                )?;
            }
            kind => {
                return Err(ReadError::Kind {
                    path,
                    kind: name_of(kind),
                });
            }
        }
        self.long_path = None;
        Ok(())
    }

    fn count(&mut self, size: u64) -> Result<(), ReadError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.entries > self.limits.entries {
            return Err(ReadError::TooLarge {
                what: "entries",
                limit: self.limits.entries as u64,
            });
        }
        if self.bytes > self.limits.bytes {
            return Err(ReadError::TooLarge {
                what: "bytes",
                limit: self.limits.bytes,
            });
        }
        Ok(())
    }

    fn path_of<R: Read>(&self, entry: &tar::Entry<'_, R>) -> Result<String, ReadError> {
        if let Some(path) = &self.long_path {
            return Ok(path.clone());
        }
        let bytes = entry.path_bytes();
        let path = String::from_utf8(bytes.into_owned());
        path.map_err(|error| EntryError::Path(String::from_utf8_lossy(error.as_bytes()).into_owned()).into())
    }
}

/// The path without the slash at a directory's end; `None` for the root, which Go's tools name `.` or `./`.
fn relative(path: &str) -> Option<&str> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    (!path.is_empty() && path != ".").then_some(path)
}

fn text<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<String, ReadError> {
    if entry.size() > 2 * MAX_PATH as u64 {
        return Err(ReadError::TooLarge {
            what: "bytes of a path",
            limit: MAX_PATH as u64,
        });
    }
    let mut text = String::new();
    entry.read_to_string(&mut text)?;
    Ok(text)
}

/// Reads the path from PAX records. Times and comments are passed over; whatever else is there could make this
/// reader see other files than the next one, and is refused.
fn pax_path<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<String, ReadError> {
    let refused = || ReadError::Kind {
        path: String::new(),
        kind: "PAX extension that is not read",
    };
    let records = text(entry)?;
    let mut rest = records.as_str();
    let mut path = None;
    while !rest.is_empty() {
        let length = rest
            .split(' ')
            .next()
            .and_then(|digits| digits.parse::<usize>().ok())
            .ok_or_else(refused)?;
        let record = rest
            .get(..length)
            .and_then(|record| record.strip_suffix('\n'))
            .ok_or_else(refused)?;
        let (key, value) = record
            .split_once(' ')
            .and_then(|(_, pair)| pair.split_once('='))
            .ok_or_else(refused)?;
        match key {
            "path" if path.is_none() => path = Some(value.to_owned()),
            "mtime" | "atime" | "ctime" | "comment" => {}
            _ => return Err(refused()),
        }
        rest = &rest[length..];
    }
    path.ok_or_else(refused)
}

fn name_of(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "kind of entry that is not read",
    }
}

/// Counts packed bytes.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

/// Stops a bomb while it unpacks: headers and padding count too.
struct Bounded<R: Read> {
    gzip: GzDecoder<Counted<R>>,
    limits: ReadLimits,
    unpacked: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.gzip.read(buffer)?;
        self.unpacked += count as u64;
        let packed = self.gzip.get_ref().count;
        let headers = 4096 * self.limits.entries as u64;
        let over_ratio = self.unpacked > RATIO_FREE && self.unpacked / self.limits.ratio > packed;
        if over_ratio || self.unpacked > self.limits.bytes.saturating_add(headers) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it unpacks to far more than its own size",
            ));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use tar::Header;

    use super::*;

    fn gzip(tar: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(tar).expect("packed");
        encoder.finish().expect("packed")
    }

    fn entry(kind: EntryType, path: &str, size: u64, body: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn read(entries: &[Vec<u8>]) -> Result<Tree, ReadError> {
        let mut tar = entries.concat();
        tar.extend_from_slice(&[0; 1024]);
        read_tree(&gzip(&tar)[..], ReadLimits::default())
    }

    #[test]
    fn links_devices_and_what_changes_sizes_are_refused() {
        let kinds = [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Char,
            EntryType::Block,
            EntryType::Fifo,
            EntryType::GNUSparse,
            EntryType::GNULongLink,
            EntryType::XGlobalHeader,
            EntryType::Continuous,
        ];
        for kind in kinds {
            let result = read(&[entry(kind, "x", 0, b"")]);
            assert!(
                matches!(result, Err(ReadError::Kind { .. })),
                "{kind:?}: {result:?}"
            );
        }
        for record in [
            "10 size=1\n",
            "19 linkpath=/etc/x\n",
            "22 GNU.sparse.major=1\n",
            "99 path=a\n",
            "x path=a\n",
        ] {
            let pax = entry(EntryType::XHeader, "pax", record.len() as u64, record.as_bytes());
            let result = read(&[pax, entry(EntryType::Regular, "f", 0, b"")]);
            assert!(
                matches!(result, Err(ReadError::Kind { .. })),
                "{record:?}: {result:?}"
            );
        }
    }

    #[test]
    fn paths_that_leave_the_root_or_come_twice_are_refused() {
        for path in ["../x", "/etc/x", "a/../../x", "a//b", "a/./b"] {
            assert!(
                matches!(
                    read(&[entry(EntryType::Regular, path, 0, b"")]),
                    Err(ReadError::Entry(_))
                ),
                "{path}"
            );
        }
        let twice = [
            entry(EntryType::Regular, "f", 1, b"1"),
            entry(EntryType::Regular, "f", 1, b"2"),
        ];
        assert!(matches!(
            read(&twice),
            Err(ReadError::Entry(EntryError::Twice(_)))
        ));
        let through = [
            entry(EntryType::Regular, "f", 1, b"1"),
            entry(EntryType::Regular, "f/g", 1, b"2"),
        ];
        assert!(matches!(
            read(&through),
            Err(ReadError::Entry(EntryError::Twice(_)))
        ));
    }

    #[test]
    fn what_go_tools_write_is_read() {
        let tree = read(&[
            entry(EntryType::Directory, "./", 0, b""),
            entry(EntryType::Directory, "a/", 0, b""),
            entry(EntryType::Regular, "./a/f", 2, b"hi"),
        ])
        .expect("read");
        assert_eq!(tree.file("a/f").map(|file| &file.bytes[..]), Some(&b"hi"[..]));
    }

    #[test]
    fn bombs_of_each_kind_end_at_their_limit() {
        let large = read(&[entry(EntryType::Regular, "f", 1 << 40, b"")]);
        assert!(
            matches!(large, Err(ReadError::TooLarge { what: "bytes", .. })),
            "{large:?}"
        );
        let zeros = read(&[entry(EntryType::Regular, "f", 90 << 20, &vec![0; 90 << 20])]);
        assert!(matches!(zeros, Err(ReadError::Io(_))), "{zeros:?}");
        let limits = ReadLimits {
            entries: 10,
            ..ReadLimits::default()
        };
        let many: Vec<u8> = (0..20)
            .flat_map(|n| entry(EntryType::Regular, &format!("f{n}"), 0, b""))
            .collect();
        let many = read_tree(&gzip(&many)[..], limits);
        assert!(
            matches!(many, Err(ReadError::TooLarge { what: "entries", .. })),
            "{many:?}"
        );
    }

    #[test]
    fn long_paths_are_no_entries_and_stand_before_one_each() {
        let limits = ReadLimits {
            entries: 10,
            ..ReadLimits::default()
        };
        let record = "10 path=a\n".as_bytes();
        let long = |path: &str| {
            let record = format!("{} path={path}\n", 9 + path.len());
            let header = entry(EntryType::XHeader, "pax", record.len() as u64, record.as_bytes());
            [header, entry(EntryType::Regular, "long", 0, b"")].concat()
        };
        let ten: Vec<u8> = (0..10)
            .flat_map(|n| long(&format!("f{n}")))
            .chain([0; 1024])
            .collect();
        let read = read_tree(&gzip(&ten)[..], limits).expect("ten files");
        assert_eq!(read.files().count(), 10);
        let header = entry(EntryType::XHeader, "pax", record.len() as u64, record);
        let twice = super::read_tree(&gzip(&header.repeat(20))[..], limits);
        assert!(matches!(twice, Err(ReadError::Kind { .. })), "{twice:?}");
    }

    #[test]
    fn an_artifact_cut_anywhere_is_refused_as_a_whole() {
        let body: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut tar = entry(EntryType::Regular, "f", body.len() as u64, &body);
        tar.extend_from_slice(&[0; 1024]);
        let packed = gzip(&tar);
        assert!(read_tree(&packed[..], ReadLimits::default()).is_ok());
        for sixteenth in 0..16 {
            let cut = packed.len() * sixteenth / 16;
            assert!(
                read_tree(&packed[..cut], ReadLimits::default()).is_err(),
                "cut at {cut}"
            );
        }
        assert!(read_tree(&packed[..packed.len() - 1], ReadLimits::default()).is_err());
    }
}
