//! Runs the network over a page, tile by tile.

use super::bitmap::Bitmap;
use super::denoise::Network;
use crate::pipeline::geometry::{Size, Span, Tiling};

/// Cleans a gray page. `done` hears the share of tiles that are done.
///
/// # Errors
/// One sentence of the network.
pub fn clean(
    network: &mut Network,
    gray: &Bitmap,
    tiling: &Tiling,
    done: &mut dyn FnMut(f32),
) -> Result<Vec<u8>, String> {
    let mut clean = vec![0u8; gray.pixels.len()];
    let mut window = vec![0u8; tiling.window.width_px as usize * tiling.window.height_px as usize];
    let mut count = 0u64;
    for row in &tiling.rows {
        for column in &tiling.columns {
            cut(gray, *column, *row, tiling.window, &mut window);
            count += 1;
            let is_last = count == tiling.tiles();
            network.clean(&window, tiling.window.width_px, tiling.window.height_px, is_last, |tile| {
                keep(tile, *column, *row, tiling.window, gray.size, &mut clean);
            })?;
            done(share(count, tiling.tiles()));
        }
    }
    Ok(clean)
}

/// Tiles of a page are few: two bytes hold their number.
fn share(done: u64, all: u64) -> f32 {
    let number = |count: u64| f32::from(u16::try_from(count).unwrap_or(u16::MAX));
    number(done) / number(all)
}

/// Copies a window of the page; what reaches over its edge is reflected.
fn cut(page: &Bitmap, column: Span, row: Span, size: Size, window: &mut [u8]) {
    let (width, height) = (page.size.width_px, page.size.height_px);
    let inside = (width - column.window_px).min(size.width_px) as usize;
    for (y, line) in (row.window_px..).zip(window.chunks_exact_mut(size.width_px as usize)) {
        let from = reflected(y, height) * width as usize;
        let source = &page.pixels[from..from + width as usize];
        let left = column.window_px as usize;
        line[..inside].copy_from_slice(&source[left..left + inside]);
        for (x, pixel) in (column.window_px..).zip(line).skip(inside) {
            *pixel = source[reflected(x, width)];
        }
    }
}

/// The place that a place behind the end of an axis shows: 0 1 2 3 2 1 0 1 ….
fn reflected(place: u32, side: u32) -> usize {
    let period = 2 * (side - 1).max(1);
    let phase = place % period;
    phase.min(period - phase).min(side - 1) as usize
}

/// Copies the core of a cleaned window to its place.
fn keep(tile: &[u8], column: Span, row: Span, window: Size, page: Size, clean: &mut [u8]) {
    let length = (column.core_end_px - column.core_px) as usize;
    for y in row.core_px..row.core_end_px {
        let from =
            (y - row.window_px) as usize * window.width_px as usize + (column.core_px - column.window_px) as usize;
        let to = y as usize * page.width_px as usize + column.core_px as usize;
        clean[to..to + length].copy_from_slice(&tile[from..from + length]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::locate;
    use super::*;
    use crate::pipeline::plan::Layout;

    #[test]
    fn edges_are_reflected() {
        let places: Vec<usize> = (0..9).map(|place| reflected(place, 4)).collect();
        assert_eq!(places, [0, 1, 2, 3, 2, 1, 0, 1, 2]);
        assert_eq!((reflected(5, 1), reflected(5, 2)), (0, 1));
    }

    /// Lines of strokes on paper with a slope of light and a ring.
    fn page(size: Size) -> Bitmap {
        let level = |at: u64| {
            let (x, y) = (at % u64::from(size.width_px), at / u64::from(size.width_px));
            let is_ink = y % 24 > 8 && y % 24 < 18 && (x / 60 + y / 24) % 5 != 0 && x % 11 < 4;
            let from_centre = (x as f64 - 500.0).hypot(y as f64 - 600.0);
            let ring = if (180.0..230.0).contains(&from_centre) { 60 } else { 0 };
            let noise = (at.wrapping_mul(6_364_136_223_846_793_005) >> 60) as u8;
            if is_ink { 40 + noise } else { 225 - (x / 40).to_le_bytes()[0] - ring - noise }
        };
        Bitmap { size, layout: Layout::Gray, pixels: (0..size.pixels()).map(level).collect() }
    }

    #[test]
    fn tiled_pages_are_as_whole_ones() {
        let located = locate::find("", "", "").unwrap();
        let graph = std::fs::read(&located.model).unwrap();
        let mut network = Network::load(&graph, &located.onnxruntime).unwrap();
        let mut page = page(Size::new(1500, 1280));
        // What differs most is a page full of specks: one pixel decides there.
        let mut seed = 7u64;
        for pixel in page.pixels.iter_mut().skip(750).step_by(3) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *pixel = if seed >> 62 == 0 { (seed >> 40).to_le_bytes()[0] / 3 } else { *pixel };
        }
        let tiling = Tiling::of(page.size);
        assert_eq!(tiling.tiles(), 4);
        let axis = |side: u32| vec![Span { window_px: 0, core_px: 0, core_end_px: side }];
        let whole = Tiling { window: Size::new(1504, 1280), columns: axis(1500), rows: axis(1280) };
        let tiled = clean(&mut network, &page, &tiling, &mut |_| {}).unwrap();
        let whole = clean(&mut network, &page, &whole, &mut |_| {}).unwrap();
        // The network sees further than the overlap through its coarsest levels, but no more than this comes of it.
        let most = tiled.iter().zip(&whole).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{most:?} levels apart");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Cutting and keeping without a network between them gives the page back.
        #[test]
        fn tiles_put_together_are_the_page(width in 1u32..2600, height in 1u32..1400) {
            let size = Size::new(width, height);
            let pixels: Vec<u8> = (0..size.pixels()).map(|at| ((at * 2_654_435_761) >> 13).to_le_bytes()[0]).collect();
            let page = Bitmap { size, layout: Layout::Gray, pixels };
            let tiling = Tiling::of(size);
            let mut window = vec![0; tiling.window.width_px as usize * tiling.window.height_px as usize];
            let mut together = vec![0; page.pixels.len()];
            for row in &tiling.rows {
                for column in &tiling.columns {
                    cut(&page, *column, *row, tiling.window, &mut window);
                    keep(&window, *column, *row, tiling.window, size, &mut together);
                }
            }
            prop_assert!(together == page.pixels);
        }
    }
}
