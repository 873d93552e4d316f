//! Puts colour back: the paper becomes white, coloured marks stay.

use super::bitmap::{Bitmap, byte, luma};
use crate::pipeline::plan::Layout;

/// Where the network sees paper: brighter than this once cleaned.
const PAPER_LEVEL: u8 = 240;
/// Colour this far from gray is noise of the scan and goes…
const CHROMA_NOISE: i32 = 16;
/// …and this far it is a mark and stays as it is; in between it fades.
const CHROMA_MARK: i32 = 40;

/// Gives each pixel of a coloured page the cleaned brightness. The colour of the paper (the median where the network sees
/// paper) is taken out of the whole page first.
pub fn recolour(page: &mut Bitmap, clean: &[u8]) {
    if page.layout != Layout::Rgb {
        return;
    }
    let paper = paper_colour(page, clean);
    for (pixel, clean) in page.pixels.chunks_exact_mut(3).zip(clean) {
        let balanced = [0, 1, 2].map(|i| byte(u32::from(pixel[i]) * 255 / u32::from(paper[i].max(1))));
        let bright = i32::from(luma(&balanced));
        let chroma = balanced.map(|sample| i32::from(sample) - bright);
        let strength = chroma.into_iter().map(i32::abs).max().unwrap_or(0);
        let kept = (strength - CHROMA_NOISE).clamp(0, CHROMA_MARK - CHROMA_NOISE);
        for (sample, chroma) in pixel.iter_mut().zip(chroma) {
            let colour = i32::from(*clean) + chroma * kept / (CHROMA_MARK - CHROMA_NOISE);
            *sample = u8::try_from(colour.clamp(0, 255)).unwrap_or(u8::MAX);
        }
    }
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

    #[test]
    fn paper_turns_white_ink_black_and_red_stays_red() {
        let (paper, ink, red) = ([226, 208, 170], [70, 60, 50], [200, 40, 45]);
        let pixels: Vec<u8> = [[paper; 8].concat(), ink.to_vec(), red.to_vec()].concat();
        let mut page = Bitmap { size: Size::new(10, 1), layout: Layout::Rgb, pixels };
        recolour(&mut page, &[255, 255, 255, 255, 255, 255, 255, 255, 10, 70]);
        assert_eq!(page.pixels[..3], [255, 255, 255]);
        assert!(page.pixels[24..27].iter().all(|sample| *sample < 30), "{:?}", &page.pixels[24..27]);
        let red = &page.pixels[27..30];
        assert!(red[0] > 150 && red[1] < 60 && red[2] < 80, "{red:?}");
    }
}
