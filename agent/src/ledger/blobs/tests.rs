use super::{super::blob::Reader, *};

fn text(n: usize) -> Vec<u8> {
    format!("kind: ConfigMap\nmetadata:\n  name: an-object-{n}\ndata:\n  level: info\n").into_bytes()
}

fn digest(n: usize) -> Digest {
    Digest::of("test", &n.to_le_bytes())
}

fn blobs(range: std::ops::Range<usize>) -> Blobs {
    let mut blobs = Blobs::default();
    for n in range {
        let blob = Blob::new(BlobKind::Object, &text(n)).expect("compresses");
        blobs.insert(digest(n), &blob);
    }
    blobs
}

fn bytes(blobs: &Blobs, n: usize) -> Option<Vec<u8>> {
    blobs.get(&digest(n)).map(|blob| blob.bytes().expect("reads"))
}

#[test]
fn small_objects_take_a_fraction_of_what_they_take_in_storage_and_read_back() {
    let blobs = blobs(0..2000);
    let packed: usize = blobs
        .packs
        .iter()
        .flatten()
        .map(|pack| pack.pack.zstd.len())
        .sum();
    let alone = blobs.alone.iter().flatten().map(|(_, data)| match data {
        Data::Alone(zstd) => zstd.len(),
        Data::Packed(..) | Data::Content(_) => unreachable!("none of these"),
    });
    let alone: usize = alone.sum();
    let stored: usize = blobs.slots.iter().map(|slot| slot.stored as usize).sum();
    assert!((packed + alone) * 4 < stored, "{packed} and {alone} of {stored}");
    for n in 0..2000 {
        assert_eq!(bytes(&blobs, n), Some(text(n)), "{n}");
        let stored = blobs.get(&digest(n)).expect("here").zstd();
        let (_, size) = blobs.stored(&digest(n)).expect("here");
        assert_eq!((stored.len(), size), (size, size), "{n}");
    }
}

#[test]
fn blobs_that_go_give_their_room_to_others_and_leave_the_rest_readable() {
    let mut blobs = blobs(0..1000);
    for round in 1..4 {
        for n in 0..1000 {
            let n = round * 1000 - 1000 + n;
            if n % 10 != 0 {
                blobs.remove(&digest(n));
            }
        }
        for n in round * 1000..round * 1000 + 1000 {
            let blob = Blob::new(BlobKind::Object, &text(n)).expect("compresses");
            blobs.insert(digest(n), &blob);
        }
    }
    assert_eq!(blobs.len(), 1300);
    for n in 0..4000 {
        let is_here = n % 10 == 0 || n >= 3000;
        assert_eq!(bytes(&blobs, n), is_here.then(|| text(n)), "{n}");
    }
    assert!(blobs.slots.len() <= 1300 + 1000, "{} slots", blobs.slots.len());
    let packed: usize = blobs.packs.iter().flatten().map(|pack| pack.pack.size).sum();
    let needed: usize = (0..4000)
        .filter_map(|n| bytes(&blobs, n))
        .map(|bytes| bytes.len())
        .sum();
    assert!(packed <= 2 * needed, "{packed} bytes are packed for {needed}");
}

#[test]
fn blobs_that_come_and_go_in_any_order_read_as_they_came() {
    let mut blobs = Blobs::default();
    let mut here = std::collections::BTreeSet::new();
    for step in 0..20_000_u32 {
        let noise = Digest::of("noise", &step.to_le_bytes());
        let n = usize::from(noise.as_bytes()[0]) * 4 + usize::from(noise.as_bytes()[1] % 4);
        if here.remove(&n) {
            blobs.remove(&digest(n));
        } else {
            let blob = Blob::new(BlobKind::Object, &text(n)).expect("compresses");
            blobs.insert(digest(n), &blob);
            here.insert(n);
        }
        if step % 500 == 0 {
            for n in 0..1024 {
                let expected = here.contains(&n).then(|| text(n));
                assert_eq!(bytes(&blobs, n), expected, "{n} after step {step}");
            }
        }
    }
    assert_eq!(blobs.len(), here.len());
}

#[test]
fn references_are_counted_before_the_blob_comes_and_after_it_went() {
    let mut blobs = Blobs::default();
    let more = |count: u32| count + 1;
    let less = |count: u32| count - 1;
    assert_eq!(blobs.refer(digest(1), more).stored, None);
    assert!(!blobs.contains_key(&digest(1)) && blobs.is_empty());
    let blob = Blob::new(BlobKind::Config, b"{}").expect("compresses");
    assert_eq!(blobs.insert(digest(1), &blob), 1);
    assert_eq!(
        blobs.get(&digest(1)).map(|blob| blob.kind),
        Some(BlobKind::Config)
    );
    blobs.remove(&digest(1));
    let referred = blobs.refer(digest(1), less);
    assert_eq!((referred.before, referred.now, referred.stored), (1, 0, None));
    assert_eq!((blobs.ids.len(), blobs.len()), (0, 0));
}

#[test]
fn one_reader_reads_blobs_in_any_order() {
    let blobs = blobs(0..500);
    let mut reader = Reader::default();
    for n in (0..500).map(|n| n * 7 % 500) {
        let blob = blobs.get(&digest(n)).expect("here");
        assert_eq!(reader.bytes(&blob).expect("reads"), text(n), "{n}");
    }
}
