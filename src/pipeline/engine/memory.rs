//! The peak of resident memory, read through files that stay open when nothing more may be opened.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Handles on this process's own figures; without `/proc` there are none.
#[derive(Debug, Default)]
pub struct Meter {
    status: Option<File>,
    reset: Option<File>,
}

impl Meter {
    /// Opens what there is.
    #[must_use]
    pub fn open() -> Self {
        Self {
            status: File::open("/proc/self/status").ok(),
            reset: OpenOptions::new().write(true).open("/proc/self/clear_refs").ok(),
        }
    }

    /// Begins a new peak. Where the kernel does not allow it, the peak is that of the process so far.
    pub fn restart(&self) {
        if let Some(reset) = &self.reset {
            // 5: the peak becomes what is resident now.
            let _ = reset.write_all_at(b"5", 0);
        }
    }

    /// The peak since [`Meter::restart`], bytes; 0 where it is unknown.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        let mut text = [0u8; 4096];
        let length = self.status.as_ref().and_then(|status| status.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        let kilobytes = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number =
            kilobytes.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_and_forgotten() {
        let meter = Meter::open();
        let before = meter.peak_bytes();
        let big = vec![1u8; 64 << 20];
        assert!(big.iter().all(|byte| *byte == 1));
        let with = meter.peak_bytes();
        assert!(with >= before + (48 << 20), "{before} {with}");
        drop(big);
        meter.restart();
        assert!(meter.peak_bytes() + (32 << 20) < with);
    }
}
