//! An app with a repository, a namespace and a placement of its own.

use std::{collections::BTreeMap, time::Duration};

use e2e::{CommandLine, Objects, quiet::Asking};
use flotilla_testkit::{AuditEntry, AuditFilter, AuditMark, GitRepo, wait_until};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::ListParams};
use serde_json::Value;

use crate::{
    agent::{namespace, said},
    rig::Place,
};

/// For what has no promise.
pub(crate) const WITHIN: Duration = Duration::from_secs(180);
/// How long nothing is asked at the end.
const QUIET: Duration = Duration::from_secs(2);

/// An app and what became of it. Its repository, namespace and cluster objects have its name.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) cli: CommandLine,
    pub(crate) repo: GitRepo,
    pub(crate) objects: Objects,
    began: AuditMark,
}

impl App {
    /// Makes one whose commit has these files; nothing is waited for.
    pub(crate) async fn new(place: Place, name: &str, files: &[(String, String)]) -> Self {
        Self::with(place, name, files, "").await
    }

    /// Likewise, with further fields of its spec, as `wait: true, timeout: 5s`.
    pub(crate) async fn with(place: Place, name: &str, files: &[(String, String)], spec: &str) -> Self {
        namespace(place.plane, name).await;
        let git = place.git;
        let repo = git.create(&format!("{name}.git")).await.unwrap();
        repo.commit("main", files, "first").await.unwrap();
        let app = Self {
            name: name.to_owned(),
            cli: place.cli.clone(),
            objects: Objects::of(place.plane, name).await.unwrap(),
            began: place.plane.audit().mark(),
            repo,
            place,
        };
        let url = app.place.git.http_url(&format!("{name}.git"));
        let all = [
            app.source(&url),
            app.kustomization("app", spec),
            app.placement(&app.place.cluster),
        ];
        app.cli.apply(&all.concat()).unwrap();
        app
    }

    /// Its source, from this address.
    pub(crate) fn source(&self, url: &str) -> String {
        let name = &self.name;
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: {name}, namespace: flux-system}}
spec: {{url: {url}, interval: 1h, ref: {{branch: main}}}}
---
"
        )
    }

    /// The app itself, from this folder, with further fields.
    pub(crate) fn kustomization(&self, path: &str, spec: &str) -> String {
        let name = &self.name;
        let spec = if spec.is_empty() {
            String::new()
        } else {
            format!(", {spec}")
        };
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {name}, namespace: flux-system}}
spec:
  {{interval: 1h, prune: true, path: ./{path}, targetNamespace: {name},
    sourceRef: {{kind: GitRepository, name: {name}}}{spec}}}
---
"
        )
    }

    /// Its placement on a cluster of this name.
    pub(crate) fn placement(&self, cluster: &str) -> String {
        let name = &self.name;
        format!(
            "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {{name: {name}}}
spec:
  apps: [{{kind: Kustomization, name: {name}, namespace: flux-system}}]
  clusters: {{names: [{cluster}]}}
---
"
        )
    }

    /// Has the hub look at the repository.
    pub(crate) fn fetch(&self) -> anyhow::Result<String> {
        self.cli.run(&["reconcile", "source", "git", &self.name])
    }

    /// Waits until a list of the command line says this.
    pub(crate) async fn until_listed(&self, args: &[&str], part: &str) {
        self.until(&format!("{args:?} says {part}"), async || {
            let listed = self.cli.run(args).map_err(|e| format!("{e:#}"))?;
            match listed.contains(part) {
                true => Ok(true),
                false => Err(listed),
            }
        })
        .await;
    }

    /// What the command line says of the app, which fails, once all that was asked for is over.
    #[track_caller]
    pub(crate) fn failure(&self) -> String {
        let outcome = self.cli.run(&["reconcile", "ks", &self.name]);
        format!("{:#}", outcome.expect_err("it fails"))
    }

    /// Commits files on top of what is there, and has the hub look.
    pub(crate) async fn commit(&self, files: &[(String, String)]) {
        self.repo.commit("main", files, "next").await.unwrap();
        self.fetch().unwrap();
    }

    /// Waits until something is so; says what hub and agent said when it never is.
    pub(crate) async fn until(&self, state: &str, is_so: impl AsyncFn() -> Result<bool, String>) {
        let look = async || match is_so().await {
            Ok(true) => Ok(Some(())),
            Ok(false) => Err(String::new()),
            Err(why) => Err(why),
        };
        let waited = wait_until(&format!("{}: {state}", self.name), WITHIN, look).await;
        let logs = || {
            self.place
                .logs
                .iter()
                .map(|log| said(log))
                .collect::<Vec<_>>()
                .join("\n\n")
        };
        if let Err(error) = waited {
            panic!("{error}\n{}\n{}", self.unit(), logs());
        }
    }

    /// Waits until there are ConfigMaps of these names.
    pub(crate) async fn until_there(&self, names: &[&str]) {
        self.until(&format!("{names:?} are there"), async || {
            let there = self.uids().await;
            Ok(names.iter().all(|name| there.contains_key(*name)))
        })
        .await;
    }

    /// Waits until a ConfigMap holds this at `of`.
    pub(crate) async fn until_holds(&self, name: &str, value: &str) {
        self.until(&format!("{name} holds {value}"), async || {
            let found = self.objects.value(name, "of").await.map_err(|e| e.to_string())?;
            Ok(found.as_deref() == Some(value))
        })
        .await;
    }

    /// Waits until there is no ConfigMap of this name.
    pub(crate) async fn until_gone(&self, name: &str) {
        self.until(&format!("{name} is gone"), async || {
            Ok(!self.uids().await.contains_key(name))
        })
        .await;
    }

    /// Its unit on its cluster, as the command line lists it.
    pub(crate) fn unit(&self) -> Value {
        let listed = self.cli.list(&["get", "units"]).unwrap_or_default();
        let is_ours =
            |unit: &&Value| unit["app"]["name"] == self.name && unit["cluster"] == self.place.cluster;
        listed.iter().find(is_ours).cloned().unwrap_or_default()
    }

    /// Waits until its unit says all of this.
    pub(crate) async fn until_unit(&self, parts: &[&str]) {
        self.until(&format!("its unit says {parts:?}"), async || {
            let unit = self.unit().to_string();
            Ok(parts.iter().all(|part| unit.contains(part)))
        })
        .await;
    }

    /// Status and message of the Ready condition of the app (`ks`) or of its source (`source`).
    fn ready(&self, what: &str) -> anyhow::Result<(String, String)> {
        let args = match what {
            "source" => vec!["get", "sources", "git", &self.name],
            other => vec!["get", other, &self.name],
        };
        let listed = self.cli.list(&args)?;
        let conditions = listed
            .iter()
            .filter_map(|one| one["status"]["conditions"].as_array());
        let ready = conditions.flatten().find(|one| one["type"] == "Ready");
        let text = |field: &str| {
            ready
                .and_then(|one| one[field].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        Ok((text("status"), text("message")))
    }

    /// Waits until the app or its source is ready, or not, and says all of this.
    pub(crate) async fn until_said(&self, what: &str, status: &str, parts: &[&str]) {
        self.until(&format!("{what} is {status} with {parts:?}"), async || {
            let (is, message) = self.ready(what).map_err(|e| format!("{e:#}"))?;
            match is == status && parts.iter().all(|part| message.contains(part)) {
                true => Ok(true),
                false => Err(format!("{is}: {message}")),
            }
        })
        .await;
    }

    /// Waits until the newest commit is applied.
    pub(crate) async fn until_applied(&self) {
        let head = self.repo.resolve("main").await.unwrap().unwrap();
        let revision = format!("\"appliedRevision\":\"main@sha1:{head}\"");
        self.until_unit(&[&revision, "\"ready\":\"True\""]).await;
    }

    /// UIDs of its ConfigMaps, without what Kubernetes puts into each namespace.
    pub(crate) async fn uids(&self) -> BTreeMap<String, String> {
        let client = self.place.plane.client().await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(client, &self.name);
        let listed = maps.list(&ListParams::default()).await;
        let named = |one: ConfigMap| Some((one.metadata.name?, one.metadata.uid?));
        let all = listed.map(|all| all.items.into_iter().filter_map(named).collect());
        let mut all: BTreeMap<String, String> = all.unwrap_or_default();
        all.remove("kube-root-ca.crt");
        all
    }

    /// What the agent asked for in the app's namespace since a mark, watches aside: `verb name`.
    pub(crate) fn asked(&self, since: AuditMark) -> Vec<String> {
        let filter = AuditFilter::all()
            .after(since)
            .user(&self.place.user)
            .namespace(&self.name);
        let requests = self.place.plane.audit().requests(&filter).unwrap();
        requests
            .into_iter()
            .filter(|one| one.verb != "watch")
            .map(|one| format!("{} {}", one.verb, one.object_ref.unwrap_or_default().name))
            .collect()
    }

    /// How many of the agent's requests in the app's namespace were answered with this since a mark.
    pub(crate) fn refused(&self, since: AuditMark, code: u16) -> usize {
        let filter = AuditFilter::all()
            .after(since)
            .user(&self.place.user)
            .namespace(&self.name);
        let requests = self.place.plane.audit().requests(&filter).unwrap();
        let is_refused = |one: &&AuditEntry| {
            one.response_status
                .as_ref()
                .is_some_and(|status| status.code == code)
        };
        requests.iter().filter(is_refused).count()
    }

    /// How often the agent asked for this since a mark.
    pub(crate) fn asked_of(&self, request: &str, since: AuditMark) -> usize {
        self.asked(since).iter().filter(|one| *one == request).count()
    }

    /// Names of what the agent asked to be deleted since the app was made.
    pub(crate) fn deleted(&self) -> Vec<String> {
        let asked = self.asked(self.began);
        let mut names: Vec<String> = asked
            .iter()
            .filter_map(|one| {
                one.strip_prefix("delete ")
                    .or(one.strip_prefix("deletecollection "))
            })
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The present end of the cluster's log.
    pub(crate) fn mark(&self) -> AuditMark {
        self.place.plane.audit().mark()
    }

    /// What is asked for the app within a while, if anything is.
    pub(crate) async fn turns(&self) -> Option<Vec<String>> {
        let asking = Asking {
            plane: self.place.plane,
            user: &self.place.user,
            // The agent's own state is in no app's namespace.
            own: "",
            namespace: Some(&self.name),
        };
        let asked = asking.within(QUIET).await.unwrap();
        (!asked.is_empty()).then_some(asked)
    }

    /// Nothing is asked for the app any more.
    pub(crate) async fn rests(&self) {
        let turned = self.turns().await;
        assert!(turned.is_none(), "{}: {turned:?}", self.name);
    }
}

/// A folder with ConfigMaps of these names.
pub(crate) fn maps(names: &[&str]) -> Vec<(String, String)> {
    maps_of(names, "one")
}

/// Likewise, with this value at `of`.
pub(crate) fn maps_of(names: &[&str], value: &str) -> Vec<(String, String)> {
    let objects: Vec<String> = names.iter().map(|name| map(name, value)).collect();
    vec![("app/objects.yaml".to_owned(), objects.join("---\n"))]
}

/// A ConfigMap; its namespace becomes the app's.
pub(crate) fn map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{of: {value}}}\n")
}
