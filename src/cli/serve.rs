//! `inkpool serve`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, complain};
use crate::app::App;
use crate::config::Config;
use crate::telemetry;

/// The address is printed when the first slot is warm, or after this long.
const READY_WAIT: Duration = Duration::from_secs(20);

/// Runs the server, its slots and the web page.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  inkpool serve
  inkpool serve --data /srv/inkpool --slots 4
  inkpool serve --listen 127.0.0.1:9000 --config inkpool.toml
  INKPOOL_JOBS__QUEUE_JOBS_MAX=500 inkpool serve

Every setting, its default and the reason for it stand in config/default.toml.")]
pub struct ServeArgs {
    /// Settings that override the defaults (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where ledger, objects and slot directories live.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Slots; 0 for one on each core.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
}

/// Runs until SIGTERM or SIGINT; a second one ends at once.
pub fn run(args: &ServeArgs) -> Exit {
    let config = match settings(args) {
        Ok(config) => config,
        Err(error) => return complain(&error.to_string(), Exit::Usage),
    };
    if let Err(error) = telemetry::init_logs(&config.log) {
        return complain(&format!("{error:#}"), Exit::Usage);
    }
    raise_open_files(config.http.connections_max);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string(), Exit::Failed),
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => Exit::Done,
        Err(error) => complain(&format!("{error:#}"), Exit::Failed),
    }
}

/// Files a server has open besides its connections: objects, the ledger, pipes of its workers.
const OTHER_FILES: u64 = 2048;

/// The usual soft limit of 1,024 open files is below what `http.connections_max` allows.
fn raise_open_files(connections: usize) {
    let limits = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let wanted = limits.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if limits.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limits.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}

fn settings(args: &ServeArgs) -> Result<Config, crate::config::ConfigError> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    if let Some(listen) = &args.listen {
        config.http.listen.clone_from(listen);
    }
    if let Some(slots) = args.slots {
        config.slots.count = slots;
    }
    config.validate()?;
    Ok(config)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = Box::pin(App::start(config)).await?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            complain("asked twice to stop: ending at once", Exit::Failed);
            std::process::exit(i32::from(Exit::Failed as u8));
        });
    };
    let ready = app.ready(READY_WAIT).await;
    let address = app.address;
    // A closed standard output is no reason to stop serving.
    let _ = writeln!(std::io::stdout(), "Inkpool is ready at http://{address}");
    if !ready {
        tracing::warn!("no slot has a worker yet; uploads are taken and wait");
    }
    app.run_until(stop).await
}
