//! Accounts: changes go through the writer tasks as all others do.

use async_trait::async_trait;
use uuid::Uuid;

use super::SqlLedger;
use super::query::{Row, Sql, query, signed, unreadable};
use super::writer::Tx;
use crate::job::{AccountId, CredentialId, InvitationId, OwnerId};
use crate::store::accounts::*;
use crate::store::{Ledger, LedgerResult};

/// Rows of one table that one commit prunes at most: other changes wait meanwhile.
const PRUNE_ROWS: i64 = 500;
/// Two accounts made at once must not both be the first. On SQLite there is one writer anyway.
const ONE_AT_A_TIME: Sql = Sql::each("SELECT 1", "LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE");
/// All but the newest sessions of an account.
const OLD_SESSIONS: Sql = Sql::each(
    "DELETE FROM credentials WHERE id IN (SELECT id FROM credentials WHERE account_id = $1 AND kind = 'session' \
     ORDER BY id DESC LIMIT -1 OFFSET $2)",
    "DELETE FROM credentials WHERE id IN (SELECT id FROM credentials WHERE account_id = $1 AND kind = 'session' \
     ORDER BY id DESC OFFSET $2)",
);

const ACCOUNT: &str = "SELECT * FROM accounts WHERE id = $1";
/// Those who can come in, until the commit.
const ADMINISTRATORS: Sql = Sql::each(
    "SELECT id FROM accounts WHERE role = 'admin' AND disabled_at_ms IS NULL ORDER BY id",
    "SELECT id FROM accounts WHERE role = 'admin' AND disabled_at_ms IS NULL ORDER BY id FOR NO KEY UPDATE",
);
/// Whoever disables it meanwhile waits, and then finds what was made.
const ENABLED: Sql = Sql::each(
    "SELECT id FROM accounts WHERE id = $1 AND disabled_at_ms IS NULL",
    "SELECT id FROM accounts WHERE id = $1 AND disabled_at_ms IS NULL FOR SHARE",
);
/// Whether somebody can still come in by it.
const GOOD: &str = "SELECT EXISTS (SELECT 1 FROM credentials JOIN accounts ON accounts.id = credentials.account_id \
    WHERE credentials.id = $1 AND (expires_at_ms IS NULL OR expires_at_ms > $2) AND accounts.disabled_at_ms IS NULL)";

#[async_trait]
impl Accounts for SqlLedger {
    async fn create_account(&self, new: NewAccount, entry: Entry, accounts_max: u64) -> LedgerResult<Registered> {
        self.writer.run(move |tx| Box::pin(create_account(tx, new, entry, accounts_max))).await
    }

    async fn account_by_name(&self, username: &str) -> LedgerResult<Option<(AccountRow, String)>> {
        let row = query("SELECT * FROM accounts WHERE username_key = $1")
            .bind(name_key(username))
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| Ok((account(&row)?, row.get("password_hash")?))).transpose()
    }

    async fn accounts(&self, before: Option<AccountId>, limit: u32) -> LedgerResult<Vec<AccountRow>> {
        let rows = query("SELECT * FROM accounts WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(before.map_or(Uuid::max(), |id| id.0))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(account).collect()
    }

    async fn account(&self, id: AccountId) -> LedgerResult<Option<AccountRow>> {
        let row = query(ACCOUNT).bind(id.0).fetch_optional(&self.readers).await?;
        row.as_ref().map(account).transpose()
    }

    async fn change_account(&self, id: AccountId, change: AccountChange) -> LedgerResult<AccountChanged> {
        self.writer.run(move |tx| Box::pin(change_account(tx, id, change))).await
    }

    async fn set_password(&self, id: AccountId, hash: String, keep: Option<CredentialId>) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(set_password(tx, id, hash, keep))).await
    }

    async fn create_credential(
        &self,
        new: NewCredential,
        replaces: Option<SecretHash>,
        count_max: u64,
    ) -> LedgerResult<Option<CredentialRow>> {
        self.writer.run(move |tx| Box::pin(create_credential(tx, new, replaces, count_max))).await
    }

    async fn credential(&self, secret: &SecretHash, now_ms: i64) -> LedgerResult<Option<(CredentialRow, AccountRow)>> {
        let sql = "SELECT credentials.*, accounts.owner, accounts.username, accounts.role, accounts.disabled_at_ms, \
                   accounts.created_at_ms AS account_created_at_ms \
                   FROM credentials JOIN accounts ON accounts.id = credentials.account_id \
                   WHERE secret_sha256 = $1 AND (expires_at_ms IS NULL OR expires_at_ms > $2) \
                   AND accounts.disabled_at_ms IS NULL";
        let row = query(sql).bind(hex::encode(secret)).bind(now_ms).fetch_optional(&self.readers).await?;
        let Some(row) = row else { return Ok(None) };
        let account = AccountRow {
            id: AccountId(row.get("account_id")?),
            owner: OwnerId(row.get("owner")?),
            username: row.get("username")?,
            role: role(&row)?,
            created_at_ms: row.get("account_created_at_ms")?,
            disabled_at_ms: row.get("disabled_at_ms")?,
        };
        Ok(Some((credential(&row)?, account)))
    }

    async fn credentials(
        &self,
        account: AccountId,
        kind: CredentialKind,
        now_ms: i64,
    ) -> LedgerResult<Vec<CredentialRow>> {
        let sql = "SELECT * FROM credentials WHERE account_id = $1 AND kind = $2 \
                   AND (expires_at_ms IS NULL OR expires_at_ms > $3) ORDER BY id DESC";
        let rows = query(sql).bind(account.0).bind(kind.as_str()).bind(now_ms).fetch_all(&self.readers).await?;
        rows.iter().map(credential).collect()
    }

    async fn credential_is_good(&self, id: CredentialId, now_ms: i64) -> LedgerResult<bool> {
        query(GOOD).bind(id.0).bind(now_ms).scalar(&self.readers).await
    }

    async fn use_credential(&self, id: CredentialId, used_at_ms: i64, expires_at_ms: Option<i64>) -> LedgerResult<()> {
        self.writer.run(move |tx| Box::pin(use_credential(tx, id, used_at_ms, expires_at_ms))).await
    }

    async fn revoke_credential(
        &self,
        account: AccountId,
        kind: CredentialKind,
        id: CredentialId,
    ) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(revoke_credential(tx, account, kind, id))).await
    }

    async fn create_invitation(
        &self,
        by: AccountId,
        code: SecretHash,
        expires_at_ms: i64,
        count_max: u64,
    ) -> LedgerResult<Option<InvitationRow>> {
        self.writer.run(move |tx| Box::pin(create_invitation(tx, by, code, expires_at_ms, count_max))).await
    }

    async fn invitations(&self, now_ms: i64) -> LedgerResult<Vec<InvitationRow>> {
        let rows = query("SELECT * FROM invitations WHERE expires_at_ms > $1 ORDER BY id DESC")
            .bind(now_ms)
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(InvitationRow {
                    id: InvitationId(row.get("id")?),
                    created_at_ms: row.get("created_at_ms")?,
                    expires_at_ms: row.get("expires_at_ms")?,
                })
            })
            .collect()
    }

    async fn revoke_invitation(&self, id: InvitationId) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(revoke_invitation(tx, id))).await
    }

    async fn prune_accounts(&self, now_ms: i64) -> LedgerResult<u64> {
        let mut pruned = 0;
        loop {
            let round = self.writer.run(move |tx| Box::pin(prune(tx, now_ms))).await?;
            if round == 0 {
                return Ok(pruned);
            }
            pruned += round;
        }
    }

    async fn close_accounts(&self) {
        Ledger::close(self).await;
    }
}

/// Names are plain ASCII, so that this is all there is to case.
fn name_key(username: &str) -> String {
    username.to_ascii_lowercase()
}

async fn count(tx: &mut Tx, sql: &'static str) -> LedgerResult<u64> {
    let count: i64 = query(sql).scalar(&mut tx.conn).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

async fn create_account(tx: &mut Tx, new: NewAccount, entry: Entry, accounts_max: u64) -> LedgerResult<Registered> {
    query(ONE_AT_A_TIME).execute(&mut tx.conn).await?;
    let there = count(tx, "SELECT count(*) FROM accounts").await?;
    let is_first = there == 0;
    let role = match entry {
        _ if is_first => Role::Admin,
        Entry::Appointed(role) => role,
        Entry::Open => Role::User,
        // Looked at before the name: whoever is not invited learns nothing about names.
        Entry::Invitation(code) => {
            if !is_invited(tx, code).await? {
                return Ok(Registered::NotInvited);
            }
            Role::User
        }
        Entry::Closed => return Ok(Registered::Closed),
    };
    if there >= accounts_max {
        return Ok(Registered::Full);
    }
    let id = AccountId::fresh();
    let owner = if is_first { OwnerId::LOCAL } else { OwnerId(id.0) };
    let sql = "INSERT INTO accounts (id, owner, username, username_key, password_hash, role, created_at_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (username_key) DO NOTHING";
    let done = query(sql)
        .bind(id.0)
        .bind(owner.0)
        .bind(new.username.as_str())
        .bind(name_key(&new.username))
        .bind(new.password_hash)
        .bind(role.as_str())
        .bind(tx.now_ms)
        .execute(&mut tx.conn)
        .await?;
    if done == 0 {
        return Ok(Registered::NameTaken);
    }
    if let Entry::Invitation(Some(code)) = entry {
        query("DELETE FROM invitations WHERE code_sha256 = $1").bind(hex::encode(code)).execute(&mut tx.conn).await?;
    }
    let (username, created_at_ms) = (new.username, tx.now_ms);
    Ok(Registered::Created(AccountRow { id, owner, username, role, created_at_ms, disabled_at_ms: None }))
}

/// Two administrators who shut each other out wait for each other here, and one of them is the last.
async fn change_account(tx: &mut Tx, id: AccountId, change: AccountChange) -> LedgerResult<AccountChanged> {
    let admins: Vec<Uuid> = query(ADMINISTRATORS).scalars(&mut tx.conn).await?;
    let Some(row) = query(ACCOUNT).bind(id.0).fetch_optional(&mut tx.conn).await? else {
        return Ok(AccountChanged::NoSuchAccount);
    };
    let before = account(&row)?;
    let disabled_at_ms = match change.disabled {
        Some(true) => before.disabled_at_ms.or(Some(tx.now_ms)),
        Some(false) => None,
        None => before.disabled_at_ms,
    };
    let after = AccountRow { role: change.role.unwrap_or(before.role), disabled_at_ms, ..before };
    let leaves = after.role != Role::Admin || after.disabled_at_ms.is_some();
    if leaves && admins == [id.0] {
        return Ok(AccountChanged::LastAdministrator);
    }
    query("UPDATE accounts SET role = $2, disabled_at_ms = $3 WHERE id = $1")
        .bind(id.0)
        .bind(after.role.as_str())
        .bind(after.disabled_at_ms)
        .execute(&mut tx.conn)
        .await?;
    let mut ended = Vec::new();
    if after.disabled_at_ms.is_some() {
        let gone = query("DELETE FROM credentials WHERE account_id = $1 RETURNING id").bind(id.0);
        ended = gone.scalars(&mut tx.conn).await?.into_iter().map(CredentialId).collect();
    }
    Ok(AccountChanged::Done(after, ended))
}

async fn set_password(tx: &mut Tx, id: AccountId, hash: String, keep: Option<CredentialId>) -> LedgerResult<bool> {
    let done = query("UPDATE accounts SET password_hash = $2 WHERE id = $1")
        .bind(id.0)
        .bind(hash)
        .execute(&mut tx.conn)
        .await?;
    query("DELETE FROM credentials WHERE account_id = $1 AND kind = 'session' AND id <> $2")
        .bind(id.0)
        .bind(keep.map_or(Uuid::nil(), |id| id.0))
        .execute(&mut tx.conn)
        .await?;
    Ok(done > 0)
}

async fn is_invited(tx: &mut Tx, code: Option<SecretHash>) -> LedgerResult<bool> {
    let Some(code) = code else { return Ok(false) };
    query("SELECT EXISTS (SELECT 1 FROM invitations WHERE code_sha256 = $1 AND expires_at_ms > $2)")
        .bind(hex::encode(code))
        .bind(tx.now_ms)
        .scalar(&mut tx.conn)
        .await
}

async fn create_credential(
    tx: &mut Tx,
    new: NewCredential,
    replaces: Option<SecretHash>,
    count_max: u64,
) -> LedgerResult<Option<CredentialRow>> {
    if let Some(replaced) = replaces {
        query("DELETE FROM credentials WHERE secret_sha256 = $1 AND kind = 'session'")
            .bind(hex::encode(replaced))
            .execute(&mut tx.conn)
            .await?;
    }
    if query(ENABLED).bind(new.account.0).fetch_optional(&mut tx.conn).await?.is_none() {
        return Ok(None);
    }
    if !has_room(tx, &new, count_max).await? {
        return Ok(None);
    }
    let id = CredentialId::fresh();
    let sql = "INSERT INTO credentials \
               (id, account_id, kind, secret_sha256, name, scopes, created_at_ms, used_at_ms, expires_at_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)";
    query(sql)
        .bind(id.0)
        .bind(new.account.0)
        .bind(new.kind.as_str())
        .bind(hex::encode(new.secret))
        .bind(new.name.as_str())
        .bind(new.scopes.to_string())
        .bind(tx.now_ms)
        .bind(new.expires_at_ms)
        .execute(&mut tx.conn)
        .await?;
    Ok(Some(CredentialRow {
        id,
        kind: new.kind,
        name: new.name,
        scopes: new.scopes,
        created_at_ms: tx.now_ms,
        used_at_ms: tx.now_ms,
        expires_at_ms: new.expires_at_ms,
    }))
}

/// Ends the oldest sessions that are too many; says whether a token still fits.
async fn has_room(tx: &mut Tx, new: &NewCredential, count_max: u64) -> LedgerResult<bool> {
    match new.kind {
        CredentialKind::Session => {
            let kept = signed(count_max.saturating_sub(1))?;
            query(OLD_SESSIONS).bind(new.account.0).bind(kept).execute(&mut tx.conn).await?;
            Ok(true)
        }
        CredentialKind::Token => {
            let sql = "SELECT count(*) FROM credentials WHERE account_id = $1 AND kind = 'token' \
                       AND (expires_at_ms IS NULL OR expires_at_ms > $2)";
            let there: i64 = query(sql).bind(new.account.0).bind(tx.now_ms).scalar(&mut tx.conn).await?;
            Ok(u64::try_from(there).unwrap_or(0) < count_max)
        }
    }
}

async fn use_credential(
    tx: &mut Tx,
    id: CredentialId,
    used_at_ms: i64,
    expires_at_ms: Option<i64>,
) -> LedgerResult<()> {
    query("UPDATE credentials SET used_at_ms = $2, expires_at_ms = $3 WHERE id = $1")
        .bind(id.0)
        .bind(used_at_ms)
        .bind(expires_at_ms)
        .execute(&mut tx.conn)
        .await
        .map(drop)
}

async fn revoke_credential(
    tx: &mut Tx,
    account: AccountId,
    kind: CredentialKind,
    id: CredentialId,
) -> LedgerResult<bool> {
    let done = query("DELETE FROM credentials WHERE id = $1 AND account_id = $2 AND kind = $3")
        .bind(id.0)
        .bind(account.0)
        .bind(kind.as_str())
        .execute(&mut tx.conn)
        .await?;
    Ok(done > 0)
}

async fn create_invitation(
    tx: &mut Tx,
    by: AccountId,
    code: SecretHash,
    expires_at_ms: i64,
    count_max: u64,
) -> LedgerResult<Option<InvitationRow>> {
    if count(tx, "SELECT count(*) FROM invitations").await? >= count_max {
        return Ok(None);
    }
    let id = InvitationId::fresh();
    let sql = "INSERT INTO invitations (id, code_sha256, created_by, created_at_ms, expires_at_ms) \
               VALUES ($1, $2, $3, $4, $5)";
    query(sql)
        .bind(id.0)
        .bind(hex::encode(code))
        .bind(by.0)
        .bind(tx.now_ms)
        .bind(expires_at_ms)
        .execute(&mut tx.conn)
        .await?;
    Ok(Some(InvitationRow { id, created_at_ms: tx.now_ms, expires_at_ms }))
}

async fn revoke_invitation(tx: &mut Tx, id: InvitationId) -> LedgerResult<bool> {
    let done = query("DELETE FROM invitations WHERE id = $1").bind(id.0).execute(&mut tx.conn).await?;
    Ok(done > 0)
}

async fn prune(tx: &mut Tx, now_ms: i64) -> LedgerResult<u64> {
    let mut pruned = 0;
    for sql in [
        "DELETE FROM credentials WHERE id IN \
         (SELECT id FROM credentials WHERE expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2)",
        "DELETE FROM invitations WHERE id IN \
         (SELECT id FROM invitations WHERE expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2)",
    ] {
        pruned += query(sql).bind(now_ms).bind(PRUNE_ROWS).execute(&mut tx.conn).await?;
    }
    Ok(pruned)
}

fn role(row: &Row) -> LedgerResult<Role> {
    Role::parse(&row.get::<String>("role")?).ok_or_else(|| unreadable("role"))
}

fn account(row: &Row) -> LedgerResult<AccountRow> {
    Ok(AccountRow {
        id: AccountId(row.get("id")?),
        owner: OwnerId(row.get("owner")?),
        username: row.get("username")?,
        role: role(row)?,
        created_at_ms: row.get("created_at_ms")?,
        disabled_at_ms: row.get("disabled_at_ms")?,
    })
}

fn credential(row: &Row) -> LedgerResult<CredentialRow> {
    Ok(CredentialRow {
        id: CredentialId(row.get("id")?),
        kind: CredentialKind::parse(&row.get::<String>("kind")?).ok_or_else(|| unreadable("kind"))?,
        name: row.get("name")?,
        scopes: Scopes::parse(&row.get::<String>("scopes")?).ok_or_else(|| unreadable("scopes"))?,
        created_at_ms: row.get("created_at_ms")?,
        used_at_ms: row.get("used_at_ms")?,
        expires_at_ms: row.get("expires_at_ms")?,
    })
}
