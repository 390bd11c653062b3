//! Runs the Go compiler for one program, telling on standard error how long it has been at it.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Module, Tool, required_version};
use crate::RigError;
use crate::process::{Process, ProcessSpec, tail};

/// The oldest Go release that the modules of the rig build with.
const OLDEST_GO: (u32, u32) = (1, 26);
/// How long between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long between two looks at the compiler.
const LOOK: Duration = Duration::from_millis(100);

/// Asks the Go on the path for its release, such as `go1.26.8`, and refuses one that is too old.
pub(super) fn go_version() -> Result<String, RigError> {
    let wanted = format!("{}.{}", OLDEST_GO.0, OLDEST_GO.1);
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output();
    let Ok(output) = output else {
        return Err(RigError::MissingProgram {
            program: "go".to_owned(),
            install: format!("install Go {wanted} or newer, which compiles etcd and Kubernetes for the rig"),
        });
    };
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match release(&found) {
        Some(version) if version >= OLDEST_GO => Ok(found),
        _ => Err(RigError::GoTooOld { found, wanted }),
    }
}

/// Major and minor of `go1.26.8`; a name of another form has none.
fn release(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix("go")?.split(['.', ' ', '-', 'r']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The flags of `go build` that decide what comes out.
pub(super) fn flags(module: &Module) -> Vec<String> {
    let mut linker = "-s -w".to_owned();
    if let Some(version) = required_version(module, "k8s.io/kubernetes") {
        // What the API server answers at /version; Kubernetes' own build stamps it the same way.
        let mut numbers = version.trim_start_matches('v').split('.');
        let stamps = [
            ("gitVersion", version),
            ("gitMajor", numbers.next().unwrap_or_default()),
            ("gitMinor", numbers.next().unwrap_or_default()),
        ];
        for (name, value) in stamps {
            linker.push_str(&format!(" -X k8s.io/component-base/version.{name}={value}"));
        }
    }
    vec![
        "-trimpath".to_owned(),
        "-buildvcs=false".to_owned(),
        format!("-ldflags={linker}"),
    ]
}

/// Compiles `tool` into `folder`. The caller holds the folder's lock.
pub(super) fn build(tool: Tool, module: &Module, folder: &Path) -> Result<(), RigError> {
    let source = folder.join("module");
    std::fs::create_dir_all(&source).map_err(RigError::io("make", &source))?;
    for (name, content) in [("go.mod", module.manifest), ("go.sum", module.sums)] {
        let path = source.join(name);
        std::fs::write(&path, content).map_err(RigError::io("write", &path))?;
    }
    // Renamed once it is whole, so that a build cut short leaves nothing that looks like a program.
    let part = folder.join(format!("{}.part", tool.name()));
    let log = folder.join(format!("{}.log", tool.name()));
    let spec = ProcessSpec::new(tool.name(), Path::new("go"), &source, log.clone())
        .args(["build"])
        .args(flags(module))
        .args(["-o".into(), part.clone().into_os_string(), tool.package().into()])
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off");
    compile(tool, spec, &log)?;
    let program = folder.join(tool.name());
    std::fs::rename(&part, &program).map_err(RigError::io("rename", &part))
}

fn compile(tool: Tool, spec: ProcessSpec, log: &Path) -> Result<(), RigError> {
    let start = Instant::now();
    tell(&format!("building {} {} …", tool.name(), tool.package()));
    let process = Process::start(spec)?;
    let mut told = start;
    let status = loop {
        if let Some(status) = process.exit_status() {
            break status;
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            tell(&format!(
                "building {} … {} s",
                tool.name(),
                start.elapsed().as_secs()
            ));
        }
        std::thread::sleep(LOOK);
    };
    if !status.success() {
        return Err(RigError::Build {
            tool: tool.name().to_owned(),
            output: tail(log),
        });
    }
    tell(&format!(
        "built {} in {} s",
        tool.name(),
        start.elapsed().as_secs()
    ));
    Ok(())
}

/// Writes a line of progress past the capturing of test output, so that a first build never looks like a hang.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "flotilla-testkit: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_releases_are_compared_by_number() {
        assert_eq!(release("go1.26.8"), Some((1, 26)));
        assert_eq!(release("go1.27rc1"), Some((1, 27)));
        assert_eq!(release("go1.9"), Some((1, 9)));
        assert_eq!(release("devel +abc"), None);
        assert!(release("go1.9") < Some(OLDEST_GO));
    }
}
