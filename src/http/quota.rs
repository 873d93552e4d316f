//! `/quota`: what one uses and may use; and the refusal when a bound is reached.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::extract::Owner;
use super::limits::drained_after_s;
use super::problem::{Kind, Problem};
use crate::auth::now_ms;
use crate::job::OwnerId;
use crate::store::quotas::{DAY_MS, Demand, Measure, Quota, QuotaReached, Standing};
use crate::store::rfc3339;

/// What is used of a bound.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Share {
    /// Now.
    pub used: u64,
    /// `null`: there is no bound.
    pub limit: Option<u64>,
}

/// What somebody uses and may use.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QuotaView {
    /// Bytes of images and their files, and of announced uploads that are not completed.
    pub stored_bytes: Share,
    /// Pixels of what was taken within the last 24 hours; processing again counts again.
    pub pixels_per_day: Share,
    /// Jobs that have not ended.
    pub jobs_queued: Share,
}

impl QuotaView {
    /// Of somebody who stands like this, where `usual` holds for those for whom nothing else was set.
    pub fn of(standing: &Standing, usual: Option<Quota>) -> Self {
        let holds = usual.map(|usual| standing.own.over(usual)).unwrap_or_default();
        let share = |measure| Share { used: standing.usage.of(measure), limit: holds.of(measure) };
        Self {
            stored_bytes: share(Measure::StoredBytes),
            pixels_per_day: share(Measure::PixelsPerDay),
            jobs_queued: share(Measure::JobsQueued),
        }
    }
}

/// What the caller uses and may use.
#[utoipa::path(get, path = "/quota", operation_id = "show_quota", tag = "accounts", responses(
    (status = 200, body = QuotaView),
))]
#[expect(clippy::missing_errors_doc, reason = "its documentation is the description of the route")]
pub async fn show(State(state): State<AppState>, Owner(owner): Owner) -> Result<axum::Json<QuotaView>, Problem> {
    let standing = state.ledger.standing(owner).await?;
    Ok(axum::Json(QuotaView::of(&standing, Quota::usual(&state.config))))
}

/// Refuses what has no room, before any work is done. What is taken is looked at once more in the transaction that accepts
/// it, where two at once cannot both have the last room.
///
/// # Errors
/// 429 with the bound that is reached.
pub async fn admit(state: &AppState, owner: OwnerId, demand: Demand) -> Result<(), Problem> {
    let Some(quota) = Quota::usual(&state.config) else { return Ok(()) };
    match state.ledger.has_room(owner, quota, demand).await? {
        Some(full) => Err(reached(state, &full).await),
        None => Ok(()),
    }
}

/// What one upload of so many bytes asks for at least, before its pixels are known.
pub const fn upload_of(bytes: u64) -> Demand {
    Demand { bytes: if bytes == 0 { 1 } else { bytes }, pixels: 1, jobs: 1, upload: None }
}

/// The bound that is reached, what was measured, and when there is room again, where time makes room.
pub async fn reached(state: &AppState, full: &QuotaReached) -> Problem {
    let QuotaReached { measure, limit, used, wanted, room_in_ms } = *full;
    let total = used.saturating_add(wanted);
    match measure {
        Measure::StoredBytes => Problem::new(Kind::StorageQuota, "This does not fit into what you may store.")
            .figures(format!("{limit} bytes"), format!("{total} bytes"))
            .remedy("Delete images that are no longer needed, or ask an administrator for more."),
        Measure::PixelsPerDay => {
            let problem = Problem::new(Kind::PixelQuota, "This is more than may be processed for you in 24 hours.")
                .figures(format!("{limit} px"), format!("{total} px"));
            match room_in_ms {
                Some(ms) => problem
                    .remedy(format!(
                        "Send it again from {} on, or ask an administrator for more.",
                        rfc3339(now_ms() + ms)
                    ))
                    .retry_after(u64::try_from(ms).unwrap_or(0).div_ceil(1000)),
                None => {
                    problem.remedy("Scan at a lower resolution or send fewer pages, or ask an administrator for more.")
                }
            }
        }
        Measure::JobsQueued => Problem::new(Kind::JobQuota, "As many of your jobs are under way as may be.")
            .figures(format!("{limit} jobs"), format!("{total} jobs"))
            .remedy("Send it again after the time in Retry-After.")
            .retry_after(jobs_done_after_s(state, total.saturating_sub(limit)).await),
    }
}

/// When `excess` jobs of one owner should be done: the slots are shared with everybody who has jobs.
async fn jobs_done_after_s(state: &AppState, excess: u64) -> u64 {
    let typical_ms = state.ledger.typical_duration_ms().await.ok().flatten();
    let nodes = state.control.nodes().await.unwrap_or_default();
    let slots = nodes.iter().filter(|node| !node.draining).map(|node| u64::from(node.slots_count)).sum();
    let owners = state.ledger.owners_at_work().await.unwrap_or(1).max(1);
    // Nobody waits a day for a queue: an estimate beyond that says no more than "not soon".
    let day_s = DAY_MS.unsigned_abs() / 1000;
    drained_after_s(typical_ms, excess.saturating_mul(owners), slots).min(day_s)
}
