//! `flotilla cluster`: lets clusters join and leave, and shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use flotilla_proto::fleet::v1::{
    ClusterDecision, ClusterDeparture, CreateTokenRequest, CreateTokenResponse, DecideClusterRequest,
    ListUnitsRequest,
};
use serde_json::json;

use super::departure::{self, DepartureArgs, depart};
use crate::client::{Fleet, connect};
use crate::error::CommandError;
use crate::fetch::{PAGE, clusters, units};
use crate::output::{Format, ago, short_revision, span, structured};
use crate::show::{show_clusters, unit_message};
use crate::table::Table;
use crate::{Global, Host};

/// Let clusters join and leave the fleet, and show them
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Make a token by which one cluster may join once; it is shown once
    ///
    /// The cluster is created when the fleet does not have it.
    Token {
        #[command(flatten)]
        token: TokenArgs,
        /// How to show it
        #[arg(long, short, default_value = "table")]
        output: Format,
    },
    /// Print the command that installs the agent in a cluster, with a token in it
    ///
    /// The profile says what the agent may do there, and with it anyone who controls the hub: tenant applies and
    /// deletes what applications consist of in the namespaces given; platform does so with what an infrastructure
    /// repository holds (CustomResourceDefinitions, RBAC, webhooks, workloads everywhere) and does not stop an attacker;
    /// admin is cluster-admin. The README of the agent's chart says what each amounts to.
    Join {
        #[command(flatten)]
        token: TokenArgs,
        /// What the agent may do in the cluster [default: tenant when namespaces are given, platform for a new cluster, else the one it has]
        #[arg(long, value_enum)]
        profile: Option<Profile>,
        /// Namespace that the profile tenant works in; repeated for more
        #[arg(long = "tenant-namespace", value_name = "NAME", value_parser = namespace)]
        tenant_namespaces: Vec<String>,
        /// Namespace of the agent
        #[arg(long, default_value = "flotilla-system", value_name = "NAME", value_parser = namespace)]
        agent_namespace: String,
        /// The agent's chart: a folder or a reference
        #[arg(long, default_value = "deploy/agent", value_name = "CHART")]
        chart: String,
    },
    /// Let a suspended cluster go on: its agent is the one that was meant to join
    ///
    /// The hub suspends a cluster whose join token was used by two keys: one of the two was not meant to have it.
    Admit {
        /// The cluster
        name: String,
    },
    /// End the identity of a cluster's agent: it joins again with a new token, and gets nothing until then
    ///
    /// What the agent enforces stays enforced.
    Revoke {
        /// The cluster
        name: String,
    },
    /// Remove from a cluster what apps have applied there, and place nothing there any more
    ///
    /// What each app has is deleted or kept as its spec.deletionPolicy says, as with flotilla delete. The cluster stays in the
    /// fleet; flotilla cluster resume gives it back what is placed on it. Without --yes this only shows what would follow.
    Drain(DepartureArgs),
    /// Let a cluster leave the fleet in order: what apps have applied there stays, and its agent lets go of it
    ///
    /// The cluster is gone from the fleet once its agent has heard of it. Then uninstall the agent. Without --yes this only
    /// shows what would follow.
    Retire(DepartureArgs),
    /// Forget a cluster at once, for one that is lost: nothing in it is touched, and its agent has no identity any more
    ///
    /// An agent that is still there goes on enforcing what it has until it is uninstalled. Without --yes this only shows what
    /// would follow.
    Delete(DepartureArgs),
    /// Stop draining or retiring a cluster: it gets what is placed on it
    Resume {
        /// The cluster
        name: String,
    },
    /// List the clusters of the fleet
    List,
    /// Show one cluster and what runs on it
    Show {
        /// The cluster
        name: String,
    },
}

/// What an agent may do, as its chart has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// What applications consist of, Secrets too, in the namespaces given and no other
    Tenant,
    /// What an infrastructure repository holds, in the whole cluster
    Platform,
    /// Everything, as cluster-admin
    Admin,
}

impl Profile {
    /// As the chart's `rbac.profile` has it.
    fn value(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Platform => "platform",
            Self::Admin => "admin",
        }
    }
}

/// What the agent is to be allowed.
struct Rights {
    /// `None`: it was not asked for. A new cluster gets [`Profile::Platform`], and another keeps the one it has.
    profile: Option<Profile>,
    namespaces: Vec<String>,
}

impl Rights {
    /// Settles what was asked for, before a token is spent on it: what the chart would refuse is refused here.
    fn choose(asked: Option<Profile>, namespaces: &[String], agent: &str) -> Result<Self, CommandError> {
        for namespace in namespaces {
            if namespace == agent {
                return Err(CommandError::usage(format!(
                    "--tenant-namespace {namespace} is where the agent keeps its identity and its state: choose \
                     another, or another --agent-namespace"
                )));
            }
            if namespace == "kube-system" {
                return Err(CommandError::usage(
                    "--tenant-namespace kube-system: its ServiceAccounts may do everything; --profile platform says \
                     so openly",
                ));
            }
        }
        let profile = match asked {
            None if !namespaces.is_empty() => Some(Profile::Tenant),
            asked => asked,
        };
        match (profile, namespaces.is_empty()) {
            (Some(Profile::Tenant), true) => Err(CommandError::usage(
                "the profile tenant needs namespaces to work in: name them with --tenant-namespace",
            )),
            (Some(profile @ (Profile::Platform | Profile::Admin)), false) => {
                Err(CommandError::usage(format!(
                    "--tenant-namespace goes with the profile tenant: {} works in the whole cluster",
                    profile.value()
                )))
            }
            _ => Ok(Self {
                profile,
                namespaces: namespaces.to_vec(),
            }),
        }
    }
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// The cluster
    name: String,
    /// How long the token may be used, from 1s to 24h
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = lifetime)]
    ttl: Duration,
    /// Label of the cluster, if this creates it
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::pair)]
    labels: Vec<(String, String)>,
    /// End the identity of the agent that the cluster has: for one whose state is lost, or a cluster that was made anew
    ///
    /// What runs in the cluster stays, and is adopted by the agent that joins with the token. Nothing is deleted for it.
    #[arg(long)]
    replace: bool,
}

pub(crate) async fn cmd_cluster(
    args: &ClusterArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    match &args.command {
        ClusterCommand::Token { token, output } => {
            let made = make_token(&mut connect(global, host).await?, token, host).await?;
            show_token(&made, *output, host)
        }
        ClusterCommand::Join {
            token,
            profile,
            tenant_namespaces,
            agent_namespace,
            chart,
        } => {
            let mut rights = Rights::choose(*profile, tenant_namespaces, agent_namespace)?;
            let made = make_token(&mut connect(global, host).await?, token, host).await?;
            if is_loopback(&made.endpoint) {
                host.ui.warning(&format!(
                    "the hub calls itself {}, which no agent on another machine reaches: start it with --endpoint",
                    made.endpoint
                ));
            }
            if rights.profile.is_none() && made.cluster_created {
                rights.profile = Some(Profile::Platform);
                host.ui.warning(
                    "profile platform: the agent, and so anyone who controls the hub, may apply and delete \
                     CustomResourceDefinitions, RBAC, webhooks and workloads in the whole cluster, which to an attacker is all of the cluster; \
                     choose another with --profile",
                );
            } else if rights.profile.is_none() {
                host.ui.warning(
                    "the cluster is known, and the profile of the agent that is installed there stays; where none is, or \
                     to change it, choose one with --profile",
                );
            }
            host.ui
                .line(&install_command(&made, &rights, agent_namespace, chart));
            Ok(())
        }
        ClusterCommand::Admit { name } => decide(name, ClusterDecision::Admit, global, host).await,
        ClusterCommand::Revoke { name } => decide(name, ClusterDecision::Revoke, global, host).await,
        ClusterCommand::Drain(args) => depart(args, ClusterDeparture::Drain, global, host).await,
        ClusterCommand::Retire(args) => depart(args, ClusterDeparture::Retire, global, host).await,
        ClusterCommand::Delete(args) => depart(args, ClusterDeparture::Delete, global, host).await,
        ClusterCommand::Resume { name } => departure::stay(name, global, host).await,
        ClusterCommand::List => print_list(&mut connect(global, host).await?, host).await,
        ClusterCommand::Show { name } => show(&mut connect(global, host).await?, name, host).await,
    }
}

async fn decide(
    name: &str,
    decision: ClusterDecision,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let request = DecideClusterRequest {
        cluster: name.to_owned(),
        decision: decision.into(),
    };
    let mut fleet = connect(global, host).await?;
    let changed = fleet.decide_cluster(request).await?.into_inner().changed;
    let done = match (decision, changed) {
        (ClusterDecision::Revoke, true) => "revoked: it joins again with a new token",
        (ClusterDecision::Revoke, false) => "has no identity to revoke",
        (_, true) => "admitted",
        (_, false) => "is not suspended",
    };
    host.ui.success(&format!("cluster {name} {done}"));
    Ok(())
}

async fn make_token(
    fleet: &mut Fleet,
    args: &TokenArgs,
    host: &mut Host,
) -> Result<CreateTokenResponse, CommandError> {
    let mut labels = BTreeMap::new();
    for (key, value) in &args.labels {
        if labels.insert(key.clone(), value.clone()).is_some() {
            return Err(CommandError::usage(format!("--label {key} is given twice")));
        }
    }
    if args.replace {
        let request = DecideClusterRequest {
            cluster: args.name.clone(),
            decision: ClusterDecision::Revoke.into(),
        };
        let ended = fleet.decide_cluster(request).await?.into_inner().changed;
        host.ui.success(&match ended {
            true => format!("the identity of cluster {}'s agent is ended", args.name),
            false => format!("cluster {} has no agent to replace", args.name),
        });
    }
    let labelled = !labels.is_empty();
    let request = CreateTokenRequest {
        cluster: args.name.clone(),
        ttl_seconds: u32::try_from(args.ttl.as_secs()).unwrap_or(u32::MAX),
        labels: labels.into_iter().collect(),
    };
    let made = fleet.create_token(request).await?.into_inner();
    if made.cluster_created {
        host.ui.success(&format!("cluster {} created", args.name));
    } else if labelled {
        host.ui.warning(&format!(
            "cluster {} is known: its labels stay as they are, those given are not taken",
            args.name
        ));
    }
    // As asked for, which the hub grants or refuses: what is left by two clocks would be a moment less.
    let left = span(args.ttl);
    host.ui.success(&format!(
        "token for cluster {} made, to be used once within {left}",
        args.name
    ));
    Ok(made)
}

fn show_token(made: &CreateTokenResponse, output: Format, host: &mut Host) -> Result<(), CommandError> {
    if matches!(output, Format::Json | Format::Yaml) {
        let value = json!({
            "token": made.token,
            "expiresAtMs": made.expires_at_ms,
            "pins": made.pins,
            "endpoint": made.endpoint,
            "trustDomain": made.trust_domain,
        });
        return structured(&mut host.ui, output, &value);
    }
    host.ui.line(&made.token);
    Ok(())
}

/// Writes one line for a POSIX shell. Every value is quoted: the hub's answer is data, not code.
fn install_command(made: &CreateTokenResponse, rights: &Rights, namespace: &str, chart: &str) -> String {
    let mut values = vec![
        ("hub.endpoints[0]".to_owned(), made.endpoint.as_str()),
        ("hub.trustDomain".to_owned(), &made.trust_domain),
    ];
    for (index, pin) in made.pins.iter().enumerate() {
        values.push((format!("hub.pins[{index}]"), pin));
    }
    if let Some(profile) = rights.profile {
        values.push(("rbac.profile".to_owned(), profile.value()));
    }
    for (index, namespace) in rights.namespaces.iter().enumerate() {
        values.push((format!("rbac.tenant.namespaces[{index}]"), namespace));
    }
    values.push(("join.token".to_owned(), &made.token));
    let mut words = vec![
        "helm upgrade --install flotilla-agent".to_owned(),
        quoted(chart),
        format!("--namespace {} --create-namespace", quoted(namespace)),
    ];
    // The cluster may have been installed with values that this line does not name, its volume of state among them.
    // A Secret that it named for the token of its first join has an old one.
    if !made.cluster_created {
        words.push("--reset-then-reuse-values".to_owned());
        values.push(("join.existingSecret".to_owned(), ""));
    }
    for (path, value) in values {
        let assignment = format!("{path}={}", escaped(value));
        words.push(format!("--set-string {}", quoted(&assignment)));
    }
    words.join(" ")
}

/// Tells whether a URL names the machine that reads it.
fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<tonic::transport::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Reads how long a token lives.
fn lifetime(text: &str) -> Result<Duration, String> {
    match super::duration(text)? {
        short if short < Duration::from_secs(1) => Err("a token lives for 1s at least".to_owned()),
        span => Ok(span),
    }
}

/// Reads the name of a namespace.
fn namespace(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = !text.is_empty() && text.len() <= 63 && text.chars().all(plain);
    if is_name && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("a namespace has at most 63 lower-case letters, digits and dashes".to_owned())
    }
}

/// Escapes what `helm --set` would read as more than a value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

async fn print_list(fleet: &mut Fleet, host: &mut Host) -> Result<(), CommandError> {
    let all = clusters(fleet, "", "").await?;
    show_clusters(&all, false, (host.now_ms)(), false).print(Format::Table, true, host)
}

async fn show(fleet: &mut Fleet, name: &str, host: &mut Host) -> Result<(), CommandError> {
    let found = clusters(fleet, name, "").await?;
    let Some(cluster) = found.first() else {
        return Err(CommandError::failed(format!("cluster {name:?} not found"))
            .hint("list them with flotilla cluster list"));
    };
    let now_ms = (host.now_ms)();
    let seen = match cluster.last_seen_ms {
        0 => "never".to_owned(),
        then => format!("{} ago", ago(then, now_ms)),
    };
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let facts = [
        ("Name", cluster.name.clone()),
        ("State", cluster.state.clone()),
        (
            "Connected",
            if cluster.connected {
                "yes".to_owned()
            } else {
                format!("no, last seen {seen}")
            },
        ),
        ("Kubernetes", cluster.kube_version.clone()),
        ("Agent", cluster.agent_version.clone()),
        (
            "Generation",
            format!(
                "{} of {} accepted",
                cluster.accepted_generation, cluster.desired_generation
            ),
        ),
        ("Labels", pairs(&cluster.labels)),
        ("Variables", pairs(&cluster.variables)),
        ("Message", cluster.message.clone()),
    ];
    for (fact, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        host.ui.line(&format!("{:<12} {value}", format!("{fact}:")));
    }
    let request = ListUnitsRequest {
        cluster: name.to_owned(),
        page_size: PAGE,
        ..Default::default()
    };
    let units = units(fleet, request).await?;
    if units.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(vec!["NAMESPACE", "APP", "REVISION", "READY", "MESSAGE"]);
    for unit in &units {
        let app = unit.app.clone().unwrap_or_default();
        table.row(vec![
            app.namespace,
            format!("{}/{}", app.kind.to_lowercase(), app.name),
            short_revision(&unit.applied_revision),
            unit.ready.clone(),
            unit_message(unit, now_ms),
        ]);
    }
    host.ui.line("");
    table.lines(true).iter().for_each(|line| host.ui.line(line));
    Ok(())
}
