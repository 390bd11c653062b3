//! The Receivers there are, in memory: anybody may ask for any path, so none of it may cost a query. Refreshed
//! when a Receiver or Secret changes, and with every full pass.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use flotilla_api::kinds::receiver::ReceiverSpec;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::warn;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Context, gather::payload, is_passing};
use crate::{
    http::{Lookup, Receiver, Receivers, hook::NudgeFailed, hook_path},
    store::{StoreError, resource::ResourceRow},
};

/// The Receivers by path. Cheap to clone.
#[derive(Clone)]
pub struct Registered {
    context: Context,
    known: Arc<ArcSwap<Known>>,
}

#[derive(Default)]
struct Known {
    by_path: HashMap<String, Entry>,
    /// Receivers whose token cannot be read, and why.
    unreadable: HashMap<Uuid, String>,
}

struct Entry {
    uid: Uuid,
    /// `None`: suspended, not supported, or without its Secret.
    token: Option<Zeroizing<Vec<u8>>>,
}

impl Registered {
    /// None yet; [`Registered::refresh`] reads them.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            known: Arc::default(),
        }
    }

    /// Reads all Receivers and their tokens. One whose token cannot be read is closed, and the others are as they are.
    pub async fn refresh(&self) -> anyhow::Result<()> {
        let mut known = Known::default();
        for row in self.context.store.resources_of_kind("Receiver").await? {
            match self.entry(&row).await {
                Ok(Some((path, entry))) => drop(known.by_path.insert(path, entry)),
                Ok(None) => {}
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => {
                    warn!(receiver = %row.display(), error = format!("{error:#}"), "its token cannot be read");
                    known.unreadable.insert(row.uid, error.to_string());
                }
            }
        }
        self.known.store(Arc::new(known));
        Ok(())
    }

    /// Why a Receiver's token cannot be read, if so.
    pub fn unreadable(&self, uid: Uuid) -> Option<String> {
        self.known.load().unreadable.get(&uid).cloned()
    }

    async fn entry(&self, row: &ResourceRow) -> anyhow::Result<Option<(String, Entry)>> {
        let Some(token) = token(&self.context, row).await? else {
            return Ok(None);
        };
        let path = hook_path(&token, &row.name, &row.namespace);
        let closed = row.is_suspended() || !row.not_supported.is_empty();
        let token = (!closed).then_some(token);
        Ok(Some((path, Entry { uid: row.uid, token })))
    }

    /// Where a Receiver is called: `/hook/…`. `None` while its Secret is missing.
    pub fn path_of(&self, uid: Uuid) -> Option<String> {
        self.known
            .load()
            .by_path
            .iter()
            .find(|(_, entry)| entry.uid == uid)
            .map(|(path, _)| path.clone())
    }

    /// Asks for a reconciliation of every resource the Receiver names.
    async fn wake(&self, uid: Uuid) -> anyhow::Result<()> {
        let Some(row) = self.context.store.resource(uid).await? else {
            return Ok(());
        };
        let spec: ReceiverSpec = serde_json::from_value(row.spec.clone())
            .map_err(|e| StoreError::corrupt(format!("spec of {}", row.display()), e))?;
        let mut uids = Vec::new();
        for named in &spec.resources {
            let namespace = named
                .namespace
                .as_ref()
                .map_or(row.namespace.as_str(), |one| one.as_str());
            let labels = serde_json::to_value(&named.match_labels)?;
            let found = self
                .context
                .store
                .uids_named(row.scope, &named.kind, namespace, &named.name, &labels)
                .await?;
            uids.extend(found);
        }
        let request = OffsetDateTime::now_utc().format(&Rfc3339)?;
        Ok(self.context.store.request(&uids, &request, None).await?)
    }
}

/// The token of a Receiver, from its Secret; `None`: there is none, or it is empty.
async fn token(context: &Context, row: &ResourceRow) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    let Some(name) = row.spec["secretRef"]["name"].as_str() else {
        return Ok(None);
    };
    let found = context
        .store
        .resource_named(row.scope, "Secret", &row.namespace, name)
        .await?;
    let Some(found) = found else { return Ok(None) };
    // An empty one would let everybody in.
    Ok(payload(context, &found)
        .await?
        .remove("token")
        .filter(|token| !token.is_empty()))
}

impl Receivers for Registered {
    type Id = Uuid;

    async fn find(&self, digest: &str) -> Lookup<Uuid> {
        match self.known.load().by_path.get(&format!("/hook/{digest}")) {
            None => Lookup::Unknown,
            Some(Entry { token: None, .. }) => Lookup::Closed,
            Some(Entry {
                uid,
                token: Some(token),
            }) => Lookup::Open(Receiver {
                id: *uid,
                token: token.clone(),
            }),
        }
    }

    async fn nudge(&self, id: Uuid) -> Result<(), NudgeFailed> {
        self.wake(id).await.map_err(|error| {
            warn!(receiver = %id, error = format!("{error:#}"), "waking a receiver's resources failed");
            NudgeFailed
        })
    }
}
