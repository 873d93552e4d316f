//! Pages with nothing to clean: drawn by a program, or cleaned before. They are left exactly as they are.

use super::Plane;
use super::bits;
use super::components::{Component, Components};
use super::paper::CELL_PX;
use super::thresholds as t;

const MILLION: u64 = 1_000_000;

/// Whether a page is white with sharp ink on it, and has no specks, no shade, no grain and no tones. Doubt says no.
#[must_use]
pub fn is_spotless(page: &Plane<'_>) -> bool {
    let area = page.pixels.len() as u64;
    let limit = |per_million: u64| area * per_million / MILLION;
    let white = page.pixels.iter().filter(|level| **level >= t::SPOTLESS_WHITE).count() as u64;
    white * 100 >= area * t::SPOTLESS_WHITE_PERCENT
        && flat_px(page) <= limit(t::SPOTLESS_FLAT_PER_MILLION)
        && has_nothing_stray(page, limit(t::SPOTLESS_STRAY_PER_MILLION), limit(t::SPOTLESS_SPECKS_PER_MILLION))
}

/// Squares of 2 x 2 pixels, each counted once, that are gray all over: shade, stains and photographs, but no edge of a letter.
fn flat_px(page: &Plane<'_>) -> u64 {
    let rows = || page.pixels.chunks_exact(page.width.max(1));
    let is_flat = |(above, below): (&[u8], &[u8])| {
        let (least, most) =
            above.iter().chain(below).fold((u8::MAX, 0), |(a, b), level| (a.min(*level), b.max(*level)));
        least >= t::SPOTLESS_INK && most < t::SPOTLESS_GRAY && most - least < t::SPOTLESS_EVEN
    };
    let in_rows =
        |(above, below): (&[u8], &[u8])| above.windows(2).zip(below.windows(2)).filter(|s| is_flat(*s)).count();
    rows().zip(rows().skip(1)).map(in_rows).sum::<usize>() as u64
}

/// Whether what is not white belongs to strokes: few gray pixels without ink, and few specks.
fn has_nothing_stray(page: &Plane<'_>, stray_max: u64, specks_max: u64) -> bool {
    let limits = |level: u8| vec![level; page.width.div_ceil(CELL_PX)];
    let (shown, ink) = (limits(t::SPOTLESS_WHITE), limits(t::OUT_INK));
    let words = page.width.div_ceil(bits::WORD_PX);
    let (mut shown_bits, mut ink_bits) = (vec![0; words], vec![0; words]);
    let (mut stray, mut specks) = (0u64, 0u64);
    let mut ended = |component: &Component| match (component.certain_px, component.area_px) {
        (0, area_px) => stray += u64::from(area_px),
        (_, area_px) if area_px <= t::SPOTLESS_SPECK_PX => specks += 1,
        _ => {}
    };
    let mut components = Components::default();
    for (y, row) in page.pixels.chunks_exact(page.width.max(1)).enumerate() {
        bits::darker(row, &shown, &mut shown_bits);
        bits::darker(row, &ink, &mut ink_bits);
        components.row(y, page, &shown_bits, &ink_bits, &mut ended);
    }
    components.finish(&mut ended);
    stray <= stray_max && specks <= specks_max
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 256;

    /// Bars with soft edges on white.
    fn page() -> Vec<u8> {
        let bar = |x: usize, y: usize| match (x % 12, y % 20 < 11 && (20..236).contains(&x)) {
            (1 | 2, true) => 10,
            (0 | 3, true) => 130,
            _ => 255,
        };
        (0..SIDE * SIDE).map(|at| bar(at % SIDE, at / SIDE)).collect()
    }

    fn says(pixels: &[u8]) -> bool {
        is_spotless(&Plane { width: SIDE, pixels })
    }

    #[test]
    fn sharp_ink_on_white_is_spotless() {
        assert!(says(&page()));
        assert!(says(&[255; SIDE * SIDE]));
    }

    #[test]
    fn shade_stains_grain_and_specks_are_not() {
        let dirtied = |dirt: &dyn Fn(usize, usize, u8) -> u8| -> Vec<u8> {
            (0..).zip(page()).map(|(at, level)| dirt(at % SIDE, at / SIDE, level)).collect()
        };
        assert!(!says(&dirtied(&|_, _, level| level / 10 * 9)), "gray paper");
        assert!(!says(&dirtied(&|x, y, level| if x < 40 && y < 40 { level.min(200) } else { level })), "a stain");
        assert!(
            !says(&dirtied(&|x, y, level| if (x * 7 + y * 13) % 41 == 0 { level.min(230) } else { level })),
            "grain"
        );
        let speck = |x: usize, y: usize, level: u8| if x % 19 == 11 && y % 20 == 15 { 0 } else { level };
        assert!(!says(&dirtied(&speck)), "specks");
        assert!(!says(&dirtied(&|x, _, _| u8::try_from(x).unwrap_or(0))), "a photograph");
        assert!(!says(&[60; SIDE * SIDE]), "a dark page");
    }
}
