//! A look at a ledger without changing it: what stands there, and whether this program would have to bring it up to date.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::sql::query::database_error;
use super::{LedgerError, LedgerResult};

/// A healthy database answers in milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What a look shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Kind and version of the database.
    pub database: String,
    /// Level of its schema; `None` before the first start.
    pub level: Option<i64>,
    /// Level that this program brings it to.
    pub level_known: i64,
    /// How far its clock is ahead of this machine's, milliseconds, where it has one of its own.
    pub clock_ahead_ms: Option<i64>,
}

fn highest(migrations: &Migrator) -> i64 {
    migrations.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Looks at a SQLite file and checks it.
///
/// # Errors
/// [`LedgerError::Unavailable`] when it cannot be read, [`LedgerError::Corrupt`] when it is damaged.
pub async fn sqlite(file: &Path) -> LedgerResult<Look> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut conn = options.connect().await.map_err(database_error)?;
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut conn).await.map_err(database_error)?;
    let said: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut conn).await.map_err(database_error)?;
    if said != "ok" {
        return Err(LedgerError::Corrupt(format!("SQLite finds the file damaged: {said}")));
    }
    let level = sqlx::query_scalar::<_, Option<i64>>("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut conn)
        .await
        .map_err(database_error)?;
    conn.close().await.map_err(database_error)?;
    let level_known = highest(&sqlx::migrate!("migrations/sqlite"));
    Ok(Look { database: format!("SQLite {version}"), level, level_known, clock_ahead_ms: None })
}

/// Looks at a PostgreSQL database.
///
/// # Errors
/// [`LedgerError::Unavailable`] when it cannot be reached.
pub async fn postgres(url: &str) -> LedgerResult<Look> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| LedgerError::Unavailable(format!("store.url cannot be used: {error}")))?
        .application_name("inkpool doctor")
        .options([("default_transaction_read_only", "on")]);
    let looked = async {
        let mut conn = options.connect().await.map_err(database_error)?;
        let version: String =
            sqlx::query_scalar("SHOW server_version").fetch_one(&mut conn).await.map_err(database_error)?;
        let before = now_ms();
        let theirs: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(&mut conn)
            .await
            .map_err(database_error)?;
        // Half of the way there and back.
        let ours = before.midpoint(now_ms());
        let is_there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut conn)
            .await
            .map_err(database_error)?;
        let level = match is_there {
            true => sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
                .fetch_one(&mut conn)
                .await
                .map_err(database_error)?,
            false => None,
        };
        conn.close().await.map_err(database_error)?;
        let level_known = highest(&sqlx::migrate!("migrations/postgres"));
        let database = format!("PostgreSQL {version}");
        Ok(Look { database, level, level_known, clock_ahead_ms: Some(theirs - ours) })
    };
    let late = |_| LedgerError::Unavailable("the database does not answer".to_owned());
    tokio::time::timeout(ANSWER_MAX, looked).await.map_err(late)?
}

fn now_ms() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
