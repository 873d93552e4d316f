//! What goes wrong with migrations.

use sqlx::migrate::MigrateError;

use super::query::database_error;
use crate::store::LedgerError;

/// Sorted as what the database says.
pub(in crate::store) fn migration_error(error: MigrateError) -> LedgerError {
    let corrupt = LedgerError::Corrupt(error.to_string());
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        return database_error(error);
    }
    corrupt
}
