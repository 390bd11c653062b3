//! A store with a fleet in it: clusters, apps and contents are given, no source is read and nothing rendered. The
//! apps are of a kind that the running hub's planner leaves alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    claim::{self, Claims, Keyset},
    content::{Content, Form, ObjectEntry, Objects, object_digest},
    digest::Digest,
    fleet::placement::Chosen,
    id::{AppName, ClusterId},
    object::ObjectKey,
    removal::DeletionPolicy,
    rollout::{
        admission::End,
        plan::{Admission, Admitted, Input, Planned, plan},
    },
    unit::{Settings, Substitution, VariableLayer},
};
use flotilla_hub::{
    auth::seal::Seal,
    store::{
        Store, StoreError,
        apply::{Action, NewResource, Payload},
        content::Blob,
        due::Stale,
        plan::{AppPlan, Commit, Unchanged},
        publish::Published,
        rendering::{Changes, Ended, Input as RenderInput, Outcome},
        report::{Attained, StatusRow},
        resource::FLEET,
        retention::Removed,
        rollout::{EndedRollout, Turned},
        source::{NewRevision, SourceOutcome},
    },
};
use flotilla_testkit::{TestDb, wait_until};
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgConnectOptions};
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::statements::OWN;

pub(crate) const INCARNATION: u64 = 7;
const DIGEST_KEY: [u8; 32] = [9; 32];

pub(crate) struct World {
    pub(crate) store: Store,
    /// What apps are rendered and planned through.
    pub(crate) planning: Store,
    pub(crate) seal: Arc<Seal>,
    pub(crate) pool: PgPool,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) db: TestDb,
}

/// An object as a renderer gives it.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) key: ObjectKey,
    pub(crate) bytes: Vec<u8>,
}

impl Object {
    pub(crate) fn new(kind: &str, name: &str, text: &str) -> Self {
        Self {
            key: ObjectKey::new("", kind, "default", name),
            bytes: text.as_bytes().to_vec(),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        object_digest(
            Form::Yaml,
            &self.bytes,
            self.key.is_secret().then_some(&DIGEST_KEY),
        )
    }
}

/// A content in the store, and what it holds.
#[derive(Clone)]
pub(crate) struct Rendered {
    pub(crate) admitted: Admitted,
    pub(crate) manifest: Vec<u8>,
    pub(crate) keys: Vec<ObjectKey>,
}

/// What a planner gathered and decided, not yet committed.
pub(crate) struct Gathered {
    pub(crate) app: Uuid,
    pub(crate) recorded: AppPlan,
    pub(crate) planned: Planned,
    pub(crate) configs: Vec<Blob>,
    admitted: Admitted,
    claims: Claims,
    pub(crate) unchanged: Option<Unchanged>,
}

impl Gathered {
    /// As the store takes it, made from this generation of the app's spec.
    pub(crate) fn commit(&self, generation: i64) -> Commit<'_> {
        Commit {
            app_uid: self.app,
            app: named(self.app),
            recorded: &self.recorded,
            generation,
            planned: &self.planned,
            claims: &self.claims,
            configs: &self.configs,
            revision_id: Some(self.admitted.revision),
            content: Some(self.admitted.content),
            waiting: &[],
            confirms: self.recorded.is_unconfirmed,
            handled: "",
            unchanged: self.unchanged,
        }
    }
}

/// The name of an app, for its units: as good as any that differs from all others.
pub(crate) fn named(app: Uuid) -> AppName<'static> {
    AppName {
        scope: app,
        group: "",
        kind: "",
        namespace: "",
        name: "",
    }
}

/// A rendering that has ended.
pub(crate) fn ended(app: Uuid, rendering: Digest, outcome: Outcome) -> Ended {
    Ended {
        app,
        rendering,
        outcome: Arc::new(outcome),
        duration_ms: 1,
    }
}

pub(crate) fn resource(kind: &str, name: &str, spec: Value) -> NewResource {
    NewResource {
        scope: FLEET,
        group: "test.example.org".into(),
        kind: kind.into(),
        namespace: if kind == "Cluster" {
            String::new()
        } else {
            "apps".into()
        },
        name: name.into(),
        api_version: "test.example.org/v1".into(),
        labels: json!({}),
        annotations: json!({}),
        spec,
        payload: None,
        not_supported: vec![],
    }
}

pub(crate) fn secret(name: &str, value: &str) -> NewResource {
    let bytes = Zeroizing::new(format!("{{\"password\":\"{value}\"}}").into_bytes());
    let digest = *Digest::keyed(&DIGEST_KEY, "payload", &bytes).as_bytes();
    NewResource {
        payload: Some(Payload { digest, bytes }),
        ..resource("Secret", name, json!({"keys": ["password"]}))
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let db = TestDb::create().await.expect("a database");
        let dir = tempfile::tempdir().expect("a directory");
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        let store = Store::open(options.clone(), 8).await.expect("the store opens");
        let seal = Arc::new(Seal::open_or_create(&dir.path().join("kek")).expect("a key"));
        let pool = PgPool::connect_with(options).await.expect("connected");
        Self {
            planning: store.for_planning(),
            store,
            seal,
            pool,
            dir,
            db,
        }
    }

    /// How another store gets to this database.
    pub(crate) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::from_str(self.db.url()).expect("a URL")
    }

    pub(crate) async fn apply(&self, resources: &[NewResource]) -> Vec<Action> {
        self.store
            .apply(resources, &self.seal, "test", false)
            .await
            .expect("applied")
    }

    pub(crate) async fn uid(&self, kind: &str, name: &str) -> Uuid {
        let namespace = if kind == "Cluster" { "" } else { "apps" };
        self.store
            .resource_by_name(FLEET, kind, namespace, name)
            .await
            .expect("read")
            .expect("there")
            .uid
    }

    pub(crate) async fn cluster(&self, name: &str) -> Uuid {
        self.apply(&[resource("Cluster", name, json!({}))]).await;
        self.store
            .cluster_by_name(name)
            .await
            .expect("read")
            .expect("made")
            .id
    }

    pub(crate) async fn app(&self, name: &str) -> Uuid {
        self.apply(&[resource("HelmRelease", name, json!({}))]).await;
        self.uid("HelmRelease", name).await
    }

    /// Stores a content of `app` under a new revision of its source.
    pub(crate) async fn render(&self, app: Uuid, revision: &str, objects: &[Object]) -> Rendered {
        let revision = self.revision(revision).await;
        self.render_at(app, revision, objects).await
    }

    /// Records a revision of the source, of which nothing is known.
    pub(crate) async fn revision(&self, revision: &str) -> i64 {
        self.revision_with(revision, Changes::Anything).await
    }

    /// Records a revision of the source that changes this.
    pub(crate) async fn revision_with(&self, revision: &str, changes: Changes) -> i64 {
        self.apply(&[resource("OCIRepository", "source", json!({}))])
            .await;
        self.try_revision(revision, changes).await.expect("a revision")
    }

    /// As a look that began when the source's spec was its first.
    pub(crate) async fn try_revision(&self, revision: &str, changes: Changes) -> Result<i64, StoreError> {
        let source = self.uid("OCIRepository", "source").await;
        self.try_revision_of(source, revision, changes).await
    }

    /// Of this source.
    pub(crate) async fn try_revision_of(
        &self,
        source: Uuid,
        revision: &str,
        changes: Changes,
    ) -> Result<i64, StoreError> {
        let state = self.store.source_state(source).await.expect("read");
        self.store
            .record_source(&SourceOutcome {
                uid: source,
                version: state.as_ref().map_or(0, |state| state.version),
                spec: 1,
                generation: 1,
                handled: "",
                is_seen: true,
                restored: false,
                former: state.and_then(|state| state.revision).map(|one| one.id),
                follows: None,
                revision: Some((
                    NewRevision {
                        revision,
                        commit_id: revision,
                        subject: "",
                        config_digest: b"config",
                        artifact_digest: &format!("sha256:{revision}"),
                        artifact_size: 1,
                        verified: "",
                    },
                    changes,
                )),
                conditions: &[],
                next_seconds: 3600.0,
                failures: 0,
                event: None,
            })
            .await?;
        let current = self.store.current_revision(source).await?;
        Ok(current.expect("there").id)
    }

    /// What `app` is rendered from at a revision.
    pub(crate) async fn input(&self, app: Uuid, revision: i64) -> RenderInput {
        let (source, artifact): (Uuid, String) =
            sqlx::query_as("SELECT source_uid, artifact_digest FROM revision WHERE id = $1")
                .bind(revision)
                .fetch_one(&self.pool)
                .await
                .expect("a revision");
        let fields = Digest::of("fields", app.as_bytes());
        RenderInput::new(app, fields, source, revision, &artifact)
    }

    /// Stores a content of `app` under a revision.
    pub(crate) async fn render_at(&self, app: Uuid, revision: i64, objects: &[Object]) -> Rendered {
        self.render_from(app, revision, objects, None).await
    }

    /// Stores a content of `app` under a revision, of which these paths were looked at.
    pub(crate) async fn render_from(
        &self,
        app: Uuid,
        revision: i64,
        objects: &[Object],
        paths: Option<BTreeSet<String>>,
    ) -> Rendered {
        let rendered = self.try_render(app, revision, objects, paths).await;
        rendered.expect("recorded")
    }

    /// As [`Self::render_from`], where others may be at what it stores.
    pub(crate) async fn try_render(
        &self,
        app: Uuid,
        revision: i64,
        objects: &[Object],
        paths: Option<BTreeSet<String>>,
    ) -> Result<Rendered, StoreError> {
        let input = self.input(app, revision).await;
        self.planning.take_input(&input).await.expect("taken");
        self.planning
            .begin_rendering(&input.rendering, "replica", Duration::from_secs(60))
            .await
            .expect("due");
        let entries = objects
            .iter()
            .map(|one| ObjectEntry {
                key: one.key.clone(),
                form: Form::Yaml,
                digest: one.digest(),
            })
            .collect();
        let count = u32::try_from(objects.len()).expect("few");
        let content = Content::Objects(Objects {
            entries,
            count,
            complete: true,
        });
        let manifest = content.to_bytes();
        let blobs = objects.iter().map(|one| Blob {
            digest: *one.digest().as_bytes(),
            bytes: Zeroizing::new(one.bytes.clone()),
            secret: one.key.is_secret(),
        });
        let outcome = Outcome::Done {
            content: *content.digest().as_bytes(),
            manifest: manifest.clone().into(),
            objects: blobs.collect(),
            kept: None,
            notice: None,
            paths,
        };
        self.planning
            .record_rendered(&[ended(app, input.rendering, outcome)], &self.seal)
            .await?;
        Ok(Rendered {
            admitted: Admitted {
                revision,
                content: content.digest(),
            },
            manifest,
            keys: objects.iter().map(|one| one.key.clone()).collect(),
        })
    }

    /// Removes what no root reaches; returns what that was.
    pub(crate) async fn remove_unused(&self) -> Removed {
        let (removed, failed) = self.store.remove_unused().await;
        assert!(failed.is_empty(), "{failed:?}");
        removed
    }

    /// Gathers and decides as the hub's planner does.
    pub(crate) async fn gather(&self, app: Uuid, clusters: &[Uuid], content: &Rendered) -> Gathered {
        self.gather_with(app, clusters, content, vec![], BTreeMap::new())
            .await
    }

    pub(crate) async fn gather_with(
        &self,
        app: Uuid,
        clusters: &[Uuid],
        content: &Rendered,
        configs: Vec<Blob>,
        annotations: BTreeMap<String, String>,
    ) -> Gathered {
        let admission = Admission::Admitted(content.admitted);
        self.gather_of(app, clusters, content, configs, annotations, admission)
            .await
    }

    /// As for an app that is suspended.
    pub(crate) async fn suspend(&self, app: Uuid, clusters: &[Uuid], content: &Rendered) {
        let held = Admission::Held(Vec::new());
        let gathered = self
            .gather_of(app, clusters, content, vec![], BTreeMap::new(), held)
            .await;
        self.commit(&gathered).await.expect("committed");
    }

    async fn gather_of(
        &self,
        app: Uuid,
        clusters: &[Uuid],
        content: &Rendered,
        configs: Vec<Blob>,
        annotations: BTreeMap<String, String>,
        admission: Admission,
    ) -> Gathered {
        let recorded = self.planning.app_plan(app).await.expect("read");
        let ids: Vec<ClusterId> = clusters.iter().map(|id| ClusterId(*id)).collect();
        let chosen = |id: &ClusterId| Chosen {
            id: *id,
            name: id.0.to_string(),
            variables: BTreeMap::new(),
            overrides: Ok(BTreeMap::new()),
        };
        let chosen: Vec<Chosen> = ids.iter().map(chosen).collect();
        let set = Keyset::of(content.keys.clone());
        let claims = match claim::settled(&chosen, &recorded.units) == Some(set.digest) {
            true => Claims::settled(&chosen, set.digest),
            false => Claims::of(vec![(set, ids.clone())]),
        };
        let others = self.planning.other_claims(app, &ids, &claims.new_keys()).await;
        let withheld = claim::withheld(&claims, &others.expect("read"));
        let layers = configs
            .iter()
            .map(|blob| VariableLayer::Config {
                digest: Digest::try_from_slice(&blob.digest).expect("32 bytes"),
                secret: blob.secret,
            })
            .collect();
        let planned = plan(&Input {
            suspended: matches!(admission, Admission::Held(_)),
            admission,
            settings: settings(annotations),
            layers,
            requested: String::new(),
            chosen,
            unreadable: BTreeMap::new(),
            draining: BTreeSet::new(),
            retiring: BTreeSet::new(),
            deletion_policy: DeletionPolicy::MirrorPrune,
            units: recorded.units.clone(),
            withheld,
            dependencies: Default::default(),
        });
        Gathered {
            app,
            recorded,
            planned,
            configs,
            admitted: content.admitted,
            claims,
            unchanged: None,
        }
    }

    pub(crate) async fn commit(&self, gathered: &Gathered) -> Result<(), StoreError> {
        self.commit_of(gathered, 1).await
    }

    /// Commits a plan made from this generation of the app's spec.
    pub(crate) async fn commit_of(&self, gathered: &Gathered, generation: i64) -> Result<(), StoreError> {
        let turned = self.commit_only(gathered, generation).await?;
        self.planning.end_rollouts(&turned).await.map(drop)
    }

    /// Commits a plan, and leaves what it ends to others.
    pub(crate) async fn commit_only(
        &self,
        gathered: &Gathered,
        generation: i64,
    ) -> Result<Vec<Turned>, StoreError> {
        self.planning
            .commit_plan(&gathered.commit(generation), &self.seal)
            .await
    }

    /// Commits what was planned of an app's removal.
    pub(crate) async fn planned(&self, app: Uuid, recorded: &AppPlan, planned: &Planned) {
        self.try_planned(app, recorded, planned).await.expect("committed");
    }

    pub(crate) async fn try_planned(
        &self,
        app: Uuid,
        recorded: &AppPlan,
        planned: &Planned,
    ) -> Result<(), StoreError> {
        let clusters = planned.units.iter().map(|unit| unit.cluster).collect();
        let commit = Commit {
            app_uid: app,
            app: named(app),
            confirms: false,
            recorded,
            generation: 1,
            planned,
            claims: &Claims::of(vec![(Keyset::of(Vec::new()), clusters)]),
            configs: &[],
            revision_id: None,
            content: planned.units[0].content,
            waiting: &[],
            handled: "",
            unchanged: None,
        };
        self.planning.commit_plan(&commit, &self.seal).await.map(drop)
    }

    /// Plans and publishes at once; returns the published generations.
    pub(crate) async fn roll_out(
        &self,
        app: Uuid,
        clusters: &[Uuid],
        content: &Rendered,
    ) -> Vec<Option<u64>> {
        let gathered = self.gather(app, clusters, content).await;
        self.commit(&gathered).await.expect("committed");
        let mut generations = Vec::new();
        for cluster in clusters {
            generations.push(self.publish(*cluster).await.map(|one| one.generation));
        }
        generations
    }

    /// How the rollouts end that this unit's last report ends.
    pub(crate) async fn ended(&self, unit: Uuid) -> Vec<End> {
        self.ended_of(&self.reached(&[unit]).await).await
    }

    /// The same of units that have applied these versions.
    pub(crate) async fn ended_of(&self, reached: &[(Uuid, i64)]) -> Vec<End> {
        let turned = self.store.turn_applied(reached).await.expect("turned");
        let ended = self.store.end_rollouts(&turned).await.expect("ended");
        ended.into_iter().map(|one| one.end).collect()
    }

    /// Which of these units have applied what they are to be, as their last reports said, each with its version.
    pub(crate) async fn reached(&self, units: &[Uuid]) -> Vec<(Uuid, i64)> {
        sqlx::query_as(
            "SELECT u.id, u.version FROM unit u
             JOIN unit_status s ON s.unit_id = u.id AND (s.applied_version, s.applied) = (u.version, u.target)
             WHERE u.id = ANY ($1) ORDER BY u.id",
        )
        .bind(units)
        .fetch_all(&self.pool)
        .await
        .expect("read")
    }

    /// How the rollouts end whose end was missed.
    pub(crate) async fn end_missed(&self) -> Vec<EndedRollout> {
        let (mut ended, mut after) = (Vec::new(), Some(0));
        while let Some(last) = after {
            let (done, next) = self.store.end_missed_rollouts(last).await.expect("looked");
            ended.extend(done);
            after = next;
        }
        ended
    }

    /// Publishes one cluster; `None`: nothing differs.
    pub(crate) async fn publish(&self, cluster: Uuid) -> Option<Published> {
        let mut published = self
            .store
            .publish(&[cluster], INCARNATION)
            .await
            .expect("published");
        assert!(published.len() <= 1, "{published:?}");
        published.pop()
    }

    /// Waits until the hubs on this database ask nothing for three seconds: what is asked by the clock is further apart.
    pub(crate) async fn is_quiet(&self) {
        let query = format!(
            "{OWN} SELECT coalesce(min(now() - query_start) > interval '3 seconds', true) FROM pg_stat_activity
             WHERE datname = current_database() AND backend_type = 'client backend' AND query NOT LIKE '{OWN}%'"
        );
        wait_until(
            "three seconds without a statement",
            Duration::from_secs(40),
            async || {
                let quiet: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query.as_str()))
                    .fetch_one(&self.pool)
                    .await?;
                Ok::<_, sqlx::Error>(quiet.then_some(()))
            },
        )
        .await
        .expect("nothing turns");
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(&self.pool)
            .await
            .expect(query)
    }

    /// What the pass behind lost wake-ups finds, of what has changed so long ago.
    pub(crate) async fn stale(&self, incarnation: u64, settled: Duration) -> Stale {
        let mut listener = self.store.listen("replica").await.expect("it listens");
        let reader = self.store.outbox_end().await.expect("a reader");
        let stale = self.store.stale(&mut listener, &reader, incarnation, settled);
        stale.await.expect("asked")
    }

    pub(crate) async fn execute(&self, statement: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&self.pool)
            .await
            .expect(statement);
    }
}

fn settings(common_annotations: BTreeMap<String, String>) -> Settings {
    Settings {
        interval: Duration::from_secs(60),
        retry_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(30),
        wait: false,
        prune: true,
        common_labels: BTreeMap::new(),
        common_annotations,
        substitution: Substitution::WithVariables,
        default_namespace: String::new(),
        ..Settings::default()
    }
}

/// A status that says `target` is applied.
pub(crate) fn applied(unit: Uuid, version: u64, target: Digest) -> StatusRow {
    let target = Some(Attained { version, target });
    StatusRow {
        unit,
        version,
        attempted: target.clone(),
        applied: target.clone(),
        healthy: target,
        healthy_since: Some(OffsetDateTime::UNIX_EPOCH),
        ready: "True",
        reason: "ReconciliationSucceeded".into(),
        message: "applied".into(),
        notes: String::new(),
        health: "Current".into(),
        objects: 1,
        objects_failed: 0,
        objects_pending_removal: 0,
        apply_ms: 5,
        observed_at: OffsetDateTime::UNIX_EPOCH,
    }
}
