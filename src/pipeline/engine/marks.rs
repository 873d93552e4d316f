//! Whether a page has coloured marks: stamps, coloured ink, highlighter, coloured figures. Tinted paper, uneven light, stains
//! and the coloured edges that scanners give to black letters are none.

use super::bitmap::{Bitmap, luma};
use crate::pipeline::plan::Layout;

/// Colours are looked at as means of squares of this side: wide enough that the coloured edges of a letter cancel out, and
/// narrower than two strokes of a pen, pixels.
const PATCH_PX: usize = 3;
/// Patches looked at, spread over the page. A stroke of a pen at 600 dpi is still met many times.
const PATCHES_MAX: usize = 1 << 20;
/// Side of a cell, patches: the paper's colour is taken from each cell by itself.
const CELL: usize = 16;
/// The paper of a cell is the median over cells as far away as this, so that a wide mark is not taken for paper.
const NEIGHBOURS: usize = 3;
/// Difference between the strongest and the weakest colour, levels. JPEG, cameras and scanners reach 25 on black and white.
const CHROMA_MIN: i32 = 44;
/// Below this share of the paper's brightness brown is a stain, above it is an orange pen or highlighter, percent.
const STAIN_PERCENT: i32 = 92;
/// Coloured patches that make a cell a mark: less is dust.
const CELL_PATCHES_MIN: u32 = 4;
/// One cell with so many, or two cells, are a mark.
const PAGE_PATCHES_MIN: u32 = 12;

/// Whether a coloured page has coloured marks. The work is bounded whatever the size of the page.
#[must_use]
pub fn are_there(page: &Bitmap) -> bool {
    if page.layout != Layout::Rgb {
        return false;
    }
    let patches = Patches::of(page);
    let (columns, rows) = (patches.width.div_ceil(CELL), patches.height.div_ceil(CELL));
    let papers: Vec<[i32; 3]> =
        (0..columns * rows).map(|cell| paper(&patches, cell % columns, cell / columns)).collect();
    let whole = median(papers.clone());
    let mut counts = Vec::new();
    for cell in 0..columns * rows {
        let around = neighbours(&papers, columns, rows, cell);
        let coloured = patches.of_cell(cell % columns, cell / columns);
        let count = coloured.filter(|patch| is_mark(*patch, &around) && is_mark(*patch, &whole)).count();
        counts.push(u32::try_from(count).unwrap_or(u32::MAX));
    }
    let marked = counts.iter().filter(|count| **count >= CELL_PATCHES_MIN).count();
    marked >= 2 || counts.iter().any(|count| *count >= PAGE_PATCHES_MIN)
}

/// Whether the hue, as differences of `colour` from gray, is that of coffee, tea, rust and old paper: between red and yellow.
#[must_use]
pub fn is_brown(colour: &[i32; 3]) -> bool {
    let [red, green, blue] = *colour;
    // Green lies between a quarter and nine tenths of the way from blue to red.
    red > green && green > blue && (green - blue) * 4 >= red - blue && (green - blue) * 10 <= (red - blue) * 9
}

fn is_mark(patch: [i32; 3], paper: &[i32; 3]) -> bool {
    let balanced = [0, 1, 2].map(|i| patch[i] * 255 / paper[i].max(1));
    let (most, least) = (balanced.into_iter().max().unwrap_or(0), balanced.into_iter().min().unwrap_or(0));
    let is_stain = most * 100 < 255 * STAIN_PERCENT && is_brown(&balanced);
    most - least >= CHROMA_MIN && !is_stain
}

/// Mean colours of small squares on a grid.
struct Patches {
    width: usize,
    height: usize,
    colours: Vec<[i32; 3]>,
}

impl Patches {
    fn of(page: &Bitmap) -> Self {
        let (page_width, page_height) = (page.size.width_px as usize, page.size.height_px as usize);
        let patches = |step: usize| (page_width.div_ceil(step), page_height.div_ceil(step));
        let mut step = PATCH_PX;
        while patches(step).0 * patches(step).1 > PATCHES_MAX {
            step += 1;
        }
        let (width, height) = patches(step);
        let mut colours = Vec::with_capacity(width * height);
        for top in (0..page_height).step_by(step) {
            for left in (0..page_width).step_by(step) {
                let (bottom, right) = ((top + PATCH_PX).min(page_height), (left + PATCH_PX).min(page_width));
                colours.push(mean(page, left..right, top..bottom));
            }
        }
        Self { width, height, colours }
    }

    fn of_cell(&self, column: usize, row: usize) -> impl Iterator<Item = [i32; 3]> {
        let columns = column * CELL..((column + 1) * CELL).min(self.width);
        let rows = row * CELL..((row + 1) * CELL).min(self.height);
        rows.flat_map(move |y| self.colours[y * self.width..][columns.clone()].iter().copied())
    }
}

fn mean(page: &Bitmap, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> [i32; 3] {
    let mut sum = [0i32; 3];
    let mut count = 0;
    for y in rows {
        let row = &page.pixels[y * page.row_bytes()..][columns.start * 3..columns.end * 3];
        for pixel in row.chunks_exact(3) {
            sum = [0, 1, 2].map(|i| sum[i] + i32::from(pixel[i]));
            count += 1;
        }
    }
    sum.map(|sum| sum / count.max(1))
}

/// The mean of the brightest quarter of a cell.
fn paper(patches: &Patches, column: usize, row: usize) -> [i32; 3] {
    let mut colours: Vec<[i32; 3]> = patches.of_cell(column, row).collect();
    let bytes = |colour: &[i32; 3]| colour.map(|sample| u8::try_from(sample).unwrap_or(u8::MAX));
    colours.sort_unstable_by_key(|colour| std::cmp::Reverse(luma(&bytes(colour))));
    colours.truncate(colours.len().div_ceil(4));
    let count = i32::try_from(colours.len()).unwrap_or(1).max(1);
    [0, 1, 2].map(|i| colours.iter().map(|colour| colour[i]).sum::<i32>() / count)
}

fn neighbours(papers: &[[i32; 3]], columns: usize, rows: usize, cell: usize) -> [i32; 3] {
    let range = |at: usize, end: usize| at.saturating_sub(NEIGHBOURS)..(at + NEIGHBOURS + 1).min(end);
    let (column, row) = (cell % columns, cell / columns);
    let around = range(row, rows).flat_map(|y| papers[y * columns..][range(column, columns)].iter().copied());
    median(around.collect())
}

/// The median of each colour by itself.
fn median(mut colours: Vec<[i32; 3]>) -> [i32; 3] {
    [0, 1, 2].map(|i| {
        colours.sort_unstable_by_key(|colour| colour[i]);
        colours.get(colours.len() / 2).map_or(255, |colour| colour[i])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::geometry::Size;

    const SIDE: u32 = 480;

    /// A page of black strokes on `paper`, then changed pixel by pixel.
    fn page(paper: impl Fn(u32, u32) -> [u8; 3], change: impl Fn(u32, u32, [u8; 3]) -> [u8; 3]) -> Bitmap {
        let ink = |x: u32, y: u32| y % 20 < 10 && x % 9 < 3 && x > 40 && y > 40;
        let at = |x, y| change(x, y, if ink(x, y) { [30, 28, 26] } else { paper(x, y) });
        let pixels = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y))).flat_map(|(x, y)| at(x, y)).collect();
        Bitmap { size: Size::new(SIDE, SIDE), layout: Layout::Rgb, pixels }
    }

    fn white(_: u32, _: u32) -> [u8; 3] {
        [244, 243, 240]
    }

    fn same(_: u32, _: u32, pixel: [u8; 3]) -> [u8; 3] {
        pixel
    }

    fn times(pixel: [u8; 3], percent: [u32; 3]) -> [u8; 3] {
        [0, 1, 2].map(|i| u8::try_from((u32::from(pixel[i]) * percent[i] / 100).min(255)).unwrap())
    }

    #[test]
    fn black_and_white_is_none() {
        assert!(!are_there(&page(white, same)));
        assert!(!are_there(&page(|_, _| [236, 214, 160], same)), "yellowed paper");
        assert!(!are_there(&page(|_, _| [244, 196, 205], same)), "a pink form");
        let light = |x: u32, _: u32| times([240, 240, 240], [60 + x / 12, 61 + x / 13, 66 + x / 15]);
        assert!(!are_there(&page(light, same)), "a shadow");
        let fringe = |x: u32, _: u32, pixel: [u8; 3]| match x % 9 {
            0 => times(pixel, [180, 100, 90]),
            3 => times(pixel, [80, 95, 100]),
            _ => pixel,
        };
        assert!(!are_there(&page(white, fringe)), "coloured edges of letters");
    }

    #[test]
    fn coffee_is_none() {
        let coffee = |x: u32, y: u32, pixel: [u8; 3]| {
            let away = (f64::from(x) - 240.0).hypot(f64::from(y) - 200.0);
            if (90.0..115.0).contains(&away) {
                times(pixel, [72, 58, 42])
            } else if away < 90.0 {
                times(pixel, [92, 85, 74])
            } else {
                pixel
            }
        };
        assert!(!are_there(&page(white, coffee)));
    }

    #[test]
    fn marks_are_seen() {
        let within = |x: u32, y: u32, left: u32, top: u32, width: u32, height: u32| {
            (left..left + width).contains(&x) && (top..top + height).contains(&y)
        };
        let stamp = move |x: u32, y: u32, pixel: [u8; 3]| {
            let frame = within(x, y, 300, 300, 90, 40) && !within(x, y, 304, 304, 82, 32);
            if frame { times(pixel, [85, 25, 25]) } else { pixel }
        };
        assert!(are_there(&page(white, stamp)), "a stamp");
        let pen = move |x: u32, y: u32, pixel: [u8; 3]| {
            let wave = (f64::from(x) / 12.0).sin().mul_add(14.0, 260.0);
            let is_stroke = (100..260).contains(&x) && (f64::from(y) - wave).abs() < 1.6;
            if is_stroke { [40, 60, 170] } else { pixel }
        };
        assert!(are_there(&page(white, pen)), "a signature");
        let highlighter = move |x: u32, y: u32, pixel: [u8; 3]| {
            if within(x, y, 60, 118, 220, 14) { times(pixel, [102, 100, 35]) } else { pixel }
        };
        assert!(are_there(&page(white, highlighter)), "highlighter");
        let figure = move |x: u32, y: u32, pixel: [u8; 3]| {
            if within(x, y, 120, 100, 300, 280) { [70, 120, u8::try_from(100 + x / 4).unwrap_or(0)] } else { pixel }
        };
        assert!(are_there(&page(white, figure)), "a figure");
    }
}
