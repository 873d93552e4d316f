//! Places where a test can kill this process on purpose. Without the feature `fault-points` there are none.
//!
//! **The server** passes `hit("name")` on its way; with `INKPOOL_FAULT=name:3` it kills itself (SIGKILL, as a power cut
//! would) the third time it comes by, with `INKPOOL_FAULT=name` the first time. With `INKPOOL_FAULT=panic:name:3` whoever
//! comes by panics instead: an actor with a bug.
//!
//! **A worker** is broken by its input, so that a test can choose per job through the real server: a PNG whose text
//! chunk `inkpool-fault` says what to do, see [`crate::worker`].

/// Ends the process here, if the environment asks for it.
#[cfg(feature = "fault-points")]
pub fn hit(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let wanted = WANTED.get_or_init(|| crate::config::fault().map(|setting| parse(&setting)));
    let Some((name, nth)) = wanted else { return };
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

#[cfg(feature = "fault-points")]
fn parse(setting: &str) -> (String, u64) {
    match setting.rsplit_once(':') {
        Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1)),
        None => (setting.to_owned(), 1),
    }
}

#[cfg(all(test, feature = "fault-points"))]
mod tests {
    #[test]
    fn a_point_may_name_its_visit() {
        assert_eq!(super::parse("claim"), ("claim".to_owned(), 1));
        assert_eq!(super::parse("claim:12"), ("claim".to_owned(), 12));
    }

    #[test]
    fn without_a_setting_nothing_happens() {
        super::hit("claim");
    }
}
