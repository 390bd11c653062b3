//! Makes a hub of a backup. All of the backup is proven before anything is touched; from the first change of the database
//! to the last, a hub refuses to start on it, and the same command begins again.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use super::{
    ARTIFACTS, DATABASE, KEK, Manifest, check_kek,
    manifest::{copied, synced},
    program::Programs,
    read_key,
};
use crate::{
    artifact::Shared,
    config::Restore,
    data_dir,
    database::Server,
    lock::DataDirLock,
    store::restore::{self as stored, Found},
};

/// A hub that has just ended is connected for so long at most.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// A hub that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The hub.
    pub trust_domain: String,
    /// The number of its new history.
    pub incarnation: u64,
}

/// Restores, or gives a database that was put back by other means its new incarnation.
pub async fn restore(asked: &Restore) -> anyhow::Result<Restored> {
    // First of all, and all of it: nothing is touched for a backup that is not whole.
    let backup = match &asked.dir {
        Some(dir) => {
            let read = dir.clone();
            let manifest = tokio::task::spawn_blocking(move || Manifest::read(&read)).await??;
            for file in [DATABASE, KEK] {
                anyhow::ensure!(
                    manifest.has(file),
                    "the backup in {} has no {file}",
                    dir.display()
                );
            }
            Some((dir.as_path(), manifest))
        }
        None => {
            data_dir::check_served(&asked.database)?;
            None
        }
    };
    let data_dir = &asked.database.data_dir;
    data_dir::check_database(&asked.database)?;
    if let Some((_, manifest)) = &backup {
        data_dir::check_hub(data_dir, Some(&manifest.trust_domain))?;
    }
    data_dir::prepare(&asked.database)?;
    let lock = DataDirLock::for_command(data_dir)
        .await?
        .with_context(|| format!("a hub serves from {}: stop it first", data_dir.display()))?;
    let server = Server::open(&asked.database, Some(lock)).await?;
    let restored = match &backup {
        Some((dir, manifest)) => from_backup(asked, &server, dir, manifest).await,
        None => in_place(asked, &server).await,
    };
    server.stop().await;
    restored
}

async fn connect(server: &Server) -> anyhow::Result<PgConnection> {
    let failed = || format!("opening {}", server.name());
    let mut connection = PgConnection::connect_with(&server.options())
        .await
        .with_context(failed)?;
    let mut hubs = stored::hubs_connected(&mut connection)
        .await
        .with_context(failed)?;
    // Of a hub that was just ended the server holds connections for a moment.
    let until = Instant::now() + GONE_WITHIN;
    while hubs > 0 && Instant::now() < until {
        sleep(LOOK).await;
        hubs = stored::hubs_connected(&mut connection)
            .await
            .with_context(failed)?;
    }
    anyhow::ensure!(
        hubs == 0,
        "a hub serves on {} ({hubs} connections): stop every hub on it first",
        server.name()
    );
    Ok(connection)
}

async fn from_backup(
    asked: &Restore,
    server: &Server,
    dir: &Path,
    manifest: &Manifest,
) -> anyhow::Result<Restored> {
    let mut connection = connect(server).await?;
    let failed = || format!("restoring into {}", server.name());
    let found = stored::found(&mut connection).await.with_context(failed)?;
    check_room(asked, server, manifest, &found)?;
    let place = stored::place(&mut connection).await.with_context(failed)?;
    anyhow::ensure!(
        place.schema == manifest.schema_name,
        "the backup is of the schema {}, and tables would be made in {}: set the search_path of {} accordingly",
        manifest.schema_name,
        place.schema,
        server.name()
    );
    let programs = Programs::of(&server.options(), place.server).await?;
    programs.check(&dir.join(DATABASE)).await?;
    // A key beside a database that it does not open harms nothing; a database without its key is worth nothing.
    put_kek(&asked.database.kek_file(asked.kek_file.as_ref()), &dir.join(KEK))?;
    put_artifacts(asked, dir, manifest)?;
    stored::begin(&mut connection, &manifest.trust_domain)
        .await
        .with_context(failed)?;
    programs.restore(&place.schema, &dir.join(DATABASE)).await?;
    finish(&mut connection, server).await
}

async fn in_place(asked: &Restore, server: &Server) -> anyhow::Result<Restored> {
    let mut connection = connect(server).await?;
    let failed = || format!("reading {}", server.name());
    match stored::found(&mut connection).await.with_context(failed)? {
        Found::Hub(hub) => data_dir::check_hub(&asked.database.data_dir, Some(&hub.trust_domain))?,
        Found::Half { .. } => anyhow::bail!("{}", unfinished(server)),
        Found::Empty | Found::Bare | Found::Foreign => anyhow::bail!(
            "there is no hub in {}: put its database back first, as with pg_restore",
            server.name()
        ),
    }
    let kek = asked.database.kek_file(asked.kek_file.as_ref());
    let sample = stored::sealed_sample(&mut connection)
        .await
        .with_context(failed)?;
    check_kek(&kek, sample)?;
    finish(&mut connection, server).await
}

async fn finish(connection: &mut PgConnection, server: &Server) -> anyhow::Result<Restored> {
    let failed = || format!("restoring into {}", server.name());
    let incarnation = stored::finish(connection, OffsetDateTime::now_utc())
        .await
        .with_context(failed)?;
    match stored::found(connection).await.with_context(failed)? {
        Found::Hub(hub) => Ok(Restored {
            trust_domain: hub.trust_domain,
            incarnation,
        }),
        other => anyhow::bail!("{} holds no hub after all: {other:?}", server.name()),
    }
}

fn unfinished(server: &Server) -> String {
    format!(
        "a restore into {} did not end, and there is no hub in it: run `flotilla-hub restore DIR` again",
        server.name()
    )
}

/// Refuses to restore over what is there, unless it is what was said to be replaced.
fn check_room(asked: &Restore, server: &Server, manifest: &Manifest, found: &Found) -> anyhow::Result<()> {
    let name = server.name();
    match found {
        Found::Empty | Found::Bare => Ok(()),
        Found::Foreign => {
            anyhow::bail!("{name} holds tables, and they are not a hub's: give the hub a database of its own")
        }
        Found::Half { trust_domain } if *trust_domain == manifest.trust_domain => Ok(()),
        Found::Half { trust_domain } => {
            anyhow::bail!(
                "a restore of another hub, {trust_domain}, into {name} did not end: give this one a database of its own"
            )
        }
        Found::Hub(hub) if hub.trust_domain != manifest.trust_domain => anyhow::bail!(
            "{name} holds another hub, {}, and the backup is of {}: give this one a database of its own",
            hub.trust_domain,
            manifest.trust_domain
        ),
        Found::Hub(_) if asked.replace => Ok(()),
        Found::Hub(hub) => anyhow::bail!(
            "{name} holds hub {} already, with {} clusters and {} configured objects: all of it would be replaced by the \
             backup of {}; to do so, give --replace",
            hub.trust_domain,
            hub.clusters,
            hub.resources,
            manifest.taken_at
        ),
    }
}

/// Puts the key where the hub looks for it, and never in another's place.
fn put_kek(path: &Path, from: &Path) -> anyhow::Result<()> {
    let key = read_key(from)?;
    if path.exists() {
        anyhow::ensure!(
            read_key(path)?.trim() == key.trim(),
            "{} is another key-encryption key than the one of the backup: what it opens is lost without it; move it away, or \
             name another file with --kek-file",
            path.display()
        );
        return Ok(());
    }
    let (parent, name) = path
        .parent()
        .zip(path.file_name())
        .context("a key file has a name")?;
    // Whole or not at all.
    let fresh = format!(".{}.unfinished", name.to_string_lossy());
    let _ = fs::remove_file(parent.join(&fresh));
    copied(from, parent, &fresh)?;
    fs::hard_link(parent.join(&fresh), path).with_context(|| format!("cannot write {}", path.display()))?;
    let _ = fs::remove_file(parent.join(&fresh));
    synced(parent)
}

/// Puts artifacts where the hub looks for them. What is there stays: an artifact is named by its digest.
fn put_artifacts(asked: &Restore, dir: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let prefix = format!("{ARTIFACTS}/");
    let files: Vec<&str> = manifest
        .files
        .iter()
        .filter_map(|file| file.path.strip_prefix(&prefix))
        .collect();
    let to: PathBuf = match &asked.artifact_store {
        _ if files.is_empty() => return Ok(()),
        None => asked.database.data_dir.join(ARTIFACTS),
        Some(Shared::Directory(to)) => to.clone(),
        Some(bucket @ Shared::Bucket { .. }) => {
            tracing::info!(
                "the artifacts of the backup are not copied to {bucket}: what it lacks is fetched again"
            );
            return Ok(());
        }
    };
    for file in files {
        let path = to.join(file);
        if path.exists() {
            continue;
        }
        let parent = path.parent().unwrap_or(&to);
        fs::create_dir_all(parent)
            .and_then(|()| fs::set_permissions(parent, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot make {}", parent.display()))?;
        // What is written in part goes by a name that the store takes for none.
        let half = format!("{file}#restored");
        let _ = fs::remove_file(to.join(&half));
        copied(&dir.join(ARTIFACTS).join(file), &to, &half)?;
        fs::rename(to.join(&half), &path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
