//! Runs every target over its seeds and over seeded mutations of them: the same inputs in every run.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use flotilla_fuzz::{TARGETS, Target};

/// How many mutations each target gets, divided among its seeds.
const MUTATIONS: usize = 400;
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
    for target in TARGETS {
        let seeds = seeds(*target);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        let words: Vec<&[u8]> = seeds.values().flat_map(|seed| words(seed)).collect();
        for (number, (name, seed)) in seeds.iter().enumerate() {
            check(*target, name, seed);
            let mut random = Random(number as u64 + 1);
            let mut input = seed.clone();
            for at in 0..MUTATIONS / seeds.len() {
                // Every few, from the seed again, so that inputs stay mostly whole.
                if at % 4 == 0 {
                    input.clone_from(seed);
                }
                random.mutate(&mut input, &words);
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

/// A small generator with a fixed seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    fn mutate(&mut self, input: &mut Vec<u8>, words: &[&[u8]]) {
        let start = self.below(input.len() + 1);
        let end = (start + self.below(24)).min(input.len());
        match self.below(6) {
            0 => drop(input.drain(start..end)),
            1 if input.len() < MAX_LEN => {
                let again = input[start..end].to_vec();
                let at = self.below(input.len() + 1);
                input.splice(at..at, again);
            }
            2 if start < input.len() => input[start] ^= 1 << self.below(8),
            3 => {
                let number = [
                    &b"0"[..],
                    b"-1",
                    b"9223372036854775808",
                    b"1e400",
                    b"\n%%\n",
                    b"null",
                ];
                let number = number[self.below(number.len())];
                input.splice(start..end, number.iter().copied());
            }
            _ if input.len() < MAX_LEN => {
                let word = words[self.below(words.len())];
                input.splice(start..start, word.iter().copied());
            }
            _ => input.truncate(start),
        }
    }
}
