//! What leaves Git: an object that goes, a path typo that deletes nothing, a mass deletion that a person has to allow, an app
//! that is renamed and one that is deleted. On the last cluster, by an app of its own.

use anyhow::{Context as _, ensure};
use e2e::{HubProcess, Objects};
use flotilla_testkit::{GitRepo, wait_until};

use super::{CLUSTERS, Demo, WITHIN};

/// ConfigMaps that the app begins with.
const MANY: usize = 12;

impl Demo {
    pub(super) async fn what_leaves_git(
        &self,
        repo: &GitRepo,
        hub: &HubProcess,
        cluster: &Objects,
    ) -> anyhow::Result<()> {
        commit(repo, hub, MANY, "flags").await?;
        hub.apply(&format!(
            "{}---\n{}",
            app("flags", "flags"),
            placement(&["flags"])
        ))?;
        until(hub, cluster, "flag-11 is there", async || {
            there(cluster, "flag-11").await
        })
        .await?;

        commit(repo, hub, MANY - 1, "one flag less").await?;
        until(hub, cluster, "flag-11 is gone", async || {
            Ok(!there(cluster, "flag-11").await?)
        })
        .await?;
        self.say("✔ an object that left Git is deleted from the cluster, and no other");

        hub.apply(&app("flags", "typo"))?;
        until(hub, cluster, "the app is blocked", async || {
            says(hub, "PruneBlocked")
        })
        .await?;
        ensure!(
            there(cluster, "flag-0").await?,
            "a mistyped path has deleted something"
        );
        hub.apply(&app("flags", "flags"))?;
        until(hub, cluster, "the app is ready", async || {
            Ok(!says(hub, "PruneBlocked")?)
        })
        .await?;
        self.say(
            "✔ a mistyped path deletes nothing: the app says what would go, and is well once the path is",
        );

        commit(repo, hub, 0, "all flags but one").await?;
        until(hub, cluster, "the app is blocked", async || {
            says(hub, "PruneBlocked")
        })
        .await?;
        ensure!(
            there(cluster, "flag-0").await?,
            "a guard let a mass deletion pass"
        );
        hub.cli(&["approve", "Kustomization/flux-system/flags", "--yes"])?;
        until(hub, cluster, "flag-0 is gone", async || {
            Ok(!there(cluster, "flag-0").await?)
        })
        .await?;
        self.say("✔ a commit that removes nearly all is stopped until a person has seen and allowed it");

        let uid = uid(cluster, "kept").await?;
        hub.apply(&format!(
            "{}---\n{}",
            app("features", "flags"),
            placement(&["flags", "features"])
        ))?;
        hub.cli(&["delete", "kustomization", "flags", "--yes"])?;
        until(hub, cluster, "the new app has it", async || {
            let units = hub.cli(&["get", "units", "-A", "--no-header"])?;
            let line = |name: &str| units.lines().find(|line| line.contains(name)).map(str::to_owned);
            let is_ready = line("features").is_some_and(|line| line.contains("True"));
            Ok(line("flags").is_none() && is_ready)
        })
        .await?;
        ensure!(
            uid == self::uid(cluster, "kept").await?,
            "a renamed app has made its object anew"
        );
        self.say("✔ a renamed app hands its objects over: the same UIDs");

        hub.cli(&["delete", "kustomization", "features", "--yes"])?;
        until(hub, cluster, "all of it is gone", async || {
            let apps = hub.cli(&["get", "kustomizations", "-A", "--no-header"])?;
            Ok(!there(cluster, "kept").await? && !apps.contains("features"))
        })
        .await?;
        self.say("✔ a deleted app takes along what it has applied");
        Ok(())
    }
}

/// Commits an app's folder with so many flags, and an object that stays.
async fn commit(repo: &GitRepo, hub: &HubProcess, flags: usize, message: &str) -> anyhow::Result<()> {
    let object = |name: String| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{on: \"yes\"}}\n"
        )
    };
    let mut all = vec![object("kept".to_owned())];
    all.extend((0..flags).map(|number| object(format!("flag-{number}"))));
    let files = [
        ("flags/all.yaml", all.join("---\n")),
        ("typo/other.yaml", object("other".to_owned())),
    ];
    repo.commit("main", &files, message).await?;
    hub.cli(&["reconcile", "source", "git", "fleet"])?;
    Ok(())
}

fn app(name: &str, path: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  interval: 10m\n  prune: true\n  path: ./{path}\n  sourceRef: {{kind: GitRepository, name: fleet}}\n"
    )
}

fn placement(apps: &[&str]) -> String {
    let apps = apps
        .iter()
        .map(|name| format!("  - {{kind: Kustomization, name: {name}, namespace: flux-system}}\n"));
    let (name, ..) = CLUSTERS[CLUSTERS.len() - 1];
    format!(
        "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Placement\nmetadata: {{name: flags}}\nspec:\n  apps:\n{}  clusters: {{names: [{name}]}}\n",
        apps.collect::<String>()
    )
}

fn says(hub: &HubProcess, part: &str) -> anyhow::Result<bool> {
    Ok(hub.cli(&["get", "units", "-A", "-o", "json"])?.contains(part))
}

async fn there(cluster: &Objects, name: &str) -> anyhow::Result<bool> {
    Ok(cluster.config_map(name).await?.is_some())
}

async fn uid(cluster: &Objects, name: &str) -> anyhow::Result<String> {
    let found = cluster.config_map(name).await?;
    found
        .and_then(|found| found.metadata.uid)
        .with_context(|| format!("{name} is not there"))
}

async fn until(
    hub: &HubProcess,
    cluster: &Objects,
    state: &str,
    is_so: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    wait_until(
        &format!("{}: {state}", cluster.cluster()),
        WITHIN,
        async || match is_so().await? {
            true => Ok(Some(())),
            false => anyhow::bail!(hub.cli(&["get", "units", "-A"])?),
        },
    )
    .await?;
    Ok(())
}
