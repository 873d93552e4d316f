//! What will be done, computed from the headers: every dimension, crop and tile, the list of steps, and the memory they need.
//! Pure.

use super::geometry::{Cut, Orientation, Rect, Size};
use super::resolution::Resolution;
use super::spec::{Denoise, OutputFormat, OutputSize, OutputSpec, PdfSpec, Spec, WEBP_SIDE_PX_MAX};
use super::wire::RunLimits;
use crate::job::{Refusal, RefusalCode};

/// Samples of a pixel, 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One.
    Gray,
    /// Three.
    Rgb,
    /// Three and opacity, not multiplied into them.
    Rgba,
    /// Ink: 255 is full.
    Cmyk,
}

impl Layout {
    /// Bytes of a pixel.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// What the header of a page says beyond the probe, for the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageFacts {
    /// As stored.
    pub stored: Size,
    /// EXIF or TIFF orientation.
    pub orientation: Orientation,
    /// What the decoder yields.
    pub layout: Layout,
    /// Whether an ICC profile must be applied.
    pub has_icc: bool,
    /// Whether the decoder can give brightness alone at no loss (JPEG).
    pub luma_at_decode: bool,
    /// Whether the decoder can give a half, a quarter or an eighth of the size (JPEG).
    pub shrinks_at_decode: bool,
    /// What the decoder holds beside the pixels it gives, bytes.
    pub decoder_bytes: u64,
    /// As stored, if the input says it.
    pub resolution: Option<Resolution>,
    /// Whether browsers show the input itself, which is its first page.
    pub is_shown_by_browsers: bool,
}

/// One step of a page.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Compressed bytes become pixels of `layout`, each side divided by `shrink` and rounded up.
    Decode {
        /// Of the result.
        layout: Layout,
        /// 1, 2, 4 or 8.
        shrink: u32,
    },
    /// ICC profile or ink become sRGB.
    Colour,
    /// Transparent parts become white paper.
    Flatten,
    /// Colours become brightness.
    Luma,
    /// Colours become brightness, unless the page has coloured marks.
    LumaUnlessMarked,
    /// The page is turned upright.
    Orient(Orientation),
    /// The network cleans the page.
    Denoise {
        /// Whether coloured marks stay, if the page still has its colours.
        keeps_colour: bool,
        /// How the page is cut.
        cut: Cut,
    },
    /// A small picture of the page as it came in is written, turned upright.
    Before(Output, Orientation),
    /// One file is resized, encoded and written.
    Write(Output),
    /// The page is added to the PDF of all pages.
    Bind {
        /// Size of its paper, points.
        paper: (f64, f64),
        /// A PNG with the pixels of the page, which has been written.
        source: Option<String>,
    },
}

/// One file of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name below `out/`, such as `p0002/clean.png`.
    pub name: String,
    /// How it is encoded.
    pub format: OutputFormat,
    /// Part of the page (after shrinking at decode) that is used.
    pub crop: Rect,
    /// Of the file.
    pub size: Size,
}

/// The work on one page.
#[derive(Debug, Clone, PartialEq)]
pub struct PagePlan {
    /// Upright, as users see it.
    pub upright: Size,
    /// In order, each with its share of the work (nanoseconds on some core; only their ratio matters).
    pub steps: Vec<(Step, u64)>,
    /// Most bytes held at once by this page.
    pub peak_bytes: u64,
}

/// The work on an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In order.
    pub pages: Vec<PagePlan>,
    /// Most bytes the job holds at once, the program itself included.
    pub peak_bytes: u64,
    /// Of all pages together.
    pub pixels_total: u64,
    /// Name of the PDF of all pages.
    pub pdf: Option<String>,
}

impl Plan {
    /// Sum of all shares.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.pages.iter().flat_map(|page| &page.steps).map(|step| step.1).sum()
    }
}

/// Code, libraries and the loaded network: 40 MB were measured, bytes.
const PROGRAM_BYTES: u64 = 64 << 20;
/// What the network holds for each pixel of a window: 140 were measured, bytes.
const NETWORK_BYTES_PER_PIXEL: u64 = 192;
/// What the gate holds for each pixel of a page: a dozen fields of one byte for 64 pixels, and what was found in blocks; one
/// byte in so many.
const GATE_PIXELS_PER_BYTE: u64 = 4;
/// What libwebp holds for each pixel beside its input: 4 (ARGB), 1.5 (YUV) and 1.9 of tokens for a grainy photo, bytes.
const WEBP_BYTES_PER_PIXEL: u64 = 8;
/// Buffers of rows, of files and of the resizer, bytes.
const BUFFERS_BYTES: u64 = 4 << 20;

/// Plans the work and holds the limit on memory.
///
/// # Errors
/// [`RefusalCode::NeedsTooMuchMemory`] with figures.
pub fn plan(pages: &[PageFacts], spec: &Spec, limits: &RunLimits) -> Result<Plan, Refusal> {
    let pdf = spec.pdf_of(pages.len());
    let pages: Vec<PagePlan> = pages.iter().zip(1..).map(|(facts, number)| page(facts, number, spec, pdf)).collect();
    let peak_bytes = PROGRAM_BYTES + pages.iter().map(|page| page.peak_bytes).max().unwrap_or(0);
    if peak_bytes > limits.memory_bytes_max {
        return Err(Refusal::new(
            RefusalCode::NeedsTooMuchMemory,
            "The image needs more memory than a worker may have.",
        )
        .figures(format!("{} bytes", limits.memory_bytes_max), format!("{peak_bytes} bytes"))
        .remedy("Send a smaller image, or raise slots.memory_bytes_max."));
    }
    let pixels_total = pages.iter().map(|page| page.upright.pixels()).sum();
    Ok(Plan { pages, peak_bytes, pixels_total, pdf: pdf.map(|pdf| pdf.name.clone()) })
}

fn page(facts: &PageFacts, number: u32, spec: &Spec, pdf: Option<&PdfSpec>) -> PagePlan {
    let mut steps = Vec::new();
    let shrink = if pdf.is_some() { 1 } else { shrink(facts, spec) };
    let is_gray_wanted = spec.denoise == Denoise::Gray;
    let mut layout = if is_gray_wanted && facts.luma_at_decode { Layout::Gray } else { facts.layout };
    steps.push(Step::Decode { layout, shrink });
    if (facts.has_icc || layout == Layout::Cmyk) && !(is_gray_wanted && facts.luma_at_decode) {
        steps.push(Step::Colour);
        layout = if layout == Layout::Cmyk { Layout::Rgb } else { layout };
    }
    if layout == Layout::Rgba && spec.denoise != Denoise::Off {
        steps.push(Step::Flatten);
        layout = Layout::Rgb;
    }
    if let Some(before) = spec.before.as_ref().filter(|_| number > 1 || !facts.is_shown_by_browsers) {
        let stored = Size::new(facts.stored.width_px.div_ceil(shrink), facts.stored.height_px.div_ceil(shrink));
        steps.push(Step::Before(output(before, stored, stored, number), facts.orientation));
    }
    if is_gray_wanted && layout != Layout::Gray {
        steps.push(Step::Luma);
        layout = Layout::Gray;
    }
    if spec.denoise == Denoise::Auto && layout != Layout::Gray {
        steps.push(Step::LumaUnlessMarked);
    }
    if facts.orientation != Orientation::Upright {
        steps.push(Step::Orient(facts.orientation));
    }
    let upright = facts.orientation.applied(facts.stored);
    if spec.denoise != Denoise::Off {
        steps.push(Step::Denoise { keeps_colour: layout != Layout::Gray, cut: Cut::of(upright) });
    }
    let decoded = Size::new(upright.width_px.div_ceil(shrink), upright.height_px.div_ceil(shrink));
    // The small files first: a full-size encoder then works beside nothing but the page.
    let mut outputs: Vec<Output> = spec.outputs.iter().map(|wanted| output(wanted, upright, decoded, number)).collect();
    outputs.sort_by_key(|output| output.size.pixels());
    let source = outputs.iter().find(|output| output.format == OutputFormat::Png && output.size == upright);
    let source = source.map(|output| output.name.clone());
    steps.extend(outputs.into_iter().map(Step::Write));
    if let Some(pdf) = pdf {
        let stored = facts.resolution.unwrap_or_else(|| Resolution::of(pdf.dpi_default));
        let resolution = if facts.orientation.turns_sides() { stored.transposed() } else { stored };
        steps.push(Step::Bind { paper: resolution.paper(upright), source });
    }
    let peak_bytes = peak_bytes(facts, &steps);
    let steps = steps.into_iter().map(|step| weighed(step, facts.stored.pixels(), decoded.pixels())).collect();
    PagePlan { upright, steps, peak_bytes }
}

/// The divisor of JPEG's shrink on load: the largest that leaves twice the pixels of every output along each side.
fn shrink(facts: &PageFacts, spec: &Spec) -> u32 {
    if !facts.shrinks_at_decode || spec.denoise != Denoise::Off {
        return 1;
    }
    let upright = facts.orientation.applied(facts.stored);
    let leaves_enough = |shrink: u32| {
        spec.outputs.iter().all(|wanted| {
            let (crop, size) = geometry(wanted, upright);
            crop.size.width_px / shrink >= 2 * size.width_px && crop.size.height_px / shrink >= 2 * size.height_px
        })
    };
    [8, 4, 2].into_iter().find(|shrink| leaves_enough(*shrink)).unwrap_or(1)
}

/// Part of a page that an output shows, and the output's size.
fn geometry(wanted: &OutputSpec, page: Size) -> (Rect, Size) {
    let limit = match wanted.format {
        OutputFormat::Png => Size::new(u32::MAX, u32::MAX),
        OutputFormat::Webp { .. } => Size::new(WEBP_SIDE_PX_MAX, WEBP_SIDE_PX_MAX),
    };
    match wanted.size {
        OutputSize::Same => (page.whole(), page.fit(limit)),
        OutputSize::Fit { width_px, height_px } => (page.whole(), page.fit(Size::new(width_px, height_px))),
        OutputSize::Fill { side_px } => {
            let crop = page.centre_square();
            (crop, crop.size.fit(Size::new(side_px, side_px)))
        }
    }
}

fn output(wanted: &OutputSpec, upright: Size, decoded: Size, number: u32) -> Output {
    let name = if number == 1 { wanted.name.clone() } else { format!("p{number:04}/{}", wanted.name) };
    Output { name, format: wanted.format, crop: geometry(wanted, decoded).0, size: geometry(wanted, upright).1 }
}

/// The step with its share of the work: nanoseconds measured on one core, roughly.
fn weighed(step: Step, stored: u64, decoded: u64) -> (Step, u64) {
    let weight = match &step {
        Step::Decode { .. } => stored * 8,
        Step::Colour => decoded * 10,
        Step::Flatten | Step::Luma | Step::LumaUnlessMarked | Step::Orient(_) => decoded * 2,
        Step::Denoise { cut, .. } => cut.whole.window.pixels() * cut.whole.tiles() * 200,
        Step::Bind { .. } => decoded * 2,
        Step::Before(output, _) | Step::Write(output) => match output.format {
            OutputFormat::Png => decoded + output.size.pixels() * 30,
            OutputFormat::Webp { .. } => decoded + output.size.pixels() * 90,
        },
    };
    (step, weight)
}

/// Walks the steps and adds up what each holds.
fn peak_bytes(facts: &PageFacts, steps: &[Step]) -> u64 {
    let mut pixels = facts.stored.pixels();
    let mut layout = facts.layout;
    let mut peak = 0;
    for step in steps {
        let page = pixels * layout.bytes();
        let held = match step {
            Step::Decode { layout: decoded, shrink } => {
                let shrunk = |side: u32| u64::from(side.div_ceil(*shrink));
                pixels = shrunk(facts.stored.width_px) * shrunk(facts.stored.height_px);
                layout = *decoded;
                pixels * layout.bytes() + facts.decoder_bytes
            }
            Step::Colour => {
                layout = if layout == Layout::Cmyk { Layout::Rgb } else { layout };
                page
            }
            Step::Flatten => {
                layout = Layout::Rgb;
                page
            }
            Step::Luma => {
                layout = Layout::Gray;
                page
            }
            // Whether the colours go is not known yet.
            Step::LumaUnlessMarked => page,
            Step::Orient(orientation) => page * if orientation.turns_sides() { 2 } else { 1 },
            Step::Denoise { keeps_colour, cut } => {
                let planes = if *keeps_colour { 2 * pixels } else { pixels };
                // Half the resolution holds a quarter of the pixels twice: as they are, and cleaned.
                let halves = if cut.half.is_some() { pixels / 2 } else { 0 };
                let window = cut.windows().map(|window| window.pixels()).max().unwrap_or(0);
                page + planes + halves + pixels / GATE_PIXELS_PER_BYTE + window * NETWORK_BYTES_PER_PIXEL
            }
            Step::Before(output, _) | Step::Write(output) => page + writing_bytes(output, pixels, layout),
            // At most a copy of the page without its opacity, and what it is compressed to.
            Step::Bind { .. } => page + 2 * page,
        };
        peak = peak.max(held + BUFFERS_BYTES);
    }
    peak
}

/// What one file needs beside the page.
fn writing_bytes(output: &Output, pixels: u64, layout: Layout) -> u64 {
    let size = output.size.pixels();
    // An output of the page's own size is encoded from the page itself.
    let resized = if size == pixels { 0 } else { size * layout.bytes() };
    // The resizer works along one axis first.
    let between =
        if size == pixels { 0 } else { u64::from(output.size.width_px) * u64::from(output.crop.size.height_px) };
    match output.format {
        OutputFormat::Png => resized + between * layout.bytes(),
        OutputFormat::Webp { .. } => {
            let coloured = if layout == Layout::Gray { size * 3 } else { 0 };
            resized + (between * layout.bytes()).max(coloured + size * WEBP_BYTES_PER_PIXEL)
        }
    }
}

#[cfg(test)]
mod tests;
