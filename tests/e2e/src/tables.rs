//! What a hub with a private Postgres has in its tables, as these themselves say it.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, ensure};

/// Counts each table in one statement.
const COUNT: &str = "SELECT c.relname || ' ' || (xpath('/row/c/text()', query_to_xml(
       format('SELECT count(*) AS c FROM %I.%I', n.nspname, c.relname), false, true, '')))[1]::text
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1";

/// Rows by table. `data` is the hub's data directory.
pub fn rows(data: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let told = std::fs::read_to_string(data.join("postgres/data/postmaster.pid"))
        .context("the private Postgres does not run")?;
    // The fourth line of it is the port, the fifth where the socket is.
    let mut lines = told.lines().skip(3);
    let (port, socket) = lines.next().zip(lines.next()).context("it has no socket")?;
    let output = Command::new(psql())
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "flotilla",
            "-d",
            "flotilla",
        ])
        .args(["-h", socket, "-p", port, "-c", COUNT])
        .output()
        .context("psql")?;
    ensure!(
        output.status.success(),
        "psql: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let (table, count) = line.split_once(' ').context("a table and its rows")?;
            Ok((table.to_owned(), count.parse()?))
        })
        .collect()
}

/// That of the newest server that is installed, which is where its other programs are; else the one of the path.
fn psql() -> std::path::PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let found = installed
        .filter_map(|entry| {
            let number: u32 = entry.file_name().to_str()?.parse().ok()?;
            let program = entry.path().join("bin/psql");
            program.is_file().then_some((number, program))
        })
        .max();
    found.map_or_else(|| "psql".into(), |(_, program)| program)
}
