//! Join tokens and identities. One transaction decides an enrolment: a token yields at most one key, a name is
//! never overwritten, a crash at any point locks nobody out.

use flotilla_core::{
    enrol::{Enrol, Identity, Key, Refusal, Token, enrol},
    identity::{self, REMEMBERED, Standing},
};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError, Topic,
    apply::{By, NewResource, put_all},
    authority::audit,
    cluster, nudge_all,
    report::{ConditionRow, write_conditions},
};
use crate::auth::{peer::PeerCertificate, seal::Seal};

/// How an enrolment is audited.
const ENROLLED: &str = "enrol";

/// A join token as the store keeps it: never the secret itself.
pub struct NewToken<'a> {
    /// Public half.
    pub id: &'a str,
    /// SHA-256 of the secret half.
    pub secret_hash: &'a [u8],
    /// The cluster it is for; made when missing.
    pub cluster: &'a str,
    /// Who asked.
    pub principal: &'a str,
    /// Lifetime in seconds, counted by the database's clock.
    pub ttl_seconds: i64,
    /// What a cluster that is made for it is like.
    pub labelled: Option<(&'a NewResource, &'a Seal)>,
}

/// What an enrolling agent brings.
pub struct Enrolment<'a> {
    /// Public half of the token.
    pub token_id: &'a str,
    /// SHA-256 of the secret half it showed.
    pub secret_hash: &'a [u8],
    /// SHA-256 of its public key.
    pub key_hash: &'a [u8],
    /// SubjectPublicKeyInfo, DER.
    pub public_key: &'a [u8],
    /// SubjectPublicKeyInfo of the recovery key, DER.
    pub recovery_public_key: &'a [u8],
    /// UID of its kube-system namespace.
    pub cluster_uid: &'a str,
    /// Serial that the certificate will carry.
    pub serial: &'a [u8],
    /// Lifetime of the certificate in seconds.
    pub lifetime_seconds: i64,
}

/// Outcome of an enrolment. Refusals are told apart for the audit, not for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// The identity stands; issue a certificate for it.
    Accepted {
        /// The cluster.
        cluster_id: Uuid,
        /// Its name.
        name: String,
        /// Identity generation.
        generation: u64,
        /// The serial to use: of a retry, the one recorded first.
        serial: Vec<u8>,
    },
    /// Why not.
    Refused(Refusal),
}

/// An identity as a stream is judged by it.
#[derive(Debug, Clone)]
pub struct IdentityRow {
    /// The cluster's name.
    pub name: String,
    /// UID it enrolled with.
    pub cluster_uid: Option<String>,
    /// Its certificates.
    pub identity: identity::Identity,
    /// When the newest recorded certificate was issued.
    pub issued_at: OffsetDateTime,
    /// Epoch of the stream that holds the cluster; none is open without.
    pub epoch: Option<u64>,
}

/// What is recorded of an identity that its agent wants to recover.
#[derive(Debug, Clone)]
pub struct RecoveryRow {
    /// The recovery key, as it enrolled.
    pub recovery_public_key: Vec<u8>,
    /// UID of the cluster it was given to.
    pub cluster_uid: Option<String>,
    /// Its agent is served.
    pub is_active: bool,
    /// It was seen, or got a certificate, within the time that was asked for.
    pub is_seen_lately: bool,
}

impl Store {
    /// Records a join token, making the cluster when missing. Returns its expiry and whether it was made.
    pub async fn create_token(&self, token: &NewToken<'_>) -> Result<(OffsetDateTime, bool)> {
        let mut tx = self.pool().begin().await?;
        let (row, created) = cluster::ensure(&mut tx, token.cluster).await?;
        if let Some((labelled, seal)) = token.labelled.filter(|_| created) {
            put_all(
                &mut tx,
                std::slice::from_ref(labelled),
                seal,
                &By::person(token.principal),
            )
            .await?;
        }
        let expires_at = sqlx::query_scalar!(
            "WITH told AS (INSERT INTO audit (principal, verb, object) VALUES ($4, 'token.create', $6))
             INSERT INTO join_token (id, secret_hash, cluster_id, created_by, expires_at)
             VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) RETURNING expires_at",
            token.id,
            token.secret_hash,
            row.id,
            token.principal,
            token.ttl_seconds as f64,
            format!("cluster/{}", token.cluster)
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((expires_at, created))
    }

    /// Decides an enrolment. A refusal is audited when it is about a token that was given; of others there may be any
    /// number.
    pub async fn enrol(&self, request: &Enrolment<'_>) -> Result<Enrolled> {
        let mut tx = self.pool().begin().await?;
        let outcome = decide(&mut tx, request).await?;
        if matches!(outcome, Enrolled::Refused(Refusal::UnknownToken)) {
            return Ok(outcome);
        }
        if let Enrolled::Refused(why) = &outcome {
            let verb = format!("enrol.refused.{}", why.as_str());
            audit(&mut tx, "agent", &verb, &format!("token/{}", request.token_id)).await?;
        }
        tx.commit().await?;
        Ok(outcome)
    }

    /// Reads the identity of a cluster.
    pub async fn identity(&self, cluster_id: Uuid) -> Result<Option<IdentityRow>> {
        let read = self.identities(&[cluster_id]).await?;
        Ok(read.into_iter().next().flatten())
    }

    /// Reads the identities of clusters, in their order.
    pub async fn identities(&self, clusters: &[Uuid]) -> Result<Vec<Option<IdentityRow>>> {
        let rows = sqlx::query!(
            r#"SELECT v.no AS "no!", c.name, c.state, c.cluster_uid, i.generation, i.serial_current, i.serial_next,
                      i.serials_replaced, i.public_key, i.of_backup, i.issued_at, s.epoch AS "epoch?"
               FROM unnest($1::uuid[]) WITH ORDINALITY AS v(id, no)
               JOIN identity i ON i.cluster_id = v.id JOIN cluster c ON c.id = i.cluster_id
               LEFT JOIN session s ON s.cluster_id = c.id AND s.connected"#,
            clusters
        )
        .fetch_all(self.pool())
        .await?;
        let mut identities = vec![None; clusters.len()];
        for row in rows {
            let read = IdentityRow {
                name: row.name,
                cluster_uid: row.cluster_uid,
                identity: identity::Identity {
                    is_active: row.state == "Active",
                    generation: row.generation.unsigned_abs(),
                    serial: row.serial_current,
                    next: row.serial_next,
                    replaced: row.serials_replaced,
                    public_key: row.public_key,
                    of_backup: row.of_backup,
                },
                issued_at: row.issued_at,
                epoch: row.epoch.map(i64::unsigned_abs),
            };
            // Numbered from 1.
            let place = usize::try_from(row.no).ok().and_then(|no| no.checked_sub(1));
            if let Some(place) = place.and_then(|no| identities.get_mut(no)) {
                *place = Some(read);
            }
        }
        Ok(identities)
    }

    /// What a recovery is judged by. `None`: the cluster has no identity.
    pub async fn recovery(&self, cluster_id: Uuid, apart_days: u32) -> Result<Option<RecoveryRow>> {
        Ok(sqlx::query_as!(
            RecoveryRow,
            r#"SELECT i.recovery_public_key, c.cluster_uid, c.state = 'Active' AS "is_active!",
                      greatest(p.last_seen, i.issued_at) > now() - make_interval(days => $2) AS "is_seen_lately!"
               FROM identity i JOIN cluster c ON c.id = i.cluster_id LEFT JOIN presence p ON p.cluster_id = c.id
               WHERE i.cluster_id = $1"#,
            cluster_id,
            i32::try_from(apart_days).unwrap_or(i32::MAX)
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// Records that an identity was renewed by its recovery key.
    pub async fn recovered(&self, cluster_id: Uuid) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        audit(&mut tx, "agent", "recover", &format!("cluster/{cluster_id}")).await?;
        tx.commit().await?;
        self.tell_cluster_of(
            cluster_id,
            false,
            "Recovered",
            "the certificate of the cluster's agent had run out, and it has come back by its recovery key",
        )
        .await
    }

    /// Tells people of a cluster, unless the same was told in the last five minutes.
    pub async fn tell_cluster(&self, cluster_id: Uuid, reason: &str, message: &str) -> Result<()> {
        self.tell_cluster_of(cluster_id, true, reason, message).await
    }

    async fn tell_cluster_of(&self, cluster: Uuid, warning: bool, reason: &str, message: &str) -> Result<()> {
        sqlx::query!(
            "INSERT INTO event (warning, reason, message, cluster_id) SELECT $2, $3, $4, $1
             WHERE NOT EXISTS (SELECT FROM event WHERE cluster_id = $1 AND at > now() - interval '5 minutes'
                                 AND reason = $3 AND message = $4)",
            cluster,
            warning,
            reason,
            message
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records what an admitted certificate says of its identity that is not recorded.
    pub async fn admitted(&self, peer: &PeerCertificate, standing: Standing) -> Result<()> {
        match standing {
            Standing::Current => Ok(()),
            Standing::Next => self.promote_serial(peer.cluster, &peer.serial).await,
            Standing::SinceBackup => self.take_over(peer).await,
        }
    }

    /// Makes a certificate that was issued since the backup the current one, unless a later one is by now.
    async fn take_over(&self, peer: &PeerCertificate) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        sqlx::query!(
            "UPDATE identity SET serial_current = $2, serial_next = NULL, public_key = $3, issued_at = $4, expires_at = $5,
               serials_replaced = (array_remove(serials_replaced || serial_current || serial_next, NULL))[
                 greatest(1, cardinality(serials_replaced) + 3 - $6::integer):]
             WHERE cluster_id = $1 AND of_backup AND issued_at < $4",
            peer.cluster,
            peer.serial,
            peer.public_key,
            peer.issued_at,
            peer.expires_at,
            remembered()
        )
        .execute(&mut *tx)
        .await?;
        let object = format!("cluster/{}", peer.cluster);
        audit(&mut tx, "agent", "renewed.since-backup", &object).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The first use of the next serial makes it the current one.
    async fn promote_serial(&self, cluster_id: Uuid, serial: &[u8]) -> Result<()> {
        sqlx::query!(
            "UPDATE identity SET serial_current = $2, serial_next = NULL,
               serials_replaced = (serials_replaced || serial_current)[
                 greatest(1, cardinality(serials_replaced) + 2 - $3::integer):]
             WHERE cluster_id = $1 AND serial_next = $2",
            cluster_id,
            serial,
            remembered()
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records a renewal: the next serial, one generation up, and returns the serial to use. `None` when the caller's
    /// generation is not the stored one any more.
    pub async fn renew(
        &self,
        cluster_id: Uuid,
        generation: u64,
        serial: &[u8],
        public_key: &[u8],
        lifetime_seconds: i64,
    ) -> Result<Option<Vec<u8>>> {
        let mut tx = self.pool().begin().await?;
        let renewed = renew(
            &mut tx,
            cluster_id,
            generation,
            serial,
            public_key,
            lifetime_seconds,
        )
        .await?;
        let verb = if renewed.is_some() {
            "renew"
        } else {
            "renew.refused"
        };
        audit(&mut tx, "agent", verb, &format!("cluster/{cluster_id}")).await?;
        tx.commit().await?;
        Ok(renewed)
    }
}

fn remembered() -> i32 {
    i32::try_from(REMEMBERED).unwrap_or(i32::MAX)
}

/// Gathers, decides in `core`, and writes what that says.
async fn renew(
    tx: &mut Connection,
    cluster_id: Uuid,
    generation: u64,
    serial: &[u8],
    public_key: &[u8],
    lifetime_seconds: i64,
) -> Result<Option<Vec<u8>>> {
    let row = sqlx::query!(
        r#"SELECT c.state, i.generation, i.serial_current, i.serial_next, i.serials_replaced, i.public_key, i.of_backup
           FROM identity i JOIN cluster c ON c.id = i.cluster_id WHERE i.cluster_id = $1 FOR UPDATE OF i"#,
        cluster_id
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let recorded = identity::Identity {
        is_active: row.state == "Active",
        generation: row.generation.unsigned_abs(),
        serial: row.serial_current,
        next: row.serial_next,
        replaced: row.serials_replaced,
        public_key: row.public_key,
        of_backup: row.of_backup,
    };
    let Some(renewed) = recorded.renew(generation, public_key, serial) else {
        return Ok(None);
    };
    let issued = renewed.serial.clone();
    let next = recorded.renewed(renewed, generation, public_key);
    sqlx::query!(
        "UPDATE identity SET generation = $2, serial_next = $3, serials_replaced = $4, public_key = $5, of_backup = $6,
           issued_at = now(), expires_at = now() + make_interval(secs => $7) WHERE cluster_id = $1",
        cluster_id,
        i64::try_from(next.generation).unwrap_or(i64::MAX),
        next.next.as_deref(),
        &next.replaced,
        &next.public_key,
        next.of_backup,
        lifetime_seconds as f64
    )
    .execute(&mut *tx)
    .await?;
    Ok(Some(issued))
}

/// A token's row, locked with its cluster's: what else is read of them stays so until the transaction has ended.
struct TokenRow {
    cluster_id: Uuid,
    name: String,
    /// The serial of the cluster's identity.
    serial: Option<Vec<u8>>,
    token: Token,
}

/// Gathers, decides in `core`, and writes what that says.
async fn decide(tx: &mut Connection, request: &Enrolment<'_>) -> Result<Enrolled> {
    let row = gather(tx, request).await?;
    let decided = enrol(row.as_ref().map(|row| &row.token));
    let Some(row) = row else {
        return Ok(Enrolled::Refused(Refusal::UnknownToken));
    };
    let object = format!("cluster/{}", row.name);
    let serial = match decided {
        Enrol::Refuse(why) => return Ok(Enrolled::Refused(why)),
        Enrol::Burn => {
            burn(tx, request.token_id, row.cluster_id).await?;
            return Ok(Enrolled::Refused(Refusal::UsedByAnotherKey));
        }
        Enrol::Bind => {
            bind(tx, request, row.cluster_id, &object).await?;
            request.serial.to_vec()
        }
        Enrol::Repeat => {
            audit(tx, "agent", ENROLLED, &object).await?;
            row.serial
                .ok_or_else(|| StoreError::corrupt(format!("identity of {}", row.name), "it has no serial"))?
        }
    };
    Ok(Enrolled::Accepted {
        cluster_id: row.cluster_id,
        name: row.name,
        generation: 1,
        serial,
    })
}

async fn gather(tx: &mut Connection, request: &Enrolment<'_>) -> Result<Option<TokenRow>> {
    let token = sqlx::query!(
        r#"SELECT t.secret_hash, t.used_by_key, t.burnt_at IS NOT NULL AS "burnt!", t.expires_at < now() AS "expired!",
                  c.id, c.name, c.state, c.cluster_uid
           FROM join_token t JOIN cluster c ON c.id = t.cluster_id WHERE t.id = $1 FOR UPDATE OF t, c"#,
        request.token_id
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(token) = token else { return Ok(None) };
    // After the lock: whoever had it may have changed what is read here.
    let known = sqlx::query!(
        r#"SELECT EXISTS (SELECT 1 FROM cluster WHERE cluster_uid = $1 AND state IN ('Active', 'Suspended')) AS "taken!",
                  i.serial_current AS "serial?", (i.generation = 1 AND i.serial_next IS NULL AND i.expires_at > now()) IS TRUE
                    AS "first!"
           FROM (VALUES ($2::uuid)) AS c(id) LEFT JOIN identity i ON i.cluster_id = c.id"#,
        request.cluster_uid,
        token.id
    )
    .fetch_one(&mut *tx)
    .await?;
    let key = |used_by: Vec<u8>| match used_by == request.key_hash {
        true => Key::Same,
        false => Key::Other,
    };
    let identity = known.serial.is_some().then(|| Identity {
        is_active: token.state == "Active",
        is_same_cluster: token.cluster_uid.as_deref() == Some(request.cluster_uid),
        is_first: known.first,
    });
    Ok(Some(TokenRow {
        cluster_id: token.id,
        name: token.name,
        serial: known.serial,
        token: Token {
            is_right: token.secret_hash.ct_eq(request.secret_hash).into(),
            is_burnt: token.burnt,
            is_expired: token.expired,
            used_by: token.used_by_key.map(key),
            awaits_agent: token.state == "Pending",
            is_uid_taken: known.taken,
            identity,
        },
    }))
}

async fn burn(tx: &mut Connection, token_id: &str, cluster_id: Uuid) -> Result<()> {
    sqlx::query!("UPDATE join_token SET burnt_at = now() WHERE id = $1", token_id)
        .execute(&mut *tx)
        .await?;
    suspend_for_two_keys(tx, cluster_id).await
}

/// One of the two who had the token was not meant to have it, and nothing tells which: it is for people to decide, and
/// until they have the agent that joined gets nothing.
async fn suspend_for_two_keys(tx: &mut Connection, cluster_id: Uuid) -> Result<()> {
    const MESSAGE: &str = "the cluster's join token was used by two keys: the agent that joined may not be the one that was \
                           meant to; decide with `flotilla cluster admit` or `flotilla cluster revoke`";
    sqlx::query!(
        "UPDATE cluster SET state = 'Suspended' WHERE id = $1 AND state = 'Active'",
        cluster_id
    )
    .execute(&mut *tx)
    .await?;
    let condition = ConditionRow::new("JoinToken", MESSAGE.to_owned(), OffsetDateTime::now_utc());
    write_conditions(tx, &[(cluster_id, &condition)]).await?;
    nudge_all(
        tx,
        &[(Topic::Identity, &[cluster_id]), (Topic::Session, &[cluster_id])],
    )
    .await
}

/// In one statement: enrolments come by the thousand.
async fn bind(tx: &mut Connection, request: &Enrolment<'_>, cluster_id: Uuid, object: &str) -> Result<()> {
    sqlx::query!(
        "WITH bound AS (
           INSERT INTO identity (cluster_id, generation, serial_current, public_key, recovery_public_key, expires_at)
           VALUES ($1, 1, $2, $3, $4, now() + make_interval(secs => $5))),
         joined AS (UPDATE cluster SET state = 'Active', cluster_uid = $6, joined_at = now() WHERE id = $1),
         used AS (UPDATE join_token SET used_by_key = $8, used_at = now() WHERE id = $7),
         told AS (INSERT INTO outbox (topic, keys) VALUES ($9, ARRAY[$1]))
         INSERT INTO audit (principal, verb, object) VALUES ('agent', $10, $11)",
        cluster_id,
        request.serial,
        request.public_key,
        request.recovery_public_key,
        request.lifetime_seconds as f64,
        request.cluster_uid,
        request.token_id,
        request.key_hash,
        Topic::Identity.as_str(),
        ENROLLED,
        object
    )
    .execute(&mut *tx)
    .await?;
    tx.wakes();
    Ok(())
}
