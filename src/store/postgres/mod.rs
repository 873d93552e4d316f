//! The ledger on a PostgreSQL server, which many nodes share.

mod feed;
#[cfg(test)]
pub(crate) mod tests;

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use self::feed::Feed;
use super::sql::migrate::migration_error;
use super::sql::query::{Readers, database_error};
use super::sql::writer::{Announce, Source, Writer};
use super::sql::{SqlLedger, WATCH_EVENTS_MAX};
use super::*;
use crate::config;

/// Later migrations are those of a later program; whether this one may go on is for `schema_floor` to say.
fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("migrations/postgres");
    migrations.set_ignore_missing(true);
    migrations
}

/// Versions below lack nothing that is used, but are not tested: `server_version_num`.
const VERSION_MIN: i32 = 150_000;

/// Connects and brings the schema up to date; nodes that start at once take turns. Must be called within a Tokio runtime.
///
/// # Errors
/// [`LedgerError::Unavailable`] when the server cannot be used, [`LedgerError::Corrupt`] when it is too old, or a later
/// program has changed the schema beyond what this one understands.
pub async fn open(url: &str, settings: &config::Store) -> LedgerResult<SqlLedger> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| LedgerError::Unavailable(format!("store.url cannot be used: {error}")))?
        .application_name("inkpool");
    let milliseconds = Duration::from_millis;
    // A server that cannot be reached is given up a little later than the server itself would give up.
    let bound = milliseconds(settings.statement_timeout_ms.saturating_mul(2));
    prepare(&options, bound).await?;
    let bounded = options.clone().options([
        ("statement_timeout", settings.statement_timeout_ms.to_string()),
        ("lock_timeout", settings.busy_timeout_ms.to_string()),
        ("idle_in_transaction_session_timeout", settings.statement_timeout_ms.to_string()),
        ("synchronous_commit", "on".to_owned()),
    ]);
    let readers = PgPoolOptions::new()
        // One of them listens.
        .max_connections(settings.readers.max(1) + 1)
        // A server that refuses connections is asked again and again meanwhile.
        .acquire_timeout(milliseconds(settings.busy_timeout_ms))
        .connect_with(bounded.clone().options([("default_transaction_read_only", "on")]))
        .await
        .map_err(database_error)?;
    let source = Source::Postgres { options: Box::new(bounded), bound };
    let mut conns = Vec::new();
    for _ in 0..settings.writers.max(1) {
        conns.push(source.connect().await?);
    }
    let (events, _) = broadcast::channel(WATCH_EVENTS_MAX);
    let stop = CancellationToken::new();
    let poll = milliseconds(settings.events_poll_ms);
    let nudge =
        Feed::start(readers.clone(), Readers::Postgres(readers.clone(), bound), events.clone(), poll, &stop).await?;
    let announce = Announce::Feed(nudge);
    let writer = Writer::start(&source, conns, settings.queue_max, settings.batch_max, &announce);
    // What it is handed it does at once, so nothing queues here.
    let leases = Writer::start(&source, vec![source.connect().await?], 1, 1, &announce);
    // The first commit tells how the clocks stand to each other.
    writer.run(|_| Box::pin(async { Ok(()) })).await?;
    Ok(SqlLedger::new(Readers::Postgres(readers, bound), writer, Some(leases), events, stop))
}

/// Looks at the server and migrates, on a connection without bounds on statements: an index may take its time, and so may
/// another node that migrates.
async fn prepare(options: &PgConnectOptions, bound: Duration) -> LedgerResult<()> {
    let unreachable = |_| LedgerError::Unavailable("the database does not answer".to_owned());
    let connected = tokio::time::timeout(bound, options.connect()).await.map_err(unreachable)?;
    let mut conn = connected.map_err(database_error)?;
    let version: String =
        sqlx::query_scalar("SHOW server_version_num").fetch_one(&mut conn).await.map_err(database_error)?;
    if version.parse::<i32>().is_ok_and(|version| version < VERSION_MIN) {
        return Err(LedgerError::Corrupt(format!("PostgreSQL 15 or newer is needed, the server is {version}")));
    }
    migrations().run(&mut conn).await.map_err(migration_error)?;
    check_floor(&mut conn).await?;
    conn.close().await.map_err(database_error)
}

/// A later program may have taken away what this one needs.
async fn check_floor(conn: &mut PgConnection) -> LedgerResult<()> {
    let floor: i64 =
        sqlx::query_scalar("SELECT max(level) FROM schema_floor").fetch_one(conn).await.map_err(database_error)?;
    let level = migrations().iter().map(|migration| migration.version).max().unwrap_or(0);
    if floor > level {
        return Err(LedgerError::Corrupt(format!(
            "a later version of this program has changed the database: it needs level {floor}, this program knows {level}"
        )));
    }
    Ok(())
}
