//! Runs every target over its seeds and over seeded mutations of them: the same inputs in every run.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla_fuzz::{TARGETS, Target};
use flotilla_render_tests::{Random, cases, seed};

/// How many mutations each target gets, divided among its seeds.
const MUTATIONS: usize = 400;
/// How much address space a run may take, in KiB as the shell has it.
const MEMORY: usize = 1 << 20;
/// The longest input that mutations grow to.
const MAX_LEN: usize = 16 << 10;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn seeds(target: Target) -> BTreeMap<String, Vec<u8>> {
    let listed = fs::read_dir(folder("seeds").join(target.name)).expect("every target has a folder of seeds");
    let read = |path: PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (name, fs::read(path).expect("a seed can be read"))
    };
    listed.map(|entry| read(entry.expect("a seed").path())).collect()
}

#[test]
fn no_seed_and_no_mutation_of_one_is_a_bug() {
    let program = std::env::current_exe().expect("a test has a program");
    // Processor seconds, so that no busy machine decides; one input takes far below a millisecond.
    let limited = format!(
        "ulimit -v {MEMORY} && ulimit -t {} && exec \"$0\" \"$@\"",
        cases(MUTATIONS).max(600)
    );
    let ran = Command::new("sh")
        .args(["-c", &limited])
        .arg(&program)
        .args([
            "--ignored",
            "--exact",
            "every_target_takes_its_seeds_and_mutations",
            "--nocapture",
        ])
        .status()
        .expect("there is a shell");
    assert!(ran.success(), "{ran}");
}

#[test]
#[ignore = "run by the other test, in a process of its own"]
fn every_target_takes_its_seeds_and_mutations() {
    let (mutations, first) = (cases(MUTATIONS), seed(1));
    for target in TARGETS {
        let seeds = seeds(*target);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        let words: Vec<&[u8]> = seeds.values().flat_map(|seed| words(seed)).collect();
        for (number, (name, seed)) in seeds.iter().enumerate() {
            check(*target, name, seed);
            let mut random = Random::new(first + number as u64);
            let mut input = seed.clone();
            for at in 0..mutations / seeds.len() {
                // Every few, from the seed again, so that inputs stay mostly whole.
                if at % 4 == 0 {
                    input.clone_from(seed);
                }
                mutate(&mut random, &mut input, &words);
                check(*target, name, &input);
            }
        }
    }
}

#[test]
fn every_target_has_its_libfuzzer_program() {
    let manifest = fs::read_to_string(folder("libfuzzer/Cargo.toml")).expect("the programs have a manifest");
    let programs: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .filter(|name| !name.starts_with("flotilla"))
        .collect();
    let targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(programs, targets);
}

fn check(target: Target, seed: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let shown = String::from_utf8_lossy(input);
        panic!(
            "{} panics on a mutation of {seed}: {shown:?} ({input:?})",
            target.name
        );
    }
}

/// Returns what mutations put into other inputs: the runs of letters and the runs of signs.
fn words(seed: &[u8]) -> Vec<&[u8]> {
    seed.chunk_by(|left, right| left.is_ascii_alphanumeric() == right.is_ascii_alphanumeric())
        .collect()
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, words: &[&[u8]]) {
    let start = random.below(input.len() + 1);
    let end = (start + random.below(24)).min(input.len());
    match random.below(6) {
        0 => drop(input.drain(start..end)),
        1 if input.len() < MAX_LEN => {
            let again = input[start..end].to_vec();
            let at = random.below(input.len() + 1);
            input.splice(at..at, again);
        }
        2 if start < input.len() => input[start] ^= 1 << random.below(8),
        3 => {
            let number = [
                &b"0"[..],
                b"-1",
                b"9223372036854775808",
                b"1e400",
                b"\n%%\n",
                b"null",
            ];
            let number = number[random.below(number.len())];
            input.splice(start..end, number.iter().copied());
        }
        _ if input.len() < MAX_LEN => {
            let word = words[random.below(words.len())];
            input.splice(start..start, word.iter().copied());
        }
        _ => input.truncate(start),
    }
}
