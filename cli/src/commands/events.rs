//! `flotilla events`: what happened, oldest first.

use clap::ValueEnum;
use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{FleetEvent, ListEventsRequest};
use serde_json::{Value, json};

use super::describe;
use crate::changes::Changes;
use crate::client::connect;
use crate::error::CommandError;
use crate::output::{Format, ago, list, structured};
use crate::table::Table;
use crate::{Global, Host};

/// Show what happened to objects and clusters
#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// Only events of this object
    #[arg(long = "for", value_name = "KIND/NAME")]
    object: Option<String>,
    /// Only events of this type
    #[arg(long)]
    types: Option<EventType>,
    /// Events of all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Only events of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How many of the latest to show
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: u32,
    /// How to show them
    #[arg(long, short, default_value = "table")]
    output: Format,
    /// Leave out the header
    #[arg(long)]
    no_header: bool,
    /// Show new events until interrupted
    #[arg(long, short = 'w')]
    watch: bool,
}

/// A type of event, as Kubernetes names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EventType {
    /// Something happened
    #[value(name = "Normal")]
    Normal,
    /// Something failed
    #[value(name = "Warning")]
    Warning,
}

impl EventsArgs {
    /// Tells whether it shows changes until it is interrupted.
    pub(super) fn is_watch(&self) -> bool {
        self.watch
    }
}

/// Events that are asked for at once while they are watched.
const SINCE: u32 = 1000;

pub(crate) async fn cmd_events(
    args: &EventsArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut request = request(args, global)?;
    let mut fleet = connect(global, host).await?;
    let mut changes = match args.watch {
        true => Some(Changes::start(&mut fleet).await?),
        false => None,
    };
    let mut header = !args.no_header;
    let mut first = true;
    loop {
        let mut events = fleet.list_events(request.clone()).await?.into_inner().events;
        request.after_id = events.last().map_or(request.after_id, |event| event.id);
        events.retain(|event| args.types != Some(EventType::Normal) || !event.warning);
        // What has come since is all of interest, however much it is; and a wake-up that brought nothing is not.
        request.limit = request.limit.max(SINCE);
        if header || first || !events.is_empty() {
            print(&events, args.output, header, host)?;
        }
        first = false;
        if events.is_empty() && header && matches!(args.output, Format::Table | Format::Wide) {
            let elsewhere = match request.namespace.is_empty() {
                true => "",
                false => "; -A shows the events of all namespaces",
            };
            host.ui
                .warning(&format!("nothing is on record for what was asked{elsewhere}"));
        }
        header = false;
        let Some(changes) = &mut changes else {
            return Ok(());
        };
        if host.ui.is_closed() {
            return Ok(());
        }
        changes.next().await?;
    }
}

fn request(args: &EventsArgs, global: &Global) -> Result<ListEventsRequest, CommandError> {
    let (kind, name) = match args.object.as_deref().map(|object| object.split_once('/')) {
        None => (String::new(), String::new()),
        Some(Some((word, name))) => {
            let kind = Kind::from_word(word)
                .ok_or_else(|| CommandError::usage(format!("{word:?} is not a kind Flotilla keeps")))?;
            (kind.name().to_owned(), name.to_owned())
        }
        Some(None) => {
            return Err(CommandError::usage(
                "--for takes KIND/NAME, such as Kustomization/apps",
            ));
        }
    };
    // Clusters have no namespace, and neither do events that name only a cluster.
    let everywhere = args.all_namespaces || args.cluster.is_some();
    Ok(ListEventsRequest {
        kind,
        namespace: if everywhere {
            String::new()
        } else {
            global.namespace.clone()
        },
        name,
        cluster: args.cluster.clone().unwrap_or_default(),
        warnings_only: args.types == Some(EventType::Warning),
        limit: args.limit,
        after_id: 0,
    })
}

fn print(events: &[FleetEvent], output: Format, header: bool, host: &mut Host) -> Result<(), CommandError> {
    match output {
        Format::Json | Format::Yaml => structured(
            &mut host.ui,
            output,
            &list(events.iter().map(as_json).collect(), false),
        ),
        Format::Name => {
            events.iter().for_each(|event| host.ui.line(&subject(event)));
            Ok(())
        }
        Format::Table | Format::Wide => {
            let mut table = Table::new(vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
            for event in events {
                table.row(vec![
                    ago(event.at_ms, (host.now_ms)()),
                    event_type(event).to_owned(),
                    event.reason.clone(),
                    subject(event),
                    event.message.clone(),
                ]);
            }
            table.lines(header).iter().for_each(|line| host.ui.line(line));
            Ok(())
        }
    }
}

fn event_type(event: &FleetEvent) -> &'static str {
    if event.warning { "Warning" } else { "Normal" }
}

/// Names what the event is about: the object in the cluster, else the resource, and the cluster.
fn subject(event: &FleetEvent) -> String {
    let mut text = match &event.resource {
        _ if !event.object.is_empty() => event.object.clone(),
        Some(reference) => describe(reference).replacen(' ', "/", 1),
        None => return format!("Cluster/{}", event.cluster),
    };
    if !event.cluster.is_empty() {
        text.push_str(&format!(" on {}", event.cluster));
    }
    text
}

fn as_json(event: &FleetEvent) -> Value {
    let reference = event.resource.clone().unwrap_or_default();
    json!({
        "id": event.id,
        "atMs": event.at_ms,
        "type": event_type(event),
        "reason": event.reason,
        "message": event.message,
        "resource": { "kind": reference.kind, "namespace": reference.namespace, "name": reference.name },
        "cluster": event.cluster,
        "object": event.object,
        "revision": event.revision,
    })
}
