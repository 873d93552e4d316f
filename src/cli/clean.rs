//! `inkpool clean`: images in, images out, without a server. The work is done by the same locked-in workers.

mod lanes;
mod report;
mod targets;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::place::Room;
use super::{Exit, inputs};
use crate::config::Config;
use crate::containers::process::{ProcessRuntime, ProcessSettings};
use crate::pipeline::engine::locate;
use crate::pipeline::spec::{Denoise, Presets, Spec};
use lanes::{Lanes, Settings};
use report::Report;

const EXAMPLES: &str = "\
Where the results go:
  without -o     the main file beside each input: page.png becomes page.clean.png
  -o FILE        one input: its main file, PNG or WebP by the ending of FILE; .pdf holds all pages
  -o DIR         everything: DIR/page/clean.png, clean.webp, thumb.webp, manifest.json, and for
                 several pages clean.pdf (DIR exists, ends in /, or there are several inputs)
  Further pages of an input get p0002 and so on into their names.

Examples:
  inkpool clean page.png                         writes page.clean.png
  inkpool clean page.jpg -o clean.webp
  inkpool clean chapter.tif -o chapter.pdf
  inkpool clean scans/ more/*.tif -o cleaned/    folders are searched for images
  inkpool clean photo.jpg --preset photo -o web/ --set quality=70
  scanimage --format=png | inkpool clean - -o page.png
  inkpool clean *.png --json                     one JSON object a line on standard output

Exit codes: 0 done; 1 something failed; 2 usage; 3 an input was refused (limit or format). The worst of a batch counts.";

/// What `inkpool clean` is asked for.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct CleanArgs {
    /// Images, folders of images, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// A file (one input) or a folder for the results
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// What to make: document (the default), photo
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Changes a setting of the preset: denoise=auto|off|gray|keep, quality=1..100, pdf=auto|on|off
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::setting)]
    set: Vec<(String, String)>,
    /// Print one JSON object for each input on standard output
    #[arg(long)]
    json: bool,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    /// Images worked on at once [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
}

/// Runs the command.
#[must_use]
pub fn run(args: &CleanArgs) -> Exit {
    let exit = match prepare(args) {
        Ok(work) => match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime.block_on(clean(work)),
            Err(error) => Err(error.into()),
        },
        Err(Wrong::Usage(why)) => return super::complain(&why, Exit::Usage),
        Err(Wrong::Setup(error)) => Err(error),
    };
    exit.unwrap_or_else(|error| super::complain(&format!("{error:#}"), Exit::Failed))
}

enum Wrong {
    Usage(String),
    Setup(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self::Setup(error.into())
    }
}

struct Work {
    jobs: Vec<targets::Job>,
    lanes_count: u32,
    json: bool,
    overwrite: bool,
    spec: Spec,
    config: Config,
    located: locate::Located,
    program: PathBuf,
}

/// All that can be wrong before a byte is read of an image.
fn prepare(args: &CleanArgs) -> Result<Work, Wrong> {
    let config = Config::load(None)?;
    let overrides = args.set.iter().cloned().collect();
    let spec =
        Presets::builtin()?.resolve(args.preset.as_deref().unwrap_or_default(), &overrides).map_err(|refusal| {
            let remedy = refusal.remedy.map_or_else(String::new, |remedy| format!(" {remedy}"));
            Wrong::Usage(format!("{}{remedy}", refusal.detail))
        })?;
    let located = locate::find(&config.models.directory, &config.models.onnxruntime, &config.models.pdfium)?;
    let pdf = spec.pdf.iter().map(|pdf| pdf.name.clone());
    let made: Vec<String> = spec.outputs.iter().map(|output| output.name.clone()).chain(pdf).collect();
    let inputs = inputs::expand(&args.inputs, args.output.as_deref(), &made)?;
    let folder = args.inputs.len() > 1 || args.inputs.iter().any(|input| input.is_dir());
    let jobs = targets::assign(inputs, args.output.as_deref(), folder, &spec).map_err(Wrong::Usage)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = args.jobs.unwrap_or_else(|| u32::try_from(cores).unwrap_or(1).min(config.slots.count_max));
    let lanes_count = wanted.min(u32::try_from(jobs.len()).unwrap_or(u32::MAX)).max(1);
    let program = std::env::current_exe().context("the path of this program")?;
    Ok(Work { jobs, lanes_count, json: args.json, overwrite: args.overwrite, spec, config, located, program })
}

async fn clean(work: Work) -> anyhow::Result<Exit> {
    let place = Room::create("inkpool-clean").context("a directory for temporary files")?;
    let runtime = ProcessRuntime::new(ProcessSettings {
        program: work.program,
        slots: place.0.clone(),
        model: work.located.model,
        model_sha256: work.located.model_sha256,
        onnxruntime: work.located.onnxruntime,
        pdfium: work.located.pdfium,
        network: work.spec.denoise != Denoise::Off,
    })?;
    let stop = CancellationToken::new();
    tokio::spawn(super::stop_on_signal(stop.clone())?);
    let report = Report::new(work.json, work.jobs.len());
    let settings = Settings { spec: work.spec, config: work.config, overwrite: work.overwrite, slots: place.0.clone() };
    let lanes = Arc::new(Lanes::new(work.jobs, settings, runtime, report, stop));
    let running = (0..work.lanes_count).map(|lane| tokio::spawn(lanes.clone().run(lane)));
    for lane in running.collect::<Vec<_>>() {
        lane.await.context("a lane panicked")?;
    }
    Ok(lanes.worst())
}
