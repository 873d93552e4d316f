//! How wide the strokes of a page are. Pure.

use super::bits;
use super::judge::Limits;
use super::paper::CELL_PX;
use super::thresholds as t;
use super::{Mask, Paper, Plane};

/// Rows looked at: one in so many. Where it matters, a page has tens of thousands of strokes.
const EVERY: usize = 4;

/// Whether nearly all strokes outside `pictures` are so wide that they are still strokes at half the resolution: counts how far
/// ink reaches from left to right. Specks and grain count as narrow strokes, and small type among large does.
#[must_use]
pub fn are_wide(page: &Plane<'_>, paper: &Paper, pictures: &Mask) -> bool {
    let mut certain = vec![0u64; page.width.div_ceil(bits::WORD_PX)];
    let (mut all, mut narrow, mut slim) = (0usize, 0usize, 0usize);
    let mut limits = Limits::of(&[], 0);
    for (y, row) in page.pixels.chunks_exact(page.width.max(1)).enumerate().step_by(EVERY) {
        if y % CELL_PX == 0 {
            limits = Limits::of(paper.row(y), paper.contrast);
        }
        bits::darker(row, &limits.certain, &mut certain);
        for (word, bits) in certain.iter_mut().enumerate() {
            *bits &= !pictures.word(y, word);
        }
        bits::runs(&certain, |start, end| {
            all += 1;
            narrow += usize::from(end - start < t::NARROW_PX);
            slim += usize::from(end - start < t::SLIM_PX);
        });
    }
    all >= t::WIDE_RUNS_MIN && narrow * t::NARROW_ONE_IN < all && slim * t::SLIM_ONE_IN < all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 640;

    /// Lines of strokes `stroke_px` wide on paper with some grain.
    fn page(stroke_px: usize) -> Vec<u8> {
        let level = |x: usize, y: usize| {
            let is_ink = y % 32 < 20 && x % (4 * stroke_px) < stroke_px;
            let grain = u8::try_from((x * 31 + y * 17) % 11).unwrap();
            if is_ink { 30 + grain } else { 215 + grain }
        };
        (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| level(x, y))).collect()
    }

    fn are_wide_on(pixels: &[u8], pictures: &Mask) -> bool {
        let page = Plane { width: SIDE, pixels };
        are_wide(&page, &Paper::of(&page), pictures)
    }

    #[test]
    fn wide_strokes_are_told_from_narrow_ones() {
        let widths = [1, 2, 3, 4, 5, 8].map(|stroke_px| are_wide_on(&page(stroke_px), &Mask::default()));
        assert_eq!(widths, [false, false, false, true, true, true]);
    }

    #[test]
    fn small_type_below_large_counts() {
        let mut pixels = page(6);
        pixels[SIDE * (SIDE - 96)..].copy_from_slice(&page(2)[..SIDE * 96]);
        assert!(!are_wide_on(&pixels, &Mask::default()));
    }

    #[test]
    fn blank_pages_and_pictures_have_none() {
        assert!(!are_wide_on(&vec![220; SIDE * SIDE], &Mask::default()));
        let columns = SIDE.div_ceil(CELL_PX);
        let all = Mask { columns, cells: vec![super::super::Cell::Picture; columns * columns] };
        assert!(!are_wide_on(&page(6), &all));
    }
}
