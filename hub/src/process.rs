//! This process and its children: descriptors, and children that end with all they started.

use std::{io, process::ExitStatus};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process_group, setrlimit, waitid,
};
use tokio::process::Child;

/// Takes as many descriptors as the system allows: each agent's stream is one.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the number of descriptors stays as it is");
    }
}

/// Descriptors that this process may have.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Resident bytes and open descriptors of this process; zero where the system does not tell.
pub fn own() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    // The size of the directory is their number; a system before Linux 6.2 says nothing, and they are counted.
    let size = std::fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    let files = match usize::try_from(size) {
        Ok(files) if files > 0 => files,
        _ => std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
    };
    (kib.unwrap_or(0) << 10, files)
}

/// What a process and all it started use now.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    /// Threads.
    pub(crate) threads: usize,
    /// Resident bytes of their own, without files that are mapped; what several share is counted for each.
    pub(crate) resident: u64,
}

/// Looks at a process and its descendants, but for those whose parent has ended; nothing where there is no such process.
/// No limit of the kernel's is about them together: those of processes and threads are a user's, and not root's at all.
pub(crate) fn usage(process: u32) -> Usage {
    let (mut usage, mut processes) = (Usage::default(), vec![process]);
    while let Some(process) = processes.pop() {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        usage.threads += usize::try_from(field("Threads:")).unwrap_or(usize::MAX);
        usage.resident += field("RssAnon:") << 10;
        let threads = std::fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            processes.extend(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
        }
    }
    usage
}

/// The process group of a child spawned with `process_group(0)`. Killed when dropped, unless its leader has ended.
#[derive(Debug)]
pub(crate) struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// The group that `child` leads.
    pub(crate) fn of(child: &Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
    }

    /// Waits for the end of `child`, which leads it, and kills what that has left behind.
    pub(crate) async fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        if let Some(leader) = self.0 {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            tokio::task::spawn_blocking(move || waitid(WaitId::Pid(leader), ended)).await??;
        }
        // Before its end is taken notice of: until then no other process can have its number.
        self.kill();
        child.wait().await
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // Fails only when nothing of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Stdio, time::Duration};

    use flotilla_testkit::wait_until;
    use tokio::{io::AsyncReadExt as _, process::Command};

    use super::*;

    #[test]
    fn descriptors_are_counted() {
        let (_, before) = own();
        let files: Vec<_> = (0..500)
            .map(|_| std::fs::File::open("/dev/null").expect("opens"))
            .collect();
        let (resident, after) = own();
        // Other tests open and close theirs meanwhile.
        assert!(
            after.saturating_sub(before) > files.len() / 2,
            "{before}, {after}"
        );
        assert!(resident > 0);
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_ends_with_it() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; exit 7"])
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let mut group = ProcessGroup::of(&child);
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut printed = String::new();
        // The pipe ends once nobody holds it any more: the sleeping one does.
        let (status, read) = tokio::join!(group.wait(&mut child), stdout.read_to_string(&mut printed));
        assert_eq!(status.expect("ended").code(), Some(7));
        read.expect("read");
        let left: u32 = printed.trim().parse().expect("a number");
        let over = wait_until("the end of it", Duration::from_secs(10), async || {
            let status = std::fs::read_to_string(format!("/proc/{left}/status")).unwrap_or_default();
            let is_over = status.is_empty()
                || ["State:\tZ", "State:\tX"]
                    .iter()
                    .any(|over| status.contains(over));
            if is_over { Ok(Some(())) } else { Err(status) }
        });
        over.await.expect("it ends");
    }
}
