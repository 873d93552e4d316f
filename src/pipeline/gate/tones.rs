//! Finds photographs and halftones on a page of text, so that they are left as they are. Pure.
//!
//! All is seen on cells, at the brightness of each cell's brightest patch: strokes of letters and dots of a screen do not show there,
//! paper and tones do. A picture is a patch without paper that is textured, or a box of different tones away from the edges of the
//! page. Stains and shadows are smooth and round or reach over the edge; solid boxes and large letters have no tones.

use std::ops::Range;

use super::paper::{Paper, slide};
use super::{Cell, Mask};

/// A cell has no paper below this share of the page's paper, percent.
const TONE_PERCENT: u32 = 80;
/// … and is black, not a tone, below this one: letters, rules and solid boxes.
const BLACK_PERCENT: u32 = 20;
/// A cell is textured if its neighbours differ by at least this share of the page's paper, percent.
const TEXTURE_PERCENT: u32 = 7;
/// Cells bridged between parts of a picture: it has bright places.
const GAP: usize = 2;
/// What is at most twice as wide is a ring, a fold or a large letter, and is cut off, cells.
const THIN: usize = 2;
/// The shorter side of a picture, cells: 12 millimetres at 200 dpi.
const SIDE_MIN: usize = 12;
/// Share of its cells that is textured in a picture, percent, and how much of its box it fills: round blots fill 78.
const TEXTURED: (usize, usize) = (42, 82);
/// Fewer are where it fills its box all the more.
const BOXED: (usize, usize) = (15, 88);
/// Tones of a picture spread over this share of the page's paper, percent: from the darkest to the brightest tenth.
const SPREAD_PERCENT: u32 = 16;
/// Share of black cells above which it is print, not a picture, percent.
const BLACK_SHARE_MAX: usize = 60;

/// The cells of a page that show photographs or halftones; empty if there are none.
#[must_use]
pub fn pictures(paper: &Paper) -> Mask {
    let tones = Tones::of(paper);
    let mut cells = vec![Cell::Page; tones.levels.len()];
    for patch in tones.patches().into_iter().filter(|patch| tones.is_picture(patch)) {
        // It nearly fills its box: what is missing is a bright sky, not paper.
        let (columns, rows) = tones.extent(&patch);
        let whole: Vec<usize> = rows.flat_map(|y| columns.clone().map(move |x| y * paper.columns + x)).collect();
        whole.iter().for_each(|at| tones.around(*at, 1, |other| cells[other] = cells[other].max(Cell::Rim)));
        whole.iter().for_each(|at| cells[*at] = Cell::Picture);
    }
    if cells.contains(&Cell::Picture) { Mask { columns: paper.columns, cells } } else { Mask::default() }
}

struct Tones {
    columns: usize,
    rows: usize,
    levels: Vec<u8>,
    /// The page's paper.
    white: u32,
    /// Cells without paper, gaps closed and thin parts cut off.
    toned: Vec<bool>,
}

impl Tones {
    fn of(paper: &Paper) -> Self {
        let columns = paper.columns.max(1);
        let levels = slide(&slide(&paper.bright, columns, 1, u8::max), columns, 1, u8::min);
        let white = u32::from(percentile(&mut paper.levels.clone(), 90));
        let toned: Vec<u8> =
            levels.iter().map(|level| u8::from(u32::from(*level) * 100 < white * TONE_PERCENT)).collect();
        let closed = slide(&slide(&toned, columns, GAP, u8::max), columns, GAP, u8::min);
        let opened = slide(&slide(&closed, columns, THIN, u8::min), columns, THIN, u8::max);
        let rows = levels.len() / columns;
        Self { columns, rows, levels, white, toned: opened.iter().map(|toned| *toned > 0).collect() }
    }

    fn around(&self, at: usize, reach: usize, mut found: impl FnMut(usize)) {
        let (x, y) = (at % self.columns, at / self.columns);
        for row in y.saturating_sub(reach)..(y + reach + 1).min(self.rows) {
            for column in x.saturating_sub(reach)..(x + reach + 1).min(self.columns) {
                found(row * self.columns + column);
            }
        }
    }

    /// Groups of toned cells that touch, as indices.
    fn patches(&self) -> Vec<Vec<usize>> {
        let mut left = self.toned.clone();
        let mut patches = Vec::new();
        for first in 0..left.len() {
            if !std::mem::replace(&mut left[first], false) {
                continue;
            }
            let (mut patch, mut next) = (vec![first], 0);
            while let Some(&at) = patch.get(next) {
                next += 1;
                self.around(at, 1, |other| {
                    if std::mem::replace(&mut left[other], false) {
                        patch.push(other);
                    }
                });
            }
            patches.push(patch);
        }
        patches
    }

    /// Columns and rows of the box around a patch.
    fn extent(&self, patch: &[usize]) -> (Range<usize>, Range<usize>) {
        let ends = |place: fn(usize, usize) -> usize| {
            let places = || patch.iter().map(|at| place(*at, self.columns));
            places().min().unwrap_or(0)..places().max().map_or(0, |last| last + 1)
        };
        (ends(|at, columns| at % columns), ends(|at, columns| at / columns))
    }

    fn is_picture(&self, patch: &[usize]) -> bool {
        let (columns, rows) = self.extent(patch);
        let (width, height) = (columns.len(), rows.len());
        if width.min(height) < SIDE_MIN {
            return false;
        }
        let is_inside = columns.start > 0 && rows.start > 0 && columns.end < self.columns && rows.end < self.rows;
        let reaches = |part: usize, whole: usize, percent: usize| part * 100 >= whole * percent;
        let textured = patch.iter().filter(|at| self.is_textured(**at)).count();
        let is_shaped = |(texture, fill): (usize, usize)| {
            reaches(textured, patch.len(), texture) && reaches(patch.len(), width * height, fill)
        };
        (is_shaped(TEXTURED) || is_inside && is_shaped(BOXED)) && self.has_tones(patch)
    }

    fn is_textured(&self, at: usize) -> bool {
        let (mut least, mut most) = (u8::MAX, 0);
        self.around(at, 1, |other| {
            least = least.min(self.levels[other]);
            most = most.max(self.levels[other]);
        });
        u32::from(most - least) * 100 >= self.white * TEXTURE_PERCENT
    }

    fn has_tones(&self, patch: &[usize]) -> bool {
        let mut levels: Vec<u8> = patch.iter().map(|at| self.levels[*at]).collect();
        let black = levels.iter().filter(|level| u32::from(**level) * 100 < self.white * BLACK_PERCENT).count();
        let spread = percentile(&mut levels, 90) - percentile(&mut levels, 10);
        black * 100 <= patch.len() * BLACK_SHARE_MAX && u32::from(spread) * 100 >= self.white * SPREAD_PERCENT
    }
}

fn percentile(levels: &mut [u8], percent: usize) -> u8 {
    let at = levels.len() * percent / 100;
    if at < levels.len() { *levels.select_nth_unstable(at).1 } else { 0 }
}
