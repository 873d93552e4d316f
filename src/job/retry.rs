//! When a failed attempt is tried again.

use std::time::Duration;

/// First wait; doubled with every attempt spent.
const BASE: Duration = Duration::from_secs(2);
/// No wait is longer.
const CAP: Duration = Duration::from_secs(600);

/// Wait before the attempt after `attempt` (1-based): 2 s · 2ⁿ⁻¹ with up to 25 % of jitter taken off, at most 10 min.
/// `jitter` is uniform in 0..1 and comes from the caller, so that this stays pure.
#[must_use]
pub fn backoff(attempt: u32, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let full = BASE.saturating_mul(1 << doublings).min(CAP);
    full.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn grows_and_stays_in_bounds(attempt in 1u32..100, jitter in 0.0f64..1.0) {
            let wait = backoff(attempt, jitter);
            prop_assert!(wait <= CAP);
            prop_assert!(wait >= BASE.mul_f64(0.75));
            prop_assert!(backoff(attempt + 1, jitter) >= wait);
        }
    }
}
