//! Room on the disk of the slots: a node without it would take jobs only to hand them back, faster than any other node works.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;

use super::{Deps, slot_supervisor};
use crate::config::Config;

/// Looked at this often: a call of a microsecond.
const EVERY: Duration = Duration::from_secs(1);

/// Why the slots have too little room, if they have. A disk that cannot be asked says so when it is used.
#[must_use]
pub fn shortage(config: &Config) -> Option<String> {
    let (free, least) = (free_bytes(&config.slots_directory())?, config.slots.free_bytes_min);
    (free < least).then(|| format!("the disk of the slots has less than {least} bytes free"))
}

fn free_bytes(path: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(path).ok()?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Tells the slot supervisor of every change, as long as it is there to hear it.
pub fn watch(slots: ActorRef<slot_supervisor::Msg>, deps: Arc<Deps>) {
    tokio::spawn(async move {
        let mut told = None;
        loop {
            let now = shortage(&deps.config);
            if now != told {
                if slots.send_message(slot_supervisor::Msg::Room(now.clone())).is_err() {
                    return;
                }
                told = now;
            }
            tokio::time::sleep(EVERY).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told_with_the_bound() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.data = directory.path().to_owned();
        assert_eq!(shortage(&config), None, "there is no such directory yet");
        std::fs::create_dir(config.slots_directory()).unwrap();
        config.slots.free_bytes_min = 1;
        assert_eq!(shortage(&config), None);
        config.slots.free_bytes_min = u64::MAX;
        assert!(shortage(&config).unwrap().contains(&u64::MAX.to_string()));
    }
}
