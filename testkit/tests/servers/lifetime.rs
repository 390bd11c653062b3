//! Nothing outlives the process that started it, however that ends.

use std::process::{Command, Stdio};

use flotilla_testkit::wait_until;

use crate::PATIENCE;

/// Processes that were told of a folder by their arguments.
fn processes_with(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}

#[tokio::test]
async fn a_killed_rig_leaves_no_process_and_no_file() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let name = folder.path().to_str().ok_or("a plain path")?.to_owned();
    let mut rig = Command::new(env!("CARGO_BIN_EXE_flotilla-testkit"))
        .arg("up")
        .env("TMPDIR", folder.path())
        .env_remove("FLOTILLA_RIG_KEEP")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let api_server_runs = async || {
        let running = processes_with(&name)
            .iter()
            .any(|line| line.contains("kube-apiserver"));
        Ok::<_, std::io::Error>(running.then_some(()))
    };
    wait_until("the API server to be started", PATIENCE, api_server_runs).await?;
    rig.kill()?;
    rig.wait()?;
    wait_until("everything to be gone", PATIENCE, async || {
        let left = std::fs::read_dir(folder.path())?.count();
        let running = processes_with(&name);
        if left == 0 && running.is_empty() {
            return Ok(Some(()));
        }
        Err(std::io::Error::other(format!("{left} folders, {running:?}")))
    })
    .await?;
    Ok(())
}
