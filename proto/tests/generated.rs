//! The committed bindings are what the protocol files give. `FLOTILLA_GEN=1 cargo test -p flotilla-proto`
//! (`make gen`) writes them; without it a difference fails. No `protoc` is needed: protox compiles in Rust.

use std::{fs, path::Path};

const FILES: [&str; 3] = [
    "flotilla/agent/v1/agent.proto",
    "flotilla/enroll/v1/enroll.proto",
    "flotilla/fleet/v1/fleet.proto",
];

#[test]
fn committed_bindings_match_the_protocol_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempdir();
    let descriptors = protox::compile(FILES, [root]).expect("protocol files compile");
    fs::write(
        fresh.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )
    .expect("writable");
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        // Channels are made by us, with our trust; a generated `connect` would clash with the rpc of that name.
        .build_transport(false)
        .out_dir(&fresh)
        .compile_fds(descriptors)
        .expect("bindings are generated");
    let committed = root.join("src/gen");
    let write = std::env::var_os("FLOTILLA_GEN").is_some();
    for entry in fs::read_dir(&fresh).expect("readable") {
        let entry = entry.expect("readable");
        let mut new = fs::read(entry.path()).expect("readable");
        if entry.file_name() == "flotilla.agent.v1.rs" {
            // Agents' streams live for an hour each.
            let text = String::from_utf8(new).expect("text");
            new = text
                .replace("tonic_prost::ProstCodec", "crate::codec::Small")
                .into_bytes();
        }
        let target = committed.join(entry.file_name());
        if write {
            fs::write(&target, &new).expect("writable");
        }
        let old = fs::read(&target).unwrap_or_default();
        assert!(
            old == new,
            "{} is out of date: run `make gen`",
            entry.file_name().display()
        );
    }
}

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("flotilla-proto-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("temporary directory");
    dir
}
