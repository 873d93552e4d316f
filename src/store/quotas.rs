//! What each owner uses and may use: a port of its own beside the ledger.
//!
//! A bound is looked at inside the transaction that accepts, and transactions that accept for one owner come one after the
//! other: two requests at once never both take the last room.

use async_trait::async_trait;

use super::{LedgerResult, NewImage};
use crate::config::{AuthMode, Config};
use crate::job::{JobId, OwnerId, UploadId};

/// Bounds that decide whether a submission is taken.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Unfinished jobs of all owners together.
    pub queue_jobs_max: u64,
    /// An owner with this many unfinished jobs goes to the bulk lane.
    pub bulk_from_jobs: u64,
    /// Attempts of a job.
    pub attempts_max: u32,
    /// Crashes of a job.
    pub crashes_max: u32,
    /// Bounds of an owner for whom nothing else was set; `None`: nobody has any.
    pub quota: Option<Quota>,
}

/// The figures of a refusal for length of queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull {
    /// The bound.
    pub limit: u64,
    /// Unfinished jobs at the time.
    pub measured: u64,
}

/// For how long pixels count, milliseconds.
pub const DAY_MS: i64 = 24 * 3_600_000;
/// Pixels are noted by the minute: what was taken in one of them stops to count together, at its end plus a day.
pub const MINUTE_MS: i64 = 60_000;

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Bytes of images and their files, with those that announced uploads will need.
    StoredBytes,
    /// Pixels of all pages that were taken within a day; processing again counts again.
    PixelsPerDay,
    /// Jobs that have not ended.
    JobsQueued,
}

/// Bounds of one owner; `None`: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Bytes.
    pub stored_bytes_max: Option<u64>,
    /// Pixels.
    pub pixels_per_day_max: Option<u64>,
    /// Jobs.
    pub jobs_queued_max: Option<u64>,
}

impl Quota {
    /// The bounds of a user for whom nothing else was set; `None` where nobody has any.
    #[must_use]
    pub fn usual(config: &Config) -> Option<Self> {
        let quotas = &config.quotas;
        let some = |bound: u64| (bound > 0).then_some(bound);
        (quotas.in_open_mode || config.auth.mode == AuthMode::Accounts).then(|| Self {
            stored_bytes_max: some(quotas.stored_bytes_max),
            pixels_per_day_max: some(quotas.pixels_per_day_max),
            jobs_queued_max: some(quotas.jobs_queued_max),
        })
    }

    /// The bound of one measure.
    #[must_use]
    pub const fn of(&self, measure: Measure) -> Option<u64> {
        match measure {
            Measure::StoredBytes => self.stored_bytes_max,
            Measure::PixelsPerDay => self.pixels_per_day_max,
            Measure::JobsQueued => self.jobs_queued_max,
        }
    }
}

/// What an administrator has set for one owner. `None`: as the settings say; 0: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Override {
    /// Bytes.
    pub stored_bytes_max: Option<u64>,
    /// Pixels.
    pub pixels_per_day_max: Option<u64>,
    /// Jobs.
    pub jobs_queued_max: Option<u64>,
}

impl Override {
    /// What holds for the owner.
    #[must_use]
    pub fn over(&self, usual: Quota) -> Quota {
        let one = |own: Option<u64>, usual| own.map_or(usual, |own| (own > 0).then_some(own));
        Quota {
            stored_bytes_max: one(self.stored_bytes_max, usual.stored_bytes_max),
            pixels_per_day_max: one(self.pixels_per_day_max, usual.pixels_per_day_max),
            jobs_queued_max: one(self.jobs_queued_max, usual.jobs_queued_max),
        }
    }
}

/// What an owner uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of images and their files.
    pub stored_bytes: u64,
    /// Bytes that announced uploads will need.
    pub reserved_bytes: u64,
    /// Pixels within the last day.
    pub pixels: u64,
    /// Jobs that have not ended.
    pub jobs: u64,
}

impl Usage {
    /// As it is held against the bound.
    #[must_use]
    pub const fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::StoredBytes => self.stored_bytes.saturating_add(self.reserved_bytes),
            Measure::PixelsPerDay => self.pixels,
            Measure::JobsQueued => self.jobs,
        }
    }
}

/// What an owner uses, and what was set for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Now.
    pub usage: Usage,
    /// By an administrator.
    pub own: Override,
}

/// What somebody asks for on top of what they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// To store.
    pub bytes: u64,
    /// To process.
    pub pixels: u64,
    /// To queue.
    pub jobs: u64,
    /// An announced upload whose bytes these are: they are not counted twice.
    pub upload: Option<UploadId>,
}

impl Demand {
    /// In the unit of one measure.
    #[must_use]
    pub const fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::StoredBytes => self.bytes,
            Measure::PixelsPerDay => self.pixels,
            Measure::JobsQueued => self.jobs,
        }
    }
}

impl NewImage {
    /// Pixels that its owner pays for.
    #[must_use]
    pub fn pixels_counted(&self) -> u64 {
        let known = |side: Option<u32>| u64::from(side.unwrap_or(0));
        let page = known(self.width_px).saturating_mul(known(self.height_px));
        self.pixels.unwrap_or_else(|| page.saturating_mul(known(self.pages_count).max(1)))
    }
}

/// The figures of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaReached {
    /// Which bound.
    pub measure: Measure,
    /// The bound.
    pub limit: u64,
    /// In use at the time.
    pub used: u64,
    /// What was asked for.
    pub wanted: u64,
    /// When time alone makes room, milliseconds from now: of pixels alone, and only if it ever does.
    pub room_in_ms: Option<i64>,
}

impl QuotaReached {
    /// The first bound that does not have room for it all. A demand of nothing needs no room.
    #[must_use]
    pub fn first(quota: &Quota, usage: &Usage, demand: &Demand) -> Option<Self> {
        [Measure::StoredBytes, Measure::PixelsPerDay, Measure::JobsQueued].into_iter().find_map(|measure| {
            let (limit, used, wanted) = (quota.of(measure)?, usage.of(measure), demand.of(measure));
            let reached = wanted > 0 && used.saturating_add(wanted) > limit;
            reached.then_some(Self { measure, limit, used, wanted, room_in_ms: None })
        })
    }
}

/// When `wanted` pixels will have room, if nothing more is taken: milliseconds since 1970. `taken` are the minutes that count,
/// the oldest first. `None`: never, since it is more than the bound.
#[must_use]
pub fn room_at_ms(taken: &[(i64, u64)], limit: u64, wanted: u64) -> Option<i64> {
    let mut left: u64 = taken.iter().map(|(_, pixels)| pixels).fold(0, |sum, pixels| sum.saturating_add(*pixels));
    if wanted > limit {
        return None;
    }
    taken.iter().find_map(|(minute_ms, pixels)| {
        left = left.saturating_sub(*pixels);
        (left.saturating_add(wanted) <= limit).then_some(minute_ms + MINUTE_MS + DAY_MS)
    })
}

/// A failed job, for administrators.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedJob {
    /// The job.
    pub job: super::JobRow,
    /// Of its image.
    pub filename: String,
    /// Whose, where there are accounts.
    pub username: Option<String>,
}

/// Bounds of owners, and what administrators see of all of them.
#[async_trait]
pub trait Quotas: Send + Sync + 'static {
    /// What an owner uses, and what was set for them.
    async fn standing(&self, owner: OwnerId) -> LedgerResult<Standing>;
    /// Whether there is room for `demand` at the moment, before its pixels are known: there is room again when there is for
    /// an image like the owner's last ones. Whoever accepts looks again.
    async fn has_room(&self, owner: OwnerId, quota: Quota, demand: Demand) -> LedgerResult<Option<QuotaReached>>;
    /// Sets the bounds of an owner; one with nothing set has those of the settings.
    async fn set_quota(&self, owner: OwnerId, own: Override) -> LedgerResult<()>;
    /// Owners with jobs that have not ended.
    async fn owners_at_work(&self) -> LedgerResult<u64>;

    /// An image of the owner with these bytes, whose job with this spec has succeeded or is on its way.
    async fn known_content(
        &self,
        owner: OwnerId,
        sha256: &str,
        spec: &serde_json::Value,
    ) -> LedgerResult<Option<(crate::job::ImageId, JobId)>>;

    /// Failed jobs of all owners, newest first, from `before` on (exclusive).
    async fn failed_jobs(&self, before: Option<JobId>, limit: u32) -> LedgerResult<Vec<FailedJob>>;
    /// The same as [`super::Ledger::retry`] for whoever owns it; `None` when there is no such job.
    async fn retry_for_owner(&self, id: JobId, limits: QueueLimits) -> LedgerResult<Option<super::Retried>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_wins_and_0_lifts() {
        let usual = Quota { stored_bytes_max: Some(5), pixels_per_day_max: Some(6), jobs_queued_max: None };
        let own = Override { stored_bytes_max: Some(0), pixels_per_day_max: None, jobs_queued_max: Some(2) };
        let holds = Quota { stored_bytes_max: None, pixels_per_day_max: Some(6), jobs_queued_max: Some(2) };
        assert_eq!(own.over(usual), holds);
    }

    #[test]
    fn there_is_room_when_enough_has_passed_and_not_before() {
        let taken = [(0, 40), (MINUTE_MS, 30), (5 * MINUTE_MS, 30)];
        let at = |minutes: i64| Some(minutes * MINUTE_MS + DAY_MS);
        assert_eq!(room_at_ms(&taken, 100, 1), at(1));
        assert_eq!(room_at_ms(&taken, 100, 40), at(1));
        assert_eq!(room_at_ms(&taken, 100, 41), at(2));
        assert_eq!(room_at_ms(&taken, 100, 100), at(6));
        assert_eq!(room_at_ms(&taken, 100, 101), None, "it never fits");
        // Whatever it says: at that time it fits, and a moment before it does not.
        for wanted in 1..=100 {
            let room_at = room_at_ms(&taken, 100, wanted).unwrap();
            let count = |now: i64| -> u64 {
                taken.iter().filter(|(minute, _)| minute + MINUTE_MS + DAY_MS > now).map(|(_, pixels)| pixels).sum()
            };
            assert!(count(room_at) + wanted <= 100 && count(room_at - 1) + wanted > 100, "{wanted}");
        }
    }

    #[test]
    fn the_first_bound_without_room_is_named() {
        let quota = Quota { stored_bytes_max: Some(10), pixels_per_day_max: Some(10), jobs_queued_max: Some(1) };
        let usage = Usage { stored_bytes: 4, reserved_bytes: 3, pixels: 10, jobs: 1 };
        let ask = |bytes, pixels, jobs| {
            let demand = Demand { bytes, pixels, jobs, upload: None };
            QuotaReached::first(&quota, &usage, &demand).map(|reached| (reached.measure, reached.used))
        };
        assert_eq!(ask(3, 0, 0), None);
        assert_eq!(ask(4, 1, 1), Some((Measure::StoredBytes, 7)));
        assert_eq!(ask(0, 1, 1), Some((Measure::PixelsPerDay, 10)));
        assert_eq!(ask(0, 0, 1), Some((Measure::JobsQueued, 1)));
    }
}
