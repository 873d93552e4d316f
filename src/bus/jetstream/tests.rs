use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::bus::suite::{Fresh, bus_suite, settings};

mod who;

#[path = "../../../tests/common/nats.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole program")]
mod nats;

use nats::Nats;

bus_suite!(open);

fn at(nats: &Nats) -> NatsSettings {
    NatsSettings {
        url: nats.url(),
        user: String::new(),
        password: String::new(),
        credentials_file: Default::default(),
        ca_file: Default::default(),
        client_cert_file: Default::default(),
        client_key_file: Default::default(),
        tls: false,
        replicas: 1,
        timeout: Duration::from_secs(2),
        public: Default::default(),
    }
}

async fn open(settings: BusSettings) -> Fresh {
    let nats = Nats::start();
    let bus = JetStreamBus::open(&at(&nats), settings).await.unwrap();
    Fresh { bus: Arc::new(bus), _keep: Box::new(nats) }
}

/// Tries until it works, as the actors do.
async fn publish(bus: &JetStreamBus, id: &str) {
    let began = Instant::now();
    while let Err(error) = bus.publish(Lane::Bulk, id, Bytes::copy_from_slice(id.as_bytes())).await {
        assert!(began.elapsed() < Duration::from_secs(30), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pull_one(bus: &JetStreamBus) -> Delivery {
    bus.pull(Lane::Bulk, 1, Duration::from_secs(20)).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_what_it_acknowledged() {
    let mut nats = Nats::start();
    let bus = JetStreamBus::open(&at(&nats), settings()).await.unwrap();
    publish(&bus, "a").await;
    nats.kill();
    // Before it knows, the client may keep `b` and send it later: such a message is of no harm, a claim fences it.
    while bus.link.check().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(bus.publish(Lane::Bulk, "b", Bytes::new()).await, Err(BusError::Unavailable(_))));
    assert!(matches!(bus.pull(Lane::Bulk, 1, Duration::ZERO).await, Err(BusError::Unavailable(_))));
    nats.run();
    publish(&bus, "c").await;
    // On a slow machine one of them may come twice: its ack is late, or `c` was stored and not told so.
    let mut pulled = BTreeSet::new();
    while bus.depth(Lane::Bulk).await.unwrap() != Depth::default() {
        let delivery = pull_one(&bus).await;
        pulled.insert(delivery.payload.clone());
        let _ = delivery.acker.ack().await;
    }
    assert_eq!(pulled, BTreeSet::from(["a".into(), "c".into()]), "what was not acknowledged was not sent later either");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_server_is_set_up_again_and_old_answers_do_not_count() {
    let mut nats = Nats::start();
    let bus = JetStreamBus::open(&at(&nats), settings()).await.unwrap();
    publish(&bus, "a").await;
    let old = pull_one(&bus).await;
    nats.kill();
    nats.wipe();
    nats.run();
    publish(&bus, "b").await;
    assert_eq!(bus.messages(Lane::Bulk).await.unwrap(), ["b"]);
    // Number 1 of the stream, as `a` was; the ack of `a` must not end it.
    let new = pull_one(&bus).await;
    assert_eq!(old.acker.ack().await, Err(BusError::NotHeld));
    assert_eq!(bus.depth(Lane::Bulk).await.unwrap(), Depth { pending: 0, in_flight: 1 });
    new.acker.ack().await.unwrap();
    assert_eq!(bus.depth(Lane::Bulk).await.unwrap(), Depth::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_not_waited_for() {
    let nats = Nats::start();
    let bus = JetStreamBus::open(&at(&nats), settings()).await.unwrap();
    nats.signal("STOP");
    let since = Instant::now();
    assert!(matches!(bus.pull(Lane::Bulk, 1, Duration::from_secs(60)).await, Err(BusError::Unavailable(_))));
    assert!(matches!(bus.publish(Lane::Bulk, "a", Bytes::new()).await, Err(BusError::Unavailable(_))));
    assert!(since.elapsed() < Duration::from_secs(30), "after {:?}", since.elapsed());
    nats.signal("CONT");
    publish(&bus, "b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_set_right() {
    let nats = Nats::start();
    JetStreamBus::open(&at(&nats), settings()).await.unwrap();
    let wider = BusSettings { ack_wait: Duration::from_secs(7), messages_max: 9, ..settings() };
    let bus = JetStreamBus::open(&at(&nats), wider).await.unwrap();
    let info = ensure::info(&bus.context, JOBS_STREAM, &consumer_of(Lane::Bulk)).await.unwrap().unwrap();
    assert_eq!((info.config.ack_wait, info.config.max_ack_pending), (wider.ack_wait, 9));
    let mut stream = bus.context.get_stream(JOBS_STREAM).await.unwrap();
    assert_eq!(stream.info().await.unwrap().config.max_messages_per_subject, 9);

    bus.context.delete_stream(JOBS_STREAM).await.unwrap();
    let memory =
        jetstream::stream::Config { storage: jetstream::stream::StorageType::Memory, ..ensure::jobs(settings(), 1) };
    bus.context.create_stream(memory).await.unwrap();
    let Err(BusError::Unfit(why)) = JetStreamBus::open(&at(&nats), settings()).await.map(drop) else {
        panic!("a stream in memory was taken")
    };
    assert!(why.contains(JOBS_STREAM) && why.contains("storage"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_consumer_is_made_again() {
    let nats = Nats::start();
    let bus = JetStreamBus::open(&at(&nats), settings()).await.unwrap();
    publish(&bus, "a").await;
    bus.context.delete_consumer_from_stream(consumer_of(Lane::Bulk), JOBS_STREAM).await.unwrap();
    assert!(matches!(bus.pull(Lane::Bulk, 1, Duration::from_secs(2)).await, Err(BusError::Unavailable(_))));
    assert_eq!(pull_one(&bus).await.payload, "a");
}

/// A server that says it is older, on a port of our own.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_refused_with_a_clear_word() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let info = r#"{"server_id":"A","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}"#;
            stream.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
            let mut seen = [0; 4096];
            while stream.read(&mut seen).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"PONG\r\n").await;
            }
        }
    });
    let nats = Nats::start();
    let Err(BusError::Unfit(why)) = JetStreamBus::open(&NatsSettings { url, ..at(&nats) }, settings()).await.map(drop)
    else {
        panic!("an old server was taken")
    };
    assert_eq!(why, "nats-server 2.10 or newer is needed, this one is 2.9.10");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_lose_one_and_nothing_else() {
    let mut servers = Nats::start_cluster(3);
    let url = servers.iter().map(Nats::url).collect::<Vec<_>>().join(",");
    let replicated = NatsSettings { url, replicas: 3, timeout: Duration::from_secs(5), ..at(&servers[0]) };
    let bus = JetStreamBus::open(&replicated, settings()).await.unwrap();
    publish(&bus, "a").await;
    let mut stream = bus.context.get_stream(JOBS_STREAM).await.unwrap();
    let info = stream.info().await.unwrap();
    assert_eq!(info.config.num_replicas, 3);
    let leader = info.cluster.as_ref().unwrap().leader.clone().unwrap();
    servers.iter_mut().find(|server| server.name() == leader).unwrap().kill();
    publish(&bus, "b").await;
    let mut pulled = BTreeSet::new();
    while pulled.len() < 2 {
        // An answer may be lost with the leader; then it comes again.
        let Ok(found) = bus.pull(Lane::Bulk, 1, Duration::from_secs(2)).await else { continue };
        for delivery in found {
            pulled.insert(delivery.payload.clone());
            let _ = delivery.acker.ack().await;
        }
    }
    assert_eq!(pulled, BTreeSet::from(["a".into(), "b".into()]));
}
