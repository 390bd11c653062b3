//! Makes up for what was missed of rollouts: a hub that ended after a report or a plan was committed, and before it had
//! looked whether a rollout has ended with it. Beside all else, a page at a time.

use std::{convert::Infallible, time::Duration};

use flotilla_core::rollout::admission::End;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{Context, lease::taken};
use crate::{
    store::rollout::EndedRollout,
    trace::{self, Past},
};

/// What one hub does at a time.
const LOOK: &str = "rollouts";
/// Between the looks of two hubs, and before one that failed is done again.
const APART: Duration = Duration::from_secs(60);

/// Looks each time it is asked to.
pub(super) async fn when_asked(context: &Context, asked: &Notify) -> Infallible {
    loop {
        asked.notified().await;
        match is_ours(context).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                warn!(%error, "looking for rollouts that have ended failed; it is done when it is asked for again");
                continue;
            }
        }
        if let Err(error) = look(context).await {
            warn!(%error, "looking for rollouts that have ended failed; it is done again");
            asked.notify_one();
        }
    }
}

/// Whether this hub is to look, since no other one began to after it was asked.
async fn is_ours(context: &Context) -> crate::store::Result<bool> {
    if take(context).await? {
        return Ok(true);
    }
    // What another hub looks at now it may have begun before there was what this one is to find. Of two looks the second
    // began later.
    tokio::time::sleep(APART).await;
    take(context).await
}

async fn take(context: &Context) -> crate::store::Result<bool> {
    taken("the look for rollouts that have ended", || {
        context.store.take_look(LOOK, APART)
    })
    .await
}

async fn look(context: &Context) -> crate::store::Result<()> {
    let mut after = Some(0);
    while let Some(last) = after {
        let (done, next) = context.store.end_missed_rollouts(last).await?;
        ended(done);
        after = next;
    }
    Ok(())
}

/// Says which rollouts have ended, but for those that something newer has taken the place of.
pub(super) fn ended(rollouts: Vec<EndedRollout>) {
    for done in rollouts {
        let seconds = (done.finished_at - done.created_at).as_seconds_f64();
        match done.end {
            End::Superseded => continue,
            End::Withdrawn => {
                info!(app = %done.app, revision = %done.revision, seconds,
                    "applied where it still belongs; other clusters were let go of before");
                continue;
            }
            End::Complete => {
                info!(app = %done.app, revision = %done.revision, seconds, "applied everywhere");
            }
        }
        trace::past(&Past {
            name: "rollout",
            revision: &done.revision,
            app: &done.app,
            cluster: "",
            began: done.created_at,
            ended: done.finished_at,
        });
    }
}
