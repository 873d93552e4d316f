//! The contract of the root supervisor, one test per clause, on real actors that misbehave when told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;
use inkpool::actors::supervisor::{Arguments, Child, ChildSpec, Msg as SupervisorMsg, Supervisor};
use inkpool::config;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};

/// What a test tells its child.
enum Msg {
    Ping(oneshot::Sender<()>),
    Drain(oneshot::Sender<()>),
    Panic,
    Fail,
    Hang,
}

/// Counts starts and stops of one child.
#[derive(Default)]
struct Diary {
    starts: Mutex<Vec<ActorRef<Msg>>>,
    failing_starts: Mutex<u32>,
    never_drains: Mutex<bool>,
}

impl Diary {
    fn starts(&self) -> usize {
        self.starts.lock().unwrap().len()
    }

    fn tell(&self, message: Msg) {
        let starts = self.starts.lock().unwrap();
        starts.last().unwrap().send_message(message).unwrap();
    }
}

struct Toy;

impl Actor for Toy {
    type Msg = Msg;
    type State = Arc<Diary>;
    type Arguments = (Arc<Diary>, Arc<Mutex<Vec<&'static str>>>, &'static str);

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        (diary, log, name): Self::Arguments,
    ) -> Result<Arc<Diary>, ActorProcessingErr> {
        let mut failing = diary.failing_starts.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err("told not to start".into());
        }
        drop(failing);
        log.lock().unwrap().push(name);
        diary.starts.lock().unwrap().push(myself);
        Ok(diary)
    }

    async fn handle(&self, _: ActorRef<Msg>, message: Msg, diary: &mut Arc<Diary>) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => answer.send(()).unwrap_or_default(),
            Msg::Drain(answer) => {
                if *diary.never_drains.lock().unwrap() {
                    std::mem::forget(answer);
                } else {
                    answer.send(()).unwrap_or_default();
                }
            }
            Msg::Panic => panic!("told to panic"),
            Msg::Fail => return Err("told to fail".into()),
            Msg::Hang => std::future::pending().await,
        }
        Ok(())
    }
}

/// A supervisor with two toys, torn down with the test.
struct Universe {
    supervisor: ActorRef<SupervisorMsg>,
    first: Arc<Diary>,
    second: Arc<Diary>,
    log: Arc<Mutex<Vec<&'static str>>>,
    fatal: watch::Receiver<Option<String>>,
}

fn spec(name: &'static str, diary: &Arc<Diary>, log: &Arc<Mutex<Vec<&'static str>>>) -> ChildSpec {
    let (diary, log) = (diary.clone(), log.clone());
    ChildSpec {
        name,
        drain_timeout: Duration::from_millis(300),
        spawn: Box::new(move |supervisor| {
            let arguments = (diary.clone(), log.clone(), name);
            async move {
                let (actor, _) = Toy::spawn_linked(None, Toy, arguments, supervisor).await?;
                let (ping, drain) = (actor.clone(), actor.clone());
                Ok(Child {
                    cell: actor.get_cell(),
                    ping: Box::new(move |ask| ping.send_message(Msg::Ping(ask)).is_ok()),
                    drain: Box::new(move |ask| drain.send_message(Msg::Drain(ask)).is_ok()),
                })
            }
            .boxed()
        }),
    }
}

async fn universe(first: Arc<Diary>, settings: config::Actors) -> Universe {
    let second = Arc::new(Diary::default());
    let log = Arc::new(Mutex::new(Vec::new()));
    let children = vec![spec("first", &first, &log), spec("second", &second, &log)];
    let (fatal_tx, fatal) = watch::channel(None);
    let arguments = Arguments { children, settings, fatal: fatal_tx };
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, arguments).await.unwrap();
    Universe { supervisor, first, second, log, fatal }
}

fn settings() -> config::Actors {
    config::Actors { ping_every_s: 1, ping_timeout_s: 1, restarts_max: 3, restart_window_s: 60 }
}

/// Waits for a fact; the bound only keeps a red test from hanging.
async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if fact() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

impl Universe {
    async fn stop(self) {
        let (ask, answer) = oneshot::channel();
        self.supervisor.send_message(SupervisorMsg::Stop(ask)).unwrap();
        answer.await.unwrap();
        for diary in [&self.first, &self.second] {
            for actor in diary.starts.lock().unwrap().iter() {
                assert_eq!(actor.get_status(), ractor::ActorStatus::Stopped, "an actor leaked");
            }
        }
    }
}

#[tokio::test]
async fn a_panic_restarts_the_child_alone() {
    let universe = universe(Arc::default(), settings()).await;
    universe.first.tell(Msg::Panic);
    until("the child is started again", || universe.first.starts() == 2).await;
    assert_eq!(universe.second.starts(), 1);
    universe.stop().await;
}

#[tokio::test]
async fn an_error_restarts_the_child_alone() {
    let universe = universe(Arc::default(), settings()).await;
    universe.second.tell(Msg::Fail);
    until("the child is started again", || universe.second.starts() == 2).await;
    assert_eq!(universe.first.starts(), 1);
    universe.stop().await;
}

#[tokio::test]
async fn a_hang_is_noticed_and_ended() {
    let universe = universe(Arc::default(), settings()).await;
    universe.first.tell(Msg::Hang);
    until("the child is started again", || universe.first.starts() == 2).await;
    let hung = universe.first.starts.lock().unwrap()[0].clone();
    until("the hung actor is gone", || hung.get_status() == ractor::ActorStatus::Stopped).await;
    assert_eq!(universe.second.starts(), 1);
    universe.stop().await;
}

#[tokio::test]
async fn a_failing_start_is_tried_again() {
    let first = Arc::new(Diary { failing_starts: Mutex::new(2), ..Diary::default() });
    let universe = universe(first, settings()).await;
    until("the third start works", || universe.first.starts() == 1).await;
    assert!(universe.fatal.borrow().is_none());
    universe.stop().await;
}

#[tokio::test]
async fn beyond_the_budget_the_node_gives_up_and_says_why() {
    let universe = universe(Arc::default(), settings()).await;
    for restarts in 1..=3 {
        universe.first.tell(Msg::Panic);
        until("the child is started again", || universe.first.starts() == restarts + 1).await;
    }
    universe.first.tell(Msg::Panic);
    until("the node gives up", || universe.fatal.borrow().is_some()).await;
    let reason = universe.fatal.borrow().clone().unwrap();
    assert!(reason.contains("first") && reason.contains("more than 3 restarts"), "{reason}");
    assert_eq!(universe.first.starts(), 4);
    universe.stop().await;
}

#[tokio::test]
async fn a_failing_start_counts_towards_the_budget() {
    let first = Arc::new(Diary { failing_starts: Mutex::new(100), ..Diary::default() });
    let universe = universe(first, settings()).await;
    until("the node gives up", || universe.fatal.borrow().is_some()).await;
    assert_eq!(universe.first.starts(), 0);
    universe.stop().await;
}

#[tokio::test]
async fn children_start_in_reverse_and_stop_in_order() {
    let universe = universe(Arc::default(), settings()).await;
    assert_eq!(*universe.log.lock().unwrap(), ["second", "first"]);
    let (ask, answer) = oneshot::channel();
    *universe.first.never_drains.lock().unwrap() = true;
    let (first, second) =
        (universe.first.starts.lock().unwrap()[0].clone(), universe.second.starts.lock().unwrap()[0].clone());
    universe.supervisor.send_message(SupervisorMsg::Stop(ask)).unwrap();
    until("the first is stopped though it does not drain", || first.get_status() == ractor::ActorStatus::Stopped).await;
    answer.await.unwrap();
    assert_eq!(second.get_status(), ractor::ActorStatus::Stopped);
    assert_eq!(universe.first.starts() + universe.second.starts(), 2, "nothing is started again during a stop");
}
