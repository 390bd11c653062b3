//! Ignore rules against Flux's own code: tabled patterns over a fixed tree, and random ones.

#[path = "common/oracle.rs"]
mod oracle;

use flotilla_core::source::ignore::{Rules, Steps};
use oracle::{Oracle, Random};
use serde_json::{Value, json};

/// Paths, those that end in `/` being folders.
const TREE: &[&str] = &[
    "a",
    "a/",
    "a/b",
    "a/b/",
    "a/b/c",
    "a/b/c/",
    "b/a",
    "b/a/c",
    "x.txt",
    "a/x.txt",
    "a/b/x.txt",
    "a/b/c/x.txt",
    "deploy/",
    "deploy/app.yaml",
    "deploy/base/app.yaml",
    "src/deploy/app.yaml",
    ".git/",
    ".git/config",
    ".gitignore",
    "sub/.gitmodules",
    "img.png",
    "a/img.JPG",
    "pkg.tar.gz",
    ".github/workflows/ci.yaml",
    ".sops.yaml",
    "a/b/.flux.yaml",
    "#hash",
    "!bang",
    "space ",
    "br[ack]et",
    "star*",
    "ünïcödé/é.txt",
    "aa/bb/cc",
    "aab",
    "ab/",
    "ab/x.txt",
];

const PATTERNS: &[&str] = &[
    "a",
    "a/",
    "/a",
    "/a/",
    "a/b",
    "a/b/",
    "/a/b",
    "a/*",
    "a/*/",
    "*/b",
    "*/a/",
    "*",
    "/*",
    "**",
    "/**",
    "**/",
    "**/a",
    "**/a/",
    "**/b/c",
    "a/**",
    "a/**/",
    "a/**/c",
    "a/**/x.txt",
    "**/x.txt",
    "/**/x.txt",
    "**/**/x.txt",
    "a/**/**/c",
    "a**",
    "a/b**",
    "**b/c",
    "*.txt",
    "/*.txt",
    "x.*",
    "?.txt",
    "[xy].txt",
    "[^x].txt",
    "[!x].txt",
    "[x",
    "[x-",
    "[]",
    "a/[",
    "\\x.txt",
    "x\\",
    "\\#hash",
    "\\!bang",
    "#hash",
    "space",
    "space\\ ",
    "space ",
    "br\\[ack\\]et",
    "star\\*",
    "é.txt",
    "**/é.txt",
    "ünïcödé/",
    "?nïcödé",
    "deploy",
    "deploy/",
    "/deploy/",
    "!deploy/",
    "!a",
    "!*.txt",
    "!",
    "/",
    "//",
    "a//b",
    "a/b//",
    "!/a/b/c",
    ".git",
    "!.git/",
    "!.gitignore",
    "*.png",
    "a/b/c/d",
    "aa/*/cc",
    "a?",
    "a*/",
    "aa/bb/",
    "**/bb/**",
    "*/*",
    "*/*/*",
    "\t",
    " a",
    "a\\/b",
    "[a-b]/[a-b]",
    "a/[^b]",
    "**/[xy].txt",
];

#[test]
fn tabled_patterns_agree_with_flux() {
    assert!(PATTERNS.len() >= 60);
    let mut oracle = Oracle::start("sourceignore");
    for pattern in PATTERNS {
        for text in [
            (*pattern).to_owned(),
            format!("*\n!{pattern}"),
            format!("{pattern}\r\n!a/b/c\n# no"),
        ] {
            assert_agreement(&mut oracle, &[], Some(&text));
            assert_agreement(&mut oracle, &[("a".into(), text)], None);
        }
    }
    assert_agreement(&mut oracle, &[], None);
}

#[test]
fn random_patterns_agree_with_flux() {
    let mut oracle = Oracle::start("sourceignore");
    let mut random = Random::seeded();
    for _ in 0..3_000 {
        let files: Vec<(String, String)> = ["", "a", "a/b", "deploy"]
            .into_iter()
            .filter(|_| random.one_in(3))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|folder| (folder.to_owned(), random_text(&mut random)))
            .collect();
        let spec = random.one_in(2).then(|| random_text(&mut random));
        assert_agreement(&mut oracle, &files, spec.as_deref());
    }
}

fn random_text(random: &mut Random) -> String {
    (0..random.below(5))
        .map(|_| random_pattern(random) + "\n")
        .collect()
}

fn random_pattern(random: &mut Random) -> String {
    if random.one_in(3) {
        return random.pick(PATTERNS).to_owned();
    }
    let pieces = [
        "a", "b", "c", "x", ".txt", "*", "**", "?", "/", "/", "[a-c]", "[^a]", "\\", "deploy", "app.yaml",
        ".git", " ", "é",
    ];
    let mut pattern = random.pick(&["", "", "!", "/", "#"]).to_owned();
    for _ in 0..=random.below(5) {
        pattern.push_str(random.pick(&pieces));
    }
    pattern
}

fn assert_agreement(oracle: &mut Oracle, files: &[(String, String)], spec: Option<&str>) {
    let split = |path: &str| -> Vec<String> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let question = json!({
        "files": files.iter().map(|(folder, text)| json!({"folder": split(folder), "text": text})).collect::<Vec<_>>(),
        "spec": spec,
        "paths": TREE.iter().map(|path| json!({"path": split(path), "folder": path.ends_with('/')})).collect::<Vec<_>>(),
    });
    let answer = oracle.ask(&question);
    let bytes = files
        .iter()
        .map(|(folder, text)| (folder.as_bytes(), text.as_bytes()));
    let rules = Rules::new(bytes, spec.map(str::as_bytes)).expect("few and short patterns");
    for (path, theirs) in TREE
        .iter()
        .zip(answer.as_array().map(Vec::as_slice).unwrap_or_default())
    {
        let (name, is_folder) = (path.trim_end_matches('/').as_bytes(), path.ends_with('/'));
        let ours = rules.excludes(name, is_folder, &mut Steps::default());
        let ours = ours.expect("few and short patterns");
        assert_eq!(Value::Bool(ours), *theirs, "{path} under {files:?} and {spec:?}");
    }
}
