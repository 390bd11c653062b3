//! `flotilla create`: makes objects of flags, as Flux' command does, and hands them to the hub or prints them.

mod secret;
mod source;

use flotilla_api::{Options, parse_value};
use flotilla_proto::fleet::v1::{ApplyRequest, Document};
use serde_json::{Map, Value, json};

use super::{apply::problem_line, describe};
use crate::client::connect;
use crate::error::CommandError;
use crate::output::{Format, structured};
use crate::{Global, Host};

/// Make an object of flags
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a source
    Source {
        #[command(subcommand)]
        kind: source::Source,
    },
    /// Make a Secret
    Secret {
        #[command(subcommand)]
        kind: secret::Secret,
    },
}

/// What every one of these commands takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// Its name
    name: String,
    /// Print it as YAML, and ask no hub
    #[arg(long)]
    export: bool,
    /// Labels of it
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::pair)]
    labels: Vec<(String, String)>,
    /// Store it in the scope of this cluster instead of the fleet's
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

pub(crate) async fn cmd_create(
    args: &CreateArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let (common, object) = match &args.what {
        What::Source { kind } => kind.object()?,
        What::Secret { kind } => kind.object()?,
    };
    let mut metadata = json!({ "name": common.name, "namespace": global.namespace });
    if !common.labels.is_empty() {
        let labels = common.labels.iter().cloned();
        metadata["labels"] = labels
            .map(|(key, value)| (key, Value::String(value)))
            .collect::<Map<_, _>>()
            .into();
    }
    let mut whole = object;
    whole.insert("metadata".to_owned(), metadata);
    let whole = Value::Object(whole);
    // What the hub would refuse is refused before anything is printed or sent.
    let read = parse_value(whole.clone(), &Options::default()).outcome;
    read.map_err(|error| CommandError::usage(error.to_string()))?;
    if common.export {
        host.ui.document("---\n");
        return structured(&mut host.ui, Format::Yaml, &whole);
    }
    let request = ApplyRequest {
        documents: vec![Document {
            file: "the command line".to_owned(),
            text: whole.to_string(),
        }],
        dry_run: false,
        scope: common.cluster.clone().unwrap_or_default(),
    };
    let response = connect(global, host).await?.apply(request).await?.into_inner();
    let mut failures = response
        .problems
        .iter()
        .filter(|problem| !problem.warning)
        .map(problem_line);
    if let Some(first) = failures.next() {
        return Err(CommandError::failed(first)
            .and(failures)
            .hint("nothing was stored"));
    }
    for applied in &response.applied {
        if let Some(reference) = &applied.resource {
            host.ui
                .line(&format!("{} {}", describe(reference), applied.action));
        }
    }
    Ok(())
}

/// Sets a field that was given.
fn set(fields: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Names an object.
fn named(name: Option<&str>) -> Option<Value> {
    name.map(|name| json!({ "name": name }))
}
