//! Builds a directory on disk and prints it, as `kustomize build DIR` does; for measuring and for trying out.

use std::path::Path;

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build_each};

fn read(root: &Path, path: &Path, tree: &mut MemoryTree) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, tree)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            tree.insert(name, std::fs::read(&path)?);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: kustomize ROOT DIRECTORY".into());
    };
    let mut tree = MemoryTree::new();
    read(Path::new(&root), Path::new(&root), &mut tree)?;
    let budget = Budget::default();
    let start = std::time::Instant::now();
    let (mut text, mut count) = (String::new(), 0);
    build_each(&RenderInput::new(&tree, &directory, &budget), &mut |object| {
        object.append_to(&mut text);
        count += 1;
    })?;
    if std::env::var_os("KUSTOMIZE_TIME").is_some() {
        eprintln!("{count} objects in {:?}", start.elapsed());
    }
    print!("{text}");
    Ok(())
}
