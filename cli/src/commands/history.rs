//! `flotilla history`: which revision an app had from when to when in its clusters.

use flotilla_proto::fleet::v1::{HeldTarget, ListHistoryRequest};
use serde_json::{Value, json};

use super::app::{App, app};
use crate::client::connect;
use crate::error::CommandError;
use crate::fetch::history;
use crate::output::{Format, ago, list, short_revision, span, structured};
use crate::table::Table;
use crate::{Global, Host};

/// Show which revision an app had from when to when in its clusters, the newest first
///
/// RESULT is what became of it: progressing, applied, healthy, failed, superseded, where another one came before anything was
/// said of it, or removed: it was the last, and the app, or the cluster, is no more. CAUSE is what changed: placed, content, variables, settings.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// The app: `Kustomization/NAMESPACE/NAME`, or `kustomization/NAME` in the namespace of --namespace; `ks` and `hr` are
    /// short for the kinds
    #[arg(value_name = "APP", value_parser = app)]
    app: App,
    /// Only in this cluster: also of an app that is deleted by now
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How many of the latest to show
    #[arg(long, default_value_t = 50, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// How to show them
    #[arg(long, short, default_value = "table")]
    output: Format,
    /// Leave out the header
    #[arg(long)]
    no_header: bool,
}

pub(crate) async fn cmd_history(
    args: &HistoryArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let reference = args.app.reference(&global.namespace);
    let name = format!("{}/{}/{}", reference.kind, reference.namespace, reference.name);
    let request = ListHistoryRequest {
        app: Some(reference),
        cluster: args.cluster.clone().unwrap_or_default(),
        page_size: 0,
        page_token: String::new(),
    };
    let held = history(&mut fleet, request, args.limit).await?;
    match args.output {
        Format::Json | Format::Yaml => {
            structured(
                &mut host.ui,
                args.output,
                &list(held.iter().map(as_json).collect(), false),
            )?;
        }
        Format::Name => held
            .iter()
            .for_each(|one| host.ui.line(&format!("{}/{}", one.cluster, one.version))),
        Format::Table | Format::Wide => {
            let lines = table(&held, args.output == Format::Wide, (host.now_ms)()).lines(!args.no_header);
            lines.iter().for_each(|line| host.ui.line(line));
        }
    }
    if held.is_empty() {
        host.ui.warning(&format!("nothing of {name} is on record"));
    }
    Ok(())
}

fn table(held: &[HeldTarget], wide: bool, now_ms: i64) -> Table {
    let mut columns = vec!["CLUSTER", "REVISION", "RESULT", "AGE", "LASTED", "CAUSE"];
    if wide {
        columns.extend(["VERSION", "READY AFTER", "TARGET"]);
    }
    let mut table = Table::new(columns);
    let between = |from: i64, until: i64| {
        let passed = until.saturating_sub(from).max(0).unsigned_abs();
        span(std::time::Duration::from_millis(passed))
    };
    for one in held {
        let until = match one.until_ms {
            // When it went is not on record.
            0 if one.result == "removed" => String::new(),
            0 => "present".to_owned(),
            until => between(one.from_ms, until),
        };
        let mut row = vec![
            one.cluster.clone(),
            match wide {
                true => one.revision.clone(),
                false => short_revision(&one.revision),
            },
            one.result.clone(),
            ago(one.from_ms, now_ms),
            until,
            one.cause.clone(),
        ];
        if wide {
            row.push(one.version.to_string());
            row.push(match one.ready_ms {
                0 => String::new(),
                ready => between(one.from_ms, ready),
            });
            row.push(hex(&one.target));
        }
        table.row(row);
    }
    table
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn as_json(one: &HeldTarget) -> Value {
    json!({
        "cluster": one.cluster,
        "unitId": one.unit_id,
        "version": one.version,
        "target": hex(&one.target),
        "revision": one.revision,
        "cause": one.cause,
        "result": one.result,
        "fromMs": one.from_ms,
        "untilMs": one.until_ms,
        "readyMs": one.ready_ms,
    })
}
