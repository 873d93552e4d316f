//! The gate on pages made here: good outputs pass, each kind of damage is seen.

use super::*;

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

type Picture = Vec<u8>;

fn picture(level: impl Fn(usize, usize) -> u8) -> Picture {
    (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))).map(|(x, y)| level(x, y)).collect()
}

/// Letters of two strokes each, 14 pixels high, in lines and words.
fn is_ink(x: usize, y: usize) -> bool {
    let (line, column) = (y % 24, x % 14);
    let is_letter = (30..610).contains(&x) && (30..450).contains(&y) && !(x / 14 + y / 24 * 3).is_multiple_of(6);
    is_letter && (5..19).contains(&line) && (column < 3 || (column < 9 && (10..13).contains(&line)))
}

/// Grain that looks random and is always the same: 0 to `most`.
fn grain(x: usize, y: usize, most: u8) -> u8 {
    let mixed = (x * 7919 + y * 104_729 + 17).wrapping_mul(2_654_435_761) >> 16;
    u8::try_from(mixed % (usize::from(most) + 1)).unwrap()
}

/// The letters on paper of this brightness, in ink of this one, with grain, light that falls off, and a stain.
fn page(paper: u8, ink: u8) -> Picture {
    picture(|x, y| {
        let from_stain = (x as f64 - 420.0).hypot(y as f64 - 200.0);
        let stain = if from_stain < 70.0 { 34 } else { 0 };
        let level = if is_ink(x, y) { ink } else { paper - u8::try_from(x / 40).unwrap() - stain };
        level - grain(x, y, 8).min(level)
    })
}

fn clean() -> Picture {
    picture(|x, y| if is_ink(x, y) { 0 } else { 255 })
}

fn within(x: usize, y: usize, left: usize, top: usize, width: usize, height: usize) -> bool {
    (left..left + width).contains(&x) && (top..top + height).contains(&y)
}

fn changed(mut output: Picture, level: u8, left: usize, top: usize, width: usize, height: usize) -> Picture {
    for y in top..top + height {
        output[y * WIDTH + left..y * WIDTH + left + width].fill(level);
    }
    output
}

fn verdict_with(page: &Picture, output: &Picture, pictures: &Mask) -> Judgement {
    let plane = Plane { width: WIDTH, pixels: page };
    let write = |y: usize, row: &mut [u8]| row.copy_from_slice(&output[y * WIDTH..(y + 1) * WIDTH]);
    let (figures, blocks) = compare(&plane, &Paper::of(&plane), pictures, write);
    judge(figures, &blocks, &plane, 1)
}

fn verdict(page: &Picture, output: &Picture) -> Judgement {
    verdict_with(page, output, &Mask::default())
}

#[test]
fn good_outputs_pass() {
    for (paper, ink) in [(240, 30), (150, 20), (90, 20), (230, 130)] {
        let judged = verdict(&page(paper, ink), &clean());
        assert_eq!((judged.verdict, &judged.regions[..]), (Verdict::Clean, &[][..]), "{paper} {ink}: {judged:?}");
        assert!(judged.figures.strokes > 400, "{judged:?}");
    }
}

#[test]
fn a_word_that_is_gone_is_seen_and_where() {
    for (paper, ink) in [(240, 30), (90, 20), (230, 130)] {
        let judged = verdict(&page(paper, ink), &changed(clean(), 255, 112, 120, 140, 24));
        assert_eq!((judged.verdict, &judged.harms[..]), (Verdict::Review, &[Harm::StrokesLost][..]), "{judged:?}");
        let place = judged.regions[0];
        assert!(place.left_px <= 112 && place.left_px + place.width_px >= 252, "{place:?}");
        // A stroke is told of where its middle is.
        assert!(place.top_px <= 132 && place.top_px + place.height_px >= 132, "{place:?}");
    }
}

#[test]
fn two_letters_of_a_faint_page_are_seen_and_one_is_not() {
    let page = page(230, 150);
    let lost = |letters: usize| verdict(&page, &changed(clean(), 255, 140, 120, 14 * letters, 24));
    let (one, two) = (lost(1), lost(2));
    assert!(two.figures.contrast_percent < thresholds::CONTRAST_FAINT, "{two:?}");
    assert_eq!((one.verdict, one.figures.strokes_lost), (Verdict::Clean, 1), "{one:?}");
    assert_eq!((two.verdict, two.figures.strokes_lost), (Verdict::Review, 2), "{two:?}");
}

/// The letters above, and below them what `below` says: how much darker than the paper.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a level between 0 and 225")]
fn page_with(below: impl Fn(f64, f64) -> f64) -> Picture {
    picture(|x, y| {
        if y < 240 {
            return if is_ink(x, y) { 20 } else { 240 - grain(x, y, 8) };
        }
        240 - below(x as f64, y as f64).clamp(0.0, 225.0) as u8 - grain(x, y, 8)
    })
}

#[test]
fn drops_and_stains_that_are_gone_are_no_strokes() {
    let output = picture(|x, y| if y < 240 && is_ink(x, y) { 0 } else { 255 });
    let away = |x: f64, y: f64, column: f64| (x - column).hypot(y - 360.0);
    let drops = page_with(|x, y| {
        let is_drop = [(80.0, 3.0), (200.0, 5.0), (320.0, 8.0), (440.0, 12.0)]
            .iter()
            .any(|(at, radius)| away(x, y, *at) <= *radius);
        if is_drop { 215.0 } else { 0.0 }
    });
    // The edge of a stain: a soft band.
    let band =
        |x: f64, y: f64| if (100.0..260.0).contains(&x) { 190.0 * (1.0 - (y - 360.0).abs() / 12.0) } else { 0.0 };
    let stain = page_with(band);
    for (name, page) in [("drops", drops), ("a stain", stain)] {
        let judged = verdict(&page, &output);
        assert_eq!((judged.verdict, judged.figures.strokes_lost), (Verdict::Clean, 0), "{name}: {judged:?}");
    }
    // As large and as dark, and long.
    let strokes = page_with(|x, y| if x % 100.0 < 40.0 && (356.0..362.0).contains(&y) { 215.0 } else { 0.0 });
    assert_eq!(verdict(&strokes, &output).harms, [Harm::StrokesLost]);
}

#[test]
fn what_is_gone_by_the_dozen_is_no_stain() {
    let output = picture(|x, y| if y < 240 && is_ink(x, y) { 0 } else { 255 });
    let blots = |right: f64| {
        let depth = |x: f64, y: f64| 215.0 * (1.1 - (x % 28.0 - 14.0).hypot(y % 28.0 - 14.0) / 11.0);
        page_with(move |x, y| if x < right { depth(x, y) } else { 0.0 })
    };
    let few = verdict(&blots(140.0), &output);
    assert_eq!((few.figures.pieces_gone, few.figures.strokes_lost), (45, 0), "{few:?}");
    let many = verdict(&blots(616.0), &output);
    assert_eq!((many.figures.pieces_gone, many.figures.strokes_lost), (198, 198), "{many:?}");
}

#[test]
fn a_part_of_a_rule_that_is_gone_is_seen() {
    let ruled = |y: usize| (220..226).contains(&y);
    let page = picture(|x, y| if ruled(y) || x == 300 { 30 } else { 235 - grain(x, y, 8) });
    let whole = picture(|x, y| if ruled(y) || x == 300 { 0 } else { 255 });
    assert_eq!(verdict(&page, &whole).verdict, Verdict::Clean);
    let cut = changed(whole, 255, 100, 218, 150, 12);
    assert_eq!(verdict(&page, &cut).harms, [Harm::StrokesLost]);
}

#[test]
fn blots_are_seen_on_quiet_and_on_grainy_paper() {
    let grainy = picture(|x, y| if is_ink(x, y) { 40 } else { 250 - grain(x, y, 90) });
    for page in [page(240, 30), grainy] {
        assert_eq!(verdict(&page, &clean()).verdict, Verdict::Clean);
        let judged = verdict(&page, &changed(clean(), 60, 200, 455, 24, 20));
        assert_eq!((judged.verdict, &judged.harms[..]), (Verdict::Review, &[Harm::InkGained][..]), "{judged:?}");
    }
}

#[test]
fn what_is_of_no_use_is_thrown_away() {
    let page = page(240, 30);
    assert_eq!(verdict(&page, &picture(|_, _| 255)).verdict, Verdict::KeptOriginal);
    assert_eq!(verdict(&page, &picture(|_, _| 0)).verdict, Verdict::KeptOriginal);
    let half = picture(|x, y| if is_ink(x, y) && y < 240 { 0 } else { 255 });
    assert_eq!(verdict(&page, &half).verdict, Verdict::KeptOriginal);
}

#[test]
fn letters_that_ran_together_are_seen() {
    // Between the letters of a word there is a haze that is neither blank nor ink.
    let is_haze = |x: usize, y: usize| (5..19).contains(&(y % 24)) && (30..610).contains(&x) && (30..450).contains(&y);
    let page = picture(|x, y| {
        if is_ink(x, y) {
            30
        } else if is_haze(x, y) {
            195
        } else {
            240
        }
    });
    let together = picture(|x, y| if is_ink(x, y) || is_haze(x, y) && y % 24 == 11 { 0 } else { 255 });
    assert_eq!(verdict(&page, &clean()).verdict, Verdict::Clean);
    assert_eq!(verdict(&page, &together).harms, [Harm::StrokesMerged]);
}

#[test]
fn parts_of_worn_letters_that_come_together_again_are_no_harm() {
    // Two rows of each letter have faded, and what is left has soft edges.
    let is_near = |x: usize, y: usize| is_ink(x, y) || is_ink(x + 1, y) || is_ink(x.saturating_sub(1), y);
    let page = picture(|x, y| match (is_ink(x, y), is_near(x, y), (8..10).contains(&(y % 24))) {
        (_, _, true) | (_, false, _) => 235 - grain(x, y, 8),
        (true, ..) => 30,
        (false, true, _) => 100,
    });
    let whole = verdict(&page, &clean());
    assert!(whole.figures.strokes > 3 * whole.figures.strokes_after / 2, "{whole:?}");
    assert_eq!(whole.verdict, Verdict::Clean, "{whole:?}");
    let swollen = picture(|x, y| if (x.saturating_sub(3)..x + 4).any(|x| is_near(x, y)) { 0 } else { 255 });
    assert!(verdict(&page, &swollen).harms.contains(&Harm::StrokesMerged));
}

#[test]
fn the_inside_of_a_worn_box_is_not_gained() {
    let text = page(235, 30);
    let worn = picture(|x, y| {
        let level = text[y * WIDTH + x];
        if within(x, y, 200, 200, 160, 120) { level.min(100 - grain(x, y, 12)) } else { level }
    });
    let black = |left, top| changed(clean(), 10, left, top, 160, 120);
    let judged = verdict(&worn, &black(200, 200));
    assert_eq!((judged.verdict, judged.figures.ink_gained_px), (Verdict::Clean, 0), "{judged:?}");
    // The same box beside it, and one where there was none.
    for (page, output) in [(&worn, black(240, 240)), (&text, black(200, 200))] {
        assert!(verdict(page, &output).harms.contains(&Harm::InkGained));
    }
}

#[test]
fn a_page_that_was_clean_is_not_to_be_changed() {
    let page = clean();
    let same = verdict(&page, &page);
    assert_eq!((same.verdict, same.figures.clean_change_permille), (Verdict::Clean, Some(0)));
    let grayed = picture(|x, y| if is_ink(x, y) { 90 } else { 210 });
    let judged = verdict(&page, &grayed);
    assert_eq!((judged.verdict, &judged.harms[..]), (Verdict::KeptOriginal, &[Harm::CleanChanged][..]));
}

#[test]
fn pictures_are_not_looked_at() {
    let page = page(240, 30);
    let columns = WIDTH / CELL_PX;
    let cells = (0..columns * HEIGHT / CELL_PX).map(|at| {
        let (x, y) = (at % columns * CELL_PX, at / columns * CELL_PX);
        if within(x, y, 200, 200, 160, 80) { Cell::Picture } else { Cell::Page }
    });
    let pictures = Mask { columns, cells: cells.collect() };
    let output = changed(clean(), 255, 200, 200, 160, 80);
    assert_eq!(verdict(&page, &output).harms, [Harm::StrokesLost]);
    assert_eq!(verdict_with(&page, &output, &pictures).verdict, Verdict::Clean);
}

#[test]
fn pages_of_any_size_are_judged() {
    for (width, height) in [(1, 1), (7, 9), (65, 3), (64, 64), (3, 200)] {
        let pixels = vec![200; width * height];
        let plane = Plane { width, pixels: &pixels };
        let (figures, blocks) = compare(&plane, &Paper::of(&plane), &Mask::default(), |_, row| row.fill(255));
        assert_eq!(judge(figures, &blocks, &plane, 1).verdict, Verdict::Clean, "{width} x {height}");
    }
}

/// Waves of light and dark at several scales.
#[expect(clippy::cast_possible_truncation, reason = "a level between 12 and 218")]
fn tone(x: usize, y: usize) -> u8 {
    let (x, y) = (x as f64, y as f64);
    let waves = (x / 31.0 + (y / 17.0).sin()).sin() + (y / 23.0).cos() + 0.7 * (x / 6.0 + y / 9.0).sin();
    u8::try_from((115.0 + 38.0 * waves) as i64).unwrap()
}

fn found(page: &Picture) -> usize {
    let mask = pictures(&Paper::of(&Plane { width: WIDTH, pixels: page }));
    mask.cells.iter().filter(|cell| **cell == Cell::Picture).count()
}

#[test]
fn photographs_and_halftones_are_found() {
    let on_page = |picture_of: &dyn Fn(usize, usize) -> u8| {
        let text = page(235, 30);
        picture(|x, y| match (within(x, y, 120, 110, 240, 200), within(x, y, 110, 100, 260, 220)) {
            (true, _) => picture_of(x, y),
            (false, true) => 232 - grain(x, y, 6),
            (false, false) => text[y * WIDTH + x],
        })
    };
    let photograph = on_page(&tone);
    let dots = on_page(&|x, y| {
        let (u, v) = ((x + y) as f64 * 1.9, (x as f64 - y as f64) * 1.9);
        if f64::from(tone(x, y)) * 0.6 + 20.0 > 115.0 + 60.0 * (u.cos() + v.cos()) / 2.0 { 225 } else { 25 }
    });
    let cells = 240 * 200 / 64;
    for page in [photograph, dots] {
        let found = found(&page);
        assert!((cells * 7 / 10..cells * 12 / 10).contains(&found), "{found} of {cells}");
    }
}

#[test]
fn text_stains_shadows_boxes_and_large_letters_are_no_photographs() {
    let text = page(235, 30);
    let over = |change: &dyn Fn(usize, usize, u8) -> u8| picture(|x, y| change(x, y, text[y * WIDTH + x]));
    let percent = |level: u8, percent: usize| u8::try_from(usize::from(level) * percent / 100).unwrap();
    let away = |x: usize, y: usize| (x as f64 - 300.0).hypot(y as f64 - 240.0);
    let pages = [
        ("text", text.clone()),
        ("a blot", over(&|x, y, level| if away(x, y) < 110.0 { percent(level, 62) } else { level })),
        ("a ring", over(&|x, y, level| if (90.0..125.0).contains(&away(x, y)) { percent(level, 50) } else { level })),
        ("a shadow", over(&|x, y, level| percent(level, if x + y / 3 > 400 { 55 } else { 100 }))),
        ("soft light", over(&|x, _, level| percent(level, 100 - x / 11))),
        ("a box", over(&|x, y, level| if within(x, y, 100, 100, 300, 120) { 25 } else { level })),
        ("letters", picture(|x, y| if x % 130 < 45 && y % 200 < 150 { 35 } else { 236 - grain(x, y, 8) })),
    ];
    for (name, page) in pages {
        assert_eq!(found(&page), 0, "{name}");
    }
}
