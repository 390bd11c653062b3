//! Takes the last steps of clusters that are drained, or leave the fleet: what is planned to go is let go of once its agent has
//! said that it holds nothing of it any more.

use std::time::Duration;

use flotilla_core::fleet::departure::Departure;
use uuid::Uuid;

use super::{Context, queue::Outcome};

/// What agents take of it comes in a moment, where they are there; the others' is found by the look behind all wake-ups.
const SOON: Duration = Duration::from_secs(2);
/// Of one that takes longer, while its agent is there: finalizers, large removals.
const LATER: Duration = Duration::from_secs(10);

/// Goes on with a cluster that departs.
pub async fn reconcile(context: &Context, cluster: Uuid) -> anyhow::Result<Outcome> {
    let store = &context.store;
    let Some(departing) = store.departing(cluster).await? else {
        return Ok(Outcome::Done);
    };
    // A plan that was being made when somebody said so is committed as if nobody had.
    if !departing.is_fresh {
        store.plan_again(&departing.behind).await?;
    }
    let mut moves = store.release(&departing.leaving).await? > 0;
    if !departing.released.is_empty() {
        moves |= store.forget_released().await? > 0;
        moves |= store.forget_units(&departing.released).await? > 0;
    }
    let has_ended = match departing.departure {
        Departure::Drain => store.end_drain(cluster).await?,
        Departure::Retire => store.end_retirement(cluster).await?,
    };
    Ok(match has_ended {
        true => Outcome::Done,
        false if moves || departing.is_fresh => Outcome::After(SOON),
        false if departing.is_connected => Outcome::After(LATER),
        false => Outcome::Done,
    })
}
