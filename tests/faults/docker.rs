//! Faults of containers and of the Docker Engine.

use std::rc::Rc;

use super::cluster::{NODES, SLOTS};
use super::common::docker::{Cluster as Containers, image};
use super::common::engine::Engine;
use super::common::server::Options;
use super::run::Run;

/// Nodes whose slots are containers, all of one name.
async fn begin(name: &'static str, containers: Rc<Containers>, engine: Option<&Engine>) -> Run {
    let shape = |_, mut options: Options| {
        options.environment.extend(containers.options(SLOTS).environment);
        match engine {
            Some(engine) => options.set("INKPOOL_SLOTS__DOCKER__HOST", engine.host()),
            None => options,
        }
    };
    let mut run = Run::begin_with(name, shape, |_| {}).await.expect("the services are there");
    run.look = Box::new(move || {
        let (all, most) = (containers.containers(None).len(), NODES * SLOTS as usize);
        if all > most { vec![format!("{all} containers for {most} slots")] } else { Vec::new() }
    });
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn kill_container() {
    let containers = Rc::new(Containers::new());
    let mut run = begin("kill_container", containers.clone(), None).await;
    run.until_busy(0).await;
    run.mark();
    let node = format!("label=inkpool.node={}", run.cluster.nodes[0].name());
    for container in containers.containers(Some(&node)) {
        containers.docker(&["kill", &container]);
    }
    run.hold(30, 5).await;
    run.end(SLOTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn kill_engine() {
    let mut engine = Engine::start();
    engine.load(&image());
    let containers = Rc::new(Containers::on(&["-H".to_owned(), engine.host()]));
    let mut run = begin("kill_engine", containers, Some(&engine)).await;
    run.until_busy(0).await;
    engine.kill();
    run.hold(30, 5).await;
    engine.start_again();
    run.mark();
    run.hold(20, 5).await;
    run.end(0).await;
}
