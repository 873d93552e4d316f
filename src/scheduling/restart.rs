//! Restart intensity, as Erlang/OTP means it: so many restarts within a window, then give up.

use std::collections::VecDeque;

/// A restart budget. Times are milliseconds of any clock that does not go back.
#[derive(Debug, Clone)]
pub struct Budget {
    restarts_max: usize,
    window_ms: i64,
    restarts: VecDeque<i64>,
}

/// What the budget says to one more restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again.
    Restart,
    /// The budget is used up.
    GiveUp,
}

impl Budget {
    /// At most `restarts_max` restarts within `window_ms`.
    #[must_use]
    pub const fn new(restarts_max: usize, window_ms: i64) -> Self {
        Self { restarts_max, window_ms, restarts: VecDeque::new() }
    }

    /// Asks for one more restart at `now_ms`.
    pub fn ask(&mut self, now_ms: i64) -> Verdict {
        while self.restarts.front().is_some_and(|at| now_ms - at >= self.window_ms) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.restarts_max {
            return Verdict::GiveUp;
        }
        self.restarts.push_back(now_ms);
        Verdict::Restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gives_up_beyond_the_budget_and_forgets_after_the_window() {
        let mut budget = Budget::new(2, 1000);
        assert_eq!(
            [budget.ask(0), budget.ask(10), budget.ask(20)],
            [Verdict::Restart, Verdict::Restart, Verdict::GiveUp]
        );
        assert_eq!(budget.ask(1000), Verdict::Restart);
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_budget(gaps in prop::collection::vec(0i64..400, 1..100), max in 1usize..6) {
            let mut budget = Budget::new(max, 1000);
            let mut now = 0;
            let mut granted = Vec::new();
            for gap in gaps {
                now += gap;
                if budget.ask(now) == Verdict::Restart {
                    granted.push(now);
                }
            }
            for (index, start) in granted.iter().enumerate() {
                let within = granted[index..].iter().take_while(|at| **at - start < 1000).count();
                prop_assert!(within <= max);
            }
        }
    }
}
