//! Cleans a page at half its resolution: a quarter of the work, and the network sees twice as far, which large type needs.
//!
//! What the network makes of the half is carried over to the page by a line for each place, cleaned = slope × page + offset,
//! fitted over squares of pixels of the half (K. He, J. Sun: Fast guided filter, 2015). Edges stay where the page has them.

use super::bitmap::Bitmap;
use super::denoise::Network;
use super::tiles;
use crate::pipeline::geometry::{Size, Tiling};
use crate::pipeline::plan::Layout;

/// Keeps grain from counting as a slope: a variance, levels squared.
const GRAIN: f32 = 6.5;
/// A line cannot sharpen, and edges of the half are soft: so much steeper come out as sharp as those of the network itself.
const GAIN: f32 = 1.5;
/// What [`GAIN`] turns about, level.
const MIDDLE: f32 = 127.5;
/// Pixels of a square.
const SQUARE: f32 = 9.0;
/// Of two neighbours, the nearer one's share in what lies between them.
const NEAR: f32 = 0.75;

/// Cleans a gray page whose half is cut by `tiling`. `done` hears the share of tiles that are done.
///
/// # Errors
/// One sentence of the network.
pub fn clean(
    network: &mut Network,
    gray: &Bitmap,
    tiling: &Tiling,
    done: &mut dyn FnMut(f32),
) -> Result<Vec<u8>, String> {
    let half = halved(gray);
    let clean = tiles::clean(network, &half, tiling, done)?;
    Ok(carried_over(gray, &half, &clean))
}

/// Means of squares of two pixels; the last row and column of an odd page count twice.
fn halved(page: &Bitmap) -> Bitmap {
    let size = page.size.half();
    let width = page.size.width_px as usize;
    let mut pixels = Vec::with_capacity(page.pixels.len() / 4 + width);
    for rows in page.pixels.chunks(2 * width) {
        let (upper, lower) = rows.split_at(width);
        let lower = if lower.is_empty() { upper } else { lower };
        for (upper, lower) in upper.chunks(2).zip(lower.chunks(2)) {
            let sum = |pair: &[u8]| u16::from(pair[0]) + u16::from(pair[pair.len() - 1]);
            pixels.push(u8::try_from((sum(upper) + sum(lower) + 2) / 4).unwrap_or(u8::MAX));
        }
    }
    Bitmap { size, layout: Layout::Gray, pixels }
}

/// A line for each pixel of a row of the half.
#[derive(Debug, Clone, Default)]
struct Lines {
    slopes: Vec<f32>,
    offsets: Vec<f32>,
}

/// The half, as it is and cleaned.
struct Halves<'a> {
    size: Size,
    page: &'a [u8],
    clean: &'a [u8],
    /// Of each column over three rows: sums of the page, of the cleaned, of squares of the page, and of products.
    columns: Vec<[f32; 4]>,
}

impl Halves<'_> {
    /// Fits row `y`; what lies beyond the edge is as the edge.
    fn fit(&mut self, y: usize, lines: &mut Lines) {
        let width = self.size.width_px as usize;
        let last = self.size.height_px as usize - 1;
        self.columns.fill([0.0; 4]);
        for y in [y.saturating_sub(1), y, (y + 1).min(last)] {
            let row = y * width..(y + 1) * width;
            let levels = self.page[row.clone()].iter().zip(&self.clean[row]);
            for (sums, (page, clean)) in self.columns.iter_mut().zip(levels) {
                let (page, clean) = (f32::from(*page), f32::from(*clean));
                *sums = [sums[0] + page, sums[1] + clean, sums[2] + page * page, sums[3] + page * clean];
            }
        }
        for x in 0..width {
            let near = [&self.columns[x.saturating_sub(1)], &self.columns[x], &self.columns[(x + 1).min(width - 1)]];
            let [page, clean, squares, products] =
                std::array::from_fn(|at| (near[0][at] + near[1][at] + near[2][at]) / SQUARE);
            let slope = (products - page * clean) / ((squares - page * page).max(0.0) + GRAIN);
            lines.slopes[x] = GAIN * slope;
            lines.offsets[x] = GAIN * (clean - slope * page - MIDDLE) + MIDDLE;
        }
    }
}

/// The page with what was made of its half.
fn carried_over(page: &Bitmap, half: &Bitmap, clean: &[u8]) -> Vec<u8> {
    let (width, size) = (page.size.width_px as usize, half.size);
    let (columns, rows) = (size.width_px as usize, size.height_px as usize);
    let mut halves = Halves { size, page: &half.pixels, clean, columns: vec![[0.0; 4]; columns] };
    let empty = Lines { slopes: vec![0.0; columns], offsets: vec![0.0; columns] };
    let [mut above, mut here, mut below, mut mixed] = std::array::from_fn(|_| empty.clone());
    halves.fit(0, &mut here);
    above.clone_from(&here);
    let mut out = vec![0u8; page.pixels.len()];
    let pairs = out.chunks_mut(2 * width).zip(page.pixels.chunks(2 * width));
    for (y, (out, page)) in pairs.enumerate() {
        halves.fit((y + 1).min(rows - 1), &mut below);
        for (other, (out, page)) in [&above, &below].into_iter().zip(out.chunks_mut(width).zip(page.chunks(width))) {
            mix(&here.slopes, &other.slopes, &mut mixed.slopes);
            mix(&here.offsets, &other.offsets, &mut mixed.offsets);
            apply(&mixed, page, out);
        }
        std::mem::swap(&mut above, &mut here);
        std::mem::swap(&mut here, &mut below);
    }
    out
}

fn mix(near: &[f32], far: &[f32], mixed: &mut [f32]) {
    for (mixed, (near, far)) in mixed.iter_mut().zip(near.iter().zip(far)) {
        *mixed = NEAR * near + (1.0 - NEAR) * far;
    }
}

/// Draws one row of the page by the lines of the half's row that it lies in.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn apply(lines: &Lines, page: &[u8], out: &mut [u8]) {
    let last = lines.slopes.len() - 1;
    for (x, (out, page)) in out.chunks_mut(2).zip(page.chunks(2)).enumerate() {
        for (far, (out, page)) in [x.saturating_sub(1), (x + 1).min(last)].into_iter().zip(out.iter_mut().zip(page)) {
            let between = |values: &[f32]| NEAR * values[x] + (1.0 - NEAR) * values[far];
            *out = (between(&lines.slopes) * f32::from(*page) + between(&lines.offsets) + 0.5) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::locate;
    use super::*;

    /// Wide strokes on gray paper that darkens to the right.
    fn page(size: Size) -> Bitmap {
        let level = |at: u64| {
            let (x, y) = (at % u64::from(size.width_px), at / u64::from(size.width_px));
            let is_ink = y % 50 > 14 && y % 50 < 37 && (x / 90 + y / 50) % 6 != 0 && x % 17 < 6;
            let grain = (at.wrapping_mul(6_364_136_223_846_793_005) >> 60) as u8;
            if is_ink { 40 + grain } else { 215 - (x / 40).to_le_bytes()[0] - grain }
        };
        Bitmap { size, layout: Layout::Gray, pixels: (0..size.pixels()).map(level).collect() }
    }

    fn network() -> Network {
        let located = locate::find("", "", "").unwrap();
        Network::load(&std::fs::read(&located.model).unwrap(), &located.onnxruntime).unwrap()
    }

    #[test]
    fn wide_strokes_come_out_solid_and_paper_white() {
        let page = page(Size::new(1201, 903));
        let tiling = Tiling::of_half(page.size);
        let out = clean(&mut network(), &page, &tiling, &mut |_| {}).unwrap();
        let at = |x: usize, y: usize| out[y * 1201 + x];
        // The middle of a stroke, both sides of its edge, and paper between lines.
        assert!(at(17 * 20 + 2, 125) < 30 && at(17 * 20 + 5, 125) < 90, "{} {}", at(342, 125), at(345, 125));
        assert!(at(17 * 20 + 7, 125) > 165 && at(17 * 20 + 10, 125) > 235, "{} {}", at(347, 125), at(350, 125));
        assert!(at(600, 445) > 250 && at(1200, 902) > 250, "{} {}", at(600, 445), at(1200, 902));
    }

    #[test]
    fn edges_come_out_sharp_where_the_page_has_them() {
        // Bars with soft edges two pixels wide.
        let level = |x: u32| match (x + 3) % 16 {
            0..6 => 40,
            6 | 15 => 85,
            7 | 14 => 175,
            _ => 220,
        };
        let size = Size::new(160, 40);
        let pixels = (0..size.height_px).flat_map(|_| (0..size.width_px).map(level)).collect();
        let page = Bitmap { size, layout: Layout::Gray, pixels };
        let half = halved(&page);
        let clean: Vec<u8> = half.pixels.iter().map(|level| if *level < 130 { 0 } else { 255 }).collect();
        let out = carried_over(&page, &half, &clean);
        for (x, level) in (16..144).zip(&out[160 * 20 + 16..]) {
            match (x + 3) % 16 {
                0..6 => assert_eq!(*level, 0, "at {x}"),
                6 | 15 => assert!(*level < 40, "{level} at {x}"),
                7 | 14 => assert!(*level > 215, "{level} at {x}"),
                _ => assert_eq!(*level, 255, "at {x}"),
            }
        }
    }

    #[test]
    fn tiled_halves_are_as_whole_ones() {
        use crate::pipeline::geometry::Span;
        let mut network = network();
        let page = page(Size::new(2700, 2400));
        let tiling = Tiling::of_half(page.size);
        assert!(tiling.tiles() > 1);
        let axis = |side: u32| vec![Span { window_px: 0, core_px: 0, core_end_px: side }];
        let whole = Tiling { window: Size::new(1376, 1216), columns: axis(1350), rows: axis(1200) };
        let tiled = clean(&mut network, &page, &tiling, &mut |_| {}).unwrap();
        let whole = clean(&mut network, &page, &whole, &mut |_| {}).unwrap();
        let most = tiled.iter().zip(&whole).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{most:?} levels apart");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Where the half was made white, or left as it was, so is the page, whatever its size.
        #[test]
        fn what_is_plain_is_carried_over(width in 1u32..70, height in 1u32..40, level: u8) {
            let size = Size::new(width, height);
            let all = |size: Size| vec![level; (size.width_px * size.height_px) as usize];
            let page = Bitmap { size, layout: Layout::Gray, pixels: all(size) };
            let half = halved(&page);
            prop_assert_eq!(half.size, size.half());
            prop_assert_eq!(&half.pixels, &all(size.half()));
            let white = carried_over(&page, &half, &vec![255; half.pixels.len()]);
            prop_assert_eq!(white, vec![255; page.pixels.len()]);
            let black = carried_over(&page, &half, &vec![0; half.pixels.len()]);
            prop_assert_eq!(black, vec![0; page.pixels.len()]);
        }
    }
}
