//! What every bus must do, as one suite over the port, in real time with bounds that leave room. An adapter brings `open`,
//! an async function from settings to a [`Fresh`] empty bus, and calls `bus_suite!(path::to::open)` in its tests.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

/// An empty bus, and what must live as long as it.
pub(crate) struct Fresh {
    pub(crate) bus: Arc<dyn JobBus>,
    pub(crate) _keep: Box<dyn Any + Send>,
}

macro_rules! bus_suite {
    ($open:path) => {
        $crate::bus::suite::bus_suite! { @cases $open; first_in_first_out, lanes_are_apart, an_ack_ends_it,
            only_the_first_answer_counts, silence_brings_it_back, in_progress_keeps_it, a_nak_brings_it_back,
            a_term_ends_it, a_redelivery_goes_first, a_duplicate_is_stored_once, the_window_passes,
            a_full_lane_refuses, waiting_pulls_wake_up, pullers_share, an_empty_pull_waits, a_dropped_pull_loses_nothing,
            depth_adds_up, messages_lists_all, closing_ends_pulls
        }
    };
    (@cases $open:path; $($case:ident),+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let fresh = $open($crate::bus::suite::settings()).await;
            $crate::bus::suite::$case(&fresh.bus).await;
        })+
    };
}
pub(crate) use bus_suite;

/// Long enough for a busy machine to answer within it, short enough to wait for.
const ACK_WAIT: Duration = Duration::from_millis(1500);
/// Within it nothing is expected to come.
const QUIET: Duration = Duration::from_millis(200);
/// Something comes within it, or never will.
const LONG: Duration = Duration::from_secs(20);

pub(crate) fn settings() -> BusSettings {
    BusSettings { ack_wait: ACK_WAIT, duplicate_window: Duration::from_millis(800), messages_max: 8 }
}

const LANE: Lane = Lane::Interactive;

async fn publish(bus: &Arc<dyn JobBus>, text: &'static str) {
    bus.publish(LANE, text, Bytes::from_static(text.as_bytes())).await.unwrap();
}

async fn pull(bus: &Arc<dyn JobBus>, max: usize) -> Vec<Delivery> {
    bus.pull(LANE, max, LONG).await.unwrap()
}

async fn pull_one(bus: &Arc<dyn JobBus>, expected: &str) -> Delivery {
    let mut pulled = pull(bus, 1).await;
    assert_eq!(texts(&pulled), [expected]);
    pulled.remove(0)
}

async fn assert_quiet(bus: &Arc<dyn JobBus>) {
    assert_eq!(texts(&bus.pull(LANE, 10, QUIET).await.unwrap()), [""; 0]);
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| String::from_utf8(delivery.payload.to_vec()).unwrap()).collect()
}

pub(crate) async fn first_in_first_out(bus: &Arc<dyn JobBus>) {
    for text in ["a", "b", "c", "d"] {
        publish(bus, text).await;
    }
    let first = pull(bus, 3).await;
    assert_eq!(texts(&first), ["a", "b", "c"]);
    assert!(first.iter().all(|delivery| delivery.deliveries == 1));
    assert_eq!(texts(&pull(bus, 3).await), ["d"], "what is held is not delivered to others");
    assert!(pull(bus, 0).await.is_empty(), "at once");
}

pub(crate) async fn lanes_are_apart(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    bus.publish(Lane::Bulk, "b", Bytes::from_static(b"b")).await.unwrap();
    assert_eq!(texts(&bus.pull(Lane::Bulk, 10, LONG).await.unwrap()), ["b"]);
    assert_eq!(texts(&pull(bus, 10).await), ["a"]);
}

pub(crate) async fn an_ack_ends_it(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    pull_one(bus, "a").await.acker.ack().await.unwrap();
    tokio::time::sleep(ACK_WAIT).await;
    assert_quiet(bus).await;
    assert_eq!(bus.depth(LANE).await.unwrap(), Depth::default());
}

pub(crate) async fn only_the_first_answer_counts(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    let acker = pull_one(bus, "a").await.acker;
    acker.ack().await.unwrap();
    assert_eq!(acker.ack().await, Err(BusError::NotHeld));
    assert_eq!(acker.nak(Duration::ZERO).await, Err(BusError::NotHeld));
    assert_eq!(acker.in_progress().await, Err(BusError::NotHeld));
    assert_eq!(acker.term().await, Err(BusError::NotHeld));
    publish(bus, "b").await;
    let acker = pull_one(bus, "b").await.acker;
    acker.nak(Duration::from_secs(60)).await.unwrap();
    assert_eq!(acker.ack().await, Err(BusError::NotHeld));
    assert_eq!(acker.in_progress().await, Err(BusError::NotHeld));
    publish(bus, "c").await;
    let acker = pull_one(bus, "c").await.acker;
    acker.nak(Duration::ZERO).await.unwrap();
    assert_eq!(bus.depth(LANE).await.unwrap().in_flight, 0);
    assert_eq!(acker.ack().await, Err(BusError::NotHeld), "also while nobody else has it");
    pull_one(bus, "c").await;
}

pub(crate) async fn silence_brings_it_back(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    let since = Instant::now();
    let silent = pull_one(bus, "a").await;
    let again = pull_one(bus, "a").await;
    assert!(since.elapsed() >= ACK_WAIT.mul_f64(0.9), "after {:?}", since.elapsed());
    assert_eq!((silent.deliveries, again.deliveries), (1, 2));
    // The first holder has lost it, whatever it says now.
    assert_eq!(silent.acker.in_progress().await, Err(BusError::NotHeld));
    assert_eq!(silent.acker.ack().await, Err(BusError::NotHeld));
    again.acker.ack().await.unwrap();
    assert_quiet(bus).await;
}

pub(crate) async fn in_progress_keeps_it(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    let delivery = pull_one(bus, "a").await;
    for _ in 0..4 {
        // A second pull would see it come back.
        assert_eq!(texts(&bus.pull(LANE, 1, ACK_WAIT / 2).await.unwrap()), [""; 0]);
        delivery.acker.in_progress().await.unwrap();
    }
    delivery.acker.ack().await.unwrap();
    tokio::time::sleep(ACK_WAIT).await;
    assert_quiet(bus).await;
}

pub(crate) async fn a_nak_brings_it_back(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    pull_one(bus, "a").await.acker.nak(Duration::ZERO).await.unwrap();
    let again = pull_one(bus, "a").await;
    assert_eq!(again.deliveries, 2);
    let since = Instant::now();
    let delay = QUIET * 3;
    again.acker.nak(delay).await.unwrap();
    assert_quiet(bus).await;
    let third = pull_one(bus, "a").await;
    assert!(since.elapsed() >= delay.mul_f64(0.9), "after {:?}", since.elapsed());
    assert_eq!(third.deliveries, 3);
}

pub(crate) async fn a_term_ends_it(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    pull_one(bus, "a").await.acker.term().await.unwrap();
    tokio::time::sleep(ACK_WAIT).await;
    assert_quiet(bus).await;
    assert_eq!(bus.depth(LANE).await.unwrap(), Depth::default());
}

pub(crate) async fn a_redelivery_goes_first(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    publish(bus, "b").await;
    let first = pull_one(bus, "a").await;
    publish(bus, "c").await;
    first.acker.nak(Duration::ZERO).await.unwrap();
    assert_eq!(texts(&pull(bus, 1).await), ["a"]);
    assert_eq!(texts(&pull(bus, 5).await), ["b", "c"]);
}

pub(crate) async fn a_duplicate_is_stored_once(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    publish(bus, "a").await;
    let first = pull(bus, 10).await;
    assert_eq!(texts(&first), ["a"]);
    first[0].acker.ack().await.unwrap();
    publish(bus, "a").await;
    assert_quiet(bus).await;
    publish(bus, "b").await;
    assert_eq!(texts(&pull(bus, 10).await), ["b"]);
}

pub(crate) async fn the_window_passes(bus: &Arc<dyn JobBus>) {
    publish(bus, "a").await;
    pull_one(bus, "a").await.acker.ack().await.unwrap();
    // JetStream looks at its window a few times in its length.
    tokio::time::sleep(settings().duplicate_window * 2).await;
    publish(bus, "a").await;
    assert_eq!(pull_one(bus, "a").await.deliveries, 1, "a message of its own");
}

pub(crate) async fn a_full_lane_refuses(bus: &Arc<dyn JobBus>) {
    let texts = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for text in texts {
        publish(bus, text).await;
    }
    let full = Err(BusError::Full { limit: settings().messages_max });
    assert_eq!(bus.publish(LANE, "i", Bytes::new()).await, full);
    let held = pull(bus, 10).await;
    assert_eq!(held.len(), texts.len());
    assert_eq!(bus.publish(LANE, "i", Bytes::new()).await, full, "what is delivered counts");
    bus.publish(Lane::Bulk, "i", Bytes::new()).await.unwrap();
    held[0].acker.ack().await.unwrap();
    publish(bus, "i").await;
    assert_eq!(bus.publish(LANE, "j", Bytes::new()).await, full);
}

pub(crate) async fn waiting_pulls_wake_up(bus: &Arc<dyn JobBus>) {
    let puller = Arc::clone(bus);
    let pulled = tokio::spawn(async move { texts(&pull(&puller, 4).await) });
    tokio::time::sleep(QUIET).await;
    let since = Instant::now();
    publish(bus, "a").await;
    assert_eq!(pulled.await.unwrap(), ["a"]);
    assert!(since.elapsed() < LONG / 2, "it waited out its time");
}

pub(crate) async fn pullers_share(bus: &Arc<dyn JobBus>) {
    let pullers: Vec<_> = (0..4)
        .map(|_| {
            let bus = Arc::clone(bus);
            tokio::spawn(async move { texts(&pull(&bus, 1).await) })
        })
        .collect();
    for text in ["a", "b", "c", "d"] {
        publish(bus, text).await;
    }
    let mut all = Vec::new();
    for puller in pullers {
        all.extend(puller.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, ["a", "b", "c", "d"], "each once");
}

pub(crate) async fn an_empty_pull_waits(bus: &Arc<dyn JobBus>) {
    let since = Instant::now();
    assert_quiet(bus).await;
    assert!(since.elapsed() >= QUIET.mul_f64(0.9), "after {:?}", since.elapsed());
}

pub(crate) async fn a_dropped_pull_loses_nothing(bus: &Arc<dyn JobBus>) {
    let puller = Arc::clone(bus);
    let pulled = tokio::spawn(async move { texts(&pull(&puller, 4).await) });
    tokio::time::sleep(QUIET).await;
    pulled.abort();
    assert!(pulled.await.unwrap_err().is_cancelled());
    publish(bus, "a").await;
    // At the latest after the ack wait, should the bus have sent it to the one that went away.
    pull_one(bus, "a").await;
}

pub(crate) async fn depth_adds_up(bus: &Arc<dyn JobBus>) {
    for text in ["a", "b", "c"] {
        publish(bus, text).await;
    }
    assert_eq!(bus.depth(LANE).await.unwrap(), Depth { pending: 3, in_flight: 0 });
    let held = pull(bus, 2).await;
    assert_eq!(bus.depth(LANE).await.unwrap(), Depth { pending: 1, in_flight: 2 });
    held[0].acker.ack().await.unwrap();
    held[1].acker.nak(Duration::ZERO).await.unwrap();
    let depth = bus.depth(LANE).await.unwrap();
    assert_eq!(depth.pending + depth.in_flight, 2);
    assert_eq!(bus.depth(Lane::Bulk).await.unwrap(), Depth::default());
}

pub(crate) async fn messages_lists_all(bus: &Arc<dyn JobBus>) {
    for text in ["a", "b", "c"] {
        publish(bus, text).await;
    }
    bus.publish(Lane::Bulk, "d", Bytes::from_static(b"d")).await.unwrap();
    let held = pull(bus, 2).await;
    held[0].acker.ack().await.unwrap();
    held[1].acker.nak(Duration::from_secs(60)).await.unwrap();
    let mut listed = bus.messages(LANE).await.unwrap();
    listed.sort_unstable();
    assert_eq!(listed, [Bytes::from_static(b"b"), Bytes::from_static(b"c")], "sent back and waiting");
    assert_eq!(bus.messages(Lane::Bulk).await.unwrap().len(), 1);
}

pub(crate) async fn closing_ends_pulls(bus: &Arc<dyn JobBus>) {
    let puller = Arc::clone(bus);
    let pulled = tokio::spawn(async move { puller.pull(LANE, 4, LONG).await.map(|pulled| pulled.len()) });
    tokio::time::sleep(QUIET).await;
    let since = Instant::now();
    bus.close().await;
    assert!(matches!(pulled.await.unwrap(), Err(BusError::Unavailable(_))));
    assert!(since.elapsed() < LONG / 2, "it waited out its time");
    assert!(matches!(bus.publish(LANE, "a", Bytes::new()).await, Err(BusError::Unavailable(_))));
    assert!(matches!(bus.pull(LANE, 1, LONG).await, Err(BusError::Unavailable(_))));
}
