//! How actors find each other: a slot per role that survives the restart of whoever stands in it.

use std::sync::{PoisonError, RwLock};

use ractor::{ActorRef, Message};

use super::{intake, janitor, relay, scheduler, slot_supervisor, webhooks};

/// The present holder of a role. A message to an empty role is dropped: whoever takes the role asks for what it needs.
pub struct Link<M: Message>(RwLock<Option<ActorRef<M>>>);

impl<M: Message> Default for Link<M> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<M: Message> Link<M> {
    /// Puts an actor into the role.
    pub fn set(&self, actor: ActorRef<M>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }

    /// Sends if somebody is there; says whether it was delivered to a mailbox.
    pub fn send(&self, message: M) -> bool {
        let role = self.0.read().unwrap_or_else(PoisonError::into_inner);
        role.as_ref().is_some_and(|actor| actor.send_message(message).is_ok())
    }
}

/// All roles of a node.
#[derive(Default)]
pub struct Links {
    /// Ledger → bus.
    pub relay: Link<relay::Msg>,
    /// Bus → scheduler.
    pub intake: Link<intake::Msg>,
    /// Which job to which slot.
    pub scheduler: Link<scheduler::Msg>,
    /// Owns the slots.
    pub slots: Link<slot_supervisor::Msg>,
    /// Owns what nobody owns.
    pub janitor: Link<janitor::Msg>,
    /// Tells owners by HTTP.
    pub webhooks: Link<webhooks::Msg>,
}
