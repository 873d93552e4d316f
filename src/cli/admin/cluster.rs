//! `inkpool admin node` and `slots`: asks running nodes to change, by the ledger that they share.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use crate::cluster::NodeView;
use crate::config::Config;
use crate::store::{Ledger, NodeWish};

/// Wishes are looked for with each renewal of a lease: two of them, and a little for the change itself.
const RENEWALS: u64 = 2;
const EXTRA: Duration = Duration::from_secs(5);
/// Between looks at what the node shows of itself.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Nodes.
#[derive(Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// Lists nodes that run, with their slots.
    List,
    /// Lets a node end what it has and take nothing more.
    Drain {
        /// Which; the one of this data directory if left out.
        node: Option<String>,
        /// Lets it take jobs again.
        #[arg(long)]
        undo: bool,
    },
}

/// Slots.
#[derive(Debug, clap::Subcommand)]
pub enum SlotsCommand {
    /// Sets how many slots a node has, until it is started again.
    Set {
        /// At least 1.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Which; the one of this data directory if left out.
        #[arg(long)]
        node: Option<String>,
    },
}

/// Runs one of [`NodeCommand`].
pub async fn node(config: &Config, ledger: &dyn Ledger, command: &NodeCommand, as_json: bool) -> anyhow::Result<()> {
    match command {
        NodeCommand::List => {
            for node in nodes(ledger).await? {
                print(&node, as_json)?;
            }
            Ok(())
        }
        NodeCommand::Drain { node, undo } => {
            let wish = NodeWish { slots: None, draining: Some(!undo) };
            change(config, ledger, node.as_deref(), wish, as_json).await
        }
    }
}

/// Runs one of [`SlotsCommand`].
pub async fn slots(config: &Config, ledger: &dyn Ledger, command: &SlotsCommand, as_json: bool) -> anyhow::Result<()> {
    let SlotsCommand::Set { count, node } = command;
    let most = config.slots.count_max;
    if *count > most {
        bail!("a node has at most {most} slots (slots.count_max), not {count}");
    }
    let wish = NodeWish { slots: Some(*count), draining: None };
    change(config, ledger, node.as_deref(), wish, as_json).await
}

async fn change(
    config: &Config,
    ledger: &dyn Ledger,
    node: Option<&str>,
    wish: NodeWish,
    as_json: bool,
) -> anyhow::Result<()> {
    let name = match node {
        Some(name) => name.to_owned(),
        None => own_node(&config.data)?,
    };
    let (slots, draining) = (wish.slots, wish.draining);
    if !ledger.wish(&name, wish).await.context("the ledger")? {
        let running: Vec<_> = nodes(ledger).await?.into_iter().map(|node| node.id).collect();
        bail!("the node {name} does not run; running: {}", listed(&running));
    }
    let patience = Duration::from_secs(config.nodes.renew_every_s * RENEWALS) + EXTRA;
    let began = Instant::now();
    while began.elapsed() < patience {
        let shown = nodes(ledger).await?.into_iter().find(|node| node.id == name);
        let is_done = |node: &NodeView| {
            slots.is_none_or(|count| node.slots_count == count)
                && draining.is_none_or(|draining| node.draining == draining)
        };
        if let Some(node) = shown.filter(is_done) {
            return print(&node, as_json);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("the node {name} was asked, and has not changed within {} s", patience.as_secs())
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

async fn nodes(ledger: &dyn Ledger) -> anyhow::Result<Vec<NodeView>> {
    let rows = ledger.nodes().await.context("the ledger")?;
    // One of another version that cannot be read, or that has not shown itself yet, is left out.
    Ok(rows.into_iter().filter_map(|row| serde_json::from_value(row.view).ok()).collect())
}

/// The name that a server gave this data directory.
fn own_node(data: &Path) -> anyhow::Result<String> {
    let file = data.join("node");
    let name = std::fs::read_to_string(&file);
    let name =
        name.with_context(|| format!("{}: no server has run on this data directory; name the node", file.display()))?;
    Ok(name.trim().to_owned())
}

fn print(node: &NodeView, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    if as_json {
        return writeln!(out, "{}", json!(node)).context("standard output");
    }
    let how = if node.draining { "draining" } else { "takes jobs" };
    let busy = node.slots.iter().filter(|slot| slot.job.is_some()).count();
    writeln!(out, "{}  {how}  {} slots, {busy} at work", node.id, node.slots_count).context("standard output")
}
