//! Every number that the verdict rests on, with its reason. `models/training/gate.py` measures what they catch and what they
//! flag for nothing; `docs/gate.md` holds the figures. Levels are 0 (black) to 255 (white).

/// A pixel so much darker than its paper is blank no more, percent of the paper. Grain of paper and JPEG stay above.
pub const BLANK_DEPTH: u32 = 12;
/// So much darker it may be ink, percent: half-way to faint print.
pub const INK_DEPTH: u32 = 28;
/// So much darker it is ink for certain if its edges are sharp, percent: folds and shine-through seldom get there.
pub const CERTAIN_DEPTH: u32 = 45;
/// The two above are for pages whose ink is at least so much darker than the paper, percent: with less they shrink, …
pub const CONTRAST_FULL: u32 = 75;
/// … but no further than for this contrast, where noise begins.
pub const CONTRAST_MIN: u32 = 30;
/// Paper darker than this tells nothing: the inside of black boxes and the edge of a photographed table, level.
pub const PAPER_MIN: u8 = 28;

/// A square of 8 pixels whose mean is at most so much darker than its paper is blank, whatever its grain, percent; less where the
/// contrast is less.
pub const CELL_BLANK_DEPTH: u32 = 18;
/// It is mostly ink in the output if its mean is at most this, level.
pub const CELL_OUT_INK: u8 = 148;

/// Ink of the output follows the page, and is not gained, if the page rises at its ends by so much of the rise at the edges of
/// its strokes: the inside of a worn box is as light as paper, but the box has an edge. Blots of chance rise by less than 0.2 …
pub const FOLLOWS: f32 = 0.3;
/// … and so much is enough for a piece with few ends, where grain counts: …
pub const FOLLOWS_FEW: f32 = 0.15;
/// … fewer than so many.
pub const FOLLOWS_ENDS: u32 = 60;

/// An output pixel below this is ink, level.
pub const OUT_INK: u8 = 128;
/// Ink is still there if an output pixel within one pixel is below this, level.
pub const OUT_KEPT: u8 = 176;

/// A component is a stroke if this many of its pixels are certain: less is a speck.
pub const STROKE_CERTAIN_PX: u32 = 8;
/// … and if one in so many of its pixels is: a stain's soft edge has many uncertain ones around its core.
pub const STROKE_CERTAIN_ONE_IN: u32 = 3;
/// Pieces that are gone and looked at one by one; a page that loses more is ruined anyway. 1 MB at most.
pub const PIECES_MAX: usize = 1 << 14;
/// So many pieces cannot all be stains …
pub const MUCH_GONE: u32 = 60;
/// … if they are this share of the page's strokes, percent.
pub const MUCH_GONE_PERCENT: u32 = 30;
/// A page without noise is below this…, level
pub const CLEAN_INK: u8 = 64;
/// … or at least this nearly everywhere: paper as a program draws it, or a scanner in black and white, level.
pub const CLEAN_PAPER: u8 = 240;
/// A block is clean already if at most this share of it is neither, percent: the soft edges of letters.
pub const CLEAN_BETWEEN_PERCENT: u32 = 12;
/// A page is clean already if this share of its blocks is, percent, and nearly all of its paper is as bright as said above.
pub const CLEAN_BLOCKS_PERCENT: u64 = 95;

/// A page is spotless, and is left as it is, if at least so much of it is white, percent: …
pub const SPOTLESS_WHITE_PERCENT: u64 = 50;
/// … white begins here, level; …
pub const SPOTLESS_WHITE: u8 = 250;
/// … and little of it is evenly gray: darker than this, level, …
pub const SPOTLESS_GRAY: u8 = 246;
/// … lighter than dark ink, level, …
pub const SPOTLESS_INK: u8 = 48;
/// … with less than this between the pixels of a square, levels: the edge of a letter rises faster. …
pub const SPOTLESS_EVEN: u8 = 16;
/// … At most so many such squares of a million, …
pub const SPOTLESS_FLAT_PER_MILLION: u64 = 1500;
/// … so many gray pixels of a million that touch no ink, …
pub const SPOTLESS_STRAY_PER_MILLION: u64 = 3000;
/// … and so many specks to a million pixels: dots of small type in black and white look the same. …
pub const SPOTLESS_SPECKS_PER_MILLION: u64 = 300;
/// … A speck has at most this many pixels. Of 260 clean synthetic pages 87 % pass, of 249 damaged ones 2 %, nearly clean to look at.
pub const SPOTLESS_SPECK_PX: u32 = 4;

/// Ink that reaches less far from left to right is narrow: at half the resolution 1 pixel of it is left, pixels. …
pub const NARROW_PX: usize = 3;
/// … Less than one stroke in so many may be. …
pub const NARROW_ONE_IN: usize = 4;
/// … and with this reach it is slim, pixels: …
pub const SLIM_PX: usize = 4;
/// … less than one in so many. Type of 12 points at 300 dpi passes, as a rule; of 8 points it does not (`docs/network.md` has figures).
pub const SLIM_ONE_IN: usize = 2;
/// … and a page with fewer tells nothing.
pub const WIDE_RUNS_MIN: usize = 100;

/// So many strokes, or parts of strokes, are gone: one can be a dark drop that is rightly gone. …
pub const LOST_STROKES: u64 = 2;
/// … or one with so much ink, pixels: a letter; …
pub const LOST_INK_PX: u64 = 40;
/// … and at least this share of all, per mille: pages with many drops have many strokes.
pub const LOST_PERMILLE: u64 = 2;
/// A page is faint below this contrast, percent: …
pub const CONTRAST_FAINT: u32 = 40;
/// … grain and shine-through look like strokes there: so many must be gone, …
pub const FAINT_LOST_STROKES: u64 = 5;
/// … or fewer with so much ink, pixels: large type; …
pub const FAINT_LOST_INK_PX: u64 = 100;
/// … or with this share of the ink, percent; …
pub const FAINT_LOST_PERCENT: u64 = 2;
/// … and shares mean nothing where there are fewer than this.
pub const FAINT_STROKES: u64 = 10;
/// Ink that is gone, percent.
pub const INK_LOST_PERCENT: u64 = 15;
/// With this share gone the output is of no use, percent.
pub const INK_RUINED_PERCENT: u64 = 30;
/// On a page with less ink shares mean nothing, pixels.
pub const INK_PX_MIN: u64 = 200;
/// Strokes that have run together: fewer components hold the ink than there were strokes.
pub const MERGED_STROKES: u64 = 6;
/// … by this share, percent: cleaning sharpens, so there are more as a rule.
pub const MERGED_PERCENT: u64 = 10;
/// … and they hold more ink than the strokes had with their soft edges, percent: with less, the parts of letters that were
/// faint or worn came together again, as they should.
pub const MERGED_GROWN_PERCENT: u32 = 105;
/// Ink gained in one block, pixels: a blot of 2 pixels in radius.
pub const GAINED_BLOCK_PX: u32 = 16;
/// … and on the page.
pub const GAINED_PX: u64 = 80;
/// Squares of 8 pixels gained: grain hides single pixels, and three squares can be a letter that was hardly there.
pub const GAINED_CELLS: u32 = 4;
/// … unless so many single pixels say the same.
pub const GAINED_CELL_PX: u64 = 8;
/// With this share of the page gained the output is of no use, percent.
pub const GAINED_RUINED_PERCENT: u64 = 4;
/// Root mean square change of a page that was clean already, per mille of full scale. The network changes such pages by 32.
pub const CLEAN_CHANGE_PERMILLE: u32 = 120;

/// Regions told of one page, the worst first: more are not looked at one by one.
pub const REGIONS_MAX: usize = 16;
/// Regions told of one input: a job is sent to whoever watches with every event.
pub const REPORT_REGIONS_MAX: usize = 32;
