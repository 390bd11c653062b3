//! The agent's command: flags and environment, logs, signals, exit codes.
//!
//! Exit codes: 0 told to stop; 1 failed; 2 wrong usage; 3 another agent holds this agent's state.

use std::{
    io::IsTerminal as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand};
use flotilla_agent::{
    agent::{self, AgentError, Parts},
    causes::with_causes,
    cluster::kube::{KubeCluster, client},
    ledger::{
        directory::Directory,
        secrets::Secrets,
        transfer::{LeftBehind, Moved, Place, left_behind, transfer},
    },
    link::{
        channel::{ConnectError, HubAddress, check_endpoint},
        token::JoinToken,
    },
};
use flotilla_proto::tls::Pin;
use tikv_jemallocator::Jemalloc;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Rows of a large unit are small and many, and come and go among those that stay: this allocator has no header on each,
/// and gives back what a first apply needed. The C library's keeps a third more of 20,000 objects.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Keeps this cluster as the Flotilla hub says, with or without the hub.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// The hub, as https://host:port; several are tried in turn
    #[arg(long = "hub", env = "FLOTILLA_HUB", value_delimiter = ',', value_parser = endpoint)]
    hub: Vec<String>,

    /// Pin of the hub's root, as sha256:<hex>; several while the root is being changed
    #[arg(long = "pin", env = "FLOTILLA_PINS", value_delimiter = ',')]
    pins: Vec<Pin>,

    /// Trust domain of the hub
    #[arg(long, env = "FLOTILLA_TRUST_DOMAIN", default_value = "")]
    trust_domain: String,

    /// File with the join token; read when the agent joins, so that it may come later
    #[arg(long, env = "FLOTILLA_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// The join token itself, where a file cannot be given
    #[arg(long, env = "FLOTILLA_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Kubeconfig of the cluster; without, the pod's ServiceAccount
    #[arg(long, global = true, env = "FLOTILLA_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,

    /// The agent's own namespace, where it keeps its state
    #[arg(long, global = true, env = "POD_NAMESPACE", default_value = "flotilla-system")]
    namespace: String,

    /// Watch only these namespaces, for an agent that may not read the whole cluster
    #[arg(long, env = "FLOTILLA_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,

    /// ServiceAccount, in the namespace of each app, as which apps act that name none; without, as the agent
    #[arg(long, env = "FLOTILLA_DEFAULT_SERVICE_ACCOUNT", default_value = "")]
    default_service_account: String,

    /// Keep state in this directory instead of Secrets
    #[arg(long, global = true, env = "FLOTILLA_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Serve /healthz, /readyz and /metrics here, e.g. 0.0.0.0:8081
    #[arg(long, env = "FLOTILLA_HEALTH_ADDRESS")]
    health_address: Option<SocketAddr>,

    /// What to log: error, warn, info, debug, or a filter by module
    #[arg(long, global = true, env = "FLOTILLA_LOG", default_value = "info")]
    log: String,

    /// Log for people instead of as JSON
    #[arg(long, global = true, env = "FLOTILLA_LOG_TEXT")]
    log_text: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Works on the agent's state. Stop the agent first
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Moves the state, identity included, to another form of storage, from where --state-dir or its absence says it
    /// is. Repeat it when it was broken off; done before, it does nothing
    Move {
        /// `secrets`, or the absolute path of a directory
        #[arg(long, value_parser = destination)]
        to: Destination,
    },
}

/// The exit code of one that failed, or that was not let end in order.
const FAILED: i32 = 1;
/// How long the end waits for what other threads are about.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(e) = log(&arguments) {
        eprintln!("flotilla-agent: {e:#}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            tracing::error!("runtime cannot be made: {e}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(arguments));
    // A thread that waits for a hung disk, or for a name to be found, holds nothing up: what is stored is stored whole.
    runtime.shutdown_timeout(LEFT_BEHIND);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{}", with_causes(e.as_ref()));
            match e.downcast_ref::<AgentError>() {
                Some(AgentError::Duel) => ExitCode::from(3),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn log(arguments: &Arguments) -> anyhow::Result<()> {
    // What connections are made of says nothing of the agent: who wants it names the module.
    let quiet = "h2=warn,hyper=warn,hyper_util=warn,tower=warn,rustls=warn";
    let filter = EnvFilter::try_new(format!("{quiet},{}", arguments.log))
        .map_err(|e| anyhow::anyhow!("--log {:?}: {e}", arguments.log))?
        // kube logs bodies that it cannot read, and a body may be a Secret.
        .add_directive("kube_client=off".parse()?);
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A file is no place for colours.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if arguments.log_text {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).init();
    }
    Ok(())
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // One provider for the whole process; a second installation is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Before the first request: an API server that does not answer is no reason not to stop.
    let stop = stop_on_signals();
    if let Some(Command::Ledger(LedgerCommand::Move { to })) = &arguments.command {
        return tokio::select! {
            biased;
            moved = move_to(&arguments, to) => moved,
            () = stop.cancelled() => {
                anyhow::bail!("stopped before the ledger was moved: repeat the move, which goes on where it was broken off")
            }
        };
    }
    let begun = async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let state = state(&arguments, &client).await?;
        let cluster = KubeCluster::connect(arguments.kubeconfig.as_deref()).await?;
        anyhow::Ok((state, cluster))
    };
    let (state, cluster) = tokio::select! {
        biased;
        begun = begun => begun?,
        () = stop.cancelled() => {
            tracing::info!("stopped");
            return Ok(());
        }
    };
    let token = match (&arguments.token_file, arguments.token.clone()) {
        (Some(path), _) => JoinToken::File(path.clone()),
        (None, Some(token)) => JoinToken::Value(token),
        (None, None) => JoinToken::None,
    };
    let hub = (!arguments.hub.is_empty()).then(|| HubAddress {
        endpoints: arguments.hub.clone(),
        pins: arguments.pins.clone(),
        trust_domain: arguments.trust_domain.clone(),
    });
    if hub.is_some() && (arguments.pins.is_empty() || arguments.trust_domain.is_empty()) {
        anyhow::bail!("a hub needs --pin and --trust-domain: nothing is trusted on first use");
    }
    if hub.is_none() && (!arguments.pins.is_empty() || !arguments.trust_domain.is_empty()) {
        anyhow::bail!("--pin and --trust-domain say which hub is trusted, and --hub names none");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    if hub.is_none() {
        tracing::warn!("no hub is given (--hub): what is held is enforced, and nothing new comes");
    }
    agent::run(
        Parts {
            key_value: state.key_value,
            cluster: Arc::new(cluster),
            namespace: arguments.namespace,
            // An empty variable is no namespace.
            namespaces: arguments
                .namespaces
                .into_iter()
                .filter(|name| !name.is_empty())
                .collect(),
            default_service_account: arguments.default_service_account,
            hub,
            token,
            health: arguments.health_address,
        },
        stop,
    )
    .await?;
    tracing::info!("stopped");
    Ok(())
}

/// The word for Secrets where a directory could be named.
const SECRETS: &str = "secrets";

/// Where state is moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    Secrets,
    Directory(PathBuf),
}

/// Reads where state is moved to. A relative path is more likely a mistyped word.
fn destination(text: &str) -> Result<Destination, String> {
    match text {
        SECRETS => Ok(Destination::Secrets),
        path if Path::new(path).is_absolute() => Ok(Destination::Directory(path.into())),
        _ => Err(format!("it is neither `{SECRETS}` nor an absolute path")),
    }
}

/// State in a directory.
fn in_directory(path: &Path, directory: Directory) -> anyhow::Result<Place> {
    Ok(Place {
        key_value: Arc::new(directory),
        // An agent that is started in another directory is to understand it.
        name: format!("directory {}", std::path::absolute(path)?.display()),
    })
}

/// Opens a directory beside the thread that hears signals: its disk may hang.
async fn opened<E: Into<anyhow::Error> + Send + 'static>(
    path: &Path,
    open: fn(&Path) -> Result<Directory, E>,
) -> anyhow::Result<Directory> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || open(&path)).await?;
    opened.map_err(Into::into)
}

/// State in Secrets of the agent's namespace.
fn in_secrets(arguments: &Arguments, client: &kube::Client) -> Place {
    Place {
        key_value: Arc::new(Secrets::new(client.clone(), &arguments.namespace)),
        name: format!("Secrets of namespace {}", arguments.namespace),
    }
}

/// Where the state of the agent is that is to start. In an empty directory it does not begin anew while there is state
/// in Secrets: it would join with a used token, and forget what it has applied.
async fn state(arguments: &Arguments, client: &kube::Client) -> anyhow::Result<Place> {
    let secrets = in_secrets(arguments, client);
    let Some(path) = &arguments.state_dir else {
        return Ok(secrets);
    };
    let here = in_directory(path, opened(path, Directory::open).await?)?;
    match left_behind(&here, &secrets, agent::LEDGER, agent::IDENTITY).await {
        Ok(Some(LeftBehind::There)) => anyhow::bail!(
            "the {} is empty, and there is state of this agent in {}; move it with `flotilla-agent ledger move --to {}`",
            here.name,
            secrets.name,
            std::path::absolute(path)?.display()
        ),
        Ok(Some(LeftBehind::MovedTo(place))) => anyhow::bail!(
            "the {} is empty, and the state of this agent was moved to {place}: start it on that with --state-dir \
             (or the volume that it is in)",
            here.name
        ),
        Ok(None) => Ok(here),
        // Who may not read Secrets has never kept state there.
        Err(e) if e.is_refused() => Ok(here),
        Err(e) => Err(e.into()),
    }
}

async fn move_to(arguments: &Arguments, to: &Destination) -> anyhow::Result<()> {
    let client = client(arguments.kubeconfig.as_deref()).await?;
    let from = match &arguments.state_dir {
        // One that is missing is mistyped, and not to be made.
        Some(path) => in_directory(path, opened(path, Directory::open_existing).await?)?,
        None => in_secrets(arguments, &client),
    };
    let to = match to {
        Destination::Secrets => in_secrets(arguments, &client),
        Destination::Directory(path) => in_directory(path, opened(path, Directory::open).await?)?,
    };
    move_ledger(&from, &to).await
}

async fn move_ledger(from: &Place, to: &Place) -> anyhow::Result<()> {
    match transfer(from, to, agent::LEDGER, agent::IDENTITY).await? {
        Moved::Now => tracing::info!("the ledger was moved from {} to {}", from.name, to.name),
        Moved::Before => tracing::info!("the ledger is in {} already", to.name),
        Moved::Lost => tracing::warn!(
            "the state was moved to {} before and is not there: if it is lost, the cluster joins again with a new token \
             (`flotilla cluster revoke`, then `flotilla cluster token`)",
            to.name
        ),
        Moved::Nothing => tracing::info!("there is no ledger in {}: nothing to move", from.name),
    }
    Ok(())
}

/// Reads an endpoint of the hub.
fn endpoint(text: &str) -> Result<String, ConnectError> {
    check_endpoint(text).map(|()| text.to_owned())
}

/// Returns what a signal to stop cancels, from now on.
fn stop_on_signals() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    // Where they cannot be heard, a signal ends the process as it does any other.
    if let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            next().await;
            stop.cancel();
            // What is stored is stored whole, whenever the process ends.
            next().await;
            tracing::warn!("told to stop again: nothing more is waited for");
            std::process::exit(FAILED);
        });
    }
    stop
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn an_endpoint_without_tls_is_wrong_usage() {
        for endpoint in ["http://hub.example:7443", "hub.example:7443"] {
            let both = format!("https://hub.example,{endpoint}");
            let error = Arguments::try_parse_from(["flotilla-agent", "--hub", &both]).expect_err(endpoint);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(endpoint), "{error}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let line = "flotilla-agent ledger move --to secrets --state-dir /state";
        let arguments = Arguments::parse_from(line.split(' '));
        assert_eq!(arguments.state_dir, Some(PathBuf::from("/state")));
        let Some(Command::Ledger(LedgerCommand::Move { to })) = arguments.command else {
            panic!("no command");
        };
        assert_eq!(to, Destination::Secrets);
        let line = "flotilla-agent ledger move --to /state";
        let arguments = Arguments::parse_from(line.split(' '));
        let Some(Command::Ledger(LedgerCommand::Move { to })) = arguments.command else {
            panic!("no command");
        };
        assert_eq!(to, Destination::Directory(PathBuf::from("/state")));
    }

    #[test]
    fn a_destination_that_is_neither_secrets_nor_an_absolute_path_is_wrong_usage() {
        for to in ["Secret", "secret", "state", "./state", ""] {
            let line = ["flotilla-agent", "ledger", "move", "--to", to];
            let error = Arguments::try_parse_from(line).expect_err(to);
            assert_eq!(error.exit_code(), 2, "{to}");
        }
    }
}
