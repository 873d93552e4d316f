//! From counts to a verdict, with the places to look at.

use serde::{Deserialize, Serialize};

use super::judge::{BLOCK_PX, Block, Blocks};
use super::paper::CELL_PX;
use super::thresholds as t;
use super::{Figures, Plane};

/// What becomes of a cleaned page. The greater one is the worse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Clean,
    /// It is kept, and somebody should look at it.
    Review,
    /// It was thrown away: the page is left as it was.
    KeptOriginal,
}

/// What speaks against a cleaned page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// Strokes of the page are gone.
    StrokesLost,
    /// Strokes that were apart are one.
    StrokesMerged,
    /// There is ink where the page was blank.
    InkGained,
    /// A page that was clean already was changed.
    CleanChanged,
}

impl Harm {
    /// Kinds there are.
    pub const COUNT: usize = 4;

    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::StrokesLost => "strokes may be missing",
            Self::StrokesMerged => "strokes may have run together",
            Self::InkGained => "there is ink where the page was blank",
            Self::CleanChanged => "the page was clean already and came out changed",
        }
    }
}

/// A place to look at, pixels of the upright page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Region {
    /// The page, from 1.
    pub page: u32,
    /// What happened there.
    pub harm: Harm,
    /// From the left edge.
    pub left_px: u32,
    /// From the upper edge.
    pub top_px: u32,
    /// Width.
    pub width_px: u32,
    /// Height.
    pub height_px: u32,
}

/// The verdict on one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why, if anything speaks against it.
    pub harms: Vec<Harm>,
    /// What was counted.
    pub figures: Figures,
    /// Where to look, the worst first; at most [`t::REGIONS_MAX`].
    pub regions: Vec<Region>,
}

/// Judges what was counted on page `number`, whose extent is that of `page`.
#[must_use]
pub fn judge(figures: Figures, blocks: &Blocks, page: &Plane<'_>, number: u32) -> Judgement {
    let mut harms = Vec::new();
    let mut is_ruined = false;
    for (harm, (is_there, is_too_much)) in [
        (Harm::StrokesLost, lost(&figures)),
        (Harm::StrokesMerged, merged(&figures)),
        (Harm::InkGained, gained(&figures, blocks, page)),
        (Harm::CleanChanged, changed(&figures)),
    ] {
        if is_there {
            harms.push(harm);
            is_ruined |= is_too_much;
        }
    }
    let verdict = match (harms.is_empty(), is_ruined) {
        (true, _) => Verdict::Clean,
        (false, false) => Verdict::Review,
        (false, true) => Verdict::KeptOriginal,
    };
    let mut regions: Vec<(u32, Region)> = harms.iter().flat_map(|harm| regions(*harm, blocks, page, number)).collect();
    regions.sort_by_key(|region| std::cmp::Reverse(region.0));
    regions.truncate(t::REGIONS_MAX);
    Judgement { verdict, harms, figures, regions: regions.into_iter().map(|region| region.1).collect() }
}

fn is_share(part: u64, whole: u64, percent: u64) -> bool {
    part * 100 >= whole * percent
}

/// Whether so much is lost that somebody should look, and whether it is too much.
fn lost(figures: &Figures) -> (bool, bool) {
    let (gone, all) = (u64::from(figures.strokes_lost), u64::from(figures.strokes));
    let is_share_of_ink =
        |percent: u64| figures.ink_px >= t::INK_PX_MIN && is_share(figures.ink_lost_px, figures.ink_px, percent);
    // On a faint page grain looks like strokes now and then.
    let is_faint = figures.contrast_percent < t::CONTRAST_FAINT;
    let has_strokes = !is_faint || all >= t::FAINT_STROKES;
    let is_some = if is_faint {
        gone >= t::FAINT_LOST_STROKES
            || figures.ink_lost_px >= t::FAINT_LOST_INK_PX
            || gone >= t::LOST_STROKES && has_strokes && is_share_of_ink(t::FAINT_LOST_PERCENT)
    } else {
        gone >= t::LOST_STROKES && is_share(gone * 10, all, t::LOST_PERMILLE) || figures.ink_lost_px >= t::LOST_INK_PX
    };
    let is_much = has_strokes && is_share_of_ink(t::INK_LOST_PERCENT);
    (is_some || is_much, has_strokes && is_share_of_ink(t::INK_RUINED_PERCENT))
}

fn merged(figures: &Figures) -> (bool, bool) {
    let there = u64::from(figures.strokes.saturating_sub(figures.pieces_gone));
    let fewer = there.saturating_sub(u64::from(figures.strokes_after));
    let is_more_ink = figures.ink_grown_percent >= t::MERGED_GROWN_PERCENT;
    (is_more_ink && fewer >= t::MERGED_STROKES && is_share(fewer, there, t::MERGED_PERCENT), false)
}

fn gained(figures: &Figures, blocks: &Blocks, page: &Plane<'_>) -> (bool, bool) {
    let most = blocks.blocks.iter().map(|block| block.gained_px).max().unwrap_or(0);
    let is_there = most >= t::GAINED_BLOCK_PX
        || figures.ink_gained_px >= t::GAINED_PX
        || figures.cells_gained >= t::GAINED_CELLS
        || figures.cells_gained > 0 && figures.ink_gained_px >= t::GAINED_CELL_PX;
    let (cell, all) = ((CELL_PX * CELL_PX) as u64, page.pixels.len() as u64);
    let gained = figures.ink_gained_px.max(u64::from(figures.cells_gained) * cell);
    (is_there, is_there && is_share(gained, all, t::GAINED_RUINED_PERCENT))
}

fn changed(figures: &Figures) -> (bool, bool) {
    let is_there = figures.clean_change_permille.is_some_and(|change| change >= t::CLEAN_CHANGE_PERMILLE);
    (is_there, is_there)
}

/// Neighbouring blocks of one harm as boxes, each with how bad it is.
fn regions(harm: Harm, blocks: &Blocks, page: &Plane<'_>, number: u32) -> Vec<(u32, Region)> {
    let badness = |block: &Block| match harm {
        Harm::StrokesLost => block.stroke_px,
        Harm::InkGained => block.gained_px + block.cells_gained,
        Harm::StrokesMerged | Harm::CleanChanged => 0,
    };
    let mut left: Vec<u32> = blocks.blocks.iter().map(badness).collect();
    let rows = left.len() / blocks.columns.max(1);
    let mut found = Vec::new();
    for first in 0..left.len() {
        if left[first] == 0 {
            continue;
        }
        let (mut open, mut sum) = (vec![first], std::mem::take(&mut left[first]));
        let (mut columns, mut lines) = ((usize::MAX, 0), (usize::MAX, 0));
        while let Some(at) = open.pop() {
            let (x, y) = (at % blocks.columns, at / blocks.columns);
            (columns, lines) = ((columns.0.min(x), columns.1.max(x)), (lines.0.min(y), lines.1.max(y)));
            for row in y.saturating_sub(1)..(y + 2).min(rows) {
                for column in x.saturating_sub(1)..(x + 2).min(blocks.columns) {
                    let other = row * blocks.columns + column;
                    let bad = std::mem::take(&mut left[other]);
                    if bad > 0 {
                        sum += bad;
                        open.push(other);
                    }
                }
            }
        }
        let px = |at: usize, end: usize| u32::try_from((at * BLOCK_PX).min(end)).unwrap_or(u32::MAX);
        let (left_px, top_px) = (px(columns.0, page.width), px(lines.0, page.height()));
        let (width_px, height_px) = (px(columns.1 + 1, page.width) - left_px, px(lines.1 + 1, page.height()) - top_px);
        found.push((sum, Region { page: number, harm, left_px, top_px, width_px, height_px }));
    }
    found
}
