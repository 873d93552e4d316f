//! The in-process bus: nothing to install, gone with the process. What it held is published again from the ledger.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Acker, BusError, BusSettings, Delivery, Depth, JobBus};
use crate::job::Lane;

/// Message ids remembered at most, whatever the window: a bound on memory. The window is a hint, uniqueness lives in SQL.
const IDS_MAX: usize = 65_536;

/// [`JobBus`] in memory.
pub struct EmbeddedBus {
    interactive: Arc<Queue>,
    bulk: Arc<Queue>,
}

struct Queue {
    settings: BusSettings,
    held: Mutex<Held>,
    /// Rung whenever there may be something to pull, or another time to wait for.
    bell: Notify,
}

#[derive(Default)]
struct Held {
    closed: bool,
    /// Every message has one for life, so a redelivery goes before what was published later.
    next_sequence: u64,
    pending: BTreeMap<u64, Message>,
    /// Sent back with a delay, by the time it ends.
    delayed: BTreeMap<(Instant, u64), Message>,
    in_flight: BTreeMap<u64, InFlight>,
    ids: RecentIds,
}

struct Message {
    payload: Bytes,
    deliveries: u64,
    /// The delivery that has not been answered yet: nobody's after a nak.
    holder: Option<u64>,
}

struct InFlight {
    message: Message,
    /// Without an answer until then, it is delivered again.
    until: Instant,
}

#[derive(Default)]
struct RecentIds {
    known: HashSet<String>,
    by_age: VecDeque<(Instant, String)>,
}

impl RecentIds {
    fn knows(&mut self, id: &str, window: Duration, now: Instant) -> bool {
        while let Some((since, _)) = self.by_age.front()
            && (self.by_age.len() >= IDS_MAX || *since + window <= now)
        {
            if let Some((_, id)) = self.by_age.pop_front() {
                self.known.remove(&id);
            }
        }
        self.known.contains(id)
    }

    fn remember(&mut self, id: &str, now: Instant) {
        self.known.insert(id.to_owned());
        self.by_age.push_back((now, id.to_owned()));
    }
}

impl Held {
    fn count(&self) -> usize {
        self.pending.len() + self.delayed.len() + self.in_flight.len()
    }

    /// Makes pending again what was not answered in time and what has waited out its delay.
    fn settle(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let ((_, sequence), message) = entry.remove_entry();
            self.pending.insert(sequence, message);
        }
        let late: Vec<u64> =
            self.in_flight.iter().filter(|(_, held)| held.until <= now).map(|(sequence, _)| *sequence).collect();
        for sequence in late {
            if let Some(held) = self.in_flight.remove(&sequence) {
                self.pending.insert(sequence, held.message);
            }
        }
    }

    /// When [`Self::settle`] will have something to do.
    fn next_time(&self) -> Option<Instant> {
        let answer = self.in_flight.values().map(|held| held.until).min();
        let delay = self.delayed.first_key_value().map(|(key, _)| key.0);
        answer.into_iter().chain(delay).min()
    }
}

impl Queue {
    fn new(settings: BusSettings) -> Arc<Self> {
        Arc::new(Self { settings, held: Mutex::default(), bell: Notify::new() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change under the lock is complete before anything in it can panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, message_id: &str, payload: Bytes) -> Result<(), BusError> {
        let now = Instant::now();
        let limit = self.settings.messages_max;
        let mut held = self.held();
        if held.closed {
            return Err(closed());
        }
        if held.ids.knows(message_id, self.settings.duplicate_window, now) {
            return Ok(());
        }
        if held.count() >= limit {
            return Err(BusError::Full { limit });
        }
        held.ids.remember(message_id, now);
        let sequence = held.next_sequence;
        held.next_sequence += 1;
        held.pending.insert(sequence, Message { payload, deliveries: 0, holder: None });
        drop(held);
        self.bell.notify_waiters();
        Ok(())
    }

    /// What can be had now, and until when to wait if that is nothing.
    fn take(self: &Arc<Self>, max: usize) -> Result<(Vec<Delivery>, Option<Instant>), BusError> {
        let now = Instant::now();
        let mut held = self.held();
        if held.closed {
            return Err(closed());
        }
        held.settle(now);
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((sequence, mut message)) = held.pending.pop_first()
        {
            message.deliveries += 1;
            message.holder = Some(message.deliveries);
            let (payload, deliveries) = (message.payload.clone(), message.deliveries);
            held.in_flight.insert(sequence, InFlight { message, until: now + self.settings.ack_wait });
            let acker = EmbeddedAcker { queue: Arc::clone(self), sequence, deliveries };
            taken.push(Delivery { payload, deliveries, acker: Box::new(acker) });
        }
        Ok((taken, held.next_time()))
    }

    async fn pull(self: &Arc<Self>, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let deadline = Instant::now() + wait;
        loop {
            // Listening before looking: a message that comes in between rings the bell.
            let rung = self.bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let (taken, next) = self.take(max)?;
            if !taken.is_empty() || max == 0 || Instant::now() >= deadline {
                return Ok(taken);
            }
            tokio::select! {
                () = rung => {}
                () = sleep_until(next.map_or(deadline, |next| next.min(deadline))) => {}
            }
        }
    }

    fn close(&self) {
        self.held().closed = true;
        self.bell.notify_waiters();
    }
}

fn closed() -> BusError {
    BusError::Unavailable("the bus is closed".to_owned())
}

impl EmbeddedBus {
    /// An empty bus.
    #[must_use]
    pub fn new(settings: BusSettings) -> Self {
        Self { interactive: Queue::new(settings), bulk: Queue::new(settings) }
    }

    fn queue(&self, lane: Lane) -> &Arc<Queue> {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }
}

#[async_trait]
impl JobBus for EmbeddedBus {
    async fn publish(&self, lane: Lane, message_id: &str, payload: Bytes) -> Result<(), BusError> {
        self.queue(lane).publish(message_id, payload)
    }

    async fn pull(&self, lane: Lane, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        self.queue(lane).pull(max, wait).await
    }

    async fn depth(&self, lane: Lane) -> Result<Depth, BusError> {
        let mut held = self.queue(lane).held();
        held.settle(Instant::now());
        Ok(Depth { pending: held.pending.len() + held.delayed.len(), in_flight: held.in_flight.len() })
    }

    async fn messages(&self, lane: Lane) -> Result<Vec<Bytes>, BusError> {
        let held = self.queue(lane).held();
        if held.closed {
            return Err(closed());
        }
        let waiting = held.pending.values().chain(held.delayed.values());
        let in_flight = held.in_flight.values().map(|held| &held.message);
        Ok(waiting.chain(in_flight).map(|message| message.payload.clone()).collect())
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.interactive.close();
        self.bulk.close();
    }
}

struct EmbeddedAcker {
    queue: Arc<Queue>,
    sequence: u64,
    /// Tells this delivery from later ones of the same message.
    deliveries: u64,
}

impl EmbeddedAcker {
    /// Takes the message out, unless it was answered or delivered again. One whose ack wait is over but that nobody pulled
    /// since is still ours, as in JetStream.
    fn take_back(&self, held: &mut Held) -> Result<Message, BusError> {
        let ours = |message: &Message| message.holder == Some(self.deliveries);
        if held.in_flight.get(&self.sequence).is_some_and(|held| ours(&held.message)) {
            return held.in_flight.remove(&self.sequence).map(|held| held.message).ok_or(BusError::NotHeld);
        }
        if held.pending.get(&self.sequence).is_some_and(ours) {
            return held.pending.remove(&self.sequence).ok_or(BusError::NotHeld);
        }
        Err(BusError::NotHeld)
    }
}

#[async_trait]
impl Acker for EmbeddedAcker {
    async fn ack(&self) -> Result<(), BusError> {
        self.take_back(&mut self.queue.held()).map(drop)
    }

    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        let mut held = self.queue.held();
        let message = Message { holder: None, ..self.take_back(&mut held)? };
        held.delayed.insert((Instant::now() + delay, self.sequence), message);
        drop(held);
        self.queue.bell.notify_waiters();
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        let mut held = self.queue.held();
        let message = self.take_back(&mut held)?;
        let until = Instant::now() + self.queue.settings.ack_wait;
        held.in_flight.insert(self.sequence, InFlight { message, until });
        Ok(())
    }

    async fn term(&self) -> Result<(), BusError> {
        self.ack().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::suite::{Fresh, bus_suite, settings};

    bus_suite!(open);

    async fn open(settings: BusSettings) -> Fresh {
        Fresh { bus: Arc::new(EmbeddedBus::new(settings)), _keep: Box::new(()) }
    }

    fn quick() -> BusSettings {
        BusSettings { ack_wait: Duration::from_millis(50), ..settings() }
    }

    /// JetStream does the same; only here it can be said when the wait is over.
    #[tokio::test]
    async fn a_late_ack_counts_until_the_next_delivery() {
        let bus = EmbeddedBus::new(quick());
        bus.publish(Lane::Bulk, "a", Bytes::new()).await.unwrap();
        let late = bus.pull(Lane::Bulk, 1, Duration::ZERO).await.unwrap().remove(0);
        tokio::time::sleep(quick().ack_wait * 2).await;
        assert_eq!(bus.depth(Lane::Bulk).await.unwrap(), Depth { pending: 1, in_flight: 0 });
        late.acker.in_progress().await.unwrap();
        tokio::time::sleep(quick().ack_wait * 2).await;
        late.acker.ack().await.unwrap();
        assert_eq!(bus.depth(Lane::Bulk).await.unwrap(), Depth::default());
    }

    /// Nobody publishes or answers; the pull would wait for an hour.
    #[tokio::test]
    async fn time_alone_wakes_a_pull() {
        let bus = EmbeddedBus::new(quick());
        bus.publish(Lane::Bulk, "a", Bytes::new()).await.unwrap();
        bus.pull(Lane::Bulk, 1, Duration::ZERO).await.unwrap();
        assert_eq!(bus.pull(Lane::Bulk, 1, Duration::from_secs(3600)).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn remembered_ids_are_bounded() {
        let hour = Duration::from_secs(3600);
        let bus = EmbeddedBus::new(BusSettings { duplicate_window: hour, messages_max: usize::MAX, ..settings() });
        for number in 0..IDS_MAX + 10 {
            bus.publish(Lane::Bulk, &number.to_string(), Bytes::new()).await.unwrap();
        }
        let held = bus.bulk.held();
        assert_eq!((held.ids.known.len(), held.ids.by_age.len()), (IDS_MAX, IDS_MAX));
        assert!(!held.ids.known.contains("0"));
    }
}
