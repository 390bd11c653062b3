//! The child's side: this process takes away from itself what the policy does not grant, then becomes the program.
//! There is no way back, so that nothing of this runs in the hub proper.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    net::{TcpStream, UdpSocket},
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::policy::Policy;

/// The hidden subcommand: `flotilla-hub sandbox-exec POLICY PROGRAM [ARGUMENT…]`.
pub const SUBCOMMAND: &str = "sandbox-exec";
/// In the place of a program: try what must fail, and say whether it did.
pub const CHECK: &str = "--check";
/// Exit status when the restrictions, or the program, could not be put in place.
pub const FAILED: u8 = 125;

/// Why a process could not confine itself.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The arguments are not what the parent passes.
    #[error("sandbox-exec is not for use by hand")]
    Arguments,
    /// A resource limit was refused.
    #[error("cannot limit resources")]
    Limit(#[source] io::Error),
    /// A path of the policy is not there.
    #[error("cannot open a path of the policy: {0}")]
    Path(String),
    /// The kernel has no Landlock, or refuses it.
    #[error("landlock is not available: {0}")]
    Landlock(String),
    /// The kernel has no seccomp filters, or refuses them.
    #[error("seccomp is not available: {0}")]
    Seccomp(String),
    /// The program does not start.
    #[error("cannot run the program")]
    Exec(#[source] io::Error),
    /// Something that must fail did not.
    #[error("the sandbox has a hole: {0} is possible")]
    Hole(&'static str),
}

/// Becomes the confined program; returns only when that failed, or after a check. `arguments` are those behind the
/// subcommand. Must be called before `main` starts a thread: a filter holds for one, and there must be no other.
pub fn exec(arguments: Vec<OsString>) -> ExitCode {
    match enter(arguments.into_iter()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox: {}", crate::source::transport::chain(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn enter(mut arguments: impl Iterator<Item = OsString>) -> Result<(), ConfineError> {
    let policy = arguments
        .next()
        .and_then(|policy| serde_json::from_str::<Policy>(policy.to_str()?).ok());
    let (Some(policy), Some(program)) = (policy, arguments.next()) else {
        return Err(ConfineError::Arguments);
    };
    limit(&policy)?;
    if !policy.unconfined {
        restrict_files(&policy)?;
        restrict_calls()?;
    }
    if program == CHECK {
        return if policy.unconfined { Ok(()) } else { check() };
    }
    Err(ConfineError::Exec(Command::new(program).args(arguments).exec()))
}

/// Limits what can be used up. Processes are not counted: the filter lets none be started.
fn limit(policy: &Policy) -> Result<(), ConfineError> {
    let limits = &policy.limits;
    for (resource, value) in [
        (Resource::As, limits.memory),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Nofile, limits.open_files),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        let both = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(resource, both).map_err(|error| ConfineError::Limit(error.into()))?;
    }
    Ok(())
}

/// Leaves only the policy's paths. The first version of Landlock is required; what later kernels can deny besides
/// is denied there, and the filter of system calls covers it everywhere.
fn restrict_files(policy: &Policy) -> Result<(), ConfineError> {
    let refused = |error: RulesetError| ConfineError::Landlock(error.to_string());
    let newest = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(refused)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(newest)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(newest)))
        .and_then(Ruleset::create)
        .map_err(refused)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let read = policy.read.iter().map(|path| (path, read));
    let execute = policy
        .execute
        .iter()
        .map(|path| (path, AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute));
    for (path, access) in read.chain(execute) {
        let opened = PathFd::new(path).map_err(|error| ConfineError::Path(error.to_string()))?;
        let access = if path.is_dir() {
            access
        } else {
            access & AccessFs::from_file(newest)
        };
        ruleset = ruleset
            .add_rule(PathBeneath::new(opened, access))
            .map_err(refused)?;
    }
    let status = ruleset.restrict_self().map_err(refused)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(ConfineError::Landlock("the kernel does not enforce it".into()));
    }
    Ok(())
}

/// What a program needs that reads files, computes and prints: memory, threads, clocks. Not among them: sockets,
/// new processes, tracing, signals to others, and every way to change a file.
const ALLOWED: [i64; 70] = [
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fchdir,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_settime,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Older forms that other architectures never had.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: [i64; 10] = [
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: [i64; 0] = [];

fn restrict_calls() -> Result<(), ConfineError> {
    let filter = filter().map_err(|error| ConfineError::Seccomp(error.to_string()))?;
    seccompiler::apply_filter(&filter).map_err(|error| ConfineError::Seccomp(error.to_string()))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(&ALLOWED_HERE)
        .map(|&call| (call, Vec::new()))
        .collect();
    // Threads of this process, and no process.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(
        libc::SYS_clone,
        vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?],
    );
    // Go's scheduler signals its own threads; the number stays through `execve`.
    rules.insert(
        libc::SYS_tgkill,
        vec![rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?],
    );
    // Its own limits, which are fixed by now; those of others would end them.
    rules.insert(libc::SYS_prlimit64, vec![rule(0, SeccompCmpOp::Eq, 0)?]);
    // Absent rather than forbidden: programs then take the older way, where there is an honest one.
    let denied = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(
        rules,
        denied,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    filter.try_into()
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Qword,
        operator,
        value,
    )?])
}

/// Tries what must fail.
fn check() -> Result<(), ConfineError> {
    let holes = [
        (
            "reading a file outside",
            std::fs::read("/proc/self/status").is_ok() || std::fs::read_dir("/").is_ok(),
        ),
        (
            "connecting",
            TcpStream::connect("127.0.0.1:9")
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused),
        ),
        ("opening a socket", UdpSocket::bind("127.0.0.1:0").is_ok()),
        (
            "starting a process",
            Command::new("/proc/self/exe").arg("sandbox-exec").spawn().is_ok(),
        ),
        (
            "reading or setting limits of another process",
            rustix::process::getppid().is_some_and(|parent| {
                let same = rustix::process::prlimit(
                    Some(parent),
                    Resource::Core,
                    Rlimit {
                        current: Some(0),
                        maximum: Some(0),
                    },
                );
                same.is_ok()
            }),
        ),
        (
            "writing a file",
            std::fs::write(std::env::temp_dir().join("flotilla-sandbox-check"), "").is_ok(),
        ),
    ];
    match holes.into_iter().find(|(_, open)| *open) {
        Some((hole, _)) => Err(ConfineError::Hole(hole)),
        None => Ok(()),
    }
}
