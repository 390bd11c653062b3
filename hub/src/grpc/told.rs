//! What an agent says of the desired states that it is offered, kept: the latest counts. A database that is away for a
//! while costs no stream; only a stream that was replaced ends.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tracing::warn;
use uuid::Uuid;

use crate::store::{Result, Store, StoreError};

/// Between attempts.
const RETRY: Duration = Duration::from_secs(1);

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It holds this state, and what it holds back of it.
    Accepted {
        incarnation: u64,
        generation: u64,
        problems: String,
    },
    /// It does not take a state, and why.
    Refused(String),
}

/// Keeps what is told on a stream, until the stream was replaced: then it returns.
pub(super) async fn keep(store: &Store, cluster: Uuid, epoch: u64, mut told: watch::Receiver<Option<Told>>) {
    while told.changed().await.is_ok() {
        loop {
            let latest = told.borrow_and_update().clone();
            let Some(latest) = latest else { break };
            match record(store, cluster, epoch, &latest).await {
                Ok(()) => break,
                Err(StoreError::Conflict(_)) => return,
                Err(StoreError::Unavailable(error)) => {
                    warn!(%error, "what the agent accepted is not kept yet");
                    sleep(RETRY).await;
                }
                Err(error) => {
                    warn!(%error, "what the agent accepted cannot be kept");
                    break;
                }
            }
        }
    }
    // The stream ends by itself.
    std::future::pending::<()>().await;
}

async fn record(store: &Store, cluster: Uuid, epoch: u64, told: &Told) -> Result<()> {
    match told {
        Told::Accepted {
            incarnation,
            generation,
            problems,
        } => {
            store
                .session_accepted(cluster, epoch, *incarnation, *generation, problems)
                .await
        }
        Told::Refused(text) => store.session_refused(cluster, epoch, text).await,
    }
}

/// Marks a session closed, for as long as the database takes to come back.
pub(super) async fn close(store: Store, cluster: Uuid, epoch: u64) {
    while let Err(error) = store.close_session(cluster, epoch).await {
        if !matches!(error, StoreError::Unavailable(_)) {
            warn!(%error, "closing the session failed; it shows as connected until the agent returns");
            return;
        }
        sleep(RETRY).await;
    }
}
