//! Contents that are stored as what differs from those before them.

use super::*;

const OBJECTS: usize = 1000;

/// Versions of objects, of which each commit changes one.
struct Commits {
    versions: Vec<u32>,
    last: Option<Digest>,
    generation: u64,
}

impl Commits {
    fn new() -> Self {
        Self {
            versions: vec![0; OBJECTS],
            last: None,
            generation: 0,
        }
    }

    fn object(n: usize, version: u32) -> (Digest, Record) {
        let bytes = format!("{{\"n\":{n},\"version\":{version}}}").into_bytes();
        let digest = Digest::of("object/json", &bytes);
        let blob = Blob::new(BlobKind::Object, &bytes).expect("compresses");
        (digest, Record::Blob(digest, blob))
    }

    /// The content as it is now.
    fn content(&self) -> Content {
        let entries = self.versions.iter().enumerate().map(|(n, version)| ObjectEntry {
            key: ObjectKey::new("", "ConfigMap", "a", &format!("x-{n}")),
            form: Form::Json,
            digest: Self::object(n, *version).0,
        });
        Content::Objects(Objects {
            entries: entries.collect(),
            count: self.versions.len() as u32,
            complete: true,
        })
    }

    /// The records of the next acceptance, all that the ledger does not have.
    fn next(&mut self) -> Vec<Record> {
        let records = match self.last {
            None => (0..self.versions.len()).map(|n| Self::object(n, 0).1).collect(),
            Some(_) => {
                let n = (self.generation as usize * 7919) % self.versions.len();
                self.versions[n] += 1;
                vec![Self::object(n, self.versions[n]).1]
            }
        };
        let content = self.content();
        let blob = Blob::new(BlobKind::Content, &content.to_bytes()).expect("compresses");
        let mut records: Vec<Record> = records;
        records.push(Record::Blob(content.digest(), blob.against(self.last)));
        self.last = Some(content.digest());
        self.generation += 1;
        accepted(unit(), self.generation, (content.digest(), records))
    }
}

fn read(ledger: &Ledger, commits: &Commits) -> Option<Vec<u8>> {
    let digest = commits.last.expect("a commit");
    ledger.read(|state| state.blob(&digest))
}

/// Bytes of all records that are stored.
async fn used(ledger: &Ledger) -> usize {
    ledger.shared.writer.lock().await.used()
}

#[tokio::test]
async fn commit_of_one_object_of_a_thousand_stores_what_differs_of_its_manifest() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    let mut commits = Commits::new();
    ledger.append(commits.next()).await.expect("appends");
    let manifest = Blob::new(BlobKind::Content, &commits.content().to_bytes())
        .expect("compresses")
        .room();
    assert!(manifest > 30_000, "{manifest} bytes");
    let mut costs = Vec::new();
    for _ in 0..18 {
        let before = used(&ledger).await;
        ledger.append(commits.next()).await.expect("appends");
        costs.push(used(&ledger).await - before);
        assert_eq!(
            read(&open(&cells).await, &commits),
            Some(commits.content().to_bytes())
        );
    }
    // Each ninth stands by itself.
    let whole: Vec<usize> = (0..costs.len()).filter(|n| costs[*n] > manifest).collect();
    assert_eq!(whole, [8, 17], "{costs:?}");
    let most = costs.iter().filter(|cost| **cost <= manifest).max();
    assert!(most <= Some(&1200), "{costs:?}");
}

#[tokio::test]
async fn what_is_written_anew_is_whole_and_begins_the_next_chain() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    let mut commits = Commits::new();
    for _ in 0..6 {
        ledger.append(commits.next()).await.expect("appends");
    }
    // Much that goes: all is written anew.
    for n in 0..20 {
        let records = accepted(
            UnitId(Uuid::from_u128(2)),
            100 + u64::from(n),
            content(n, 10, 10_000),
        );
        ledger.append(records).await.expect("appends");
    }
    let last = commits.last.expect("a commit");
    assert_eq!(ledger.read(|state| state.depth(&last)), 0);
    let again = open(&cells).await;
    assert_eq!(read(&again, &commits), Some(commits.content().to_bytes()));
    assert_eq!(again.read(|state| state.depth(&last)), 0);
    again.append(commits.next()).await.expect("appends");
    let last = commits.last.expect("a commit");
    let again = open(&cells).await;
    assert_eq!(read(&again, &commits), Some(commits.content().to_bytes()));
    assert_eq!(again.read(|state| state.depth(&last)), 1);
}

#[tokio::test(start_paused = true)]
async fn content_whose_base_is_not_what_it_was_is_told_missing_and_written_whole_once_it_comes() {
    for is_here in [true, false] {
        let cells = Memory::default();
        let ledger = open(&cells).await;
        let mut commits = Commits::new();
        ledger.append(commits.next()).await.expect("appends");
        let base = commits.last.expect("a commit");
        let mut records = commits.next();
        // Against other bytes than its base has, or against something that is not here.
        let digest = commits.last.expect("a commit");
        let whole = commits.content().to_bytes();
        let blob = Blob::new(BlobKind::Content, &whole).expect("compresses");
        let other = Blob::new(BlobKind::Content, &whole[..whole.len() - 2]).expect("compresses");
        let base = if is_here { base } else { Digest::of("gone", b"") };
        let delta = delta::Delta::new(digest, &blob, (base, &other), 1).expect("it is short");
        let at = records
            .iter()
            .position(|record| matches!(record, Record::Blob(of, _) if *of == digest));
        records[at.expect("a content")] = Record::Delta(delta);
        ledger.append(records).await.expect("appends");
        let again = open(&cells).await;
        assert_eq!(read(&again, &commits), None, "base is here: {is_here}");
        assert_eq!(
            again.read(|state| state.accepted.generation),
            2,
            "all else is read"
        );
        again
            .append(vec![Record::Blob(digest, blob)])
            .await
            .expect("appends");
        assert!(
            matches!(&again.health().state, HealthState::Damaged(why) if why.contains("fetched again")),
            "{:?}",
            again.health().state
        );
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(again.health().state, HealthState::Ok);
        let last = open(&cells).await;
        assert_eq!(read(&last, &commits), Some(whole));
        assert_eq!(*last.opened(), Opened::Read);
    }
}

#[tokio::test]
async fn a_small_content_is_stored_whole() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    let mut commits = Commits::new();
    commits.versions.truncate(2);
    for _ in 0..2 {
        ledger.append(commits.next()).await.expect("appends");
    }
    let last = commits.last.expect("a commit");
    assert_eq!(ledger.read(|state| state.depth(&last)), 0);
    assert_eq!(
        read(&open(&cells).await, &commits),
        Some(commits.content().to_bytes())
    );
}
