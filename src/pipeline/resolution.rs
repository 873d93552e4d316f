//! How large a pixel is on paper. Pure.

use super::geometry::Size;
use super::spec::{DPI_MAX, DPI_MIN};

/// A resolution this close to a whole number is that number: metres are no whole number of inches, dots per inch.
const SNAP_DPI: f64 = 0.02;
const POINTS_PER_INCH: f64 = 72.0;
const METRES_PER_INCH: f64 = 0.0254;
/// Readers of PDF take no longer side, points (200 inches).
const SIDE_PT_MAX: f64 = 14_400.0;

/// Pixels of an inch of paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolution {
    /// From left to right, dots per inch.
    pub x_dpi: f64,
    /// From top to bottom, dots per inch.
    pub y_dpi: f64,
}

impl Resolution {
    /// What an input says, dots per inch; `None` for what no scanner has.
    #[must_use]
    pub fn stated(x_dpi: f64, y_dpi: f64) -> Option<Self> {
        let whole = |dpi: f64| if (dpi - dpi.round()).abs() < SNAP_DPI { dpi.round() } else { dpi };
        let (x_dpi, y_dpi) = (whole(x_dpi), whole(y_dpi));
        let holds = |dpi: f64| (f64::from(DPI_MIN)..=f64::from(DPI_MAX)).contains(&dpi);
        (holds(x_dpi) && holds(y_dpi)).then_some(Self { x_dpi, y_dpi })
    }

    /// What an input says, dots per metre.
    #[must_use]
    pub fn per_metre(x: f64, y: f64) -> Option<Self> {
        Self::stated(x * METRES_PER_INCH, y * METRES_PER_INCH)
    }

    /// The same in both directions.
    #[must_use]
    pub fn of(dpi: u32) -> Self {
        Self { x_dpi: dpi.into(), y_dpi: dpi.into() }
    }

    /// Of the page turned by a quarter.
    #[must_use]
    pub const fn transposed(self) -> Self {
        Self { x_dpi: self.y_dpi, y_dpi: self.x_dpi }
    }

    /// Width and height of the paper, points. What would be longer than a PDF can say is made smaller.
    #[must_use]
    pub fn paper(self, page: Size) -> (f64, f64) {
        let width = f64::from(page.width_px) * POINTS_PER_INCH / self.x_dpi;
        let height = f64::from(page.height_px) * POINTS_PER_INCH / self.y_dpi;
        let shrink = (SIDE_PT_MAX / width.max(height)).min(1.0);
        (width * shrink, height * shrink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paper_has_the_size_that_the_input_says() {
        let a4 = Size::new(2480, 3508);
        let close = |(width, height): (f64, f64)| (width - 595.2).abs() < 1e-9 && (height - 841.92).abs() < 1e-9;
        assert!(close(Resolution::of(300).paper(a4)));
        // 300 dots per inch as a PNG says it.
        assert!(close(Resolution::per_metre(11_811.0, 11_811.0).unwrap().paper(a4)));
        // A fax has other pixels than squares.
        let fax = Resolution::stated(204.0, 98.0).unwrap();
        assert_eq!(fax.paper(Size::new(1728, 1078)), (1728.0 * 72.0 / 204.0, 792.0));
        assert_eq!(fax.transposed(), Resolution { x_dpi: 98.0, y_dpi: 204.0 });
    }

    #[test]
    fn what_no_scanner_has_is_not_believed() {
        for dpi in [0.0, -300.0, 1.0, 49.9, 2_400.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Resolution::stated(dpi, 300.0), None, "{dpi}");
            assert_eq!(Resolution::stated(300.0, dpi), None, "{dpi}");
        }
    }

    #[test]
    fn no_paper_is_longer_than_a_pdf_can_say() {
        assert_eq!(Resolution::of(50).paper(Size::new(16_384, 8_192)), (14_400.0, 7_200.0));
    }
}
