//! What `flotilla kustomize` makes of what stands on a disk: links, folders, names and files that cannot be read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use flotilla_testkit::{Tool, tool};

use crate::drop_in::{reference, write};
use crate::hub::{Ran, command};

const OBJECT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
const LISTS: &str = "resources: [a.yaml]\n";

async fn build(path: &Path, more: &[&str]) -> Ran {
    let path = path.display().to_string();
    command(&[&["kustomize", &path], more].concat(), &BTreeMap::new(), "").await
}

/// Runs the program as somebody who may not read everything.
fn as_anybody(args: &[&str]) -> (Option<i32>, String, String) {
    let program = env!("CARGO_BIN_EXE_flotilla");
    let root = fs::metadata("/proc/self").expect("a process").uid() == 0;
    let mut process = match root {
        true => {
            let mut process = Command::new("setpriv");
            process.args(["--bounding-set=-dac_override,-dac_read_search", program]);
            process
        }
        false => Command::new(program),
    };
    let ran = process.args(args).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn what_stands_there_and_cannot_be_read_is_named_with_the_reason_and_fails_the_build() {
    for closed in [
        "app/sub",
        "app/sub/b.yaml",
        "listed/a.yaml",
        "listed/kustomization.yaml",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        write(
            folder.path(),
            &[
                ("app/a.yaml", OBJECT),
                ("app/sub/b.yaml", &OBJECT.replace("name: a", "name: b")),
                ("listed/kustomization.yaml", LISTS),
                ("listed/a.yaml", OBJECT),
            ],
        );
        let path = folder.path().join(closed);
        fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("it is ours");
        let built = folder.path().join(closed.split('/').next().expect("a part"));
        let (code, out, err) = as_anybody(&["kustomize", &built.display().to_string()]);
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("it is ours");
        let words = format!("cannot read {}", path.display());
        assert!(
            code == Some(1) && out.is_empty() && err.contains(&words) && err.contains("Permission denied"),
            "{closed}: {code:?} {out} {err}"
        );
        assert!(!err.contains("does not exist"), "{closed}: {err}");
    }
}

#[tokio::test]
async fn a_manifest_or_folder_whose_name_is_not_utf8_is_named_and_fails_the_build() {
    for (name, is_folder, matters) in [
        (&b"caf\xe9.yaml"[..], false, true),
        (b"caf\xe9.yml", false, true),
        (b"caf\xe9", true, true),
        (b"caf\xe9.png", false, false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[("a.yaml", OBJECT)]);
        let path = folder.path().join(OsStr::from_bytes(name));
        match is_folder {
            true => fs::create_dir(&path).expect("a folder"),
            false => fs::write(&path, OBJECT).expect("a file"),
        }
        let ran = build(folder.path(), &[]).await;
        assert_eq!(
            (ran.code != 0, ran.out.is_empty()),
            (matters, matters),
            "{path:?}: {ran}"
        );
        assert_eq!(
            ran.err.contains("its name is not UTF-8"),
            matters,
            "{path:?}: {ran}"
        );
    }
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_manifest_is_named_as_one() {
    for lists in [None, Some(LISTS)] {
        let folder = tempfile::tempdir().expect("a folder");
        if let Some(lists) = lists {
            write(folder.path(), &[("kustomization.yaml", lists)]);
        }
        let pipe = folder.path().join("a.yaml");
        let made = Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        let ran = build(folder.path(), &[]).await;
        let words = format!("{}: it is neither a file nor a folder", pipe.display());
        assert!(ran.code == 1 && ran.err.contains(&words), "{ran}");
    }
}

#[tokio::test]
async fn a_folder_without_a_kustomization_is_listed_as_its_source_would_show_it() {
    let workflow = "on: push\njobs: {}\n";
    let named = |name: &str| OBJECT.replace("name: a", &format!("name: {name}"));
    let (b, c) = (named("b"), named("c"));
    let files = [
        (".git/HEAD", "ref: refs/heads/main\n"),
        ("deploy/a.yaml", OBJECT),
        ("deploy/.github/workflow.yaml", workflow),
        ("deploy/ci/b.yaml", b.as_str()),
        ("deploy/ci/c.yaml", c.as_str()),
    ];
    let all = ["name: a\n", "name: b\n", "name: c\n"];
    // Where nothing is said, what machines of forges read is left out; what is said takes its place.
    for (rules, shown) in [
        (&[][..], Some(&[true, true, true])),
        (
            &[(".sourceignore", "ci/\n.github/\n")],
            Some(&[true, false, false]),
        ),
        (
            &[(".sourceignore", "/deploy/ci/*\n!/deploy/ci/c.yaml\n.github/\n")],
            Some(&[true, false, true]),
        ),
        (
            &[("deploy/.sourceignore", "/ci/b.yaml\n.github/\n")],
            Some(&[true, false, true]),
        ),
        (&[("deploy/.sourceignore", "/ci/b.yaml\n")], None),
        // What is said in a folder below is asked there alone.
        (
            &[("deploy/ci/.sourceignore", "*.yaml\n")],
            Some(&[true, false, false]),
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[&files[..], rules].concat());
        let ran = build(&folder.path().join("deploy"), &[]).await;
        match shown {
            Some(shown) => {
                let seen = all.map(|name| ran.out.contains(name));
                assert_eq!((ran.code, &seen), (0, shown), "{rules:?}: {ran}");
            }
            // The workflow is no manifest, and no rule leaves it out.
            None => assert!(
                ran.code == 1 && ran.err.contains("workflow.yaml"),
                "{rules:?}: {ran}"
            ),
        }
    }
}

#[tokio::test]
async fn what_a_source_leaves_out_is_neither_built_nor_looked_into() {
    let folder = tempfile::tempdir().expect("a folder");
    let b = OBJECT.replace("name: a", "name: b");
    write(
        folder.path(),
        &[
            ("a.yaml", OBJECT),
            ("own/kustomization.yaml", "resources: [b.yaml]\n"),
            ("own/b.yaml", &b),
            ("own/private/x", ""),
            ("out/kustomization.yaml", "resources: [c.yaml]\n"),
            ("out/c.yaml", "no manifest"),
            (".sourceignore", "out/\n"),
        ],
    );
    // Neither is come to: the one is below a kustomization of its own, the other left out.
    for private in ["own/private", "out"] {
        let odd = folder
            .path()
            .join(private)
            .join(OsStr::from_bytes(b"caf\xe9.yaml"));
        fs::write(odd, OBJECT).expect("a file");
    }
    let ran = build(folder.path(), &[]).await;
    assert_eq!((ran.code, ran.out.matches("kind:").count()), (0, 2), "{ran}");
    // What is read later is not there either.
    fs::write(folder.path().join(".sourceignore"), "out/\n/own/b.yaml\n").expect("a file");
    let ran = build(folder.path(), &[]).await;
    assert!(
        ran.code == 1 && ran.err.contains("own/b.yaml' does not exist"),
        "{ran}"
    );
    let ran = build(Path::new("/"), &["--timeout", "1ns"]).await;
    assert!(
        ran.code == 1 && ran.err.contains("the build of / was not done"),
        "{ran}"
    );
}

#[tokio::test]
async fn an_empty_name_of_an_output_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[("kustomization.yaml", LISTS), ("a.yaml", OBJECT)],
    );
    let ran = build(folder.path(), &["-o", ""]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, OBJECT), "{ran}");
}

#[tokio::test]
async fn a_folder_without_anything_to_build_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    fs::write(folder.path().join("sub/README.md"), "no manifest").expect("a file");
    let ran = build(folder.path(), &[]).await;
    assert!(
        ran.code == 1 && ran.out.is_empty() && ran.err.lines().count() == 1,
        "{ran}"
    );
    assert!(
        ran.err
            .contains("has no kustomization.yaml and no manifests below it"),
        "{ran}"
    );
}

#[tokio::test]
async fn links_and_folders_in_the_place_of_a_kustomization_are_taken_as_kustomize_takes_them() {
    let kustomize = tool(Tool::Kustomize).await.expect("the reference kustomize");
    let folder = tempfile::tempdir().expect("a folder");
    let at = |path: &str| folder.path().join(path);
    write(
        folder.path(),
        &[
            ("app/kustomization.yaml", LISTS),
            ("app/a.yaml", OBJECT),
            ("within/real.yaml", LISTS),
            ("within/a.yaml", OBJECT),
            ("absolute/real.yaml", LISTS),
            ("absolute/a.yaml", OBJECT),
            ("outside/a.yaml", OBJECT),
            ("over/kustomization.yaml", "resources: [../outside]\n"),
            ("file/kustomization.yaml", LISTS),
            ("dangling/a.yaml", OBJECT),
            ("folder/kustomization.yaml/a.yaml", OBJECT),
            ("both/kustomization.yaml/b.yaml", OBJECT),
            ("both/kustomization.yml", LISTS),
            ("both/a.yaml", OBJECT),
        ],
    );
    for (target, link) in [
        ("real.yaml", "within/kustomization.yaml"),
        ("../app/kustomization.yaml", "outside/kustomization.yaml"),
        ("../app/a.yaml", "file/a.yaml"),
        ("none.yaml", "dangling/kustomization.yaml"),
    ] {
        symlink(target, at(link)).expect("a link");
    }
    symlink(at("absolute/real.yaml"), at("absolute/kustomization.yaml")).expect("a link");
    const ANY: &[&str] = &["--load-restrictor", "LoadRestrictionsNone"];
    for (name, more, words) in [
        ("within", &[][..], None),
        ("absolute", &[], None),
        ("both", &[], None),
        ("outside", &[], Some("is not in or below")),
        ("outside", ANY, None),
        ("over", &[], Some("is not in or below")),
        ("over", ANY, None),
        ("file", &[], Some("is not in or below")),
        ("file", ANY, None),
        (
            "dangling",
            &[],
            Some("dangling/kustomization.yaml' does not exist"),
        ),
        ("folder", &[], Some("no kustomization file in")),
    ] {
        let ran = build(&at(name), more).await;
        let path = at(name).display().to_string();
        let theirs = reference(&kustomize, folder.path(), &[&["build", &path], more].concat(), "");
        assert_eq!(
            (ran.code == 0).then_some(ran.out.clone()),
            theirs,
            "{name} {more:?}: {ran}"
        );
        match words {
            Some(words) => assert!(ran.err.contains(words), "{name} {more:?}: {ran}"),
            None => assert_eq!(ran.err, "", "{name} {more:?}"),
        }
    }
}

#[tokio::test]
async fn a_remote_argument_is_not_fetched_and_the_error_says_what_to_do() {
    for argument in [
        "https://example.org/x?ref=v1",
        "https://hunter2@example.org/x?token=hunter2",
        "git@example.org:x.git",
        "github.com/a/b",
    ] {
        let ran = command(&["kustomize", argument], &BTreeMap::new(), "").await;
        assert!(
            ran.code == 1 && ran.err.contains("is not fetched") && ran.err.contains("download it first"),
            "{ran}"
        );
        assert!(!ran.err.contains("hunter2"), "{ran}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let remote = "components:\n- https://user:hunter2@x.example/y.git?ref=v1\n";
    write(folder.path(), &[("kustomization.yaml", remote)]);
    let ran = build(folder.path(), &[]).await;
    assert!(
        ran.err.ends_with(
            "kustomization.yaml: components: line 2: 'https://x.example/y.git' is not fetched; download it first, as with git clone, and refer to it by path\n"
        ),
        "{ran}"
    );
}

#[tokio::test]
async fn what_is_no_manifest_may_lead_nowhere_beside_manifests() {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[("app/a.yaml", OBJECT), ("app/sub/notes.txt", "x")],
    );
    let app = folder.path().join("app");
    let built = build(&app, &[]).await.out;
    assert!(built.contains("name: a"), "{built}");
    for (target, name) in [
        ("../none", "LICENSE"),
        ("loop", "loop"),
        ("../../../../../../../../../../../../..", "above"),
        ("/none", "sub/none"),
    ] {
        symlink(target, app.join(name)).expect("new");
    }
    let _socket = UnixListener::bind(app.join("app.sock")).expect("a socket");
    let ran = build(&app, &[]).await;
    assert!(ran.code == 0 && ran.out == built, "{ran}");
    symlink("none", app.join("b.yaml")).expect("new");
    let ran = build(&app, &[]).await;
    assert!(
        ran.code == 1 && ran.err.contains("app/b.yaml' does not exist"),
        "{ran}"
    );
}

#[tokio::test]
async fn errors_keep_the_words_of_kustomize() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = "resources: [a.yaml]\nreplacements:\n- source: {kind: Secret, name: x, fieldPath: a.b}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.x]}]\n";
    write(folder.path(), &[("kustomization.yaml", list), ("a.yaml", OBJECT)]);
    let ran = build(folder.path(), &[]).await;
    assert!(
        ran.err
            .contains("nothing selected by Secret.[noVer].[noGrp]/x.[noNs]:a.b"),
        "{ran}"
    );
    write(
        folder.path(),
        &[
            ("a.yaml", "apiVersion: v1\nmetadata: {labels: {a: b}}\n"),
            ("kustomization.yaml", LISTS),
        ],
    );
    let ran = build(folder.path(), &[]).await;
    assert!(ran.err.contains("missing kind in object\n"), "{ran}");
}

#[tokio::test]
async fn files_of_objects_are_written_in_the_folder_only_and_through_no_link() {
    for (name, is_link, words) in [
        ("'a/../../x'", false, "has a '/'"),
        ("a", true, "is a link, which is not followed"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        write(
            folder.path(),
            &[
                ("app/kustomization.yaml", LISTS),
                (
                    "app/a.yaml",
                    &format!(
                        "{OBJECT}---\n{}",
                        OBJECT.replace("name: a", &format!("name: {name}\n  namespace: b"))
                    ),
                ),
                ("kept", "kept"),
                ("out/x/y", ""),
            ],
        );
        let (out, kept) = (folder.path().join("out"), folder.path().join("kept"));
        fs::create_dir(out.join("b_v1_configmap_a")).expect("new");
        if is_link {
            symlink(&kept, out.join("b_v1_configmap_a.yaml")).expect("new");
        }
        let ran = build(
            &folder.path().join("app"),
            &["-o", out.to_str().expect("its path is text")],
        )
        .await;
        assert!(ran.code == 1 && ran.err.contains(words), "{ran}");
        assert_eq!(fs::read_to_string(&kept).expect("it is there"), "kept");
        let names = |folder: &Path| fs::read_dir(folder).expect("a folder").count();
        assert_eq!(names(folder.path()), 3, "something is written outside");
        assert!(
            is_link || names(&out) == 2,
            "something is written beside a refused name"
        );
    }
}
