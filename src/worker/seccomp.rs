//! The system calls that the worker may make once it is locked in: memory, time, reading and writing files below its
//! directories. Everything else answers EPERM: sockets, processes, threads, mounts, tracing, io_uring, bpf, ….

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Allowed with any argument. What is not obvious: Rust's standard library sets and removes alternate signal stacks,
/// the allocator trims with `madvise`, ONNX Runtime asks for the processor it runs on.
const ALLOWED: &[libc::c_long] = &[
    // files that are open
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fadvise64,
    libc::SYS_dup,
    libc::SYS_ppoll,
    libc::SYS_getdents64,
    // names: Landlock says which
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // time, waiting, randomness
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
    // signals to itself, and its end
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // who it is
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_uname,
    // passed on to the first filter, which answers ENOSYS
    libc::SYS_clone3,
];

/// What older libraries call on this architecture in place of the above.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Puts the filter in force. Returns false where the kernel has none.
pub fn filter() -> anyhow::Result<bool> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    // glibc tries clone3 first and falls back to clone only when it does not exist.
    let first = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, vec![])]),
        SeccompAction::Allow,
        errno(libc::ENOSYS)?,
        architecture,
    )?;
    let second = SeccompFilter::new(rules()?, errno(libc::EPERM)?, SeccompAction::Allow, architecture)?;
    for filter in [first, second] {
        let program: BpfProgram = filter.try_into()?;
        match seccompiler::apply_filter_all_threads(&program) {
            Ok(()) => {}
            Err(Error::Seccomp(error)) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn errno(code: i32) -> anyhow::Result<SeccompAction> {
    Ok(SeccompAction::Errno(u32::try_from(code)?))
}

fn rules() -> anyhow::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, vec![])).collect();
    // No new code: libraries are loaded by now.
    let executable = u64::try_from(libc::PROT_EXEC)?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![when(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    // Limits of itself alone.
    rules.insert(libc::SYS_prlimit64, vec![when(0, SeccompCmpOp::Eq, 0)?]);
    // abort() signals the calling thread, which must stay possible.
    rules.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    // Not the commands that make the kernel send signals.
    let commands = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
    let commands = commands.into_iter().map(|command| when(1, SeccompCmpOp::Eq, u64::try_from(command)?));
    rules.insert(libc::SYS_fcntl, commands.collect::<anyhow::Result<_>>()?);
    Ok(rules)
}

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> anyhow::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}
