//! Backups of the hub: the database, the key that opens its secrets, and a manifest by which [`restore`] knows that they
//! are whole. A backup is one directory, which is there whole or not at all.

pub mod manifest;
mod program;
pub mod restore;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sqlx::{Connection as _, PgConnection};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

pub use self::manifest::Manifest;
use self::{
    manifest::{Artifacts, FORM, copied, hashed},
    program::Programs,
};
use crate::{
    artifact::Shared,
    auth::seal::Seal,
    config::Backup,
    data_dir,
    database::Server,
    lock::DataDirLock,
    store::restore::{self as stored, Found},
};

/// The dump of the database, in `pg_dump`'s custom format.
const DATABASE: &str = "database.dump";
/// The key-encryption key.
const KEK: &str = "kek";
/// The artifacts.
const ARTIFACTS: &str = "artifacts";

/// Writes a backup, beside the hub that serves if there is one.
pub async fn write(asked: &Backup) -> anyhow::Result<Manifest> {
    let refuse_existing = || match fs::symlink_metadata(&asked.dir) {
        Ok(_) => anyhow::bail!(
            "{} is there already, and no backup is written over another: name a new directory",
            asked.dir.display()
        ),
        Err(_) => Ok(()),
    };
    refuse_existing()?;
    let artifacts = match asked.artifacts {
        true => Some(artifacts_of(asked)?),
        false => None,
    };
    data_dir::check_served(&asked.database)?;
    data_dir::check_database(&asked.database)?;
    data_dir::prepare(&asked.database)?;
    let lock = DataDirLock::for_command(&asked.database.data_dir).await?;
    let server = Server::open(&asked.database, lock).await?;
    let fresh = beside(&asked.dir)?;
    let written = write_into(asked, &server, artifacts.as_deref(), fresh.path()).await;
    server.stop().await;
    let manifest = written?;
    // Whoever made the directory meanwhile keeps it.
    refuse_existing()?;
    let from = fresh.keep();
    let renamed = renameat_with(CWD, &from, CWD, &asked.dir, RenameFlags::NOREPLACE);
    // A file system that knows no such renaming: that nothing was there was seen a moment ago.
    let renamed = match renamed {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(&from, &asked.dir),
        renamed => renamed.map_err(Into::into),
    };
    if let Err(error) = renamed {
        let _ = fs::remove_dir_all(&from);
        return Err(error).with_context(|| format!("cannot make {}", asked.dir.display()));
    }
    manifest::synced(asked.dir.parent().unwrap_or(Path::new("/")))?;
    Ok(manifest)
}

/// Where the artifacts are, if they are files.
fn artifacts_of(asked: &Backup) -> anyhow::Result<PathBuf> {
    match &asked.artifact_store {
        None => Ok(asked.database.data_dir.join(ARTIFACTS)),
        Some(Shared::Directory(dir)) => Ok(dir.clone()),
        Some(bucket @ Shared::Bucket { .. }) => anyhow::bail!(
            "the artifacts are in {bucket}, and --artifacts copies those of a directory only: leave it out and keep the \
             bucket by its own means; what it lacks is fetched again"
        ),
    }
}

/// A directory beside `dir`, ours alone, which goes again unless it is kept.
fn beside(dir: &Path) -> anyhow::Result<tempfile::TempDir> {
    let failed = || format!("cannot write a backup to {}", dir.display());
    let (parent, name) = dir.parent().zip(dir.file_name()).with_context(failed)?;
    let prefix = format!(".{}.unfinished-", name.to_string_lossy());
    let mut made = tempfile::Builder::new();
    made.prefix(&prefix)
        .permissions(fs::Permissions::from_mode(0o700));
    made.tempdir_in(parent).with_context(failed)
}

async fn write_into(
    asked: &Backup,
    server: &Server,
    artifacts: Option<&Path>,
    dir: &Path,
) -> anyhow::Result<Manifest> {
    let reading = || format!("reading {}", server.name());
    let mut connection = PgConnection::connect_with(&server.options())
        .await
        .with_context(reading)?;
    let hub = match stored::found(&mut connection).await.with_context(reading)? {
        Found::Hub(hub) => hub,
        Found::Half { .. } => anyhow::bail!(
            "a restore into {} did not end: there is no hub to back up",
            server.name()
        ),
        Found::Empty | Found::Bare | Found::Foreign => anyhow::bail!(
            "no hub has worked with {}: set DATABASE_URL as the hub has it",
            server.name()
        ),
    };
    data_dir::check_hub(&asked.database.data_dir, Some(&hub.trust_domain))?;
    let kek = asked.database.kek_file(asked.kek_file.as_ref());
    check_kek(
        &kek,
        stored::sealed_sample(&mut connection)
            .await
            .with_context(reading)?,
    )?;
    let place = stored::place(&mut connection).await.with_context(reading)?;
    connection.close().await?;
    let programs = Programs::of(&server.options(), place.server).await?;
    programs.dump(&place.schema, &dir.join(DATABASE)).await?;
    let dir = dir.to_owned();
    let taken_at = OffsetDateTime::now_utc().format(&Rfc3339)?;
    let artifacts = artifacts.map(Path::to_owned);
    // Files of any size: not where others wait.
    let manifest = tokio::task::spawn_blocking(move || -> anyhow::Result<Manifest> {
        let mut files = vec![hashed(&dir, DATABASE)?, copied(&kek, &dir, KEK)?];
        if let Some(artifacts) = &artifacts {
            manifest::copy_tree(artifacts, &dir, ARTIFACTS, &mut files)?;
        }
        let manifest = Manifest {
            form: FORM,
            trust_domain: hub.trust_domain,
            incarnation: hub.incarnation,
            schema: place.migration,
            schema_name: place.schema,
            postgres: place.server,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            taken_at,
            artifacts: match artifacts {
                Some(_) => Artifacts::Included,
                None => Artifacts::LeftOut,
            },
            files,
        };
        manifest.write(&dir)?;
        Ok(manifest)
    });
    manifest.await?
}

/// Refuses a key that opens nothing of the database: with it the backup would be worth nothing.
fn check_kek(path: &Path, sealed: Option<Vec<u8>>) -> anyhow::Result<()> {
    if !path.exists() {
        anyhow::bail!(
            "the key-encryption key is not at {}: name its file with --kek-file; without it a backup opens no secret",
            path.display()
        );
    }
    let seal = Seal::open_or_create(path)?;
    if let Some(sealed) = sealed {
        let opened = seal.open(stored::SAMPLE, &sealed);
        opened.with_context(|| format!("the key in {} is not the one of this hub", path.display()))?;
    }
    Ok(())
}

/// Reads a key file, to compare it.
fn read_key(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    text.with_context(|| format!("cannot read the key-encryption key in {}", path.display()))
}
