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
        resolution: None,
        is_shown_by_browsers: true,
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
    let clean = Step::Denoise { keeps_colour: false, cut: Cut::of(Size::new(90, 60)) };
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
fn pages_of_several_are_bound() {
    let turned = PageFacts {
        orientation: Orientation::QuarterLeft,
        resolution: Resolution::stated(200.0, 100.0),
        ..facts(90, 60, Layout::Gray)
    };
    let document = spec("document", "off");
    let bound = |pages: &[PageFacts]| {
        let plan = plan(pages, &document, &LIMITS).unwrap();
        let last = plan.pages.iter().map(|page| page.steps.last().unwrap().0.clone()).collect::<Vec<_>>();
        (plan.pdf, last)
    };
    let bind = |paper, source: &str| Step::Bind { paper, source: Some(source.to_owned()) };
    let (pdf, steps) = bound(&[turned, facts(300, 600, Layout::Gray)]);
    assert_eq!(pdf.as_deref(), Some("clean.pdf"));
    // Turned as the page is; 300 dots per inch where nothing is said.
    assert_eq!(steps, [bind((43.2, 32.4), "clean.png"), bind((72.0, 144.0), "p0002/clean.png")]);
    let (pdf, steps) = bound(&[turned]);
    assert!(pdf.is_none() && matches!(steps[..], [Step::Write(_)]), "{steps:?}");
}

#[test]
fn what_browsers_cannot_show_gets_a_picture_from_before() {
    let before = |pages: &[PageFacts]| {
        let plan = plan(pages, &spec("document", "gray"), &LIMITS).unwrap();
        let steps = plan.pages.into_iter().flat_map(|page| page.steps);
        let named = |(step, _)| {
            let Step::Before(output, orientation) = step else { return None };
            Some((output.name, output.size, orientation))
        };
        steps.filter_map(named).collect::<Vec<_>>()
    };
    let tiff = PageFacts {
        is_shown_by_browsers: false,
        orientation: Orientation::QuarterRight,
        ..facts(4096, 3000, Layout::Rgb)
    };
    let png = facts(300, 200, Layout::Gray);
    assert_eq!(before(&[png]), []);
    let small = |name: &str, size, turned| (name.to_owned(), size, turned);
    let first = small("before.webp", Size::new(2048, 1500), Orientation::QuarterRight);
    let second = small("p0002/before.webp", Size::new(300, 200), Orientation::Upright);
    assert_eq!(before(&[tiff, png]), [first, second]);
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
