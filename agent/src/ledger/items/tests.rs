use serde_json::json;

use super::*;

fn record(value: Value) -> Record {
    serde_json::from_value(value).expect("a record")
}

fn applied(n: u8) -> Record {
    record(json!({
        "api_version": "apps/v1",
        "state": "applied",
        "uid": Uuid::from_bytes([n; 16]).to_string(),
        "sent": Digest::from_bytes([n; 32]),
        "projection": Digest::from_bytes([n + 1; 32]),
    }))
}

fn round_trip(rows: &[(ObjectKey, Option<Record>)]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(rows.iter().map(|(key, record)| (key, record.as_ref())), &mut out);
    assert_eq!(decode(&out).expect("reads"), rows);
    out
}

/// Ledgers in the field hold these bytes: another layout needs another tag.
#[test]
fn the_layout_is_golden() {
    let odd = record(json!({"api_version": "v1", "state": "intent", "adopted": true, "uid": "u-1"}));
    let out = round_trip(&[
        (
            ObjectKey::new("apps", "Deployment", "shop", "web"),
            Some(applied(1)),
        ),
        (
            ObjectKey::new("apps", "Deployment", "shop", "db"),
            Some(applied(2)),
        ),
        (ObjectKey::new("apps", "Deployment", "shop", "old"), None),
        (ObjectKey::new("", "ConfigMap", "shop", "web"), Some(odd)),
    ]);
    let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = |n: u8| format!("{n:02x}").repeat(32);
    let expected = [
        // flags, fields, group, kind, namespace, name, version, UID, sent, projection
        "00",
        "4d",
        "0461707073",
        "0a4465706c6f796d656e74",
        "0473686f70",
        "03776562",
        "07617070732f7631",
        &"01".repeat(16),
        &digest(1),
        &digest(2),
        "07",
        "4d",
        "026462",
        &"02".repeat(16),
        &digest(2),
        &digest(3),
        "0b",
        "00",
        "036f6c64",
        "12",
        "02",
        "00",
        "09436f6e6669674d6170",
        "03776562",
        "027631",
        "03752d31",
    ];
    assert_eq!(hex, expected.concat());
}

/// As rows were written before: what a record has no other place for stands in the rest.
#[test]
fn every_field_reads_back_and_the_size_is_that_of_the_row() {
    let mut records = vec![applied(1), Record::default()];
    for uid in ["u-1", "6F9A2D3E-0000-4000-8000-0123456789AB", ""] {
        records.push(record(
            json!({"api_version": "v1", "state": "pendingRemoval", "uid": uid}),
        ));
    }
    for (field, value) in [
        ("accepted", json!(Digest::from_bytes([9; 32]))),
        ("policy", json!({"keep": true, "paused": true})),
        ("finished", json!(true)),
        ("left", json!({"version": 7})),
        ("replaced", json!(true)),
        ("adopted", json!(true)),
    ] {
        let mut one = serde_json::to_value(applied(3)).expect("JSON");
        one[field] = value;
        records.push(record(one));
    }
    let rows: Vec<_> = records
        .into_iter()
        .enumerate()
        .map(|(n, record)| {
            (
                ObjectKey::new("apps", "Deployment", "shop", &"n".repeat(n * 40)),
                Some(record),
            )
        })
        .collect();
    round_trip(&rows);
    for row in &rows {
        let alone = round_trip(std::slice::from_ref(row));
        assert_eq!(size(&row.0, row.1.as_ref().expect("a record")), alone.len() + 1);
    }
    let finished = round_trip(&[rows
        .iter()
        .find(|row| row.1.as_ref().is_some_and(|one| one.finished))
        .expect("one")
        .clone()]);
    assert!(finished.ends_with(b"\x11{\"finished\":true}"));
}

#[test]
fn an_object_among_others_takes_at_most_150_bytes() {
    let rows: Vec<_> = (0..100)
        .map(|n| {
            let name = format!("a-deployment-with-a-usual-name-{n}");
            (
                ObjectKey::new("apps", "Deployment", "team-a-production", &name),
                Some(applied(n)),
            )
        })
        .collect();
    let out = round_trip(&rows);
    assert!(
        out.len() / rows.len() <= 150,
        "{} bytes a row",
        out.len() / rows.len()
    );
}

#[test]
fn cut_or_arbitrary_bytes_are_refused_and_never_panic() {
    let mut out = Vec::new();
    encode(
        [(&ObjectKey::new("", "ConfigMap", "a", "x"), Some(&applied(1)))],
        &mut out,
    );
    for end in 1..out.len() {
        assert!(decode(&out[..end]).is_err(), "cut at {end}");
    }
    for n in 0..1000_u32 {
        let noise = blake3::hash(&n.to_le_bytes());
        let _ = decode(noise.as_bytes());
    }
}
