//! The results file and the page beside it, kept whole after every figure: a measurement that fails later loses
//! none that was taken before.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Conditions, Figure, page};

const RESULTS: &str = "target/bench/results.json";
const PAGE: &str = "docs/benchmarks.md";

/// Why figures could not be recorded, or what they say of the gates.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file could not be read or written; the disk or the folder needs a look.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The results file is not one of this program's; removing it starts anew.
    #[error("{path} holds no results: remove it to start anew")]
    Results {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Everything is written, and these figures are on the wrong side of their gates.
    #[error("gates missed: {}", .0.join(", "))]
    Missed(Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    figure: Figure,
    conditions: Conditions,
}

/// The figures recorded so far, this run's and those before it.
#[derive(Debug)]
pub struct Record {
    root: PathBuf,
    conditions: Conditions,
    entries: BTreeMap<String, Entry>,
    missed: Vec<String>,
}

impl Record {
    /// Opens the record below `root`, the folder of the repository; none there yet is an empty one.
    ///
    /// # Errors
    /// A results file that cannot be read, or holds something else.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, RecordError> {
        let root = root.into();
        let path = root.join(RESULTS);
        let entries: Vec<Entry> = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| RecordError::Results { path, source })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(RecordError::File { path, source }),
        };
        Ok(Self {
            root,
            conditions: Conditions::of_this_machine(),
            entries: entries
                .into_iter()
                .map(|entry| (entry.figure.name.clone(), entry))
                .collect(),
            missed: Vec::new(),
        })
    }

    /// Prints a figure, replaces the one of its name, and writes both files.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn add(&mut self, figure: Figure) -> Result<(), RecordError> {
        let gate = figure.gate.map_or(String::new(), |gate| format!(" ({gate})"));
        println!(
            "{:40} {:>10} {}{gate}  {}",
            figure.name,
            page::rounded(figure.value),
            figure.unit,
            figure.note
        );
        if let Some(gate) = figure.missed() {
            self.missed.push(format!(
                "{} is {}, not {gate}",
                figure.name,
                page::rounded(figure.value)
            ));
        }
        let conditions = self.conditions.clone();
        self.entries
            .insert(figure.name.clone(), Entry { figure, conditions });
        self.write()
    }

    /// Returns the recorded value of a name, this run's or an older one.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.entries.get(name).map(|entry| entry.figure.value)
    }

    /// Ends the run.
    ///
    /// # Errors
    /// [`RecordError::Missed`] when a figure added in this run misses its gate.
    pub fn close(self) -> Result<(), RecordError> {
        if self.missed.is_empty() {
            Ok(())
        } else {
            Err(RecordError::Missed(self.missed))
        }
    }

    fn write(&self) -> Result<(), RecordError> {
        let entries: Vec<&Entry> = self.entries.values().collect();
        let path = self.root.join(RESULTS);
        let json =
            serde_json::to_string_pretty(&entries).map_err(|source| RecordError::Results { path, source })?;
        self.replace(RESULTS, &(json + "\n"))?;
        let older = fs::read_to_string(self.root.join(PAGE)).unwrap_or_default();
        let figures = entries.iter().map(|entry| (&entry.figure, &entry.conditions));
        self.replace(PAGE, &page::page(figures, &older))
    }

    /// Writes beside the file first, so that no half of one is ever left.
    fn replace(&self, name: &str, text: &str) -> Result<(), RecordError> {
        let path = self.root.join(name);
        let beside = path.with_extension("new");
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&beside, text))
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|source| RecordError::File { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(root: &Path, name: &str) -> String {
        fs::read_to_string(root.join(name)).unwrap()
    }

    #[test]
    fn a_later_run_replaces_its_own_figures_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Record::open(dir.path()).unwrap();
        first.add(Figure::new("a", 1.0, "s", "old")).unwrap();
        first.add(Figure::new("b", 2.0, "s", "old")).unwrap();
        first.close().unwrap();

        let mut second = Record::open(dir.path()).unwrap();
        assert_eq!(second.value("b"), Some(2.0));
        second.add(Figure::new("b", 3.0, "s", "new")).unwrap();
        second.close().unwrap();

        let third = Record::open(dir.path()).unwrap();
        assert_eq!((third.value("a"), third.value("b")), (Some(1.0), Some(3.0)));
        let page = read(dir.path(), PAGE);
        assert!(
            page.contains("| `a` | 1 |") && page.contains("| `b` | 3 |"),
            "{page}"
        );
    }

    #[test]
    fn a_missed_gate_fails_the_run_after_everything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path()).unwrap();
        record
            .add(Figure::new("slow", 2.0, "ratio", "").at_least(10.0))
            .unwrap();
        record
            .add(Figure::new("fast", 20.0, "ratio", "").at_least(10.0))
            .unwrap();
        let error = record.close().unwrap_err();
        assert_eq!(error.to_string(), "gates missed: slow is 2, not >= 10");
        assert!(read(dir.path(), RESULTS).contains("\"fast\""));
        // What an earlier run missed is not this run's fault.
        Record::open(dir.path()).unwrap().close().unwrap();
    }

    #[test]
    fn a_results_file_of_something_else_is_an_error_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("target/bench")).unwrap();
        fs::write(dir.path().join(RESULTS), "{}").unwrap();
        let error = Record::open(dir.path()).unwrap_err();
        assert!(matches!(error, RecordError::Results { .. }), "{error}");
        assert_eq!(read(dir.path(), RESULTS), "{}");
    }
}
