//! Ink in the output where the page was blank: single pixels, and cells that were blank on the whole whatever their grain.
//!
//! Each is looked at with the run of output ink around it. Where the page grows lighter at the ends of such runs as it does at
//! the edges of its strokes, the output follows the page: the inside of a solid box, of large type or of a halftone, as light as
//! paper because the page is worn or dark. A blot that the network made up has no edges on the page.

use super::bits::{self, WORD_PX};
use super::components::{Component, Components};
use super::judge::{BLOCK_PX, Block, Blocks};
use super::paper::{CELL_PX, Paper};
use super::thresholds as t;
use super::{Cell, Figures, Mask, Plane};

const CELL_AREA_PX: u32 = 64;

/// What the output gained, gathered row by row.
pub(super) struct Gains {
    /// Sums of the levels in each cell of the row of cells, before and after.
    sums: Vec<[u16; 2]>,
    /// Ink of the output in the rows of these cells.
    out: [Vec<u64>; CELL_PX],
    /// Pixels of the cells that are gained.
    cells: Vec<u64>,
    marked: Vec<u64>,
    by_pixel: Gathering,
    by_cell: Gathering,
}

/// Runs of output ink that hold what is gained, joined; of each component, `certain_px` is what is gained.
#[derive(Default)]
struct Gathering {
    components: Components,
    found: Found,
    is_open: bool,
}

/// The components that were found: the largest, if there are too many.
#[derive(Default)]
struct Found {
    all: Vec<Component>,
    /// Those that gained no more than this are left out, pixels.
    floor_px: u32,
}

impl Found {
    fn add(&mut self, component: &Component) {
        if component.certain_px <= self.floor_px {
            return;
        }
        self.all.push(*component);
        while self.all.len() > t::PIECES_MAX {
            self.floor_px = self.floor_px * 2 + 1;
            self.all.retain(|component| component.certain_px > self.floor_px);
        }
    }
}

impl Gathering {
    fn row(&mut self, y: usize, page: &Plane<'_>, ink: &[u64], gained: &[u64]) {
        let is_empty = ink.iter().all(|word| *word == 0);
        if is_empty && !self.is_open {
            return;
        }
        self.is_open = !is_empty;
        let Self { components, found, .. } = self;
        components.row(y, page, ink, gained, &mut |component| found.add(component));
    }

    /// The components of the whole page that do not follow the page, whose strokes have edges of such sharpness.
    fn finish(&mut self, sharpness: f32) -> impl Iterator<Item = &Component> {
        let Self { components, found, .. } = self;
        components.finish(&mut |component| found.add(component));
        found.all.iter().filter(move |component| !follows(component, sharpness))
    }
}

impl Gains {
    pub(super) fn new(words: usize) -> Self {
        Self {
            sums: Vec::new(),
            out: std::array::from_fn(|_| vec![0; words]),
            cells: vec![0; words],
            marked: vec![0; words],
            by_pixel: Gathering::default(),
            by_cell: Gathering::default(),
        }
    }

    /// Adds a row before and after, and its ink afterwards.
    pub(super) fn add(&mut self, y: usize, before: &[u8], after: &[u8], out: &[u64]) {
        self.sums.resize(before.len() / CELL_PX, [0, 0]);
        let sum = |pixels: &[u8]| pixels.iter().map(|level| u16::from(*level)).sum::<u16>();
        let cells = before.chunks_exact(CELL_PX).zip(after.chunks_exact(CELL_PX));
        for (sums, (before, after)) in self.sums.iter_mut().zip(cells) {
            *sums = [sums[0] + sum(before), sums[1] + sum(after)];
        }
        self.out[y % CELL_PX].copy_from_slice(out);
    }

    /// Looks at the cells whose last row is `y`: blank on the whole, whatever their grain, and mostly ink in the output.
    pub(super) fn cells(&mut self, y: usize, page: &Plane<'_>, paper: &Paper, pictures: &Mask) {
        let depth = t::CELL_BLANK_DEPTH * paper.contrast.clamp(t::CONTRAST_MIN, t::CONTRAST_FULL) / t::CONTRAST_FULL;
        let levels = paper.row(y).iter().zip(pictures.row(y).iter().copied().chain(std::iter::repeat(Cell::Page)));
        self.cells.fill(0);
        for (column, (sums, (level, cell))) in self.sums.iter_mut().zip(levels).enumerate() {
            let [before, after] = std::mem::take(sums).map(u32::from);
            let is_blank = *level >= t::PAPER_MIN && before * 100 >= u32::from(*level) * CELL_AREA_PX * (100 - depth);
            if cell == Cell::Page && is_blank && after <= u32::from(t::CELL_OUT_INK) * CELL_AREA_PX {
                let x = column * CELL_PX;
                self.cells[x / WORD_PX] |= 0xff << (x % WORD_PX);
            }
        }
        for row in y + 1 - CELL_PX..=y {
            for ((marked, cells), out) in self.marked.iter_mut().zip(&self.cells).zip(&self.out[row % CELL_PX]) {
                *marked = cells | out;
            }
            bits::keep_runs(&mut self.marked, &self.cells);
            self.by_cell.row(row, page, &self.marked, &self.cells);
        }
    }

    /// Looks at a row whose ink afterwards is `out`; of it, `gained` lies where the page was blank.
    pub(super) fn pixels(&mut self, y: usize, page: &Plane<'_>, out: &[u64], gained: &[u64]) {
        self.marked.copy_from_slice(out);
        bits::keep_runs(&mut self.marked, gained);
        self.by_pixel.row(y, page, &self.marked, gained);
    }

    /// Counts what is gained on a page whose strokes have edges of such sharpness.
    pub(super) fn count(&mut self, sharpness: f32, figures: &mut Figures, blocks: &mut Blocks) {
        for gain in self.by_pixel.finish(sharpness) {
            figures.ink_gained_px += u64::from(gain.certain_px);
            note(blocks, gain, gain.certain_px, |block| &mut block.gained_px);
        }
        for gain in self.by_cell.finish(sharpness) {
            let cells = gain.certain_px.div_ceil(CELL_AREA_PX);
            figures.cells_gained += cells;
            note(blocks, gain, cells, |block| &mut block.cells_gained);
        }
    }
}

/// Whether output ink has edges on the page, too, whose strokes have edges of such sharpness.
fn follows(gain: &Component, sharpness: f32) -> bool {
    let ends = gain.edges.with(&gain.ends);
    let least = if ends.count < t::FOLLOWS_ENDS { t::FOLLOWS_FEW } else { t::FOLLOWS };
    ends.mean_rise() >= least * sharpness
}

/// Adds `amount` to the block in the middle of a component, and at least 1 to all blocks that it reaches.
fn note(blocks: &mut Blocks, gain: &Component, amount: u32, number: fn(&mut Block) -> &mut u32) {
    let middle = |first: usize, end: usize| usize::midpoint(first, end) / BLOCK_PX;
    let at = middle(gain.top_px, gain.bottom_px) * blocks.columns + middle(gain.left_px, gain.right_px);
    for row in gain.top_px / BLOCK_PX..=(gain.bottom_px - 1) / BLOCK_PX {
        for column in gain.left_px / BLOCK_PX..=(gain.right_px - 1) / BLOCK_PX {
            let here = row * blocks.columns + column;
            if let Some(block) = blocks.blocks.get_mut(here) {
                *number(block) += if here == at { amount } else { 1 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::components::Edges;
    use super::*;

    #[test]
    fn of_too_many_the_largest_are_kept() {
        let gained = |certain_px: u32| Component {
            area_px: certain_px,
            certain_px,
            left_px: 0,
            right_px: 9,
            top_px: 0,
            bottom_px: 9,
            edges: Edges::default(),
            ends: Edges::default(),
        };
        let mut found = Found::default();
        let specks = u32::try_from(t::PIECES_MAX * 2).unwrap();
        (0..specks).for_each(|at| found.add(&gained(1 + at % 3)));
        found.add(&gained(500));
        assert!(found.all.len() <= t::PIECES_MAX, "{}", found.all.len());
        assert_eq!(found.all.iter().map(|component| component.certain_px).max(), Some(500));
    }
}
