//! Answers to deliveries. The server takes an ack from whoever sends one, however late; what can be known here about who
//! holds a message is known here. Between nodes an ack is no fence, and need not be: the ledger's start number is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::{AckKind, Message};
use async_nats::{Request, Subject};
use async_trait::async_trait;

use super::super::{Acker, BusError, Delivery};
use super::Link;

/// A message of a stream: which making of the stream, and its number there. A stream that was wiped starts from 1 again.
type Place = (i128, u64);

/// Deliveries of this process.
#[derive(Default)]
pub(super) struct Deliveries(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last delivery of each message that is held here.
    latest: HashMap<Place, u64>,
    /// Handed back and not seen since; to the server they are still in flight.
    handed_back: HashMap<Place, Instant>,
}

impl Deliveries {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything in it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream was made at `made`: what was delivered before a wipe is held no longer. An answer to it would go to whatever
    /// has the same number now.
    pub(super) fn forget_all_but(&self, made: i128) {
        let mut state = self.state();
        state.latest.retain(|place, _| place.0 == made);
        state.handed_back.retain(|place, _| place.0 == made);
    }

    /// How many of the messages in flight were handed back within `ack_wait`; later the server has delivered them again.
    pub(super) fn handed_back(&self, ack_wait: Duration) -> usize {
        let mut state = self.state();
        state.handed_back.retain(|_, since| since.elapsed() < ack_wait);
        state.handed_back.len()
    }
}

/// Wraps a message with what answers it.
pub(super) fn delivery(
    deliveries: &Arc<Deliveries>,
    link: &Arc<Link>,
    made: i128,
    message: Message,
) -> Result<Delivery, BusError> {
    let info = message.info().map_err(|error| BusError::Unavailable(error.to_string()))?;
    let (place, number) = ((made, info.stream_sequence), u64::try_from(info.delivered).unwrap_or(1));
    let mut state = deliveries.state();
    state.latest.insert(place, number);
    state.handed_back.remove(&place);
    drop(state);
    let payload = message.message.payload.clone();
    let reply = message.message.reply.clone().unwrap_or_else(|| Subject::from(""));
    let acker = JetStreamAcker {
        deliveries: deliveries.clone(),
        link: link.clone(),
        place,
        number,
        reply,
        done: AtomicBool::new(false),
    };
    Ok(Delivery { payload, deliveries: number, acker: Box::new(acker) })
}

struct JetStreamAcker {
    deliveries: Arc<Deliveries>,
    link: Arc<Link>,
    place: Place,
    /// Tells this delivery from later ones of the same message.
    number: u64,
    reply: Subject,
    done: AtomicBool,
}

impl JetStreamAcker {
    fn check(&self) -> Result<(), BusError> {
        let latest = self.deliveries.state().latest.get(&self.place) == Some(&self.number);
        if !latest || self.done.load(Ordering::SeqCst) {
            return Err(BusError::NotHeld);
        }
        self.link.check()
    }

    /// Sends an answer that ends the delivery, and waits until the server has taken it.
    async fn end(&self, kind: AckKind) -> Result<(), BusError> {
        self.check()?;
        if self.done.swap(true, Ordering::SeqCst) {
            return Err(BusError::NotHeld);
        }
        let request = Request::new().payload(kind.into()).timeout(Some(self.link.timeout));
        let answered = self.link.bounded(async {
            match self.link.client.send_request(self.reply.clone(), request).await {
                Ok(_) => Ok(()),
                // The stream or its consumer was removed.
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(BusError::NotHeld),
                Err(error) => Err(BusError::Unavailable(error.to_string())),
            }
        });
        let answered = answered.await;
        if matches!(answered, Err(BusError::Unavailable(_))) {
            // It may be said again: the server does not mind to hear it twice.
            self.done.store(false, Ordering::SeqCst);
        }
        answered
    }
}

impl Drop for JetStreamAcker {
    fn drop(&mut self) {
        let mut state = self.deliveries.state();
        if state.latest.get(&self.place) == Some(&self.number) {
            state.latest.remove(&self.place);
        }
    }
}

#[async_trait]
impl Acker for JetStreamAcker {
    async fn ack(&self) -> Result<(), BusError> {
        self.end(AckKind::Ack).await
    }

    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.end(AckKind::Nak((!delay.is_zero()).then_some(delay))).await?;
        self.deliveries.state().handed_back.insert(self.place, Instant::now());
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.check()?;
        let sent = self.link.client.publish(self.reply.clone(), AckKind::Progress.into());
        self.link.bounded(async { sent.await.map_err(|error| BusError::Unavailable(error.to_string())) }).await
    }

    async fn term(&self) -> Result<(), BusError> {
        self.end(AckKind::Term).await
    }
}
