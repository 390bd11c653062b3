//! Deletes an object of which a field cannot be changed, so that it is made anew: see [`flotilla_core::apply::replace`], which
//! decides. That it is about to go is durable before: whoever begins again after a crash finds it deleted, and creates it, or
//! finds the very object that was to go.

use std::sync::Arc;

use flotilla_core::{
    apply::{
        failure::{self, Refusal as Refused},
        removal::Live,
        replace::{Refusal, Replacement, replacement},
    },
    object::ObjectKey,
    unit::event::Notice,
};

use super::{
    circuit_breaker::{CircuitBreaker, Stopped},
    context::UnitContext,
    evaluate::Object,
    preflight::served,
    records::{item, stored_record},
};
use crate::{
    causes::with_causes,
    cluster::{ClusterError, Deleted, Preconditions, Propagation},
    ledger::LedgerError,
};

/// What became of an object that cannot be changed.
pub(super) enum Replaced {
    /// It is gone: it is to be created.
    Gone,
    /// It is on its way; in words.
    Waits(String),
    /// It stays as it is; why, where it was asked to go.
    Stays(Option<String>),
    /// Whether it may go could not be found out.
    Stopped(Stopped),
    /// This agent is not the only one.
    Lost(LedgerError),
}

/// Tells whether a refusal is of a change that the server takes of no object of the kind.
pub(super) fn is_unchangeable(stopped: &Stopped) -> bool {
    match stopped {
        Stopped::Cluster(ClusterError::Rejected {
            code,
            reason,
            message,
        }) => failure::is_unchangeable(Refused {
            code: *code,
            reason,
            message,
        }),
        _ => false,
    }
}

/// Lets an object go that the server refuses to change, if it is to.
pub(super) async fn replace(
    unit: &UnitContext,
    breaker: &CircuitBreaker<'_>,
    object: &Object,
    key: &Arc<ObjectKey>,
) -> Replaced {
    let resource = match served(object) {
        Ok(resource) => resource,
        Err(error) => return Replaced::Stopped(error.into()),
    };
    let ObjectKey { namespace, name, .. } = &**key;
    let live = match breaker
        .call(key, unit.cluster.get(resource, namespace, name))
        .await
    {
        Ok(live) => live,
        Err(stopped) => return Replaced::Stopped(stopped),
    };
    let live = live.map(|live| Live::of(&live["metadata"]));
    let record = stored_record(unit, key);
    let decided = replacement(
        key,
        record.as_deref(),
        (&unit.unit.to_string(), unit.entry.settings.force),
        object.desired.policy,
        &unit.context.protected,
        live.as_ref(),
    );
    let (uid, resource_version) = match decided {
        Replacement::Create => return Replaced::Gone,
        Replacement::Deleting(blocker) => return Replaced::Waits(waits(key, &blocker.to_string())),
        Replacement::NotForced => return Replaced::Stays(None),
        Replacement::Refused(refusal) => return Replaced::Stays(Some(refused(refusal))),
        Replacement::Delete {
            uid,
            resource_version,
        } => (uid, resource_version),
    };
    // Another unit may be offered it by now.
    let Some(mut record) = record.filter(|_| unit.context.is_told_of_all()) else {
        return Replaced::Waits(format!(
            "{key} is made anew once the newest desired state is taken in"
        ));
    };
    if Arc::make_mut(&mut record).replace() {
        match unit.context.persist(vec![item(unit, key, record)]).await {
            Ok(()) => {}
            Err(error @ LedgerError::Lost) => return Replaced::Lost(error),
            Err(error) => {
                let why = with_causes(&error);
                return Replaced::Waits(format!("{key}: not deleted before the ledger has it: {why}"));
            }
        }
    }
    let preconditions = Preconditions {
        uid: uid.to_string(),
        resource_version,
    };
    let deleting = unit
        .cluster
        .delete(resource, namespace, name, &preconditions, Propagation::Background);
    let deleted = match breaker.call(key, deleting).await {
        Ok(deleted) => deleted,
        Err(stopped) => return Replaced::Stopped(stopped),
    };
    unit.context.tell(
        unit.unit,
        Notice {
            key: Some(key.clone()),
            warning: false,
            reason: "Recreated".to_owned(),
            message: format!("{key} is deleted and made anew, since a field of it cannot be changed"),
        },
    );
    match deleted {
        Deleted::Gone => Replaced::Gone,
        Deleted::Waits(live) => {
            let blocker = flotilla_core::apply::removal::Blocker(Live::of(&live["metadata"]).finalizers);
            Replaced::Waits(waits(key, &blocker.to_string()))
        }
    }
}

fn waits(key: &ObjectKey, blocker: &str) -> String {
    format!("{key} is made anew once it is gone: {blocker}")
}

fn refused(refusal: Refusal) -> String {
    format!("it is not made anew, although `force` asks for it: {refusal}")
}
