//! The ledger over Secrets of a real API server: what the cells in memory stand for.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use flotilla_agent::ledger::{
    Ledger, LedgerError, Opened,
    directory::Directory,
    health::HealthState,
    key_value::{KeyValue as _, KeyValueError},
    record::{Accepted, Record},
    secrets::Secrets,
    state::{Blob, BlobKind},
    transfer::{Moved, Place, transfer},
};
use flotilla_core::{clock::Timestamp, digest::Digest, id::UnitId};
use flotilla_testkit::shared_clusters;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use uuid::Uuid;

const LEDGER: &str = "flotilla-agent-ledger";

struct World {
    secrets: Api<Secret>,
    cells: Arc<Secrets>,
}

async fn world() -> World {
    flotilla_testkit::install_tls_provider();
    let plane = shared_clusters(1).await.unwrap()[0];
    let client: Client = plane.client().await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    World {
        secrets: Api::namespaced(client.clone(), &namespace),
        cells: Arc::new(Secrets::new(client, &namespace)),
    }
}

impl World {
    async fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(self.cells.clone(), LEDGER).await
    }

    /// Stores all Secrets again with equal bytes, as a rotation of encryption keys and a policy do.
    async fn rotate(&self) {
        for secret in self.secrets.list(&ListParams::default()).await.unwrap() {
            let name = secret.metadata.name.unwrap();
            let label = json!({"metadata": {"labels": {"rotated": Uuid::new_v4().to_string()}}});
            self.secrets
                .patch(&name, &PatchParams::default(), &Patch::Merge(&label))
                .await
                .unwrap();
        }
    }
}

fn offered(n: u128) -> Record {
    Record::Offered {
        unit: UnitId(Uuid::from_u128(n)),
        entry: b"{}".to_vec().into(),
        at: Timestamp(1),
    }
}

fn held(generation: u64) -> Record {
    Record::Accepted(Accepted {
        incarnation: 1,
        generation,
        ..Accepted::default()
    })
}

/// More than the head takes.
fn large(n: u8) -> Record {
    let mut bytes = vec![0; 700_000];
    blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut bytes);
    let blob = Blob::new(BlobKind::Object, &bytes).unwrap();
    Record::Blob(Digest::of("object/json", &bytes), blob)
}

fn units(ledger: &Ledger) -> usize {
    ledger.read(|state| state.units.len())
}

#[tokio::test]
async fn secrets_stored_again_by_somebody_else_are_still_ours() {
    let world = world().await;
    let ledger = world.open().await.unwrap();
    for n in 0..3 {
        ledger.append(vec![large(n), offered(n.into())]).await.unwrap();
        world.rotate().await;
        ledger.append(vec![offered(10 + u128::from(n))]).await.unwrap();
        world.rotate().await;
        ledger.check_writer().await.unwrap();
    }
    assert_eq!(units(&world.open().await.unwrap()), 6);
    world
        .open()
        .await
        .unwrap()
        .append(vec![offered(99)])
        .await
        .unwrap();
    assert!(matches!(
        ledger.append(vec![offered(98)]).await,
        Err(LedgerError::Lost)
    ));
}

#[tokio::test]
async fn a_head_deleted_or_overwritten_is_told_and_begun_anew_only_by_a_restart() {
    let world = world().await;
    let ledger = world.open().await.unwrap();
    ledger.append(vec![large(1), offered(1), held(1)]).await.unwrap();
    ledger.append(vec![offered(2)]).await.unwrap();
    world
        .secrets
        .delete(LEDGER, &DeleteParams::default())
        .await
        .unwrap();
    let refused = ledger.append(vec![offered(3)]).await;
    assert!(matches!(refused, Err(LedgerError::Damaged(_))), "{refused:?}");
    assert!(matches!(ledger.health().state, HealthState::Damaged(_)));
    assert_eq!(units(&ledger), 2, "what is held is enforced");
    let before = world.cells.get(&format!("{LEDGER}-0")).await.unwrap().unwrap();
    let again = world.open().await.unwrap();
    assert!(matches!(again.opened(), Opened::Damaged(_)));
    again.append(vec![large(2), offered(5), held(2)]).await.unwrap();
    let kept = world.cells.get(&format!("{LEDGER}-0")).await.unwrap().unwrap();
    assert_eq!(kept.version, before.version, "the damaged cells are left alone");
    assert!(matches!(
        ledger.append(vec![offered(3)]).await,
        Err(LedgerError::Lost)
    ));
    let last = world.open().await.unwrap();
    assert_eq!((last.opened(), units(&last)), (&Opened::Read, 1));
}

#[tokio::test]
async fn a_cell_that_is_gone_is_a_conflict_and_one_that_exists_is_not_created_again() {
    let world = world().await;
    let first = world.cells.put("cell", b"1", None).await.unwrap();
    let conflict = world.cells.put("cell", b"2", None).await;
    assert!(
        matches!(conflict, Err(KeyValueError::Conflict { .. })),
        "{conflict:?}"
    );
    world
        .secrets
        .delete("cell", &DeleteParams::default())
        .await
        .unwrap();
    let conflict = world.cells.put("cell", b"2", Some(&first)).await;
    assert!(
        matches!(conflict, Err(KeyValueError::Conflict { .. })),
        "{conflict:?}"
    );
}

#[tokio::test]
async fn a_ledger_goes_to_a_directory_and_back() {
    let world = world().await;
    let ledger = world.open().await.unwrap();
    ledger.append(vec![offered(1), held(1), large(1)]).await.unwrap();
    world.cells.put("identity", b"keys", None).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let secrets = Place {
        key_value: world.cells.clone(),
        name: "Secrets".to_owned(),
    };
    let directory = Place {
        key_value: Arc::new(Directory::open(dir.path()).unwrap()),
        name: "directory".to_owned(),
    };
    let there = transfer(&secrets, &directory, LEDGER, "identity").await.unwrap();
    assert_eq!(there, Moved::Now);
    assert!(matches!(world.open().await, Err(LedgerError::Moved { .. })));
    let moved = Ledger::open(directory.key_value.clone(), LEDGER).await.unwrap();
    moved.append(vec![offered(2)]).await.unwrap();
    let back = transfer(&directory, &secrets, LEDGER, "identity").await.unwrap();
    assert_eq!(back, Moved::Now);
    let again = world.open().await.unwrap();
    assert_eq!((units(&again), again.key()), (2, ledger.key()));
    assert_eq!(again.read(|state| state.blobs.len()), 1);
}
