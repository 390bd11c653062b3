//! Where artifacts are kept: a directory, of this machine or one that machines share, or a bucket that speaks S3.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use object_store::{
    ClientConfigKey, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path as Key,
    prefix::PrefixStore,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a bucket refuses for a while is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// A bucket's answer to a request, its part of an upload included, or the next bytes of one may take so long.
const ANSWER: Duration = Duration::from_secs(60);
/// Bound of one request: it is long as long as bytes come.
const WHOLE: Duration = Duration::from_secs(3600);
const CONNECT: Duration = Duration::from_secs(5);
/// Names the store, so that two hubs know whether they share it.
const MARKER: &str = "flotilla-store.json";
/// What a writer that crashed has left is gone after this long.
const LEFT: Duration = Duration::from_secs(24 * 3600);

/// A store that several hubs may share: `/a/directory`, or `s3://bucket/prefix`, whose credentials and endpoint come from
/// the usual `AWS_…` variables of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// A directory that is there.
    Directory(PathBuf),
    /// A bucket, and a prefix in it.
    Bucket {
        /// `s3://bucket`.
        url: String,
        /// Empty for none.
        prefix: String,
    },
}

/// Text that names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the full path of a directory, or s3://BUCKET/PREFIX")]
pub struct InvalidShared;

impl FromStr for Shared {
    type Err = InvalidShared;

    fn from_str(text: &str) -> Result<Self, InvalidShared> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            // Nothing that could carry a credential or be taken for another address.
            let named = |text: &str| {
                text.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-._/".contains(c))
            };
            if bucket.is_empty() || !named(bucket) || !named(prefix) {
                return Err(InvalidShared);
            }
            return Ok(Self::Bucket {
                url: format!("s3://{bucket}"),
                prefix: prefix.to_owned(),
            });
        }
        match Path::new(text).is_absolute() {
            true => Ok(Self::Directory(text.into())),
            false => Err(InvalidShared),
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket { url, prefix } => write!(f, "{url}/{prefix}"),
        }
    }
}

impl Shared {
    /// Blocking: a directory's server may not answer.
    pub(super) fn open(&self) -> object_store::Result<Arc<dyn ObjectStore>> {
        match self {
            Self::Directory(path) => {
                let readable = fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0);
                if readable {
                    tracing::warn!(
                        path = %path.display(),
                        "the artifact store is open to every user of this machine: give it mode 0700"
                    );
                }
                directory(path)
            }
            Self::Bucket { url, prefix } => {
                let client =
                    |key, bound: Duration| (AmazonS3ConfigKey::Client(key), format!("{}s", bound.as_secs()));
                let bounds = [
                    client(ClientConfigKey::Timeout, WHOLE),
                    client(ClientConfigKey::ReadTimeout, ANSWER),
                    client(ClientConfigKey::ConnectTimeout, CONNECT),
                ];
                let retry = RetryConfig {
                    retry_timeout: PATIENCE,
                    ..RetryConfig::default()
                };
                let bucket = AmazonS3Builder::from_env().with_url(url).with_retry(retry);
                let bucket = bounds
                    .into_iter()
                    .fold(bucket, |bucket, (key, value)| bucket.with_config(key, value));
                Ok(Arc::new(PrefixStore::new(bucket.build()?, prefix.as_str())))
            }
        }
    }
}

/// A directory that is there; what is written to it survives a power cut.
pub(super) fn directory(path: &Path) -> object_store::Result<Arc<dyn ObjectStore>> {
    let directory = LocalFileSystem::new_with_prefix(path)?
        .with_fsync(true)
        // Each artifact that is set aside has a directory of its own.
        .with_automatic_cleanup(true);
    remove_left(path);
    Ok(Arc::new(directory))
}

/// Removes the halves of artifacts that nobody is writing any more.
fn remove_left(path: &Path) {
    for shard in fs::read_dir(path).into_iter().flatten().flatten() {
        for entry in fs::read_dir(shard.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_half = name.to_str().is_some_and(|name| name.contains(".tar.gz#"));
            let written = entry.metadata().and_then(|found| found.modified());
            if is_half && written.is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= LEFT)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// Differs from every other store's.
    pub(super) id: Uuid,
    /// The hub that keeps its artifacts there; another one would remove them as unknown. Empty: a hub's own directory.
    pub(super) hub: String,
}

/// Reads the marker of a store, writing it where there is none. `hub` is empty for a directory of one hub's own.
pub(super) async fn marker(store: &dyn ObjectStore, hub: &str) -> object_store::Result<Marker> {
    let key = Key::from(MARKER);
    if let Some(mut found) = read(store, &key).await? {
        // It was one hub's own, and is shared from now on.
        if found.hub.is_empty() && !hub.is_empty() {
            hub.clone_into(&mut found.hub);
            let bytes = serde_json::to_vec(&found).unwrap_or_default();
            store.put(&key, bytes.into()).await?;
        }
        return Ok(found);
    }
    let fresh = Marker {
        id: Uuid::new_v4(),
        hub: hub.to_owned(),
    };
    let bytes = || PutPayload::from(serde_json::to_vec(&fresh).unwrap_or_default());
    match store.put_opts(&key, bytes(), PutMode::Create.into()).await {
        Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
        // A file system without hard links, or a server without conditions, cannot; what else fails, fails again.
        Err(_) => drop(store.put(&key, bytes()).await?),
    }
    // Of two that write it at once, one stays.
    Ok(read(store, &key).await?.unwrap_or(fresh))
}

async fn read(store: &dyn ObjectStore, key: &Key) -> object_store::Result<Option<Marker>> {
    let found = match store.get(key).await {
        Ok(found) => found.bytes().await?,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let marker = serde_json::from_slice(&found).map_err(|error| Error::Generic {
        store: MARKER,
        source: error.into(),
    })?;
    Ok(Some(marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_full_path_or_a_bucket_and_nothing_with_a_credential() {
        let bucket = |prefix: &str| Shared::Bucket {
            url: "s3://b-1".into(),
            prefix: prefix.into(),
        };
        for (text, shared) in [
            ("/var/lib/x", Shared::Directory("/var/lib/x".into())),
            ("s3://b-1", bucket("")),
            ("s3://b-1/", bucket("")),
            ("s3://b-1/a/b/", bucket("a/b")),
        ] {
            assert_eq!(text.parse(), Ok(shared), "{text}");
        }
        for text in [
            "",
            "x/y",
            "s3://",
            "s3:///x",
            "s3://key:secret@b/x",
            "gs://b/x",
            "s3://b?x=y",
        ] {
            assert_eq!(text.parse::<Shared>(), Err(InvalidShared), "{text}");
        }
    }

    #[tokio::test]
    async fn a_store_keeps_its_name_and_whose_it_is() {
        let place = tempfile::tempdir().expect("a directory");
        let store = directory(place.path()).expect("opened");
        let first = marker(&*store, "hub").await.expect("written");
        let again = marker(&*store, "another").await.expect("read");
        assert_eq!((first.hub.as_str(), &first), ("hub", &again));
        let elsewhere = tempfile::tempdir().expect("a directory");
        let other = directory(elsewhere.path()).expect("opened");
        let own = marker(&*other, "").await.expect("written");
        assert_ne!(own.id, first.id);
        let shared = marker(&*other, "hub").await.expect("taken");
        assert_eq!((shared.id, shared.hub.as_str()), (own.id, "hub"));
        assert_eq!(marker(&*other, "another").await.expect("read"), shared);
    }
}
