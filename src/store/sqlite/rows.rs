//! Between rows and the types of the port.

use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;

use crate::job::{ImageId, JobCore, JobId, Lane, OwnerId, State};
use crate::store::{EventRow, FileRow, ImageRow, JobRow, LedgerError, LedgerResult, NewFile};

/// Milliseconds since 1970 (UTC).
pub(super) fn now_ms() -> i64 {
    let now = time::OffsetDateTime::now_utc();
    now.unix_timestamp() * 1000 + i64::from(now.millisecond())
}

/// Sorts what the database says: what this program did not write, or everything else.
pub(super) fn database_error(error: sqlx::Error) -> LedgerError {
    /// `SQLITE_CORRUPT` and `SQLITE_NOTADB`.
    const DAMAGED: [&str; 2] = ["11", "26"];
    let damaged = error.as_database_error().is_some_and(|database| {
        database.is_unique_violation()
            || database.is_foreign_key_violation()
            || database.is_check_violation()
            || database.code().is_some_and(|code| DAMAGED.contains(&code.as_ref()))
    });
    let unreadable = matches!(
        error,
        sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::TypeNotFound { .. }
    );
    if damaged || unreadable {
        LedgerError::Corrupt(error.to_string())
    } else {
        LedgerError::Unavailable(error.to_string())
    }
}

/// A column of any type that sqlx knows.
pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, column: &str) -> LedgerResult<T> {
    row.try_get(column).map_err(database_error)
}

fn unreadable(column: &str) -> LedgerError {
    LedgerError::Corrupt(format!("column {column} is out of range"))
}

/// A whole number of a narrower type.
pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> LedgerResult<T> {
    T::try_from(get::<i64>(row, column)?).map_err(|_| unreadable(column))
}

fn number_or_null<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> LedgerResult<Option<T>> {
    get::<Option<i64>>(row, column)?.map(|value| T::try_from(value).map_err(|_| unreadable(column))).transpose()
}

/// SQL has no unsigned type.
pub(super) fn signed(value: u64) -> LedgerResult<i64> {
    i64::try_from(value).map_err(|_| LedgerError::Corrupt(format!("{value} does not fit a column")))
}

/// A lane by its name.
pub(super) fn lane(row: &SqliteRow) -> LedgerResult<Lane> {
    Lane::parse(&get::<String>(row, "lane")?).ok_or_else(|| unreadable("lane"))
}

/// A state by its name.
pub(super) fn state(row: &SqliteRow) -> LedgerResult<State> {
    State::parse(&get::<String>(row, "state")?).ok_or_else(|| unreadable("state"))
}

/// A row of `jobs`, all columns.
pub(super) fn job(row: &SqliteRow) -> LedgerResult<JobRow> {
    Ok(JobRow {
        id: JobId(get(row, "id")?),
        owner: OwnerId(get(row, "owner")?),
        image_id: ImageId(get(row, "image_id")?),
        preset: get(row, "preset")?,
        spec: get::<Json<_>>(row, "spec")?.0,
        lane: lane(row)?,
        state: state(row)?,
        starts: number(row, "starts")?,
        attempt: number(row, "attempt")?,
        attempts_max: number(row, "attempts_max")?,
        crashes: number(row, "crashes")?,
        crashes_max: number(row, "crashes_max")?,
        run_at_ms: get(row, "run_at_ms")?,
        cancel_requested: get(row, "cancel_requested")?,
        stage: get(row, "stage")?,
        progress: get(row, "progress")?,
        created_at_ms: get(row, "created_at_ms")?,
        started_at_ms: get(row, "started_at_ms")?,
        finished_at_ms: get(row, "finished_at_ms")?,
        node: get(row, "node")?,
        incarnation: get(row, "incarnation")?,
        slot: number_or_null(row, "slot")?,
        error: get::<Option<Json<_>>>(row, "error")?.map(|json| json.0),
        gate: get::<Option<Json<_>>>(row, "gate")?.map(|json| json.0),
    })
}

/// A row of `images`, all columns, without its jobs.
pub(super) fn image(row: &SqliteRow) -> LedgerResult<ImageRow> {
    Ok(ImageRow {
        id: ImageId(get(row, "id")?),
        owner: OwnerId(get(row, "owner")?),
        filename: get(row, "filename")?,
        content_type: get(row, "content_type")?,
        size_bytes: number(row, "size_bytes")?,
        sha256: get(row, "sha256")?,
        width_px: number_or_null(row, "width_px")?,
        height_px: number_or_null(row, "height_px")?,
        pages_count: number_or_null(row, "pages_count")?,
        created_at_ms: get(row, "created_at_ms")?,
        job_ids: Vec::new(),
    })
}

/// Rows of `images` beside a column `job_id` (or null), one image's rows together: folded into one image each.
pub(super) fn images_with_jobs(rows: &[SqliteRow]) -> LedgerResult<Vec<ImageRow>> {
    let mut images: Vec<ImageRow> = Vec::new();
    for row in rows {
        let id = ImageId(get(row, "id")?);
        if images.last().is_none_or(|last| last.id != id) {
            images.push(image(row)?);
        }
        if let (Some(job), Some(last)) = (get::<Option<Uuid>>(row, "job_id")?, images.last_mut()) {
            last.job_ids.push(JobId(job));
        }
    }
    Ok(images)
}

/// A row of `files`.
pub(super) fn file(row: &SqliteRow) -> LedgerResult<FileRow> {
    Ok(FileRow {
        job: JobId(get(row, "job_id")?),
        start: number(row, "start")?,
        file: NewFile {
            name: get(row, "name")?,
            content_type: get(row, "content_type")?,
            size_bytes: number(row, "size_bytes")?,
            sha256: get(row, "sha256")?,
            width_px: number_or_null(row, "width_px")?,
            height_px: number_or_null(row, "height_px")?,
        },
    })
}

/// A row of `events`.
pub(super) fn event(row: &SqliteRow) -> LedgerResult<EventRow> {
    Ok(EventRow {
        seq: get(row, "seq")?,
        owner: OwnerId(get(row, "owner")?),
        job: JobId(get(row, "job_id")?),
        kind: get(row, "kind")?,
        body: get::<Json<_>>(row, "body")?.0,
        at_ms: get(row, "at_ms")?,
    })
}

/// The part of a row that the state table works on.
pub(super) fn core(job: &JobRow) -> JobCore {
    JobCore {
        state: job.state,
        starts: job.starts,
        attempt: job.attempt,
        crashes: job.crashes,
        attempts_max: job.attempts_max,
        crashes_max: job.crashes_max,
    }
}
