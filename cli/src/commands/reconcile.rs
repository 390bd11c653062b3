//! `flotilla reconcile`: asks for a reconciliation now and waits for its result.

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::ReconcileRequest;

use super::Target;
use crate::client::connect;
use crate::error::CommandError;
use crate::{Global, Host, wait};

/// Reconcile an object now and wait for the result
#[derive(Debug, clap::Args)]
pub(crate) struct ReconcileArgs {
    #[command(subcommand)]
    target: Target,
    /// Reconcile the app's source first
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
    if wait::find(&mut fleet, &reference).await?.suspended {
        return Err(CommandError::failed("resource is suspended").hint("resume it with flotilla resume"));
    }
    host.ui.action(&format!(
        "annotating {kind} {} in {} namespace",
        reference.name, reference.namespace
    ));
    let request = ReconcileRequest {
        resource: Some(reference.clone()),
        with_source: args.with_source,
    };
    let id = fleet.reconcile(request).await?.into_inner().request_id;
    host.ui.success(&format!("{kind} annotated"));
    let resource = wait::until_handled(&mut fleet, &reference, &id, global.timeout, host).await?;
    host.ui.success(&format!("{} {}", verb(kind), resource.revision));
    Ok(())
}

/// What Flux says of a revision: sources fetch it, apps apply it.
pub(super) fn verb(kind: Kind) -> &'static str {
    if kind.is_app() {
        "applied revision"
    } else {
        "fetched revision"
    }
}
