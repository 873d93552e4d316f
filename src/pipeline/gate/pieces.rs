//! Whether a piece of ink that is gone was a stroke, or a stain, a speck, a ring or a shadow that is rightly gone.
//!
//! A perceptron with one hidden layer over what is known of the piece, fitted to pieces whose truth is known
//! (`models/training/pieces.py` writes `weights.rs`; figures in `docs/gate.md`). Strokes have edges as sharp as the rest of the
//! page on all sides, with paper right behind them; stains have softer ones, and specks sharper ones than print.

use serde::Serialize;

use super::components::{Component, Edges};
use super::weights::{HIDDEN, OUTPUT};

/// Numbers of a piece.
pub(super) const FEATURES: usize = 10;
/// A piece of at most so many pixels can be a speck.
const SPECK_PX: u32 = 45;
/// Sharpness of a page without strokes, levels.
const SHARPNESS_UNKNOWN: f32 = 50.0;
/// No page is taken to be less sharp than this, levels: grain is.
const SHARPNESS_MIN: f32 = 5.0;
/// So many times as wide as it is high, it is a part of a rule: its sides say nothing, and nothing else is as flat.
const RULE_FLAT: usize = 12;

/// A piece of ink that is gone, pixels, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Piece {
    /// First column.
    pub left_px: usize,
    /// First row.
    pub top_px: usize,
    /// One past the last column.
    pub right_px: usize,
    /// One past the last row.
    pub bottom_px: usize,
    /// Pixels.
    pub area_px: u32,
    /// What is weighed.
    pub features: [f32; FEATURES],
    /// What comes of it.
    pub was_stroke: bool,
}

impl Piece {
    /// What is known of a piece on a page whose strokes have edges of such sharpness.
    pub fn of(piece: &Component, sharpness: f32) -> Self {
        let Component { left_px, top_px, right_px, bottom_px, area_px, .. } = *piece;
        let (features, was_stroke) = (features(piece, sharpness), was_stroke(piece, sharpness));
        Self { left_px, top_px, right_px, bottom_px, area_px, features, was_stroke }
    }
}

/// Mean rise at the edges of a page's strokes, levels.
pub fn sharpness(strokes: &Edges) -> f32 {
    if strokes.count == 0 { SHARPNESS_UNKNOWN } else { strokes.mean_rise().max(SHARPNESS_MIN) }
}

/// Whether it was a stroke, on a page whose strokes have edges of such sharpness.
pub fn was_stroke(piece: &Component, sharpness: f32) -> bool {
    if piece.right_px - piece.left_px >= RULE_FLAT * (piece.bottom_px - piece.top_px) {
        return true;
    }
    score(&features(piece, sharpness)) < 0.0
}

/// Above 0 a piece was no stroke.
fn score(features: &[f32; FEATURES]) -> f32 {
    let units = HIDDEN.iter().map(|(weights, bias)| (dot(weights, features) + bias).tanh());
    OUTPUT.0.iter().zip(units).map(|(weight, unit)| weight * unit).sum::<f32>() + OUTPUT.1
}

fn dot(weights: &[f32; FEATURES], features: &[f32; FEATURES]) -> f32 {
    weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum()
}

fn features(piece: &Component, sharpness: f32) -> [f32; FEATURES] {
    let number = |count: usize| f32::from(u16::try_from(count.max(1)).unwrap_or(u16::MAX));
    let (area, certain) = (number(piece.area_px as usize), number(piece.certain_px as usize));
    let (width, height) = (number(piece.right_px - piece.left_px), number(piece.bottom_px - piece.top_px));
    let [rise, rise_upright] = [piece.edges, piece.ends].map(|edges| (edges.mean_rise() / sharpness).clamp(-0.5, 2.5));
    let [beyond, beyond_upright] =
        [piece.edges, piece.ends].map(|edges| (edges.mean_rise_beyond() / sharpness).clamp(-1.0, 1.5));
    let thickness = area / number(piece.edges.count as usize / 2).max(width);
    let speck = if piece.area_px <= SPECK_PX { 1.0 } else { 0.0 };
    [
        rise,
        beyond,
        rise_upright,
        beyond_upright,
        certain / area,
        (width / height).ln().abs(),
        thickness.ln(),
        area.ln(),
        speck * area / (width * height),
        speck,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece with this many runs in each row; levels of the rise at each end, and beyond it.
    fn piece(size: [usize; 2], runs: u32, [area_px, certain_px]: [u32; 2], [rise, beyond]: [i32; 2]) -> Component {
        let [width, height] = size;
        let count = 2 * runs * u32::try_from(height).unwrap();
        let ends = i32::try_from(count).unwrap();
        let edges = Edges { count, rise: rise * ends, rise_beyond: beyond * ends };
        let (right_px, bottom_px) = (50 + width, 9 + height);
        Component { area_px, certain_px, left_px: 50, right_px, top_px: 9, bottom_px, edges, ends: edges }
    }

    #[test]
    fn strokes_are_as_sharp_as_the_page() {
        let page = sharpness(&Edges { count: 1000, rise: 100_000, rise_beyond: 0 });
        assert!((page - 100.0).abs() < 0.1, "{page}");
        let letter = piece([14, 18], 1, [90, 60], [98, -30]);
        let large = piece([40, 60], 2, [900, 700], [95, 5]);
        let rule = piece([210, 4], 1, [430, 400], [20, 0]);
        let blot = piece([80, 60], 1, [2300, 1300], [10, 30]);
        let ring = piece([60, 20], 1, [500, 300], [35, 40]);
        let speck = piece([7, 7], 1, [29, 29], [190, 2]);
        let found = [letter, large, rule, blot, ring, speck].map(|piece| was_stroke(&piece, page));
        assert_eq!(found, [true, true, true, false, false, false]);
    }

    #[test]
    fn what_is_soft_is_soft_for_its_page() {
        let large = piece([40, 60], 2, [900, 700], [40, 5]);
        assert!(was_stroke(&large, 42.0) && !was_stroke(&large, 160.0));
        let nothing = Component { edges: Edges::default(), ends: Edges::default(), ..piece([3, 3], 0, [0, 0], [0, 0]) };
        assert!(features(&nothing, sharpness(&Edges::default())).iter().all(|feature| feature.is_finite()));
    }
}
