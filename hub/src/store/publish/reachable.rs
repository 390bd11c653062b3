//! What an agent may have of what it asks for: what its cluster's published entries name.

use std::collections::HashSet;

use flotilla_core::digest::Digest;
use uuid::Uuid;

use crate::store::{Result, Store};

/// What an agent asks for, and what it says that it has, by kind. Digests of different kinds never meet.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Contents asked for.
    pub contents: Vec<Vec<u8>>,
    /// Objects asked for.
    pub objects: Vec<Vec<u8>>,
    /// Values asked for.
    pub configs: Vec<Vec<u8>>,
    /// Contents it has.
    pub base_contents: Vec<Vec<u8>>,
    /// Objects it has.
    pub base_objects: Vec<Vec<u8>>,
    /// Values it has.
    pub base_configs: Vec<Vec<u8>>,
}

impl Named {
    fn has_bases(&self) -> bool {
        !(self.base_contents.is_empty() && self.base_objects.is_empty() && self.base_configs.is_empty())
    }
}

/// What of that it may have, and what may be a base.
#[derive(Debug, Clone, Default)]
pub struct Reachable {
    /// It may have these.
    pub wanted: HashSet<Digest>,
    /// These it was given before.
    pub bases: HashSet<Digest>,
}

impl Store {
    /// Which of what a cluster's agent names is reachable from the cluster's published entries, and which of its bases
    /// units of the cluster have, or had: of a content that was never the cluster's, a patch would tell.
    pub async fn reachable(&self, cluster_id: Uuid, named: &Named) -> Result<Reachable> {
        let rows = match named.has_bases() {
            true => self.reachable_with_bases(cluster_id, named).await?,
            false => self.reachable_alone(cluster_id, named).await?,
        };
        let mut reachable = Reachable::default();
        for row in rows {
            let Ok(digest) = Digest::try_from_slice(&row.digest) else {
                continue;
            };
            match row.base {
                true => reachable.bases.insert(digest),
                false => reachable.wanted.insert(digest),
            };
        }
        Ok(reachable)
    }

    /// Of what a first state asks for there is no base, and most of what is asked is that.
    async fn reachable_alone(&self, cluster_id: Uuid, named: &Named) -> Result<Vec<Row>> {
        let asked = sqlx::query_as!(
            Row,
            r#"SELECT r AS "digest!", false AS "base!" FROM reachable($1, $2, $3, $4) AS r"#,
            cluster_id,
            &named.contents,
            &named.objects,
            &named.configs
        );
        Ok(asked.fetch_all(self.pool()).await?)
    }

    async fn reachable_with_bases(&self, cluster_id: Uuid, named: &Named) -> Result<Vec<Row>> {
        let asked = sqlx::query_as!(
            Row,
            r#"SELECT r AS "digest!", false AS "base!" FROM reachable($1, $2, $3, $4) AS r
               UNION ALL
               SELECT g, true FROM given($1, $5, $6, $7) AS g"#,
            cluster_id,
            &named.contents,
            &named.objects,
            &named.configs,
            &named.base_contents,
            &named.base_objects,
            &named.base_configs
        );
        Ok(asked.fetch_all(self.pool()).await?)
    }
}

struct Row {
    digest: Vec<u8>,
    /// It may be a base; else it may be had.
    base: bool,
}
