//! Apply: every document is read and validated before any is stored; problems name file, document, line and field.

use std::collections::BTreeMap;

use flotilla_api::{Mode, Options, Resource, Scope, parse};
use flotilla_proto::fleet::v1 as wire;
use serde_json::json;
use tonic::Status;
use uuid::Uuid;

use super::Fleet;
use crate::{
    grpc::status::from_store,
    store::{apply::NewResource, resource::FLEET},
};

/// Bytes of one request's documents.
const MAX_BYTES: usize = 16 << 20;
/// Documents of one request.
const MAX_RESOURCES: usize = 10_000;

pub(super) async fn apply(
    fleet: &Fleet,
    principal: &str,
    request: wire::ApplyRequest,
) -> Result<wire::ApplyResponse, Status> {
    if request
        .documents
        .iter()
        .map(|document| document.text.len())
        .sum::<usize>()
        > MAX_BYTES
    {
        return Err(Status::invalid_argument(
            "the documents are over 16 MiB together; apply them in parts",
        ));
    }
    let scope = Within {
        id: fleet.scope(&request.scope).await?,
        shown: match request.scope.is_empty() {
            true => Scope::Fleet,
            false => Scope::Cluster(request.scope),
        },
    };
    let Read {
        resources,
        rows,
        problems,
    } = read(request.documents, scope, fleet.digest_key).await?;
    if problems.iter().any(|problem| !problem.warning) {
        return Ok(wire::ApplyResponse {
            applied: vec![],
            problems,
        });
    }
    let actions = fleet
        .store
        .apply(&rows, &fleet.seal, principal, request.dry_run)
        .await
        .map_err(from_store)?;
    let applied = resources
        .into_iter()
        .zip(rows)
        .zip(actions)
        .map(|((resource, row), action)| wire::Applied {
            resource: Some(resource),
            action: action.as_str().to_owned(),
            not_supported: row.not_supported,
        })
        .collect();
    Ok(wire::ApplyResponse { applied, problems })
}

/// Where what is applied belongs: as the store knows it, and as people name it.
struct Within {
    id: Uuid,
    shown: Scope,
}

/// What documents say.
struct Read {
    resources: Vec<wire::ResourceRef>,
    /// As they are stored, in the same order; none where there are problems.
    rows: Vec<NewResource>,
    problems: Vec<wire::Problem>,
}

/// Reads documents beside the runtime: many of them take long.
async fn read(documents: Vec<wire::Document>, scope: Within, key: [u8; 32]) -> Result<Read, Status> {
    let reading = tokio::task::spawn_blocking(move || read_all(&documents, &scope, &key));
    reading
        .await
        .map_err(|_| Status::internal("reading the documents was cut short"))?
}

fn read_all(documents: &[wire::Document], scope: &Within, key: &[u8; 32]) -> Result<Read, Status> {
    let mut problems = Vec::new();
    let mut resources: Vec<Resource> = Vec::new();
    for document in documents {
        let options = Options {
            file: &document.file,
            mode: Mode::Strict,
            scope: scope.shown.clone(),
            namespace: None,
        };
        for parsed in parse(document.text.as_bytes(), &options) {
            for warning in &parsed.warnings {
                let object = parsed
                    .outcome
                    .as_ref()
                    .ok()
                    .map(|resource| reference(&resource.id));
                problems.push(problem(
                    true,
                    &document.file,
                    parsed.document,
                    parsed.line,
                    warning,
                    object,
                ));
            }
            match parsed.outcome {
                Ok(resource) => resources.push(resource),
                Err(invalid) => {
                    for one in &invalid.problems {
                        problems.push(problem(
                            false,
                            &document.file,
                            invalid.document,
                            invalid.line,
                            one,
                            None,
                        ));
                    }
                }
            }
        }
    }
    problems.extend(duplicates(&resources));
    if resources.len() > MAX_RESOURCES {
        return Err(Status::invalid_argument(format!(
            "more than {MAX_RESOURCES} documents in one request"
        )));
    }
    let rows = match problems.iter().all(|problem| problem.warning) {
        true => resources
            .iter()
            .map(|resource| NewResource::of(key, scope.id, resource))
            .collect(),
        false => Vec::new(),
    };
    Ok(Read {
        resources: resources.iter().map(|resource| reference(&resource.id)).collect(),
        rows,
        problems,
    })
}

/// The Cluster of this name with these labels, once they are found to be good.
pub(super) fn labelled_cluster(
    fleet: &Fleet,
    name: &str,
    labels: BTreeMap<String, String>,
) -> Result<NewResource, Status> {
    let object = json!({
        "apiVersion": "fleet.flotilla.dev/v1alpha1", "kind": "Cluster",
        "metadata": { "name": name, "labels": labels }, "spec": {}
    });
    let options = Options {
        file: "cluster",
        mode: Mode::Strict,
        scope: Scope::Fleet,
        namespace: None,
    };
    let parsed = parse(object.to_string().as_bytes(), &options).into_iter().next();
    match parsed.map(|parsed| parsed.outcome) {
        Some(Ok(resource)) => Ok(NewResource::of(&fleet.digest_key, FLEET, &resource)),
        Some(Err(invalid)) => {
            let problems = invalid.problems.iter();
            let problems: Vec<String> = problems
                .map(|problem| format!("{}: {}", problem.path, problem.message))
                .collect();
            Err(Status::invalid_argument(problems.join("; ")))
        }
        None => Err(Status::internal("a cluster is no document")),
    }
}

/// Checks a cluster's name as the Cluster kind does.
pub(super) fn cluster_name(name: &str) -> Result<String, Status> {
    flotilla_api::text::Label::new(name)
        .map(|name| name.as_str().to_owned())
        .map_err(|e| Status::invalid_argument(format!("cluster: {e}")))
}

fn reference(id: &flotilla_api::ResourceId) -> wire::ResourceRef {
    wire::ResourceRef {
        scope: match &id.scope {
            Scope::Fleet => String::new(),
            Scope::Cluster(name) => name.clone(),
        },
        group: id.group().to_owned(),
        kind: id.kind.name().to_owned(),
        namespace: id.namespace.clone(),
        name: id.name.clone(),
    }
}

fn problem(
    warning: bool,
    file: &str,
    document: usize,
    line: usize,
    problem: &flotilla_api::Problem,
    resource: Option<wire::ResourceRef>,
) -> wire::Problem {
    let hint = problem
        .hint
        .as_ref()
        .map(|hint| format!(" ({hint})"))
        .unwrap_or_default();
    wire::Problem {
        warning,
        file: file.to_owned(),
        document: u32::try_from(document).unwrap_or(u32::MAX),
        line: u32::try_from(problem.line.unwrap_or(line)).unwrap_or(u32::MAX),
        field: problem.path.to_string(),
        message: format!("{}{hint}", problem.message),
        resource,
    }
}

/// One identity twice in one request: which one counts would be a guess.
fn duplicates(resources: &[Resource]) -> Vec<wire::Problem> {
    let mut seen = std::collections::HashSet::new();
    resources
        .iter()
        .filter(|resource| !seen.insert(&resource.id))
        .map(|resource| wire::Problem {
            message: format!("{} stands twice in this request", resource.id),
            resource: Some(reference(&resource.id)),
            ..wire::Problem::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use flotilla_testkit::done_beside;

    use super::*;

    #[test]
    fn documents_are_read_beside_the_runtime() {
        let config = |n| {
            format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}, namespace: apps}}\ndata: {{k: v}}\n"
            )
        };
        let documents = vec![wire::Document {
            file: "many.yaml".into(),
            text: (0..1000).map(config).collect(),
        }];
        let fleet = Within {
            id: FLEET,
            shown: Scope::Fleet,
        };
        let read = done_beside(read(documents, fleet, [1; 32])).expect("read");
        assert_eq!((read.rows.len(), read.problems.len()), (1000, 0));
        assert_eq!(read.resources[999].name, "c999");
    }
}
