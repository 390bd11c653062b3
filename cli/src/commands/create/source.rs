//! Sources of flags.

use serde_json::{Map, Value, json};

use super::{Common, named, set};
use crate::error::CommandError;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Source {
    /// Make a GitRepository
    Git(Box<GitArgs>),
}

#[derive(Debug, clap::Args)]
pub(super) struct GitArgs {
    #[command(flatten)]
    common: Common,
    /// Where the repository is: http, https or ssh
    #[arg(long)]
    url: String,
    /// Branch to follow
    #[arg(long)]
    branch: Option<String>,
    /// Tag to follow
    #[arg(long)]
    tag: Option<String>,
    /// Range of versions; the newest tag in it is followed
    #[arg(long, value_name = "RANGE")]
    tag_semver: Option<String>,
    /// Full name to follow, such as refs/pull/420/head
    #[arg(long)]
    ref_name: Option<String>,
    /// Commit to stay at
    #[arg(long)]
    commit: Option<String>,
    /// How often to look
    #[arg(long, default_value = "1m", value_name = "DURATION")]
    interval: String,
    /// Secret with credentials
    #[arg(long, value_name = "SECRET")]
    secret_ref: Option<String>,
    /// Secret with a proxy's address
    #[arg(long, value_name = "SECRET")]
    proxy_secret_ref: Option<String>,
    /// How to authenticate: generic, github, azure or aws
    #[arg(long)]
    provider: Option<String>,
    /// Fetch submodules
    #[arg(long)]
    recurse_submodules: bool,
    /// Paths to leave out, in gitignore form
    #[arg(long, value_delimiter = ',', value_name = "PATTERNS")]
    ignore_paths: Vec<String>,
    /// Directories to take; all without it
    #[arg(long, value_delimiter = ',', value_name = "PATHS")]
    sparse_checkout_paths: Vec<String>,
}

impl Source {
    /// The object without its metadata.
    pub(super) fn object(&self) -> Result<(&Common, Map<String, Value>), CommandError> {
        let Self::Git(args) = self;
        let mut reference = Map::new();
        set(&mut reference, "branch", args.branch.clone());
        set(&mut reference, "tag", args.tag.clone());
        set(&mut reference, "semver", args.tag_semver.clone());
        set(&mut reference, "name", args.ref_name.clone());
        set(&mut reference, "commit", args.commit.clone());
        let mut spec = Map::new();
        set(&mut spec, "url", Some(args.url.clone()));
        set(&mut spec, "interval", Some(args.interval.clone()));
        set(&mut spec, "ref", (!reference.is_empty()).then_some(reference));
        set(&mut spec, "secretRef", named(args.secret_ref.as_deref()));
        set(
            &mut spec,
            "proxySecretRef",
            named(args.proxy_secret_ref.as_deref()),
        );
        set(&mut spec, "provider", args.provider.clone());
        set(
            &mut spec,
            "recurseSubmodules",
            args.recurse_submodules.then_some(true),
        );
        let ignore = (!args.ignore_paths.is_empty()).then(|| args.ignore_paths.join("\n"));
        set(&mut spec, "ignore", ignore);
        let sparse = (!args.sparse_checkout_paths.is_empty()).then(|| args.sparse_checkout_paths.clone());
        set(&mut spec, "sparseCheckout", sparse);
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), json!("source.toolkit.fluxcd.io/v1"));
        object.insert("kind".to_owned(), json!("GitRepository"));
        object.insert("spec".to_owned(), Value::Object(spec));
        Ok((&args.common, object))
    }
}
