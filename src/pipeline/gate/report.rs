//! The verdict on a whole input, as it stands in the job, the manifest and the answers of the command line.

use serde::{Deserialize, Serialize};

use super::thresholds::{REGIONS_MAX, REPORT_REGIONS_MAX};
use super::verdict::{Harm, Judgement, Region, Verdict};

/// The verdict on an input. Counts are sums over its pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// The worst of its pages.
    pub verdict: Verdict,
    /// What speaks against any of them.
    pub harms: Vec<Harm>,
    /// Pages to look at, from 1: cleaned, with something that speaks against it.
    pub pages_review: Vec<u32>,
    /// Pages that are left as they were.
    pub pages_kept_original: Vec<u32>,
    /// Share of the ink that is still there, 0 to 1; 1 where there was none.
    pub ink_recall: f32,
    /// Strokes of the pages: connected components of ink.
    pub strokes: u64,
    /// Strokes, or parts of strokes, that cleaning took.
    pub strokes_lost: u64,
    /// Ink that cleaning put on blank paper, pixels.
    pub ink_gained_px: u64,
    /// Root mean square change of pages that were clean already, 0 to 1; `null` if none was.
    pub clean_change: Option<f32>,
    /// Where to look, page by page, the worst of each page first.
    pub regions: Vec<Region>,
    /// Whether there are more regions than these.
    pub more_regions: bool,
}

/// The verdict on one page, as the manifest tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PageReport {
    /// From 1.
    pub page: u32,
    /// What became of it.
    pub verdict: Verdict,
    /// Why.
    pub harms: Vec<Harm>,
    /// What was counted.
    #[serde(flatten)]
    pub figures: super::Figures,
    /// Where to look.
    pub regions: Vec<Region>,
}

impl PageReport {
    /// Of the judgement on page `page`.
    #[must_use]
    pub fn of(page: u32, judgement: Judgement) -> Self {
        let Judgement { verdict, harms, figures, regions } = judgement;
        Self { page, verdict, harms, figures, regions }
    }
}

impl Report {
    /// Sums pages up; `None` without any.
    #[must_use]
    pub fn of(pages: &[PageReport]) -> Option<Self> {
        let verdict = pages.iter().map(|page| page.verdict).max()?;
        let mut harms: Vec<Harm> = pages.iter().flat_map(|page| page.harms.iter().copied()).collect();
        harms.sort_unstable();
        harms.dedup();
        let with = |verdict| pages.iter().filter(move |page| page.verdict == verdict).map(|page| page.page).collect();
        let sum = |count: fn(&PageReport) -> u64| pages.iter().map(count).sum::<u64>();
        let (ink, lost) = (sum(|page| page.figures.ink_px), sum(|page| page.figures.ink_lost_px));
        let regions: Vec<Region> = pages.iter().flat_map(|page| page.regions.iter().copied()).collect();
        let change = pages.iter().filter_map(|page| page.figures.clean_change_permille).max();
        Some(Self {
            verdict,
            harms,
            pages_review: with(Verdict::Review),
            pages_kept_original: with(Verdict::KeptOriginal),
            ink_recall: share(ink - lost.min(ink), ink),
            strokes: sum(|page| page.figures.strokes.into()),
            strokes_lost: sum(|page| page.figures.strokes_lost.into()),
            ink_gained_px: sum(|page| page.figures.ink_gained_px),
            clean_change: change.map(|permille| share(permille.into(), 1000)),
            more_regions: regions.len() > REPORT_REGIONS_MAX
                || pages.iter().any(|page| page.regions.len() == REGIONS_MAX),
            regions: regions.into_iter().take(REPORT_REGIONS_MAX).collect(),
        })
    }

    /// Cuts what a worker, which is not believed, may have made longer than it can be.
    pub fn cut(&mut self, pages_max: u32) {
        let pages = usize::try_from(pages_max).unwrap_or(usize::MAX);
        self.pages_review.truncate(pages);
        self.pages_kept_original.truncate(pages);
        self.harms.truncate(Harm::COUNT);
        self.regions.truncate(REPORT_REGIONS_MAX);
    }

    /// One sentence for people; `None` where there is nothing to say.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let why = self.harms.iter().map(|harm| harm.words()).collect::<Vec<_>>().join(", ");
        match self.verdict {
            Verdict::Clean => None,
            Verdict::Review => Some(format!("look at it: {why}")),
            Verdict::KeptOriginal => Some(format!("left as it was: {why}")),
        }
    }
}

/// A share, rounded to four digits.
fn share(part: u64, whole: u64) -> f32 {
    let digits = (part * 10_000 + whole / 2).checked_div(whole).unwrap_or(10_000);
    f32::from(u16::try_from(digits.min(10_000)).unwrap_or(0)) / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::super::Figures;
    use super::*;

    #[test]
    fn the_worst_page_counts_and_pages_are_named() {
        let page = |page: u32, verdict, harms: &[Harm], lost| {
            let figures = Figures { ink_px: 1000, ink_lost_px: lost, strokes: 10, ..Figures::default() };
            let region = Region { page, harm: Harm::StrokesLost, left_px: 0, top_px: 0, width_px: 64, height_px: 64 };
            let regions = if harms.is_empty() { vec![] } else { vec![region] };
            PageReport { page, verdict, harms: harms.to_vec(), figures, regions }
        };
        let pages = [
            page(1, Verdict::Clean, &[], 0),
            page(2, Verdict::KeptOriginal, &[Harm::StrokesLost, Harm::InkGained], 600),
            page(3, Verdict::Review, &[Harm::StrokesLost], 20),
        ];
        let report = Report::of(&pages).unwrap();
        assert_eq!((report.verdict, &report.pages_review[..]), (Verdict::KeptOriginal, &[3][..]));
        assert_eq!(report.pages_kept_original, [2]);
        assert_eq!(report.harms, [Harm::StrokesLost, Harm::InkGained]);
        assert!((report.ink_recall - 0.7933).abs() < 1e-6, "{}", report.ink_recall);
        assert_eq!(report.regions.iter().map(|region| region.page).collect::<Vec<_>>(), [2, 3]);
        assert!(report.sentence().unwrap().starts_with("left as it was: strokes"));
        assert_eq!(Report::of(&[]), None);
    }
}
