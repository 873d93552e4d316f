//! The ledger in a SQLite file.

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::sql::migrate::migration_error;
use super::sql::query::{Conn, Readers, database_error};
use super::sql::writer::{Announce, Source, Writer};
use super::sql::{SqlLedger, WATCH_EVENTS_MAX};
use super::*;
use crate::config;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The write-ahead log is cut back to this after a burst, bytes.
const WAL_BYTES_MAX: i64 = 64 << 20;
/// A reader that gets no connection for this long has met a fault, not a queue.
const READER_WAIT: Duration = Duration::from_secs(10);

/// Opens or makes the file and brings its schema up to date. Must be called within a Tokio runtime.
///
/// # Errors
/// [`LedgerError::Unavailable`] when the file cannot be used, [`LedgerError::Corrupt`] when a later or another program
/// wrote it.
pub async fn open(path: &Path, settings: &config::Store) -> LedgerResult<SqlLedger> {
    let common = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_millis(settings.busy_timeout_ms))
        .foreign_keys(true);
    // FULL: a commit has reached the disk before anybody is told.
    let writing = common
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES_MAX.to_string());
    let mut conn = writing.connect().await.map_err(database_error)?;
    MIGRATIONS.run(&mut conn).await.map_err(migration_error)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(settings.readers.max(1))
        .acquire_timeout(READER_WAIT)
        .connect_with(common.read_only(true))
        .await
        .map_err(database_error)?;
    let (events, _) = broadcast::channel(WATCH_EVENTS_MAX);
    // One task: SQLite has one writer at a time, and those that wait for it would do so by polling.
    let conns = vec![Conn::Sqlite(Box::new(conn))];
    let announce = Announce::Watchers(events.clone());
    let writer =
        Writer::start(&Source::Sqlite(Box::new(writing)), conns, settings.queue_max, settings.batch_max, &announce);
    Ok(SqlLedger::new(Readers::Sqlite(readers), writer, None, events, CancellationToken::new()))
}
