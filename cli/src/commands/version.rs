//! `flotilla version`: what this command and the hub are.

use flotilla_proto::fleet::v1::GetVersionRequest;
use serde_json::json;

use crate::client::connect;
use crate::error::CommandError;
use crate::output::{Format, structured};
use crate::{Global, Host};

/// Show the versions of this command and of the hub
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Only this command's version; asks no hub
    #[arg(long)]
    client: bool,
    /// How to show them
    #[arg(long, short, default_value = "table")]
    output: Format,
}

pub(crate) async fn cmd_version(
    args: &VersionArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut versions = vec![("flotilla", format!("v{}", env!("CARGO_PKG_VERSION")))];
    if !args.client {
        let mut fleet = connect(global, host).await?;
        let hub = fleet.get_version(GetVersionRequest {}).await?.into_inner();
        versions.extend([
            ("hub", hub.version),
            ("engine", hub.engine),
            ("postgres", hub.postgres),
        ]);
    }
    if matches!(args.output, Format::Json | Format::Yaml) {
        let value = versions
            .into_iter()
            .map(|(name, version)| (name.to_owned(), json!(version)))
            .collect();
        return structured(&mut host.ui, args.output, &serde_json::Value::Object(value));
    }
    for (name, version) in versions.iter().filter(|(_, version)| !version.is_empty()) {
        host.ui.line(&format!("{name}: {version}"));
    }
    Ok(())
}
