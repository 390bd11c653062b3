//! Texts for people, bounded and without secrets, and keys as they travel.

use flotilla_core::{
    apply::{
        failure::{Refusal, explain},
        policy::Policy,
    },
    object::ObjectKey,
};

use super::acting::Acting;
use crate::cluster::ClusterError;

/// Longest text of a server that is repeated.
const MESSAGE_MAX: usize = 1024;

/// A key on the wire.
pub fn wire_key(key: &ObjectKey) -> flotilla_proto::agent::v1::ObjectKey {
    flotilla_proto::agent::v1::ObjectKey {
        group: key.group.clone(),
        kind: key.kind.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// What may be shown of an error about an object, and what to do. `secret`: a Secret's value went into the object, so
/// that the server or a webhook may quote one. `policy` holds the object's switches. `acting`: who has asked.
pub fn shown(key: &ObjectKey, secret: bool, policy: Policy, acting: &Acting, error: &ClusterError) -> String {
    match error {
        ClusterError::Rejected {
            code,
            reason,
            message,
        } => {
            let refusal = Refusal {
                code: *code,
                reason,
                message,
            };
            let advice = match code {
                // What RBAC refuses names users, verbs and objects, and no values.
                403 => acting
                    .advice(message)
                    .map_or_else(String::new, |advice| format!("; {advice}")),
                _ => String::new(),
            };
            format!("{key}: {}{advice}", explain(refusal, secret, policy))
        }
        ClusterError::Unavailable(_) if secret => format!("{key}: the API server does not answer"),
        other => {
            let mut text = format!("{key}: {other}");
            truncate(&mut text, MESSAGE_MAX);
            text
        }
    }
}

/// Cuts a text at a character boundary.
pub fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}
