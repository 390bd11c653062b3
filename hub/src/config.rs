//! The hub's configuration: flags and environment, checked at start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use flotilla_api::text::GoDuration;
use flotilla_core::{
    egress::Rule,
    nest::{
        self,
        account::{Account, Trust},
    },
    removal::closure,
};

use crate::artifact::Shared;

/// The Flotilla hub.
#[derive(Debug, Parser)]
#[command(
    name = "flotilla-hub",
    version,
    about = "The Flotilla hub: watches sources, renders, plans, and streams desired state to agents"
)]
pub struct Cli {
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the hub.
    Serve(Box<Serve>),
    /// Brings the database's schema up to date and exits.
    Migrate(Database),
    /// Writes a backup of the hub into a new directory, also while it serves.
    Backup(Backup),
    /// Makes the hub of a backup, in an empty database and with a new incarnation, by which agents know that they may take
    /// what it says.
    Restore(Restore),
    /// Administers a hub on this machine.
    Admin {
        #[command(subcommand)]
        /// What to administer.
        command: Admin,
    },
    /// Confines itself and runs a program: how renderers are started.
    #[command(hide = true)]
    SandboxExec {
        /// Policy, program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// Administration.
#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Replaces the administrator's credential and rewrites `admin.yaml` in the data directory.
    Reset(Box<Serve>),
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub struct Database {
    /// Directory of the hub's files: key-encryption key, artifacts, repositories, private Postgres.
    #[arg(long, env = "FLOTILLA_DATA_DIR", default_value = "/var/lib/flotilla-hub", value_parser = absolute)]
    pub data_dir: PathBuf,
    /// Postgres to use; without it the hub runs a private one in its data directory.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Connections to Postgres, beside one that listens.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=200))]
    pub database_connections: u32,
}

/// What to back up, and where to.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    #[command(flatten)]
    /// Where the data is.
    pub database: Database,
    /// File of the key-encryption key; in the data directory when not given.
    #[arg(long, env = "FLOTILLA_KEK_FILE")]
    pub kek_file: Option<PathBuf>,
    /// Where artifacts are kept, as the hub has it.
    #[arg(long, env = "FLOTILLA_ARTIFACT_STORE")]
    pub artifact_store: Option<Shared>,
    /// Copy the artifacts too. Without them they are fetched again from their sources.
    #[arg(long)]
    pub artifacts: bool,
    /// The directory to make.
    #[arg(value_parser = absolute)]
    pub dir: PathBuf,
}

/// What to restore, and over what.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    #[command(flatten)]
    /// Where the data goes.
    pub database: Database,
    /// File of the key-encryption key; in the data directory when not given.
    #[arg(long, env = "FLOTILLA_KEK_FILE")]
    pub kek_file: Option<PathBuf>,
    /// Where artifacts are to be kept, as the hub will have it.
    #[arg(long, env = "FLOTILLA_ARTIFACT_STORE")]
    pub artifact_store: Option<Shared>,
    /// Remove the hub that is in the database first.
    #[arg(long, conflicts_with = "in_place")]
    pub replace: bool,
    /// The database was put back by other means, as by pg_restore: give the hub in it its new incarnation, and nothing else.
    #[arg(long, conflicts_with = "dir")]
    pub in_place: bool,
    /// The directory that `backup` has made.
    #[arg(value_parser = absolute, required_unless_present = "in_place")]
    pub dir: Option<PathBuf>,
}

/// How to serve.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    #[command(flatten)]
    /// Where the data is.
    pub database: Database,
    /// Address of the gRPC port, for agents, CLI and page.
    #[arg(long, env = "FLOTILLA_LISTEN", default_value = "0.0.0.0:7443")]
    pub listen: SocketAddr,
    /// Address of the plain HTTP port for webhooks. Put a TLS proxy before it.
    #[arg(long, env = "FLOTILLA_HTTP_LISTEN", default_value = "127.0.0.1:7080")]
    pub http_listen: SocketAddr,
    /// Address of `/healthz`, `/readyz` and `/metrics`, over plain HTTP: for probes and monitoring alone.
    #[arg(long, env = "FLOTILLA_HEALTH_LISTEN", default_value = "127.0.0.1:7081")]
    pub health_listen: SocketAddr,
    /// How agents and CLI reach the gRPC port, e.g. `https://hub.example.org:7443`.
    #[arg(long, env = "FLOTILLA_ENDPOINT", value_parser = endpoint)]
    pub endpoint: Option<String>,
    /// Names and addresses for the server certificate, besides the endpoint's.
    #[arg(long = "server-name", env = "FLOTILLA_SERVER_NAMES", value_delimiter = ',')]
    pub server_names: Vec<String>,
    /// Trust domain of identities; fixed at the first start, random when not given.
    #[arg(long, env = "FLOTILLA_TRUST_DOMAIN")]
    pub trust_domain: Option<String>,
    /// Lifetime of the agents' certificates, between 1m and 720h; agents renew them at two thirds of it.
    #[arg(long, env = "FLOTILLA_AGENT_CERTIFICATE_LIFETIME", default_value = "24h", value_parser = lifetime)]
    pub agent_certificate_lifetime: time::Duration,
    /// Attempts to enrol that are answered each second, with a burst of ten seconds' worth; a tenth from one address.
    /// Those that succeed do not count.
    #[arg(long, env = "FLOTILLA_ENROLMENT_ATTEMPTS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub enrolment_attempts: u32,
    /// Days for which it is kept what units were and whether they were ready; 0 for no limit.
    #[arg(long, env = "FLOTILLA_HISTORY_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub history_days: u32,
    /// Apps that may render one another, from a root on.
    #[arg(long, env = "FLOTILLA_NESTED_DEPTH", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub nested_depth: u8,
    /// Objects of Flux's kinds that the hub keeps for one app in one cluster.
    #[arg(long, env = "FLOTILLA_NESTED_OBJECTS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub nested_objects: u32,
    /// ServiceAccounts, as NAMESPACE/NAME, whose apps have all rights in their clusters: what they render is kept as what apps
    /// without `serviceAccountName` do. Flux's is flux-system/kustomize-controller.
    #[arg(long, env = "FLOTILLA_NESTED_TRUSTED_ACCOUNTS", value_delimiter = ',')]
    pub nested_trusted_accounts: Vec<Account>,
    /// Nothing that apps render may read a source of another namespace, as Flux's controllers have it by the same name.
    #[arg(long, env = "FLOTILLA_NO_CROSS_NAMESPACE_REFS")]
    pub no_cross_namespace_refs: bool,
    /// Objects that changes of one source may delete within an hour, whatever share of the fleet they are. More of them need
    /// `flotilla approve` where one of the next three is exceeded.
    #[arg(long, env = "FLOTILLA_REMOVAL_OBJECTS", default_value_t = closure::Limits::DEFAULT.objects)]
    pub removal_objects: u64,
    /// Percent of the objects of a cluster.
    #[arg(long, env = "FLOTILLA_REMOVAL_OF_CLUSTER", default_value_t = closure::Limits::DEFAULT.of_cluster, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub removal_of_cluster: u8,
    /// Percent of the objects of the fleet.
    #[arg(long, env = "FLOTILLA_REMOVAL_OF_FLEET", default_value_t = closure::Limits::DEFAULT.of_fleet, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub removal_of_fleet: u8,
    /// Apps that lose objects; 0 for any number.
    #[arg(long, env = "FLOTILLA_REMOVAL_APPS", default_value_t = closure::Limits::DEFAULT.apps)]
    pub removal_apps: u64,
    /// File of the key-encryption key; made in the data directory when not given.
    #[arg(long, env = "FLOTILLA_KEK_FILE")]
    pub kek_file: Option<PathBuf>,
    /// Where artifacts are kept, for several hubs on one database: the full path of a directory that they share, or
    /// `s3://BUCKET/PREFIX`, with the usual `AWS_…` variables of the environment. Default: in the data directory, for one
    /// hub.
    #[arg(long, env = "FLOTILLA_ARTIFACT_STORE")]
    pub artifact_store: Option<Shared>,
    /// Addresses, networks and hosts (`*.example.org`) that sources may be fetched from although they are denied. Link-local
    /// addresses and those of clouds' metadata are reached only where they are named here, by address.
    #[arg(long, env = "FLOTILLA_EGRESS_ALLOW", value_delimiter = ',')]
    pub egress_allow: Vec<Rule>,
    /// Addresses, networks and hosts that no source is fetched from; `0.0.0.0/0,::/0` for all that are not allowed.
    #[arg(long, env = "FLOTILLA_EGRESS_DENY", value_delimiter = ',')]
    pub egress_deny: Vec<Rule>,
    /// The `kustomize` program (v5.8.1), for apps annotated `fleet.flotilla.dev/renderer: reference`.
    #[arg(long, env = "FLOTILLA_KUSTOMIZE", default_value = "kustomize")]
    pub kustomize: PathBuf,
    /// Run renderers although they cannot be confined. Only for trusted sources.
    #[arg(long, env = "FLOTILLA_INSECURE_RENDERER")]
    pub insecure_renderer: bool,
    /// Workers of each queue; default: twice the processors.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Write as a hub of this version, which names its engine otherwise and writes another form of entries: to try a rolling
    /// upgrade with one program.
    #[arg(long, hide = true)]
    pub writer_version: Option<i64>,
    /// Export traces over OTLP (gRPC) to this collector, e.g. `http://otel-collector:4317`.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// `text` or `json`.
    #[arg(long, env = "FLOTILLA_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

impl Database {
    /// The file of the key-encryption key, where none is named.
    pub fn kek_file(&self, named: Option<&PathBuf>) -> PathBuf {
        named.cloned().unwrap_or_else(|| self.data_dir.join("kek"))
    }
}

/// A directory, as it is from here: Postgres' programs run elsewhere.
fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// Takes what agents and the CLI take: `https://host[:port]`.
fn endpoint(text: &str) -> Result<String, String> {
    let is_usable = text.parse::<http::Uri>().is_ok_and(|uri| {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        uri.scheme_str() == Some("https")
            && uri.host().is_some_and(|host| !host.is_empty())
            && !authority.contains('@')
            && uri.path() == "/"
            && uri.query().is_none()
    });
    match is_usable {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("expected https://host[:port]".to_owned()),
    }
}

/// Reads a certificate's lifetime and holds it to its bounds.
fn lifetime(text: &str) -> Result<time::Duration, String> {
    let given = GoDuration::new(text).map_err(|error| error.message)?.get();
    let bounds = Duration::from_secs(60)..=Duration::from_secs(720 * 3600);
    if !bounds.contains(&given) {
        return Err("expected between 1m and 720h".to_owned());
    }
    time::Duration::try_from(given).map_err(|error| error.to_string())
}

impl Serve {
    /// How agents and CLI reach the gRPC port.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| {
            let host = match self.listen.ip() {
                ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
                ip => ip.to_string(),
            };
            format!("https://{host}:{}", self.listen.port())
        })
    }

    /// How far apps are trusted that render what is kept.
    pub fn trust(&self) -> Trust {
        Trust {
            accounts: self.nested_trusted_accounts.iter().cloned().collect(),
            only_own_namespace: self.no_cross_namespace_refs,
        }
    }

    /// Bounds of what is kept for an app that renders it.
    pub fn nested(&self) -> nest::Limits {
        nest::Limits {
            depth: self.nested_depth.into(),
            objects: usize::try_from(self.nested_objects).unwrap_or(usize::MAX),
        }
    }

    /// For how long history is kept; `None`: without limit.
    pub fn history(&self) -> Option<Duration> {
        let days = u64::from(self.history_days);
        (days > 0).then(|| Duration::from_secs(days * 24 * 3600))
    }

    /// How much may be deleted by changes of one source without a person.
    pub fn removals(&self) -> closure::Limits {
        closure::Limits {
            objects: self.removal_objects,
            of_cluster: self.removal_of_cluster,
            of_fleet: self.removal_of_fleet,
            apps: self.removal_apps,
        }
    }

    /// Names for the server certificate.
    pub fn names(&self) -> Vec<String> {
        let endpoint = self.endpoint();
        let host = endpoint.split("://").nth(1).unwrap_or_default();
        let host = host.split('/').next().unwrap_or_default();
        let host = host
            .rsplit_once(':')
            .map_or(host, |(host, _)| host)
            .trim_matches(['[', ']']);
        let mut names = vec![host.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend(self.server_names.clone());
        names.sort_unstable();
        names.dedup();
        names.retain(|name| !name.is_empty());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> Serve {
        let cli = Cli::parse_from(["flotilla-hub", "serve"].iter().chain(args));
        match cli.command {
            Command::Serve(serve) => *serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_relative_data_directory_is_taken_from_here_and_an_endpoint_is_https() {
        let serve = serve(&[
            "--data-dir",
            "data",
            "--endpoint",
            "https://hub.example.org:7443/",
        ]);
        let here = std::env::current_dir().expect("a directory");
        assert_eq!(serve.database.data_dir, here.join("data"));
        assert_eq!(serve.endpoint(), "https://hub.example.org:7443");
        for unusable in [
            "hub.example.org:7443",
            "http://hub.example.org",
            "https://hub.example.org/path",
            "",
        ] {
            let args = ["flotilla-hub", "serve", "--endpoint", unusable];
            let refused = Cli::try_parse_from(args).expect_err(unusable).to_string();
            assert!(
                refused.contains("https://host[:port]") || unusable.is_empty(),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_certificates_lifetime_is_a_day_and_bounded() {
        assert_eq!(serve(&[]).agent_certificate_lifetime, time::Duration::DAY);
        let lifetime = |text| {
            let args = ["flotilla-hub", "serve", "--agent-certificate-lifetime", text];
            Cli::try_parse_from(args)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(lifetime("1m30s"), Ok(()));
        for text in ["59s", "721h", "a day", ""] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_kept_for_an_app_is_bounded_as_it_is_unless_told_otherwise() {
        assert_eq!(serve(&[]).nested(), nest::Limits::default());
        let trusting = serve(&["--nested-trusted-accounts", "a/b,c/d"]).trust();
        assert_eq!(trusting.confines("c", "d"), None);
        assert!(trusting.confines("a", "d").is_some() && !trusting.only_own_namespace);
        let told = serve(&["--nested-depth", "2", "--nested-objects", "7"]).nested();
        assert_eq!((told.depth, told.objects), (2, 7));
    }

    #[test]
    fn history_is_kept_for_ninety_days_unless_told_otherwise_and_without_limit_when_asked() {
        assert_eq!(serve(&[]).history(), Some(Duration::from_secs(90 * 86_400)));
        let year = serve(&["--history-days", "365"]).history();
        assert_eq!(year, Some(Duration::from_secs(365 * 86_400)));
        assert_eq!(serve(&["--history-days", "0"]).history(), None);
    }

    #[test]
    fn the_endpoint_and_its_name_follow_the_listener_unless_given() {
        let local = serve(&["--listen", "0.0.0.0:9000"]);
        assert_eq!(local.endpoint(), "https://127.0.0.1:9000");
        let named = serve(&[
            "--endpoint",
            "https://hub.example.org:7443",
            "--server-name",
            "a,b",
        ]);
        assert_eq!(
            named.names(),
            ["127.0.0.1", "a", "b", "hub.example.org", "localhost"]
        );
    }
}
