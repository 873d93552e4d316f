//! What the rows say there is in the object store.

use uuid::Uuid;

use super::query::{Readers, query};
use crate::job::{ImageId, JobId};
use crate::store::{LedgerResult, Listed, Stored};

const ORIGINALS: &str = "SELECT id, size_bytes, sha256 FROM images WHERE id > $1 ORDER BY id LIMIT $2";
/// By the primary key.
const OUTPUTS: &str = "
    SELECT job_id, start, ordinal, name, size_bytes, sha256 FROM files
    WHERE (job_id, ordinal) > ($1, $2) ORDER BY job_id, ordinal LIMIT $3";

/// See [`crate::store::Ledger::originals`].
pub(in crate::store) async fn originals(
    readers: &Readers,
    after: Option<ImageId>,
    limit: u32,
) -> LedgerResult<Vec<Listed>> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let rows = query(ORIGINALS).bind(after).bind(limit).fetch_all(readers).await?;
    rows.iter()
        .map(|row| {
            let stored = Stored::Original(ImageId(row.get("id")?));
            Ok(Listed { stored, size_bytes: row.number("size_bytes")?, sha256: row.get("sha256")? })
        })
        .collect()
}

/// See [`crate::store::Ledger::outputs`].
pub(in crate::store) async fn outputs(
    readers: &Readers,
    after: Option<(JobId, i64)>,
    limit: u32,
) -> LedgerResult<Vec<Listed>> {
    let (job, ordinal) = after.map_or((Uuid::nil(), -1), |(job, ordinal)| (job.0, ordinal));
    let rows = query(OUTPUTS).bind(job).bind(ordinal).bind(limit).fetch_all(readers).await?;
    rows.iter()
        .map(|row| {
            let stored = Stored::Output {
                job: JobId(row.get("job_id")?),
                start: row.number("start")?,
                ordinal: row.number("ordinal")?,
                name: row.get("name")?,
            };
            Ok(Listed { stored, size_bytes: row.number("size_bytes")?, sha256: row.get("sha256")? })
        })
        .collect()
}
