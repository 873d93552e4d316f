//! `inkpool admin user`: what an account may do and use, and whether somebody comes in by it.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::json;

use crate::auth::Auth;
use crate::store::accounts::{AccountChange, AccountRow, Role};
use crate::store::quotas::{Measure, Override, Quota, Quotas};

/// What becomes of a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// As the settings say.
    Usual,
    /// None.
    Off,
    /// This.
    At(u64),
}

impl Bound {
    const fn stored(self) -> Option<u64> {
        match self {
            Self::Usual => None,
            Self::Off => Some(0),
            Self::At(bound) => Some(bound),
        }
    }
}

/// `default`, `none`, or a number, which may end in k, M, G or T (thousands).
pub fn bound(text: &str) -> Result<Bound, String> {
    const LARGEST: u64 = 9_000_000_000_000_000;
    let (digits, factor) = match text.strip_suffix(['k', 'M', 'G', 'T']).unwrap_or(text) {
        "default" => return Ok(Bound::Usual),
        "none" => return Ok(Bound::Off),
        digits => (digits, &text[digits.len()..]),
    };
    let factor = match factor {
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => 1_u64,
    };
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(factor));
    let value = value.filter(|value| (1..=LARGEST).contains(value));
    value.map(Bound::At).ok_or_else(|| "a number such as 500 or 50G, `none`, or `default`".to_owned())
}

/// Bounds to set for somebody.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct QuotaArgs {
    /// Bytes stored: a number such as 50G, `none`, or `default`
    #[arg(long, value_name = "BYTES", value_parser = bound)]
    stored: Option<Bound>,
    /// Pixels within a day, likewise
    #[arg(long, value_name = "PIXELS", value_parser = bound)]
    pixels: Option<Bound>,
    /// Jobs under way, likewise
    #[arg(long, value_name = "JOBS", value_parser = bound)]
    jobs: Option<Bound>,
}

/// An account by its name.
async fn named(auth: &Auth, username: &str) -> anyhow::Result<AccountRow> {
    let known = auth.accounts().account_by_name(username).await?;
    known.map(|(account, _)| account).with_context(|| format!("there is no account {username}"))
}

/// Changes an account.
pub async fn change(auth: Arc<Auth>, username: &str, change: AccountChange, as_json: bool) -> anyhow::Result<()> {
    let account = named(&auth, username).await?;
    let changed = auth.change_account(account.id, change).await?;
    let Some(account) = changed else { bail!("there is no account {username} any more") };
    super::print_account(&account, as_json)
}

/// The role that a word stands for.
pub fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "admin or user".to_owned())
}

/// Sets what is given and shows what holds.
pub async fn quota(
    auth: &Auth,
    quotas: &dyn Quotas,
    usual: Option<Quota>,
    username: &str,
    args: QuotaArgs,
    as_json: bool,
) -> anyhow::Result<()> {
    let owner = named(auth, username).await?.owner;
    let before = quotas.standing(owner).await?.own;
    let own = Override {
        stored_bytes_max: args.stored.map_or(before.stored_bytes_max, Bound::stored),
        pixels_per_day_max: args.pixels.map_or(before.pixels_per_day_max, Bound::stored),
        jobs_queued_max: args.jobs.map_or(before.jobs_queued_max, Bound::stored),
    };
    if own != before {
        quotas.set_quota(owner, own).await?;
    }
    let usage = quotas.standing(owner).await?.usage;
    let holds = usual.map(|usual| own.over(usual)).unwrap_or_default();
    let rows = [
        ("stored_bytes", Measure::StoredBytes, own.stored_bytes_max),
        ("pixels_per_day", Measure::PixelsPerDay, own.pixels_per_day_max),
        ("jobs_queued", Measure::JobsQueued, own.jobs_queued_max),
    ];
    if as_json {
        let shares = rows.map(|(name, measure, own)| {
            let share = json!({"used": usage.of(measure), "limit": holds.of(measure), "own": own.is_some()});
            (name.to_owned(), share)
        });
        return super::print(&serde_json::Value::Object(shares.into_iter().collect()));
    }
    for (name, measure, own) in rows {
        let limit = holds.of(measure).map_or_else(|| "no bound".to_owned(), |limit| format!("of {limit}"));
        let whose = if own.is_some() { "set for this account" } else { "by the settings" };
        writeln!(std::io::stdout(), "{name:15} {:>16} {limit}  ({whose})", usage.of(measure))
            .context("standard output")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read() {
        assert_eq!(bound("default"), Ok(Bound::Usual));
        assert_eq!(bound("none"), Ok(Bound::Off));
        assert_eq!(bound("500"), Ok(Bound::At(500)));
        assert_eq!(bound("50G"), Ok(Bound::At(50_000_000_000)));
        for wrong in ["", "0", "G", "-1", "1.5G", "50GB", "99999999T", "much"] {
            assert!(bound(wrong).is_err(), "{wrong}");
        }
    }
}
