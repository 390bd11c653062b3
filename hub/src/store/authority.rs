//! The hub's own rows: incarnation, trust domain, certificate authority, permanent keys, admin credentials.

use uuid::Uuid;

use super::{Connection, Result, Store, StoreError};
use crate::auth::seal::Seal;

/// What every replica of this hub shares.
#[derive(Debug, Clone)]
pub struct HubRow {
    /// Number of this store's history.
    pub incarnation: u64,
    /// Trust domain of all SPIFFE identifiers.
    pub trust_domain: String,
}

/// A certificate authority: certificate (DER) and private key (PKCS#8 DER, opened).
pub struct AuthorityRow {
    /// The self-signed certificate, DER.
    pub certificate: Vec<u8>,
    /// PKCS#8, DER.
    pub key: zeroize::Zeroizing<Vec<u8>>,
}

impl Store {
    /// The trust domain of the hub whose database this is; `None`: it is empty.
    pub async fn trust_domain(&self) -> Result<Option<String>> {
        Ok(sqlx::query_scalar!("SELECT trust_domain FROM hub")
            .fetch_optional(self.pool())
            .await?)
    }

    /// Reads the hub's row, making it at the first start: of several replicas the first to insert it wins.
    pub async fn hub(&self, trust_domain: &str, incarnation: u64) -> Result<HubRow> {
        let incarnation = i64::try_from(incarnation).unwrap_or(i64::MAX);
        sqlx::query!(
            "INSERT INTO hub (incarnation, trust_domain) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            incarnation,
            trust_domain
        )
        .execute(self.pool())
        .await?;
        let row = sqlx::query!("SELECT incarnation, trust_domain FROM hub")
            .fetch_one(self.pool())
            .await?;
        Ok(HubRow {
            incarnation: row.incarnation.unsigned_abs(),
            trust_domain: row.trust_domain,
        })
    }

    /// Reads the authority in force, making one with `make` (certificate and PKCS#8 key) when there is none.
    pub async fn authority<E>(
        &self,
        seal: &Seal,
        make: impl FnOnce() -> std::result::Result<(Vec<u8>, Vec<u8>), E>,
    ) -> Result<AuthorityRow>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut tx = self.pool().begin().await?;
        sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('flotilla/authority'))")
            .fetch_one(&mut *tx)
            .await?;
        let found = sqlx::query!(
            "SELECT certificate, sealed_key FROM authority WHERE retired_at IS NULL ORDER BY id DESC LIMIT 1"
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = found {
            let key = seal
                .open("authority/sealed_key", &row.sealed_key)
                .map_err(|e| StoreError::corrupt("certificate authority", e))?;
            return Ok(AuthorityRow {
                certificate: row.certificate,
                key,
            });
        }
        let (certificate, key) = make().map_err(|e| StoreError::corrupt("certificate authority", e))?;
        let key = zeroize::Zeroizing::new(key);
        let sealed = seal
            .seal("authority/sealed_key", &key)
            .map_err(|e| StoreError::corrupt("certificate authority", e))?;
        sqlx::query!(
            "INSERT INTO authority (certificate, sealed_key) VALUES ($1, $2)",
            certificate,
            sealed
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(AuthorityRow { certificate, key })
    }

    /// Reads a permanent 32-byte key by name, making it with `make` when there is none. A key that cannot be
    /// opened means that the key-encryption key is not the one this store was sealed with.
    pub async fn permanent_key(&self, seal: &Seal, name: &str, make: [u8; 32]) -> Result<[u8; 32]> {
        let aad = format!("sealed_key/{name}");
        let sealed = seal.seal(&aad, &make).map_err(|e| StoreError::corrupt(&aad, e))?;
        sqlx::query!(
            "INSERT INTO sealed_key (name, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            name,
            sealed
        )
        .execute(self.pool())
        .await?;
        let row = sqlx::query!("SELECT sealed FROM sealed_key WHERE name = $1", name)
            .fetch_one(self.pool())
            .await?;
        let key = seal
            .open(&aad, &row.sealed)
            .map_err(|e| StoreError::corrupt(&aad, e))?;
        key.as_slice()
            .try_into()
            .map_err(|_| StoreError::corrupt(&aad, "not 32 bytes"))
    }

    /// Tells whether anything of this hub is sealed already: with a key that was made before.
    pub async fn is_sealed(&self) -> Result<bool> {
        Ok(
            sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM sealed_key) AS "sealed!""#)
                .fetch_one(self.pool())
                .await?,
        )
    }

    /// Tells whether a token of this hash is a live admin credential.
    pub async fn admin_token_valid(&self, token_hash: &[u8]) -> Result<bool> {
        Ok(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM admin_credential WHERE token_hash = $1 AND revoked_at IS NULL) AS "live!""#,
            token_hash
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// Tells whether any admin credential was ever made.
    pub async fn has_admin_credential(&self) -> Result<bool> {
        Ok(
            sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM admin_credential) AS "any!""#)
                .fetch_one(self.pool())
                .await?,
        )
    }

    /// Replaces all admin credentials by one.
    pub async fn replace_admin_credential(&self, token_hash: &[u8], principal: &str) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        sqlx::query!("UPDATE admin_credential SET revoked_at = now() WHERE revoked_at IS NULL")
            .execute(&mut *tx)
            .await?;
        sqlx::query!(
            "INSERT INTO admin_credential (token_hash) VALUES ($1)",
            token_hash
        )
        .execute(&mut *tx)
        .await?;
        audit(&mut tx, principal, "admin.reset", "admin").await?;
        super::nudge(&mut tx, super::Topic::Credential, &[Uuid::nil()]).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Adds an audit row to the transaction of what it tells of.
pub(crate) async fn audit(tx: &mut Connection, principal: &str, verb: &str, object: &str) -> Result<()> {
    sqlx::query!(
        "INSERT INTO audit (principal, verb, object) VALUES ($1, $2, $3)",
        principal,
        verb,
        object
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A time-ordered identifier, so that rows made together stand together in their indexes.
pub(crate) fn new_uuid() -> Uuid {
    Uuid::now_v7()
}
