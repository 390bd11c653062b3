//! A hub's data directory and the private Postgres in it: nothing an operator types beside a running hub harms it, and
//! a Postgres that dies comes back.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use flotilla_hub::store::private::PrivatePostgres;
use flotilla_testkit::wait_until;
use sqlx::{Connection as _, PgConnection};

const PATIENCE: Duration = Duration::from_secs(60);

struct Hub {
    /// Passed through by the user that Postgres runs as.
    _place: tempfile::TempDir,
    dir: PathBuf,
    http: String,
    process: Child,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its Postgres goes on after a crash: a command that opens the directory alone ends it.
        let _ = command(&self.dir, &["migrate"]);
    }
}

fn hub(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla-hub"));
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(dir)
        .env_remove("DATABASE_URL")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn command(dir: &Path, arguments: &[&str]) -> Output {
    hub(dir, arguments).output().expect("it runs")
}

fn serve(dir: &Path) -> Command {
    hub(
        dir,
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--health-listen",
            "127.0.0.1:0",
        ],
    )
}

impl Hub {
    async fn start(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).expect("passable");
        let dir = place.path().join(name);
        let log = place.path().join("log");
        let file = std::fs::File::create(&log).expect("a log");
        let process = serve(&dir)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("it starts");
        let mut this = Self {
            _place: place,
            dir,
            http: String::new(),
            process,
        };
        let started = wait_until("the hub to serve", PATIENCE, async || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            match this.process.try_wait() {
                Ok(None) => Ok(log
                    .lines()
                    .find(|line| line.contains("the hub serves"))
                    .map(str::to_owned)),
                ended => Err(format!("{ended:?}: {log}")),
            }
        });
        let line = started.await.expect("the hub serves");
        let address = line.split("health=").nth(1).expect("an address");
        let address = address.split_whitespace().next().expect("an address");
        this.http = format!("http://{address}");
        this
    }

    async fn is_ready(&self) -> Result<bool, reqwest::Error> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()?;
        let answer = client.get(format!("{}/readyz", self.http)).send().await?;
        Ok(answer.status().is_success())
    }

    async fn ready(&self) {
        wait_until("the hub to be ready", PATIENCE, async || {
            Ok::<_, reqwest::Error>(self.is_ready().await?.then_some(()))
        })
        .await
        .expect("ready");
    }

    fn postgres(&self) -> i32 {
        let text = std::fs::read_to_string(self.dir.join("postgres/data/postmaster.pid")).expect("it runs");
        text.lines()
            .next()
            .expect("a line")
            .trim()
            .parse()
            .expect("a number")
    }
}

#[tokio::test]
async fn commands_and_a_second_hub_beside_a_running_one_leave_its_postgres_alone() {
    let hub = Hub::start("data").await;
    hub.ready().await;
    let postgres = hub.postgres();
    for private in ["artifacts", "repositories", "scratch"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(hub.dir.join(private))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{private}");
    }
    let admin = hub.dir.join("admin.yaml");
    let before = std::fs::read_to_string(&admin).expect("written");
    let reset = command(&hub.dir, &["admin", "reset"]);
    assert!(reset.status.success(), "{reset:?}");
    let after = std::fs::read_to_string(&admin).expect("written");
    assert_ne!(before, after);
    let endpoint = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("endpoint: "))
            .map(str::to_owned)
    };
    assert_eq!(
        endpoint(&before),
        endpoint(&after),
        "where the hub is has not changed"
    );
    let migrated = command(&hub.dir, &["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    let second = serve(&hub.dir).output().expect("it runs");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    let process = hub.process.id().to_string();
    assert!(said.contains("another hub") && said.contains(&process), "{said}");
    assert_eq!(hub.postgres(), postgres);
    assert!(hub.is_ready().await.expect("it answers"));
}

#[tokio::test]
async fn a_killed_postgres_is_back_within_seconds() {
    let hub = Hub::start("data").await;
    hub.ready().await;
    let postgres = hub.postgres();
    let process = rustix::process::Pid::from_raw(postgres).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
    let killed = Instant::now();
    wait_until("another Postgres", PATIENCE, async || {
        let ready = hub.is_ready().await?;
        Ok::<_, reqwest::Error>((ready && hub.postgres() != postgres).then_some(()))
    })
    .await
    .expect("it is back");
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
}

#[tokio::test]
async fn only_the_hubs_own_user_may_connect_and_not_as_a_superuser() {
    let hub = Hub::start("data").await;
    hub.ready().await;
    let dir = hub.dir.join("postgres");
    let postgres = PrivatePostgres::attach(&dir).await.expect("it runs");
    let mut connection = PgConnection::connect_with(&postgres.options())
        .await
        .expect("connected");
    let superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert!(!superuser);
    let me = Command::new("id").arg("-un").output().expect("it runs").stdout;
    let me = String::from_utf8(me).expect("text");
    let allowed = std::fs::read_to_string(dir.join("data/pg_ident.conf")).expect("written");
    let users: Vec<&str> = allowed
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert!(
        !users.is_empty() && users.iter().all(|user| *user == me.trim()),
        "{allowed}"
    );
}

#[tokio::test]
async fn a_data_directory_with_spaces_and_quotes_works() {
    let hub = Hub::start("it's a hub").await;
    hub.ready().await;
    let reset = command(&hub.dir, &["admin", "reset"]);
    assert!(reset.status.success(), "{reset:?}");
}

/// As after a crash in the middle of much writing: here it waits to be promoted instead of replaying.
#[tokio::test]
async fn a_hub_that_starts_waits_for_a_postgres_that_recovers() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).expect("passable");
    let dir = place.path().join("postgres");
    let (data, log) = (dir.join("data"), dir.join("postgres.log"));
    let postgres = PrivatePostgres::start(&dir).await.expect("it starts");
    postgres.stop().await.expect("it stops");
    std::fs::write(data.join("standby.signal"), "").expect("written");
    let settings = std::fs::read_to_string(data.join("postgresql.auto.conf")).expect("settings");
    std::fs::write(
        data.join("postgresql.auto.conf"),
        format!("{settings}hot_standby = off\n"),
    )
    .expect("written");
    let again = dir.clone();
    let starting = tokio::spawn(async move { PrivatePostgres::start(&again).await });
    let refused = wait_until("two refused connections", PATIENCE, async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let refusals = log.matches("FATAL:  the database system is").count();
        match starting.is_finished() {
            true => Err(format!("it gave up: {log}")),
            false => Ok((refusals > 1).then_some(())),
        }
    });
    let refused = refused.await;
    std::fs::write(data.join("promote"), "").expect("written");
    let text = std::fs::read_to_string(data.join("postmaster.pid")).expect("it runs");
    let process = text.lines().next().and_then(|pid| pid.trim().parse().ok());
    let process = process
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::USR1).expect("told");
    let started = starting.await.expect("it ran");
    postgres.stop().await.expect("it stops");
    refused.expect("it waits");
    started.expect("it starts");
}

/// As in a container that is started again: its process numbers begin anew, and one of the hub's own is the old server's.
#[tokio::test]
async fn a_process_number_that_is_anothers_by_now_keeps_no_hub_from_starting() {
    let mut hub = Hub::start("data").await;
    hub.ready().await;
    let postgres = hub.postgres();
    hub.process.kill().expect("killed");
    hub.process.wait().expect("ended");
    let pid = rustix::process::Pid::from_raw(postgres).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    let data = hub.dir.join("postgres/data").canonicalize().expect("there");
    let works_there = |process: &std::fs::DirEntry| {
        std::fs::read_link(process.path().join("cwd")).is_ok_and(|place| place == data)
    };
    wait_until("all of its processes to end", PATIENCE, async || {
        let any = std::fs::read_dir("/proc")?
            .flatten()
            .any(|process| works_there(&process));
        Ok::<_, std::io::Error>((!any).then_some(()))
    })
    .await
    .expect("ended");
    let mine = std::process::id().to_string();
    let run = hub.dir.join("postgres/run");
    for file in [data.join("postmaster.pid"), run.join(".s.PGSQL.5432.lock")] {
        let text = std::fs::read_to_string(&file).expect("left behind");
        let rest = text.split_once('\n').expect("lines").1;
        std::fs::write(&file, format!("{mine}\n{rest}")).expect("written");
    }
    let log = hub.dir.with_extension("log");
    let file = std::fs::File::create(&log).expect("a log");
    hub.process = serve(&hub.dir)
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("it starts");
    wait_until("the hub to serve again", PATIENCE, async || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        match hub.process.try_wait() {
            Ok(None) => Ok(said.contains("the hub serves").then_some(())),
            ended => Err(format!("{ended:?}: {said}")),
        }
    })
    .await
    .expect("it serves");
}
