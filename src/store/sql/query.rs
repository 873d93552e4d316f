//! A statement, its values and its rows, on whichever database stands behind. What differs is here and in [`Sql`]; the
//! statements themselves are written once.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, PgConnection, PgPool, Postgres, Row as _, Sqlite, SqliteConnection, SqlitePool, Type};
use uuid::Uuid;

use crate::store::{LedgerError, LedgerResult};

/// The text of a statement with `$1` for values, for both databases or for each.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Sql {
    /// For SQLite.
    pub(in crate::store) sqlite: &'static str,
    /// For PostgreSQL.
    pub(in crate::store) postgres: &'static str,
}

impl Sql {
    /// Where the two need different words.
    pub(in crate::store) const fn each(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres }
    }
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self::each(both, both)
    }
}

/// A value for a statement. Nulls have a type, which PostgreSQL wants to know.
#[derive(Debug, Clone)]
pub(in crate::store) enum Value {
    Bool(bool),
    Int(Option<i64>),
    Real(f32),
    Text(Option<String>),
    Uuid(Uuid),
}

impl Value {
    /// As JSON text.
    pub(in crate::store) fn json(value: &impl Serialize) -> LedgerResult<Self> {
        let text = serde_json::to_string(value);
        text.map(Self::from).map_err(|error| LedgerError::Corrupt(format!("a value that is no JSON: {error}")))
    }

    /// As JSON text, or null.
    pub(in crate::store) fn json_or_null(value: Option<&impl Serialize>) -> LedgerResult<Self> {
        value.map_or(Ok(Self::Text(None)), Self::json)
    }
}

macro_rules! value {
    ($($kind:ty, $value:ident => $made:expr;)+) => {
        $(impl From<$kind> for Value {
            fn from($value: $kind) -> Self {
                $made
            }
        })+
    };
}
value! {
    bool, value => Self::Bool(value);
    i64, value => Self::Int(Some(value));
    u32, value => Self::Int(Some(value.into()));
    Option<i64>, value => Self::Int(value);
    Option<u32>, value => Self::Int(value.map(i64::from));
    f32, value => Self::Real(value);
    &str, value => Self::Text(Some(value.to_owned()));
    String, value => Self::Text(Some(value));
    Option<&str>, value => Self::Text(value.map(str::to_owned));
    Uuid, value => Self::Uuid(value);
}

/// A connection that writes.
pub(in crate::store) enum Conn {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

/// Connections that read: single statements, each of which sees the last commit.
#[derive(Clone)]
pub(in crate::store) enum Readers {
    Sqlite(SqlitePool),
    /// With the time after which an answer is not waited for any longer.
    Postgres(PgPool, Duration),
}

impl Readers {
    pub(in crate::store) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool, _) => pool.close().await,
        }
    }
}

/// Where a statement runs.
pub(in crate::store) enum On<'c> {
    Conn(&'c mut Conn),
    Readers(&'c Readers),
}

impl<'c> From<&'c mut Conn> for On<'c> {
    fn from(conn: &'c mut Conn) -> Self {
        Self::Conn(conn)
    }
}

impl<'c> From<&'c Readers> for On<'c> {
    fn from(readers: &'c Readers) -> Self {
        Self::Readers(readers)
    }
}

/// A statement with its values.
pub(in crate::store) struct Query {
    sql: Sql,
    values: Vec<Value>,
}

/// A statement.
pub(in crate::store) fn query(sql: impl Into<Sql>) -> Query {
    Query { sql: sql.into(), values: Vec::new() }
}

/// What a statement gave.
struct Answer {
    rows: Vec<Row>,
    affected: u64,
}

impl Query {
    /// The next value.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows it changed.
    pub(in crate::store) async fn execute<'c>(self, on: impl Into<On<'c>>) -> LedgerResult<u64> {
        self.run(on.into(), false).await.map(|answer| answer.affected)
    }

    /// All rows.
    pub(in crate::store) async fn fetch_all<'c>(self, on: impl Into<On<'c>>) -> LedgerResult<Vec<Row>> {
        self.run(on.into(), true).await.map(|answer| answer.rows)
    }

    /// The first row, if any.
    pub(in crate::store) async fn fetch_optional<'c>(self, on: impl Into<On<'c>>) -> LedgerResult<Option<Row>> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// The one row there always is.
    pub(in crate::store) async fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> LedgerResult<Row> {
        self.fetch_optional(on).await?.ok_or_else(|| LedgerError::Corrupt("a row is missing".to_owned()))
    }

    /// The first column of the one row.
    pub(in crate::store) async fn scalar<'c, T: Column>(self, on: impl Into<On<'c>>) -> LedgerResult<T> {
        self.fetch_one(on).await?.first()
    }

    /// The first column of all rows.
    pub(in crate::store) async fn scalars<'c, T: Column>(self, on: impl Into<On<'c>>) -> LedgerResult<Vec<T>> {
        self.fetch_all(on).await?.iter().map(Row::first).collect()
    }

    async fn run(self, on: On<'_>, rows: bool) -> LedgerResult<Answer> {
        match on {
            On::Conn(Conn::Sqlite(conn)) => sqlite(self.for_sqlite(), &mut **conn, rows).await,
            On::Conn(Conn::Postgres(conn)) => postgres(self.for_postgres(), &mut **conn, rows).await,
            On::Readers(Readers::Sqlite(pool)) => sqlite(self.for_sqlite(), pool, rows).await,
            On::Readers(Readers::Postgres(pool, bound)) => {
                // A single statement outside a transaction can be given up; the pool looks at the connection again.
                let answer = tokio::time::timeout(*bound, postgres(self.for_postgres(), pool, rows)).await;
                answer.unwrap_or_else(|_| Err(LedgerError::Unavailable("the database does not answer".to_owned())))
            }
        }
    }

    fn for_sqlite(self) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
        let statement = sqlx::query(self.sql.sqlite);
        self.values.into_iter().fold(statement, |statement, value| match value {
            Value::Bool(value) => statement.bind(value),
            Value::Int(value) => statement.bind(value),
            Value::Real(value) => statement.bind(value),
            Value::Text(value) => statement.bind(value),
            Value::Uuid(value) => statement.bind(value),
        })
    }

    fn for_postgres(self) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        let statement = sqlx::query(self.sql.postgres);
        self.values.into_iter().fold(statement, |statement, value| match value {
            Value::Bool(value) => statement.bind(value),
            Value::Int(value) => statement.bind(value),
            Value::Real(value) => statement.bind(value),
            // PostgreSQL takes no NUL in a text, and what a worker says must not keep its job from ending.
            Value::Text(value) => statement.bind(value.map(|text| text.replace('\0', "\u{FFFD}"))),
            Value::Uuid(value) => statement.bind(value),
        })
    }
}

async fn sqlite<'c>(
    statement: sqlx::query::Query<'static, Sqlite, SqliteArguments>,
    on: impl sqlx::Executor<'c, Database = Sqlite>,
    rows: bool,
) -> LedgerResult<Answer> {
    if rows {
        let rows = statement.fetch_all(on).await.map_err(database_error)?;
        return Ok(Answer { rows: rows.into_iter().map(Row::Sqlite).collect(), affected: 0 });
    }
    let done = statement.execute(on).await.map_err(database_error)?;
    Ok(Answer { rows: Vec::new(), affected: done.rows_affected() })
}

async fn postgres<'c>(
    statement: sqlx::query::Query<'static, Postgres, PgArguments>,
    on: impl sqlx::Executor<'c, Database = Postgres>,
    rows: bool,
) -> LedgerResult<Answer> {
    if rows {
        let rows = statement.fetch_all(on).await.map_err(database_error)?;
        return Ok(Answer { rows: rows.into_iter().map(Row::Postgres).collect(), affected: 0 });
    }
    let done = statement.execute(on).await.map_err(database_error)?;
    Ok(Answer { rows: Vec::new(), affected: done.rows_affected() })
}

/// A type that both databases can give.
pub(in crate::store) trait Column:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl<T> Column for T where T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

/// A row.
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A column by name.
    pub(in crate::store) fn get<T: Column>(&self, column: &str) -> LedgerResult<T> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(database_error)
    }

    fn first<T: Column>(&self) -> LedgerResult<T> {
        match self {
            Self::Sqlite(row) => row.try_get(0),
            Self::Postgres(row) => row.try_get(0),
        }
        .map_err(database_error)
    }

    /// A whole number of a narrower type.
    pub(in crate::store) fn number<T: TryFrom<i64>>(&self, column: &str) -> LedgerResult<T> {
        T::try_from(self.get::<i64>(column)?).map_err(|_| unreadable(column))
    }

    /// The same, or null.
    pub(in crate::store) fn number_or_null<T: TryFrom<i64>>(&self, column: &str) -> LedgerResult<Option<T>> {
        let value = self.get::<Option<i64>>(column)?;
        value.map(|value| T::try_from(value).map_err(|_| unreadable(column))).transpose()
    }

    /// JSON text.
    pub(in crate::store) fn json<T: DeserializeOwned>(&self, column: &str) -> LedgerResult<T> {
        self.json_or_null(column)?.ok_or_else(|| unreadable(column))
    }

    /// The same, or null.
    pub(in crate::store) fn json_or_null<T: DeserializeOwned>(&self, column: &str) -> LedgerResult<Option<T>> {
        let text = self.get::<Option<String>>(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|_| unreadable(column))).transpose()
    }
}

/// A column that holds what this program never writes.
pub(in crate::store) fn unreadable(column: &str) -> LedgerError {
    LedgerError::Corrupt(format!("column {column} is out of range"))
}

/// SQL has no unsigned type.
pub(in crate::store) fn signed(value: u64) -> LedgerResult<i64> {
    i64::try_from(value).map_err(|_| LedgerError::Corrupt(format!("{value} does not fit a column")))
}

/// Sorts what the database says: what this program did not write, or everything else.
pub(in crate::store) fn database_error(error: sqlx::Error) -> LedgerError {
    /// `SQLITE_CORRUPT`, `SQLITE_NOTADB`; PostgreSQL's classes of wrong data, of unknown tables, and of damage.
    const DAMAGED: [&str; 2] = ["11", "26"];
    const DAMAGED_CLASSES: [&str; 4] = ["22", "42", "XX001", "XX002"];
    let damaged = error.as_database_error().is_some_and(|database| {
        let code = database.code().unwrap_or_default();
        let postgres = code.len() == 5 && DAMAGED_CLASSES.iter().any(|class| code.starts_with(class));
        database.is_unique_violation()
            || database.is_foreign_key_violation()
            || database.is_check_violation()
            || DAMAGED.contains(&code.as_ref())
            || postgres
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
