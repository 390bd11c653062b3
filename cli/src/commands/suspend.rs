//! `flotilla suspend` and `flotilla resume`: leaves an object alone, and takes it up again.

use flotilla_proto::fleet::v1::SuspendRequest;

use super::Target;
use crate::client::connect;
use crate::error::CommandError;
use crate::{Global, Host, follow};

/// Leave an object alone: nothing is fetched or applied, drift is not corrected, nothing is removed
#[derive(Debug, clap::Args)]
pub(crate) struct SuspendArgs {
    #[command(subcommand)]
    target: Target,
    /// The object in the scope of this cluster
    #[arg(long, global = true, value_name = "NAME")]
    cluster: Option<String>,
}

/// Take a suspended object up again, and wait until it is reconciled
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    #[command(subcommand)]
    target: Target,
    /// The object in the scope of this cluster
    #[arg(long, global = true, value_name = "NAME")]
    cluster: Option<String>,
}

pub(crate) async fn cmd_suspend(
    args: &SuspendArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let reference = args.target.reference(&global.namespace, args.cluster.as_deref());
    let kind = args.target.kind();
    host.ui.action(&format!(
        "suspending {kind} {} in {} namespace",
        reference.name, reference.namespace
    ));
    let request = SuspendRequest {
        resource: Some(reference),
        suspend: true,
    };
    let changed = fleet.suspend(request).await?.into_inner().changed;
    host.ui.success(&format!(
        "{kind} {}",
        if changed {
            "suspended"
        } else {
            "was suspended before"
        }
    ));
    Ok(())
}

pub(crate) async fn cmd_resume(
    args: &ResumeArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let reference = args.target.reference(&global.namespace, args.cluster.as_deref());
    let kind = args.target.kind();
    host.ui.action(&format!(
        "resuming {kind} {} in {} namespace",
        reference.name, reference.namespace
    ));
    let request = SuspendRequest {
        resource: Some(reference.clone()),
        suspend: false,
    };
    let changed = fleet.suspend(request).await?.into_inner().changed;
    host.ui.success(&format!(
        "{kind} {}",
        if changed { "resumed" } else { "was not suspended" }
    ));
    let revision = follow::reconcile(&mut fleet, &reference, false, global, host).await?;
    host.ui
        .success(&format!("{kind} {} reconciliation completed", reference.name));
    host.ui.success(&format!("{} {revision}", follow::verb(kind)));
    Ok(())
}
