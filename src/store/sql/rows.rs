//! Between rows and the types of the port.

use uuid::Uuid;

use super::query::{Row, unreadable};
use crate::job::{ImageId, JobCore, JobId, Lane, OwnerId, State};
use crate::store::{EventRow, FileRow, ImageRow, JobRow, LedgerResult, NewFile};

/// Milliseconds since 1970 (UTC).
pub(in crate::store) fn now_ms() -> i64 {
    let now = time::OffsetDateTime::now_utc();
    now.unix_timestamp() * 1000 + i64::from(now.millisecond())
}

/// A lane by its name.
pub(in crate::store) fn lane(row: &Row) -> LedgerResult<Lane> {
    Lane::parse(&row.get::<String>("lane")?).ok_or_else(|| unreadable("lane"))
}

/// A state by its name.
pub(in crate::store) fn state(row: &Row) -> LedgerResult<State> {
    State::parse(&row.get::<String>("state")?).ok_or_else(|| unreadable("state"))
}

/// A row of `jobs`, all columns.
pub(in crate::store) fn job(row: &Row) -> LedgerResult<JobRow> {
    Ok(JobRow {
        id: JobId(row.get("id")?),
        owner: OwnerId(row.get("owner")?),
        image_id: ImageId(row.get("image_id")?),
        preset: row.get("preset")?,
        spec: row.json("spec")?,
        lane: lane(row)?,
        state: state(row)?,
        starts: row.number("starts")?,
        attempt: row.number("attempt")?,
        attempts_max: row.number("attempts_max")?,
        crashes: row.number("crashes")?,
        crashes_max: row.number("crashes_max")?,
        run_at_ms: row.get("run_at_ms")?,
        cancel_requested: row.get("cancel_requested")?,
        stage: row.get("stage")?,
        progress: row.get("progress")?,
        created_at_ms: row.get("created_at_ms")?,
        started_at_ms: row.get("started_at_ms")?,
        finished_at_ms: row.get("finished_at_ms")?,
        node: row.get("node")?,
        incarnation: row.get("incarnation")?,
        slot: row.number_or_null("slot")?,
        error: row.json_or_null("error")?,
        gate: row.json_or_null("gate")?,
    })
}

/// A row of `images`, all columns, without its jobs.
pub(in crate::store) fn image(row: &Row) -> LedgerResult<ImageRow> {
    Ok(ImageRow {
        id: ImageId(row.get("id")?),
        owner: OwnerId(row.get("owner")?),
        filename: row.get("filename")?,
        content_type: row.get("content_type")?,
        size_bytes: row.number("size_bytes")?,
        sha256: row.get("sha256")?,
        width_px: row.number_or_null("width_px")?,
        height_px: row.number_or_null("height_px")?,
        pages_count: row.number_or_null("pages_count")?,
        created_at_ms: row.get("created_at_ms")?,
        job_ids: Vec::new(),
        state: None,
        verdict: None,
    })
}

/// Rows of `images` beside a job each (or nulls), one image's rows together: folded into one image each.
pub(in crate::store) fn images_with_jobs(rows: &[Row]) -> LedgerResult<Vec<ImageRow>> {
    let mut images: Vec<ImageRow> = Vec::new();
    let mut succeeded_ms = None;
    for row in rows {
        let id = ImageId(row.get("id")?);
        if images.last().is_none_or(|last| last.id != id) {
            images.push(image(row)?);
            succeeded_ms = None;
        }
        if let (Some(job), Some(last)) = (row.get::<Option<Uuid>>("job_id")?, images.last_mut()) {
            last.job_ids.push(JobId(job));
            let name = row.get::<String>("job_state")?;
            let state = State::parse(&name).ok_or_else(|| unreadable("state"))?;
            last.state = Some(state);
            let finished_ms = row.get::<Option<i64>>("job_finished_at_ms")?;
            // The files are those of the job that succeeded last, which need not be the youngest.
            if state == State::Succeeded && finished_ms >= succeeded_ms {
                succeeded_ms = finished_ms;
                last.verdict = row.get("job_verdict")?;
            }
        }
    }
    Ok(images)
}

/// A row of `files`.
pub(in crate::store) fn file(row: &Row) -> LedgerResult<FileRow> {
    Ok(FileRow {
        job: JobId(row.get("job_id")?),
        start: row.number("start")?,
        file: NewFile {
            name: row.get("name")?,
            content_type: row.get("content_type")?,
            size_bytes: row.number("size_bytes")?,
            sha256: row.get("sha256")?,
            width_px: row.number_or_null("width_px")?,
            height_px: row.number_or_null("height_px")?,
        },
    })
}

/// A row of `events`.
pub(in crate::store) fn event(row: &Row) -> LedgerResult<EventRow> {
    Ok(EventRow {
        seq: row.get("seq")?,
        owner: OwnerId(row.get("owner")?),
        job: JobId(row.get("job_id")?),
        kind: row.get("kind")?,
        body: row.json("body")?,
        at_ms: row.get("at_ms")?,
    })
}

/// The part of a row that the state table works on.
pub(in crate::store) fn core(job: &JobRow) -> JobCore {
    JobCore {
        state: job.state,
        starts: job.starts,
        attempt: job.attempt,
        crashes: job.crashes,
        attempts_max: job.attempts_max,
        crashes_max: job.crashes_max,
    }
}
