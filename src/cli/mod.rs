//! The command line.

mod admin;
mod clean;
mod doctor;
mod inputs;
mod jobs;
mod place;
mod remote;
mod serve;
mod upload;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::worker;

/// Exit codes; they are part of the surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All done.
    Done = 0,
    /// Something failed.
    Failed = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// An input was refused (limit or format); nothing was written for it.
    Refused = 3,
    /// Server or network cannot be reached.
    Unreachable = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Cleans and converts scanned pages and images.
#[derive(Debug, Parser)]
#[command(name = "inkpool", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  inkpool serve                             server and web page on http://127.0.0.1:8080
  inkpool clean page.png                    one page, no server
  inkpool clean scans/ -o cleaned/          a folder
  inkpool upload scans/ --wait --out cleaned/ --server https://ink.example.org
  inkpool jobs list --state failed          what became of uploads
  inkpool doctor                            looks at this deployment
  inkpool admin user create ada             an account, for INKPOOL_AUTH__MODE=accounts
  curl -F file=@page.png http://127.0.0.1:8080/api/v1/images
  inkpool completions bash > /etc/bash_completion.d/inkpool";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server, its slots and the web page.
    Serve(serve::ServeArgs),
    /// Looks after a server: accounts, tokens, nodes, objects, settings.
    Admin(admin::AdminArgs),
    /// Cleans or converts images without a server.
    Clean(clean::CleanArgs),
    /// Sends images to a server, waits for the results and fetches them.
    Upload(upload::UploadArgs),
    /// Looks at the jobs of a server, cancels them and tries them again.
    Jobs(jobs::JobsArgs),
    /// Looks at a deployment and says what is wrong with it.
    Doctor(doctor::DoctorArgs),
    /// The program inside a slot; not for people.
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
    /// Prints a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages into a directory.
    Man {
        /// Where to.
        directory: PathBuf,
    },
}

/// Runs the command that the arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    match cli.command {
        Command::Admin(args) => admin::run(&args).into(),
        Command::Clean(args) => clean::run(&args).into(),
        Command::Doctor(args) => doctor::run(&args).into(),
        Command::Upload(args) => upload::run(&args).into(),
        Command::Jobs(args) => jobs::run(&args).into(),
        // No thread may be started before it: some layers of its sandbox hold for the calling thread alone.
        Command::Worker(args) => worker::main(&args),
        Command::Serve(args) => serve::run(&args).into(),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "inkpool", &mut std::io::stdout());
            Exit::Done.into()
        }
        Command::Man { directory } => match manual(&directory) {
            Ok(()) => Exit::Done.into(),
            Err(error) => complain(&format!("{}: {error}", directory.display()), Exit::Failed).into(),
        },
    }
}

fn manual(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}

/// One line on standard error.
fn complain(what: &str, exit: Exit) -> Exit {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "inkpool: {what}");
    exit
}

/// `KEY=VALUE` of `--set`.
fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Why something did not go, in one line for people. What a server says may hold anything, but moves no cursor here.
fn explain(detail: &str, limit: Option<&str>, measured: Option<&str>, remedy: Option<&str>) -> String {
    let mut text = detail.to_owned();
    if let (Some(limit), Some(measured)) = (limit, measured) {
        text.push_str(&format!(" (limit {limit}, measured {measured})"));
    }
    if let Some(remedy) = remedy {
        text.push(' ');
        text.push_str(remedy);
    }
    plain(&text)
}

/// Without control characters.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Ends the work in order at Ctrl-C and at SIGTERM.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    })
}
