//! One thread that starts all workers.
//!
//! A worker asks the kernel to be killed when its parent dies. The kernel means the *thread* that started it: a worker
//! started from a thread pool would be killed whenever the pool shrinks. This thread lives as long as the runtime, and
//! when the runtime goes, its workers go.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Starts waiting at once: one for every slot that a node may have.
const WAITING_MAX: usize = 64;

struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread.
#[derive(Debug)]
pub struct Spawner {
    orders: SyncSender<Order>,
}

impl Spawner {
    /// Starts the thread, which ends when this value is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (orders, inbox) = sync_channel::<Order>(WAITING_MAX);
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for mut order in inbox {
                let _entered = order.runtime.enter();
                // If nobody waits any more, dropping the child kills it.
                let _ = order.reply.send(order.command.spawn());
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a program from the thread.
    ///
    /// # Errors
    /// Of the start, or when too many wait.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let order = Order { command, runtime: Handle::current(), reply };
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => io::Error::from(io::ErrorKind::ResourceBusy),
            TrySendError::Disconnected(_) => io::Error::from(io::ErrorKind::BrokenPipe),
        })?;
        answer.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
    }
}
