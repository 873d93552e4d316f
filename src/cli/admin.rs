//! `inkpool admin`: works on the data directory, whether the server runs or not.

mod cluster;
mod people;
mod verify;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Exit, complain};
use crate::app;
use crate::auth::{Auth, NewToken};
use crate::blobs::Blobs;
use crate::config::{AuthMode, Config};
use crate::store::accounts::{AccountChange, AccountRow, Role, Scopes};
use crate::store::quotas::Quota;
use crate::store::{Ledger, rfc3339};

/// Accounts listed at once.
const PAGE: u32 = 500;
/// A line with a password is at most this long, bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// Looks after a server's data directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  inkpool admin user create ada                 asks for the password
  echo 'seven crooked lamps' | inkpool admin user passwd ada
  inkpool admin user quota ada --stored 50G --jobs none
  inkpool admin user disable ada                ends their sessions and tokens
  inkpool admin token create --user ada --name scanner --scopes read,write
  inkpool admin node drain                      this node ends what it has and takes nothing more
  inkpool admin slots set 4
  inkpool admin store verify                    every row has its object, whole
  inkpool admin config show

Works beside a running server. The data directory is the one of the settings, or --data.")]
pub struct AdminArgs {
    /// Settings that override the defaults (TOML).
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where ledger, objects and slot directories live.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// One JSON object for each result.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AdminCommand {
    /// Accounts.
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens of programs.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Nodes that run.
    #[command(subcommand)]
    Node(cluster::NodeCommand),
    /// Slots of nodes that run.
    #[command(subcommand)]
    Slots(cluster::SlotsCommand),
    /// Objects.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, clap::Subcommand)]
enum UserCommand {
    /// Makes an account; the password is asked for, or read from standard input. The first account is an administrator's.
    Create {
        /// 1 to 64 letters, digits or . _ @ + -
        username: String,
        /// Makes an administrator.
        #[arg(long)]
        admin: bool,
    },
    /// Sets a password and ends the account's sessions.
    Passwd {
        /// Of the account.
        username: String,
    },
    /// Lists accounts, newest first.
    List,
    /// Sets what an account may do.
    Role {
        /// Of the account.
        username: String,
        /// admin or user
        #[arg(value_parser = people::role)]
        role: Role,
    },
    /// Lets nobody in by an account any more; its sessions and tokens end, its images stay.
    Disable {
        /// Of the account.
        username: String,
    },
    /// Lets its owner in again.
    Enable {
        /// Of the account.
        username: String,
    },
    /// Sets what somebody may use, and shows what they use.
    Quota {
        /// Of the account.
        username: String,
        #[command(flatten)]
        quota: people::QuotaArgs,
    },
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Makes a token and prints its secret, this once.
    Create {
        /// Whose.
        #[arg(long, value_name = "USERNAME")]
        user: String,
        /// For people.
        #[arg(long)]
        name: String,
        /// Of read, write, admin.
        #[arg(long, value_delimiter = ',', default_value = "read,write")]
        scopes: Vec<String>,
        /// Until when, such as 2027-01-01T00:00:00Z; without it, until it is revoked.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Reads every object that a row stands for, and says which are missing or are not what the row says.
    Verify {
        /// Compares lengths alone, and reads nothing.
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Prints the settings in force (TOML), secrets masked.
    Show,
}

/// Runs one command.
pub fn run(args: &AdminArgs) -> Exit {
    let mut config = match Config::load(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return complain(&error.to_string(), Exit::Usage),
    };
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    let result = match &args.command {
        AdminCommand::Config(ConfigCommand::Show) => show_config(&config, args.json),
        AdminCommand::User(UserCommand::Quota { username, quota }) => on_quotas(&config, username, *quota, args.json),
        AdminCommand::User(command) => on_accounts(&config, |auth| user(auth, command, args.json)),
        AdminCommand::Token(command) => on_accounts(&config, |auth| token(auth, command, args.json)),
        AdminCommand::Node(command) => {
            on_ledger(&config, async |ledger| cluster::node(&config, ledger, command, args.json).await)
        }
        AdminCommand::Slots(command) => {
            on_ledger(&config, async |ledger| cluster::slots(&config, ledger, command, args.json).await)
        }
        AdminCommand::Store(StoreCommand::Verify { quick }) => {
            on_ledger(&config, async |ledger| verify(&config, ledger, *quick, args.json).await)
        }
    };
    match result {
        Ok(()) => Exit::Done,
        Err(error) => complain(&format!("{error:#}"), Exit::Failed),
    }
}

fn on_accounts<F: Future<Output = anyhow::Result<()>>>(
    config: &Config,
    work: impl FnOnce(Arc<Auth>) -> F,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let accounts = app::open_accounts(config).await?;
        let auth = Arc::new(Auth::new(accounts.clone(), config.auth.clone()).await?);
        let result = work(auth).await;
        accounts.close_accounts().await;
        result
    })
}

/// Bounds stand beside the accounts, in one database.
fn on_quotas(config: &Config, username: &str, quota: people::QuotaArgs, as_json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let database = app::open_database(config).await.context("the ledger")?;
        let auth = Auth::new(database.clone(), config.auth.clone()).await?;
        // The settings of a server with accounts, whatever this command was started with.
        let usual =
            Config { auth: crate::config::Auth { mode: AuthMode::Accounts, ..config.auth.clone() }, ..config.clone() };
        let result = people::quota(&auth, database.as_ref(), Quota::usual(&usual), username, quota, as_json).await;
        Ledger::close(database.as_ref()).await;
        result
    })
}

fn on_ledger(config: &Config, work: impl AsyncFnOnce(&dyn Ledger) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // A slip of the path must not make a new deployment.
        if config.store.url.is_empty() && !config.data.join(app::SQLITE_FILE).exists() {
            bail!("there is no ledger in {}; name the data directory with --data", config.data.display());
        }
        let ledger = app::open_database(config).await.context("the ledger")?;
        let result = work(ledger.as_ref()).await;
        ledger.close().await;
        result
    })
}

async fn verify(config: &Config, ledger: &dyn Ledger, quick: bool, as_json: bool) -> anyhow::Result<()> {
    let blobs = Blobs::connect(&config.blobs, &config.aws, &config.data.join("objects")).context("the object store")?;
    let faults = verify::Verify::new(ledger, &blobs, quick, as_json).run().await?;
    if faults > 0 {
        bail!("{faults} objects are not what the ledger says; see docs/operations.md, backup and restore");
    }
    Ok(())
}

async fn user(auth: Arc<Auth>, command: &UserCommand, as_json: bool) -> anyhow::Result<()> {
    match command {
        UserCommand::Create { username, admin } => {
            let role = if *admin { Role::Admin } else { Role::User };
            let account = auth.appoint(username, read_password()?, role).await?;
            print_account(&account, as_json)
        }
        UserCommand::Passwd { username } => {
            if !auth.set_password(username, read_password()?).await? {
                bail!("there is no account {username}");
            }
            Ok(())
        }
        UserCommand::Role { username, role } => {
            let change = AccountChange { role: Some(*role), ..AccountChange::default() };
            people::change(auth, username, change, as_json).await
        }
        UserCommand::Disable { username } => {
            let change = AccountChange { disabled: Some(true), ..AccountChange::default() };
            people::change(auth, username, change, as_json).await
        }
        UserCommand::Enable { username } => {
            let change = AccountChange { disabled: Some(false), ..AccountChange::default() };
            people::change(auth, username, change, as_json).await
        }
        // It needs more than accounts, and has a way of its own.
        UserCommand::Quota { .. } => Ok(()),
        UserCommand::List => {
            let mut before = None;
            loop {
                let page = auth.accounts().accounts(before, PAGE).await?;
                for account in &page {
                    print_account(account, as_json)?;
                }
                match page.last() {
                    Some(last) if page.len() == PAGE as usize => before = Some(last.id),
                    Some(_) | None => return Ok(()),
                }
            }
        }
    }
}

fn print_account(account: &AccountRow, as_json: bool) -> anyhow::Result<()> {
    let created_at = rfc3339(account.created_at_ms);
    let (id, role) = (account.id.to_string(), account.role.as_str());
    if as_json {
        let disabled = account.disabled_at_ms.is_some();
        return print(&json!({"id": id, "username": account.username, "role": role, "created_at": created_at,
            "disabled": disabled}));
    }
    let role = if account.disabled_at_ms.is_some() { "off" } else { role };
    writeln!(std::io::stdout(), "{id}  {role:5}  {created_at}  {}", account.username).context("standard output")
}

fn print(value: &Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{value}").context("standard output")
}

async fn token(auth: Arc<Auth>, command: &TokenCommand, as_json: bool) -> anyhow::Result<()> {
    let TokenCommand::Create { user, name, scopes, expires_at } = command;
    let Some((account, _)) = auth.accounts().account_by_name(user).await? else {
        bail!("there is no account {user}");
    };
    let scopes = Scopes::parse(&scopes.join(" ")).filter(|scopes| !scopes.list().is_empty());
    let scopes = scopes.context("--scopes takes read, write and admin")?;
    let parse = |text: &String| OffsetDateTime::parse(text, &Rfc3339).map(|at| at.unix_timestamp() * 1000);
    let expires_at_ms = expires_at.as_ref().map(parse).transpose().context("--expires-at is no time of RFC 3339")?;
    let new = NewToken { name: name.clone(), scopes, expires_at_ms };
    let (row, secret) = auth.issue_token(account.id, new).await?;
    if as_json {
        return print(&json!({"id": row.id, "name": row.name, "secret": secret.reveal()}));
    }
    writeln!(std::io::stdout(), "{}", secret.reveal()).context("standard output")
}

/// Asks on a terminal without showing it; else one line of standard input.
fn read_password() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ").context("the password")?;
        if rpassword::prompt_password("Again: ").context("the password")? != password {
            bail!("the two are not the same");
        }
        return Ok(password);
    }
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), LINE_BYTES_MAX);
    input.read_line(&mut line).context("the password on standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn show_config(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let mut shown = serde_json::to_value(config)?;
    mask(&mut shown);
    if as_json {
        return print(&shown);
    }
    let text = toml::to_string_pretty(&shown).context("the settings")?;
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}

/// Hides passwords in addresses (`scheme://user:password@host`), wherever they stand.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some((user_info, host)) = rest.rsplit_once('@')
            {
                // Without a colon it is a token.
                let user = user_info.split_once(':').map_or(String::new(), |(user, _)| format!("{user}:"));
                *text = format!("{scheme}://{user}***@{host}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(members) => members.values_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_masked() {
        let mut value = json!({"store": {"url": "postgres://ink:geheim@db/ink"}, "bus": {"url": "nats://token@host"},
            "log": {"filter": "info"}});
        mask(&mut value);
        assert_eq!(value["store"]["url"], "postgres://ink:***@db/ink");
        assert_eq!(value["bus"]["url"], "nats://***@host");
        assert_eq!(value["log"]["filter"], "info");
    }
}
