//! Removes what is no longer used: rows, events and history that are old; of this replica the artifacts that no row
//! names, and the repositories that nothing is fetched into.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use time::OffsetDateTime;

use super::Context;
use crate::artifact::ArtifactDigest;

/// What was written after this may not be named yet.
const SETTLED: Duration = Duration::from_secs(24 * 3600);

/// Looks now, and from then on once in `every`.
pub async fn from_time_to_time(context: &Context, every: Duration) -> Infallible {
    loop {
        for error in look(context, every).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "removing what is no longer used failed; it is done again"
            );
        }
        tokio::time::sleep(every).await;
    }
}

/// What is looked at by one hub for all of them.
const LOOK: &str = "retention";

/// Looks once: at the rows unless another hub has done that, and at what this one keeps. What is in the way of one step is no
/// reason to leave out the others; returns what failed.
async fn look(context: &Context, every: Duration) -> Vec<anyhow::Error> {
    // A little less: this hub's own clock decides when it looks again.
    let mut failed = match context.store.take_look(LOOK, every / 10 * 9).await {
        Ok(true) => rows(context).await,
        Ok(false) => Vec::new(),
        Err(error) => vec![error.into()],
    };
    if !failed.is_empty() {
        // Another hub, or this one the next time, is not to wait for what was not done.
        failed.extend(failure(context.store.give_back_look(LOOK).await));
    }
    failed.extend(failure(repositories(context).await));
    failed.extend(artifacts(context).await);
    failed
}

fn failure<E: Into<anyhow::Error>>(done: Result<(), E>) -> Option<anyhow::Error> {
    done.err().map(Into::into)
}

async fn repositories(context: &Context) -> anyhow::Result<()> {
    let repositories = context.sources.fetcher.remove_unused(SETTLED).await?;
    if repositories > 0 {
        tracing::info!(
            repositories,
            "repositories that nothing is fetched into are removed"
        );
    }
    Ok(())
}

/// Sets aside the artifacts that no row names, and removes what was set aside long ago.
async fn artifacts(context: &Context) -> Vec<anyhow::Error> {
    let artifacts = &context.sources.artifacts;
    // By the store's clock: what one hub sets aside another sweeps.
    let now = match context.store.now().await {
        Ok(now) => now,
        Err(error) => return vec![error.into()],
    };
    let mut failed = Vec::new();
    failed.extend(failure(set_aside(context, now).await));
    failed.extend(failure(artifacts.sweep(SETTLED, now).await.map(drop)));
    failed
}

/// Sets aside each artifact that no row names and that can be; one failure is told for all.
async fn set_aside(context: &Context, now: OffsetDateTime) -> anyhow::Result<()> {
    let (mut failed, mut first) = (0, None);
    for digest in unnamed(context).await? {
        if let Err(error) = context.sources.artifacts.set_aside(digest, SETTLED, now).await {
            failed += 1;
            first.get_or_insert(error);
        }
    }
    match first {
        Some(error) => {
            Err(anyhow::Error::new(error).context(format!("setting {failed} unused artifacts aside")))
        }
        None => Ok(()),
    }
}

/// Artifacts that no row names.
async fn unnamed(context: &Context) -> anyhow::Result<Vec<ArtifactDigest>> {
    let settled = context.sources.artifacts.settled(SETTLED).await?;
    let names: Vec<String> = settled.iter().map(ToString::to_string).collect();
    let known: HashSet<String> = context.store.known_artifacts(&names).await?.into_iter().collect();
    let unnamed = settled.into_iter().zip(names);
    Ok(unnamed
        .filter(|(_, name)| !known.contains(name))
        .map(|(digest, _)| digest)
        .collect())
}

async fn rows(context: &Context) -> Vec<anyhow::Error> {
    // By the store's clock, since a hub's own decides for all of them.
    let now = match context.store.now().await {
        Ok(now) => now,
        Err(error) => return vec![error.into()],
    };
    let store = &context.store;
    let mut failed = Vec::new();
    failed.extend(failure(store.make_partitions(now).await.map(drop)));
    failed.extend(failure(store.event_trim(now).await.map(drop)));
    if let Some(keep) = context.history {
        failed.extend(failure(store.history_trim(now, keep).await.map(drop)));
    }
    failed.extend(failure(store.forget_released().await.map(drop)));
    let (removed, steps) = store.remove_unused().await;
    if removed != Default::default() {
        tracing::info!(?removed, "what is no longer used is removed");
    }
    failed.extend(steps.into_iter().map(Into::into));
    failed
}
