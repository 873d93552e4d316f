//! The paper of a page, as bright as it is at each place: stains and shadows are paper, strokes are not.

use super::Plane;
use super::thresholds::{CLEAN_PAPER, PAPER_MIN};

/// Side of a cell, pixels: the paper is estimated once for each.
pub const CELL_PX: usize = 8;
/// Side of a patch, pixels: noise and the dots of a screen are gone in its mean, and it fits between lines of type.
const PATCH_PX: usize = 4;
/// Cells to each side that the estimate looks at: 56 pixels in all, wider than the strokes of large type.
const REACH: usize = 3;
/// See [`contrast`].
const INK_CELLS: usize = 150;

/// A brightness for each cell of a page, row by row.
#[derive(Debug, Clone)]
pub struct Paper {
    /// Cells in a row.
    pub columns: usize,
    /// The brightest patch of each cell, 0 to 255.
    pub bright: Vec<u8>,
    /// The paper: 0 to 255.
    pub levels: Vec<u8>,
    /// The darkest pixel of each cell.
    pub dark: Vec<u8>,
    /// How far the darkest ink of the page lies below its paper, share of the paper, percent.
    pub contrast: u32,
}

impl Paper {
    /// A morphological closing of the page over cells, then a mean over neighbours. A cell's brightness is that of its
    /// brightest patch, so that noise does not lift it much.
    #[must_use]
    pub fn of(page: &Plane<'_>) -> Self {
        let columns = page.width.div_ceil(CELL_PX);
        let cells = columns * page.height().div_ceil(CELL_PX);
        let (mut bright, mut dark) = (Vec::with_capacity(cells), Vec::with_capacity(cells));
        let mut sums = vec![0u16; page.width.div_ceil(PATCH_PX)];
        for rows in page.pixels.chunks(CELL_PX * page.width.max(1)) {
            let first = bright.len();
            bright.resize(first + columns, 0u8);
            dark.resize(first + columns, u8::MAX);
            for patches in rows.chunks(PATCH_PX * page.width) {
                sums.fill(0);
                for row in patches.chunks_exact(page.width) {
                    add(row, &mut sums, &mut dark[first..]);
                }
                let height = patches.len() / page.width;
                let means = sums.iter().zip(page.pixels[..page.width].chunks(PATCH_PX)).map(|(sum, columns)| {
                    let count = u16::try_from(columns.len() * height).unwrap_or(1).max(1);
                    u8::try_from(sum / count).unwrap_or(u8::MAX)
                });
                for (at, mean) in means.enumerate() {
                    let bright = &mut bright[first + at * PATCH_PX / CELL_PX];
                    *bright = mean.max(*bright);
                }
            }
        }
        let closed = slide(&slide(&bright, columns, REACH, u8::max), columns, REACH, u8::min);
        let levels = smooth(&closed, columns);
        let contrast = contrast(&levels, &dark);
        Self { columns, bright, levels, dark, contrast }
    }

    /// Whether nearly all of it is as bright as paper that a program draws.
    #[must_use]
    pub fn is_white(&self) -> bool {
        let white = self.levels.iter().filter(|level| **level >= CLEAN_PAPER).count();
        white * 10 >= self.levels.len() * 9
    }

    /// The levels of the cells that a row of pixels runs through.
    #[must_use]
    pub fn row(&self, y: usize) -> &[u8] {
        let first = y / CELL_PX * self.columns;
        self.levels.get(first..first + self.columns).unwrap_or_default()
    }
}

/// Of the cells with the most contrast one in [`INK_CELLS`] is left out: a page of type has ink in more, dust is in fewer.
fn contrast(paper: &[u8], dark: &[u8]) -> u32 {
    let of_cell = |(paper, dark): (&u8, &u8)| {
        let (paper, dark) = (u32::from(*paper), u32::from(*dark));
        if paper < u32::from(PAPER_MIN) { 0 } else { paper.saturating_sub(dark) * 100 / paper }
    };
    let mut contrasts: Vec<u32> = paper.iter().zip(dark).map(of_cell).collect();
    let most = contrasts.len().saturating_sub(1 + contrasts.len() / INK_CELLS);
    if contrasts.is_empty() { 0 } else { *contrasts.select_nth_unstable(most).1 }
}

/// Adds a row to the sums of its patches, and to the darkest of its cells.
fn add(row: &[u8], sums: &mut [u16], dark: &mut [u8]) {
    for (sum, pixels) in sums.iter_mut().zip(row.chunks(PATCH_PX)) {
        *sum += pixels.iter().map(|level| u16::from(*level)).sum::<u16>();
    }
    for (dark, pixels) in dark.iter_mut().zip(row.chunks(CELL_PX)) {
        *dark = pixels.iter().copied().fold(*dark, u8::min);
    }
}

/// The `choice` over the cells within `reach` of each.
pub fn slide(levels: &[u8], columns: usize, reach: usize, choice: fn(u8, u8) -> u8) -> Vec<u8> {
    let along: Vec<u8> = levels
        .chunks_exact(columns.max(1))
        .flat_map(|row| (0..columns).map(move |x| chosen(&row[around(x, reach, columns)], choice)))
        .collect();
    let rows = levels.len() / columns.max(1);
    let mut both = Vec::with_capacity(levels.len());
    for y in 0..rows {
        let first = both.len();
        both.extend_from_slice(&along[y * columns..(y + 1) * columns]);
        for other in around(y, reach, rows) {
            for (level, other) in both[first..].iter_mut().zip(&along[other * columns..(other + 1) * columns]) {
                *level = choice(*level, *other);
            }
        }
    }
    both
}

fn around(at: usize, reach: usize, end: usize) -> std::ops::Range<usize> {
    at.saturating_sub(reach)..(at + reach + 1).min(end)
}

fn chosen(levels: &[u8], choice: fn(u8, u8) -> u8) -> u8 {
    levels.iter().copied().reduce(choice).unwrap_or(0)
}

/// The mean of each cell and its eight neighbours.
fn smooth(levels: &[u8], columns: usize) -> Vec<u8> {
    let rows = levels.len() / columns.max(1);
    let near = |at: usize, end: usize| at.saturating_sub(1)..(at + 2).min(end);
    let mut smoothed = Vec::with_capacity(levels.len());
    for y in 0..rows {
        for x in 0..columns {
            let cells = near(y, rows).flat_map(|y| levels[y * columns..][near(x, columns)].iter());
            let (sum, count) = cells.fold((0u16, 0u16), |(sum, count), level| (sum + u16::from(*level), count + 1));
            smoothed.push(u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX));
        }
    }
    smoothed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strokes_are_not_paper_and_stains_are() {
        let (width, height) = (320usize, 240usize);
        let level = |x: usize, y: usize| match (x, y) {
            (100..140, 40..200) => 20,
            (200.., _) if y % 20 < 12 && x % 7 < 3 => 30,
            (200.., _) => 150,
            _ => 240,
        };
        let pixels: Vec<u8> = (0..height).flat_map(|y| (0..width).map(move |x| level(x, y))).collect();
        let paper = Paper::of(&Plane { width, pixels: &pixels });
        let at = |x: usize, y: usize| paper.row(y)[x / CELL_PX];
        assert!(at(120, 120) > 230 && at(20, 20) == 240, "{} {}", at(120, 120), at(20, 20));
        assert!((140..160).contains(&at(280, 120)), "{}", at(280, 120));
    }

    #[test]
    fn pages_of_any_size_have_a_paper() {
        for (width, height) in [(1, 1), (7, 9), (8, 8), (1, 300), (65, 2)] {
            let pixels = vec![200; width * height];
            let paper = Paper::of(&Plane { width, pixels: &pixels });
            assert_eq!(paper.levels, vec![200; width.div_ceil(8) * height.div_ceil(8)]);
            assert_eq!(paper.row(height - 1).len(), width.div_ceil(8));
        }
    }
}
