//! `flotilla explain`: why an app is in its clusters as it is, with the cause first.

use flotilla_proto::fleet::v1::{ExplainRequest, ExplainedObject, ExplainedStep, Explanation, MovedObject};
use serde_json::{Value, json};

use super::app::{App, app};
use super::inventory::named;
use crate::client::{Fleet, connect};
use crate::error::CommandError;
use crate::output::{Format, ago, list, span, structured};
use crate::table::{Table, one_line};
use crate::{Global, Host};

/// Clusters that are explained without one being named.
const CLUSTERS: u32 = 20;

/// Say why an app is in its clusters as it is, from its source to its objects
///
/// Says first whether what the source has now is applied, and if not, which step stands in the way and what to do. Below stand
/// all steps: each says ok, or the reason and the next command. A step that is `waiting` goes on by itself; one that is
/// `blocked` needs somebody.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The app: `Kustomization/NAMESPACE/NAME`, or `kustomization/NAME` in the namespace of --namespace; `ks` and `hr` are
    /// short for the kinds
    #[arg(value_name = "APP", value_parser = app)]
    app: App,
    /// Only in this cluster, which need not have the app
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How to show it
    #[arg(long, short, default_value = "table")]
    output: Format,
}

pub(crate) async fn cmd_explain(
    args: &ExplainArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let explained = fetch(&mut fleet, args, global).await?;
    match args.output {
        Format::Json | Format::Yaml => {
            let items = explained.iter().map(as_json).collect();
            structured(&mut host.ui, args.output, &list(items, args.cluster.is_some()))
        }
        Format::Name => {
            for one in &explained {
                let app = one.app.clone().unwrap_or_default();
                let name = format!("{}/{}/{}", app.kind.to_lowercase(), app.name, one.cluster);
                host.ui.line(name.trim_end_matches('/'));
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            for (index, one) in explained.iter().enumerate() {
                if index > 0 {
                    host.ui.line("");
                }
                show(one, host);
            }
            Ok(())
        }
    }
}

async fn fetch(
    fleet: &mut Fleet,
    args: &ExplainArgs,
    global: &Global,
) -> Result<Vec<Explanation>, CommandError> {
    let reference = args.app.reference(&global.namespace);
    let request = ExplainRequest {
        app: Some(reference.clone()),
        cluster: args.cluster.clone().unwrap_or_default(),
        page_size: CLUSTERS,
        page_token: String::new(),
    };
    let answer = fleet.explain(request).await?.into_inner();
    if !answer.next_page_token.is_empty() {
        return Err(CommandError::usage(format!(
            "{}/{}/{} is on more than {CLUSTERS} clusters: name one with --cluster",
            reference.kind, reference.namespace, reference.name
        ))
        .hint(format!(
            "`flotilla get units {} -n {}` shows where it is not ready",
            reference.name, reference.namespace
        )));
    }
    Ok(answer.explanations)
}

fn show(one: &Explanation, host: &mut Host) {
    let now = (host.now_ms)();
    let app = one.app.clone().unwrap_or_default();
    let place = match one.cluster.is_empty() {
        true => " on no cluster".to_owned(),
        false => format!(" on {}", one.cluster),
    };
    let answer = one_line(&one.answer);
    host.ui.line(&format!(
        "{}/{}/{}{place}: {answer}",
        app.kind, app.namespace, app.name
    ));
    // What is said may quote a repository or a webhook, in lines of any words: none of them is to stand where ours do.
    if let Some(cause) = &one.cause {
        let said = one_line(&said(cause, now));
        host.ui.line(&format!("cause: {}: {said}", cause.name));
        if !cause.next.is_empty() {
            host.ui.line(&format!("next:  {}", one_line(&cause.next)));
        }
    }
    host.ui.line("");
    let mut table = Table::new(vec!["STEP", "STATE", "MESSAGE"]);
    for step in &one.steps {
        table.row(vec![step.name.clone(), state(step), said(step, now)]);
        let is_told = one.cause.as_ref().is_some_and(|cause| cause.name == step.name);
        if !step.next.is_empty() && !is_told {
            table.row(vec![String::new(), String::new(), format!("next: {}", step.next)]);
        }
    }
    table.lines(true).iter().for_each(|line| host.ui.line(line));
    objects("not as they should be", &one.failing, one.failing_total, host);
    objects("left, and still there", &one.leaving, one.leaving_total, host);
    moved(one, host);
}

fn state(step: &ExplainedStep) -> String {
    match step.state.as_str() {
        "Skipped" => "-".to_owned(),
        other => other.to_lowercase(),
    }
}

/// The reason and message of a step, and its times.
fn said(step: &ExplainedStep, now_ms: i64) -> String {
    let mut parts = Vec::new();
    match (step.reason.as_str(), step.message.as_str()) {
        ("", "") => {}
        ("", message) => parts.push(message.to_owned()),
        (reason, "") => parts.push(reason.to_owned()),
        (reason, message) => parts.push(format!("{reason}: {message}")),
    }
    if step.since_ms != 0 {
        parts.push(format!("since {}", ago(step.since_ms, now_ms)));
    }
    if step.seen_ms != 0 {
        parts.push(format!("looked at {} ago", ago(step.seen_ms, now_ms)));
    }
    let until = u64::try_from(step.again_ms.saturating_sub(now_ms)).unwrap_or(0);
    if step.again_ms != 0 && until > 0 {
        parts.push(format!(
            "again in {}",
            span(std::time::Duration::from_millis(until))
        ));
    }
    parts.join("; ")
}

/// What a list is of, and how many there are.
fn heading(title: &str, total: u32, host: &mut Host) {
    let count = super::counted(usize::try_from(total).unwrap_or(usize::MAX), "object");
    host.ui.line("");
    host.ui.line(&format!("{title}: {count}"));
}

fn objects(title: &str, objects: &[ExplainedObject], total: u32, host: &mut Host) {
    if objects.is_empty() {
        return;
    }
    heading(title, total, host);
    let mut table = Table::new(vec!["OBJECT", "STATE", "HEALTH", "MESSAGE"]);
    for one in objects {
        let object = one.object.clone().unwrap_or_default();
        let mut message = object.message.clone();
        if !one.other.is_empty() {
            let other = format!("{} is to have it", one.other);
            message = match message.is_empty() {
                true => other,
                false => format!("{message}; {other}"),
            };
        }
        table.row(vec![
            format!("  {}", named(&object)),
            object.state,
            object.health,
            message,
        ]);
    }
    table.lines(false).iter().for_each(|line| host.ui.line(line));
    more(objects.len(), total, host);
}

fn moved(one: &Explanation, host: &mut Host) {
    if one.moved.is_empty() {
        return;
    }
    heading(
        &format!("moved with version {}", one.version),
        one.moved_total,
        host,
    );
    for object in &one.moved {
        let word = match object.done {
            true => "moved to",
            false => "is to move to",
        };
        let moved = format!("{} {word} {}", key(object), object.to);
        host.ui.line(&format!("  {}", one_line(&moved)));
    }
    more(one.moved.len(), one.moved_total, host);
}

fn key(object: &MovedObject) -> String {
    let parts = [&object.kind, &object.namespace, &object.name];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.map(String::as_str).collect::<Vec<_>>().join("/")
}

/// How many of a list are not shown.
fn more(shown: usize, total: u32, host: &mut Host) {
    let more = usize::try_from(total).unwrap_or(usize::MAX).saturating_sub(shown);
    if more > 0 {
        host.ui.line(&format!("  and {more} more"));
    }
}

fn as_json(one: &Explanation) -> Value {
    let app = one.app.clone().unwrap_or_default();
    json!({
        "app": { "kind": app.kind, "namespace": app.namespace, "name": app.name, "scope": app.scope },
        "cluster": one.cluster,
        "unitId": one.unit_id,
        "verdict": one.verdict,
        "answer": one.answer,
        "cause": one.cause.as_ref().map(step_json),
        "steps": one.steps.iter().map(step_json).collect::<Vec<_>>(),
        "revisions": {
            "source": one.source_revision,
            "target": one.target_revision,
            "applied": one.applied_revision,
        },
        "versions": {
            "target": one.version,
            "attempted": one.attempted_version,
            "applied": one.applied_version,
            "healthy": one.healthy_version,
        },
        "generations": { "desired": one.desired_generation, "accepted": one.accepted_generation },
        "failing": objects_json(&one.failing, one.failing_total),
        "leaving": objects_json(&one.leaving, one.leaving_total),
        "moved": {
            "total": one.moved_total,
            "objects": one.moved.iter().map(moved_json).collect::<Vec<_>>(),
        },
    })
}

fn step_json(step: &ExplainedStep) -> Value {
    json!({
        "name": step.name,
        "state": step.state,
        "reason": step.reason,
        "message": step.message,
        "next": step.next,
        "sinceMs": step.since_ms,
        "seenMs": step.seen_ms,
        "againMs": step.again_ms,
    })
}

fn objects_json(objects: &[ExplainedObject], total: u32) -> Value {
    let items = objects.iter().map(|one| {
        let object = one.object.clone().unwrap_or_default();
        json!({
            "group": object.group,
            "kind": object.kind,
            "namespace": object.namespace,
            "name": object.name,
            "state": object.state,
            "health": object.health,
            "message": object.message,
            "other": one.other,
        })
    });
    json!({ "total": total, "objects": items.collect::<Vec<_>>() })
}

fn moved_json(object: &MovedObject) -> Value {
    json!({
        "group": object.group,
        "kind": object.kind,
        "namespace": object.namespace,
        "name": object.name,
        "to": object.to,
        "done": object.done,
    })
}
