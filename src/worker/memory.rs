//! The limit on memory of this process, moved from job to job below a cap that cannot be raised again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::pipeline::wire::SLACK_BYTES;

/// Memory of this process.
pub struct Memory {
    /// Opened before lock-down, because it cannot be after.
    statm: File,
    page_bytes: u64,
    cap_bytes: u64,
}

impl Memory {
    /// `cap_bytes` is the limit that [`super::sandbox`] sets.
    pub fn open(cap_bytes: u64) -> io::Result<Self> {
        let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Ok(Self { statm: File::open("/proc/self/statm")?, page_bytes, cap_bytes })
    }

    /// What a plan may ask for, the program included, bytes.
    pub const fn available(&self) -> u64 {
        self.cap_bytes.saturating_sub(SLACK_BYTES)
    }

    /// Holds the process to the plan of a job (the program included) and some slack. Returns the limit, bytes.
    pub fn limit(&mut self, planned_bytes: u64) -> io::Result<u64> {
        // What earlier jobs left to the allocator is in use for the kernel, and free for the next job.
        let limit = planned_bytes.max(self.in_use()?).saturating_add(SLACK_BYTES).min(self.cap_bytes);
        self.set(limit)?;
        Ok(limit)
    }

    /// Back to the cap.
    pub fn release(&mut self) -> io::Result<()> {
        self.set(self.cap_bytes)
    }

    fn set(&self, soft: u64) -> io::Result<()> {
        setrlimit(Resource::Data, Rlimit { current: Some(soft), maximum: Some(self.cap_bytes) })?;
        Ok(())
    }

    /// Data and stack of the process, bytes: what `RLIMIT_DATA` counts, and the stack.
    fn in_use(&self) -> io::Result<u64> {
        let mut text = [0u8; 256];
        let length = self.statm.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        // proc_pid_statm(5): size resident shared text lib data dirty, in pages.
        let pages = text.split_ascii_whitespace().nth(5).and_then(|pages| pages.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "statm"))?;
        Ok(pages * self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_grows_with_what_is_held() {
        let memory = Memory::open(u64::MAX).unwrap();
        let before = memory.in_use().unwrap();
        let block = vec![0u8; 64 * 1024 * 1024];
        assert!(memory.in_use().unwrap() >= before + 60 * 1024 * 1024, "{}", block.len());
    }

    #[test]
    fn a_plan_may_ask_for_what_the_slack_leaves() {
        assert_eq!(Memory::open(2 * SLACK_BYTES).unwrap().available(), SLACK_BYTES);
    }
}
