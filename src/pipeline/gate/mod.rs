//! The do-no-harm gate: compares a page with what the network made of it, before anybody gets to see it. Pure.
//!
//! It never asks how the page was cleaned. Ink of the page is found by a threshold that follows the paper, twice: what may be
//! ink, and what is ink for certain. Then it looks for certain ink that is gone, for strokes that are gone as a whole or have
//! run together, for ink where the page was blank, and for changes where the page was clean already.

mod bits;
mod components;
mod gains;
mod judge;
mod paper;
mod pieces;
mod report;
mod spotless;
mod strokes;
#[cfg(test)]
mod tests;
pub mod thresholds;
mod tones;
mod verdict;
#[allow(clippy::approx_constant, reason = "fitted numbers that happen to be close to others")]
mod weights;

use serde::{Deserialize, Serialize};

pub use judge::{Block, Blocks, compare, gone};
pub use paper::{CELL_PX, Paper};
pub use pieces::Piece;
pub use report::{PageReport, Report};
pub use spotless::is_spotless;
pub use strokes::are_wide;
pub use tones::pictures;
pub use verdict::{Harm, Judgement, Region, Verdict, judge};

/// A gray page: rows of `width` pixels without gaps.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// Pixels of a row.
    pub width: usize,
    /// 0 black to 255 white.
    pub pixels: &'a [u8],
}

impl Plane<'_> {
    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.pixels.len() / self.width.max(1)
    }
}

/// What a cell has to do with a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Nothing.
    #[default]
    Page,
    /// It is next to one, and may hold the edge of it.
    Rim,
    /// It lies within one.
    Picture,
}

/// The cells of a page that belong to pictures; empty if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    /// Cells in a row.
    pub columns: usize,
    /// Row by row.
    pub cells: Vec<Cell>,
}

impl Mask {
    /// The cells that a row of pixels runs through; none if there are no pictures.
    #[must_use]
    pub fn row(&self, y: usize) -> &[Cell] {
        let first = y / CELL_PX * self.columns;
        self.cells.get(first..first + self.columns).unwrap_or_default()
    }

    /// The 64 pixels of a row from `word * 64` on, as bits: those of pictures and rims are set.
    fn word(&self, y: usize, word: usize) -> u64 {
        let cells = self.row(y).iter().skip(word * 8).take(8);
        let bits = |cell: &Cell| if *cell == Cell::Page { 0 } else { 0xff };
        (0..).step_by(CELL_PX).zip(cells).fold(0, |word, (shift, cell)| word | bits(cell) << shift)
    }
}

/// What was counted on a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// How far the darkest ink lies below its paper, percent of the paper.
    pub contrast_percent: u32,
    /// Strokes of the page: connected components of ink.
    pub strokes: u32,
    /// Strokes, or parts of strokes, that are gone.
    pub strokes_lost: u32,
    /// Pieces of ink that are gone, whether they were strokes or stains.
    #[serde(default)] // workers and records of older versions do not tell
    pub pieces_gone: u32,
    /// Components of the output that hold ink of the page.
    pub strokes_after: u32,
    /// Pixels of those, percent of the pixels of the strokes with their soft edges.
    #[serde(default)]
    pub ink_grown_percent: u32,
    /// Ink of the strokes, pixels.
    pub ink_px: u64,
    /// Of it gone, pixels.
    pub ink_lost_px: u64,
    /// Ink where the page was blank, pixels.
    pub ink_gained_px: u64,
    /// Squares of 8 pixels that were blank on the whole and are mostly ink in the output.
    pub cells_gained: u32,
    /// Root mean square change, per mille of full scale, of a page that was clean already; `None` for others.
    pub clean_change_permille: Option<u32>,
}
