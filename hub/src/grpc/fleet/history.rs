//! Which target an app had from when to when.

use flotilla_core::{
    history::{Held, result},
    id::{AppName, ClusterId, UnitId},
};
use flotilla_proto::fleet::v1 as wire;
use time::OffsetDateTime;
use tonic::Status;
use uuid::Uuid;

use super::{Fleet, read_token, unregistered, views::ms, write_token};
use crate::{
    grpc::status::from_store,
    store::{
        StoreError,
        history::{Asked, HeldRow, Place},
    },
};

const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;

pub(super) async fn list(
    fleet: &Fleet,
    request: &wire::ListHistoryRequest,
) -> Result<wire::ListHistoryResponse, Status> {
    let reference = request
        .app
        .as_ref()
        .ok_or_else(|| Status::invalid_argument("app is missing"))?;
    let asked = match request.cluster.as_str() {
        "" => Asked {
            app: Some(fleet.find(Some(reference)).await?.uid),
            unit: None,
        },
        cluster => {
            let known = fleet.store.cluster_by_name(cluster).await.map_err(from_store)?;
            let known = known.ok_or_else(|| unregistered(cluster))?;
            // Its history outlives it: there need not be such an app any more.
            let scope = match fleet.find_app(Some(reference), cluster).await {
                Ok(app) => app.scope,
                Err(_) => fleet.scope(&reference.scope).await?,
            };
            let name = AppName {
                scope,
                group: &reference.group,
                kind: &reference.kind,
                namespace: &reference.namespace,
                name: &reference.name,
            };
            Asked {
                app: None,
                unit: Some(UnitId::of(ClusterId(known.id), name).0),
            }
        }
    };
    let limit = match request.page_size {
        0 => DEFAULT_PAGE,
        asked => asked.min(MAX_PAGE),
    };
    let after = place(&request.page_token)?;
    let rows = fleet
        .store
        .held_targets(&asked, &after, i64::from(limit))
        .await
        .map_err(|error| not_read(error, asked.unit.is_none()))?;
    let next_page_token = match rows.last() {
        Some(row) if rows.len() == limit as usize => {
            let micros = row.from.unix_timestamp_nanos() / 1000;
            write_token(&(i64::try_from(micros).unwrap_or(i64::MAX), row.unit, row.version))
        }
        _ => String::new(),
    };
    Ok(wire::ListHistoryResponse {
        held: rows.into_iter().map(held).collect(),
        next_page_token,
    })
}

/// What takes longer than the database may takes as long the next time: who asked for all clusters is told to ask for one.
fn not_read(error: StoreError, is_of_all: bool) -> Status {
    let is_cancelled = |cause: &sqlx::Error| {
        let code = cause.as_database_error().and_then(|error| error.code());
        code.as_deref() == Some("57014")
    };
    match &error {
        StoreError::Unavailable(cause) if is_of_all && is_cancelled(cause) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a history was given up: it took too long"
            );
            Status::resource_exhausted(
                "the history of all clusters of the app takes longer than the hub's database may: name one with --cluster",
            )
        }
        _ => from_store(error),
    }
}

fn place(token: &str) -> Result<Place, Status> {
    if token.is_empty() {
        return Ok(Place::newest());
    }
    let (micros, unit, version): (i64, Uuid, u64) = read_token(token)?;
    let from = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000);
    Ok(Place {
        from: from.map_err(|_| Status::invalid_argument("page_token is not one of ours"))?,
        unit,
        version,
    })
}

fn held(row: HeldRow) -> wire::HeldTarget {
    let said = result(&Held {
        ended: row.until.is_some(),
        gone: row.gone,
        was_ready: row.ready.is_some(),
        last: &row.last,
        applied: row.applied,
        healthy: row.healthy,
    });
    wire::HeldTarget {
        cluster: row.cluster,
        unit_id: row.unit.to_string(),
        version: row.version,
        target: row.target.into(),
        revision: row.revision,
        cause: row.cause,
        result: said.as_str().to_owned(),
        from_ms: ms(row.from),
        until_ms: row.until.map_or(0, ms),
        ready_ms: row.ready.map_or(0, ms),
    }
}
