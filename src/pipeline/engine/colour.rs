//! ICC profiles and ink become sRGB.

use moxcms::{ColorProfile, DataColorSpace, Layout as Samples, Transform8BitExecutor, TransformOptions};
use std::sync::Arc;

use super::bitmap::{Bitmap, byte};
use crate::pipeline::plan::Layout;

/// Rows converted at once, so that the buffer stays small, pixels.
const CHUNK_PX: usize = 16_384;
/// Steps of each colour at which a profile is compared with sRGB: 0, 51, …, 255.
const PROBE_STEP: usize = 51;

/// Whether applying the profile would change anything: most photos carry sRGB.
#[must_use]
pub fn is_needed(icc: Option<&[u8]>) -> bool {
    let profile = icc.and_then(|icc| ColorProfile::new_from_slice(icc).ok());
    profile.is_some_and(|profile| {
        let is_rgb = profile.color_space == DataColorSpace::Rgb;
        let unchanged = || transform(&profile, Samples::Rgb, Samples::Rgb).is_none_or(|t| is_identity(t.as_ref(), 3));
        !(is_rgb && unchanged())
    })
}

/// Applies the profile; one that does not fit the pixels or is damaged is left out, as browsers do. Ink becomes colour in
/// any case.
pub fn to_srgb(bitmap: &mut Bitmap, icc: Option<&[u8]>) {
    let profile = icc.and_then(|icc| ColorProfile::new_from_slice(icc).ok());
    let fits = |space| profile.as_ref().filter(|profile| profile.color_space == space);
    match bitmap.layout {
        Layout::Gray => {
            if let Some(profile) = fits(DataColorSpace::Gray) {
                gray(bitmap, profile);
            }
        }
        Layout::Rgb => {
            if let Some(transform) = fits(DataColorSpace::Rgb).and_then(|p| transform(p, Samples::Rgb, Samples::Rgb)) {
                same_size(bitmap, transform.as_ref());
            }
        }
        Layout::Rgba => {
            if let Some(transform) = fits(DataColorSpace::Rgb).and_then(|p| transform(p, Samples::Rgba, Samples::Rgba))
            {
                same_size(bitmap, transform.as_ref());
            }
        }
        Layout::Cmyk => {
            let transform = fits(DataColorSpace::Cmyk).and_then(|p| transform(p, Samples::Rgba, Samples::Rgb));
            ink(bitmap, transform.as_deref());
        }
    }
}

type Transform = dyn moxcms::TransformExecutor<u8> + Send + Sync;

fn transform(profile: &ColorProfile, from: Samples, to: Samples) -> Option<Arc<Transform8BitExecutor>> {
    let srgb = ColorProfile::new_srgb();
    profile.create_transform_8bit(from, &srgb, to, TransformOptions::default()).ok()
}

/// A gray profile is a curve: 256 levels say all of it.
fn gray(bitmap: &mut Bitmap, profile: &ColorProfile) {
    let levels: Vec<u8> = (0..=255).collect();
    let mut colours = vec![0u8; 768];
    let curve = transform(profile, Samples::Gray, Samples::Rgb);
    if curve.is_some_and(|curve| curve.transform(&levels, &mut colours).is_ok()) {
        for level in &mut bitmap.pixels {
            *level = colours[usize::from(*level) * 3 + 1];
        }
    }
}

/// Red, green and blue, with or without opacity.
fn same_size(bitmap: &mut Bitmap, transform: &Transform) {
    let mut converted = vec![0u8; CHUNK_PX * bitmap.pixel_bytes()];
    for chunk in bitmap.pixels.chunks_mut(converted.len()) {
        let converted = &mut converted[..chunk.len()];
        if transform.transform(chunk, converted).is_ok() {
            chunk.copy_from_slice(converted);
        }
    }
}

/// A grid of colours tells at the price of a row.
fn is_identity(transform: &Transform, pixel_bytes: usize) -> bool {
    let levels = || (0..=255u8).step_by(PROBE_STEP);
    let colours = levels().flat_map(|r| levels().flat_map(move |g| levels().map(move |b| [r, g, b, 255])));
    let grid: Vec<u8> = colours.flat_map(|colour| colour.into_iter().take(pixel_bytes)).collect();
    let mut converted = vec![0u8; grid.len()];
    transform.transform(&grid, &mut converted).is_ok()
        && grid.iter().zip(&converted).all(|(before, after)| before.abs_diff(*after) <= 1)
}

/// Four inks become three colours, in place: what is written never overtakes what is still to be read.
fn ink(bitmap: &mut Bitmap, transform: Option<&Transform>) {
    let Some(transform) = transform else {
        // Without a profile: each ink takes its part of the light away.
        bitmap.narrow(Layout::Rgb, |ink, out| {
            let light = 255 - u32::from(ink[3]);
            for (ink, out) in ink.iter().zip(out) {
                *out = byte(((255 - u32::from(*ink)) * light + 127) / 255);
            }
        });
        return;
    };
    let pixels = bitmap.pixels.len() / 4;
    let mut converted = vec![0u8; CHUNK_PX * 3];
    for first in (0..pixels).step_by(CHUNK_PX) {
        let count = CHUNK_PX.min(pixels - first);
        let target = &mut converted[..count * 3];
        if transform.transform(&bitmap.pixels[first * 4..(first + count) * 4], target).is_err() {
            return ink(bitmap, None);
        }
        bitmap.pixels[first * 3..(first + count) * 3].copy_from_slice(target);
    }
    bitmap.pixels.truncate(pixels * 3);
    bitmap.pixels.shrink_to_fit();
    bitmap.layout = Layout::Rgb;
}
