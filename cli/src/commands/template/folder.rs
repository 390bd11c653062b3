//! Reads the files of a chart's folder, without those that its `.helmignore` names, within limits.
//!
//! Links are followed, as Helm does: the folder is the user's own.

use std::fs::{self, FileType};
use std::path::Path;

use flotilla_render::helm::archive::{File, Limits};
use flotilla_render::helm::context::Stop;
use flotilla_render::helm::ignore::{FILE_NAME, IgnoreError, Rules};

use super::error::{Over, TemplateError};
use super::read::{read_bounded, read_into, unreadable};

/// The room for a file that is read; most are smaller, and so are read at once.
const BUFFER: usize = 64 << 10;

/// Returns the files below `root`, by paths with `/` between their parts. The caller may stop before each entry of a
/// folder and each piece of a file.
pub(super) fn read(root: &Path, limits: &Limits, stop: &Stop) -> Result<Vec<File>, TemplateError> {
    let rules = rules(root, limits, stop)?;
    let mut walk = Walk {
        root,
        rules,
        limits,
        stop,
        left: limits.unpacked_bytes,
        entries: 0,
        files: Vec::new(),
        buffer: Vec::with_capacity(BUFFER),
    };
    walk.folder("", 0)?;
    Ok(walk.files)
}

fn rules(root: &Path, limits: &Limits, stop: &Stop) -> Result<Rules, TemplateError> {
    let path = root.join(FILE_NAME);
    let shown = path.display().to_string();
    let text = match fs::File::open(&path) {
        Ok(file) => {
            let bytes = read_bounded(file, &shown, limits.file_bytes, stop)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unreadable(&shown, error)),
    };
    Rules::parse(&text).map_err(|source| unusable(root, source))
}

fn unusable(root: &Path, source: IgnoreError) -> TemplateError {
    TemplateError::Chart {
        chart: root.display().to_string(),
        source: source.into(),
    }
}

struct Walk<'a> {
    root: &'a Path,
    rules: Rules,
    limits: &'a Limits,
    stop: &'a Stop,
    left: u64,
    entries: usize,
    files: Vec<File>,
    buffer: Vec<u8>,
}

impl Walk<'_> {
    fn folder(&mut self, below: &str, depth: usize) -> Result<(), TemplateError> {
        let path = self.root.join(below);
        let shown = path.display().to_string();
        if depth > self.limits.path_depth {
            return Err(TemplateError::TooLarge {
                path: shown,
                over: Over::Depth(self.limits.path_depth),
            });
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(|source| unreadable(&shown, source))? {
            let entry = entry.map_err(|source| unreadable(&shown, source))?;
            self.go_on(&shown)?;
            // What the folder says of a link is not what it leads to.
            let kind = entry.file_type().ok().filter(|kind| !kind.is_symlink());
            names.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
                kind,
            ));
        }
        names.sort_by(|(left, ..), (right, ..)| left.cmp(right));
        for (name, path, kind) in names {
            let name = match below {
                "" => name,
                _ => format!("{below}/{name}"),
            };
            self.entry(name, &path, kind, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        name: String,
        path: &Path,
        kind: Option<FileType>,
        depth: usize,
    ) -> Result<(), TemplateError> {
        let shown = path.display().to_string();
        self.go_on(&shown)?;
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(TemplateError::TooLarge {
                path: shown,
                over: Over::Entries(self.limits.entries),
            });
        }
        let kind = match kind {
            Some(kind) => kind,
            None => fs::metadata(path)
                .map_err(|source| unreadable(&shown, source))?
                .file_type(),
        };
        let is_ignored = self.rules.is_ignored(&name, kind.is_dir());
        if is_ignored.map_err(|source| unusable(self.root, source))? {
            return Ok(());
        }
        if path.to_str().is_none() {
            return Err(unreadable(&shown, std::io::Error::other("its name is not UTF-8")));
        }
        if kind.is_dir() {
            return self.folder(&name, depth + 1);
        }
        if !kind.is_file() {
            return Err(unreadable(
                &shown,
                std::io::Error::other("it is neither a file nor a folder"),
            ));
        }
        let file = fs::File::open(path).map_err(|source| unreadable(&shown, source))?;
        let (over, limit) = if self.limits.file_bytes <= self.left {
            (Over::File(self.limits.file_bytes), self.limits.file_bytes)
        } else {
            (Over::Chart(self.limits.unpacked_bytes), self.left)
        };
        read_into(&mut self.buffer, file, &shown, (over, limit), self.stop)?;
        self.left -= self.buffer.len() as u64;
        self.files.push(File::new(name, &self.buffer));
        Ok(())
    }

    fn go_on(&self, shown: &str) -> Result<(), TemplateError> {
        match self.stop.is_wanted() {
            true => Err(TemplateError::Stopped(shown.to_owned())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::path::Path;
    use std::rc::Rc;

    use flotilla_render::helm::archive::Limits;
    use flotilla_render::helm::context::Stop;

    use super::read;
    use crate::commands::template::error::TemplateError;

    fn never() -> Stop {
        Stop::new(|| false)
    }

    #[test]
    fn a_caller_stops_the_reading_of_a_folder_at_each_entry_and_each_piece() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("files")).expect("a folder");
        let asked = |count: usize| {
            for at in 0..count {
                fs::write(folder.path().join(format!("files/{at}.txt")), "a").expect("a file");
            }
            let times = asked(folder.path(), usize::MAX).0;
            for last in 1..=times {
                let (asked, files) = asked(folder.path(), last);
                let error = files.expect_err("it is stopped");
                assert!(matches!(error, TemplateError::Stopped(_)), "{error}");
                assert_eq!(asked, last, "nothing goes on once the caller wants to stop");
            }
            times
        };
        // Where the folder names it, where it is opened, for its bytes and for its end.
        let few = asked(2);
        assert_eq!(asked(12) - few, 4 * 10);
    }

    /// Reads a folder until the caller wants to stop, and returns how often it was asked.
    fn asked(root: &Path, last: usize) -> (usize, Result<usize, TemplateError>) {
        let asked = Rc::new(Cell::new(0));
        let counted = asked.clone();
        let stop = Stop::new(move || {
            counted.set(counted.get() + 1);
            counted.get() == last
        });
        let files = read(root, &Limits::default(), &stop).map(|files| files.len());
        (asked.get(), files)
    }

    #[test]
    fn what_is_over_a_limit_is_named_in_the_unit_of_that_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("a/b/c")).expect("folders");
        fs::write(root.join("a/b/c/x"), vec![0; 3 << 20]).expect("a file");
        fs::write(root.join("y"), vec![0; 2 << 20]).expect("a file");
        let all = Limits::default();
        assert!(read(root, &all, &never()).is_ok_and(|files| files.len() == 2));
        for (limits, path, words) in [
            (
                Limits { path_depth: 2, ..all },
                "a/b/c",
                "it is more than 2 folders deep in the chart",
            ),
            (
                Limits { entries: 4, ..all },
                "y",
                "with it the chart has more than 4 files and folders",
            ),
            (
                Limits {
                    file_bytes: 2 << 20,
                    ..all
                },
                "a/b/c/x",
                "it is larger than 2 MiB",
            ),
            (
                Limits {
                    unpacked_bytes: 4 << 20,
                    ..all
                },
                "y",
                "with it the files of the chart take more than 4 MiB",
            ),
        ] {
            let error = read(root, &limits, &never()).expect_err(words).to_string();
            let shown = root.join(path).display().to_string();
            assert_eq!(error, format!("{shown}: {words}"));
        }
    }
}
