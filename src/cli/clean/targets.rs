//! Where results go. All places are chosen before the work begins, so that no two inputs share one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::cli::inputs::{Input, names};
use crate::pipeline::spec::{OutputFormat, OutputSize, PdfWhen, Spec};

/// One image and where its results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The image.
    pub input: Input,
    /// Where to.
    pub target: Target,
}

/// Where the results of one image go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One output of each page: `base` + `.p0002` (not for the first page) + `ending`.
    Main {
        /// Which output, such as `clean.png`.
        output: String,
        /// Path up to the ending.
        base: PathBuf,
        /// `.clean.png`, `.png`.
        ending: String,
    },
    /// All files, below this folder.
    Folder(PathBuf),
}

impl Target {
    /// Where a file goes, if it is wanted.
    pub fn place(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder.join(name)),
            Self::Main { output, base, ending } => {
                let (page, name) = name.split_once('/').map_or((None, name), |(page, name)| (Some(page), name));
                if name != output {
                    return None;
                }
                let page = page.map_or_else(String::new, |page| format!(".{page}"));
                Some(append(base, &format!("{page}{ending}")))
            }
        }
    }

    /// The part of `spec` whose files are wanted.
    pub fn narrow(&self, spec: &Spec) -> Spec {
        let mut narrow = spec.clone();
        narrow.outputs.retain(|output| self.place(&output.name).is_some());
        narrow.pdf = narrow.pdf.filter(|pdf| self.place(&pdf.name).is_some());
        // Who asks for this one file gets it, whatever the input.
        if let (Self::Main { .. }, Some(pdf)) = (self, &mut narrow.pdf) {
            pdf.when = PdfWhen::On;
        }
        // For the page of a server.
        narrow.before = None;
        narrow
    }

    /// What is written for the first page, for a check before the work.
    pub fn first(&self, spec: &Spec) -> Vec<PathBuf> {
        let pdf = spec.pdf.as_ref().filter(|pdf| matches!(self, Self::Main { .. }) || pdf.when == PdfWhen::On);
        let names = spec.outputs.iter().map(|output| &output.name).chain(pdf.map(|pdf| &pdf.name));
        names.filter_map(|name| self.place(name)).collect()
    }
}

/// Gives every input its place. `many` says that `output` must be a folder.
pub fn assign(inputs: Vec<Input>, output: Option<&Path>, many: bool, spec: &Spec) -> Result<Vec<Job>, String> {
    let names = names(&inputs);
    let jobs: Result<Vec<Job>, String> = match output {
        None => inputs.into_iter().zip(names).map(|(input, name)| beside(input, &name, spec)).collect(),
        Some(folder) if many || folder.is_dir() || folder.as_os_str().as_encoded_bytes().ends_with(b"/") => Ok(inputs
            .into_iter()
            .zip(names)
            .map(|(input, name)| Job { target: Target::Folder(folder.join(name)), input })
            .collect()),
        Some(file) => {
            let target = named(file, spec)?;
            Ok(inputs.into_iter().map(|input| Job { input, target: target.clone() }).collect())
        }
    };
    distinct(jobs?)
}

fn beside(input: Input, name: &Path, spec: &Spec) -> Result<Job, String> {
    let main = spec.outputs.first().ok_or("the preset makes no files")?;
    let path = input.path.as_ref().ok_or("say with -o where the result of standard input goes")?;
    let base = path.with_file_name(name.file_name().unwrap_or(OsStr::new("page")));
    let target = Target::Main { output: main.name.clone(), base, ending: format!(".{}", main.name) };
    Ok(Job { input, target })
}

fn named(file: &Path, spec: &Spec) -> Result<Target, String> {
    let ending = file.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
    let whole = spec.outputs.iter().filter(|output| output.size == OutputSize::Same);
    let pdf = spec.pdf.iter().map(|pdf| (&pdf.name, "pdf"));
    let named: Vec<(&String, &str)> = whole.map(|output| (&output.name, extension(output.format))).chain(pdf).collect();
    let Some((output, _)) = named.iter().find(|(_, known)| *known == ending) else {
        let endings: Vec<String> = named.iter().map(|(_, known)| format!(".{known}")).collect();
        let endings = endings.join(" or ");
        let preset = &spec.preset;
        return Err(format!(
            "{}: the preset {preset} makes {endings}; for a folder, end its name with /",
            file.display()
        ));
    };
    let ending = file.extension().and_then(OsStr::to_str).unwrap_or_default();
    Ok(Target::Main { output: (*output).clone(), base: file.with_extension(""), ending: format!(".{ending}") })
}

const fn extension(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::Png => "png",
        OutputFormat::Webp { .. } => "webp",
    }
}

fn distinct(jobs: Vec<Job>) -> Result<Vec<Job>, String> {
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    for job in &jobs {
        let place = match &job.target {
            Target::Folder(folder) => folder.clone(),
            Target::Main { base, ending, .. } => append(base, ending),
        };
        if let Some(other) = taken.insert(place.clone(), job.input.shown()) {
            let (this, place) = (job.input.shown(), place.display());
            return Err(format!("{other} and {this} would both be written to {place}"));
        }
    }
    Ok(jobs)
}

fn append(base: &Path, ending: &str) -> PathBuf {
    let mut whole: OsString = base.as_os_str().to_owned();
    whole.push(ending);
    PathBuf::from(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::spec::Presets;

    fn spec(preset: &str) -> Spec {
        Presets::builtin().unwrap().resolve(preset, &Default::default()).unwrap()
    }

    fn inputs(paths: &[&str]) -> Vec<Input> {
        let input = |path: &&str| Input {
            path: Some(PathBuf::from(path)),
            below: PathBuf::from(path).file_name().map(PathBuf::from).unwrap(),
        };
        paths.iter().map(input).collect()
    }

    fn place(job: &Job, name: &str) -> String {
        job.target.place(name).unwrap().display().to_string()
    }

    #[test]
    fn without_an_output_the_main_file_goes_beside_the_input() {
        let jobs = assign(inputs(&["scans/page.v2.png"]), None, false, &spec("document")).unwrap();
        assert_eq!(place(&jobs[0], "clean.png"), "scans/page.v2.clean.png");
        assert_eq!(place(&jobs[0], "p0002/clean.png"), "scans/page.v2.p0002.clean.png");
        assert_eq!(jobs[0].target.place("thumb.webp"), None);
        let jobs = assign(inputs(&["a.jpg"]), None, false, &spec("photo")).unwrap();
        assert_eq!(place(&jobs[0], "full.webp"), "a.full.webp");
    }

    #[test]
    fn inputs_that_differ_in_their_ending_keep_it() {
        let jobs = assign(inputs(&["a/page.png", "a/page.jpg", "b/page.tif"]), None, true, &spec("document")).unwrap();
        let places: Vec<_> = jobs.iter().map(|job| place(job, "clean.png")).collect();
        assert_eq!(places, ["a/page.png.clean.png", "a/page.jpg.clean.png", "b/page.clean.png"]);
    }

    #[test]
    fn a_file_is_chosen_by_its_ending() {
        let target = |file: &str, preset: &str| {
            let jobs = assign(inputs(&["page.tif"]), Some(Path::new(file)), false, &spec(preset))?;
            let Target::Main { output, .. } = &jobs[0].target else { return Err("a folder".to_owned()) };
            Ok((output.clone(), place(&jobs[0], output), place(&jobs[0], &format!("p0003/{output}"))))
        };
        let all = |a: &str, b: &str, c: &str| Ok((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(target("o/x.PNG", "document"), all("clean.png", "o/x.PNG", "o/x.p0003.PNG"));
        assert_eq!(target("x.webp", "document"), all("clean.webp", "x.webp", "x.p0003.webp"));
        assert_eq!(target("x.webp", "photo"), all("full.webp", "x.webp", "x.p0003.webp"));
        assert!(target("x.png", "photo").unwrap_err().contains("makes .webp"));
        assert!(target("folder", "document").unwrap_err().contains("end its name with /"));
        assert_eq!(target("folder/", "document").unwrap_err(), "a folder");
    }

    #[test]
    fn a_folder_gets_everything() {
        let jobs = assign(inputs(&["a/x.png", "b/y.png"]), Some(Path::new("out")), true, &spec("document")).unwrap();
        assert_eq!(place(&jobs[1], "p0002/thumb.webp"), "out/y/p0002/thumb.webp");
        assert_eq!(place(&jobs[0], "manifest.json"), "out/x/manifest.json");
    }

    #[test]
    fn only_what_is_wanted_is_made() {
        let spec = spec("document");
        let names = |file: &str| {
            let jobs = assign(inputs(&["page.tif"]), Some(Path::new(file)), false, &spec).unwrap();
            jobs[0].target.narrow(&spec).outputs.into_iter().map(|output| output.name).collect::<Vec<_>>()
        };
        let bound = |file: &str| {
            let jobs = assign(inputs(&["page.tif"]), Some(Path::new(file)), false, &spec).unwrap();
            let narrow = jobs[0].target.narrow(&spec);
            (narrow.outputs.len(), narrow.pdf_of(1).is_some(), narrow.pdf_of(2).is_some(), narrow.before.is_some())
        };
        assert_eq!(bound("x.pdf"), (0, true, true, false));
        assert_eq!(bound("x.png"), (1, false, false, false));
        assert_eq!(bound("folder/"), (3, false, true, false));
        assert_eq!(names("x.webp"), ["clean.webp"]);
        assert_eq!(names("folder/").len(), 3);
    }

    #[test]
    fn two_inputs_never_share_a_place() {
        let error = assign(inputs(&["a/x.png", "b/x.png"]), Some(Path::new("out")), true, &spec("document"));
        assert_eq!(error.unwrap_err(), "a/x.png and b/x.png would both be written to out/x");
        assert!(assign(inputs(&["x.png", "x.png"]), None, true, &spec("document")).is_err());
    }
}
