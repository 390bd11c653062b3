//! `flotilla apply`: hands documents to the hub, which takes all of them or none.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flotilla_api::yaml::MAX_TEXT_BYTES;
use flotilla_proto::fleet::v1::{ApplyRequest, ApplyResponse, Document, Problem};
use serde_json::json;

use super::describe;
use crate::client::connect;
use crate::error::CommandError;
use crate::output::{Format, structured};
use crate::{Global, Host};

/// Files deeper than this are not looked for: a link that leads to its own folder would never end.
const MAX_FOLDER_DEPTH: usize = 32;

/// Store objects: sources, apps, clusters, placements, ConfigMaps and Secrets
///
/// Every document is validated before any is stored. A bad one is named with file, line and field, and then
/// nothing is stored.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// Files, folders (all .yaml, .yml and .json below), or - for standard input
    #[arg(long = "filename", short = 'f', required = true, value_name = "PATH", num_args = 1..)]
    files: Vec<String>,
    /// Validate and show what would change, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Store the objects in the scope of this cluster instead of the fleet's
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How to show the result
    #[arg(long, short, default_value = "table")]
    output: Format,
}

pub(crate) async fn cmd_apply(
    args: &ApplyArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let documents = read_all(&args.files, &mut host.stdin)?;
    let mut fleet = connect(global, host).await?;
    let request = ApplyRequest {
        documents,
        dry_run: args.dry_run,
        scope: args.cluster.clone().unwrap_or_default(),
    };
    let response = fleet.apply(request).await?.into_inner();
    report(&response, args, host)
}

fn report(response: &ApplyResponse, args: &ApplyArgs, host: &mut Host) -> Result<(), CommandError> {
    let (warnings, errors): (Vec<_>, Vec<_>) = response.problems.iter().partition(|problem| problem.warning);
    for warning in warnings {
        host.ui.warning(&problem_line(warning));
    }
    let mut failures = errors.into_iter().map(problem_line);
    if let Some(first) = failures.next() {
        return Err(CommandError::failed(first)
            .and(failures)
            .hint("nothing was stored"));
    }
    if matches!(args.output, Format::Json | Format::Yaml) {
        return structured(&mut host.ui, args.output, &as_json(response));
    }
    let dry_run = if args.dry_run { " (dry run)" } else { "" };
    for applied in &response.applied {
        let Some(reference) = &applied.resource else {
            continue;
        };
        if args.output == Format::Name {
            host.ui
                .line(&format!("{}/{}", reference.kind.to_lowercase(), reference.name));
        } else {
            host.ui
                .line(&format!("{} {}{dry_run}", describe(reference), applied.action));
        }
        if !applied.not_supported.is_empty() {
            let fields = applied.not_supported.join(", ");
            host.ui.warning(&format!(
                "{} is kept but not reconciled: {fields} is not supported",
                describe(reference)
            ));
        }
    }
    Ok(())
}

pub(super) fn problem_line(problem: &Problem) -> String {
    let mut line = if problem.line > 0 {
        format!("{}:{}: ", problem.file, problem.line)
    } else {
        format!("{}: ", problem.file)
    };
    if problem.document > 0 {
        line.push_str(&format!("document {}: ", problem.document));
    }
    if let Some(reference) = &problem.resource {
        line.push_str(&format!("{}: ", describe(reference)));
    }
    if !problem.field.is_empty() {
        line.push_str(&format!("{}: ", problem.field));
    }
    line + &problem.message
}

fn as_json(response: &ApplyResponse) -> serde_json::Value {
    let applied = response.applied.iter().map(|applied| {
        let reference = applied.resource.clone().unwrap_or_default();
        json!({
            "kind": reference.kind,
            "namespace": reference.namespace,
            "name": reference.name,
            "scope": reference.scope,
            "action": applied.action,
            "notSupported": applied.not_supported,
        })
    });
    json!({ "applied": applied.collect::<Vec<_>>() })
}

fn read_all(paths: &[String], stdin: &mut dyn Read) -> Result<Vec<Document>, CommandError> {
    let mut documents = Vec::new();
    let mut total = 0;
    for path in paths {
        if path == "-" {
            documents.push(Document {
                file: "-".to_owned(),
                text: bounded("standard input", stdin)?,
            });
            continue;
        }
        for file in files(Path::new(path))? {
            let name = file.display().to_string();
            let mut open = fs::File::open(&file).map_err(|error| unreadable(&name, &error))?;
            documents.push(Document {
                text: bounded(&name, &mut open)?,
                file: name,
            });
        }
    }
    for document in &documents {
        total += document.text.len();
    }
    if total > MAX_TEXT_BYTES {
        return Err(CommandError::failed(format!(
            "the files have more than {MAX_TEXT_BYTES} bytes together"
        ))
        .hint("apply them in several steps"));
    }
    Ok(documents)
}

/// Reads a text, and one byte more than is allowed so that too much is noticed without reading it all.
fn bounded(name: &str, from: &mut dyn Read) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    from.take(MAX_TEXT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(name, &error))?;
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(CommandError::failed(format!(
            "{name} has more than {MAX_TEXT_BYTES} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|_| CommandError::failed(format!("{name} is not UTF-8 text")))
}

/// Lists a file itself, or the manifests below a folder in order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let name = path.display().to_string();
    let kind = fs::metadata(path).map_err(|error| unreadable(&name, &error))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, 0, &mut found)?;
    if found.is_empty() {
        return Err(CommandError::failed(format!(
            "{name} holds no .yaml, .yml or .json file"
        )));
    }
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    let name = folder.display().to_string();
    if depth > MAX_FOLDER_DEPTH {
        return Err(CommandError::failed(format!(
            "{name} is more than {MAX_FOLDER_DEPTH} folders deep"
        )));
    }
    let entries = fs::read_dir(folder).map_err(|error| unreadable(&name, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&name, &error))?;
    paths.sort();
    for path in paths {
        let manifest = path
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|one| ending == *one));
        if path.is_dir() {
            collect(&path, depth + 1, found)?;
        } else if manifest {
            found.push(path);
        }
    }
    Ok(())
}

fn unreadable(name: &str, error: &std::io::Error) -> CommandError {
    CommandError::failed(format!("cannot read {name}: {error}"))
}
