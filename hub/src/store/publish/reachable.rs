//! What an agent may have of what it asks for: what its cluster's published entries name.

use std::collections::HashSet;

use flotilla_core::digest::Digest;
use uuid::Uuid;

use crate::store::{Result, Store};

/// What the agent of a cluster asks for, and what it says that it has, by kind. Digests of different kinds never meet.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Whose agent.
    pub cluster: Uuid,
    /// Contents asked for.
    pub contents: Digests,
    /// Objects asked for.
    pub objects: Digests,
    /// Values asked for.
    pub configs: Digests,
    /// Contents it has.
    pub base_contents: Digests,
    /// Objects it has.
    pub base_objects: Digests,
    /// Values it has.
    pub base_configs: Digests,
}

impl Question {
    /// How many digests it names.
    pub fn size(&self) -> usize {
        let wanted = self.contents.count() + self.objects.count() + self.configs.count();
        wanted + self.base_contents.count() + self.base_objects.count() + self.base_configs.count()
    }
}

/// Digests, one after the other: a column of the database has one length for all arrays in it.
#[derive(Debug, Clone, Default)]
pub struct Digests(Vec<u8>);

impl Digests {
    fn count(&self) -> usize {
        self.0.len() / 32
    }
}

impl FromIterator<Digest> for Digests {
    fn from_iter<T: IntoIterator<Item = Digest>>(digests: T) -> Self {
        let mut all = Vec::new();
        for digest in digests {
            all.extend_from_slice(digest.as_bytes());
        }
        Self(all)
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
    /// Which of what agents name is reachable from their clusters' published entries, and which of their bases units of the
    /// cluster have, or had: of a content that was never the cluster's, a patch would tell. An answer to each question, in
    /// their order.
    pub async fn reachable(&self, questions: &[Question]) -> Result<Vec<Reachable>> {
        let mut answers = vec![Reachable::default(); questions.len()];
        for row in self.asked(questions).await? {
            // Numbered from 1.
            let place = usize::try_from(row.no).ok().and_then(|no| no.checked_sub(1));
            let (Some(answer), Ok(digest)) = (
                place.and_then(|no| answers.get_mut(no)),
                Digest::try_from_slice(&row.digest),
            ) else {
                continue;
            };
            match row.base {
                true => answer.bases.insert(digest),
                false => answer.wanted.insert(digest),
            };
        }
        Ok(answers)
    }

    async fn asked(&self, questions: &[Question]) -> Result<Vec<Row>> {
        let asked = sqlx::query_as!(
            Row,
            r#"SELECT q.no AS "no!", r AS "digest!", false AS "base!"
               FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY
                 AS q(cluster, contents, objects, configs, no)
               CROSS JOIN LATERAL reachable(q.cluster, digests(q.contents), digests(q.objects), digests(q.configs)) AS r
               UNION ALL
               SELECT q.no, g, true
               FROM unnest($1::uuid[], $5::bytea[], $6::bytea[], $7::bytea[]) WITH ORDINALITY
                 AS q(cluster, contents, objects, configs, no)
               CROSS JOIN LATERAL given(q.cluster, digests(q.contents), digests(q.objects), digests(q.configs)) AS g"#,
            &clusters(questions),
            &column(questions, |one| &one.contents),
            &column(questions, |one| &one.objects),
            &column(questions, |one| &one.configs),
            &column(questions, |one| &one.base_contents),
            &column(questions, |one| &one.base_objects),
            &column(questions, |one| &one.base_configs)
        );
        Ok(asked.fetch_all(self.pool()).await?)
    }
}

fn clusters(questions: &[Question]) -> Vec<Uuid> {
    questions.iter().map(|one| one.cluster).collect()
}

fn column(questions: &[Question], of: fn(&Question) -> &Digests) -> Vec<Vec<u8>> {
    questions.iter().map(|one| of(one).0.clone()).collect()
}

struct Row {
    /// Of which question.
    no: i64,
    digest: Vec<u8>,
    /// It may be a base; else it may be had.
    base: bool,
}
