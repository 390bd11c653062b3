//! The libFuzzer program of the target that it is named after.
#![no_main]

use std::sync::LazyLock;

use flotilla_fuzz::Target;

static TARGET: LazyLock<Target> =
    LazyLock::new(|| flotilla_fuzz::find(env!("CARGO_BIN_NAME")).expect("a program has a target's name"));

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
