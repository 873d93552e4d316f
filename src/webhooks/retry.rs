//! When a delivery is tried again, and what an answer means. Pure.

use std::time::Duration;

/// Wait before the attempt after `attempt` (from 1): `first` · 2ⁿ⁻¹, at most `longest`, with up to half of it taken off, so that
/// what failed together does not come back together. `jitter` is uniform in 0..1.
#[must_use]
pub fn wait(attempt: u32, first: Duration, longest: Duration, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(30);
    first.saturating_mul(1 << doublings).min(longest).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(21_600);

    proptest! {
        #[test]
        fn waits_stay_in_bounds(attempt in 0u32..1000, jitter in 0.0f64..1.0) {
            let wait = wait(attempt, FIRST, LONGEST, jitter);
            prop_assert!(wait >= FIRST / 2 && wait <= LONGEST);
        }
    }

    #[test]
    fn the_last_attempt_comes_about_a_day_after_the_first() {
        let all: Duration = (1..15).map(|attempt| wait(attempt, FIRST, LONGEST, 0.0)).sum();
        assert!((20..28).contains(&(all.as_secs() / 3600)), "{all:?}");
        assert_eq!(wait(1, FIRST, LONGEST, 0.0), FIRST);
        assert_eq!(wait(3, FIRST, LONGEST, 1.0), Duration::from_secs(20));
    }
}
