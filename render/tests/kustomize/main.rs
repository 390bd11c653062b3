//! Compares the kustomize engine with kustomize itself: on a corpus of fixtures, and on generated sources.
//!
//! The oracle is a Go program that links kustomize; it is built once and kept under the user's cache. Without Go
//! these tests fail: agreement that nobody measured is not agreement.

mod corpus;
mod differences;
mod oracle;
mod random;
mod reads;
mod texts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};
use flotilla_render_tests::{cases, seed};

use corpus::{Case, Expected};
use oracle::Oracle;

/// What became of one case.
struct Outcome {
    name: String,
    /// What became of it here, on one line.
    brief: String,
    agrees: bool,
    builds: bool,
    report: String,
}

fn compare(oracle: &mut Oracle, case: &Case) -> Outcome {
    let tree: MemoryTree = case
        .files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_bytes()))
        .collect();
    let budget = Budget::default();
    let ours = build(&RenderInput::new(&tree, &case.directory, &budget))
        .map(|rendered| rendered.to_yaml())
        .map_err(|error| error.to_string());
    let answer = oracle.ask(case);
    let theirs = answer.error.map_or(Ok(answer.yaml), Err);
    let agrees = match (&ours, &theirs, &case.expected) {
        (Ok(ours), Ok(theirs), Expected::Builds | Expected::Alike) => ours == theirs,
        (Err(_), Err(_), Expected::Alike) => true,
        (Err(our), Err(their), Expected::Fails { theirs, ours }) => {
            // Their words may stand on several lines.
            let their = their.split_whitespace().collect::<Vec<_>>().join(" ");
            their.contains(theirs.as_str()) && our.contains(ours.as_str())
        }
        (our, their, Expected::Differs { theirs, ours, .. }) => {
            our != their && theirs.is(their) && ours.is(our)
        }
        _ => false,
    };
    Outcome {
        name: case.name.clone(),
        agrees,
        builds: theirs.is_ok(),
        brief: match &ours {
            Ok(text) => format!("{} bytes", text.len()),
            Err(error) => error.replace('\n', " "),
        },
        report: describe(case, &ours, &theirs),
    }
}

fn describe(case: &Case, ours: &Result<String, String>, theirs: &Result<String, String>) -> String {
    let shown = |result: &Result<String, String>| match result {
        Ok(text) => text.clone(),
        Err(error) => format!("error: {error}"),
    };
    let mut files = String::new();
    for (path, text) in &case.files {
        files.push_str(&format!("-- {path} --\n{text}"));
    }
    format!(
        "=== {} ({:?})\n{files}\n>>> kustomize\n{}\n>>> flotilla\n{}\n",
        case.name,
        case.expected,
        shown(theirs),
        shown(ours)
    )
}

/// Fails unless every outcome agrees to the byte and so many of a hundred build, printing the figures either way.
fn require_agreement(what: &str, outcomes: &[Outcome], least: usize) {
    let wrong: Vec<&Outcome> = outcomes.iter().filter(|o| !o.agrees).collect();
    let builds = outcomes.iter().filter(|o| o.builds).count();
    let total = outcomes.len();
    println!(
        "{what}: {} of {total} agree to the byte, {builds} of them build",
        total - wrong.len()
    );
    for outcome in wrong.iter().take(12) {
        println!("{}", outcome.report);
    }
    for outcome in &wrong {
        println!("disagrees: {}: {}", outcome.name, outcome.brief);
    }
    let names: Vec<&str> = wrong.iter().map(|o| o.name.as_str()).collect();
    assert!(
        wrong.is_empty(),
        "{what}: {} of {total} disagree: {names:?}",
        wrong.len()
    );
    // One who looks at a few cases knows which.
    let all = std::env::var_os("KUSTOMIZE_ONLY").is_none();
    assert!(
        !all || builds * 100 >= total * least,
        "{what}: only {builds} of {total} build"
    );
}

/// Writes a case on which the two disagree as a fixture: a directory to build by hand, and the text to adopt.
fn keep(case: &Case) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kustomize-disagreements");
    let folder = kept.join(&case.name);
    write(case, &folder);
    let text = kept.join(format!("{}.txt", case.name));
    std::fs::write(&text, corpus::to_text(case)).expect("the target directory is writable");
    println!(
        "{}: the source is in {}; once the cause is known, adopt it with\n    cat {} >> render/tests/kustomize/cases/random.txt",
        case.name,
        folder.join(&case.directory).display(),
        text.display()
    );
}

/// Writes the files of a case below a folder of the target directory.
fn write(case: &Case, folder: &Path) {
    for (path, text) in &case.files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).expect("the target directory is writable");
        std::fs::write(path, text).expect("the target directory is writable");
    }
}

#[test]
fn the_engine_agrees_with_kustomize_on_every_fixture() {
    let mut oracle = Oracle::start();
    let outcomes: Vec<Outcome> = corpus::cases()
        .iter()
        .map(|case| compare(&mut oracle, case))
        .collect();
    require_agreement("fixtures", &outcomes, 70);
}

#[test]
fn the_engine_agrees_with_kustomize_on_generated_sources() {
    let (first, count) = (seed(0), cases(300));
    let mut oracle = Oracle::start();
    let outcomes: Vec<Outcome> = (first..first + count as u64)
        .map(|seed| {
            let case = random::case(seed);
            let outcome = compare(&mut oracle, &case);
            if !outcome.agrees {
                keep(&case);
            }
            outcome
        })
        .collect();
    require_agreement("generated sources", &outcomes, 40);
}

/// Reads the texts below a folder, by their path in it; what is no text, or large, is left out.
fn texts_below(root: &Path) -> BTreeMap<String, String> {
    const LARGEST: u64 = 1 << 20;
    let mut texts = BTreeMap::new();
    let mut waiting: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry").path();
            let about = std::fs::symlink_metadata(&path).expect("an entry is there");
            if about.is_dir() {
                waiting.push(path);
            } else if about.is_file()
                && about.len() <= LARGEST
                && let Ok(text) = std::fs::read_to_string(&path)
                && let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            {
                texts.insert(name.to_owned(), text);
            }
        }
    }
    texts
}

/// Returns the files that a kustomization of a directory may reach: those of the folders that it and what it names
/// climb to.
fn reached(texts: &BTreeMap<String, String>, directory: &str) -> BTreeMap<String, String> {
    let mut roots = vec![directory.to_owned()];
    let mut at = 0;
    let mut files = BTreeMap::new();
    while let Some(root) = roots.get(at).cloned() {
        at += 1;
        let prefix = if root.is_empty() {
            String::new()
        } else {
            format!("{root}/")
        };
        for (path, text) in texts
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
        {
            if files.insert(path.clone(), text.clone()).is_some() {
                continue;
            }
            let own = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let names = text
                .lines()
                .filter(|line| line.contains("../"))
                .filter_map(|line| {
                    line.split(|c: char| c.is_whitespace() || "\"'=,[]".contains(c))
                        .find(|word| word.starts_with("../"))
                });
            let is_kustomization = path
                .rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with("kustomization") || name == "Kustomization");
            for name in names.filter(|_| is_kustomization) {
                let mut parts: Vec<&str> = own.split('/').filter(|part| !part.is_empty()).collect();
                for part in name.split('/') {
                    match part {
                        ".." => _ = parts.pop(),
                        "" | "." => {}
                        part => parts.push(part),
                    }
                }
                let root = parts.join("/");
                if !roots.contains(&root) {
                    roots.push(root);
                }
            }
        }
        // It may be a file.
        if let Some(text) = texts.get(&root) {
            files.insert(root, text.clone());
        }
    }
    files
}

/// A folder of the first fixtures.
fn fixtures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kustomizations");
    for (number, case) in corpus::cases().iter().take(30).enumerate() {
        write(case, &folder.join(number.to_string()));
    }
    folder
}

/// The kustomizations of the folder that FLOTILLA_KUSTOMIZATIONS names, or some of our own.
#[test]
fn kustomizations_of_a_folder_build_to_what_kustomize_prints() {
    let folder = std::env::var_os("FLOTILLA_KUSTOMIZATIONS").map_or_else(fixtures, PathBuf::from);
    let texts = texts_below(&folder);
    let mut oracle = Oracle::start();
    let outcomes: Vec<Outcome> = texts
        .keys()
        .filter_map(|path| {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            flotilla_render::kustomize::KUSTOMIZATION_FILES
                .contains(&name)
                .then_some(directory)
        })
        .filter_map(|directory| {
            let files = reached(&texts, directory);
            // The reference's file system in memory has no other names.
            let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
            if !files.keys().all(|path| path.chars().all(is_legal)) {
                return None;
            }
            let case = Case {
                name: directory.to_owned(),
                directory: directory.to_owned(),
                files,
                expected: Expected::Alike,
            };
            Some(compare(&mut oracle, &case))
        })
        .collect();
    require_agreement("kustomizations of a folder", &outcomes, 30);
}
