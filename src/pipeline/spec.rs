//! What is asked for: a preset with the user's overrides applied. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::job::{Refusal, RefusalCode};

/// `set` values of a request: key to value.
pub type Overrides = BTreeMap<String, String>;

/// What the network does with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denoise {
    /// Not at all.
    Off,
    /// [`Denoise::Keep`] where the page has coloured marks, else [`Denoise::Gray`].
    Auto,
    /// The page becomes gray and clean.
    Gray,
    /// Colours of marks stay, the paper turns white.
    Keep,
}

/// One file to make of each page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// File name, such as `clean.webp`.
    pub name: String,
    /// How it is encoded.
    pub format: OutputFormat,
    /// Its geometry.
    pub size: OutputSize,
}

/// How a file is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum OutputFormat {
    /// Lossless PNG.
    Png,
    /// Lossy WebP.
    Webp {
        /// Quality, 1 to 100.
        quality: u8,
    },
}

/// Geometry of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum OutputSize {
    /// As the upright page.
    Same,
    /// Shrunk to fit into a box; never enlarged.
    Fit {
        /// Box width, pixels.
        width_px: u32,
        /// Box height, pixels.
        height_px: u32,
    },
    /// Centred square crop that fills the side; the side is at most the shorter side of the page.
    Fill {
        /// Side, pixels.
        side_px: u32,
    },
}

/// One file of all pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PdfSpec {
    /// File name, such as `clean.pdf`.
    pub name: String,
    /// For which inputs it is made.
    pub when: PdfWhen,
    /// Resolution of pages whose input says none, dots per inch.
    pub dpi_default: u32,
}

/// For which inputs a PDF is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PdfWhen {
    /// For those of several pages.
    Auto,
    /// For all.
    On,
    /// For none.
    Off,
}

/// A preset with everything resolved: the whole of what a worker needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the preset.
    pub preset: String,
    /// What the network does.
    pub denoise: Denoise,
    /// Files to make of each page.
    pub outputs: Vec<OutputSpec>,
    /// File to make of all pages. Jobs of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdf: Option<PdfSpec>,
    /// Small picture of each page as it came in, where a browser can show no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<OutputSpec>,
}

impl Spec {
    /// The PDF that an input of so many pages gets.
    #[must_use]
    pub fn pdf_of(&self, pages_count: usize) -> Option<&PdfSpec> {
        self.pdf.as_ref().filter(|pdf| match pdf.when {
            PdfWhen::Auto => pages_count > 1,
            PdfWhen::On => true,
            PdfWhen::Off => false,
        })
    }
}

/// A named recipe, as it stands in `config/presets.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// `document`, `photo`, ….
    pub name: String,
    /// For people.
    pub title: String,
    /// What the network does unless asked otherwise.
    pub denoise: Denoise,
    /// Files to make of each page.
    pub outputs: Vec<OutputSpec>,
    /// File to make of all pages.
    #[serde(default)]
    pub pdf: Option<PdfSpec>,
    /// Small picture of each page as it came in.
    #[serde(default)]
    pub before: Option<OutputSpec>,
}

/// All presets of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Presets {
    /// In the order of the file; the first is the default.
    pub preset: Vec<Preset>,
}

/// What can be wrong with presets.
#[derive(Debug, thiserror::Error)]
pub enum PresetsError {
    /// No TOML, or a key of the wrong type.
    #[error("presets: {0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// A value that breaks a rule.
    #[error("preset `{preset}`: {rule}")]
    Rule {
        /// Its name.
        preset: String,
        /// What must hold.
        rule: &'static str,
    },
}

/// The presets that the program carries.
const BUILTIN: &str = include_str!("../../config/presets.toml");
/// A page of a browser shows few; each costs an entry in every list.
const PRESETS_MAX: usize = 64;
/// Each file costs a resize and an encode of every page; 200 pages of 16 files still fit into one frame to the slot.
const OUTPUTS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 64;
/// WebP knows no longer side, pixels.
pub const WEBP_SIDE_PX_MAX: u32 = 16_383;
/// Resolutions that a scanner may have, dots per inch: what says less or more does not know.
pub const DPI_MIN: u32 = 50;
/// See [`DPI_MIN`].
pub const DPI_MAX: u32 = 2_400;
/// Names that files beside the outputs have.
const NAMES_TAKEN: [&str; 2] = ["original", "manifest.json"];

impl OutputFormat {
    /// Media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp { .. } => "image/webp",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Png => ".png",
            Self::Webp { .. } => ".webp",
        }
    }
}

impl Denoise {
    const ALL: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("off", Self::Off), ("gray", Self::Gray), ("keep", Self::Keep)];
}

impl PdfWhen {
    const ALL: [(&'static str, Self); 3] = [("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

impl Preset {
    /// Names of the files of the first page and of all pages together, without `before`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let of_pages = self.outputs.iter().map(|output| output.name.as_str());
        of_pages.chain(self.pdf.as_ref().map(|pdf| pdf.name.as_str()))
    }

    /// Steps that a page passes, in order.
    #[must_use]
    pub fn steps(&self) -> Vec<&'static str> {
        let all = ["decode", "colour", "orient", "denoise", "gate", "resize", "encode", "bind", "manifest"];
        let is_passed = |step: &&str| match *step {
            "denoise" | "gate" => self.denoise != Denoise::Off,
            "bind" => self.pdf.is_some(),
            _ => true,
        };
        all.into_iter().filter(is_passed).collect()
    }

    fn broken_rule(&self) -> Option<&'static str> {
        let pictures = || self.outputs.iter().chain(&self.before);
        let before = self.before.as_ref().map(|before| before.name.as_str());
        let names: Vec<&str> = self.names().chain(before).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        let sizes_hold = pictures().all(|output| match output.size {
            OutputSize::Same => true,
            OutputSize::Fit { width_px, height_px } => side_holds(width_px) && side_holds(height_px),
            OutputSize::Fill { side_px } => side_holds(side_px),
        });
        let qualities_hold = pictures().all(|output| match output.format {
            OutputFormat::Png => true,
            OutputFormat::Webp { quality } => (1..=100).contains(&quality),
        });
        let rules = [
            (
                is_plain_name(&self.name),
                "its name must be of a-z, 0-9, `-`, `_`, `.`, and begin with a letter or digit",
            ),
            (!self.outputs.is_empty() && self.outputs.len() <= OUTPUTS_MAX, "it must have 1 to 16 outputs"),
            (distinct.len() == names.len(), "its output names must differ"),
            (names.iter().all(|name| is_plain_name(name)), "an output name must be of a-z, 0-9, `-`, `_`, `.`"),
            (names.iter().all(|name| !NAMES_TAKEN.contains(name)), "`original` and `manifest.json` are taken"),
            (
                pictures().all(|o| o.name.ends_with(o.format.extension()))
                    && self.pdf.as_ref().is_none_or(|pdf| pdf.name.ends_with(".pdf")),
                "an output name must end as its format",
            ),
            (
                self.pdf.as_ref().is_none_or(|pdf| (DPI_MIN..=DPI_MAX).contains(&pdf.dpi_default)),
                "dpi_default must be 50 to 2400",
            ),
            (sizes_hold, "a side must be 1 to 16383 px"),
            (qualities_hold, "a quality must be 1 to 100"),
        ];
        rules.into_iter().find(|rule| !rule.0).map(|rule| rule.1)
    }
}

fn side_holds(side_px: u32) -> bool {
    (1..=WEBP_SIDE_PX_MAX).contains(&side_px)
}

/// Whether a name can be a file of its own: no separator, no hidden file, nothing that a shell or URL would read.
fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain)
}

impl Presets {
    /// The presets that the program carries.
    ///
    /// # Errors
    /// [`PresetsError`], which a test excludes.
    pub fn builtin() -> Result<Self, PresetsError> {
        Self::parse(BUILTIN)
    }

    /// Presets of a TOML text in the form of `config/presets.toml`.
    ///
    /// # Errors
    /// [`PresetsError`] naming the preset and the rule.
    pub fn parse(text: &str) -> Result<Self, PresetsError> {
        let presets: Self = toml::from_str(text).map_err(Box::new)?;
        let broken = |preset: &str, rule| Err(PresetsError::Rule { preset: preset.to_owned(), rule });
        if presets.preset.is_empty() || presets.preset.len() > PRESETS_MAX {
            return broken("", "there must be 1 to 64 presets");
        }
        let distinct: BTreeSet<&str> = presets.names().collect();
        if distinct.len() != presets.preset.len() {
            return broken("", "preset names must differ");
        }
        match presets.preset.iter().find_map(|preset| Some((preset, preset.broken_rule()?))) {
            Some((preset, rule)) => broken(&preset.name, rule),
            None => Ok(presets),
        }
    }

    /// Names in order; the first is the default.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.preset.iter().map(|preset| preset.name.as_str())
    }

    /// The spec for a preset and overrides. An empty name means the first preset.
    ///
    /// Overrides: `denoise` = `auto`, `off`, `gray` or `keep`; `quality` = 1 to 100, for every WebP of the preset; `pdf` =
    /// `auto`, `on` or `off`, for presets that make one.
    ///
    /// # Errors
    /// [`RefusalCode::UnknownPreset`] or [`RefusalCode::InvalidSetting`], with what is allowed as the remedy.
    pub fn resolve(&self, name: &str, set: &Overrides) -> Result<Spec, Refusal> {
        let found = if name.is_empty() { self.preset.first() } else { self.preset.iter().find(|p| p.name == name) };
        let preset = found.ok_or_else(|| {
            let allowed = self.names().collect::<Vec<_>>().join(", ");
            Refusal::new(RefusalCode::UnknownPreset, format!("There is no preset `{}`.", shown(name)))
                .remedy(format!("Choose one of: {allowed}."))
        })?;
        let Preset { name, denoise, outputs, pdf, before, .. } = preset.clone();
        let mut spec = Spec { preset: name, denoise, outputs, pdf, before };
        for (key, value) in set {
            apply(&mut spec, key, value)?;
        }
        Ok(spec)
    }
}

fn apply(spec: &mut Spec, key: &str, value: &str) -> Result<(), Refusal> {
    match key {
        "denoise" => {
            let mode = Denoise::ALL.into_iter().find(|(name, _)| *name == value);
            spec.denoise = mode.ok_or_else(|| invalid(key, value, "denoise is auto, off, gray or keep."))?.1;
        }
        "quality" => {
            let parsed = value.parse::<u8>().ok().filter(|quality| (1..=100).contains(quality));
            let quality = parsed.ok_or_else(|| invalid(key, value, "quality is a whole number, 1 to 100."))?;
            for output in &mut spec.outputs {
                if let OutputFormat::Webp { quality: old } = &mut output.format {
                    *old = quality;
                }
            }
        }
        "pdf" => {
            let when = PdfWhen::ALL.into_iter().find(|(name, _)| *name == value);
            let when = when.ok_or_else(|| invalid(key, value, "pdf is auto, on or off."))?.1;
            let pdf = spec.pdf.as_mut().ok_or_else(|| invalid(key, value, "This preset makes no PDF."))?;
            pdf.when = when;
        }
        _ => return Err(invalid(key, value, "Settings are denoise, quality and pdf.")),
    }
    Ok(())
}

fn invalid(key: &str, value: &str, allowed: &str) -> Refusal {
    let detail = format!("`{}={}` is no setting of a preset.", shown(key), shown(value));
    Refusal::new(RefusalCode::InvalidSetting, detail).remedy(allowed)
}

/// What a stranger sent, short and without control characters, for a message.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn builtin_presets_make_the_files_of_the_interface() {
        let presets = Presets::builtin().unwrap();
        assert_eq!(presets.names().collect::<Vec<_>>(), ["document", "photo"]);
        let document = presets.resolve("", &set(&[])).unwrap();
        assert_eq!(document.denoise, Denoise::Auto);
        let names = |spec: &Spec| spec.outputs.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&document), ["clean.png", "clean.webp", "thumb.webp"]);
        let photo = presets.resolve("photo", &set(&[])).unwrap();
        let binding = |spec: &Spec| [0, 1, 2].map(|pages| spec.pdf_of(pages).map(|pdf| pdf.name.clone()));
        assert_eq!(binding(&document), [None, None, Some("clean.pdf".to_owned())]);
        assert_eq!(binding(&photo), [None, None, None]);
        assert_eq!(names(&photo), ["full.webp", "crop.webp", "thumb.webp"]);
        assert_eq!(photo.denoise, Denoise::Off);
        assert_eq!(photo.outputs[1].size, OutputSize::Fill { side_px: 512 });
    }

    #[test]
    fn overrides_change_what_they_name_and_nothing_else() {
        let presets = Presets::builtin().unwrap();
        let spec = presets.resolve("document", &set(&[("denoise", "keep"), ("quality", "55")])).unwrap();
        assert_eq!(spec.denoise, Denoise::Keep);
        assert_eq!(spec.outputs[0].format, OutputFormat::Png);
        assert_eq!(spec.outputs[1].format, OutputFormat::Webp { quality: 55 });
    }

    #[test]
    fn a_pdf_can_be_asked_for_and_left_out() {
        let presets = Presets::builtin().unwrap();
        let pages =
            |value, pages| presets.resolve("document", &set(&[("pdf", value)])).unwrap().pdf_of(pages).is_some();
        assert!(pages("on", 1) && pages("on", 2) && pages("auto", 2));
        assert!(!pages("auto", 1) && !pages("off", 2));
        let refusal = presets.resolve("photo", &set(&[("pdf", "on")])).unwrap_err();
        assert_eq!(refusal.remedy.as_deref(), Some("This preset makes no PDF."));
        // What earlier versions wrote into the ledger.
        let mut spec = serde_json::to_value(presets.resolve("document", &set(&[])).unwrap()).unwrap();
        spec.as_object_mut().unwrap().retain(|key, _| key != "pdf" && key != "before");
        assert_eq!(serde_json::from_value::<Spec>(spec).unwrap().pdf_of(2), None);
    }

    #[test]
    fn refusals_name_what_is_allowed() {
        let presets = Presets::builtin().unwrap();
        let unknown = presets.resolve("scan\r\n", &set(&[])).unwrap_err();
        assert_eq!(unknown.code, RefusalCode::UnknownPreset);
        assert_eq!(unknown.detail, "There is no preset `scan`.");
        assert_eq!(unknown.remedy.as_deref(), Some("Choose one of: document, photo."));
        for (key, value) in
            [("quality", "0"), ("quality", "101"), ("quality", "8.5"), ("denoise", "ON"), ("size", "9"), ("pdf", "yes")]
        {
            let refusal = presets.resolve("photo", &set(&[(key, value)])).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::InvalidSetting, "{key}={value}");
            assert!(refusal.remedy.is_some());
        }
    }

    #[test]
    fn presets_that_break_a_rule_are_not_taken() {
        let with = |from: &str, to: &str| Presets::parse(&BUILTIN.replacen(from, to, 1));
        assert!(with("\"clean.png\"", "\"../clean.png\"").is_err());
        assert!(with("\"clean.png\"", "\"clean.webp\"").is_err());
        assert!(with("\"clean.png\"", "\".png\"").is_err());
        assert!(with("quality = 80", "quality = 0").is_err());
        assert!(with("width_px = 320", "width_px = 0").is_err());
        assert!(with("\"clean.pdf\"", "\"clean.png\"").is_err());
        assert!(with("\"clean.pdf\"", "\"clean.ps\"").is_err());
        assert!(with("dpi_default = 300", "dpi_default = 0").is_err());
        assert!(with("name = \"photo\"", "name = \"document\"").is_err());
        assert!(Presets::parse("preset = []").is_err());
    }
}
