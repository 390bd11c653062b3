//! `flotilla reconcile`: asks for a reconciliation now and waits for its result.

use super::Target;
use crate::client::connect;
use crate::error::CommandError;
use crate::{Global, Host, follow};

/// Reconcile an object now and wait for the result
///
/// Succeeds once every cluster has applied what was asked for. With clusters that are offline, with nothing to apply or
/// nowhere to apply it, and with what this release does not reconcile, it ends with exit code 1 and says which.
#[derive(Debug, clap::Args)]
pub(crate) struct ReconcileArgs {
    #[command(subcommand)]
    target: Target,
    /// Reconcile the app's source first, and the app at what was fetched
    #[arg(long, global = true)]
    with_source: bool,
    /// The object in the scope of this cluster
    #[arg(long, global = true, value_name = "NAME")]
    cluster: Option<String>,
}

pub(crate) async fn cmd_reconcile(
    args: &ReconcileArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let kind = args.target.kind();
    if args.with_source && !kind.is_app() {
        return Err(CommandError::usage("--with-source is only taken for apps"));
    }
    let mut fleet = connect(global, host).await?;
    let reference = args.target.reference(&global.namespace, args.cluster.as_deref());
    host.ui.action(&format!(
        "reconciling {kind} {} in {} namespace",
        reference.name, reference.namespace
    ));
    let revision = follow::reconcile(&mut fleet, &reference, args.with_source, global, host).await?;
    host.ui.success(&format!("{} {revision}", follow::verb(kind)));
    Ok(())
}
