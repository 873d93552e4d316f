//! `inkpool upload`: images to a server, and with `--wait` the results back.

mod fetch;
mod pieces;
mod report;
mod send;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt;
use http_client::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::fetch::Fetched;
use self::report::{Error, Outcome, Report, State};
use super::inputs::{self, Input};
use super::remote::{Job, RemoteArgs, RemoteError, Server, Watch, refusal};
use super::{Exit, complain};

const EXAMPLES: &str = "\
Folders are searched for images. What was uploaded before (same bytes, same name, same preset) is
not sent again within the three days for which a server remembers it: after an interruption the
same command goes on where it ended, and within an image of 4 MiB or more at the byte where it ended.

Where the results go, with --out:
  page.png        DIR/page/clean.png, clean.webp, thumb.webp, manifest.json
  scans/a/b.tif   DIR/a/b/clean.png, …, DIR/a/b/p0002/clean.png for its second page, and
                  DIR/a/b/clean.pdf with all of them
  Files that are there already with the right content are not fetched again.

Examples:
  inkpool upload page.png
  inkpool upload scans/ --wait --out cleaned/ --server https://ink.example.org
  inkpool upload *.jpg --preset photo --set quality=70 --json
  INKPOOL_TOKEN=inkpool_… inkpool upload scans/ --server https://ink.example.org

Exit codes: 0 done; 1 something failed; 2 usage; 3 an image was refused (limit or format);
4 the server cannot be reached.
The worst of a batch counts.";

/// Images whose jobs are waited for at once; the rest is sent as these end.
const UNDER_WAY_MAX: usize = 1000;

/// What `inkpool upload` is asked for.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct UploadArgs {
    /// Images, or folders of images
    #[arg(required = true, value_name = "FILE|DIR")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
    /// What to make; `document` unless the server says otherwise
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Changes a setting of the preset: denoise=auto|off|gray|keep, quality=1..100, pdf=auto|on|off
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::setting)]
    set: Vec<(String, String)>,
    /// Wait until the jobs have ended
    #[arg(short, long)]
    wait: bool,
    /// Wait at most this long for each job
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// Fetch the results into this folder, which mirrors the folders that were uploaded
    #[arg(short, long, value_name = "DIR", requires = "wait")]
    out: Option<PathBuf>,
    /// Replace files that exist and differ
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Upload and process again what was uploaded before
    #[arg(long)]
    again: bool,
    /// What the server has already, made into the same, will do, whatever its name: it is not stored again
    #[arg(long, conflicts_with = "again")]
    dedup: bool,
    /// Uploads, and downloads, at once
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    parallel: u16,
    /// Print one JSON object for each image on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &UploadArgs) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string(), Exit::Failed),
    };
    match runtime.block_on(upload(args)) {
        Ok(exit) => exit,
        Err(error) => complain(&error.to_string(), error.exit()),
    }
}

async fn upload(args: &UploadArgs) -> Result<Exit, RemoteError> {
    let failed = |error: &dyn std::fmt::Display| RemoteError::Failed(error.to_string());
    let server = Server::new(&args.remote)?;
    if args.inputs.iter().any(|input| input.as_os_str() == "-") {
        return Err(RemoteError::Usage("standard input cannot be sent a second time; save it to a file".to_owned()));
    }
    if server.exposes_token() {
        complain("the token goes over plain HTTP, where others on the way can read it", Exit::Done);
    }
    let rules = Rules::of(&server, args).await?;
    let inputs = inputs::expand(&args.inputs, args.out.as_deref(), &rules.outputs).map_err(|error| failed(&error))?;
    let stop = CancellationToken::new();
    tokio::spawn(super::stop_on_signal(stop.clone()).map_err(|error| failed(&error))?);
    let batch = Batch {
        report: Report::new(args.json, inputs.len()),
        places: fetch::places(&inputs, args.out.as_deref()).map_err(RemoteError::Usage)?,
        watch: Watch::new(&server),
        sending: Semaphore::new(args.parallel.into()),
        fetching: Semaphore::new(args.parallel.into()),
        server: &server,
        rules,
        args,
        stop,
        given_up: RefCell::default(),
    };
    let all = batch.all(inputs);
    tokio::select! {
        exit = all => Ok(exit),
        () = batch.watch.run() => Ok(Exit::Failed),
    }
}

/// What the server takes, asked for once: that tells as well whether it is there, and whether we may come in.
struct Rules {
    /// Name of the preset.
    preset: String,
    /// Names of its files, without the original.
    outputs: Vec<String>,
    body_bytes_max: u64,
}

#[derive(Deserialize)]
struct Preset {
    name: String,
    outputs: Vec<String>,
}

#[derive(Deserialize)]
struct Presets {
    items: Vec<Preset>,
}

#[derive(Deserialize)]
struct Limits {
    body_bytes_max: u64,
}

impl Rules {
    async fn of(server: &Server, args: &UploadArgs) -> Result<Self, RemoteError> {
        let presets: Presets = server.get(server.url(["presets"], &[])).await?;
        let limits: Limits = server.get(server.url(["limits"], &[])).await?;
        let names: Vec<_> = presets.items.iter().map(|preset| super::plain(&preset.name)).collect();
        let is_wanted = |preset: &Preset| args.preset.as_ref().is_none_or(|name| *name == preset.name);
        let preset = presets.items.into_iter().find(is_wanted).ok_or_else(|| {
            let wanted = args.preset.as_deref().unwrap_or_default();
            RemoteError::Usage(format!("--preset {wanted}: the server has {}", names.join(", ")))
        })?;
        let outputs = preset.outputs.into_iter().filter(|name| name != fetch::ORIGINAL).collect();
        Ok(Self { preset: preset.name, outputs, body_bytes_max: limits.body_bytes_max })
    }
}

/// One call.
struct Batch<'a> {
    args: &'a UploadArgs,
    server: &'a Server,
    rules: Rules,
    places: Vec<Option<PathBuf>>,
    report: Report,
    watch: Watch<'a>,
    sending: Semaphore,
    fetching: Semaphore,
    stop: CancellationToken,
    /// Why nothing more is tried.
    given_up: RefCell<Option<RemoteError>>,
}

impl Batch<'_> {
    /// Everything, and the worst exit code of it.
    async fn all(&self, inputs: Vec<Input>) -> Exit {
        let at_once = if self.args.wait { UNDER_WAY_MAX } else { self.args.parallel.into() };
        let each = inputs.iter().zip(&self.places).map(|(input, place)| self.one(input, place.as_deref()));
        let exits = futures::stream::iter(each).buffer_unordered(at_once);
        let worst = exits.fold(Exit::Done, async |worst, exit| worst.max(exit)).await;
        self.report.close(self.given_up.borrow().is_some());
        worst
    }

    async fn one(&self, input: &Input, place: Option<&Path>) -> Exit {
        let began = Instant::now();
        let mut outcome = Outcome::of(input.shown());
        let earlier = self.given_up.borrow().clone();
        let told_before = earlier.is_some();
        let done = match earlier {
            Some(error) => Err(error),
            None => tokio::select! {
                done = Box::pin(self.steps(input, place, &mut outcome)) => done,
                () = self.stop.cancelled() => Err(RemoteError::Interrupted),
            },
        };
        if let Err(error) = done {
            outcome.fail(&error);
            if error.concerns_all() {
                self.given_up.replace(Some(error));
            }
        }
        outcome.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.report.end(&outcome, told_before);
        outcome.exit
    }

    async fn steps(&self, input: &Input, place: Option<&Path>, outcome: &mut Outcome) -> Result<(), RemoteError> {
        let sent = self.send(input).await?;
        let job = Job::of(&sent.job)?;
        outcome.image_id = Some(job.image_id);
        outcome.sent_before = sent.before;
        outcome.take_job(&sent.job, &job);
        if !self.args.wait {
            return Ok(());
        }
        let patience = Duration::from_secs(self.args.timeout);
        let late = |_| RemoteError::Failed(format!("the job has not ended within {} s", self.args.timeout));
        let object = tokio::time::timeout(patience, self.watch.end_of(sent.job)).await.map_err(late)??;
        let job = Job::of(&object)?;
        outcome.take_job(&object, &job);
        if job.state != crate::job::State::Succeeded {
            outcome.fail_as(ended_badly(&job), exit_of(&job));
            return Ok(());
        }
        if let Some(place) = place {
            let Fetched { files, folder } = self.fetch(job.image_id, place).await?;
            (outcome.files, outcome.folder) = (files, Some(folder));
        }
        outcome.state = State::Succeeded;
        Ok(())
    }

    /// An address below `/api/v1`.
    fn url<'a>(&self, path: impl IntoIterator<Item = &'a str>, query: &[(&str, &str)]) -> Url {
        self.server.url(path, query)
    }
}

/// A job that did not succeed.
fn ended_badly(job: &Job) -> Error {
    match &job.error {
        Some(error) => Error::of_job(error),
        None => Error::plain(job.state.as_str(), &format!("The job was {}.", job.state)),
    }
}

fn exit_of(job: &Job) -> Exit {
    let is_refusal = job.error.as_ref().is_some_and(|error| refusal(&error.code).is_some());
    if is_refusal { Exit::Refused } else { Exit::Failed }
}

/// What an answer to an upload holds for its one file.
#[derive(Debug, Deserialize)]
struct Answer {
    items: Vec<AnswerItem>,
}

#[derive(Debug, Deserialize)]
struct AnswerItem {
    image: Option<AnswerImage>,
    job: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct AnswerImage {
    sha256: String,
}
