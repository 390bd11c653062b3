//! Targets of units, read once however many units have them: of an app on ten thousand clusters there is one, and to send and
//! read its settings and variables for each unit cost more than the units.

use std::collections::{BTreeSet, HashMap};

use flotilla_core::{
    digest::Digest,
    unit::{Settings, VariableLayer},
};
use sqlx::{Executor, Postgres};

use super::{Result, StoreError};

/// What units are to be.
pub(super) struct Target {
    pub(super) content: Option<Digest>,
    /// The keys that its objects have; `None`: that is not known.
    pub(super) keyset: Option<Digest>,
    pub(super) settings: Settings,
    pub(super) variables: Vec<VariableLayer>,
}

/// Targets by digest.
pub(super) struct Targets(HashMap<Digest, Target>);

impl Targets {
    /// Reads those that are named.
    pub(super) async fn named<'e>(
        executor: impl Executor<'e, Database = Postgres>,
        named: BTreeSet<Digest>,
    ) -> Result<Self> {
        if named.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let named: Vec<Vec<u8>> = named.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        let rows = sqlx::query!(
            "SELECT digest, content, keyset, settings, variables FROM target WHERE digest = ANY ($1)",
            &named
        )
        .fetch_all(executor)
        .await?;
        let mut all = HashMap::with_capacity(rows.len());
        for row in rows {
            let what = || format!("target {}", hex::encode(&row.digest));
            let digest =
                |bytes: &[u8]| Digest::try_from_slice(bytes).map_err(|e| StoreError::corrupt(what(), e));
            let corrupt = |e: serde_json::Error| StoreError::corrupt(what(), e);
            let target = Target {
                content: row.content.as_deref().map(digest).transpose()?,
                keyset: row.keyset.as_deref().map(digest).transpose()?,
                settings: serde_json::from_value(row.settings.clone()).map_err(corrupt)?,
                variables: serde_json::from_value(row.variables.clone()).map_err(corrupt)?,
            };
            all.insert(digest(&row.digest)?, target);
        }
        Ok(Self(all))
    }

    /// That of this digest. It stays for as long as a unit has it, and a day longer: a unit that got another one while these
    /// were read is read anew.
    pub(super) fn get(&self, digest: Digest) -> Result<&Target> {
        self.0
            .get(&digest)
            .ok_or(StoreError::Conflict("the target of a unit"))
    }
}
