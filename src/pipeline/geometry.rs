//! Sizes, rectangles, orientation, fit and fill, and how a page is cut into tiles. Pure.

/// Width and height, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels.
    pub width_px: u32,
    /// Pixels.
    pub height_px: u32,
}

impl Size {
    /// Both sides.
    #[must_use]
    pub const fn new(width_px: u32, height_px: u32) -> Self {
        Self { width_px, height_px }
    }

    /// Width times height.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.width_px) * u64::from(self.height_px)
    }

    /// Width and height exchanged.
    #[must_use]
    pub const fn transposed(self) -> Self {
        Self { width_px: self.height_px, height_px: self.width_px }
    }

    /// The largest size of the same shape within `limit`; never larger than itself, no side below 1.
    #[must_use]
    pub fn fit(self, limit: Self) -> Self {
        let (width, height) = (u64::from(self.width_px), u64::from(self.height_px));
        let (limit_width, limit_height) = (u64::from(limit.width_px), u64::from(limit.height_px));
        if width <= limit_width && height <= limit_height {
            return self;
        }
        let scaled = |side: u64, to: u64, from: u64| {
            let rounded = (side * to + from / 2) / from.max(1);
            u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
        };
        if width * limit_height >= height * limit_width {
            Self::new(limit.width_px, scaled(height, limit_width, width).min(limit.height_px))
        } else {
            Self::new(scaled(width, limit_height, height).min(limit.width_px), limit.height_px)
        }
    }

    /// At half the resolution, rounded up.
    #[must_use]
    pub const fn half(self) -> Self {
        Self { width_px: self.width_px.div_ceil(2), height_px: self.height_px.div_ceil(2) }
    }

    /// The centred square whose side is the shorter side.
    #[must_use]
    pub fn centre_square(self) -> Rect {
        let side = self.width_px.min(self.height_px);
        Rect { left_px: (self.width_px - side) / 2, top_px: (self.height_px - side) / 2, size: Self::new(side, side) }
    }

    /// All of it.
    #[must_use]
    pub const fn whole(self) -> Rect {
        Rect { left_px: 0, top_px: 0, size: self }
    }
}

/// A part of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// From the left edge, pixels.
    pub left_px: u32,
    /// From the upper edge, pixels.
    pub top_px: u32,
    /// Extent.
    pub size: Size,
}

/// How the stored pixels must be turned to stand upright; the eight values of EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orientation {
    /// 1: as it is.
    #[default]
    Upright,
    /// 2: left and right exchanged.
    Mirrored,
    /// 3: half a turn.
    HalfTurn,
    /// 4: top and bottom exchanged.
    Flipped,
    /// 5: mirrored along the main diagonal.
    Transposed,
    /// 6: needs a quarter turn to the right.
    QuarterRight,
    /// 7: mirrored along the other diagonal.
    Transversed,
    /// 8: needs a quarter turn to the left.
    QuarterLeft,
}

impl Orientation {
    /// Of the value in EXIF or a TIFF's tag 274; what is no orientation is upright.
    #[must_use]
    pub const fn from_exif(value: u32) -> Self {
        match value {
            2 => Self::Mirrored,
            3 => Self::HalfTurn,
            4 => Self::Flipped,
            5 => Self::Transposed,
            6 => Self::QuarterRight,
            7 => Self::Transversed,
            8 => Self::QuarterLeft,
            _ => Self::Upright,
        }
    }

    /// Whether width and height change places.
    #[must_use]
    pub const fn turns_sides(self) -> bool {
        matches!(self, Self::Transposed | Self::QuarterRight | Self::Transversed | Self::QuarterLeft)
    }

    /// The size of the upright page.
    #[must_use]
    pub const fn applied(self, stored: Size) -> Size {
        if self.turns_sides() { stored.transposed() } else { stored }
    }
}

/// Sides of what the network takes are multiples of this, pixels.
pub const GRID_PX: u32 = 32;
/// What one tile adds to the page at most, along one axis, pixels.
const CORE_PX: u32 = 960;
/// What the network sees around a tile's core and what is thrown away: with 96 pages full of grain differed by up to 7 levels in a few
/// pixels, with 128 by 1, pixels.
pub const OVERLAP_PX: u32 = 128;
/// The same for a page at half its resolution, whose levels are stretched afterwards: here nothing may differ, pixels.
const HALF_CORE_PX: u32 = 960;
const HALF_OVERLAP_PX: u32 = 160;

/// One stretch of an axis: what the network sees, and the part of it that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First pixel that the network sees; a multiple of [`GRID_PX`].
    pub window_px: u32,
    /// First pixel that is kept.
    pub core_px: u32,
    /// One past the last pixel that is kept.
    pub core_end_px: u32,
}

/// How a page is cut for the network: every window of a page has the same size, so that the work and its memory are the same
/// for each, and windows begin on the network's grid, so that tiled and whole pages meet the same phases of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiling {
    /// Size of every window; what reaches over the page is reflected.
    pub window: Size,
    /// From left to right.
    pub columns: Vec<Span>,
    /// From top to bottom.
    pub rows: Vec<Span>,
}

impl Tiling {
    /// Cuts a page. Cores cover it exactly once and lie at least [`OVERLAP_PX`] from every edge of their window that is not
    /// an edge of the page.
    #[must_use]
    pub fn of(page: Size) -> Self {
        Self::with(page, CORE_PX, OVERLAP_PX)
    }

    /// Cuts what is left of a page at half its resolution.
    #[must_use]
    pub fn of_half(page: Size) -> Self {
        Self::with(page.half(), HALF_CORE_PX, HALF_OVERLAP_PX)
    }

    fn with(page: Size, core_px: u32, overlap_px: u32) -> Self {
        let (width_px, columns) = spans(page.width_px, core_px, overlap_px);
        let (height_px, rows) = spans(page.height_px, core_px, overlap_px);
        Self { window: Size::new(width_px, height_px), columns, rows }
    }

    /// Number of tiles.
    #[must_use]
    pub fn tiles(&self) -> u64 {
        self.columns.len() as u64 * self.rows.len() as u64
    }
}

/// From this size on, pages are cleaned at half their resolution where their strokes are wide: A5 at 300 dpi. On smaller ones
/// there is little to save, pixels.
const HALF_PIXELS_MIN: u64 = 4_000_000;

/// The two ways to cut a page for the network. Which one is taken shows when its strokes are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// At its own resolution.
    pub whole: Tiling,
    /// At half of it; `None` where that is not worth it.
    pub half: Option<Tiling>,
}

impl Cut {
    /// Cuts a page.
    #[must_use]
    pub fn of(page: Size) -> Self {
        let half = (page.pixels() >= HALF_PIXELS_MIN).then(|| Tiling::of_half(page));
        Self { whole: Tiling::of(page), half }
    }

    /// The window of each way.
    pub fn windows(&self) -> impl Iterator<Item = Size> {
        std::iter::once(&self.whole).chain(&self.half).map(|tiling| tiling.window)
    }
}

/// The length of every window along an axis, and the spans.
fn spans(side_px: u32, core_px: u32, overlap_px: u32) -> (u32, Vec<Span>) {
    let padded = side_px.div_ceil(GRID_PX) * GRID_PX;
    let both = 2 * overlap_px;
    let count = padded.saturating_sub(both).div_ceil(core_px).max(1);
    // Windows of equal length, no longer than needed: a page of 1,664 px is cut into two of 960, not of 1,216.
    let window = (padded + (count - 1) * both).div_ceil(count).div_ceil(GRID_PX) * GRID_PX;
    let start = |index: u32| (index * window.saturating_sub(both)).min(padded - window);
    let spans = (0..count).map(|index| Span {
        window_px: start(index),
        core_px: if index == 0 { 0 } else { start(index - 1) + window - overlap_px },
        core_end_px: if index + 1 == count { side_px } else { start(index) + window - overlap_px },
    });
    (window, spans.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fit_keeps_the_shape() {
        let limit = Size::new(320, 320);
        assert_eq!(Size::new(4000, 3000).fit(limit), Size::new(320, 240));
        assert_eq!(Size::new(3000, 4000).fit(limit), Size::new(240, 320));
        assert_eq!(Size::new(100, 50).fit(limit), Size::new(100, 50));
        assert_eq!(Size::new(16_384, 1).fit(limit), Size::new(320, 1));
    }

    #[test]
    fn pages_are_cut_as_said() {
        assert_eq!(Tiling::of(Size::new(540, 420)).window, Size::new(544, 448));
        assert_eq!(Tiling::of(Size::new(540, 420)).tiles(), 1);
        assert_eq!(Tiling::of(Size::new(1216, 1)).tiles(), 1);
        let a4 = Tiling::of(Size::new(1654, 2339));
        assert_eq!((a4.window, a4.tiles()), (Size::new(960, 960), 6));
        let half = Tiling::of_half(Size::new(2480, 3508));
        assert_eq!((half.window, half.tiles()), (Size::new(1248, 1056), 2));
    }

    proptest! {
        #[test]
        fn fit_never_enlarges(w in 1u32..20_000, h in 1u32..20_000, bw in 1u32..20_000, bh in 1u32..20_000) {
            let (page, limit) = (Size::new(w, h), Size::new(bw, bh));
            let fitted = page.fit(limit);
            prop_assert!(fitted.width_px >= 1 && fitted.height_px >= 1);
            prop_assert!(fitted.width_px <= w.min(bw) && fitted.height_px <= h.min(bh));
            // One side reaches the limit or the page.
            prop_assert!(fitted == page || fitted.width_px == bw || fitted.height_px == bh);
        }

        #[test]
        fn crops_lie_within_the_page(w in 1u32..20_000, h in 1u32..20_000) {
            let crop = Size::new(w, h).centre_square();
            prop_assert_eq!(crop.size.width_px, w.min(h));
            prop_assert!(crop.left_px + crop.size.width_px <= w && crop.top_px + crop.size.height_px <= h);
            prop_assert!((i64::from(w) - i64::from(crop.size.width_px) - 2 * i64::from(crop.left_px)).abs() <= 1);
        }

        #[test]
        fn cores_cover_an_axis_exactly_once(side in 1u32..40_000, is_half: bool) {
            let (core, overlap) = if is_half { (HALF_CORE_PX, HALF_OVERLAP_PX) } else { (CORE_PX, OVERLAP_PX) };
            let (window, spans) = spans(side, core, overlap);
            prop_assert!(window % GRID_PX == 0 && window <= core + 2 * overlap);
            let mut next = 0;
            for span in &spans {
                prop_assert_eq!(span.core_px, next);
                prop_assert!(span.core_end_px > span.core_px);
                prop_assert_eq!(span.window_px % GRID_PX, 0);
                let end = span.window_px + window;
                prop_assert!(span.window_px == 0 || span.core_px - span.window_px >= overlap);
                prop_assert!(span.core_end_px == side || end - span.core_end_px >= overlap);
                prop_assert!(span.core_end_px <= end && end <= side.div_ceil(GRID_PX) * GRID_PX);
                next = span.core_end_px;
            }
            prop_assert_eq!(next, side);
        }
    }
}
