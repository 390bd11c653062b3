//! Reads the corpus: text files of cases, each a few files of a source.
//!
//! A case begins with `=== name`, and says what kustomize does with it: `>>> builds`, or `>>> fails: ` and words of its
//! error, and `>>> here: ` and words of ours where they are others. Where the two differ, `>>> row: ` and the first
//! words of the row of `kustomize-differences.md` that says so, and then what each makes of it, `>>> kustomize: ` and
//! `>>> flotilla: `, with `builds: ` or `fails: ` and a part of the text, in which `\n` ends a line and `\\` is a backslash. `--- path` begins a file of it; `+++ name` adds files of `shared`. Files that stand
//! in `shared` are those of the same name there. `<TAB>`, `<CR>` and `<BOM>` stand for these characters, and `<EOF>` at the end
//! of a line for the end of a file without a line break. The directory that is built is the one of the first file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One source and the directory of it that is built.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) directory: String,
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) expected: Expected,
}

/// What a case is expected to become.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Expected {
    /// Whatever kustomize makes of it.
    #[default]
    Alike,
    Builds,
    Fails {
        /// Words of kustomize's error.
        theirs: String,
        /// Words of ours.
        ours: String,
    },
    /// What a row of the table of differences says.
    Differs {
        /// The first words of the row.
        row: String,
        theirs: Made,
        ours: Made,
    },
}

/// What one of the two makes of a source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Made {
    /// A result with this text.
    Builds(String),
    /// An error with these words.
    Fails(String),
}

impl Made {
    fn read(said: &str) -> Option<Made> {
        // `\\` is a backslash.
        let text = |text: &str| {
            let parts: Vec<String> = text.split("\\\\").map(|part| part.replace("\\n", "\n")).collect();
            parts.join("\\")
        };
        let builds = said
            .strip_prefix("builds: ")
            .map(|words| Made::Builds(text(words)));
        builds.or_else(|| Some(Made::Fails(text(said.strip_prefix("fails: ")?))))
    }

    /// Tells whether this is what was made.
    pub(crate) fn is(&self, made: &Result<String, String>) -> bool {
        match (self, made) {
            (Made::Builds(part), Ok(text)) => text.contains(part),
            (Made::Fails(part), Err(error)) => error.contains(part),
            _ => false,
        }
    }
}

impl Case {
    fn expect(&mut self, said: &str) {
        if said == "builds" {
            self.expected = Expected::Builds;
        } else if let Some(words) = said.strip_prefix("fails: ") {
            self.expected = Expected::Fails {
                theirs: words.to_owned(),
                ours: words.to_owned(),
            };
        } else if let Some(words) = said.strip_prefix("row: ") {
            self.expected = Expected::Differs {
                row: words.to_owned(),
                theirs: Made::Fails(String::new()),
                ours: Made::Fails(String::new()),
            };
        } else if let (Some(made), Expected::Differs { theirs, .. }) = (
            said.strip_prefix("kustomize: ").and_then(Made::read),
            &mut self.expected,
        ) {
            *theirs = made;
        } else if let (Some(made), Expected::Differs { ours, .. }) = (
            said.strip_prefix("flotilla: ").and_then(Made::read),
            &mut self.expected,
        ) {
            *ours = made;
        } else if let (Some(words), Expected::Fails { ours, .. }) =
            (said.strip_prefix("here: "), &mut self.expected)
        {
            words.clone_into(ours);
        } else {
            panic!("{}: nothing is expected by {said:?}", self.name);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kustomize")
}

/// Reads every case.
pub(crate) fn cases() -> Vec<Case> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("cases"))
        .expect("the corpus is there")
        .map(|entry| entry.expect("the corpus is readable").path())
        .collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a corpus file is text");
        let file = path
            .file_stem()
            .and_then(|s| s.to_str())
            .expect("a corpus file has a name")
            .to_string();
        cases.extend(parse(&file, &text));
    }
    let only = std::env::var("KUSTOMIZE_ONLY").unwrap_or_default();
    cases.retain(|case| case.name.contains(&only));
    cases
}

/// Writes a case as the corpus has it, so that appending the text to a file of `cases` adopts it.
pub(crate) fn to_text(case: &Case) -> String {
    let mut text = format!("=== {}\n", case.name);
    if case.expected == Expected::Builds {
        text.push_str(">>> builds\n");
    }
    let own = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder) == case.directory;
    let (first, rest): (Vec<_>, Vec<_>) = case.files.iter().partition(|(path, _)| own(path));
    for (path, content) in first.into_iter().chain(rest) {
        let content = content
            .replace('\t', "<TAB>")
            .replace('\r', "<CR>")
            .replace('\u{feff}', "<BOM>");
        text.push_str(&format!("--- {path}\n{content}"));
        if !content.ends_with('\n') {
            text.push_str("<EOF>\n");
        }
    }
    text
}

fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            let name = format!("{file}/{}", name.trim());
            cases.push(Case {
                name,
                directory: String::new(),
                files: BTreeMap::new(),
                expected: Expected::Alike,
            });
            open = None;
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if let Some(said) = line.strip_prefix(">>> ").filter(|_| case.files.is_empty()) {
            case.expect(said);
            continue;
        }
        if let Some(path) = line
            .strip_prefix("--- ")
            .filter(|p| p.contains('.') || p.contains("ustomization"))
        {
            let path = path.trim().to_string();
            if case.files.is_empty() {
                case.directory = path
                    .rsplit_once('/')
                    .map_or(String::new(), |(dir, _)| dir.to_string());
            }
            case.files.insert(path.clone(), String::new());
            open = Some(path);
        } else if let Some(name) = line.strip_prefix("+++ ") {
            let (path, name) = name.split_once(" = ").unwrap_or((name, name));
            let shared = std::fs::read_to_string(root().join("shared").join(name.trim()));
            let shared = shared.unwrap_or_else(|_| panic!("{}: no shared file {name}", case.name));
            case.files.insert(path.trim().to_string(), shared);
            open = None;
        } else if let Some(path) = &open {
            let content = case.files.get_mut(path).expect("an open file is one of the case");
            let (line, end) = match line.strip_suffix("<EOF>") {
                Some(line) => (line, ""),
                None => (line, "\n"),
            };
            content.push_str(
                &line
                    .replace("<TAB>", "\t")
                    .replace("<CR>", "\r")
                    .replace("<BOM>", "\u{feff}"),
            );
            content.push_str(end);
        }
    }
    cases
}

#[test]
fn a_case_written_as_text_is_read_as_the_same_case() {
    for seed in 0..50 {
        let case = crate::random::case(seed);
        let read = parse("random", &to_text(&case));
        let expected = Case {
            name: format!("random/{}", case.name),
            ..case
        };
        assert_eq!(read, [expected]);
    }
}
