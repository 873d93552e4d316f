//! Rows of pixels as bits, 64 to a word: the first pixel is the lowest bit. Bits behind the end of a row are zero.

use super::paper::CELL_PX;

/// Pixels of a word.
pub const WORD_PX: usize = 64;

/// Sets the bit of every pixel that is darker than the limit of its cell.
pub fn darker(row: &[u8], limits: &[u8], bits: &mut [u64]) {
    let words = row.chunks(WORD_PX).zip(limits.chunks(WORD_PX / CELL_PX));
    for (word, (pixels, limits)) in bits.iter_mut().zip(words) {
        *word = 0;
        for (shift, (cell, limit)) in (0..).step_by(CELL_PX).zip(pixels.chunks(CELL_PX).zip(limits)) {
            let mut found = 0u8;
            for (bit, level) in (0..CELL_PX).zip(cell) {
                found |= u8::from(level < limit) << bit;
            }
            *word |= u64::from(found) << shift;
        }
    }
}

/// Sets all bits within one pixel to the left and to the right of a set one.
pub fn widen(bits: &mut [u64]) {
    let mut before = 0u64;
    for at in 0..bits.len() {
        let (word, after) = (bits[at], bits.get(at + 1).copied().unwrap_or(0));
        bits[at] = word | word << 1 | word >> 1 | before >> 63 | after << 63;
        before = word;
    }
}

/// Calls `found` with the first and one past the last pixel of every run of set bits.
pub fn runs(bits: &[u64], mut found: impl FnMut(usize, usize)) {
    let mut open: Option<usize> = None;
    for (at, word) in bits.iter().enumerate() {
        let first = at * WORD_PX;
        let mut rest = *word;
        let mut place = 0usize;
        while place < WORD_PX {
            let skipped = if open.is_some() { rest.trailing_ones() } else { rest.trailing_zeros() } as usize;
            place += skipped;
            if place >= WORD_PX {
                break;
            }
            rest = rest.checked_shr(u32::try_from(skipped).unwrap_or(u32::MAX)).unwrap_or(0);
            match open.take() {
                Some(start) => found(start, first + place),
                None => open = Some(first + place),
            }
        }
    }
    if let Some(start) = open {
        found(start, bits.len() * WORD_PX);
    }
}

/// Clears every run of set bits that holds none of the bits of `marks`, which has as many words.
pub fn keep_runs(bits: &mut [u64], marks: &[u64]) {
    if marks.iter().all(|word| *word == 0) {
        bits.fill(0);
        return;
    }
    let whole = bits.to_vec();
    runs(&whole, |start, end| {
        if count(marks, start, end) == 0 {
            clear(bits, start, end);
        }
    });
}

/// Clears the bits from `start` to before `end`.
fn clear(bits: &mut [u64], start: usize, end: usize) {
    for (at, word) in bits.iter_mut().enumerate().take(end.div_ceil(WORD_PX)).skip(start / WORD_PX) {
        let (from, to) = (start.saturating_sub(at * WORD_PX), (end - at * WORD_PX).min(WORD_PX));
        *word &= !((u64::MAX >> (WORD_PX - to)) & (u64::MAX << from));
    }
}

/// Set bits from `start` to before `end`.
#[must_use]
pub fn count(bits: &[u64], start: usize, end: usize) -> u32 {
    let (first, last) = (start / WORD_PX, end.saturating_sub(1) / WORD_PX);
    (first..=last)
        .map(|at| {
            let from = start.saturating_sub(at * WORD_PX);
            let to = (end - at * WORD_PX).min(WORD_PX);
            let mask = (u64::MAX >> (WORD_PX - to)) & (u64::MAX << from);
            bits.get(at).map_or(0, |word| (word & mask).count_ones())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(bits: &[bool]) -> Vec<u64> {
        let word = |bits: &[bool]| (0..).zip(bits).fold(0, |word, (at, bit)| word | u64::from(*bit) << at);
        bits.chunks(WORD_PX).map(word).collect()
    }

    #[test]
    fn limits_are_those_of_the_cell() {
        let mut bits = [u64::MAX; 2];
        darker(&[100; 70], &[101, 100, 101, 0, 0, 0, 0, 0, 255], &mut bits);
        assert_eq!(bits, [0x00ff_00ff, 0b11_1111]);
    }

    proptest! {
        #[test]
        fn bits_are_as_pixels(pixels in proptest::collection::vec(any::<bool>(), 1..300)) {
            let words = pack(&pixels);
            let mut found = vec![false; words.len() * WORD_PX];
            let mut last_end = None;
            runs(&words, |start, end| {
                assert!(start < end && last_end.is_none_or(|last| start > last));
                last_end = Some(end);
                found[start..end].fill(true);
            });
            prop_assert_eq!(&found[..pixels.len()], &pixels[..]);
            let ones = pixels.iter().filter(|bit| **bit).count();
            prop_assert_eq!(count(&words, 0, pixels.len()) as usize, ones);
            let half = pixels.len() / 2;
            if half > 0 {
                let ones = pixels[half / 2..half].iter().filter(|bit| **bit).count();
                prop_assert_eq!(count(&words, half / 2, half) as usize, ones);
            }
            let mut wide = words.clone();
            widen(&mut wide);
            for at in 0..pixels.len() {
                let near = at.saturating_sub(1)..(at + 2).min(pixels.len());
                prop_assert_eq!(wide[at / 64] >> (at % 64) & 1 == 1, pixels[near].contains(&true));
            }
            // Every fifth pixel is a mark.
            let marks: Vec<bool> = (0..pixels.len()).map(|at| at % 5 == 0).collect();
            let mut kept = words.clone();
            keep_runs(&mut kept, &pack(&marks));
            for run in pixels.chunk_by(|a, b| a == b) {
                let start = run.as_ptr() as usize - pixels.as_ptr() as usize;
                let is_kept = run[0] && marks[start..start + run.len()].contains(&true);
                prop_assert!((start..start + run.len()).all(|at| (kept[at / 64] >> (at % 64) & 1 == 1) == is_kept));
            }
        }
    }
}
