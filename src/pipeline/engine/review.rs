//! Between the network and the files: pictures are put back, and the gate decides whether the cleaned page is used at all.

use super::bitmap::{Bitmap, luma};
use super::keep::Recolour;
use crate::pipeline::gate::{self, Cell, Judgement, Mask, Paper, Plane, Verdict, thresholds};

/// What is known of a page before it is cleaned.
pub struct Before {
    paper: Paper,
    pictures: Mask,
}

impl Before {
    /// Of a gray page.
    pub fn of(gray: &Bitmap) -> Self {
        let paper = Paper::of(&plane(gray));
        let pictures = gate::pictures(&paper);
        Self { paper, pictures }
    }

    /// Judges `cleaned` and makes it the page `page`, which is gray; it stays as it was if that is the verdict.
    pub fn gray(&self, page: &mut Bitmap, mut cleaned: Vec<u8>, number: u32) -> Judgement {
        let width = page.size.width_px as usize;
        let output = |y: usize, row: &mut [u8]| row.copy_from_slice(&cleaned[y * width..(y + 1) * width]);
        let judgement = self.judge(&plane(page), output, number);
        if judgement.verdict != Verdict::KeptOriginal {
            self.put_back(&page.pixels, &mut cleaned, width);
            page.pixels = cleaned;
        }
        judgement
    }

    /// As [`Before::gray`], for a page `page` in colour whose brightness is `gray`.
    pub fn coloured(&self, page: &mut Bitmap, gray: &Bitmap, cleaned: &[u8], number: u32) -> Judgement {
        let width = gray.size.width_px as usize;
        let recolour = Recolour::of(page, cleaned);
        let output = |y: usize, row: &mut [u8]| {
            let pixels = page.pixels[y * width * 3..(y + 1) * width * 3].chunks_exact(3);
            for (out, (pixel, clean)) in row.iter_mut().zip(pixels.zip(&cleaned[y * width..])) {
                *out = luma(&recolour.pixel(pixel, *clean));
            }
        };
        let judgement = self.judge(&plane(gray), output, number);
        if judgement.verdict == Verdict::KeptOriginal {
            return judgement;
        }
        for y in 0..gray.size.height_px as usize {
            let row = page.pixels[y * width * 3..(y + 1) * width * 3].chunks_exact_mut(3);
            let levels = gray.pixels[y * width..].iter().zip(&cleaned[y * width..]);
            for (x, (pixel, (level, clean))) in row.zip(levels).enumerate() {
                if !self.is_picture(x, y, *level) {
                    pixel.copy_from_slice(&recolour.pixel(pixel, *clean));
                }
            }
        }
        judgement
    }

    /// Whether there is nothing to clean on `gray`, the page this is of.
    pub fn is_spotless(&self, gray: &Bitmap) -> bool {
        self.paper.is_white() && gate::is_spotless(&plane(gray))
    }

    /// Whether the strokes of `gray`, the page this is of, are wide enough for half its resolution.
    pub fn has_wide_strokes(&self, gray: &Bitmap) -> bool {
        gate::are_wide(&plane(gray), &self.paper, &self.pictures)
    }

    /// The judgement on `gray`, the page this is of, if it stays as it is.
    pub fn untouched(&self, gray: &Bitmap, number: u32) -> Judgement {
        let page = plane(gray);
        let width = page.width;
        self.judge(&page, |y, row| row.copy_from_slice(&page.pixels[y * width..(y + 1) * width]), number)
    }

    fn judge(&self, page: &Plane<'_>, output: impl FnMut(usize, &mut [u8]), number: u32) -> Judgement {
        let (figures, blocks) = gate::compare(page, &self.paper, &self.pictures, output);
        gate::judge(figures, &blocks, page, number)
    }

    fn put_back(&self, page: &[u8], cleaned: &mut [u8], width: usize) {
        if self.pictures.cells.is_empty() {
            return;
        }
        let rows = cleaned.chunks_exact_mut(width).zip(page.chunks_exact(width));
        for (y, (cleaned, page)) in rows.enumerate() {
            for (x, (clean, level)) in cleaned.iter_mut().zip(page).enumerate() {
                if self.is_picture(x, y, *level) {
                    *clean = *level;
                }
            }
        }
    }

    /// Whether a pixel of this brightness belongs to a picture: all of it does, and what is no blank paper at its rim.
    fn is_picture(&self, x: usize, y: usize, level: u8) -> bool {
        let cell = x / gate::CELL_PX;
        match self.pictures.row(y).get(cell) {
            None | Some(Cell::Page) => false,
            Some(Cell::Picture) => true,
            Some(Cell::Rim) => {
                let paper = self.paper.row(y).get(cell).copied().unwrap_or(0);
                u32::from(level) * 100 < u32::from(paper) * (100 - thresholds::BLANK_DEPTH)
            }
        }
    }
}

fn plane(gray: &Bitmap) -> Plane<'_> {
    Plane { width: gray.size.width_px as usize, pixels: &gray.pixels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::geometry::Size;
    use crate::pipeline::plan::Layout;

    const SIDE: u32 = 256;

    fn is_ink(x: u32, y: u32) -> bool {
        y % 20 < 11 && x % 12 < 4 && (20..236).contains(&x) && (150..240).contains(&y)
    }

    /// Text below a picture of many tones.
    fn page() -> Bitmap {
        let level = |x: u32, y: u32| match (is_ink(x, y), (30..226).contains(&x) && (14..130).contains(&y)) {
            (true, _) => 30,
            (false, true) => u8::try_from(60 + (x * 7 / 5 + y) % 97 + y / 3).unwrap(),
            (false, false) => 232,
        };
        let pixels = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| level(x, y))).collect();
        Bitmap { size: Size::new(SIDE, SIDE), layout: Layout::Gray, pixels }
    }

    fn cleaned() -> Vec<u8> {
        (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| if is_ink(x, y) { 0 } else { 255 })).collect()
    }

    #[test]
    fn text_is_cleaned_and_pictures_stay() {
        let (mut gray, before) = (page(), page());
        let judgement = Before::of(&gray).gray(&mut gray, cleaned(), 1);
        assert_eq!(judgement.verdict, Verdict::Clean, "{judgement:?}");
        let at = |x: u32, y: u32| (y * SIDE + x) as usize;
        assert_eq!((gray.pixels[at(4, 200)], gray.pixels[at(24, 165)]), (255, 0));
        assert_eq!(gray.pixels[at(128, 70)], before.pixels[at(128, 70)]);
        // Its edges stay as well, and the paper beside them turns white.
        assert_eq!(gray.pixels[at(30, 14)], before.pixels[at(30, 14)]);
        assert_eq!(gray.pixels[at(27, 70)], 255);
    }

    #[test]
    fn a_harmful_output_leaves_the_page_as_it_was() {
        let (mut gray, before) = (page(), page());
        let known = Before::of(&gray);
        assert_eq!(known.gray(&mut gray, vec![255; before.pixels.len()], 1).verdict, Verdict::KeptOriginal);
        assert_eq!(gray, before);
        let pixels = before.pixels.iter().flat_map(|level| [*level; 3]).collect();
        let coloured = Bitmap { layout: Layout::Rgb, pixels, ..before.clone() };
        let mut page = coloured.clone();
        let judgement = known.coloured(&mut page, &before, &vec![255; before.pixels.len()], 1);
        assert_eq!((judgement.verdict, page), (Verdict::KeptOriginal, coloured));
    }

    #[test]
    fn coloured_pages_are_judged_by_what_people_will_see() {
        // The network takes a red stamp for dirt, and the colour keeps it.
        let gray = page();
        let is_stamp = |at: u32| is_ink(at % SIDE, at / SIDE);
        let pixel = |(at, level): (u32, &u8)| if is_stamp(at) { [200, 20, 30] } else { [*level; 3] };
        let pixels = (0..).zip(&gray.pixels).flat_map(pixel).collect();
        let mut page = Bitmap { layout: Layout::Rgb, pixels, ..gray.clone() };
        let mut brightness = page.clone();
        brightness.drop_colour();
        let known = Before::of(&brightness);
        let judgement = known.coloured(&mut page, &brightness, &vec![255; gray.pixels.len()], 1);
        assert_eq!(judgement.verdict, Verdict::Clean, "{judgement:?}");
        let at = ((165 * SIDE + 24) * 3) as usize;
        assert!(page.pixels[at] > 190 && page.pixels[at + 1] < 60, "{:?}", &page.pixels[at..at + 3]);
    }
}
