//! Why an app is in its clusters as it is: what [`flotilla_core::explain`] makes of what is stored.

use flotilla_api::Kind;
use flotilla_core::{
    clock::Timestamp,
    explain::{Agent, Explanation, Facts, Moved, Object, Step, explain},
};
use flotilla_proto::fleet::v1 as wire;
use tonic::Status;
use uuid::Uuid;

use super::{Fleet, read_token, status, unregistered, write_token};
use crate::{
    grpc::status::from_store,
    task::explain::{Asked, facts},
};

/// Clusters that are explained together.
const PAGE: u32 = 20;

pub(super) async fn answer(
    fleet: &Fleet,
    request: &wire::ExplainRequest,
) -> Result<wire::ExplainResponse, Status> {
    let app = fleet.find_app(request.app.as_ref(), &request.cluster).await?;
    if !Kind::named(&app.kind).is_some_and(Kind::is_app) {
        return Err(Status::invalid_argument(format!(
            "{} is no app: name a Kustomization",
            app.display()
        )));
    }
    let named = match request.cluster.as_str() {
        "" => None,
        name => {
            let known = fleet.store.cluster_by_name(name).await.map_err(from_store)?;
            Some(known.ok_or_else(|| unregistered(name))?)
        }
    };
    let limit = match request.page_size {
        0 => PAGE,
        asked => asked.min(PAGE),
    };
    let asked = Asked {
        cluster: named.map(|one| (one.id, one.name)),
        after: read_token(&request.page_token)?,
        limit: i64::from(limit) + 1,
    };
    let gathered = facts(&fleet.store, &fleet.renderer, &app, &asked).await;
    let Some(mut gathered) = gathered.map_err(from_store)? else {
        return Err(Status::not_found(format!(
            "{} was deleted meanwhile",
            app.display()
        )));
    };
    let is_last = gathered.len() <= limit as usize;
    gathered.truncate(limit as usize);
    let next_page_token = match gathered.last() {
        Some((_, facts)) if !is_last => write_token(&facts.cluster),
        _ => String::new(),
    };
    let app = status::reference(&app);
    let explanations = gathered.into_iter().map(|(id, facts)| {
        let explained = explain(&facts);
        explanation(app.clone(), id, facts, explained)
    });
    Ok(wire::ExplainResponse {
        explanations: explanations.collect(),
        next_page_token,
    })
}

fn explanation(
    app: wire::ResourceRef,
    id: Option<Uuid>,
    facts: Facts,
    explained: Explanation,
) -> wire::Explanation {
    let steps: Vec<wire::ExplainedStep> = explained.steps.into_iter().map(step).collect();
    let source = facts.source.and_then(|source| source.known);
    let Agent {
        desired, accepted, ..
    } = facts.agent.unwrap_or_default();
    let unit = facts.unit.unwrap_or_default();
    let total = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    wire::Explanation {
        app: Some(app),
        cluster: facts.cluster,
        unit_id: id.map(|id| id.to_string()).unwrap_or_default(),
        verdict: explained.verdict.as_str().to_owned(),
        answer: explained.answer,
        cause: explained.cause.and_then(|index| steps.get(index).cloned()),
        steps,
        source_revision: source.and_then(|source| source.revision).unwrap_or_default(),
        target_revision: unit.target_revision,
        applied_revision: unit.applied_revision,
        version: unit.version,
        attempted_version: unit.attempted.unwrap_or_default(),
        applied_version: unit.applied_version.unwrap_or_default(),
        healthy_version: unit.healthy.unwrap_or_default(),
        desired_generation: desired,
        accepted_generation: accepted,
        failing: unit.failing.into_iter().map(object).collect(),
        failing_total: total(unit.failing_total),
        leaving: unit.leaving.into_iter().map(object).collect(),
        leaving_total: total(unit.leaving_total),
        moved: unit.moved_to.into_iter().map(moved).collect(),
        moved_total: total(unit.moved_total),
    }
}

fn step(step: Step) -> wire::ExplainedStep {
    let ms = |at: Option<Timestamp>| at.map_or(0, |at| at.0);
    wire::ExplainedStep {
        name: step.name.to_owned(),
        state: step.state.as_str().to_owned(),
        reason: step.reason,
        message: step.message,
        next: step.next,
        since_ms: ms(step.since),
        seen_ms: ms(step.seen),
        again_ms: ms(step.again),
    }
}

fn object(object: Object) -> wire::ExplainedObject {
    wire::ExplainedObject {
        object: Some(wire::UnitObject {
            group: object.key.group,
            kind: object.key.kind,
            namespace: object.key.namespace,
            name: object.key.name,
            state: object.state,
            health: object.health,
            message: object.message,
            ..wire::UnitObject::default()
        }),
        other: object.other.unwrap_or_default(),
    }
}

fn moved(moved: Moved) -> wire::MovedObject {
    wire::MovedObject {
        group: moved.key.group,
        kind: moved.key.kind,
        namespace: moved.key.namespace,
        name: moved.key.name,
        to: moved.to,
        done: moved.done,
    }
}
