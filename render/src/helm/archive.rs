//! Takes the files out of a packaged chart (`.tgz`), refusing whatever could mean two things or too much.
//!
//! Only regular files and directories are allowed, below one top directory whose name does not matter. It
//! reads from memory into memory and never touches a file system.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::context::Stop;
use super::growth::Growth;

/// What every gzipped file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How much a chart may hold. The defaults are those of Flux; what is unpacked counts nested charts too.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the packed chart.
    pub archive_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files together.
    pub unpacked_bytes: u64,
    /// Number of files and directories.
    pub entries: usize,
    /// Bytes of one path.
    pub path_bytes: usize,
    /// Directories above a file.
    pub path_depth: usize,
    /// Levels of subcharts.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 10 << 20,
            file_bytes: 5 << 20,
            unpacked_bytes: 50 << 20,
            entries: 100_000,
            path_bytes: 4096,
            path_depth: 64,
            nesting: 16,
        }
    }
}

/// A file of a chart: its path below the chart's root, and its content without a byte order mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path, with `/` between its parts.
    pub name: String,
    /// The content.
    pub data: Arc<[u8]>,
}

impl File {
    /// Returns a file, without the byte order mark that its content may begin with.
    pub fn new(name: impl Into<String>, data: &[u8]) -> Self {
        let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
        Self {
            name: name.into(),
            data: data.into(),
        }
    }

    /// Returns the content as text, with U+FFFD in place of what is not UTF-8.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.data)
    }

    /// Returns whether the file holds definitions of custom resources: a manifest below `crds/`.
    pub fn is_crd(&self) -> bool {
        let extension = self
            .name
            .rsplit_once('.')
            .map(|(_, extension)| extension.to_ascii_lowercase());
        self.name.starts_with("crds/") && matches!(extension.as_deref(), Some("yaml" | "yml" | "json"))
    }
}

/// Why an archive cannot be taken as a chart. Nothing helps but another archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are not a gzipped tar archive.
    #[error("chart archive cannot be read")]
    Unreadable(#[source] std::io::Error),
    /// Something is larger than [`Limits`] allow; names the limit.
    #[error("chart {what} is over the limit of {limit}")]
    OverLimit {
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// An entry is neither a regular file nor a directory.
    #[error("chart archive entry {0:?} is neither a file nor a directory")]
    Irregular(String),
    /// An entry's path would leave the chart, or cannot be told apart from such a one.
    #[error("chart archive entry {name:?} {why}")]
    Path {
        /// The path as written.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two headers, or two entries, contradict each other.
    #[error("chart archive entry {name:?} has conflicting {what}")]
    Conflict {
        /// The path as written.
        name: String,
        /// What there are two of.
        what: &'static str,
    },
    /// There is no file in the archive.
    #[error("no files in chart archive")]
    Empty,
    /// The caller asked to stop.
    #[error("the loading of the chart was stopped")]
    Stopped,
}

/// What is left of the [`Limits`], counted over a chart and its subcharts.
#[derive(Debug)]
pub struct Budget<'s> {
    limits: Limits,
    bytes: u64,
    entries: usize,
    /// What its YAML may still grow to.
    pub(super) growth: Growth<'s>,
    stop: Option<&'s Stop>,
}

impl From<Limits> for Budget<'_> {
    fn from(limits: Limits) -> Self {
        Self {
            limits,
            bytes: limits.unpacked_bytes,
            entries: limits.entries,
            growth: Growth::of_chart(),
            stop: None,
        }
    }
}

impl<'s> Budget<'s> {
    /// This budget, of which nothing more is taken once the caller wants to stop: it is asked between the pieces of an
    /// archive and between files.
    #[must_use]
    pub fn until(self, stop: &'s Stop) -> Self {
        Self {
            stop: Some(stop),
            growth: self.growth.until(stop),
            ..self
        }
    }

    /// Fails when the caller wants the loading to stop.
    pub fn go_on(&self) -> Result<(), ArchiveError> {
        match self.stop {
            Some(stop) if stop.is_wanted() => Err(ArchiveError::Stopped),
            _ => Ok(()),
        }
    }

    /// Returns the limits that the budget began with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a file of `length` bytes.
    pub fn take(&mut self, name: &str, length: u64) -> Result<(), ArchiveError> {
        if length > self.limits.file_bytes {
            return Err(over(format!("file {name:?}"), size(self.limits.file_bytes)));
        }
        self.bytes = self
            .bytes
            .checked_sub(length)
            .ok_or_else(|| over("content".to_owned(), size(self.limits.unpacked_bytes)))?;
        self.take_entry()
    }

    fn take_entry(&mut self) -> Result<(), ArchiveError> {
        let limit = self.limits.entries;
        self.entries = self
            .entries
            .checked_sub(1)
            .ok_or_else(|| over("content".to_owned(), format!("{limit} files and folders")))?;
        Ok(())
    }
}

fn over(what: String, limit: String) -> ArchiveError {
    ArchiveError::OverLimit { what, limit }
}

/// Returns a number of bytes as errors show it.
pub fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes % MIB {
        0 => format!("{} MiB", bytes / MIB),
        _ => format!("{bytes} bytes"),
    }
}

/// What is unpacked, of which no more comes once the caller wants to stop.
struct Unpacked<'s, R> {
    stream: R,
    stop: Option<&'s Stop>,
    /// What fails then may be told as anything.
    stopped: &'s Cell<bool>,
}

impl<R: Read> Read for Unpacked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.stop {
            Some(stop) if stop.is_wanted() => {
                self.stopped.set(true);
                Err(std::io::ErrorKind::Other.into())
            }
            _ => self.stream.read(buffer),
        }
    }
}

/// Returns the files of a packed chart in the order of the archive.
pub fn read(packed: &[u8], budget: &mut Budget<'_>) -> Result<Vec<File>, ArchiveError> {
    let stopped = Cell::new(false);
    let files = unpack(packed, budget, &stopped);
    match stopped.get() {
        true => Err(ArchiveError::Stopped),
        false => files,
    }
}

fn unpack(packed: &[u8], budget: &mut Budget<'_>, stopped: &Cell<bool>) -> Result<Vec<File>, ArchiveError> {
    let limits = *budget.limits();
    if packed.len() as u64 > limits.archive_bytes {
        return Err(over("archive".to_owned(), size(limits.archive_bytes)));
    }
    if !packed.starts_with(&GZIP) {
        return Err(ArchiveError::Unreadable(std::io::Error::other(
            "it is no gzipped archive",
        )));
    }
    // Directories and headers cost nothing of the byte budget, so the stream itself is bounded too.
    let stream_limit = limits.unpacked_bytes.saturating_mul(2).saturating_add(1 << 20);
    let mut archive = Archive::new(Unpacked {
        stream: MultiGzDecoder::new(packed).take(stream_limit),
        stop: budget.stop,
        stopped,
    });
    let mut files = Vec::new();
    let mut names = BTreeSet::new();
    for entry in archive.entries().map_err(ArchiveError::Unreadable)? {
        let mut entry = entry.map_err(ArchiveError::Unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => continue,
            EntryType::Directory => {
                budget.take_entry()?;
                continue;
            }
            EntryType::Regular | EntryType::Continuous => {}
            _ => return Err(ArchiveError::Irregular(name)),
        }
        if std::str::from_utf8(&entry.path_bytes()).is_err() {
            return Err(ArchiveError::Path {
                name,
                why: "has a name that is not UTF-8",
            });
        }
        let inside = path_in_chart(&name, &limits)?;
        check_size(&mut entry, &name)?;
        budget.take(&name, entry.size())?;
        let mut data = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or_default());
        entry.read_to_end(&mut data).map_err(ArchiveError::Unreadable)?;
        if data.len() as u64 != entry.size() {
            return Err(ArchiveError::Unreadable(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if !names.insert(inside.clone()) {
            return Err(ArchiveError::Conflict {
                name,
                what: "contents",
            });
        }
        files.push(File::new(inside, &data));
    }
    if files.is_empty() {
        Err(ArchiveError::Empty)
    } else {
        Ok(files)
    }
}

/// Refuses an extended header whose size is not that of the entry's own header: readers differ in which of
/// the two they follow, and so in what the rest of the archive is.
fn check_size(entry: &mut Entry<'_, impl Read>, name: &str) -> Result<(), ArchiveError> {
    let own = entry.header().entry_size().map_err(ArchiveError::Unreadable)?;
    let mut sizes = Vec::new();
    if let Some(extensions) = entry.pax_extensions().map_err(ArchiveError::Unreadable)? {
        for extension in extensions {
            let extension = extension.map_err(ArchiveError::Unreadable)?;
            match extension.key_bytes() {
                b"size" => sizes.push(extension.value_bytes().to_vec()),
                b"linkpath" => {
                    return Err(ArchiveError::Conflict {
                        name: name.to_owned(),
                        what: "kinds",
                    });
                }
                _ => {}
            }
        }
    }
    let same = |size: &Vec<u8>| *size == own.to_string().into_bytes();
    if own == entry.size() && sizes.iter().all(same) {
        Ok(())
    } else {
        Err(ArchiveError::Conflict {
            name: name.to_owned(),
            what: "sizes",
        })
    }
}

/// Returns the path below the archive's top directory.
fn path_in_chart(name: &str, limits: &Limits) -> Result<String, ArchiveError> {
    let fault = |why| ArchiveError::Path {
        name: name.to_owned(),
        why,
    };
    if name.len() > limits.path_bytes {
        return Err(over(
            format!("path of {} bytes", name.len()),
            size(limits.path_bytes as u64),
        ));
    }
    if name.contains('\0') {
        return Err(fault("has a zero byte in its path"));
    }
    // An archive made on Windows separates with backslashes.
    let separator = if name.contains('\\') { '\\' } else { '/' };
    let (top, rest) = name.split_once(separator).unwrap_or((name, ""));
    let rest = rest.replace(separator, "/");
    if top == "Chart.yaml" {
        return Err(fault("is not in a base directory"));
    }
    if rest.starts_with('/') {
        return Err(fault("has an absolute path"));
    }
    let clean = clean(&rest).ok_or_else(|| fault("references a parent directory"))?;
    if clean.is_empty() {
        return Err(fault("is outside the base directory"));
    }
    if is_drive_path(&clean) {
        return Err(fault("names a drive"));
    }
    if clean.split('/').count() > limits.path_depth {
        return Err(over(
            format!("depth of path {name:?}"),
            format!("{} folders", limits.path_depth),
        ));
    }
    Ok(clean)
}

/// Resolves `.` and `..`; none when the path leaves its root, or only seems to (`..x`), as in the reference.
fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let clean = parts.join("/");
    (!clean.starts_with("..")).then_some(clean)
}

fn is_drive_path(path: &str) -> bool {
    matches!(path.as_bytes(), [drive, b':', b'/', ..] if drive.is_ascii_alphabetic())
}
