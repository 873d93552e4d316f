//! What will be done, computed from the headers: every dimension, crop and tile, the list of steps, and the memory they need.
//! Pure.

use super::geometry::{Orientation, Rect, Size, Tiling};
use super::spec::{Denoise, OutputFormat, OutputSize, OutputSpec, Spec, WEBP_SIDE_PX_MAX};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// One step of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        tiling: Tiling,
    },
    /// One file is resized, encoded and written.
    Write(Output),
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePlan {
    /// Upright, as users see it.
    pub upright: Size,
    /// In order, each with its share of the work (nanoseconds on some core; only their ratio matters).
    pub steps: Vec<(Step, u64)>,
    /// Most bytes held at once by this page.
    pub peak_bytes: u64,
}

/// The work on an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub pages: Vec<PagePlan>,
    /// Most bytes the job holds at once, the program itself included.
    pub peak_bytes: u64,
    /// Of all pages together.
    pub pixels_total: u64,
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
    let pages: Vec<PagePlan> = pages.iter().zip(1..).map(|(facts, number)| page(facts, number, spec)).collect();
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
    Ok(Plan { pages, peak_bytes, pixels_total })
}

fn page(facts: &PageFacts, number: u32, spec: &Spec) -> PagePlan {
    let mut steps = Vec::new();
    let shrink = shrink(facts, spec);
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
        steps.push(Step::Denoise { keeps_colour: layout != Layout::Gray, tiling: Tiling::of(upright) });
    }
    let decoded = Size::new(upright.width_px.div_ceil(shrink), upright.height_px.div_ceil(shrink));
    // The small files first: a full-size encoder then works beside nothing but the page.
    let mut outputs: Vec<Output> = spec.outputs.iter().map(|wanted| output(wanted, upright, decoded, number)).collect();
    outputs.sort_by_key(|output| output.size.pixels());
    steps.extend(outputs.into_iter().map(Step::Write));
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
        Step::Denoise { tiling, .. } => tiling.window.pixels() * tiling.tiles() * 200,
        Step::Write(output) => match output.format {
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
            Step::Denoise { keeps_colour, tiling } => {
                let planes = if *keeps_colour { 2 * pixels } else { pixels };
                page + planes + pixels / GATE_PIXELS_PER_BYTE + tiling.window.pixels() * NETWORK_BYTES_PER_PIXEL
            }
            Step::Write(output) => page + writing_bytes(output, pixels, layout),
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::spec::{Overrides, Presets};

    const LIMITS: RunLimits =
        RunLimits { pixels_max: 100_000_000, side_px_max: 16_384, pages_max: 200, memory_bytes_max: 2 << 30 };

    fn spec(preset: &str, denoise: &str) -> Spec {
        let set = Overrides::from([("denoise".to_owned(), denoise.to_owned())]);
        Presets::builtin().unwrap().resolve(preset, &set).unwrap()
    }

    fn facts(width_px: u32, height_px: u32, layout: Layout) -> PageFacts {
        PageFacts {
            stored: Size::new(width_px, height_px),
            orientation: Orientation::Upright,
            layout,
            has_icc: false,
            luma_at_decode: false,
            shrinks_at_decode: false,
            decoder_bytes: 0,
        }
    }

    fn steps(facts: PageFacts, spec: &Spec) -> Vec<Step> {
        let plan = plan(&[facts], spec, &LIMITS).unwrap();
        plan.pages[0].steps.iter().map(|step| step.0.clone()).filter(|step| !matches!(step, Step::Write(_))).collect()
    }

    fn decode(layout: Layout) -> Step {
        Step::Decode { layout, shrink: 1 }
    }

    #[test]
    fn only_what_is_needed_is_done() {
        let photo = spec("photo", "off");
        assert_eq!(steps(facts(90, 60, Layout::Rgba), &photo), [decode(Layout::Rgba)]);
        assert_eq!(steps(facts(90, 60, Layout::Cmyk), &photo), [decode(Layout::Cmyk), Step::Colour]);
        let document = spec("document", "gray");
        let clean = Step::Denoise { keeps_colour: false, tiling: Tiling::of(Size::new(90, 60)) };
        assert_eq!(steps(facts(90, 60, Layout::Gray), &document), [decode(Layout::Gray), clean.clone()]);
        let of_jpeg = PageFacts { luma_at_decode: true, ..facts(90, 60, Layout::Rgb) };
        assert_eq!(steps(of_jpeg, &document), [decode(Layout::Gray), clean.clone()]);
        let with_profile = PageFacts { has_icc: true, ..facts(90, 60, Layout::Rgba) };
        let all = [decode(Layout::Rgba), Step::Colour, Step::Flatten, Step::Luma, clean.clone()];
        assert_eq!(steps(with_profile, &document), all);
        let kept = steps(facts(90, 60, Layout::Rgb), &spec("document", "keep"));
        assert!(matches!(kept[..], [Step::Decode { .. }, Step::Denoise { keeps_colour: true, .. }]), "{kept:?}");
        let looked_at = steps(of_jpeg, &spec("document", "auto"));
        assert!(matches!(looked_at[1..], [Step::LumaUnlessMarked, Step::Denoise { .. }]), "{looked_at:?}");
        let of_gray = steps(facts(90, 60, Layout::Gray), &spec("document", "auto"));
        assert_eq!(of_gray, [decode(Layout::Gray), clean]);
    }

    #[test]
    fn a_turned_page_is_planned_upright() {
        let turned = PageFacts { orientation: Orientation::QuarterRight, ..facts(90, 60, Layout::Gray) };
        let plan = plan(&[turned], &spec("document", "gray"), &LIMITS).unwrap();
        assert_eq!(plan.pages[0].upright, Size::new(60, 90));
        assert!(plan.pages[0].steps.iter().any(|step| step.0 == Step::Orient(Orientation::QuarterRight)));
    }

    #[test]
    fn jpeg_is_shrunk_at_decode_only_if_every_output_is_small() {
        let jpeg = PageFacts { shrinks_at_decode: true, ..facts(4_000, 3_000, Layout::Rgb) };
        let mut photo = spec("photo", "off");
        assert_eq!(steps(jpeg, &photo), [decode(Layout::Rgb)]);
        photo.outputs.retain(|output| output.size != OutputSize::Same);
        assert_eq!(steps(jpeg, &photo), [Step::Decode { layout: Layout::Rgb, shrink: 2 }]);
        photo.outputs.retain(|output| output.name == "thumb.webp");
        assert_eq!(steps(jpeg, &photo), [Step::Decode { layout: Layout::Rgb, shrink: 4 }]);
    }

    #[test]
    fn a_side_that_webp_cannot_have_is_fitted() {
        let plan = plan(&[facts(16_384, 40, Layout::Gray)], &spec("photo", "off"), &LIMITS).unwrap();
        let Some((Step::Write(full), _)) = plan.pages[0].steps.last() else { panic!("{:?}", plan.pages[0].steps) };
        assert_eq!((full.name.as_str(), full.size), ("full.webp", Size::new(16_383, 40)));
    }

    #[test]
    fn the_largest_page_fits_into_the_default_memory() {
        for (preset, denoise) in [("document", "gray"), ("document", "auto"), ("photo", "off")] {
            let plan = plan(&[facts(10_000, 10_000, Layout::Rgb)], &spec(preset, denoise), &LIMITS);
            assert!(plan.is_ok(), "{preset} {denoise}: {:?}", plan.err());
        }
    }

    #[test]
    fn pages_have_folders_from_the_second_on() {
        let pages = [facts(90, 60, Layout::Gray), facts(40, 60, Layout::Gray)];
        let plan = plan(&pages, &spec("photo", "off"), &LIMITS).unwrap();
        let names: Vec<String> = plan
            .pages
            .iter()
            .flat_map(|page| &page.steps)
            .filter_map(|step| if let Step::Write(output) = &step.0 { Some(output.name.clone()) } else { None })
            .collect();
        assert!(names.contains(&"full.webp".to_owned()) && names.contains(&"p0002/full.webp".to_owned()), "{names:?}");
        assert_eq!(plan.pixels_total, 90 * 60 + 40 * 60);
    }

    proptest! {
        /// Whatever the page, every output lies within it and every step that turns pixels has work to do.
        #[test]
        fn outputs_lie_within_the_page(
            width in 1u32..16_384, height in 1u32..6_000, value in 1u32..9, shrinks: bool, preset in 0usize..2,
        ) {
            let spec = spec(["document", "photo"][preset], ["gray", "off"][preset]);
            let orientation = Orientation::from_exif(value);
            let page = PageFacts { orientation, shrinks_at_decode: shrinks, ..facts(width, height, Layout::Rgb) };
            let plan = plan(&[page], &spec, &RunLimits { memory_bytes_max: u64::MAX, ..LIMITS }).unwrap();
            let upright = orientation.applied(Size::new(width, height));
            prop_assert_eq!(plan.pages[0].upright, upright);
            let Step::Decode { shrink, .. } = plan.pages[0].steps[0].0 else { panic!("no decoding") };
            let decoded = Size::new(upright.width_px.div_ceil(shrink), upright.height_px.div_ceil(shrink));
            let mut written = 0;
            for (step, _) in &plan.pages[0].steps {
                let Step::Write(output) = step else { continue };
                written += 1;
                prop_assert!(output.size.width_px >= 1 && output.size.height_px >= 1);
                prop_assert!(output.size.width_px <= output.crop.size.width_px);
                prop_assert!(output.size.height_px <= output.crop.size.height_px);
                prop_assert!(output.crop.left_px + output.crop.size.width_px <= decoded.width_px);
                prop_assert!(output.crop.top_px + output.crop.size.height_px <= decoded.height_px);
            }
            prop_assert_eq!(written, spec.outputs.len());
            prop_assert!(plan.peak_bytes > upright.pixels() / u64::from(shrink * shrink));
        }
    }
}
