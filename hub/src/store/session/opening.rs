//! Streams that agents open. All agents come within seconds of a hub that was away, so those that come at the same moment
//! are written together, in as many statements as one of them.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    desired::{Head, Held},
    doubt::{Sign, Verdict},
    takeover::{Duel, Openings},
};
use time::OffsetDateTime;
use uuid::Uuid;

use self::{
    put_back::forget_told,
    stored::{Known, Recorded, lock, write},
};
use super::removals;
use crate::{
    clock::timestamp,
    store::{
        Connection, Result, Store, Topic,
        doubt::IDENTITY,
        nudge_all,
        presence::tell_connected,
        report::{ConditionRow, nothing_left_out, root_of_this_format, write_conditions},
    },
};

mod put_back;
mod stored;

/// What a Hello tells.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The cluster.
    pub cluster_id: Uuid,
    /// Its name.
    pub cluster_name: String,
    /// Random per start of the agent.
    pub boot_id: String,
    /// This replica's name.
    pub replica: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of the cluster's API server.
    pub kube_version: String,
    /// Accepted desired state.
    pub incarnation: u64,
    /// Accepted desired state.
    pub generation: u64,
    /// Root of that.
    pub root: Vec<u8>,
    /// Digest of the acknowledged status rows, as the agent knows it.
    pub observed_root: Vec<u8>,
    /// Highest epoch the agent has seen.
    pub epoch_seen: u64,
    /// What the hub itself judges of the agent that has come.
    pub judged: Vec<ConditionRow>,
    /// When.
    pub now: OffsetDateTime,
}

/// An opened session.
#[derive(Debug)]
pub struct Opened {
    /// The new epoch.
    pub epoch: u64,
    /// The store does not hold what the agent believes was acknowledged.
    pub report_everything: bool,
    /// Root of the agent's rows that the store holds; empty: it is not known to hold all of some root.
    pub observed_root: Vec<u8>,
    /// What the store has that is wrong of what the agent says of its cluster: kinds and messages.
    pub wrong: Vec<(String, String)>,
    /// Which state of the cluster is published; `None` before the first.
    pub head: Option<Head>,
    /// With this opening the cluster came into quarantine: whoever has come gets nothing.
    pub is_quarantined: bool,
    /// The agent holds an earlier state than it has accepted before.
    pub was_put_back: bool,
}

/// What becomes of a cluster whose stream is opened. Where several open it at once (two agents with one identity, or one
/// that did not wait) it is as if they had come one after the other: each has an epoch, and the last one has the stream.
struct Turn<'a> {
    came: Vec<&'a Opening>,
    last: &'a Opening,
    recorded: Recorded,
    openings: Openings,
    duel: Option<Duel>,
    /// One of them holds nothing of what was held.
    lost: bool,
    /// The last one holds an earlier state than was accepted before.
    was_put_back: bool,
}

impl<'a> Turn<'a> {
    /// `came` has at least one.
    fn of(came: Vec<&'a Opening>, last: &'a Opening, recorded: Recorded) -> Self {
        let session = recorded.session.as_ref();
        let mut openings = session.map(|known| known.openings.clone()).unwrap_or_default();
        let mut held = session.is_some_and(|known| known.accepted_generation > 0);
        let (mut duel, mut lost) = (None, false);
        for one in &came {
            duel = openings.opened(&one.boot_id, timestamp(one.now));
            lost |= held && one.generation == 0;
            held = one.generation > 0;
        }
        let held = Held {
            incarnation: last.incarnation,
            generation: last.generation,
            root: None,
        };
        let was_put_back = session.is_some_and(|known| held.was_put_back(known.furthest));
        Self {
            came,
            last,
            recorded,
            openings,
            duel,
            lost,
            was_put_back,
        }
    }

    fn cluster(&self) -> Uuid {
        self.last.cluster_id
    }

    fn session(&self) -> Option<&Known> {
        self.recorded.session.as_ref()
    }

    fn is_told(&self) -> bool {
        self.session().is_some_and(|known| known.told_connected)
    }

    fn was_elsewhere(&self) -> bool {
        let held_by = self.session().and_then(|known| known.held_by.as_ref());
        held_by.is_some_and(|replica| *replica != self.last.replica)
    }

    /// What is judged of the one that has the stream.
    async fn judged(&self, tx: &mut Connection) -> Result<Vec<ConditionRow>> {
        let now = self.last.now;
        let mut judged = self.last.judged.clone();
        // One that opens a stream is in the right cluster; a duel is told of with what becomes of it.
        if self.duel.is_none() {
            judged.push(ConditionRow::new(IDENTITY, String::new(), now));
        }
        let Some(known) = self.session() else {
            return Ok(judged);
        };
        // What was left out is left out until a full report begins.
        if !known.rows_left_out {
            judged.push(nothing_left_out(now));
        }
        judged.extend(match self.lost {
            true => removals::lost(tx, self.cluster(), &self.last.cluster_name, now).await?,
            false => removals::told(known.removals_since, now),
        });
        Ok(judged)
    }

    /// What the one hears that came as the `n`th, where the last one has this epoch.
    fn opened(&self, n: usize, epoch: i64) -> Opened {
        let known = self.session();
        let root = match known {
            Some(known) => Some(root_of_this_format(&known.observed_root)),
            // To those after the first there is a session, of which nothing was reported.
            None => (n > 0).then_some(&[][..]),
        };
        let behind = (self.came.len() - 1 - n) as u64;
        Opened {
            epoch: epoch.unsigned_abs() - behind,
            // Empty on both sides, but for a first stream: a full report was begun and did not end.
            report_everything: self.was_put_back
                || match root {
                    None => !self.came[n].observed_root.is_empty(),
                    Some(root) => root.is_empty() || root != self.came[n].observed_root,
                },
            observed_root: root
                .filter(|_| known.is_some_and(|known| !known.rows_left_out) && !self.was_put_back)
                .unwrap_or_default()
                .to_vec(),
            wrong: known.map_or_else(Vec::new, |known| known.wrong.clone()),
            head: self.recorded.head,
            is_quarantined: false,
            was_put_back: self.was_put_back,
        }
    }
}

fn seen(cluster: &str, duel: &Duel) -> String {
    format!(
        "two agents with the identity of cluster {cluster} take its stream from each other, {} times within an hour: instance \
         {} has it now, instance {} had it before",
        duel.takeovers, duel.holder, duel.other
    )
}

impl Store {
    /// Opens sessions, each with a new epoch above any that its agent has seen. Returns them in the order of the openings.
    pub async fn open_sessions(&self, openings: &[Opening]) -> Result<Vec<Opened>> {
        let mut came: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (n, one) in openings.iter().enumerate() {
            came.entry(one.cluster_id).or_default().push(n);
        }
        let clusters: Vec<Uuid> = came.keys().copied().collect();
        let mut tx = self.pool().begin().await?;
        let mut recorded = lock(&mut tx, &clusters).await?;
        let turns: Vec<Turn<'_>> = came
            .iter()
            .filter_map(|(cluster, places)| {
                let came: Vec<&Opening> = places.iter().map(|n| &openings[*n]).collect();
                let last = came.last().copied()?;
                Some(Turn::of(came, last, recorded.remove(cluster).unwrap_or_default()))
            })
            .collect();
        let written = write(&mut tx, &turns).await?;
        let put_back = turns.iter().filter(|turn| turn.was_put_back);
        let put_back: Vec<Uuid> = put_back.map(Turn::cluster).collect();
        let unpublished = forget_told(&mut tx, &put_back).await?;
        let mut judged: Vec<(Uuid, ConditionRow)> = Vec::new();
        for turn in &turns {
            let rows = turn.judged(&mut tx).await?;
            // As it should be, and as it was: there is nothing to write.
            let was_wrong = written.get(&turn.cluster()).is_some_and(|one| one.was_wrong);
            if was_wrong || rows.iter().any(|row| !row.ok) {
                judged.extend(rows.into_iter().map(|row| (turn.cluster(), row)));
            }
        }
        let judged: Vec<(Uuid, &ConditionRow)> = judged.iter().map(|(id, row)| (*id, row)).collect();
        write_conditions(&mut tx, &judged).await?;
        let untold = turns.iter().filter(|turn| !turn.is_told());
        let untold: Vec<(Uuid, &str)> = untold
            .map(|turn| (turn.cluster(), turn.last.agent_version.as_str()))
            .collect();
        tell_connected(&mut tx, &untold).await?;
        let taken = turns.iter().filter(|turn| turn.was_elsewhere());
        let taken: Vec<Uuid> = taken.map(Turn::cluster).collect();
        nudge_all(
            &mut tx,
            &[
                (Topic::Takeover, &taken),
                (Topic::Session, &clusters),
                (Topic::Cluster, &unpublished),
            ],
        )
        .await?;
        tx.commit().await?;
        // Apart: who decides about a cluster locks it before its session. What a crash leaves out here, the next opening does.
        let mut quarantined = BTreeSet::new();
        for turn in &turns {
            if let Some(duel) = &turn.duel {
                let seen = seen(&turn.last.cluster_name, duel);
                let doubted = self
                    .doubt(turn.cluster(), Sign::Duel, &seen, turn.last.now)
                    .await?;
                if doubted == Verdict::Quarantine {
                    quarantined.insert(turn.cluster());
                }
            }
        }
        let mut opened: Vec<(usize, Opened)> = Vec::with_capacity(openings.len());
        for (turn, places) in turns.iter().zip(came.values()) {
            let epoch = written.get(&turn.cluster()).map_or(0, |one| one.epoch);
            let is_quarantined = quarantined.contains(&turn.cluster());
            opened.extend(places.iter().enumerate().map(|(n, place)| {
                let opened = Opened {
                    is_quarantined,
                    ..turn.opened(n, epoch)
                };
                (*place, opened)
            }));
        }
        opened.sort_unstable_by_key(|(place, _)| *place);
        Ok(opened.into_iter().map(|(_, opened)| opened).collect())
    }
}
