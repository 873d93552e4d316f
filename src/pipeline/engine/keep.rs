//! Puts colour back: the paper becomes white, coloured marks stay.

use super::bitmap::{Bitmap, byte, luma};
use super::marks::is_brown;

/// Where the network sees paper: brighter than this once cleaned.
const PAPER_LEVEL: u8 = 240;
/// Colour this far from gray is noise of the scan and goes…
const CHROMA_NOISE: i32 = 16;
/// …and this far it is a mark and stays as it is; in between it fades.
const CHROMA_MARK: i32 = 40;
/// Brown whose red is below this is a stain; orange pens and highlighters are brighter.
const STAIN_LEVEL: i32 = 235;

/// Gives pixels the cleaned brightness where they are gray, and leaves them as they are where they are a mark. The colour of the
/// paper (the median where the network sees paper) is taken out first. Stains keep nothing where the network sees paper.
pub struct Recolour {
    paper: [u8; 3],
}

impl Recolour {
    /// For a page in red, green and blue, and what the network made of its brightness.
    pub fn of(page: &Bitmap, clean: &[u8]) -> Self {
        Self { paper: paper_colour(page, clean) }
    }

    /// What becomes of a pixel.
    pub fn pixel(&self, pixel: &[u8], clean: u8) -> [u8; 3] {
        let balanced = [0, 1, 2].map(|i| i32::from(byte(u32::from(pixel[i]) * 255 / u32::from(self.paper[i].max(1)))));
        let (kept, clean) = (mark(&balanced, clean), i32::from(clean));
        balanced.map(|balanced| {
            let colour = clean + (balanced - clean) * kept / (CHROMA_MARK - CHROMA_NOISE);
            u8::try_from(colour.clamp(0, 255)).unwrap_or(u8::MAX)
        })
    }
}

/// How much of a mark a pixel is: 0 to `CHROMA_MARK - CHROMA_NOISE`.
fn mark(balanced: &[i32; 3], clean: u8) -> i32 {
    let bright = i32::from(luma(&balanced.map(|sample| u8::try_from(sample).unwrap_or(u8::MAX))));
    let is_stain = clean >= PAPER_LEVEL && balanced[0] < STAIN_LEVEL && is_brown(balanced);
    let strength = balanced.map(|sample| (sample - bright).abs()).into_iter().max().unwrap_or(0);
    if is_stain { 0 } else { (strength - CHROMA_NOISE).clamp(0, CHROMA_MARK - CHROMA_NOISE) }
}

/// The median of each colour over the paper; white where there is none.
fn paper_colour(page: &Bitmap, clean: &[u8]) -> [u8; 3] {
    let mut counts = [[0u64; 256]; 3];
    for (pixel, _) in page.pixels.chunks_exact(3).zip(clean).filter(|(_, clean)| **clean >= PAPER_LEVEL) {
        for (counts, sample) in counts.iter_mut().zip(pixel) {
            counts[usize::from(*sample)] += 1;
        }
    }
    counts.map(|counts| {
        let half = counts.iter().sum::<u64>() / 2;
        let mut below = 0;
        let median = (0..=255u8).zip(counts).find(|(_, count)| {
            below += count;
            below > half
        });
        median.map_or(255, |(level, _)| level)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::geometry::Size;
    use crate::pipeline::plan::Layout;

    #[test]
    fn paper_turns_white_ink_black_and_marks_stay() {
        let (paper, ink, red, marker, coffee) =
            ([226, 208, 170], [70, 60, 50], [200, 40, 45], [228, 206, 60], [170, 130, 80]);
        let pixels: Vec<u8> = [[paper; 8].concat(), [ink, red, marker, coffee].concat()].concat();
        let page = Bitmap { size: Size::new(12, 1), layout: Layout::Rgb, pixels };
        let clean = [255, 255, 255, 255, 255, 255, 255, 255, 10, 70, 255, 255];
        let recolour = Recolour::of(&page, &clean);
        let pixel = |at: usize| recolour.pixel(&page.pixels[at * 3..at * 3 + 3], clean[at]);
        assert_eq!(pixel(0), [255; 3]);
        assert!(pixel(8).into_iter().all(|sample| sample < 40), "{:?}", pixel(8));
        let [r, g, b] = pixel(9);
        assert!(r > 200 && g < 60 && b < 80, "red {:?}", pixel(9));
        let [r, g, b] = pixel(10);
        assert!(r > 245 && g > 245 && b < 110, "marker {:?}", pixel(10));
        assert_eq!(pixel(11), [255; 3], "coffee");
    }
}
