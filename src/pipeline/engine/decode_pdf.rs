//! PDF by PDFium: every page is drawn, a scan with the pixels that it has.
//!
//! PDFium is C++ that strangers' bytes have broken before. So it is loaded by the worker alone, before lock-down, and reads
//! its first byte of a document behind all layers of it: no network, no other file, no thread, no new code, a bound on
//! memory. Its build has neither an engine for JavaScript nor XFA. Fonts that a document does not carry are those that
//! PDFium carries, for it finds no others.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::OnceLock;

use pdfium_render::prelude::{
    PdfBitmapFormat, PdfDocument, PdfFormType, PdfPage, PdfPageObjectCommon, PdfPageObjectsCommon, PdfRenderConfig,
    Pdfium, PdfiumError, PdfiumInternalError,
};

use super::bitmap::Bitmap;
use super::decode::{Decoded, Source, malformed, unsupported};
use super::pdf_load::{Load, OBJECTS_LOOKED_AT_MAX};
use crate::job::{Refusal, RefusalCode};
use crate::pipeline::geometry::{Orientation, Size};
use crate::pipeline::plan::{Layout, PageFacts};
use crate::pipeline::resolution::Resolution;
use crate::pipeline::wire::RunLimits;

/// What pages without a scan are drawn with, dots per inch: the first that fits the limits. Below the last letters of a
/// newspaper cannot be read.
const DPI: [f64; 3] = [300.0, 200.0, 150.0];
/// A scan says more than a scanner sees, or less than a page needs.
const SCAN_DPI: std::ops::RangeInclusive<f64> = 72.0..=1_200.0;
/// Part of a page that a picture covers to be its scan.
const SCAN_COVERS: f64 = 0.8;
/// By as much the sides of a scan and of its page may differ in shape: the pixels are then those of the scan.
const SHAPE_SLACK: f64 = 0.01;
/// Pixels of all pages together: 200 pages of A4 at 300 dpi are 1,740 million. A file of a kilobyte can ask for any number.
const PIXELS_TOTAL_MAX: u64 = 2_000_000_000;
/// The end of a document is marked within so many bytes of the end of its file.
const END_BYTES: u64 = 1024;
const POINTS_PER_INCH: f64 = 72.0;

/// One for a process: PDFium keeps its state in globals.
static LIBRARY: OnceLock<Pdfium> = OnceLock::new();

/// A loaded PDFium.
pub type Library = &'static Pdfium;

/// Loads the library, which starts no thread and opens no file but itself.
///
/// # Errors
/// One sentence.
pub fn load(library: &Path) -> Result<Library, String> {
    if let Some(loaded) = LIBRARY.get() {
        return Ok(loaded);
    }
    let bindings = Pdfium::bind_to_library(library).map_err(|error| format!("{error:?}"))?;
    Ok(LIBRARY.get_or_init(|| Pdfium::new(bindings)))
}

/// An open document.
pub struct Pdf {
    document: PdfDocument<'static>,
    sheets: Vec<Sheet>,
}

/// How a page is drawn.
#[derive(Debug, Clone, Copy)]
struct Sheet {
    size: Size,
    resolution: Option<Resolution>,
    /// What it asks of PDFium.
    load: Load,
}

/// The sides of a page, points.
#[derive(Debug, Clone, Copy)]
struct Paper {
    width: f64,
    height: f64,
}

/// A picture that covers its page.
#[derive(Debug, Clone, Copy)]
struct Scan {
    width_px: f64,
    height_px: f64,
    /// Points of the page that it covers.
    area: f64,
}

impl Pdf {
    /// Opens a document and looks at every page; nothing is drawn.
    ///
    /// # Errors
    /// A refusal; it can never be drawn.
    pub fn open(mut file: File, limits: &RunLimits, library: Library) -> Result<Self, Refusal> {
        if !has_end(&mut file) {
            return Err(malformed("The PDF is cut off."));
        }
        let document = library.load_pdf_from_reader(file, None).map_err(refusal)?;
        if document.form().is_some_and(|form| is_xfa(form.form_type())) {
            return Err(unsupported_pdf("The PDF is an XFA form: its pages are made by a program inside of it."));
        }
        let count = usize::try_from(document.pages().len()).unwrap_or(0);
        if count == 0 {
            return Err(malformed("The PDF has no page."));
        }
        if count > limits.pages_max as usize {
            return Err(Refusal::new(RefusalCode::TooManyPages, "The PDF has too many pages.")
                .figures(format!("{} pages", limits.pages_max), format!("{count} pages"))
                .remedy("Cut the file into parts."));
        }
        let mut pdf = Self { document, sheets: Vec::with_capacity(count) };
        // All sizes first: they cost nothing.
        let papers = (0..count).map(|number| pdf.paper(number)).collect::<Result<Vec<_>, _>>()?;
        for paper in &papers {
            sized(*paper, None, limits)?;
        }
        let mut pixels_total = 0u64;
        for (number, paper) in papers.into_iter().enumerate() {
            let sheet = pdf.sheet(number, paper, limits)?;
            pixels_total += sheet.size.pixels();
            if pixels_total > PIXELS_TOTAL_MAX {
                return Err(Refusal::new(
                    RefusalCode::TooManyPixels,
                    "The pages of the PDF have too many pixels together.",
                )
                .figures(format!("{PIXELS_TOTAL_MAX} px"), format!("at least {pixels_total} px"))
                .remedy("Cut the file into parts."));
            }
            pdf.sheets.push(sheet);
        }
        Ok(pdf)
    }

    fn page(&self, number: usize) -> Result<PdfPage<'static>, Refusal> {
        let index = i32::try_from(number).map_err(|_| no_such_page())?;
        self.document.pages().get(index).map_err(|_| damaged_page(number))
    }

    fn paper(&self, number: usize) -> Result<Paper, Refusal> {
        let index = i32::try_from(number).map_err(|_| no_such_page())?;
        let sides = self.document.pages().page_size(index).map_err(|_| damaged_page(number))?;
        let paper = Paper { width: sides.width().value.into(), height: sides.height().value.into() };
        let holds = |side: f64| side.is_finite() && side > 0.0;
        if holds(paper.width) && holds(paper.height) { Ok(paper) } else { Err(damaged_page(number)) }
    }

    fn sheet(&self, number: usize, paper: Paper, limits: &RunLimits) -> Result<Sheet, Refusal> {
        let page = self.page(number)?;
        let (mut scan, mut load) = (None::<Scan>, Load::default());
        for object in page.objects().iter().take(OBJECTS_LOOKED_AT_MAX) {
            load.add(&object);
            let Some(picture) = object.as_image_object() else { continue };
            let (Ok(width), Ok(height), Ok(bounds)) = (picture.width(), picture.height(), picture.bounds()) else {
                continue;
            };
            let pixels = u64::try_from(i64::from(width) * i64::from(height)).unwrap_or(0);
            if pixels > limits.pixels_max {
                return Err(Refusal::new(RefusalCode::TooManyPixels, "A picture in the PDF has too many pixels.")
                    .figures(format!("{} px", limits.pixels_max), format!("{pixels} px"))
                    .remedy("Make the PDF with smaller pictures."));
            }
            let area = f64::from(bounds.width().value) * f64::from(bounds.height().value);
            let found = Scan { width_px: width.into(), height_px: height.into(), area };
            let is_finer = scan.is_none_or(|scan| found.width_px * found.height_px > scan.width_px * scan.height_px);
            if pixels > 0 && area >= SCAN_COVERS * paper.width * paper.height && is_finer {
                scan = Some(found);
            }
        }
        let size = sized(paper, scan, limits)?;
        let per_inch = |pixels: u32, points: f64| f64::from(pixels) * POINTS_PER_INCH / points;
        let resolution =
            Resolution::stated(per_inch(size.width_px, paper.width), per_inch(size.height_px, paper.height));
        Ok(Sheet { size, resolution, load })
    }
}

impl Source for Pdf {
    fn pages_count(&self) -> usize {
        self.sheets.len()
    }

    fn facts(&mut self, number: usize) -> Result<PageFacts, Refusal> {
        let sheet = *self.sheets.get(number).ok_or_else(no_such_page)?;
        let drawn = row_bytes(sheet.size.width_px) as u64 * u64::from(sheet.size.height_px);
        Ok(PageFacts {
            stored: sheet.size,
            orientation: Orientation::Upright,
            layout: Layout::Rgb,
            has_icc: false,
            luma_at_decode: false,
            shrinks_at_decode: false,
            decoder_bytes: drawn + sheet.load.bytes(sheet.size.pixels()),
            resolution: sheet.resolution,
            is_shown_by_browsers: false,
        })
    }

    fn decode(&mut self, number: usize, _layout: Layout, _shrink: u32) -> Result<Decoded, Refusal> {
        let size = self.sheets.get(number).ok_or_else(no_such_page)?.size;
        let side = |side: u32| i32::try_from(side).map_err(|_| no_such_page());
        let config = PdfRenderConfig::new()
            .set_fixed_size(side(size.width_px)?, side(size.height_px)?)
            .set_format(PdfBitmapFormat::BGR)
            .limit_render_image_cache_size(true);
        let page = self.page(number)?;
        let drawn = page.render_with_config(&config).map_err(|_| damaged_page(number))?;
        let mut pixels = drawn.as_raw_bytes();
        let (wide, narrow) = (row_bytes(size.width_px), size.width_px as usize * 3);
        if pixels.len() != wide * size.height_px as usize {
            return Err(damaged_page(number));
        }
        // Rows are padded.
        for row in 1..size.height_px as usize {
            pixels.copy_within(row * wide..row * wide + narrow, row * narrow);
        }
        pixels.truncate(narrow * size.height_px as usize);
        let mut bitmap = Bitmap { size, layout: Layout::Rgb, pixels };
        if bitmap.pixels.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]) {
            bitmap.narrow(Layout::Gray, |pixel, out| out[0] = pixel[0]);
        }
        Ok(Decoded { bitmap, icc: None })
    }
}

/// How many pixels a page is drawn with.
fn sized(paper: Paper, scan: Option<Scan>, limits: &RunLimits) -> Result<Size, Refusal> {
    if let Some(size) = scan.and_then(|scan| of_scan(paper, scan)).filter(|size| fits(*size, limits)) {
        return Ok(size);
    }
    let at = |dpi: f64| Size::new(pixels(paper.width, dpi), pixels(paper.height, dpi));
    if let Some(size) = DPI.into_iter().map(at).find(|size| fits(*size, limits)) {
        return Ok(size);
    }
    let size = at(DPI[DPI.len() - 1]);
    let (most, found) = (limits.pixels_max, size.pixels());
    let side = size.width_px.max(size.height_px);
    let refusal = if found > most {
        Refusal::new(RefusalCode::TooManyPixels, "A page of the PDF is too large.")
            .figures(format!("{most} px"), format!("{found} px at {} dpi", DPI[DPI.len() - 1]))
    } else {
        Refusal::new(RefusalCode::SideTooLong, "A page of the PDF is too long.")
            .figures(format!("{} px", limits.side_px_max), format!("{side} px at {} dpi", DPI[DPI.len() - 1]))
    };
    Err(refusal.remedy("Make its pages smaller."))
}

/// The scan's own pixels, if it has the shape of its page, else its resolution.
fn of_scan(paper: Paper, scan: Scan) -> Option<Size> {
    let dpi = (scan.width_px * scan.height_px / scan.area).sqrt() * POINTS_PER_INCH;
    if !SCAN_DPI.contains(&dpi) {
        return None;
    }
    let is_whole = scan.area >= (1.0 - SHAPE_SLACK) * paper.width * paper.height;
    let is_like = |width: f64, height: f64| (width * paper.height / (height * paper.width) - 1.0).abs() < SHAPE_SLACK;
    if is_whole && is_like(scan.width_px, scan.height_px) {
        Some(Size::new(whole(scan.width_px), whole(scan.height_px)))
    } else if is_whole && is_like(scan.height_px, scan.width_px) {
        Some(Size::new(whole(scan.height_px), whole(scan.width_px)))
    } else {
        Some(Size::new(pixels(paper.width, dpi), pixels(paper.height, dpi)))
    }
}

fn fits(size: Size, limits: &RunLimits) -> bool {
    size.pixels() <= limits.pixels_max && size.width_px.max(size.height_px) <= limits.side_px_max
}

fn pixels(points: f64, dpi: f64) -> u32 {
    whole(points * dpi / POINTS_PER_INCH)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn whole(number: f64) -> u32 {
    (number.round() as u32).max(1)
}

/// PDFium begins rows at multiples of four bytes.
const fn row_bytes(width_px: u32) -> usize {
    (width_px as usize * 3).next_multiple_of(4)
}

/// PDFium mends what is cut off by leaving out what is missing: half a document that looks whole.
fn has_end(file: &mut File) -> bool {
    let read = |file: &mut File| {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES)))?;
        let mut end = Vec::new();
        file.take(END_BYTES).read_to_end(&mut end)?;
        file.seek(SeekFrom::Start(0))?;
        std::io::Result::Ok(end)
    };
    read(file).is_ok_and(|end| end.windows(5).any(|five| five == b"%%EOF"))
}

const fn is_xfa(form: PdfFormType) -> bool {
    matches!(form, PdfFormType::XfaFull | PdfFormType::XfaForeground)
}

fn unsupported_pdf(detail: &str) -> Refusal {
    unsupported(detail).remedy("Print it into another PDF, and send that.")
}

fn no_such_page() -> Refusal {
    malformed("The PDF has no such page.")
}

fn damaged_page(number: usize) -> Refusal {
    malformed(format!("Page {} of the PDF is damaged.", number + 1))
}

fn refusal(error: PdfiumError) -> Refusal {
    use PdfiumInternalError::{PasswordError, SecurityError};
    if matches!(error, PdfiumError::PdfiumLibraryInternalError(PasswordError)) {
        unsupported("The PDF opens with a password only.").remedy("Save it without one, and send that.")
    } else if matches!(error, PdfiumError::PdfiumLibraryInternalError(SecurityError)) {
        unsupported_pdf("The PDF is encrypted in a way that is not supported.")
    } else {
        malformed("The PDF is damaged.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RunLimits =
        RunLimits { pixels_max: 100_000_000, side_px_max: 16_384, pages_max: 200, memory_bytes_max: 2 << 30 };
    const A4: Paper = Paper { width: 595.2, height: 841.92 };

    fn scan(width_px: f64, height_px: f64, covers: f64) -> Option<Scan> {
        Some(Scan { width_px, height_px, area: A4.width * A4.height * covers })
    }

    #[test]
    fn a_scan_keeps_its_pixels_and_the_rest_is_drawn() {
        let size = |scan| sized(A4, scan, &LIMITS).unwrap();
        assert_eq!(size(None), Size::new(2480, 3508));
        assert_eq!(size(scan(1653.0, 2339.0, 1.0)), Size::new(1653, 2339));
        // Turned by the page.
        assert_eq!(size(scan(2339.0, 1653.0, 1.0)), Size::new(1653, 2339));
        // With a margin around it, and with pixels that are no squares.
        assert_eq!(size(scan(1500.0, 2100.0, 0.82)), Size::new(1648, 2331));
        // A background of a few pixels.
        assert_eq!(size(scan(10.0, 14.0, 1.0)), Size::new(2480, 3508));
        assert_eq!(size(scan(99_999.0, 99_999.0, 1.0)), Size::new(2480, 3508));
    }

    #[test]
    fn large_paper_is_drawn_with_fewer_dots_and_what_is_too_large_refused() {
        let size = |width, height| sized(Paper { width, height }, None, &LIMITS);
        // A0.
        assert_eq!(size(2383.94, 3370.39).unwrap(), Size::new(6622, 9362));
        let refused = size(14_400.0, 14_400.0).unwrap_err();
        assert_eq!(refused.code, RefusalCode::TooManyPixels);
        assert_eq!(refused.measured.as_deref(), Some("900000000 px at 150 dpi"));
        assert_eq!(size(14_400.0, 14.0).unwrap_err().code, RefusalCode::SideTooLong);
        assert_eq!(size(1e30, 1e30).unwrap_err().code, RefusalCode::TooManyPixels);
        assert_eq!(size(0.01, 0.01).unwrap(), Size::new(1, 1));
    }
}
