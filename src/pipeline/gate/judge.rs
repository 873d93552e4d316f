//! Compares a page with what was made of it, row by row.

use super::bits::{self, WORD_PX};
use super::components::{Component, Components, Edges};
use super::gains::Gains;
use super::paper::{CELL_PX, Paper};
use super::pieces::{self, Piece};
use super::thresholds as t;
use super::{Figures, Mask, Plane};

/// Rows above and below that are looked at for ink near a pixel.
const REACH: usize = 2;
/// Rows held at once.
const ROWS: usize = 2 * REACH + 1;
/// Side of a block, pixels; one word of a row.
pub const BLOCK_PX: usize = WORD_PX;

/// What was found in a square of [`BLOCK_PX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    /// Blank on the page and ink in the output, pixels.
    pub gained_px: u32,
    /// Cells that were blank on the whole and are mostly ink in the output.
    pub cells_gained: u32,
    /// Neither paper nor ink on the page, pixels.
    pub between_px: u32,
    /// Sum of squared changes, levels squared.
    pub change: u32,
    /// Pixels of strokes that are gone, at the middle of each.
    pub stroke_px: u32,
}

/// The blocks of a page.
#[derive(Debug)]
pub struct Blocks {
    /// In a row.
    pub columns: usize,
    /// Row by row.
    pub blocks: Vec<Block>,
}

/// The bits of one row.
#[derive(Debug, Clone, Default)]
struct Row {
    /// May be ink.
    ink: Vec<u64>,
    /// Ink for certain.
    certain: Vec<u64>,
    /// Not blank, widened.
    near: Vec<u64>,
    /// Ink in the output.
    out: Vec<u64>,
    /// Ink in the output, lenient and widened.
    kept: Vec<u64>,
}

impl Row {
    fn new(words: usize) -> Self {
        let bits = vec![0; words];
        Self { ink: bits.clone(), certain: bits.clone(), near: bits.clone(), out: bits.clone(), kept: bits }
    }
}

/// Limits of each cell of a row, levels.
pub(super) struct Limits {
    blank: Vec<u8>,
    ink: Vec<u8>,
    pub(super) certain: Vec<u8>,
}

impl Limits {
    /// Faint pages have faint limits: `contrast` is that of the page, percent.
    pub(super) fn of(paper: &[u8], contrast: u32) -> Self {
        let share = |depth: u32| {
            let percent = 100 - depth * contrast.clamp(t::CONTRAST_MIN, t::CONTRAST_FULL) / t::CONTRAST_FULL;
            let limit = move |level: &u8| if *level < t::PAPER_MIN { 0 } else { share_of(*level, percent) };
            paper.iter().map(limit).collect()
        };
        // Where the paper is too dark to judge, nothing is blank either.
        let blank = paper
            .iter()
            .map(|level| if *level < t::PAPER_MIN { u8::MAX } else { share_of(*level, 100 - t::BLANK_DEPTH) });
        Self { blank: blank.collect(), ink: share(t::INK_DEPTH), certain: share(t::CERTAIN_DEPTH) }
    }
}

fn share_of(level: u8, percent: u32) -> u8 {
    u8::try_from(u32::from(level) * percent / 100).unwrap_or(u8::MAX)
}

/// One comparison under way.
struct Judge {
    rows: [Row; ROWS],
    empty: Row,
    words: usize,
    height: usize,
    /// Pixels of the page.
    area: usize,
    blocks: Blocks,
    before: Components,
    gone: Components,
    after: Components,
    figures: Figures,
    /// Pixels of the page's strokes, soft edges included, and of the components that hold them in the output.
    areas: [u64; 2],
    /// Edges of the page's strokes.
    edges: Edges,
    /// What is gone and may have been a stroke.
    pieces: Vec<Component>,
    gains: Gains,
    /// May have been ink and is none any more.
    lost: Vec<u64>,
    /// Was blank and is ink.
    gained: Vec<u64>,
    /// Whether the paper is white nearly everywhere.
    is_white: bool,
}

/// Compares `page`, whose paper is `paper`, with the rows that `output` writes, each as wide as the page. Pictures are left out.
pub fn compare(
    page: &Plane<'_>,
    paper: &Paper,
    pictures: &Mask,
    output: impl FnMut(usize, &mut [u8]),
) -> (Figures, Blocks) {
    Judge::of(page, paper, pictures, output).finish()
}

/// The pieces of ink that are gone, whether they were strokes or not: what [`pieces`] is fitted to. Arguments as of [`compare`].
pub fn gone(page: &Plane<'_>, paper: &Paper, output: impl FnMut(usize, &mut [u8])) -> Vec<Piece> {
    let mut judge = Judge::of(page, paper, &Mask::default(), output);
    judge.end();
    let sharpness = pieces::sharpness(&judge.edges);
    judge.pieces.iter().map(|piece| Piece::of(piece, sharpness)).collect()
}

impl Judge {
    /// All rows compared.
    fn of(page: &Plane<'_>, paper: &Paper, pictures: &Mask, mut output: impl FnMut(usize, &mut [u8])) -> Self {
        let (width, height) = (page.width, page.height());
        let words = width.div_ceil(WORD_PX);
        let mut judge = Self::new(words, height, page.pixels.len());
        judge.figures.contrast_percent = paper.contrast;
        judge.is_white = paper.is_white();
        let mut out = vec![0u8; width];
        let mut limits = Limits::of(&[], 0);
        let constant = |level: u8| vec![level; width.div_ceil(CELL_PX)];
        let (out_ink, out_kept) = (constant(t::OUT_INK), constant(t::OUT_KEPT));
        for y in 0..height + REACH {
            if y < height {
                if y % CELL_PX == 0 {
                    limits = Limits::of(paper.row(y), paper.contrast);
                }
                let before = &page.pixels[y * width..(y + 1) * width];
                output(y, &mut out);
                judge.blocks.change(y, before, &out);
                let row = &mut judge.rows[y % ROWS];
                bits::darker(before, &limits.ink, &mut row.ink);
                bits::darker(before, &limits.certain, &mut row.certain);
                bits::darker(before, &limits.blank, &mut row.near);
                bits::darker(&out, &out_ink, &mut row.out);
                bits::darker(&out, &out_kept, &mut row.kept);
                for _ in 0..REACH {
                    bits::widen(&mut row.near);
                }
                bits::widen(&mut row.kept);
                judge.gains.add(y, before, &out, &row.out);
                if (y + 1) % CELL_PX == 0 {
                    judge.gains.cells(y, page, paper, pictures);
                }
            }
            if let Some(done) = y.checked_sub(REACH) {
                judge.row(done, page, pictures);
            }
        }
        judge
    }

    fn new(words: usize, height: usize, area: usize) -> Self {
        let blocks = vec![Block::default(); words * height.div_ceil(BLOCK_PX)];
        Self {
            rows: std::array::from_fn(|_| Row::new(words)),
            empty: Row::new(words),
            words,
            height,
            area,
            blocks: Blocks { columns: words, blocks },
            before: Components::default(),
            gone: Components::default(),
            after: Components::default(),
            figures: Figures::default(),
            areas: [0, 0],
            edges: Edges::default(),
            pieces: Vec::new(),
            gains: Gains::new(words),
            lost: vec![0; words],
            gained: vec![0; words],
            is_white: false,
        }
    }

    /// The row `away - REACH` below `y`; an empty one beyond the page.
    fn near(&self, y: usize, away: usize) -> &Row {
        match (y + away).checked_sub(REACH) {
            Some(at) if at < self.height => &self.rows[at % ROWS],
            _ => &self.empty,
        }
    }

    fn row(&mut self, y: usize, page: &Plane<'_>, pictures: &Mask) {
        for word in 0..self.words {
            let is_near = (0..ROWS).fold(0, |bits, away| bits | self.near(y, away).near[word]);
            let is_kept = (REACH - 1..=REACH + 1).fold(0, |bits, away| bits | self.near(y, away).kept[word]);
            let looked_at = !pictures.word(y, word);
            let row = &self.rows[y % ROWS];
            self.lost[word] = row.ink[word] & !is_kept & looked_at;
            self.gained[word] = row.out[word] & !is_near & looked_at;
        }
        let Self { rows, before, gone, after, gains, figures, areas, edges, pieces, lost, gained, .. } = self;
        let row = &rows[y % ROWS];
        gains.pixels(y, page, &row.out, gained);
        before.row(y, page, &row.ink, &row.certain, &mut |component| was_there(figures, areas, edges, component));
        gone.row(y, page, lost, &row.certain, &mut |component| is_gone(figures, pieces, component));
        after.row(y, page, &row.out, &row.certain, &mut |component| is_there(figures, areas, component));
    }

    /// No rows follow: what is still open has ended.
    fn end(&mut self) {
        let Self { before, gone, after, figures, areas, edges, pieces, .. } = self;
        before.finish(&mut |component| was_there(figures, areas, edges, component));
        gone.finish(&mut |component| is_gone(figures, pieces, component));
        after.finish(&mut |component| is_there(figures, areas, component));
    }

    fn finish(mut self) -> (Figures, Blocks) {
        self.end();
        let sharpness = pieces::sharpness(&self.edges);
        let is_much = is_much(&self.figures);
        for piece in self.pieces.iter().filter(|piece| is_much || pieces::was_stroke(piece, sharpness)) {
            lose(&mut self.figures, &mut self.blocks, piece);
        }
        let [area, area_after] = self.areas;
        self.figures.ink_grown_percent = u32::try_from(area_after * 100 / area.max(1)).unwrap_or(u32::MAX);
        self.gains.count(sharpness, &mut self.figures, &mut self.blocks);
        self.figures.clean_change_permille = if self.is_white { self.blocks.clean_change(self.area) } else { None };
        (self.figures, self.blocks)
    }
}

fn holds_ink(component: &Component) -> bool {
    component.certain_px >= t::STROKE_CERTAIN_PX
}

fn is_stroke(component: &Component) -> bool {
    holds_ink(component) && component.certain_px * t::STROKE_CERTAIN_ONE_IN >= component.area_px
}

fn was_there(figures: &mut Figures, areas: &mut [u64; 2], edges: &mut Edges, component: &Component) {
    if is_stroke(component) {
        areas[0] += u64::from(component.area_px);
        figures.strokes += 1;
        figures.ink_px += u64::from(component.certain_px);
        *edges = edges.with(&component.edges);
    }
}

/// Ink of the output.
fn is_there(figures: &mut Figures, areas: &mut [u64; 2], component: &Component) {
    if holds_ink(component) {
        areas[1] += u64::from(component.area_px);
        figures.strokes_after += 1;
    }
}

/// Something that was ink for certain is gone; whether it was a stroke is known when the whole page is.
fn is_gone(figures: &mut Figures, pieces: &mut Vec<Component>, component: &Component) {
    if is_stroke(component) {
        figures.pieces_gone += 1;
        if pieces.len() < t::PIECES_MAX {
            pieces.push(*component);
        }
    }
}

/// Whether so much of the page is gone that it cannot all be stains, whatever it looks like.
fn is_much(figures: &Figures) -> bool {
    let is_share = figures.pieces_gone.saturating_mul(100) >= figures.strokes.saturating_mul(t::MUCH_GONE_PERCENT);
    figures.pieces_gone >= t::MUCH_GONE && is_share
}

/// Counts a stroke, or a part of one, that is gone.
fn lose(figures: &mut Figures, blocks: &mut Blocks, piece: &Component) {
    figures.strokes_lost += 1;
    figures.ink_lost_px += u64::from(piece.certain_px);
    let column = usize::midpoint(piece.left_px, piece.right_px) / BLOCK_PX;
    let row = usize::midpoint(piece.top_px, piece.bottom_px) / BLOCK_PX;
    if let Some(block) = blocks.blocks.get_mut(row * blocks.columns + column) {
        block.stroke_px += piece.area_px;
    }
}

impl Blocks {
    /// The root mean square change, per mille of full scale, if nearly all blocks were clean already. Blank and full ones count.
    fn clean_change(&self, area: usize) -> Option<u32> {
        // Blocks at the edge are smaller than others: they count as clean sooner, which changes little.
        let most = u32::try_from(BLOCK_PX * BLOCK_PX).unwrap_or(u32::MAX) * t::CLEAN_BETWEEN_PERCENT / 100;
        let clean = self.blocks.iter().filter(|block| block.between_px <= most).count() as u64;
        if clean * 100 < self.blocks.len() as u64 * t::CLEAN_BLOCKS_PERCENT {
            return None;
        }
        let sum: u64 = self.blocks.iter().map(|block| u64::from(block.change)).sum();
        let mean = sum / (area as u64).max(1);
        u32::try_from(mean.isqrt() * 1000 / 255).ok()
    }

    fn change(&mut self, y: usize, before: &[u8], after: &[u8]) {
        let first = y / BLOCK_PX * self.columns;
        let words = before.chunks(BLOCK_PX).zip(after.chunks(BLOCK_PX));
        for (block, (before, after)) in self.blocks[first..].iter_mut().zip(words) {
            let (mut between, mut change) = (0u32, 0u32);
            for (before, after) in before.iter().zip(after) {
                between += u32::from((t::CLEAN_INK..t::CLEAN_PAPER).contains(before));
                let difference = u32::from(before.abs_diff(*after));
                change += difference * difference;
            }
            block.between_px += between;
            block.change += change;
        }
    }
}
