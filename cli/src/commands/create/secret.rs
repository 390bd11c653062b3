//! Secrets of flags and files, with the keys that Flux takes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Common;
use crate::error::CommandError;

/// Bytes of a file that goes into a Secret.
const MAX_FILE: u64 = 256 << 10;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Secret {
    /// Make a Secret for a Git server, over HTTPS or SSH by its URL
    Git(Box<GitArgs>),
}

#[derive(Debug, clap::Args)]
pub(super) struct GitArgs {
    #[command(flatten)]
    common: Common,
    /// Where the repository is: what the Secret needs depends on its scheme
    #[arg(long)]
    url: String,
    /// User name
    #[arg(long, short)]
    username: Option<String>,
    /// Password or token; of an SSH key its passphrase
    #[arg(long, short)]
    password: Option<String>,
    /// Token that is shown as a bearer
    #[arg(long)]
    bearer_token: Option<String>,
    /// File of a CA to trust
    #[arg(long, value_name = "FILE")]
    ca_crt_file: Option<PathBuf>,
    /// File of a client certificate
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    tls_crt_file: Option<PathBuf>,
    /// File of the client certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_crt_file")]
    tls_key_file: Option<PathBuf>,
    /// File of a private SSH key
    #[arg(long, value_name = "FILE")]
    private_key_file: Option<PathBuf>,
    /// File with the server's keys, as ssh-keyscan prints them; compare them with what its owner publishes
    #[arg(long, value_name = "FILE")]
    known_hosts_file: Option<PathBuf>,
}

impl Secret {
    /// The object without its metadata.
    pub(super) fn object(&self) -> Result<(&Common, Map<String, Value>), CommandError> {
        let Self::Git(args) = self;
        let mut data = Map::new();
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                data.insert(key.to_owned(), Value::String(value));
            }
        };
        if args.url.starts_with("ssh://") {
            let (Some(key), Some(hosts)) = (&args.private_key_file, &args.known_hosts_file) else {
                return Err(CommandError::usage("ssh needs --private-key-file and --known-hosts-file")
                    .hint("ssh-keyscan HOST prints what belongs into the latter; compare it with what the server's owner publishes"));
            };
            add("identity", Some(read(key)?));
            add("known_hosts", Some(read(hosts)?));
            add("password", args.password.clone());
        } else if args.url.starts_with("https://") || args.url.starts_with("http://") {
            let is_half = args.username.is_some() != args.password.is_some();
            if is_half {
                return Err(CommandError::usage(
                    "--username and --password are needed together",
                ));
            }
            add("username", args.username.clone());
            add("password", args.password.clone());
            add("bearerToken", args.bearer_token.clone());
            for (key, file) in [
                ("ca.crt", &args.ca_crt_file),
                ("tls.crt", &args.tls_crt_file),
                ("tls.key", &args.tls_key_file),
            ] {
                add(key, file.as_deref().map(read).transpose()?);
            }
        } else {
            return Err(CommandError::usage(
                "--url is to begin with https://, http:// or ssh://",
            ));
        }
        if data.is_empty() {
            return Err(CommandError::usage("nothing is given that a Secret could hold"));
        }
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), json!("v1"));
        object.insert("kind".to_owned(), json!("Secret"));
        object.insert("type".to_owned(), json!("Opaque"));
        object.insert("stringData".to_owned(), Value::Object(data));
        Ok((&args.common, object))
    }
}

fn read(path: &Path) -> Result<String, CommandError> {
    let failed = |why: String| CommandError::usage(format!("{}: {why}", path.display()));
    let size = fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > MAX_FILE {
        return Err(failed(format!("it is larger than {} KiB", MAX_FILE >> 10)));
    }
    fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}
