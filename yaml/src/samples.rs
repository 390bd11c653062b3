//! What the tests of the readers read: all fixtures and seeds, and mutations of them.

use std::fs;
use std::path::Path;

/// Returns the texts of all fixtures and seeds.
pub(super) fn fixtures() -> Vec<String> {
    let mut texts = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    files(&root.join("../render/tests"), &mut texts);
    files(&root.join("../fuzz/seeds"), &mut texts);
    texts
}

/// Returns the text of every file below a folder.
fn files(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            files(&path, texts);
        } else if let Ok(text) = fs::read_to_string(&path) {
            texts.push(text);
        }
    }
}
