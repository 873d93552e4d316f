//! Places where a test can kill this process on purpose. Without the feature `fault-points` there are none.
//!
//! **The server** passes `hit("name")` on its way; with `INKPOOL_FAULT=name:3` it kills itself (SIGKILL, as a power cut
//! would) the third time it comes by, with `INKPOOL_FAULT=name` the first time. With `INKPOOL_FAULT=panic:name:3` whoever
//! comes by panics instead: an actor with a bug.
//!
//! **A bug** of the program is switched on by `INKPOOL_FAULT=wrong:name`: `told("name")` then says so, each time. They are
//! there for the checker of `tests/faults`, which must find each of them.
//!
//! **A worker** is broken by its input, so that a test can choose per job through the real server: a PNG whose text
//! chunk `inkpool-fault` says what to do, see [`crate::worker`].

/// Ends the process here, if the environment asks for it.
#[cfg(feature = "fault-points")]
pub fn hit(point: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);

    let Some((name, nth)) = wanted() else { return };
    let (name, panics) = name.strip_prefix("panic:").map_or((name.as_str(), false), |name| (name, true));
    if name == point && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        assert!(!panics, "told to panic at {point}");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal is delivered on the way back from the call; nothing after this line may happen.
        std::process::abort();
    }
}

/// Does nothing in a program without fault points.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub const fn hit(_point: &str) {}

/// Whether the environment asks for the bug of this name.
#[cfg(feature = "fault-points")]
#[must_use]
pub fn told(bug: &str) -> bool {
    wanted().and_then(|(name, _)| name.strip_prefix("wrong:")) == Some(bug)
}

/// A program without fault points has none of them.
#[cfg(not(feature = "fault-points"))]
#[inline]
#[must_use]
pub const fn told(_bug: &str) -> bool {
    false
}

#[cfg(feature = "fault-points")]
fn wanted() -> Option<&'static (String, u64)> {
    static WANTED: std::sync::OnceLock<Option<(String, u64)>> = std::sync::OnceLock::new();
    WANTED.get_or_init(|| crate::config::fault().map(|setting| parse(&setting))).as_ref()
}

#[cfg(feature = "fault-points")]
fn parse(setting: &str) -> (String, u64) {
    let nth = setting.rsplit_once(':').and_then(|(name, nth)| Some((name.to_owned(), nth.parse().ok()?)));
    nth.unwrap_or_else(|| (setting.to_owned(), 1))
}

#[cfg(all(test, feature = "fault-points"))]
mod tests {
    #[test]
    fn a_point_may_name_its_visit() {
        assert_eq!(super::parse("claim"), ("claim".to_owned(), 1));
        assert_eq!(super::parse("claim:12"), ("claim".to_owned(), 12));
        assert_eq!(super::parse("panic:claim:2"), ("panic:claim".to_owned(), 2));
        assert_eq!(super::parse("wrong:claim"), ("wrong:claim".to_owned(), 1));
    }

    #[test]
    fn without_a_setting_nothing_happens() {
        super::hit("claim");
        assert!(!super::told("claim"));
    }
}
