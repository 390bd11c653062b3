//! Ranges and versions, against answers that the Go library gave (`data/version_ranges.tsv`).

use flotilla_core::version::{Version, VersionError, VersionRange};

#[test]
fn ranges_hold_the_versions_that_the_reference_lets_in() {
    let table = include_str!("data/version_ranges.tsv");
    let versions: Vec<&str> = table
        .lines()
        .next()
        .expect("a first line of versions")
        .split(' ')
        .collect();
    for line in table.lines().skip(1) {
        let (range, members) = line.split_once('\t').expect("two columns");
        let range: String = serde_json::from_str(range).expect("a quoted range");
        let answer = match VersionRange::parse(&range) {
            Err(error) => format!("! {error}"),
            Ok(range) => versions
                .iter()
                .filter(|text| Version::parse(text).is_ok_and(|version| range.contains(&version)))
                .copied()
                .collect::<Vec<_>>()
                .join(" "),
        };
        assert_eq!(answer, members, "range {range:?}");
    }
}

#[test]
fn a_loose_version_is_completed() {
    let version = Version::parse("v01.2-rc.1+build").expect("a version");
    assert_eq!(version.to_string(), "1.2.0-rc.1+build");
    assert_eq!(version.original(), "v01.2-rc.1+build");
}

#[test]
fn texts_that_are_no_version_are_refused() {
    let long = format!("1.2.3-{}", "a".repeat(256));
    for (text, error) in [
        ("", VersionError::Malformed),
        ("1.2.3.4", VersionError::Malformed),
        ("1.2.3-", VersionError::Malformed),
        ("latest", VersionError::Malformed),
        ("1.2.3-01", VersionError::LeadingZero),
        (
            "99999999999999999999",
            VersionError::OutOfRange("99999999999999999999".into()),
        ),
        (&long, VersionError::TooLong),
    ] {
        assert_eq!(Version::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_range_too_long_or_too_wide_is_refused() {
    assert!(VersionRange::parse(&" ".repeat(513)).is_err());
    assert!(VersionRange::parse(&["1"; 33].join("||")).is_err());
    assert!(VersionRange::parse(&["1"; 32].join("||")).is_ok());
}
