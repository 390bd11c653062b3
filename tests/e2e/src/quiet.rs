//! Whether all is at rest: an agent that asks its cluster for nothing, and a hub that publishes nothing and has nothing to
//! tell.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use flotilla_testkit::{AuditFilter, AuditMark, ControlPlane, RigError, wait_until};
use serde_json::Value;

use crate::{
    CommandLine,
    agent::{NAMESPACE, USER},
};

/// So long nothing may turn.
const QUIET: Duration = Duration::from_secs(10);
/// What was under way has ended by then.
const WITHIN: Duration = Duration::from_secs(120);

/// What an agent asks its cluster for, by the cluster's audit log.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The cluster.
    pub plane: &'a ControlPlane,
    /// As whom it asks.
    pub user: &'a str,
    /// Where it keeps its own state, of which it asks as it likes.
    pub own: &'a str,
    /// Only what it asks for in this namespace; `None`: anywhere.
    pub namespace: Option<&'a str>,
}

impl<'a> Asking<'a> {
    /// Anything that an agent asks for that was installed as users do.
    pub fn installed(plane: &'a ControlPlane) -> Self {
        Self {
            plane,
            user: USER,
            own: NAMESPACE,
            namespace: None,
        }
    }

    /// What it has asked for since a mark, each as `verb path`.
    pub fn since(&self, mark: AuditMark) -> Result<Vec<String>, RigError> {
        let filter = AuditFilter::all().after(mark).user(self.user);
        let filter = match self.namespace {
            Some(namespace) => filter.namespace(namespace),
            None => filter,
        };
        let requests = self.plane.audit().requests(&filter)?;
        let asked = requests
            .into_iter()
            // A watch ends after a while and is opened again; every 25 s it is asked whether the API server answers.
            .filter(|one| one.verb != "watch" && one.request_uri != "/version")
            .filter(|one| {
                let of = one.object_ref.as_ref();
                of.is_none_or(|of| of.namespace != self.own)
            });
        Ok(asked
            .map(|one| format!("{} {}", one.verb, one.request_uri))
            .collect())
    }

    /// The first that it asks for from now on; none where it asks for nothing for so long.
    pub async fn within(&self, lasting: Duration) -> Result<Vec<String>, RigError> {
        let mark = self.plane.audit().mark();
        let asked = wait_until("a request", lasting, async || {
            let asked = self.since(mark)?;
            Ok::<_, RigError>((!asked.is_empty()).then_some(asked))
        });
        match asked.await {
            Ok(asked) => Ok(asked),
            // Or it cannot be told.
            Err(_) => self.since(mark),
        }
    }
}

/// Waits until nothing turns for ten seconds: no request of the agent, no publication and no event of the hub. What turns for
/// ever never comes to that, and is named.
pub async fn nothing_turns(cli: &CommandLine, asking: &Asking<'_>) -> anyhow::Result<()> {
    let rested = wait_until("ten seconds in which nothing turns", WITHIN, async || {
        let before = told(cli)?;
        let asked = asking.within(QUIET).await?;
        ensure!(asked.is_empty(), "the agent asked for {asked:?}");
        let after = told(cli)?;
        ensure!(before == after, "the hub said {before:?} and then {after:?}");
        anyhow::Ok(Some(()))
    });
    rested.await.map_err(Into::into)
}

/// The generations that were published, all of them accepted, and the number of the newest event.
fn told(cli: &CommandLine) -> anyhow::Result<(Vec<Value>, Value)> {
    let mut generations = Vec::new();
    for cluster in cli.list(&["get", "clusters"])? {
        let status = &cluster["status"];
        let (desired, accepted) = (&status["desiredGeneration"], &status["acceptedGeneration"]);
        ensure!(
            desired.is_u64() && desired == accepted,
            "{desired} is published, and {accepted} accepted"
        );
        generations.push(desired.clone());
    }
    let events = cli.list(&["events", "-A", "--limit", "1"])?;
    let newest = events.last().context("nothing was ever told")?;
    Ok((generations, newest["id"].clone()))
}
