//! `flotilla-hub backup` and `restore`, as an operator gives them: what they refuse, what they leave as it was, and that a
//! hub which ended half way is never started as if it were whole.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    str::FromStr as _,
    time::Duration,
};

use flotilla_hub::store::{
    private::{PrivatePostgres, clients},
    restore,
};
use flotilla_testkit::{TestDb, wait_until};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that the user whom Postgres runs as may pass through.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).expect("passable");
    place
}

fn hub(data: &Path, url: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla-hub"));
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .env_remove("DATABASE_URL")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    if let Some(url) = url {
        command.env("DATABASE_URL", url);
    }
    command
}

fn ran(data: &Path, url: Option<&str>, arguments: &[&str]) -> Output {
    hub(data, url, arguments).output().expect("it runs")
}

#[track_caller]
fn done(data: &Path, url: Option<&str>, arguments: &[&str]) -> String {
    let output = ran(data, url, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refused(data: &Path, url: Option<&str>, arguments: &[&str]) -> String {
    let output = ran(data, url, arguments);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

/// A hub that serves.
struct Serving {
    process: Child,
}

impl Serving {
    async fn start(data: &Path, url: Option<&str>) -> Self {
        let addresses = ["--listen", "--http-listen", "--health-listen"].map(|name| [name, "127.0.0.1:0"]);
        let arguments: Vec<&str> = ["serve"]
            .into_iter()
            .chain(addresses.into_iter().flatten())
            .collect();
        let log = data.with_extension("log");
        let mut process = hub(data, url, &arguments)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("it starts");
        let serves = wait_until("the hub to serve", PATIENCE, async || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            match process.try_wait() {
                Ok(None) => Ok(log.contains("the hub serves").then_some(())),
                ended => Err(format!("{ended:?}: {log}")),
            }
        });
        serves.await.expect("the hub serves");
        Self { process }
    }

    /// Ends it as an operator does.
    fn stop(mut self) {
        let id = i32::try_from(self.process.id()).ok();
        let process = id.and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("told");
        assert!(self.process.wait().expect("it ends").success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A hub on a database of its own that has served, its backup, and room for another.
struct Served {
    place: tempfile::TempDir,
    db: TestDb,
    data: PathBuf,
    backup: PathBuf,
}

impl Served {
    async fn new() -> Self {
        let (place, db) = (place(), TestDb::create().await.expect("a database"));
        let (data, backup) = (place.path().join("data"), place.path().join("backup"));
        Serving::start(&data, Some(db.url())).await.stop();
        done(&data, Some(db.url()), &["backup", text(&backup)]);
        Self {
            place,
            db,
            data,
            backup,
        }
    }

    fn restore<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["restore", text(&self.backup)], more].concat()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

async fn connected(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).expect("a URL");
    PgConnection::connect_with(&options).await.expect("connected")
}

async fn hub_of(connection: &mut PgConnection) -> (String, i64) {
    sqlx::query_as("SELECT trust_domain, incarnation FROM hub")
        .fetch_one(connection)
        .await
        .expect("a hub")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

#[tokio::test]
async fn a_backup_is_taken_beside_a_hub_that_serves_and_is_restored_on_another_machine() {
    let place = place();
    let (data, backup, other) = (
        place.path().join("data"),
        place.path().join("backup"),
        place.path().join("other"),
    );
    let serving = Serving::start(&data, None).await;
    let said = done(&data, None, &["backup", "--artifacts", text(&backup)]);
    assert!(said.contains("artifacts;"), "{said}");
    let kek = std::fs::read_to_string(data.join("kek")).expect("a key");
    assert_eq!(std::fs::read_to_string(backup.join("kek")).expect("copied"), kek);
    assert!(!said.contains(kek.trim()), "the key is printed nowhere");
    for (file, expected) in [
        ("", 0o700),
        ("kek", 0o600),
        ("manifest.json", 0o600),
        ("database.dump", 0o600),
    ] {
        assert_eq!(mode(&backup.join(file)), expected, "{file}");
    }
    let again = refused(&data, None, &["backup", text(&backup)]);
    assert!(again.contains("is there already"), "{again}");
    let left: Vec<_> = std::fs::read_dir(place.path())
        .expect("a directory")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains("unfinished"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let beside = refused(&data, None, &["restore", text(&backup), "--replace"]);
    assert!(beside.contains("a hub serves from"), "{beside}");
    let options = PrivatePostgres::attach(&data.join("postgres"))
        .await
        .expect("it runs")
        .options();
    let before = hub_of(&mut PgConnection::connect_with(&options).await.expect("connected")).await;
    serving.stop();
    done(&other, None, &["restore", text(&backup)]);
    assert_eq!(
        std::fs::read_to_string(other.join("kek")).expect("put there"),
        kek
    );
    assert_eq!(mode(&other.join("kek")), 0o600);
    let serving = Serving::start(&other, None).await;
    let options = PrivatePostgres::attach(&other.join("postgres"))
        .await
        .expect("it runs")
        .options();
    let after = hub_of(&mut PgConnection::connect_with(&options).await.expect("connected")).await;
    assert_eq!(after.0, before.0);
    assert!(after.1 > before.1, "{after:?} {before:?}");
    serving.stop();
}

#[tokio::test]
async fn a_restore_is_refused_over_a_hub_unless_that_is_to_be_replaced_and_while_any_serves() {
    let served = Served::new().await;
    let url = Some(served.db.url());
    let mut connection = connected(served.db.url()).await;
    let (trust_domain, before) = hub_of(&mut connection).await;
    let said = refused(&served.data, url, &served.restore(&[]));
    for part in [trust_domain.as_str(), "0 clusters", "--replace"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // From another machine, so that no lock tells.
    let (serving, elsewhere) = (
        Serving::start(&served.data, url).await,
        served.place.path().join("elsewhere"),
    );
    let said = refused(&elsewhere, url, &served.restore(&["--replace"]));
    assert!(said.contains("a hub serves on"), "{said}");
    serving.stop();
    assert_eq!(hub_of(&mut connection).await.1, before);
    // A history that the backup does not know is passed as well.
    sqlx::query("UPDATE hub SET incarnation = 9000000000")
        .execute(&mut connection)
        .await
        .expect("written");
    sqlx::query("CREATE TABLE of_a_newer_release (id int)")
        .execute(&mut connection)
        .await
        .expect("made");
    done(&served.data, url, &served.restore(&["--replace"]));
    assert_eq!(hub_of(&mut connection).await, (trust_domain, 9_000_000_001));
    let left: bool = sqlx::query_scalar("SELECT to_regclass('of_a_newer_release') IS NOT NULL")
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert!(!left, "all of what was there is replaced");
    Serving::start(&served.data, url).await.stop();
}

#[tokio::test]
async fn a_damaged_backup_another_key_and_anothers_tables_are_refused_before_anything_is_touched() {
    let served = Served::new().await;
    let fresh = TestDb::create().await.expect("a database");
    let elsewhere = served.place.path().join("elsewhere");
    let mut connection = connected(fresh.url()).await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let kek = elsewhere.join("kek");
    std::fs::create_dir(&elsewhere).expect("made");
    std::fs::write(&kek, "0".repeat(64)).expect("written");
    let said = refused(&elsewhere, Some(fresh.url()), &served.restore(&[]));
    assert!(said.contains("another key-encryption key"), "{said}");
    assert_eq!(std::fs::read_to_string(&kek).expect("there"), "0".repeat(64));
    let count: i64 = sqlx::query_scalar(tables)
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert_eq!(count, 0);
    std::fs::remove_file(&kek).expect("removed");
    let dump = served.backup.join("database.dump");
    let mut bytes = std::fs::read(&dump).expect("there");
    let whole = bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&dump, &bytes).expect("written");
    let said = refused(&elsewhere, Some(fresh.url()), &served.restore(&[]));
    assert!(said.contains("database.dump is not as it was written"), "{said}");
    assert!(!kek.exists());
    // Whole, and of a format that these programs do not know: as one of a newer server is.
    let mut newer = whole.clone();
    newer[6] = 99;
    std::fs::write(&dump, &newer).expect("written");
    let manifest = served.backup.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("there");
    std::fs::write(&manifest, text.replace(&sha256(&whole), &sha256(&newer))).expect("written");
    let said = refused(&elsewhere, Some(fresh.url()), &served.restore(&[]));
    assert!(said.contains("a backup of a newer server"), "{said}");
    let count: i64 = sqlx::query_scalar(tables)
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert_eq!(count, 0);
    std::fs::write(&manifest, &text).expect("written");
    std::fs::write(&dump, &whole).expect("written");
    sqlx::query("CREATE TABLE customer (id int)")
        .execute(&mut connection)
        .await
        .expect("made");
    let said = refused(&elsewhere, Some(fresh.url()), &served.restore(&["--replace"]));
    assert!(said.contains("are not a hub's"), "{said}");
    let count: i64 = sqlx::query_scalar(tables)
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert_eq!(count, 1);
}

#[tokio::test]
async fn no_hub_starts_where_a_restore_did_not_end_and_the_same_restore_ends_it() {
    let served = Served::new().await;
    let fresh = TestDb::create().await.expect("a database");
    let url = Some(fresh.url());
    let elsewhere = served.place.path().join("elsewhere");
    let mut connection = connected(fresh.url()).await;
    let (trust_domain, before) = hub_of(&mut connected(served.db.url()).await).await;
    let look = async |connection: &mut PgConnection| restore::found(connection).await.expect("read");
    restore::begin(&mut connection, &trust_domain)
        .await
        .expect("begun");
    let half = restore::Found::Half { trust_domain };
    assert_eq!(look(&mut connection).await, half);
    for command in [&["serve"][..], &["migrate"], &["admin", "reset"]] {
        let said = refused(&elsewhere, url, command);
        assert!(said.contains("did not end"), "{said}");
    }
    // As if it ended after the tables were there, and before they were a hub's of a new history.
    sqlx::raw_sql(
        "CREATE TABLE hub (trust_domain text, incarnation bigint); INSERT INTO hub VALUES ('x', 1)",
    )
    .execute(&mut connection)
    .await
    .expect("made");
    assert_eq!(look(&mut connection).await, half);
    let said = refused(&elsewhere, url, &["restore", "--in-place"]);
    assert!(said.contains("restore DIR"), "{said}");
    done(&elsewhere, url, &served.restore(&[]));
    assert!(hub_of(&mut connection).await.1 > before);
    Serving::start(&elsewhere, url).await.stop();
}

#[tokio::test]
async fn a_restore_that_is_killed_with_yesterdays_tables_in_place_leaves_no_hub_that_starts() {
    let served = Served::new().await;
    let fresh = TestDb::create().await.expect("a database");
    let url = Some(fresh.url());
    let elsewhere = served.place.path().join("elsewhere");
    let mut connection = connected(fresh.url()).await;
    let place = restore::place(&mut connection).await.expect("read");
    let real = clients(place.server).await.expect("installed");
    // Once it has done what it is to do whoever has called it is gone. A look at the backup does nothing.
    let programs = served.place.path().join("programs");
    std::fs::create_dir(&programs).expect("made");
    std::os::unix::fs::symlink(real.join("pg_dump"), programs.join("pg_dump")).expect("linked");
    let script = format!(
        "#!/bin/sh\n'{}' \"$@\" && [ \"$1\" = --list ] || kill -9 $PPID\n",
        real.join("pg_restore").display()
    );
    std::fs::write(programs.join("pg_restore"), script).expect("written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(programs.join("pg_restore"), executable).expect("executable");
    let killed = hub(&elsewhere, url, &served.restore(&[]))
        .env("FLOTILLA_PG_BIN", &programs)
        .output()
        .expect("it runs");
    assert!(!killed.status.success() && killed.stderr.is_empty(), "{killed:?}");
    let (_, before) = hub_of(&mut connection).await;
    let found = restore::found(&mut connection).await.expect("read");
    assert!(matches!(found, restore::Found::Half { .. }), "{found:?}");
    for command in [&["serve"][..], &["backup", text(&elsewhere.join("other"))]] {
        let said = refused(&elsewhere, url, command);
        assert!(said.contains("did not end"), "{said}");
    }
    done(&elsewhere, url, &served.restore(&[]));
    assert!(hub_of(&mut connection).await.1 > before);
    Serving::start(&elsewhere, url).await.stop();
}

#[tokio::test]
async fn a_database_that_was_put_back_by_other_means_gets_its_incarnation_in_place() {
    let served = Served::new().await;
    let url = Some(served.db.url());
    let mut connection = connected(served.db.url()).await;
    let (trust_domain, before) = hub_of(&mut connection).await;
    let elsewhere = served.place.path().join("elsewhere");
    let said = refused(&elsewhere, url, &["restore", "--in-place"]);
    assert!(said.contains("key-encryption key is not at"), "{said}");
    let said = done(&served.data, url, &["restore", "--in-place"]);
    let (same, after) = hub_of(&mut connection).await;
    assert_eq!(same, trust_domain);
    assert!(after > before && said.contains(&after.to_string()), "{said}");
    Serving::start(&served.data, url).await.stop();
}
