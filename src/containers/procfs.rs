//! What `/proc` says about a process, and the record by which a later server finds a worker that outlived its parent.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

/// Name of the record, beside `in/` and `out/`, where the worker cannot write.
pub const RECORD: &str = "worker.pid";
/// A record is three short words.
const RECORD_BYTES_MAX: u64 = 256;

/// One process, told apart from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pid: i32,
    /// Clock ticks after boot.
    started: u64,
    boot: String,
}

impl Identity {
    /// Of a running process; `None` if there is none of that number.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc_pid_stat(5): the name is in parentheses and may hold any character; field 22 is the start time.
        let after_name = stat.rsplit_once(')')?.1;
        let started = after_name.split_ascii_whitespace().nth(19)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, started, boot })
    }

    /// Writes the record into a slot directory.
    ///
    /// # Errors
    /// Of the file system.
    pub fn record(&self, slot: &Path) -> io::Result<()> {
        let temporary = slot.join(".worker.pid");
        fs::write(&temporary, format!("{} {} {}\n", self.pid, self.started, self.boot))?;
        fs::rename(temporary, slot.join(RECORD))
    }

    /// Reads the record of a slot directory, if there is a sound one.
    #[must_use]
    pub fn recorded(slot: &Path) -> Option<Self> {
        let path = slot.join(RECORD);
        if fs::symlink_metadata(&path).ok().filter(|found| found.is_file())?.len() > RECORD_BYTES_MAX {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_ascii_whitespace();
        let pid = words.next()?.parse().ok().filter(|pid| *pid > 1)?;
        Some(Self { pid, started: words.next()?.parse().ok()?, boot: words.next()?.to_owned() })
    }

    /// Kills the process and its group, if it is still the one. Returns whether it was.
    #[must_use]
    pub fn kill(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        // The descriptor pins the number: what is checked next is what is killed.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        if Self::of(self.pid).as_ref() != Some(self) {
            return false;
        }
        // It leads a group of its own, so the number of the group is its own too.
        let group = rustix::process::getpgid(Some(pid)).is_ok_and(|group| group == pid);
        if group {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        pidfd_send_signal(descriptor, Signal::KILL).is_ok()
    }
}

/// The only child of process `pid`, if that process is in a control group whose name holds `container`: in another
/// process namespace the number would mean another process.
#[must_use]
pub fn only_child_in(pid: i32, container: &str) -> Option<u32> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    if container.is_empty() || !groups.contains(container) {
        return None;
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

/// Peak resident memory of a process, bytes.
#[must_use]
pub fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").process_group(0).spawn().unwrap()
    }

    #[test]
    fn the_one_that_was_recorded_is_killed() {
        let slot = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        let identity = Identity::of(child.id().try_into().unwrap()).unwrap();
        identity.record(slot.path()).unwrap();
        let read = Identity::recorded(slot.path()).unwrap();
        assert_eq!(read, identity);
        assert!(peak_bytes(child.id()).is_some());
        assert!(read.kill());
        assert!(!child.wait().unwrap().success());
        assert!(!read.kill());
    }

    #[test]
    fn a_number_that_was_given_again_is_left_alone() {
        let mut child = sleeper();
        let mut identity = Identity::of(child.id().try_into().unwrap()).unwrap();
        identity.started -= 1;
        assert!(!identity.kill());
        identity.started += 1;
        identity.boot = "another".to_owned();
        assert!(!identity.kill());
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn damaged_records_are_none() {
        let slot = tempfile::tempdir().unwrap();
        assert!(Identity::recorded(slot.path()).is_none());
        for text in ["", "1 2 boot", "-5 1 boot", "12", "x y z"] {
            fs::write(slot.path().join(RECORD), text).unwrap();
            assert!(Identity::recorded(slot.path()).is_none(), "{text}");
        }
        fs::remove_file(slot.path().join(RECORD)).unwrap();
        std::os::unix::fs::symlink("/proc/self/stat", slot.path().join(RECORD)).unwrap();
        assert!(Identity::recorded(slot.path()).is_none());
    }
}
