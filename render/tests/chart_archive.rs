//! What packed charts may be: well-formed ones load, and each kind of hostile one is refused by its own reason.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_render::helm::archive::{ArchiveError, Budget, File, Limits, read, size};
use flotilla_render::helm::chart::{Chart, ChartError};
use tar::{Builder, EntryType, Header};

const CHART: &str = "apiVersion: v2\nname: c\nversion: 1.0.0\n";

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header
}

/// Writes a path into a header as it is, which the library's own setter would not.
fn set_raw_path(header: &mut Header, path: &str) {
    header.as_old_mut().name = [0; 100];
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
}

fn packed(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, data) in entries {
        let mut header = header(*kind, data.len() as u64);
        set_raw_path(&mut header, path);
        builder.append(&header, *data).expect("memory takes it");
    }
    gzip(&builder.into_inner().expect("memory takes it"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn refused(packed: &[u8]) -> String {
    match read(packed, &mut Budget::from(Limits::default())) {
        Ok(files) => panic!(
            "accepted: {:?}",
            files.iter().map(|file| &file.name).collect::<Vec<_>>()
        ),
        Err(error) => error.to_string(),
    }
}

#[test]
fn names_that_are_no_utf8_are_refused() {
    let mut header = header(EntryType::Regular, 0);
    header.as_old_mut().name = [0; 100];
    header.as_old_mut().name[..4].copy_from_slice(b"c/\xe9x");
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, &b""[..]).expect("memory takes it");
    let packed = gzip(&builder.into_inner().expect("memory takes it"));
    assert_eq!(
        refused(&packed),
        "chart archive entry \"c/\u{fffd}x\" has a name that is not UTF-8"
    );
}

#[test]
fn a_packed_chart_loads_with_the_charts_inside_it() {
    let inner = packed(&[(
        "inner/Chart.yaml",
        EntryType::Regular,
        b"name: inner\nversion: 0.1.0\n",
    )]);
    let chart = packed(&[
        ("c/", EntryType::Directory, b""),
        (
            "c/Chart.yaml",
            EntryType::Regular,
            format!("\u{feff}{CHART}").as_bytes(),
        ),
        ("c/values.yaml", EntryType::Regular, b"a: 1\n"),
        ("c/charts/inner-0.1.0.tgz", EntryType::Regular, &inner),
        ("c/charts/_ignored/x", EntryType::Regular, b""),
        ("c\\templates\\win.yaml", EntryType::Regular, b"kind: A\n"),
    ]);
    let chart = Chart::from_archive(&chart, Limits::default()).expect("a chart");
    assert_eq!(chart.name(), "c");
    assert_eq!(chart.dependencies[0].name(), "inner");
    assert_eq!(chart.templates[0].name, "templates/win.yaml");
}

#[test]
fn entries_that_are_no_files_are_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
    ] {
        let chart = packed(&[
            ("c/Chart.yaml", EntryType::Regular, CHART.as_bytes()),
            ("c/x", kind, b""),
        ]);
        assert!(
            refused(&chart).contains("neither a file nor a directory"),
            "{kind:?}"
        );
    }
}

#[test]
fn paths_that_leave_the_chart_are_refused() {
    for (path, reason) in [
        ("c/../../x", "references a parent directory"),
        ("c/a/../../x", "references a parent directory"),
        ("c//x", "absolute path"),
        ("/x/..", "outside the base directory"),
        ("x", "outside the base directory"),
        ("c/c:/x", "names a drive"),
        ("c\\..\\x", "references a parent directory"),
        ("c/..x", "references a parent directory"),
        ("Chart.yaml", "not in a base directory"),
    ] {
        let reply = refused(&packed(&[(path, EntryType::Regular, b"x")]));
        assert!(reply.contains(reason), "{path}: {reply}");
    }
}

#[test]
fn headers_and_entries_that_contradict_each_other_are_refused() {
    let size = b"12 size=600\n";
    let chart = packed(&[
        ("c/pax", EntryType::XHeader, size),
        ("c/x", EntryType::Regular, b"four"),
    ]);
    let cause = refused(&chart);
    assert!(cause.contains("conflicting sizes"), "{cause}");
    let twice = packed(&[
        ("c/x", EntryType::Regular, b"1"),
        ("c/./x", EntryType::Regular, b"2"),
    ]);
    assert!(refused(&twice).contains("conflicting contents"));
    let linked = packed(&[
        ("c/pax", EntryType::XHeader, b"14 linkpath=a\n"),
        ("c/x", EntryType::Regular, b"four"),
    ]);
    assert!(refused(&linked).contains("conflicting kinds"));
}

#[test]
fn what_is_too_large_is_refused_by_its_limit() {
    let small = Limits {
        archive_bytes: 1 << 16,
        file_bytes: 1 << 20,
        unpacked_bytes: 2 << 20,
        entries: 50,
        ..Limits::default()
    };
    let bomb = vec![0; 900 << 10];
    let many: Vec<(&str, EntryType, &[u8])> = (0..60)
        .map(|_| ("c/d/", EntryType::Directory, &b""[..]))
        .collect();
    for (name, limit, chart) in [
        (
            "file",
            "1 MiB",
            packed(&[("c/x", EntryType::Regular, &vec![0; 2 << 20])]),
        ),
        (
            "content",
            "2 MiB",
            packed(&[
                ("c/x", EntryType::Regular, &bomb),
                ("c/y", EntryType::Regular, &bomb),
                ("c/z", EntryType::Regular, &bomb),
            ]),
        ),
        ("archive", "65536 bytes", vec![0; (1 << 16) + 1]),
        ("entry count", "50 files and folders", packed(&many)),
    ] {
        let error = read(&chart, &mut Budget::from(small)).expect_err(name);
        let is_over = matches!(error, ArchiveError::OverLimit { .. });
        assert!(
            is_over && error.to_string().ends_with(&format!("over the limit of {limit}")),
            "{name}: {error}"
        );
    }
    let deep = format!("c/{}x", "d/".repeat(40));
    let narrow = Limits {
        path_depth: 8,
        path_bytes: 60,
        ..Limits::default()
    };
    assert!(
        read(
            &packed(&[(&deep, EntryType::Regular, b"")]),
            &mut Budget::from(narrow)
        )
        .is_err()
    );
}

#[test]
fn each_limit_is_told_where_helm_has_none_or_a_higher_one() {
    let Limits {
        archive_bytes,
        file_bytes,
        unpacked_bytes,
        entries,
        path_bytes,
        path_depth,
        nesting,
    } = Limits::default();
    let page = include_str!("../../docs/reference/helm-differences.md");
    let thousands = format!("{},{:03}", entries / 1000, entries % 1000);
    for words in [
        format!("| A packed chart of more than {} |", size(archive_bytes)),
        format!("take more than {} |", size(unpacked_bytes)),
        format!("or one of a chart, of more than {} |", size(file_bytes)),
        format!("more than {thousands} files and folders"),
        format!("a path of more than {path_bytes} bytes or {path_depth} folders"),
        format!("within each other deeper than {nesting} |"),
    ] {
        assert!(page.contains(&words), "{words}");
    }
}

#[test]
fn charts_inside_charts_share_one_budget_and_one_depth() {
    let mut chart = packed(&[("c/Chart.yaml", EntryType::Regular, CHART.as_bytes())]);
    for _ in 0..20 {
        chart = packed(&[
            ("c/Chart.yaml", EntryType::Regular, CHART.as_bytes()),
            ("c/charts/c.tgz", EntryType::Regular, &chart),
        ]);
    }
    let mut error: &dyn std::error::Error =
        &Chart::from_archive(&chart, Limits::default()).expect_err("too deep");
    while let Some(source) = error.source() {
        error = source;
    }
    assert_eq!(
        error.to_string(),
        "chart nesting of charts is over the limit of 16 levels"
    );
}

#[test]
fn truncated_and_foreign_bytes_are_unreadable() {
    let chart = packed(&[("c/Chart.yaml", EntryType::Regular, CHART.as_bytes())]);
    for bytes in [
        &b"plain text"[..],
        &[],
        &chart[..chart.len() / 2],
        &gzip(b"no tar archive at all"),
    ] {
        assert!(!refused(bytes).is_empty());
    }
    assert!(matches!(
        read(&gzip(&[0; 1024]), &mut Budget::from(Limits::default())),
        Err(ArchiveError::Empty)
    ));
}

#[test]
fn metadata_that_could_name_another_path_is_refused() {
    for (metadata, reason) in [
        (
            "apiVersion: v2\nname: ..\nversion: 1.0.0\n",
            "name \"..\" is invalid",
        ),
        (
            "apiVersion: v2\nname: a/b\nversion: 1.0.0\n",
            "name \"a/b\" is invalid",
        ),
        (
            "apiVersion: v2\nname: a\nversion: ../../x\n",
            "version \"../../x\" is invalid",
        ),
        ("apiVersion: v2\nversion: 1.0.0\n", "name is required"),
        ("apiVersion: v2\nname: a\n", "version is required"),
        (
            "apiVersion: v3\nname: a\nversion: 1.0.0\n",
            "unsupported chart version",
        ),
        (
            "apiVersion: v2\nname: a\nversion: 1.0.0\ntype: other\n",
            "type must be application or library",
        ),
        (
            "apiVersion: v2\nname: a\nversion: 1.0.0\ndependencies: [{name: b, alias: 'x/y'}]\n",
            "disallowed characters",
        ),
        (
            "apiVersion: v2\nname: a\nversion: 1.0.0\ndependencies: [null]\n",
            "empty or null",
        ),
        (
            "apiVersion: v2\nname: a\nversion: 1.0.0\ndependencies: [{name: b}, {name: c, alias: b}]\n",
            "more than one",
        ),
        ("- a list\n", "is a list"),
    ] {
        let files = vec![File::new("Chart.yaml", metadata.as_bytes())];
        let error: ChartError = Chart::from_directory(files, Limits::default()).expect_err(metadata);
        assert!(error.to_string().contains(reason), "{metadata}: {error}");
    }
}
