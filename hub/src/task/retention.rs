//! Removes what is no longer used: rows, events and history that are old; of this replica the artifacts that no row
//! names, and the repositories that nothing is fetched into.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use super::Context;

/// What was written after this may not be named yet.
const SETTLED: Duration = Duration::from_secs(24 * 3600);

/// Looks now, and from then on once in `every`.
pub async fn from_time_to_time(context: &Context, every: Duration) -> Infallible {
    loop {
        if let Err(error) = run(context, every).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "removing what is no longer used failed; it is done again"
            );
        }
        tokio::time::sleep(every).await;
    }
}

/// Looks once: at the rows unless another hub has done that, and at what this one keeps.
async fn run(context: &Context, every: Duration) -> anyhow::Result<()> {
    // A little less: this hub's own clock decides when it looks again.
    let rows = match context.store.take_look(LOOK, every / 10 * 9).await? {
        true => rows(context).await,
        false => Ok(()),
    };
    if rows.is_err() {
        // Another hub, or this one the next time, is not to wait for what was not done.
        context.store.give_back_look(LOOK).await?;
    }
    artifacts(context).await?;
    rows
}

/// What is looked at by one hub for all of them.
const LOOK: &str = "retention";

/// What this hub keeps beside the store.
async fn artifacts(context: &Context) -> anyhow::Result<()> {
    let repositories = context.sources.fetcher.remove_unused(SETTLED).await?;
    if repositories > 0 {
        tracing::info!(
            repositories,
            "repositories that nothing is fetched into are removed"
        );
    }
    // By the store's clock: what one hub sets aside another sweeps.
    let now = context.store.now().await?;
    let artifacts = &context.sources.artifacts;
    let settled = artifacts.settled(SETTLED).await?;
    let names: Vec<String> = settled.iter().map(ToString::to_string).collect();
    let known: HashSet<String> = context.store.known_artifacts(&names).await?.into_iter().collect();
    for (digest, name) in settled.iter().zip(&names) {
        if !known.contains(name) {
            artifacts.set_aside(*digest, SETTLED, now).await?;
        }
    }
    artifacts.sweep(SETTLED, now).await?;
    Ok(())
}

async fn rows(context: &Context) -> anyhow::Result<()> {
    // By the store's clock, since a hub's own decides for all of them.
    let now = context.store.now().await?;
    // What is in the way of one of these is no reason to leave out the others.
    let made = context.store.make_partitions(now).await;
    let events = context.store.event_trim(now).await;
    let history = match context.history {
        Some(keep) => context.store.history_trim(now, keep).await,
        None => Ok(0),
    };
    let released = context.store.forget_released().await;
    let removed = context.store.remove_unused().await?;
    if removed != Default::default() {
        tracing::info!(?removed, "what is no longer used is removed");
    }
    made?;
    events?;
    history?;
    released?;
    Ok(())
}
