//! An agent that is told to stop while the API server does not answer, as a process.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A pod has half a minute to stop; one that needs it all is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kubeconfig of a server that takes connections and answers none.
fn kubeconfig(dir: &Path, server: &TcpListener) -> String {
    let address = server.local_addr().unwrap();
    let path = dir.join("kubeconfig");
    let text = format!(
        r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{{"name": "c", "cluster": {{"server": "http://{address}"}}}}],
            "users": [{{"name": "u", "user": {{}}}}],
            "contexts": [{{"name": "c", "context": {{"cluster": "c", "user": "u"}}}}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Starts the agent, waits until it has asked the server, tells it to stop, and returns how it ended.
fn stopped(arguments: &[&str], state: &Path) -> (Option<i32>, Duration) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_flotilla-agent"))
        .args(arguments)
        .arg("--kubeconfig")
        .arg(kubeconfig(dir.path(), &server))
        .arg("--state-dir")
        .arg(state)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let asked = server.accept().unwrap();
    let begun = Instant::now();
    let told = Command::new("kill")
        .args(["-TERM", &agent.id().to_string()])
        .status();
    assert!(told.unwrap().success());
    let code = ended(&mut agent, begun);
    drop(asked);
    (code, begun.elapsed())
}

/// Waits for the end of a process, and brings it about when it takes too long.
fn ended(agent: &mut Child, begun: Instant) -> Option<i32> {
    while begun.elapsed() < PATIENCE {
        if let Some(status) = agent.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.kill().unwrap();
    agent.wait().unwrap().code()
}

#[test]
fn an_agent_that_looks_for_its_state_at_a_silent_server_stops_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (code, after) = stopped(&[], &dir.path().join("state"));
    assert_eq!(code, Some(0), "after {after:?}");
}

#[test]
fn a_move_of_the_ledger_that_is_told_to_stop_says_that_it_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let (code, after) = stopped(&["ledger", "move", "--to", "secrets"], dir.path());
    assert_eq!(code, Some(1), "after {after:?}");
}
