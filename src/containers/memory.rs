//! The memory that the jobs of a node share: a job starts on its pixels only when what its plan says it will hold at most
//! is free. First come, first served, so that a large job is not passed by small ones for ever.

use std::fs;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in these.
const UNIT_BYTES: u64 = 1 << 20;

/// What is not in use.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    free: Arc<Semaphore>,
    units: u32,
}

/// Memory that a job holds; dropping it gives it back.
#[derive(Debug)]
pub struct Reservation {
    _units: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// For jobs that together may hold `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let free = Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS)));
        Self { free, units }
    }

    /// For `bytes`, or for three quarters of this machine when that is 0: the rest is for the server and for files.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        Self::new(if bytes > 0 { bytes } else { machine_bytes().map_or(u64::MAX, |all| all / 4 * 3) })
    }

    /// All of it, bytes: a job whose plan asks for more fits no slot of this node.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.units as u64 * UNIT_BYTES
    }

    /// Waits until `bytes` are free and takes them. What is above the total counts as the total. Cancel safe.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units);
        // It is never closed.
        Reservation { _units: self.free.clone().acquire_many_owned(units).await.ok() }
    }
}

/// Memory of this machine, or of the control group that this process is held in, bytes; `None` where neither is told.
#[must_use]
pub fn machine_bytes() -> Option<u64> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let group = number("/sys/fs/cgroup/memory.max").or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let facts = fs::read_to_string("/proc/meminfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    Some(group.map_or(machine, |group| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_more_is_given_than_there_is() {
        let budget = MemoryBudget::new(10 * UNIT_BYTES);
        let first = budget.reserve(6 * UNIT_BYTES).await;
        let mut second = Box::pin(budget.reserve(5 * UNIT_BYTES));
        assert!((&mut second).now_or_never().is_none(), "it would not fit");
        // A small one that would fit waits behind the large one.
        let mut third = Box::pin(budget.reserve(UNIT_BYTES));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut second).now_or_never().is_some());
        assert!((&mut third).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_exceeds_the_total_takes_all_of_it() {
        let budget = MemoryBudget::new(3 * UNIT_BYTES);
        let all = budget.reserve(u64::MAX).await;
        assert!(budget.reserve(1).now_or_never().is_none());
        drop(all);
        assert!(budget.reserve(1).now_or_never().is_some());
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine_bytes().unwrap() > 64 * UNIT_BYTES);
    }
}
