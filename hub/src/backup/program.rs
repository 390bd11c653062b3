//! `pg_dump` and `pg_restore` of the server's PostgreSQL. How to connect goes by their environment: on a command line every
//! user of the machine could read it.

use std::{
    ffi::OsString,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::process::Command;

use crate::store::private;

/// A server that has gone without a word is noticed, however long it was silent for a reason.
const ALIVE: &str = "keepalives_idle=10 keepalives_interval=5 keepalives_count=3";
/// Bytes that are said of a failure.
const SAID: usize = 2 << 10;

/// The programs, and how they connect.
pub(super) struct Programs {
    dir: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Programs {
    /// For a server of this major version.
    pub(super) async fn of(options: &PgConnectOptions, server: u32) -> anyhow::Result<Self> {
        Ok(Self {
            dir: private::clients(server).await?,
            environment: environment(options),
        })
    }

    /// Writes the tables of a schema, with all that is in them, as they are at one moment.
    pub(super) async fn dump(&self, schema: &str, file: &Path) -> anyhow::Result<()> {
        // Before it is written: it holds what nobody else is to read.
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = self.command("pg_dump");
        command
            .args([
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                "--no-password",
            ])
            .args(["--schema", schema, "--dbname", ALIVE, "--file"])
            .arg(file);
        run("pg_dump", command).await?;
        let written = std::fs::File::open(file).and_then(|file| file.sync_all());
        written.with_context(|| format!("cannot write {}", file.display()))
    }

    /// Proves that what `dump` has written can be read by these programs, before anything is touched for it.
    pub(super) async fn check(&self, file: &Path) -> anyhow::Result<()> {
        let mut command = self.command("pg_restore");
        command.arg("--list").arg(file);
        run("pg_restore", command).await.with_context(|| {
            format!(
                "{} cannot be read by the PostgreSQL programs here: a backup of a newer server needs one as new; nothing was \
                 changed",
                file.display()
            )
        })
    }

    /// Puts into the database what `dump` has written, all of it or nothing.
    pub(super) async fn restore(&self, schema: &str, file: &Path) -> anyhow::Result<()> {
        let mut command = self.command("pg_restore");
        command
            .args([
                "--single-transaction",
                "--no-owner",
                "--no-privileges",
                "--no-password",
            ])
            // The schema itself is there, and extensions are whoever's they are.
            .args(["--schema", schema, "--dbname", ALIVE])
            .arg(file);
        run("pg_restore", command).await
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.dir.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("PGCONNECT_TIMEOUT", "10")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

async fn run(program: &str, mut command: Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run `{program}`"))?;
    anyhow::ensure!(
        output.status.success(),
        "`{program}` failed: {}",
        said(program, &String::from_utf8_lossy(&output.stderr))
    );
    Ok(())
}

/// What a program says in its own words: lines beside them may quote rows.
fn said(program: &str, output: &str) -> String {
    let own = format!("{program}: ");
    let lines = output.lines().filter_map(|line| line.strip_prefix(&own));
    let mut said = lines.collect::<Vec<_>>().join("; ");
    said.truncate(said.floor_char_boundary(SAID));
    said
}

/// How libpq is told what the hub is told by its URL.
fn environment(options: &PgConnectOptions) -> Vec<(&'static str, OsString)> {
    let mut environment: Vec<(&'static str, OsString)> = vec![
        ("PGPORT", options.get_port().to_string().into()),
        ("PGUSER", options.get_username().into()),
        ("PGSSLMODE", ssl_mode(options.get_ssl_mode()).into()),
        ("PGAPPNAME", "flotilla-hub backup".into()),
    ];
    environment.push(match options.get_socket() {
        Some(socket) => ("PGHOST", socket.clone().into()),
        None => ("PGHOST", options.get_host().into()),
    });
    let database = options.get_database().unwrap_or(options.get_username());
    environment.push(("PGDATABASE", database.into()));
    if let Some(options) = options.get_options() {
        environment.push(("PGOPTIONS", options.into()));
    }
    // What the options do not give by name stands in the URL that is made of them.
    let url = options.to_url_lossy();
    let encoded = url
        .password()
        .map(|password| format!("password={}", password.replace('+', "%2B")));
    let decoded = |text: String| reqwest::Url::parse(&format!("x:?{text}")).ok();
    if let Some(password) = encoded.and_then(decoded)
        && let Some((_, password)) = password.query_pairs().next()
    {
        environment.push(("PGPASSWORD", password.into_owned().into()));
    }
    for (name, variable) in [
        ("sslrootcert", "PGSSLROOTCERT"),
        ("sslcert", "PGSSLCERT"),
        ("sslkey", "PGSSLKEY"),
    ] {
        let value = url.query_pairs().find(|(key, _)| key == name);
        // What is given as text and not as a file is no path.
        if let Some((_, value)) = value.filter(|(_, value)| Path::new(&**value).exists()) {
            environment.push((variable, value.into_owned().into()));
        }
    }
    environment
}

fn ssl_mode(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    #[test]
    fn what_the_url_says_goes_by_the_environment_password_included() {
        let url = "postgres://u%40x:p%20a%2Bs+%26=%25@db.test:5433/fleet?sslmode=require";
        let options = PgConnectOptions::from_str(url).expect("a URL");
        let environment = environment(&options);
        let of = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string_lossy().into_owned())
        };
        for (name, value) in [
            ("PGHOST", "db.test"),
            ("PGPORT", "5433"),
            ("PGUSER", "u@x"),
            ("PGDATABASE", "fleet"),
            ("PGSSLMODE", "require"),
            ("PGPASSWORD", "p a+s+&=%"),
        ] {
            assert_eq!(of(name).as_deref(), Some(value), "{name}");
        }
        let socket = PgConnectOptions::from_str("postgres://u@localhost/d?host=/run/x").expect("a URL");
        let environment = super::environment(&socket);
        assert!(
            environment.contains(&("PGHOST", "/run/x".into())),
            "{environment:?}"
        );
        assert!(environment.iter().all(|(name, _)| *name != "PGPASSWORD"));
    }

    #[test]
    fn what_is_said_of_a_failure_quotes_no_row() {
        let output = "pg_restore: error: could not execute query\nDETAIL:  Key (name)=(hunter2) exists.\n\
                      Command was: COPY x FROM stdin;\npg_restore: while PROCESSING TOC\n";
        assert_eq!(
            said("pg_restore", output),
            "error: could not execute query; while PROCESSING TOC"
        );
    }
}
