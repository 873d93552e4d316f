//! Locks the process in, layer by layer, each as far as this kernel and this user permit, and tells which are in force:
//!
//! 1. resource limits,
//! 2. a user and a network namespace of its own,
//! 3. the slot directory as root directory,
//! 4. no capabilities,
//! 5. no new privileges,
//! 6. Landlock: read below `in/`, read and write below `out/`, no TCP, no signal and no abstract socket out of the domain,
//! 7. the system call filter of [`super::seccomp`].
//!
//! Layers 2 to 4 may be refused to an ordinary user; 5 to 7 need no privilege, only the kernel. A layer that fails for
//! any other reason than that the kernel or the administrator denies it is an error: the worker does not start.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope, make_bitflags,
};
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::seccomp;
use crate::pipeline::wire::Isolation;

/// The newest version of Landlock whose rights are known here; older kernels get what they have.
const LANDLOCK: ABI = ABI::V9;

/// Bounds of the process.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Memory, bytes.
    pub memory_bytes_max: u64,
    /// Open files.
    pub open_files_max: u64,
    /// Length of a file it writes, bytes.
    pub file_bytes_max: u64,
}

/// The directories as they are named after lock-down, and what is in force.
#[derive(Debug)]
pub struct Place {
    /// Readable.
    pub input: PathBuf,
    /// Readable and writable.
    pub output: PathBuf,
    /// The layers.
    pub isolation: Isolation,
}

/// Asks for SIGKILL when the parent dies, and makes sure that it has not died before the question.
///
/// The signal is bound to the thread of the parent that started this process: it must outlive the process.
pub fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let input = io::stdin();
    let mut polled = [PollFd::new(&input, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if polled.iter().any(|file| file.revents().contains(PollFlags::HUP)) {
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the parent is gone"));
    }
    Ok(())
}

/// Locks the process in. It must have one thread: some layers hold for the calling thread alone.
pub fn lock_down(slot: &Path, bounds: Bounds) -> anyhow::Result<Place> {
    let threads = std::fs::read_dir("/proc/self/task").context("counting threads")?.count();
    anyhow::ensure!(threads == 1, "{threads} threads before lock-down, must be 1 (is ORT_DISABLE_TELEMETRY=1 set?)");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let rlimits = limit(bounds).context("resource limits")?;
    let own_network = leave_network();
    let own_root = change_root(slot).context("changing the root directory")?;
    let base = if own_root { Path::new("/") } else { slot };
    let (input, output) = (base.join("in"), base.join("out"));
    let no_capabilities = drop_capabilities();
    rustix::thread::set_no_new_privs(true).context("no new privileges")?;
    // A change of credentials clears the parent-death signal.
    die_with_parent()?;
    let landlock_abi = landlock(&input, &output).context("Landlock")?;
    let no_new_privileges = rustix::thread::no_new_privs()?;
    let seccomp = seccomp::filter().context("system call filter")?;
    let isolation =
        Isolation { landlock_abi, seccomp, no_new_privileges, own_network, own_root, no_capabilities, rlimits };
    Ok(Place { input, output, isolation })
}

fn limit(bounds: Bounds) -> io::Result<Vec<String>> {
    let rules = [
        // Nothing of an image may be left in a core file.
        (Resource::Core, "core", 0),
        (Resource::Nofile, "nofile", bounds.open_files_max),
        (Resource::Fsize, "fsize", bounds.file_bytes_max),
        // No process and no thread: the engine has one.
        (Resource::Nproc, "nproc", 0),
        (Resource::Memlock, "memlock", 0),
        (Resource::Msgqueue, "msgqueue", 0),
        (Resource::Data, "data", bounds.memory_bytes_max),
    ];
    let mut told = Vec::with_capacity(rules.len());
    for (resource, name, most) in rules {
        // An administrator may have set less.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        told.push(format!("{name}={most}"));
    }
    Ok(told)
}

/// A network namespace of its own has no interface but a loopback that is down.
fn leave_network() -> bool {
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).is_ok()
        || nix::sched::unshare(CloneFlags::CLONE_NEWNET).is_ok()
}

/// Makes the slot directory the root, if that is permitted.
fn change_root(slot: &Path) -> anyhow::Result<bool> {
    rustix::process::chdir(slot)?;
    if rustix::process::chroot(".").is_err() {
        return Ok(false);
    }
    rustix::process::chdir("/")?;
    Ok(true)
}

/// Gives up every capability; returns whether none is left.
fn drop_capabilities() -> bool {
    for capability in CapabilitySet::all().iter() {
        // Fails for capabilities that this kernel does not know, and where there is none to begin with.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let _ = rustix::thread::set_capabilities(None, none);
    rustix::thread::capabilities(None).is_ok_and(|left| left.permitted.is_empty() && left.effective.is_empty())
}

/// Returns the version in force, 0 where the kernel has none.
fn landlock(input: &Path, output: &Path) -> anyhow::Result<u32> {
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = make_bitflags!(AccessFs::{
        WriteFile | ReadFile | ReadDir | MakeReg | MakeDir | RemoveFile | RemoveDir | Truncate
    });
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(input)?, read))?
        .add_rule(PathBeneath::new(PathFd::new(output)?, write))?
        .restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    })
}
