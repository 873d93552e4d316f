//! Three nodes of the real program on a PostgreSQL, a NATS and an S3 server of the run's own, with a proxy between each node
//! and each service.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::common::nats::Nats;
use super::common::postgres::Postgres;
use super::common::server::{Options, Server, data_directory};
use super::proxy::Proxy;
use super::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

pub const NODES: usize = 3;
/// Of each node.
pub const SLOTS: u32 = 2;

/// One node and its cables.
pub struct Node {
    pub data: PathBuf,
    pub postgres: Proxy,
    pub nats: Proxy,
    pub s3: Proxy,
    pub options: Options,
    /// `None` while it is dead.
    pub server: Option<Server>,
    /// What its earlier processes said.
    said: String,
}

impl Node {
    /// The name by which the ledger knows it.
    pub fn name(&self) -> String {
        std::fs::read_to_string(self.data.join("node")).unwrap().trim().to_owned()
    }

    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().unwrap()
    }

    pub fn start(&mut self) {
        assert!(self.server.is_none(), "it runs");
        self.server = Some(tokio::task::block_in_place(|| Server::start(&self.data, &self.options)));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        tokio::task::block_in_place(|| server.kill());
        self.said.push_str(&server.log());
    }

    /// SIGTERM; it must end well.
    pub async fn stop(&mut self) {
        let mut server = self.server.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || (server.terminate(), server.log())).await.unwrap();
        assert_eq!(ended.0, Some(0), "{}", ended.1);
        self.said.push_str(&ended.1);
    }
}

/// Everything; gone with the value.
pub struct Cluster {
    // Dropped first: nodes without services would only complain.
    pub nodes: Vec<Node>,
    pub postgres: Postgres,
    pub nats: Nats,
    pub s3: S3Server,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Services and nodes that have not started yet; `shape` may change the options of each.
    pub async fn new(mut shape: impl FnMut(usize, Options) -> Options) -> Self {
        let (postgres, nats, s3) = (Postgres::start().await, Nats::start(), S3Server::start().await);
        let directory = data_directory();
        let store: SocketAddr = s3.endpoint.trim_start_matches("http://").parse().unwrap();
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let data = directory.path().join(format!("node-{number}"));
            std::fs::create_dir(&data).unwrap();
            let cables =
                (Proxy::start(postgres.address()).await, Proxy::start(nats.address()).await, Proxy::start(store).await);
            let options = shape(number, options(&cables));
            let (postgres, nats, s3) = cables;
            nodes.push(Node { data, postgres, nats, s3, options, server: None, said: String::new() });
        }
        Self { nodes, postgres, nats, s3, directory }
    }

    pub fn start_nodes(&mut self) {
        self.nodes.iter_mut().for_each(Node::start);
    }

    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.options.listen.clone()).collect()
    }

    /// Below it is everything that the nodes write.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes what the nodes said where a build keeps its files; the place.
    pub fn keep_logs(&self, name: &str) -> PathBuf {
        let mut text = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let now = node.server.as_ref().map_or_else(String::new, Server::log);
            text.push_str(&format!("--- node {number}\n{}{now}", node.said));
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{name}.log"));
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn options((postgres, nats, s3): &(Proxy, Proxy, Proxy)) -> Options {
    // A node that starts again must be found where it was.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Options { listen: format!("127.0.0.1:{port}"), ..Options::default() }
        .slots(SLOTS)
        .set("INKPOOL_STORE__URL", Postgres::url_at(postgres.address))
        .set("INKPOOL_BUS__URL", format!("nats://{}", nats.address))
        .set("INKPOOL_BLOBS__URL", format!("s3://{BUCKET}/inkpool"))
        .set("INKPOOL_BLOBS__ENDPOINT", format!("http://{}", s3.address))
        .set("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .set("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .set("INKPOOL_SLOTS__MEMORY_BYTES_MAX", 512 << 20)
}

/// Leases of a few seconds, so that the ordinary tests need not wait for those of the defaults.
pub fn short_leases(options: Options) -> Options {
    options
        .set("INKPOOL_NODES__LEASE_S", 4)
        .set("INKPOOL_NODES__FENCE_S", 3)
        .set("INKPOOL_NODES__RENEW_EVERY_S", 1)
        .set("INKPOOL_NODES__RESCUE_EVERY_S", 1)
}
