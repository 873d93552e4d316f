//! docker-compose.yml brought up for real: servers in containers, their workers in others, with the services beside them.
#![cfg(feature = "fault-points")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::docker::{Cluster, image};
use common::pages;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Bound on every wait: seven containers start here, and one node's lease runs out.
const PATIENCE: Duration = Duration::from_secs(240);
const PASSWORD: &str = "seven crooked lamps";
const PROXIED: &str = "docker-compose.socket-proxy.yml";

/// The services of one test, taken down with the value.
struct Compose {
    project: String,
    files: Vec<&'static str>,
    environment: Vec<(&'static str, String)>,
    /// On the host, with a directory for each node.
    _slots: tempfile::TempDir,
}

impl Compose {
    fn new(cluster: &Cluster, files: &[&'static str]) -> Self {
        let slots = tempfile::Builder::new().prefix("inkpool-slots-").tempdir().unwrap();
        let environment = vec![
            ("INKPOOL_IMAGE", image()),
            ("INKPOOL_SLOTS", "1".to_owned()),
            ("INKPOOL_CLUSTER", cluster.name.clone()),
            ("INKPOOL_SLOTS_DIRECTORY", slots.path().display().to_string()),
        ];
        let files = [&["docker-compose.yml"], files].concat();
        Self { project: cluster.name.clone(), files, environment, _slots: slots }
    }

    fn set(&mut self, name: &'static str, value: impl ToString) {
        self.environment.push((name, value.to_string()));
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let plugin = Command::new("docker").args(["compose", "version"]).output().is_ok_and(|it| it.status.success());
        let mut command = Command::new(if plugin { "docker" } else { "docker-compose" });
        command.args(plugin.then_some("compose")).args(["-p", &self.project]);
        command.args(self.files.iter().flat_map(|file| ["-f", file])).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.output().expect("docker-compose")
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn container(&self, service: &str) -> String {
        self.must(&["ps", "-q", service])
    }

    fn logs(&self) -> String {
        String::from_utf8_lossy(&self.run(&["logs", "--tail", "200"]).stdout).into_owned()
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        self.run(&["down", "--volumes", "--timeout", "30"]);
    }
}

/// The site as somebody sees it.
struct Site<'a> {
    compose: &'a Compose,
    base: String,
    client: reqwest::Client,
    token: Option<String>,
    began: Instant,
}

impl<'a> Site<'a> {
    fn new(compose: &'a Compose, base: String) -> Self {
        Self { compose, base, client: reqwest::Client::new(), token: None, began: Instant::now() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Value {
        loop {
            if let Ok(answer) = self.request("GET", path).send().await {
                return answer.json().await.unwrap_or(Value::Null);
            }
            self.pause("no answer").await;
        }
    }

    /// Waits a little, but not for ever.
    async fn pause(&self, what: &str) {
        assert!(self.began.elapsed() < PATIENCE, "{what}\n{}", self.compose.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn until_ready(&self) {
        loop {
            let ready = self.get("/readyz").await;
            if ready["ready"] == true {
                return;
            }
            self.pause(&format!("not ready: {ready}")).await;
        }
    }

    /// The first account, and a token of it.
    async fn enter(&mut self) {
        let who = json!({"username": "root", "password": PASSWORD});
        let account = self.request("POST", "/api/v1/accounts").json(&who).send().await.unwrap();
        assert_eq!(account.status(), 201, "{}", account.text().await.unwrap());
        let session = self.request("POST", "/api/v1/session").json(&who).send().await.unwrap();
        let cookie = session.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("inkpool_session="), "usable on plain HTTP from this machine: {cookie}");
        let token = self.request("POST", "/api/v1/tokens").header("cookie", cookie);
        let token = token.json(&json!({"name": "test", "scopes": ["read", "write", "admin"]})).send().await.unwrap();
        assert_eq!(token.status(), 201);
        let token: Value = token.json().await.unwrap();
        self.token = token["secret"].as_str().or(token["token"].as_str()).map(str::to_owned);
        assert!(self.token.is_some(), "{token}");
    }

    /// Waits for as many live nodes, each with a worker; their names.
    async fn nodes(&self, count: usize) -> Vec<String> {
        loop {
            let cluster = self.get("/api/v1/cluster").await;
            assert_ne!(cluster["status"], 403, "{cluster}");
            let nodes = cluster["nodes"].as_array().cloned().unwrap_or_default();
            let works = |node: &Value| {
                node["slots"].as_array().is_some_and(|slots| slots.iter().any(|slot| slot["state"] != "creating"))
            };
            if nodes.len() == count && nodes.iter().all(works) {
                return nodes.iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect();
            }
            self.pause(&format!("not {count} nodes: {cluster}")).await;
        }
    }

    /// Uploads as a client does that may be cut off: again, with the same key. The job's id.
    async fn submit(&self, bytes: Vec<u8>, key: &str) -> String {
        loop {
            let request = self.request("POST", "/api/v1/images?preset=document&filename=page.png");
            let answer = request.header("idempotency-key", key).body(bytes.clone()).send().await;
            match answer {
                Ok(answer) if answer.status() == 202 => {
                    let answer: Value = answer.json().await.unwrap();
                    return answer["items"][0]["job"]["id"].as_str().unwrap().to_owned();
                }
                Ok(answer) if answer.status().is_server_error() => {}
                Ok(answer) => panic!("{}: {}", answer.status(), answer.text().await.unwrap()),
                Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
            }
            self.pause("no upload is taken").await;
        }
    }

    async fn finished(&self, job: &str) -> Value {
        loop {
            let job = self.get(&format!("/api/v1/jobs/{job}")).await;
            if job["state"] == "succeeded" {
                return job;
            }
            assert_ne!(job["state"], "failed", "{job}\n{}", self.compose.logs());
            self.pause(&job.to_string()).await;
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Port 80 where it can be had.
fn published() -> u16 {
    if std::net::TcpListener::bind("127.0.0.1:80").is_ok() { 80 } else { free_port() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_without_services_works_from_its_image() {
    let cluster = Cluster::new();
    let mut compose = Compose::new(&cluster, &[]);
    let listen = format!("127.0.0.1:{}", free_port());
    compose.set("INKPOOL_LISTEN", &listen);
    compose.must(&["up", "-d", "single"]);
    let site = Site::new(&compose, format!("http://{listen}"));
    site.until_ready().await;
    let job = site.submit(pages::png(320, 240, 1), "one").await;
    site.finished(&job).await;
    assert_eq!(cluster.running().len(), 1, "a worker in a container of its own");
    let server = compose.must(&["ps", "-q"]);
    loop {
        let health = cluster.docker(&["inspect", "--format", "{{.State.Health.Status}}", &server]);
        if health == "healthy" {
            break;
        }
        site.pause(&health).await;
    }
    drop(compose);
    assert_eq!(cluster.containers(None), Vec::<String>::new(), "nothing is left of a node that was stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_behind_port_80_loses_a_node_and_no_page() {
    let cluster = Cluster::new();
    let mut compose = Compose::new(&cluster, &[]);
    let port = published();
    let base = if port == 80 { "http://localhost".to_owned() } else { format!("http://localhost:{port}") };
    compose.set("INKPOOL_PUBLISH", format!("127.0.0.1:{port}"));
    compose.set("INKPOOL_URL", &base);
    compose.must(&["up", "-d"]);
    let mut site = Site::new(&compose, base);
    site.until_ready().await;
    site.enter().await;
    site.nodes(2).await;

    // A page through the port, cleaned in a container, fetched from the bucket itself.
    let first = site.submit(pages::png(320, 240, 1), "first").await;
    let done = site.finished(&first).await;
    assert!(!cluster.running().is_empty(), "workers have containers of their own");
    fetched_from_s3(&site, &cluster, &done).await;
    announced(&site).await;

    // A node's container is killed while it works; uploads go on meanwhile.
    let mut jobs = Vec::new();
    for seed in 0..6 {
        jobs.push(site.submit(pages::png(1000, 1400, seed), &format!("before-{seed}")).await);
    }
    let killed = killed_at_work(&site, &cluster).await;
    for seed in 6..10 {
        jobs.push(site.submit(pages::png(320, 240, seed), &format!("after-{seed}")).await);
    }
    for job in &jobs {
        site.finished(job).await;
    }
    let images = site.get("/api/v1/images?limit=100").await;
    assert_eq!(images["items"].as_array().unwrap().len(), jobs.len() + 2, "each page once: {images}");
    site.nodes(1).await;

    // It comes back, and what it left in the engine goes.
    compose.must(&["start", &killed]);
    site.nodes(2).await;
    assert_eq!(cluster.running().len(), 2, "one worker for each slot, and no orphan");
    drop(site);
    drop(compose);
    assert_eq!(cluster.containers(None), Vec::<String>::new(), "nothing is left of nodes that were stopped");
}

/// Reads the cleaned page out of the bucket past every node, and compares it with what the site serves.
async fn fetched_from_s3(site: &Site<'_>, cluster: &Cluster, job: &Value) {
    let image = site.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
    let files = image["files"].as_array().unwrap();
    let clean = files.iter().find(|file| file["name"] == "clean.png").unwrap();
    let served = site.request("GET", clean["url"].as_str().unwrap()).send().await.unwrap().bytes().await.unwrap();
    let address = "{{range $name, $network := .NetworkSettings.Networks}}{{$network.IPAddress}} {{end}}";
    let address = cluster.docker(&["inspect", "--format", address, &site.compose.container("s3")]);
    let endpoint = format!("http://{}:7070", address.split_whitespace().next().unwrap());
    let bucket =
        rusty_s3::Bucket::new(endpoint.parse().unwrap(), rusty_s3::UrlStyle::Path, "inkpool-objects", "us-east-1")
            .unwrap();
    let credentials = rusty_s3::Credentials::new("inkpool", "inkpool-secret");
    let key = format!("out/{}/1/clean.png", job["id"].as_str().unwrap());
    let get = rusty_s3::actions::GetObject::new(&bucket, Some(&credentials), &key);
    let url = rusty_s3::S3Action::sign(&get, Duration::from_secs(60));
    let answer = site.client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{key}");
    assert_eq!(answer.bytes().await.unwrap(), served);
    assert_eq!(clean["sha256"], hex::encode(Sha256::digest(&served)));
}

/// Puts bytes past the nodes, by a signed URL that leads through the same port.
async fn announced(site: &Site<'_>) {
    let bytes = pages::png(64, 64, 99);
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let file = json!({"filename": "a.png", "size_bytes": bytes.len(), "sha256": sha256, "content_type": "image/png"});
    let order = json!({"preset": "document", "files": [file]});
    let answer: Value =
        site.request("POST", "/api/v1/uploads").json(&order).send().await.unwrap().json().await.unwrap();
    let target = &answer["items"][0];
    let url = target["url"].as_str().unwrap();
    assert!(url.starts_with(&site.base), "{url}");
    let mut put = site.client.put(url).body(bytes);
    for (name, value) in target["headers"].as_object().unwrap() {
        if name != "content-length" {
            put = put.header(name, value.as_str().unwrap());
        }
    }
    let put = put.send().await.unwrap();
    assert_eq!(put.status(), 200, "{}", put.text().await.unwrap());
    let complete = format!("/api/v1/uploads/{}/complete", target["id"].as_str().unwrap());
    let complete: Value = site.request("POST", &complete).send().await.unwrap().json().await.unwrap();
    site.finished(complete["job"]["id"].as_str().unwrap()).await;
    // Nothing but a signed PUT comes through to the bucket.
    let bare = site.client.put(site.url("/inkpool-objects/up/x")).body("x").send().await.unwrap();
    assert!(bare.status() == 404 || bare.status() == 405, "{}", bare.status());
    let listing = site.client.get(site.url("/inkpool-objects/?list-type=2&X-Amz-Signature=x")).send().await.unwrap();
    assert_eq!(listing.status(), 404);
}

/// Kills the container of a node that runs a job; its service.
async fn killed_at_work(site: &Site<'_>, cluster: &Cluster) -> String {
    let node = loop {
        let running = site.get("/api/v1/jobs?state=running").await;
        if let Some(node) = running["items"][0]["node"].as_str() {
            break node.to_owned();
        }
        site.pause("no job runs").await;
    };
    for service in ["node-a", "node-b"] {
        let container = site.compose.container(service);
        if cluster.docker(&["exec", &container, "cat", "/var/lib/inkpool/node"]) == node {
            cluster.docker(&["kill", &container]);
            return service.to_owned();
        }
    }
    panic!("{node} is neither of both");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_proxy_lets_through_what_nodes_need_and_no_more() {
    let cluster = Cluster::new();
    let mut compose = Compose::new(&cluster, &[PROXIED]);
    let port = free_port();
    let base = format!("http://localhost:{port}");
    compose.set("INKPOOL_PUBLISH", format!("127.0.0.1:{port}"));
    compose.set("INKPOOL_URL", &base);
    compose.must(&["up", "-d"]);
    let mut site = Site::new(&compose, base);
    site.until_ready().await;
    site.enter().await;
    site.nodes(2).await;
    let job = site.submit(pages::png(320, 240, 1), "first").await;
    site.finished(&job).await;
    let node = compose.container("node-a");
    let socket = cluster.docker(&["inspect", "--format", "{{range .Mounts}}{{.Source}} {{end}}", &node]);
    assert!(!socket.contains("docker.sock"), "{socket}");

    // As somebody who has taken over a node would ask.
    let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let proxy = cluster.docker(&["inspect", "--format", address, &compose.container("socket-proxy")]);
    let proxy = format!("http://{proxy}:2375");
    let asked = async |method: &str, path: &str| {
        let request = site.client.request(method.parse().unwrap(), format!("{proxy}{path}"));
        request.json(&json!({})).send().await.unwrap().status().as_u16()
    };
    assert_eq!(asked("GET", "/version").await, 200);
    let other = compose.container("postgres");
    let name = cluster.docker(&["inspect", "--format", "{{.Name}}", &other]).trim_start_matches('/').to_owned();
    for (method, path) in [
        ("GET", format!("/containers/{other}/json")),
        ("GET", format!("/containers/{name}/json")),
        ("GET", format!("/containers/inkpool-node-00000000-0-00000000/../{other}/json")),
        ("GET", format!("/containers/inkpool-node-00000000-0-00000000%2f..%2f{other}/json")),
        ("GET", "/info".to_owned()),
        ("GET", "/images/json".to_owned()),
        ("GET", format!("/containers/{other}/archive?path=/")),
        ("POST", format!("/containers/{other}/exec")),
        ("POST", format!("/containers/{other}/stop")),
        ("POST", "/containers/inkpool-node-00000000-0-00000000/exec".to_owned()),
        ("POST", "/containers/create".to_owned()),
        ("POST", "/containers/create?name=other".to_owned()),
        ("DELETE", "/containers/inkpool-node-a-1".to_owned()),
        ("POST", "/build".to_owned()),
        ("POST", "/images/create?fromImage=x".to_owned()),
        ("DELETE", format!("/containers/{other}")),
        ("DELETE", format!("/images/{}", image())),
        ("DELETE", "/volumes/x".to_owned()),
    ] {
        assert_eq!(asked(method, &path).await, 403, "{method} {path}");
    }
    let up = cluster.docker(&["inspect", "--format", "{{.State.Running}}", &other]);
    assert_eq!(up, "true");
}
