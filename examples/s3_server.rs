//! The S3 server of the tests as a program of its own, for tests that need one in a container: `s3_server ADDRESS BUCKET`, with
//! ROOT_ACCESS_KEY and ROOT_SECRET_KEY in the environment. Its objects are gone with it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a program of tests")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "the tests use the rest")]

#[path = "../tests/common/s3.rs"]
mod s3;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (address, bucket) = (arguments.next().unwrap(), arguments.next().unwrap());
    let variable = |name: &str| std::env::var(name).unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(bucket)).unwrap();
    let keys = (variable("ROOT_ACCESS_KEY"), variable("ROOT_SECRET_KEY"));
    let mut server = s3::S3Server::start_with(root, &address, &keys.0, &keys.1).await;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = term.recv() => {}
        _ = &mut server.server => {}
    }
}
