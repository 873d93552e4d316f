//! The log of a worker: lines of its standard error, bounded in length and number, handed on to `tracing`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer line is cut.
const LINE_BYTES_MAX: usize = 500;
/// Lines handed on in each [`WINDOW`]; the others are counted.
const LINES_MAX: u32 = 50;
const WINDOW: Duration = Duration::from_secs(60);
/// Last lines kept to explain a failed start.
const KEPT: usize = 3;
/// What Rust's standard library says before it aborts for want of memory.
const NO_MEMORY: &str = "memory allocation of ";

/// What is remembered of a worker's log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<String>,
    no_memory: bool,
}

impl Log {
    /// The last lines, for a message.
    #[must_use]
    pub fn last(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Whether it said that it got no memory.
    #[must_use]
    pub fn no_memory(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).no_memory
    }

    fn keep(&self, line: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.no_memory |= line.starts_with(NO_MEMORY);
        if kept.last.len() == KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(line.to_owned());
    }
}

/// Reads until the end, whatever comes: a worker that is not read would block.
pub async fn relay(mut from: impl AsyncRead + Unpin, log: Log, slot: u32, generation: u64) {
    let mut lines = Lines::default();
    let mut budget = Budget::new(Instant::now());
    let mut buffer = [0u8; 4096];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        lines.feed(buffer.get(..length).unwrap_or_default(), |line| {
            log.keep(line);
            match budget.take(Instant::now()) {
                Allowed::Yes => tracing::warn!(slot, generation, line, "worker"),
                Allowed::YesAfter(dropped) => tracing::warn!(slot, generation, line, dropped, "worker"),
                Allowed::No => {}
            }
        });
    }
}

/// Cuts bytes into lines, each bounded and printable.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                let text = String::from_utf8_lossy(&self.line);
                let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
                each(&text);
                self.line.clear();
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(*byte);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Allowed {
    Yes,
    YesAfter(u64),
    No,
}

/// How many lines may still be handed on.
#[derive(Debug)]
struct Budget {
    since: Instant,
    taken: u32,
    dropped: u64,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { since: now, taken: 0, dropped: 0 }
    }

    fn take(&mut self, now: Instant) -> Allowed {
        if now.duration_since(self.since) >= WINDOW {
            let dropped = self.dropped;
            *self = Self { since: now, taken: 1, dropped: 0 };
            return if dropped > 0 { Allowed::YesAfter(dropped) } else { Allowed::Yes };
        }
        if self.taken < LINES_MAX {
            self.taken += 1;
            return Allowed::Yes;
        }
        self.dropped += 1;
        Allowed::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_control_characters_dropped() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.feed(b"one\r\nt\x1b[31mwo\n", |line| seen.push(line.to_owned()));
        lines.feed(&vec![b'x'; 100_000], |line| seen.push(line.to_owned()));
        lines.feed(b"\nlast\n", |line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "t[31mwo", &"x".repeat(LINE_BYTES_MAX), "last"]);
    }

    #[test]
    fn lines_are_rationed() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!((0..60).filter(|_| budget.take(start) == Allowed::Yes).count(), 50);
        assert_eq!(budget.take(start + WINDOW), Allowed::YesAfter(10));
        assert_eq!(budget.take(start + WINDOW), Allowed::Yes);
    }

    #[tokio::test]
    async fn want_of_memory_is_noticed() {
        let log = Log::default();
        let text: &[u8] = b"a\nb\nc\nmemory allocation of 16777216 bytes failed\n";
        relay(text, log.clone(), 0, 1).await;
        assert!(log.no_memory());
        assert_eq!(log.last(), "b; c; memory allocation of 16777216 bytes failed");
    }
}
