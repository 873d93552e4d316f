//! Connected components of ink, row by row: what is open is kept, what has ended is handed out. Memory grows with the width of
//! the page, never with its height.

use super::Plane;
use super::bits;

/// What a component has added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Pixels.
    pub area_px: u32,
    /// Those that are ink for certain.
    pub certain_px: u32,
    /// First column.
    pub left_px: usize,
    /// One past the last column.
    pub right_px: usize,
    /// First row.
    pub top_px: usize,
    /// One past the last row.
    pub bottom_px: usize,
    /// Its edges to the left and to the right.
    pub edges: Edges,
    /// Its edges above and below, in the middle of each run.
    pub ends: Edges,
}

/// Ends of runs, and how the page rises there from ink to paper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edges {
    /// Ends counted.
    pub count: u32,
    /// Sum of rises from the second pixel of the run to the second before it, levels.
    pub rise: i32,
    /// Sum of rises from there to four pixels further out, levels: nothing beside a stroke, more and more paper beside a stain.
    pub rise_beyond: i32,
}

impl Edges {
    /// Those of the run `start..end` of a row.
    fn of(levels: &[u8], start: usize, end: usize) -> Self {
        let level = |at: usize| levels.get(at.min(levels.len().saturating_sub(1))).copied().map_or(0, i32::from);
        let inside = usize::from(end - start > 1);
        let ends =
            [[start + inside, start.saturating_sub(2), start.saturating_sub(6)], [end - 1 - inside, end + 1, end + 5]];
        ends.into_iter().fold(Self::default(), |sum, [ink, near, far]| {
            sum.with(&Self { count: 1, rise: level(near) - level(ink), rise_beyond: level(far) - level(near) })
        })
    }

    /// The edge in a column, from the second pixel within to the second without, and four further out.
    fn upright(page: &Plane<'_>, x: usize, rows: [Option<usize>; 3]) -> Self {
        let last = page.height().saturating_sub(1);
        let level =
            |y: Option<usize>| page.pixels.get(y.unwrap_or(0).min(last) * page.width + x).copied().map_or(0, i32::from);
        let [ink, near, far] = rows.map(level);
        Self { count: 1, rise: near - ink, rise_beyond: far - near }
    }

    /// Mean rise, levels; 0 without edges.
    #[must_use]
    pub fn mean_rise(&self) -> f32 {
        mean(self.rise, self.count)
    }

    /// Mean rise further out, levels; 0 without edges.
    #[must_use]
    pub fn mean_rise_beyond(&self) -> f32 {
        mean(self.rise_beyond, self.count)
    }

    /// Both together.
    #[must_use]
    pub const fn with(&self, other: &Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            rise: self.rise.saturating_add(other.rise),
            rise_beyond: self.rise_beyond.saturating_add(other.rise_beyond),
        }
    }
}

/// A mean of levels, to a sixteenth.
fn mean(sum: i32, count: u32) -> f32 {
    let sixteenths = i64::from(sum) * 16 / i64::from(count.max(1));
    f32::from(i16::try_from(sixteenths).unwrap_or(i16::MAX)) / 16.0
}

impl Component {
    fn join(&mut self, other: &Self) {
        self.area_px += other.area_px;
        self.certain_px += other.certain_px;
        self.left_px = self.left_px.min(other.left_px);
        self.right_px = self.right_px.max(other.right_px);
        self.top_px = self.top_px.min(other.top_px);
        self.bottom_px = self.bottom_px.max(other.bottom_px);
        self.edges = self.edges.with(&other.edges);
        self.ends = self.ends.with(&other.ends);
    }
}

#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    owner: usize,
}

/// The components that reach into the row given last.
#[derive(Debug, Default)]
pub struct Components {
    runs: Vec<Run>,
    next: Vec<Run>,
    open: Vec<Component>,
    /// Of each open component the one it was joined to, or itself.
    joined: Vec<usize>,
    renamed: Vec<usize>,
}

impl Components {
    /// Adds a row of the page: its ink, and which of it is certain. `ended` gets every component that does not reach
    /// into this row. Pixels that touch by a corner belong together.
    pub fn row(
        &mut self,
        y: usize,
        page: &Plane<'_>,
        ink: &[u64],
        certain: &[u64],
        ended: &mut impl FnMut(&Component),
    ) {
        self.next.clear();
        let mut above = 0;
        let levels = page.pixels.get(y * page.width..(y + 1) * page.width).unwrap_or_default();
        let Self { runs, next, open, joined, .. } = self;
        bits::runs(ink, |start, end| {
            while runs.get(above).is_some_and(|run| run.end < start) {
                above += 1;
            }
            let certain_px = bits::count(certain, start, end);
            let area_px = u32::try_from(end - start).unwrap_or(u32::MAX);
            let edges = Edges::of(levels, start, end);
            let middle = usize::midpoint(start, end);
            let is_top = !runs[above..].iter().take_while(|run| run.start <= middle).any(|run| run.end > middle);
            let up = [Some(y + 1), y.checked_sub(2), y.checked_sub(6)];
            let ends = if is_top { Edges::upright(page, middle, up) } else { Edges::default() };
            let run = Component {
                area_px,
                certain_px,
                left_px: start,
                right_px: end,
                top_px: y,
                bottom_px: y + 1,
                edges,
                ends,
            };
            let mut owner = None;
            for touching in runs[above..].iter().take_while(|run| run.start <= end) {
                let other = root(joined, touching.owner);
                match owner {
                    None => {
                        open[other].join(&run);
                        owner = Some(other);
                    }
                    Some(mine) if mine != other => {
                        let gone = open[other];
                        open[mine].join(&gone);
                        joined[other] = mine;
                    }
                    Some(_) => {}
                }
            }
            let owner = owner.unwrap_or_else(|| {
                open.push(run);
                joined.push(joined.len());
                open.len() - 1
            });
            next.push(Run { start, end, owner });
        });
        let mut below = 0;
        for run in &self.runs {
            let middle = usize::midpoint(run.start, run.end);
            while self.next.get(below).is_some_and(|next| next.end <= middle) {
                below += 1;
            }
            if self.next.get(below).is_none_or(|next| next.start > middle) {
                let down = [y.checked_sub(2), Some(y + 1), Some(y + 5)];
                let owner = root(&mut self.joined, run.owner);
                self.open[owner].ends = self.open[owner].ends.with(&Edges::upright(page, middle, down));
            }
        }
        self.hand_out(ended);
    }

    /// Hands out what is still open.
    pub fn finish(&mut self, ended: &mut impl FnMut(&Component)) {
        self.next.clear();
        self.hand_out(ended);
    }

    /// Renames the components of the new row from 0 on, and hands out the others.
    fn hand_out(&mut self, ended: &mut impl FnMut(&Component)) {
        const NONE: usize = usize::MAX;
        self.renamed.clear();
        self.renamed.resize(self.open.len(), NONE);
        let mut kept: Vec<Component> = Vec::with_capacity(self.next.len());
        for run in &mut self.next {
            let owner = root(&mut self.joined, run.owner);
            if self.renamed[owner] == NONE {
                self.renamed[owner] = kept.len();
                kept.push(self.open[owner]);
            }
            run.owner = self.renamed[owner];
        }
        for (at, component) in self.open.iter().enumerate() {
            if self.joined[at] == at && self.renamed[at] == NONE {
                ended(component);
            }
        }
        self.joined.clear();
        self.joined.extend(0..kept.len());
        self.open = kept;
        std::mem::swap(&mut self.runs, &mut self.next);
    }
}

fn root(joined: &mut [usize], mut at: usize) -> usize {
    while joined[at] != at {
        joined[at] = joined[joined[at]];
        at = joined[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(picture: &[&str]) -> Vec<Component> {
        let mut components = Components::default();
        let mut all = Vec::new();
        let pixels: Vec<u8> = picture.concat().bytes().map(|byte| if byte == b'.' { 200 } else { 50 }).collect();
        let page = Plane { width: picture[0].len(), pixels: &pixels };
        for (y, line) in picture.iter().enumerate() {
            let word = |wanted: &[u8]| {
                (0..).zip(line.bytes()).fold(0u64, |word, (at, byte)| word | u64::from(wanted.contains(&byte)) << at)
            };
            components.row(y, &page, &[word(b"#a")], &[word(b"a")], &mut |component| all.push(*component));
        }
        components.finish(&mut |component| all.push(*component));
        all.sort_by_key(|component| (component.top_px, component.left_px));
        all
    }

    #[test]
    fn arms_that_meet_are_one() {
        let all = found(&["#.#.#..a", "#.#.#...", "###.a...", "....#..#", ".#.#...."]);
        let areas: Vec<u32> = all.iter().map(|component| component.area_px).collect();
        assert_eq!(areas, [7, 5, 1, 1, 1], "{all:?}");
        assert_eq!((all[1].certain_px, all[1].left_px, all[1].bottom_px), (1, 3, 5));
        assert_eq!((all[0].certain_px, all[2].certain_px), (0, 1));
    }

    #[test]
    fn edges_rise_from_ink_to_paper() {
        let all = found(&["......##........", "................"]);
        assert_eq!(all[0].edges, Edges { count: 2, rise: 300, rise_beyond: 0 });
        let upright = found(&["........", "........", "..###...", "..###...", "........", "........"]);
        assert_eq!(upright[0].ends, Edges { count: 2, rise: 300, rise_beyond: 0 });
        let levels = [200, 190, 180, 150, 120, 90, 60, 50, 50, 60, 90, 120, 150, 180];
        let soft = Edges::of(&levels, 6, 10);
        assert_eq!((soft.rise, soft.rise_beyond), (120 - 50 + 120 - 50, 200 - 120 + 180 - 120));
    }

    #[test]
    fn a_spiral_is_one() {
        let all = found(&["########", "......##", "#####..#", "#...#..#", "#.####.#", "#......#", "########"]);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].left_px, all[0].right_px, all[0].top_px, all[0].bottom_px), (0, 8, 0, 7));
    }
}
