//! What PDFium holds while it draws a page, beside the page itself; told from the page's objects, before anything is drawn.
//! Measured by `tests/pdf_scans.rs`, which holds each figure against documents that need most.

use pdfium_render::prelude::{PdfPageImageObject, PdfPageObject, PdfPageObjectCommon};

/// Objects of a page that are looked at, those within forms included: what is drawn large stands first.
pub const OBJECTS_LOOKED_AT_MAX: usize = 10_000;
/// Forms within forms that are looked at; so deep does PDFium draw them.
const FORMS_DEEP_MAX: u32 = 12;
/// What PDFium holds beside pictures and layers: fonts, paths, the parts of the document that it has read; measured 20 MB for
/// pages of text with embedded fonts.
const PDFIUM_BYTES: u64 = 64 << 20;
/// For each pixel of a picture while it is drawn: as stored, decoded, and with its opacity, if it has one, which is not told
/// beforehand. 2 were measured without, 8.3 with.
const PICTURE_BYTES_PER_PIXEL: u64 = 12;
/// The same in JPEG 2000, whose reader holds samples as 32-bit numbers: 16 were measured, 26 with opacity inside of it.
const JPEG2000_BYTES_PER_PIXEL: u64 = 25;
/// For each pixel of a further picture, of which PDFium keeps a few for when they come again: 12 were measured.
const KEPT_PICTURE_BYTES_PER_PIXEL: u64 = 12;
/// For each pixel of a page with something transparent on it, drawn apart and then laid over the rest: 10.4 were measured with
/// one layer, 26.4 with six within each other…
const TRANSPARENT_BYTES_PER_PIXEL: u64 = 10;
/// …which is red, green, blue and opacity, for each layer within another.
const LAYER_BYTES_PER_PIXEL: u64 = 4;

/// What a page asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    objects: usize,
    layers: u32,
    heaviest_bytes: u64,
    largest_pixels: u64,
    second_pixels: u64,
}

impl Load {
    /// Adds an object that stands on the page itself, with everything in it.
    pub fn add(&mut self, object: &PdfPageObject<'_>) {
        self.add_within(object, 0, 0);
    }

    fn add_within(&mut self, object: &PdfPageObject<'_>, layers: u32, forms: u32) {
        self.objects += 1;
        let layers = layers + u32::from(object.has_transparency());
        self.layers = self.layers.max(layers);
        if let Some(picture) = object.as_image_object() {
            self.add_picture(picture);
        }
        let Some(form) = object.as_x_object_form_object().filter(|_| forms < FORMS_DEEP_MAX) else { return };
        for index in form.as_range() {
            if self.objects >= OBJECTS_LOOKED_AT_MAX {
                return;
            }
            if let Ok(inner) = form.get(index) {
                self.add_within(&inner, layers, forms + 1);
            }
        }
    }

    fn add_picture(&mut self, picture: &PdfPageImageObject<'_>) {
        let (Ok(width), Ok(height)) = (picture.width(), picture.height()) else { return };
        let pixels = u64::try_from(i64::from(width) * i64::from(height)).unwrap_or(0);
        let is_jpeg2000 = picture.filters().iter().any(|filter| filter.name() == "JPXDecode");
        let each = if is_jpeg2000 { JPEG2000_BYTES_PER_PIXEL } else { PICTURE_BYTES_PER_PIXEL };
        self.heaviest_bytes = self.heaviest_bytes.max(pixels.saturating_mul(each));
        let (larger, smaller) = (self.largest_pixels.max(pixels), self.largest_pixels.min(pixels));
        (self.largest_pixels, self.second_pixels) = (larger, self.second_pixels.max(smaller));
    }

    /// All of it, for a page of so many pixels.
    #[must_use]
    pub fn bytes(&self, page_pixels: u64) -> u64 {
        let layers = match self.layers {
            0 => 0,
            layers => TRANSPARENT_BYTES_PER_PIXEL + LAYER_BYTES_PER_PIXEL * u64::from(layers),
        };
        let kept = self.second_pixels.saturating_mul(KEPT_PICTURE_BYTES_PER_PIXEL);
        PDFIUM_BYTES.saturating_add(self.heaviest_bytes).saturating_add(kept).saturating_add(page_pixels * layers)
    }
}
