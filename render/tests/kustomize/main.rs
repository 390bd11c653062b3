//! Compares the kustomize engine with kustomize itself: on a corpus of fixtures, and on generated sources.
//!
//! The oracle is a Go program that links kustomize; it is built once and kept under the user's cache. Without Go
//! these tests fail: agreement that nobody measured is not agreement.

mod corpus;
mod oracle;
mod random;
mod reads;
mod texts;
#[allow(dead_code, reason = "the table of values is for another test")]
#[path = "../yaml_cases/mod.rs"]
mod yaml_cases;

use std::path::Path;

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};

use corpus::Case;
use oracle::{Answer, Oracle};

/// Cases whose objects are the same and whose text is not, as `docs/reference/kustomize-differences.md` says.
const OTHER_TEXT: &[&str] = &[];

/// What became of one case.
struct Outcome {
    name: String,
    agrees: bool,
    same_text: bool,
    report: String,
}

fn compare(oracle: &mut Oracle, case: &Case) -> Outcome {
    let tree: MemoryTree = case
        .files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_bytes()))
        .collect();
    let budget = Budget::default();
    let ours = build(&RenderInput::new(&tree, &case.directory, &budget)).map(|rendered| rendered.to_yaml());
    let answer = oracle.ask(case, ours.as_deref().ok());
    let report = describe(case, &ours, &answer);
    // A case that says it is refused is no agreement when it builds.
    let refused = case.name.contains("refused: ");
    let as_said = !refused || answer.error.is_some();
    Outcome {
        name: case.name.clone(),
        agrees: answer.agree && as_said,
        same_text: answer.same || (answer.error.is_some() && ours.is_err()),
        report,
    }
}

fn describe<E: std::error::Error>(case: &Case, ours: &Result<String, E>, answer: &Answer) -> String {
    let ours = match ours {
        Ok(text) => text.clone(),
        Err(error) => format!("error: {error}"),
    };
    let theirs = match &answer.error {
        Some(error) => format!("error: {error}"),
        None => answer.yaml.clone(),
    };
    let mut files = String::new();
    for (path, text) in &case.files {
        files.push_str(&format!("-- {path} --\n{text}"));
    }
    format!(
        "=== {} ({})\n{files}\n>>> kustomize\n{theirs}\n>>> flotilla\n{ours}\n",
        case.name, answer.reason
    )
}

/// Fails unless every outcome agrees, printing the figure either way.
fn require_agreement(what: &str, outcomes: &[Outcome]) {
    let agree = outcomes.iter().filter(|o| o.agrees).count();
    let same = outcomes.iter().filter(|o| o.same_text).count();
    println!("{what}: {agree} of {} agree, {same} to the byte", outcomes.len());
    let other_text = |o: &&Outcome| !o.same_text && !OTHER_TEXT.contains(&o.name.as_str());
    let wrong: Vec<&Outcome> = outcomes.iter().filter(|o| !o.agrees || other_text(o)).collect();
    if std::env::var_os("KUSTOMIZE_TEXT").is_some() {
        for outcome in outcomes.iter().filter(|o| o.agrees && !o.same_text).take(40) {
            println!("{}", outcome.report);
        }
    }
    for outcome in wrong.iter().take(12) {
        println!("{}", outcome.report);
    }
    let names: Vec<&str> = wrong.iter().map(|o| o.name.as_str()).collect();
    assert!(
        wrong.is_empty(),
        "{what}: {} of {} disagree: {names:?}",
        wrong.len(),
        outcomes.len()
    );
}

/// Writes a case on which the two disagree as a fixture: a directory to build by hand, and the text to adopt.
fn keep(case: &Case) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kustomize-disagreements");
    let folder = kept.join(&case.name);
    for (path, text) in &case.files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder)).expect("the target directory is writable");
        std::fs::write(path, text).expect("the target directory is writable");
    }
    let text = kept.join(format!("{}.txt", case.name));
    std::fs::write(&text, corpus::to_text(case)).expect("the target directory is writable");
    println!(
        "{}: the source is in {}; once the cause is known, adopt it with\n    cat {} >> render/tests/kustomize/cases/random.txt",
        case.name,
        folder.join(&case.directory).display(),
        text.display()
    );
}

#[test]
fn the_engine_agrees_with_kustomize_on_every_fixture() {
    let mut oracle = Oracle::start();
    let outcomes: Vec<Outcome> = corpus::cases()
        .iter()
        .map(|case| compare(&mut oracle, case))
        .collect();
    require_agreement("fixtures", &outcomes);
}

#[test]
fn the_engine_agrees_with_kustomize_on_generated_sources() {
    let count = std::env::var("KUSTOMIZE_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300);
    let mut oracle = Oracle::start();
    let outcomes: Vec<Outcome> = (0..count)
        .map(|seed| {
            let case = random::case(seed);
            let outcome = compare(&mut oracle, &case);
            if !outcome.agrees {
                keep(&case);
            }
            outcome
        })
        .collect();
    require_agreement("generated sources", &outcomes);
}
