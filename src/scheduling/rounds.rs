//! When an actor that works in rounds begins the next one: one round at a time, one timer at a time.

/// The wait after a round. It counts until the next round begins, whoever began that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer(u64);

/// What follows a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another one at once: somebody asked meanwhile.
    Begin,
    /// A wait, unless somebody asks before.
    Wait(Timer),
}

/// Rounds so far, and whether one is under way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rounds {
    begun: u64,
    busy: bool,
    again: bool,
}

impl Rounds {
    /// Somebody asks for a round; whether to begin it now.
    #[must_use]
    pub const fn asked(&mut self) -> bool {
        if self.busy {
            self.again = true;
            return false;
        }
        self.begin();
        true
    }

    /// A wait is over; whether to begin a round now. A timer of an earlier round says nothing: whoever began a round in between
    /// has set a timer of its own after it, and each that counted would bring forth another.
    #[must_use]
    pub const fn due(&mut self, timer: Timer) -> bool {
        if self.busy || timer.0 != self.begun {
            return false;
        }
        self.begin();
        true
    }

    /// The round ended; after [`Next::Begin`] the next one is under way.
    #[must_use]
    pub const fn ended(&mut self) -> Next {
        self.busy = false;
        if self.again {
            self.begin();
            return Next::Begin;
        }
        Next::Wait(Timer(self.begun))
    }

    const fn begin(&mut self) {
        self.begun += 1;
        self.busy = true;
        self.again = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However often somebody asks, waiting by itself goes on at one round for each wait.
    #[test]
    fn asking_adds_no_timer() {
        let mut rounds = Rounds::default();
        let mut timers = Vec::new();
        for _ in 0..100 {
            assert!(rounds.asked());
            let Next::Wait(timer) = rounds.ended() else { panic!("nobody asked meanwhile") };
            timers.push(timer);
        }
        for _ in 0..3 {
            let mut begun = 0;
            for timer in std::mem::take(&mut timers) {
                if rounds.due(timer) {
                    begun += 1;
                    let Next::Wait(timer) = rounds.ended() else { panic!("nobody asked meanwhile") };
                    timers.push(timer);
                }
            }
            assert_eq!(begun, 1);
        }
    }

    #[test]
    fn who_asks_during_a_round_gets_one_after_it() {
        let mut rounds = Rounds::default();
        assert!(rounds.asked());
        assert!(!rounds.asked() && !rounds.asked(), "one at a time");
        assert_eq!(rounds.ended(), Next::Begin);
        assert!(!rounds.asked(), "it is under way");
        assert_eq!(rounds.ended(), Next::Begin);
        assert!(matches!(rounds.ended(), Next::Wait(_)));
        assert!(rounds.asked());
    }

    #[test]
    fn a_timer_during_a_round_begins_none() {
        let mut rounds = Rounds::default();
        assert!(rounds.asked());
        let Next::Wait(timer) = rounds.ended() else { panic!("nobody asked meanwhile") };
        assert!(rounds.asked());
        assert!(!rounds.due(timer));
        assert!(matches!(rounds.ended(), Next::Wait(_)), "nor another one after it");
    }
}
