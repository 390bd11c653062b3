//! Flux's objects that apps render: kept by a running hub in the scope of each cluster, reconciled there as any other, and gone
//! with what renders them. Agents do what they are told.

use flotilla_proto::fleet::v1::{
    ApplyRequest, ApplyResponse, DeleteRequest, Document, ListResourcesRequest, Resource, ResourceRef,
};
use flotilla_testkit::wait_until;
use uuid::Uuid;

use crate::{
    deploys::{Fleet, config_map},
    hub::PATIENCE,
    puppet::Puppet,
};

/// A Kustomization in flux-system with these further fields of its spec.
fn kustomization(name: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\n\
         spec:\n  interval: 10m\n  path: {path}\n  prune: true\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n{more}"
    )
}

impl Fleet {
    async fn try_apply_in(&self, cluster: &str, documents: &[&str]) -> Result<ApplyResponse, tonic::Status> {
        let request = ApplyRequest {
            documents: vec![Document {
                file: "fleet.yaml".into(),
                text: documents.join("---\n"),
            }],
            scope: cluster.into(),
            ..ApplyRequest::default()
        };
        let answer = self.hub.fleet().await.apply(self.hub.authorized(request)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn apply_in(&self, cluster: &str, documents: &[&str]) {
        let answer = self.try_apply_in(cluster, documents).await.expect("answered");
        assert_eq!(answer.applied.len(), documents.len(), "{:?}", answer.problems);
    }

    /// The source that a root is bootstrapped with.
    fn root_source(&self) -> String {
        self.source("a").replace(
            "name: a, namespace: apps",
            "name: flux-system, namespace: flux-system",
        )
    }

    /// Has all sources looked at.
    async fn look(&self) {
        let sources: Vec<Uuid> = sqlx::query_scalar("SELECT uid FROM resource WHERE kind = 'GitRepository'")
            .fetch_all(&self.hub.world.pool)
            .await
            .expect("read");
        let value = Uuid::new_v4().to_string();
        let asked = self.hub.world.store.request(&sources, &value, None).await;
        asked.expect("asked");
    }

    /// All that is configured but for clusters: `scope Kind/name <- owner`, and what is said of it.
    async fn configured(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT concat_ws(' ', nullif(scope_name(r.scope), ''), r.kind || '/' || r.name, '<- ' || o.name,
                              CASE WHEN r.deleting_at IS NOT NULL THEN 'deleting' END)
             FROM resource r LEFT JOIN resource o ON o.uid = r.owner WHERE r.kind <> 'Cluster' ORDER BY 1",
        )
        .fetch_all(&self.hub.world.pool)
        .await
        .expect("read")
    }

    async fn until_configured(&self, expected: &[&str]) {
        wait_until("what is configured", PATIENCE, async || {
            let found = self.configured().await;
            match found == expected {
                true => Ok(Some(())),
                false => Err(format!("{found:#?}; {:#?}", self.conditions().await)),
            }
        })
        .await
        .expect("so");
    }

    /// The Kustomizations of all scopes.
    async fn kustomizations(&self) -> Vec<Resource> {
        let request = ListResourcesRequest {
            kinds: vec!["Kustomization".into()],
            scope: "*".into(),
            ..ListResourcesRequest::default()
        };
        let mut fleet = self.hub.fleet().await;
        let listed = fleet.list_resources(self.hub.authorized(request)).await;
        listed.expect("listed").into_inner().resources
    }

    async fn conditions(&self) -> Vec<String> {
        let shown = self.kustomizations().await.into_iter();
        shown.map(|one| said(&one)).collect()
    }

    /// Waits until a Kustomization of this scope is shown so: `status reason: message` begins with `expected`.
    async fn until_said(&self, scope: &str, name: &str, expected: &str) {
        wait_until(expected, PATIENCE, async || {
            let all = self.kustomizations().await;
            let found = all.iter().find(|one| {
                let named = one.r#ref.as_ref().expect("a name");
                (named.scope.as_str(), named.name.as_str()) == (scope, name)
            });
            match found.is_some_and(|one| said(one).contains(expected)) {
                true => Ok(Some(())),
                false => Err(format!("{:#?}", self.conditions().await)),
            }
        })
        .await
        .expect("so");
    }

    /// What is deployed by apps in a cluster, by name of app and object.
    async fn objects_of(&self, cluster: &str) -> Vec<String> {
        let query =
            "SELECT r.name || ' ' || k.kind || '/' || k.name FROM unit u JOIN resource r ON r.uid = u.app_uid
             JOIN cluster c ON c.id = u.cluster_id JOIN target t ON t.digest = u.target
             JOIN keyset_key k ON k.keyset = t.keyset WHERE c.name = $1 ORDER BY 1";
        sqlx::query_scalar(query)
            .bind(cluster)
            .fetch_all(&self.hub.world.pool)
            .await
            .expect("read")
    }

    async fn until_deployed(&self, cluster: &str, expected: &[&str]) {
        wait_until("what is deployed", PATIENCE, async || {
            let found = self.objects_of(cluster).await;
            match found == expected {
                true => Ok(Some(())),
                false => Err(format!("{found:?}; {:#?}", self.conditions().await)),
            }
        })
        .await
        .expect("so");
    }

    async fn delete_in(&self, scope: &str, name: &str) {
        let request = DeleteRequest {
            resource: Some(ResourceRef {
                scope: scope.into(),
                kind: "Kustomization".into(),
                namespace: "flux-system".into(),
                name: name.into(),
                ..ResourceRef::default()
            }),
            confirmed: true,
            ..DeleteRequest::default()
        };
        let answer = self.hub.fleet().await.delete(self.hub.authorized(request)).await;
        assert!(answer.expect("answered").into_inner().deleted);
    }
}

fn said(one: &Resource) -> String {
    let name = one
        .r#ref
        .as_ref()
        .map(|named| format!("{} {}", named.scope, named.name));
    let ready = one.conditions.iter().find(|one| one.r#type == "Ready");
    let ready = ready.map(|ready| format!("{} {}: {}", ready.status, ready.reason, ready.message));
    format!("{} is {}", name.unwrap_or_default(), ready.unwrap_or_default())
}

/// `spec` of a Kustomization of cluster c1, as it is stored.
async fn spec_of(fleet: &Fleet, name: &str) -> serde_json::Value {
    sqlx::query_scalar(
        "SELECT spec FROM resource WHERE kind = 'Kustomization' AND name = $1 AND scope <> fleet()",
    )
    .bind(name)
    .fetch_one(&fleet.hub.world.pool)
    .await
    .expect("read")
}

#[tokio::test]
async fn a_root_of_a_cluster_is_whole_from_its_repository_and_agents_get_none_of_fluxs_objects() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    fleet
        .apply(&["apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c1}\nspec: {variables: {REGION: eu, KIND: below}}\n"])
        .await;
    let (root, source) = (
        kustomization("flux-system", "./clusters/c1", ""),
        fleet.root_source(),
    );
    let more = "  postBuild: {substitute: {KIND: own}, substituteFrom: [{kind: ConfigMap, name: vars}]}\n";
    let vars = config_map("vars", "1").replace("namespace: apps", "namespace: flux-system");
    let repository = fleet
        .repository(
            "a",
            &[
                // As `flux bootstrap` leaves it: the root renders itself and its source.
                (
                    "clusters/c1/flux-system/gotk-sync.yaml",
                    &format!("{source}---\n{root}"),
                ),
                ("clusters/c1/vars.yaml", &vars),
                ("clusters/c1/infra.yaml", &kustomization("infra", "./infra", "")),
                ("clusters/c1/apps.yaml", &kustomization("apps", "./apps", more)),
                ("infra/x.yaml", &config_map("infra", "1")),
                ("apps/x.yaml", &config_map("web-${REGION}-${KIND}", "1")),
            ],
        )
        .await;
    fleet.apply_in("c1", &[&source, &root]).await;
    fleet
        .until_configured(&[
            "c1 ConfigMap/vars <- flux-system",
            "c1 GitRepository/flux-system <- flux-system",
            "c1 Kustomization/apps <- flux-system",
            "c1 Kustomization/flux-system",
            "c1 Kustomization/infra <- flux-system",
        ])
        .await;
    fleet
        .until_deployed(
            "c1",
            &[
                "apps ConfigMap/web-eu-own",
                "flux-system ConfigMap/vars",
                "infra ConfigMap/infra",
            ],
        )
        .await;
    for name in ["flux-system", "infra", "apps"] {
        fleet
            .until_said(
                "c1",
                name,
                "True ReconciliationSucceeded: Applied revision: main@sha1:",
            )
            .await;
    }
    fleet.hub.world.is_quiet().await;

    // What a person has said of a kept object survives the next commit, and that changes the rest.
    fleet
        .hub
        .world
        .execute("UPDATE resource SET suspended = true WHERE name = 'infra' AND kind = 'Kustomization'")
        .await;
    let slower = kustomization("infra", "./infra", "  wait: true\n");
    repository
        .commit("main", &[("clusters/c1/infra.yaml", &*slower)], "wait")
        .await
        .expect("committed");
    fleet.look().await;
    wait_until("the child's spec", PATIENCE, async || {
        let spec = spec_of(&fleet, "infra").await;
        match spec["wait"] == true {
            true => Ok(Some(())),
            false => Err(format!("{spec}; {:#?}", fleet.conditions().await)),
        }
    })
    .await
    .expect("so");
    let suspended = "SELECT count(*) FROM resource WHERE suspended AND name = 'infra'";
    assert_eq!(fleet.hub.world.count(suspended).await, 1);
    // By hand it is changed in its source alone.
    let refused = fleet
        .try_apply_in("c1", &[&kustomization("apps", "./other", "")])
        .await;
    let refused = refused.expect_err("it is kept");
    assert!(
        refused
            .message()
            .contains("is kept for Kustomization/flux-system/flux-system"),
        "{refused:?}"
    );
    fleet.apply_in("c1", &[&root]).await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_child_changes_only_once_its_parent_is_applied_in_its_cluster() {
    let fleet = Fleet::empty().await;
    let agent = Puppet::join(&fleet.hub, "c1").await;
    let root = kustomization("root", "./root", "");
    let repository = fleet
        .repository(
            "a",
            &[
                ("root/ns.yaml", &*config_map("before", "1")),
                ("root/child.yaml", &kustomization("child", "./child", "")),
                ("child/x.yaml", &config_map("x", "1")),
            ],
        )
        .await;
    fleet.apply_in("c1", &[&fleet.root_source(), &root]).await;
    let all = ["child ConfigMap/x", "root ConfigMap/before"];
    fleet.until_deployed("c1", &all).await;
    fleet
        .until_said("c1", "child", "True ReconciliationSucceeded")
        .await;
    *agent.failing.lock().expect("not poisoned") = Some("it does not apply");
    let (other, before) = (
        kustomization("child", "./child", "  wait: true\n"),
        config_map("before", "2"),
    );
    repository
        .commit(
            "main",
            &[("root/ns.yaml", &*before), ("root/child.yaml", &other)],
            "both",
        )
        .await
        .expect("committed");
    fleet.look().await;
    fleet.until_said("c1", "root", "it does not apply").await;
    fleet.hub.world.is_quiet().await;
    assert_ne!(spec_of(&fleet, "child").await["wait"], true);
    // It is mended by the next commit, which brings the child along.
    *agent.failing.lock().expect("not poisoned") = None;
    repository
        .commit("main", &[("root/ns.yaml", &*config_map("before", "3"))], "mended")
        .await
        .expect("committed");
    fleet.look().await;
    wait_until("the child's spec", PATIENCE, async || {
        match spec_of(&fleet, "child").await["wait"] == true {
            true => Ok(Some(())),
            false => Err(format!("{:#?}", fleet.conditions().await)),
        }
    })
    .await
    .expect("so");
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_placed_root_has_children_of_their_own_in_each_cluster_that_go_with_their_files() {
    let fleet = Fleet::empty().await;
    let (_one, _two) = (
        Puppet::join(&fleet.hub, "c1").await,
        Puppet::join(&fleet.hub, "c2").await,
    );
    fleet
        .apply(&[
            "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c1}\nspec: {variables: {TIER: gold}}\n",
            "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c2}\nspec: {variables: {TIER: base}}\n",
        ])
        .await;
    let root = kustomization("root", "./root", "  postBuild: {substitute: {X: z}}\n");
    let placement = "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Placement\nmetadata: {name: everywhere}\nspec:\n  \
                     apps: [{kind: Kustomization, name: root, namespace: flux-system}]\n  clusters: {names: [c1, c2]}\n";
    let repository = fleet
        .repository(
            "a",
            &[
                ("root/a.yaml", &*kustomization("a", "./${TIER}", "")),
                ("root/b.yaml", &kustomization("b", "./b", "")),
                ("gold/x.yaml", &config_map("gold", "1")),
                ("base/x.yaml", &config_map("base", "1")),
                ("b/x.yaml", &config_map("b", "1")),
            ],
        )
        .await;
    fleet.apply(&[&fleet.root_source(), &root, placement]).await;
    fleet
        .until_deployed("c1", &["a ConfigMap/gold", "b ConfigMap/b"])
        .await;
    fleet
        .until_deployed("c2", &["a ConfigMap/base", "b ConfigMap/b"])
        .await;
    // It sends nothing itself, and is ready all the same.
    fleet
        .until_said(
            "",
            "root",
            "True ReconciliationSucceeded: Applied revision: main@sha1:",
        )
        .await;
    fleet
        .until_configured(&[
            "GitRepository/flux-system",
            "Kustomization/root",
            "Placement/everywhere",
            "c1 Kustomization/a <- root",
            "c1 Kustomization/b <- root",
            "c2 Kustomization/a <- root",
            "c2 Kustomization/b <- root",
        ])
        .await;
    fleet.hub.world.is_quiet().await;
    repository
        .change("main")
        .delete("root/b.yaml")
        .commit("less")
        .await
        .expect("committed");
    fleet.look().await;
    fleet
        .until_configured(&[
            "GitRepository/flux-system",
            "Kustomization/root",
            "Placement/everywhere",
            "c1 Kustomization/a <- root",
            "c2 Kustomization/a <- root",
        ])
        .await;
    fleet.until_deployed("c1", &["a ConfigMap/gold"]).await;
    fleet.hub.world.is_quiet().await;
    // With the root all goes, children first.
    fleet.delete_in("", "root").await;
    fleet
        .until_configured(&["GitRepository/flux-system", "Placement/everywhere"])
        .await;
    fleet.until_deployed("c1", &[]).await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn what_leaves_a_root_that_does_not_prune_is_nobodys_and_stays() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    let root = kustomization("root", "./root", "").replace("prune: true", "prune: false");
    let repository = fleet
        .repository(
            "a",
            &[
                ("root/a.yaml", &*kustomization("a", "./a", "")),
                ("root/b.yaml", &kustomization("b", "./b", "")),
                ("a/x.yaml", &config_map("a", "1")),
                ("b/x.yaml", &config_map("b", "1")),
            ],
        )
        .await;
    fleet.apply_in("c1", &[&fleet.root_source(), &root]).await;
    fleet
        .until_deployed("c1", &["a ConfigMap/a", "b ConfigMap/b"])
        .await;
    repository
        .change("main")
        .delete("root/b.yaml")
        .commit("less")
        .await
        .expect("committed");
    fleet.look().await;
    fleet
        .until_configured(&[
            "c1 GitRepository/flux-system",
            "c1 Kustomization/a <- root",
            "c1 Kustomization/b",
            "c1 Kustomization/root",
        ])
        .await;
    fleet
        .until_deployed("c1", &["a ConfigMap/a", "b ConfigMap/b"])
        .await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn what_another_app_keeps_what_closes_a_cycle_and_what_is_invalid_is_said_and_all_else_is_kept() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    let roots = ["one", "two"].map(|name| kustomization(name, &format!("./{name}"), ""));
    let invalid = kustomization("wrong", "./a", "").replace("interval: 10m", "interval: soon");
    let set = "apiVersion: fluxcd.controlplane.io/v1\nkind: ResourceSet\nmetadata: {name: set, namespace: flux-system}\nspec: {}\n";
    let repository = fleet
        .repository(
            "a",
            &[
                ("one/shared.yaml", &*kustomization("shared", "./shared", "")),
                ("one/child.yaml", &kustomization("child", "./child", "")),
                ("one/wrong.yaml", &invalid),
                ("child/root.yaml", &kustomization("one", "./one", "")),
                ("two/fine.yaml", &kustomization("fine", "./shared", "")),
                ("shared/x.yaml", &config_map("x", "1")),
                ("shared/set.yaml", set),
            ],
        )
        .await;
    fleet.apply_in("c1", &[&fleet.root_source(), &roots[0]]).await;
    fleet
        .until_said(
            "c1",
            "one",
            "Kustomization/flux-system/wrong of cluster c1 is not kept: spec.interval",
        )
        .await;
    fleet.until_said("c1", "one", "ReconciliationFailed").await;
    fleet
        .until_said(
            "c1",
            "shared",
            "kinds of fluxcd.controlplane.io are not reconciled",
        )
        .await;
    fleet
        .until_said(
            "c1",
            "child",
            "False DependencyCycle: Kustomization/flux-system/one of cluster c1",
        )
        .await;
    let shared = kustomization("shared", "./shared", "");
    let files = [("two/shared.yaml", &*shared)];
    repository
        .commit("main", &files, "second")
        .await
        .expect("committed");
    fleet.look().await;
    fleet.apply_in("c1", &[&roots[1]]).await;
    fleet
        .until_said(
            "c1",
            "two",
            "False Conflict: Kustomization/flux-system/shared of cluster c1 is kept for Kustomization/flux-system/one",
        )
        .await;
    fleet
        .until_configured(&[
            "c1 GitRepository/flux-system",
            "c1 Kustomization/child <- one",
            "c1 Kustomization/fine <- two",
            "c1 Kustomization/one",
            "c1 Kustomization/shared <- one",
            "c1 Kustomization/two",
        ])
        .await;
    fleet.hub.world.is_quiet().await;
}

/// One commit takes a child out of one root and puts it into another one: whichever is looked at first, it is the same app
/// afterwards, with all that it has.
#[tokio::test]
async fn a_child_that_moves_from_one_root_to_another_is_handed_over_and_nothing_of_it_goes() {
    let fleet = Fleet::empty().await;
    let agent = Puppet::join(&fleet.hub, "c1").await;
    let roots = ["one", "two"].map(|name| kustomization(name, &format!("./{name}"), ""));
    let moved = kustomization("moved", "./moved", "");
    let repository = fleet
        .repository(
            "a",
            &[
                ("one/moved.yaml", &*moved),
                ("one/stays.yaml", &kustomization("stays", "./stays", "")),
                ("two/own.yaml", &kustomization("own", "./own", "")),
                ("moved/x.yaml", &config_map("moved", "1")),
                ("stays/x.yaml", &config_map("stays", "1")),
                ("own/x.yaml", &config_map("own", "1")),
            ],
        )
        .await;
    fleet
        .apply_in("c1", &[&fleet.root_source(), &roots[0], &roots[1]])
        .await;
    let deployed = [
        "moved ConfigMap/moved",
        "own ConfigMap/own",
        "stays ConfigMap/stays",
    ];
    fleet.until_deployed("c1", &deployed).await;
    fleet
        .until_said("c1", "moved", "True ReconciliationSucceeded")
        .await;
    fleet.hub.world.is_quiet().await;
    let uid = "SELECT uid FROM resource WHERE name = 'moved' AND kind = 'Kustomization'";
    let uid = async || {
        let found: Uuid = sqlx::query_scalar(uid)
            .fetch_one(&fleet.hub.world.pool)
            .await
            .expect("there");
        found
    };
    let before = uid().await;
    // An agent that does nothing of it meanwhile: none of its objects is gone before its place is known.
    *agent.refusing.lock().expect("not poisoned") = Some("moved");
    let change = repository.change("main").delete("one/moved.yaml");
    change
        .write("two/moved.yaml", &moved)
        .commit("moved")
        .await
        .expect("committed");
    fleet.look().await;
    fleet
        .until_configured(&[
            "c1 GitRepository/flux-system",
            "c1 Kustomization/moved <- two",
            "c1 Kustomization/one",
            "c1 Kustomization/own <- two",
            "c1 Kustomization/stays <- one",
            "c1 Kustomization/two",
        ])
        .await;
    fleet.until_deployed("c1", &deployed).await;
    assert_eq!(uid().await, before);

    *agent.refusing.lock().expect("not poisoned") = None;
    // What a root that is deleted still renders goes to the one that renders it, too.
    repository
        .commit("main", &[("one/moved.yaml", &*moved)], "both")
        .await
        .expect("committed");
    fleet.look().await;
    fleet.until_said("c1", "one", "False Conflict: ").await;
    fleet.delete_in("c1", "two").await;
    fleet
        .until_configured(&[
            "c1 GitRepository/flux-system",
            "c1 Kustomization/moved <- one",
            "c1 Kustomization/one",
            "c1 Kustomization/stays <- one",
        ])
        .await;
    fleet
        .until_said("c1", "moved", "True ReconciliationSucceeded")
        .await;
    assert_eq!(uid().await, before);
    let cleared =
        "SELECT count(*) FROM cleared_lately WHERE app_uid = (SELECT uid FROM resource WHERE name = 'moved')";
    assert_eq!(fleet.hub.world.count(cleared).await, 0);
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn what_leaves_a_root_stays_where_a_volume_would_go_with_it_or_nothing_would_be_left_until_a_person_deletes_it()
 {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    let volume =
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: apps}\nspec: {}\n";
    let repository = fleet
        .repository(
            "a",
            &[
                ("root/own.yaml", &*config_map("own", "1")),
                ("root/a.yaml", &kustomization("a", "./a", "")),
                ("root/b.yaml", &kustomization("b", "./b", "")),
                ("a/volume.yaml", volume),
                ("b/x.yaml", &config_map("b", "1")),
            ],
        )
        .await;
    let root = kustomization("root", "./root", "");
    fleet.apply_in("c1", &[&fleet.root_source(), &root]).await;
    let all = [
        "a PersistentVolumeClaim/data",
        "b ConfigMap/b",
        "root ConfigMap/own",
    ];
    fleet.until_deployed("c1", &all).await;
    fleet.until_said("c1", "b", "True ReconciliationSucceeded").await;
    let without = async |path: &str| {
        let change = repository.change("main").delete(path);
        change.commit("less").await.expect("committed");
        fleet.look().await;
    };
    without("root/a.yaml").await;
    fleet
        .until_said(
            "c1",
            "root",
            "False PruneBlocked: Kustomization/flux-system/a of cluster c1 has left the source and is not deleted: \
             PersistentVolumeClaim/apps/data would go with it",
        )
        .await;
    fleet.until_deployed("c1", &all).await;
    fleet.delete_in("c1", "a").await;
    fleet.until_deployed("c1", &all[1..]).await;
    fleet
        .until_said("c1", "root", "True ReconciliationSucceeded")
        .await;
    without("root/b.yaml").await;
    fleet
        .until_said(
            "c1",
            "root",
            "False PruneBlocked: not deleted of cluster c1: 1 kept objects have left",
        )
        .await;
    fleet.until_deployed("c1", &all[1..]).await;
    fleet.delete_in("c1", "b").await;
    fleet.until_deployed("c1", &all[2..]).await;
    fleet
        .until_said("c1", "root", "True ReconciliationSucceeded")
        .await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_root_that_is_applied_again_while_it_goes_takes_its_children_back() {
    let fleet = Fleet::empty().await;
    let agent = Puppet::join(&fleet.hub, "c1").await;
    let root = kustomization("root", "./root", "");
    let _repository = fleet
        .repository(
            "a",
            &[
                ("root/child.yaml", &*kustomization("child", "./child", "")),
                ("child/x.yaml", &config_map("x", "1")),
            ],
        )
        .await;
    fleet.apply_in("c1", &[&fleet.root_source(), &root]).await;
    fleet.until_deployed("c1", &["child ConfigMap/x"]).await;
    fleet
        .until_said("c1", "root", "True ReconciliationSucceeded")
        .await;
    fleet
        .until_said("c1", "child", "True ReconciliationSucceeded")
        .await;
    // Nothing is gone from the cluster before it is wanted again.
    *agent.failing.lock().expect("not poisoned") = Some("it stays");
    fleet.delete_in("c1", "root").await;
    fleet
        .until_configured(&[
            "c1 GitRepository/flux-system",
            "c1 Kustomization/child <- root deleting",
            "c1 Kustomization/root deleting",
        ])
        .await;
    fleet.apply_in("c1", &[&root]).await;
    fleet
        .until_configured(&[
            "c1 GitRepository/flux-system",
            "c1 Kustomization/child <- root",
            "c1 Kustomization/root",
        ])
        .await;
    fleet.until_deployed("c1", &["child ConfigMap/x"]).await;
    fleet.hub.world.is_quiet().await;
}

/// What a root renders for the hub alone waits for what the root needs, as what it renders for its cluster does.
#[tokio::test]
async fn a_child_changes_only_once_what_its_parent_depends_on_is_there() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    let broken = "resources: [missing.yaml]\n";
    let repository = fleet
        .repository(
            "a",
            &[
                ("infra/kustomization.yaml", "resources: [x.yaml]\n"),
                ("infra/x.yaml", &config_map("infra", "1")),
                ("apps/child.yaml", &kustomization("child", "./child", "")),
                ("child/x.yaml", &config_map("x", "1")),
            ],
        )
        .await;
    let infra = kustomization("infra", "./infra", "");
    let apps = kustomization("apps", "./apps", "  dependsOn: [{name: infra}]\n");
    fleet.apply_in("c1", &[&fleet.root_source(), &infra, &apps]).await;
    let all = ["child ConfigMap/x", "infra ConfigMap/infra"];
    fleet.until_deployed("c1", &all).await;
    fleet
        .until_said("c1", "apps", "True ReconciliationSucceeded")
        .await;
    fleet.hub.world.is_quiet().await;
    let version = "SELECT u.version FROM unit u JOIN resource r ON r.uid = u.app_uid WHERE r.name = 'apps'";
    let before = fleet.hub.world.count(version).await;
    let changed = kustomization("child", "./child", "  wait: true\n");
    let both = [
        ("infra/kustomization.yaml", broken),
        ("apps/child.yaml", &*changed),
    ];
    repository.commit("main", &both, "both").await.expect("committed");
    fleet.look().await;
    fleet.until_said("c1", "infra", "False BuildFailed").await;
    fleet.until_said("c1", "apps", "DependencyNotReady").await;
    assert_ne!(spec_of(&fleet, "child").await["wait"], true);
    assert_eq!(fleet.hub.world.count(version).await, before);
    let mended = [("infra/kustomization.yaml", "resources: [x.yaml]\n")];
    repository
        .commit("main", &mended, "mended")
        .await
        .expect("committed");
    fleet.look().await;
    wait_until("the child's spec", PATIENCE, async || {
        match spec_of(&fleet, "child").await["wait"] == true {
            true => Ok(Some(())),
            false => Err(format!("{:#?}", fleet.conditions().await)),
        }
    })
    .await
    .expect("so");
    // Nothing but that has changed: the agent has it wait for what it needs all the same.
    assert!(fleet.hub.world.count(version).await > before);
    fleet.hub.world.is_quiet().await;
}

/// What waits for a unit is looked for each minute: of an app that has no place any more nothing waits.
#[tokio::test]
async fn an_app_that_loses_its_place_while_its_children_wait_is_not_planned_again_and_again() {
    let fleet = Fleet::empty().await;
    let agent = Puppet::join(&fleet.hub, "spoke").await;
    let cluster = |references: &str| {
        format!(
            "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: spoke}}\n\
             spec: {{kubeConfigRefs: [{references}]}}\n"
        )
    };
    let reference = "\"flux-system/spoke-kubeconfig\"";
    let root = kustomization(
        "root",
        "./root",
        "  kubeConfig: {secretRef: {name: spoke-kubeconfig}}\n",
    );
    let _repository = fleet
        .repository(
            "a",
            &[
                ("root/child.yaml", &*kustomization("child", "./child", "")),
                ("child/x.yaml", &config_map("x", "1")),
            ],
        )
        .await;
    *agent.failing.lock().expect("not poisoned") = Some("it does not apply");
    fleet
        .apply(&[&cluster(reference), &fleet.root_source(), &root])
        .await;
    fleet.until_said("", "root", "it does not apply").await;
    let waits = "SELECT count(*) FROM nesting WHERE waits";
    assert_eq!(fleet.hub.world.count(waits).await, 1);
    fleet.apply(&[&cluster("")]).await;
    fleet
        .until_said(
            "",
            "root",
            "NoTarget: no Cluster has flux-system/spoke-kubeconfig",
        )
        .await;
    assert_eq!(fleet.hub.world.count(waits).await, 0);
    fleet.hub.world.is_quiet().await;
}

/// Of a Kustomization: the objects that it may not have kept, by name.
async fn denied(fleet: &Fleet, app: &str) -> Vec<String> {
    let query = "SELECT w->'params'->'object'->>'name' FROM app_plan p JOIN resource r ON r.uid = p.app_uid
                 CROSS JOIN LATERAL jsonb_array_elements(p.waiting) AS w
                 WHERE r.name = $1 AND w->>'reason' = 'KeptDenied' ORDER BY 1";
    sqlx::query_scalar(query)
        .bind(app)
        .fetch_all(&fleet.hub.world.pool)
        .await
        .expect("read")
}

#[tokio::test]
async fn a_tenants_root_keeps_nothing_outside_its_namespace_and_its_children_act_as_the_tenant() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    let app = |name: &str, more: &str| {
        kustomization(name, &format!("./{name}"), more)
            .replace("namespace: flux-system}\nspec", "namespace: tenant-a}\nspec")
    };
    let account = "  serviceAccountName: tenant\n";
    let borrowed = app("borrowed", "").replace(
        "{kind: GitRepository, name: flux-system}",
        "{kind: GitRepository, name: flux-system, namespace: flux-system}",
    );
    let _repository = fleet
        .repository(
            "a",
            &[
                ("root/inside.yaml", &*app("inside", "")),
                (
                    "root/outside.yaml",
                    &kustomization("outside", "./outside", account),
                ),
                ("root/admin.yaml", &app("admin", "  serviceAccountName: admin\n")),
                ("root/borrowed.yaml", &borrowed),
                ("root/by-hand.yaml", &app("by-hand", "  wait: true\n")),
                ("inside/x.yaml", &config_map("x", "1")),
                ("inside/deeper.yaml", &kustomization("deeper", "./outside", "")),
                ("outside/x.yaml", &config_map("outside", "1")),
                ("by-hand/x.yaml", &config_map("by-hand", "1")),
            ],
        )
        .await;
    let source = fleet
        .root_source()
        .replace("namespace: flux-system", "namespace: tenant-a");
    fleet.apply_in("c1", &[&source, &app("by-hand", "")]).await;
    fleet.apply_in("c1", &[&app("root", account)]).await;
    fleet.until_said("c1", "root", "False AccessDenied: ").await;
    fleet.until_said("c1", "inside", "False AccessDenied: ").await;
    fleet
        .until_configured(&[
            "c1 GitRepository/flux-system",
            "c1 Kustomization/by-hand",
            "c1 Kustomization/inside <- root",
            "c1 Kustomization/root",
        ])
        .await;
    fleet
        .until_deployed("c1", &["by-hand ConfigMap/by-hand", "inside ConfigMap/x"])
        .await;
    assert_eq!(
        denied(&fleet, "root").await,
        ["admin", "borrowed", "by-hand", "outside"]
    );
    assert_eq!(denied(&fleet, "inside").await, ["deeper"]);
    assert_eq!(spec_of(&fleet, "inside").await["serviceAccountName"], "tenant");
    assert_ne!(spec_of(&fleet, "by-hand").await["wait"], true);
    fleet.hub.world.is_quiet().await;
}

/// The second layout that Flux documents: one cluster whose repository has the apps of others, by kubeconfig.
#[tokio::test]
async fn a_hub_cluster_has_the_apps_of_its_spokes_by_kubeconfig_and_one_that_nobody_has_waits_by_name() {
    let fleet = Fleet::empty().await;
    let (_hub, _one, _two) = (
        Puppet::join(&fleet.hub, "hub").await,
        Puppet::join(&fleet.hub, "staging").await,
        Puppet::join(&fleet.hub, "production").await,
    );
    let cluster = |name: &str| {
        format!(
            "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\n\
             spec: {{kubeConfigRefs: [\"hub:flux-system/{name}-kubeconfig\"], variables: {{TIER: {name}}}}}\n"
        )
    };
    fleet.apply(&[&cluster("staging")]).await;
    let spoke = |name: &str| {
        let more = format!(
            "  kubeConfig: {{secretRef: {{name: {name}-kubeconfig}}}}\n  postBuild: {{substitute: {{X: z}}}}\n"
        );
        kustomization(name, "./deploy", &more)
    };
    let root = kustomization("flux-system", "./hub", "");
    let _repository = fleet
        .repository(
            "a",
            &[
                ("hub/staging.yaml", &*spoke("staging")),
                ("hub/production.yaml", &spoke("production")),
                ("deploy/tenants.yaml", &config_map("tenants-${TIER}", "1")),
                ("deploy/apps.yaml", &kustomization("apps", "./apps", "")),
                ("apps/x.yaml", &config_map("app", "1")),
            ],
        )
        .await;
    fleet.apply_in("hub", &[&fleet.root_source(), &root]).await;
    fleet
        .until_said(
            "hub",
            "production",
            "False NoTarget: no Cluster has hub:flux-system/production-kubeconfig in its spec.kubeConfigRefs",
        )
        .await;
    let staging = ["apps ConfigMap/app", "staging ConfigMap/tenants-staging"];
    // What a spoke's app renders belongs to that spoke, and finds its source in it or in the fleet: not in the hub's scope.
    fleet
        .until_said(
            "staging",
            "apps",
            "Source 'GitRepository/flux-system/flux-system' not found",
        )
        .await;
    fleet.apply(&[&fleet.root_source()]).await;
    fleet.until_deployed("staging", &staging).await;
    fleet.until_deployed("production", &[]).await;
    fleet.until_deployed("hub", &[]).await;
    fleet.apply(&[&cluster("production")]).await;
    fleet
        .until_deployed(
            "production",
            &["apps ConfigMap/app", "production ConfigMap/tenants-production"],
        )
        .await;
    fleet
        .until_said("hub", "production", "True ReconciliationSucceeded")
        .await;
    fleet.hub.world.is_quiet().await;
}
