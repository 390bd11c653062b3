//! The manifest of a backup: whose it is, of when, and which files belong to it, each with its digest. It is written last
//! and read first: what it does not name is no part of the backup.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The form that this release writes, and reads.
pub(super) const FORM: u32 = 1;
const NAME: &str = "manifest.json";
/// Bytes of a manifest, at most.
const LONGEST: u64 = 64 << 20;

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Which form it has.
    pub form: u32,
    /// The hub.
    pub trust_domain: String,
    /// The number of its history.
    pub incarnation: u64,
    /// The newest migration of its schema.
    pub schema: i64,
    /// The schema of the database that its tables are in.
    pub schema_name: String,
    /// The major version of its server.
    pub postgres: u32,
    /// The release that has written it.
    pub release: String,
    /// When the dump was complete.
    pub taken_at: String,
    /// Whether the artifacts are in it.
    pub artifacts: Artifacts,
    /// Its files.
    pub files: Vec<FileRow>,
}

/// Whether artifacts are in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Artifacts {
    /// They are.
    Included,
    /// They are fetched again from their sources.
    LeftOut,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRow {
    /// Where it is in the backup.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
}

impl Manifest {
    /// What is in it, for people.
    pub fn contents(&self) -> String {
        let bytes: u64 = self.files.iter().map(|file| file.size).sum();
        let artifacts = match self.artifacts {
            Artifacts::Included => "artifacts",
            Artifacts::LeftOut => "no artifacts (they are fetched again)",
        };
        format!(
            "database, key-encryption key, {artifacts}; {} files, {} KiB",
            self.files.len(),
            bytes.div_ceil(1024)
        )
    }

    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let mut file = fresh(&dir.join(NAME))?;
        file.write_all(&text).and_then(|()| file.sync_all())?;
        synced(dir)
    }

    /// Reads the manifest of a backup, and proves that each of its files is there as it was written.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(NAME);
        let mut text = Vec::new();
        let file = File::open(&path).with_context(|| {
            format!(
                "{} is no backup, or one that was not written to its end: it has no {NAME}",
                dir.display()
            )
        })?;
        file.take(LONGEST).read_to_end(&mut text)?;
        let read: Self = serde_json::from_slice(&text)
            .map_err(|error| anyhow::anyhow!("{} cannot be read: line {}", path.display(), error.line()))?;
        anyhow::ensure!(
            read.form == FORM,
            "{} is of a release that writes backups in another form ({}): restore it with flotilla-hub {}",
            dir.display(),
            read.form,
            read.release
        );
        for file in &read.files {
            anyhow::ensure!(
                is_inside(&file.path),
                "the backup in {} is damaged: it names a file outside of it",
                dir.display()
            );
            let found = hashed(dir, &file.path)?;
            anyhow::ensure!(
                found == *file,
                "the backup in {} is damaged: {} is not as it was written",
                dir.display(),
                file.path
            );
        }
        Ok(read)
    }

    /// Whether a file belongs to it.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }
}

fn is_inside(path: &str) -> bool {
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    !path.is_empty() && Path::new(path).components().all(is_name)
}

/// A file of the backup in `dir`, as it is now.
pub(super) fn hashed(dir: &Path, path: &str) -> anyhow::Result<FileRow> {
    let full = dir.join(path);
    let failed = || format!("cannot read {}", full.display());
    let mut hash = Sha256::new();
    let size = each_part(&full, |part| {
        hash.update(part);
        Ok(())
    });
    Ok(row(path, size.with_context(failed)?, hash))
}

/// Copies a file into the backup in `dir`, where none may read it but us.
pub(super) fn copied(from: &Path, dir: &Path, path: &str) -> anyhow::Result<FileRow> {
    let to = dir.join(path);
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    let mut hash = Sha256::new();
    let copy = || {
        let mut file = fresh(&to)?;
        let size = each_part(from, |part| {
            hash.update(part);
            file.write_all(part)
        })?;
        file.sync_all()?;
        io::Result::Ok(size)
    };
    let mut copy = copy;
    let size = copy().with_context(failed)?;
    Ok(row(path, size, hash))
}

fn row(path: &str, size: u64, hash: Sha256) -> FileRow {
    FileRow {
        path: path.to_owned(),
        size,
        sha256: hex::encode(hash.finalize()),
    }
}

fn each_part(path: &Path, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let (mut part, mut size) = (vec![0; 64 << 10], 0);
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok(size);
        }
        take(&part[..read])?;
        size += read as u64;
    }
}

/// Copies the files below `from`. What is being written there, or is removed meanwhile, is no part of it.
pub(super) fn copy_tree(
    from: &Path,
    dir: &Path,
    under: &str,
    files: &mut Vec<FileRow>,
) -> anyhow::Result<()> {
    let to = dir.join(under);
    fs::create_dir(&to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut entries: Vec<PathBuf> = fs::read_dir(from)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot read {}", from.display()))?;
    entries.sort_unstable();
    for entry in entries {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Ok(found) = fs::symlink_metadata(&entry) else {
            continue;
        };
        let path = format!("{under}/{name}");
        if found.is_dir() {
            copy_tree(&entry, dir, &path, files)?;
        } else if found.is_file() && !name.contains('#') {
            match copied(&entry, dir, &path) {
                Ok(file) => files.push(file),
                Err(_) if !entry.exists() => drop(fs::remove_file(dir.join(&path))),
                Err(error) => return Err(error),
            }
        }
    }
    synced(&to)
}

/// A new file that none may read but us.
pub(super) fn fresh(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Makes durable what a directory names.
pub(super) fn synced(dir: &Path) -> anyhow::Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot write {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: Vec<FileRow>) -> Manifest {
        Manifest {
            form: FORM,
            trust_domain: "fleet.test".into(),
            incarnation: 7,
            schema: 1,
            schema_name: "public".into(),
            postgres: 15,
            release: "0.1.0".into(),
            taken_at: "2026-11-30T00:00:00Z".into(),
            artifacts: Artifacts::LeftOut,
            files,
        }
    }

    #[test]
    fn a_backup_with_a_damaged_a_missing_or_no_file_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let refused = Manifest::read(dir).expect_err("nothing there").to_string();
        assert!(refused.contains("no backup"), "{refused}");
        fs::write(dir.join("from"), "secret").expect("written");
        let whole = manifest(vec![copied(&dir.join("from"), dir, "kek").expect("copied")]);
        whole.write(dir).expect("written");
        assert_eq!(Manifest::read(dir).expect("whole"), whole);
        for damaged in ["secreT", "secret2", ""] {
            fs::write(dir.join("kek"), damaged).expect("written");
            let refused = Manifest::read(dir).expect_err(damaged).to_string();
            assert!(refused.contains("damaged: kek"), "{refused}");
        }
        fs::remove_file(dir.join("kek")).expect("removed");
        let refused = format!("{:#}", Manifest::read(dir).expect_err("missing"));
        assert!(refused.contains("kek"), "{refused}");
    }

    #[test]
    fn a_manifest_that_names_files_elsewhere_is_refused() {
        for path in ["../kek", "/etc/hostname", "a/../../b", ""] {
            let place = tempfile::tempdir().expect("a directory");
            let file = FileRow {
                path: path.into(),
                size: 0,
                sha256: String::new(),
            };
            manifest(vec![file]).write(place.path()).expect("written");
            let refused = Manifest::read(place.path()).expect_err(path).to_string();
            assert!(refused.contains("outside"), "{refused}");
        }
    }
}
