//! One job: headers, plan, then every step of every page, with progress and times.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::bind::Binder;
use super::bitmap::Bitmap;
use super::manifest::{self, Manifest};
use super::review::Before;
use super::sink::Sink;
use super::{Engine, EngineError, Reporter};
use super::{colour, decode, encode, halves, marks, orient, resize, tiles};
use crate::job::Refusal;
use crate::pipeline::gate::{PageReport, Report};
use crate::pipeline::geometry::{Cut, Orientation, Rect, Size};
use crate::pipeline::plan::{self, Layout, Output, PagePlan, Plan, Step};
use crate::pipeline::probe;
use crate::pipeline::spec::OutputFormat;
use crate::pipeline::wire::{Done, OutFile, Run};

/// What a job needs while it runs.
pub(super) struct Worker<'a> {
    engine: &'a mut Engine,
    run: &'a Run,
    output_directory: &'a Path,
    reporter: &'a mut dyn Reporter,
    begun: Instant,
    /// Of each stage, in the order of their first use: when it began, since `begun`, and its wall time.
    timings: Vec<(&'static str, Duration, Duration)>,
    files: Vec<OutFile>,
    /// The PDF of all pages, if there is to be one.
    binder: Option<Binder>,
    /// What the page as it is now was written as: the part of it, the size, how, and which of `files` that is.
    written: Vec<(Rect, Size, OutputFormat, usize)>,
    /// Verdicts on cleaned pages.
    judged: Vec<PageReport>,
    /// Shares of the work: done, and all.
    weight_done: u64,
    weight_all: u64,
}

/// The page that steps work on.
struct Page {
    /// From 1.
    number: u32,
    bitmap: Bitmap,
    icc: Option<Vec<u8>>,
}

fn refused(stage: &'static str) -> impl Fn(Refusal) -> EngineError {
    move |refusal| EngineError::Refused { stage, refusal }
}

fn fault(stage: &'static str, detail: impl std::fmt::Display) -> EngineError {
    EngineError::Fault { stage, detail: detail.to_string() }
}

fn unwritable(stage: &'static str) -> impl Fn(std::io::Error) -> EngineError {
    move |error| fault(stage, format!("a file cannot be written: {}", error.kind()))
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        engine: &'a mut Engine,
        run: &'a Run,
        output_directory: &'a Path,
        reporter: &'a mut dyn Reporter,
    ) -> Self {
        let (timings, files, judged) = (Vec::new(), Vec::new(), Vec::new());
        let (weight_done, weight_all) = (0, 1);
        let begun = Instant::now();
        Self {
            engine,
            run,
            output_directory,
            reporter,
            begun,
            timings,
            files,
            binder: None,
            written: Vec::new(),
            judged,
            weight_done,
            weight_all,
        }
    }

    pub(super) fn work(mut self, input_directory: &Path) -> Result<Done, EngineError> {
        let begun = Instant::now();
        let (mut source, plan) = self.open(input_directory)?;
        self.time("decode", begun);
        self.reporter.planned(plan.peak_bytes, plan.pixels_total, u32::try_from(plan.pages.len()).unwrap_or(u32::MAX));
        self.weight_all = plan.weight().max(1);
        if let Some(name) = &plan.pdf {
            self.binder = Some(Binder::create(self.output_directory, name).map_err(unwritable("bind"))?);
        }
        for (number, page) in plan.pages.iter().enumerate() {
            self.page(source.as_mut(), number, page)?;
        }
        if let Some(binder) = self.binder.take() {
            let begun = Instant::now();
            self.files.push(binder.finish().map_err(unwritable("bind"))?);
            self.time("bind", begun);
        }
        let begun = Instant::now();
        self.write_manifest()?;
        self.time("manifest", begun);
        self.reporter.progress("manifest", 1.0);
        let first = plan.pages.first().map_or(Size::new(0, 0), |page| page.upright);
        let micros = |time: &Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let milliseconds = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(Done {
            width_px: first.width_px,
            height_px: first.height_px,
            pages_count: u32::try_from(plan.pages.len()).unwrap_or(u32::MAX),
            files: self.files,
            timings_ms: self.timings.iter().map(|(stage, _, time)| ((*stage).to_owned(), milliseconds(time))).collect(),
            stages: self
                .timings
                .iter()
                .map(|(stage, at, time)| ((*stage).to_owned(), micros(at), micros(time)))
                .collect(),
            peak_bytes: 0,
            gate: Report::of(&self.judged),
        })
    }

    /// Headers, limits and the plan; no pixel is decoded.
    fn open(&self, input_directory: &Path) -> Result<(Box<dyn decode::Source>, Plan), EngineError> {
        const STAGE: &str = "decode";
        let limits = &self.run.limits;
        let open = || File::open(input_directory.join(&self.run.input));
        let file = open().map_err(|error| fault(STAGE, format!("the input cannot be opened: {}", error.kind())))?;
        let probe = probe::probe(&mut BufReader::new(&file), limits).map_err(refused(STAGE))?;
        let file = open().map_err(|error| fault(STAGE, format!("the input cannot be opened: {}", error.kind())))?;
        let mut source = decode::open(file, &probe, limits, self.engine.pdf).map_err(refused(STAGE))?;
        let facts = (0..source.pages_count()).map(|number| source.facts(number)).collect::<Result<Vec<_>, _>>();
        let plan = plan::plan(&facts.map_err(refused(STAGE))?, &self.run.spec, limits).map_err(refused(STAGE))?;
        Ok((source, plan))
    }

    fn page(&mut self, source: &mut dyn decode::Source, number: usize, plan: &PagePlan) -> Result<(), EngineError> {
        let mut page = None;
        for (step, weight) in &plan.steps {
            let begun = Instant::now();
            let stage = stage(step);
            if !matches!(step, Step::Write(_)) {
                self.written.clear();
            }
            self.report(stage, 0.0, *weight);
            match (step, page.as_mut()) {
                (Step::Decode { layout, shrink }, _) => {
                    let decoded = source.decode(number, *layout, *shrink).map_err(refused(stage))?;
                    let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
                    page = Some(Page { number, bitmap: decoded.bitmap, icc: decoded.icc });
                }
                (_, None) => return Err(fault(stage, "the plan does not begin with decoding")),
                (step, Some(page)) => self.step(step, page, *weight)?,
            }
            // These time their two stages themselves.
            if !matches!(step, Step::Before(..) | Step::Write(_) | Step::Denoise { .. }) {
                self.time(stage, begun);
            }
            self.weight_done += weight;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, page: &mut Page, weight: u64) -> Result<(), EngineError> {
        match step {
            Step::Decode { .. } => {}
            Step::Colour => colour::to_srgb(&mut page.bitmap, page.icc.as_deref()),
            Step::Flatten => page.bitmap.flatten(),
            Step::Luma => page.bitmap.drop_colour(),
            Step::LumaUnlessMarked => {
                if !marks::are_there(&page.bitmap) {
                    page.bitmap.drop_colour();
                }
            }
            Step::Orient(orientation) => orient::apply(&mut page.bitmap, *orientation),
            Step::Denoise { keeps_colour, cut } => {
                let keeps = *keeps_colour && page.bitmap.layout != Layout::Gray;
                self.denoise(page, keeps, cut, weight)?;
            }
            Step::Before(output, orientation) => self.write_before(page, output, *orientation, weight)?,
            Step::Write(output) => self.write(page, output, weight)?,
            Step::Bind { paper, source } => {
                let source = source.as_ref().map(|name| self.output_directory.join(name));
                if let Some(binder) = &mut self.binder {
                    binder.add(&page.bitmap, *paper, source.as_deref()).map_err(unwritable("bind"))?;
                }
            }
        }
        Ok(())
    }

    fn denoise(&mut self, page: &mut Page, keeps: bool, cut: &Cut, weight: u64) -> Result<(), EngineError> {
        const STAGE: &str = "denoise";
        let gray = keeps.then(|| {
            let mut gray = page.bitmap.clone();
            gray.drop_colour();
            gray
        });
        let begun = Instant::now();
        let whole = gray.as_ref().unwrap_or(&page.bitmap);
        let before = Before::of(whole);
        if before.is_spotless(whole) {
            self.judged.push(PageReport::of(page.number, before.untouched(whole, page.number)));
            self.time("gate", begun);
            return Ok(());
        }
        let half = cut.half.as_ref().filter(|_| before.has_wide_strokes(whole));
        self.time("gate", begun);
        let begun = Instant::now();
        let (done, all) = (self.weight_done, self.weight_all);
        let network = self.engine.network.as_mut().ok_or_else(|| fault(STAGE, "no network is loaded"))?;
        let reporter = &mut *self.reporter;
        let mut report = |share: f32| reporter.progress(STAGE, fraction(done, share, weight, all));
        let cleaned = match half {
            Some(half) => halves::clean(network, whole, half, &mut report),
            None => tiles::clean(network, whole, &cut.whole, &mut report),
        };
        let cleaned = cleaned.map_err(|detail| fault(STAGE, detail))?;
        self.time(STAGE, begun);
        let begun = Instant::now();
        self.report("gate", 1.0, weight);
        let judgement = match gray {
            Some(gray) => before.coloured(&mut page.bitmap, &gray, &cleaned, page.number),
            None => before.gray(&mut page.bitmap, cleaned, page.number),
        };
        self.judged.push(PageReport::of(page.number, judgement));
        self.time("gate", begun);
        Ok(())
    }

    fn write(&mut self, page: &mut Page, output: &Output, weight: u64) -> Result<(), EngineError> {
        let wanted = (output.crop, output.size, output.format);
        if let Some((_, _, _, same)) =
            self.written.iter().find(|(crop, size, format, _)| (*crop, *size, *format) == wanted)
        {
            return self.write_again(*same, output, weight);
        }
        self.written.push((output.crop, output.size, output.format, self.files.len()));
        page.bitmap.drop_full_opacity();
        let begun = Instant::now();
        let is_whole = output.crop == page.bitmap.size.whole() && output.size == page.bitmap.size;
        let resized = if is_whole {
            None
        } else {
            let resized = resize::resize(&page.bitmap, output.crop, output.size);
            Some(resized.map_err(|detail| fault("resize", detail))?)
        };
        self.time("resize", begun);
        self.encode(resized.as_ref().unwrap_or(&page.bitmap), output, weight)
    }

    /// A small page has the same crop and thumbnail as itself: encoding is most of its cost, so that is done once.
    fn write_again(&mut self, same: usize, output: &Output, weight: u64) -> Result<(), EngineError> {
        const STAGE: &str = "encode";
        self.report(STAGE, 0.1, weight);
        let begun = Instant::now();
        let same = self.files.get(same).ok_or_else(|| fault(STAGE, "a file is written again before it is written"))?;
        let size = Size::new(same.width_px, same.height_px);
        let mut source = File::open(self.output_directory.join(&same.name)).map_err(unwritable(STAGE))?;
        let mut sink = Sink::create(self.output_directory, &output.name).map_err(unwritable(STAGE))?;
        std::io::copy(&mut source, &mut sink).map_err(unwritable(STAGE))?;
        self.files.push(sink.finish(output.format.content_type(), size).map_err(unwritable(STAGE))?);
        self.time(STAGE, begun);
        Ok(())
    }

    /// The small picture is turned, not the page: that is still to be worked on as it is stored.
    fn write_before(
        &mut self,
        page: &Page,
        output: &Output,
        orientation: Orientation,
        weight: u64,
    ) -> Result<(), EngineError> {
        let begun = Instant::now();
        let small = resize::resize(&page.bitmap, output.crop, output.size);
        let mut small = small.map_err(|detail| fault("resize", detail))?;
        orient::apply(&mut small, orientation);
        self.time("resize", begun);
        self.encode(&small, output, weight)
    }

    fn encode(&mut self, picture: &Bitmap, output: &Output, weight: u64) -> Result<(), EngineError> {
        const STAGE: &str = "encode";
        self.report(STAGE, 0.1, weight);
        let begun = Instant::now();
        let mut sink = Sink::create(self.output_directory, &output.name).map_err(unwritable(STAGE))?;
        encode::encode(picture, output.format, &mut sink).map_err(|detail| fault(STAGE, detail))?;
        self.files.push(sink.finish(output.format.content_type(), picture.size).map_err(unwritable(STAGE))?);
        self.time(STAGE, begun);
        Ok(())
    }

    fn write_manifest(&mut self) -> Result<(), EngineError> {
        const STAGE: &str = "manifest";
        let uses_network = self.run.spec.denoise != crate::pipeline::spec::Denoise::Off;
        let content = Manifest {
            schema: manifest::SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            model_sha256: uses_network.then_some(self.engine.model_sha256.as_str()),
            input_sha256: &self.run.input_sha256,
            spec: &self.run.spec,
            files: &self.files,
            gate: &self.judged,
        };
        let text = serde_json::to_vec_pretty(&content).map_err(|error| fault(STAGE, error))?;
        let mut sink = Sink::create(self.output_directory, manifest::FILE).map_err(unwritable(STAGE))?;
        sink.write_all(&text).map_err(unwritable(STAGE))?;
        self.files.push(sink.finish("application/json", Size::new(0, 0)).map_err(unwritable(STAGE))?);
        Ok(())
    }

    fn report(&mut self, stage: &'static str, share: f32, weight: u64) {
        self.reporter.progress(stage, fraction(self.weight_done, share, weight, self.weight_all));
    }

    fn time(&mut self, stage: &'static str, begun: Instant) {
        let spent = begun.elapsed();
        match self.timings.iter_mut().find(|timing| timing.0 == stage) {
            Some(timing) => timing.2 += spent,
            None => self.timings.push((stage, begun.saturating_duration_since(self.begun), spent)),
        }
    }
}

/// The share of the whole job that is done, below 1 until the manifest is written.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 24 bits")]
fn fraction(done: u64, share: f32, weight: u64, all: u64) -> f32 {
    ((done as f32 + share * weight as f32) / all as f32).clamp(0.0, 0.999)
}

const fn stage(step: &Step) -> &'static str {
    match step {
        Step::Decode { .. } => "decode",
        Step::Colour | Step::Flatten | Step::Luma | Step::LumaUnlessMarked => "colour",
        Step::Orient(_) => "orient",
        Step::Denoise { .. } => "denoise",
        Step::Before(..) | Step::Write(_) => "resize",
        Step::Bind { .. } => "bind",
    }
}
