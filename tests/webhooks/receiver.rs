//! A receiver: a real HTTP server that keeps what comes, and answers as it is told; and signatures looked at by code that is not
//! ours.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::common::server::{Options, PATIENCE, Server};

/// One request.
#[derive(Debug, Clone)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
    pub at: Instant,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn kind(&self) -> &str {
        self.body["kind"].as_str().unwrap()
    }

    /// HMAC-SHA256 by hand (RFC 2104), over what a signature stands for.
    pub fn signature_by(&self, secret: &str) -> String {
        let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut block = [0u8; 64];
        block[..key.len()].copy_from_slice(&key);
        let signed = format!("{}.{}.{}", self.id(), self.header("webhook-timestamp"), self.text);
        let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(signed).finalize();
        let tag = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize();
        format!("v1,{}", BASE64.encode(tag))
    }

    pub fn is_signed_by(&self, secret: &str) -> bool {
        let expected = self.signature_by(secret);
        self.header("webhook-signature").split(' ').any(|one| one == expected)
    }
}

type Answer = Arc<dyn Fn(usize, &Got) -> Response<Body> + Send + Sync>;

/// A server on a free port of this machine.
pub struct Receiver {
    pub port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn status(code: u16) -> Response<Body> {
    Response::builder().status(StatusCode::from_u16(code).unwrap()).body(Body::empty()).unwrap()
}

impl Receiver {
    /// One that is content with everything.
    pub async fn start() -> Self {
        Self::answering(|_, _| status(204)).await
    }

    /// One that answers so: it is told how many came before.
    pub async fn answering(answer: impl Fn(usize, &Got) -> Response<Body> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (got, answer): (Arc<Mutex<Vec<Got>>>, Answer) = (Arc::default(), Arc::new(answer));
        let kept = got.clone();
        let app = Router::new().fallback(async move |uri: Uri, headers: HeaderMap, bytes: Bytes| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let body = serde_json::from_str(&text).unwrap_or_default();
            let got = Got { path: uri.to_string(), headers, text, body, at: Instant::now() };
            let before = {
                let mut kept = kept.lock().unwrap();
                kept.push(got.clone());
                kept.len() - 1
            };
            answer(before, &got)
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, got, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?from=inkpool", self.port)
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until what came is enough.
    pub async fn until(&self, what: &str, enough: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let began = Instant::now();
        loop {
            let got = self.got();
            if enough(&got) {
                return got;
            }
            assert!(began.elapsed() < PATIENCE, "never came: {what}; but {got:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A server that sends to receivers on this machine, and does not wait long.
pub fn options() -> Options {
    Options::default()
        .slots(1)
        .set("INKPOOL_WEBHOOKS__ALLOW_HTTP", "true")
        .set("INKPOOL_WEBHOOKS__ALLOW_PRIVATE", "true")
        .set("INKPOOL_WEBHOOKS__PORTS", "[]")
        .set("INKPOOL_WEBHOOKS__TIMEOUT_S", 1)
        .set("INKPOOL_WEBHOOKS__LEASE_S", 12)
        .set("INKPOOL_WEBHOOKS__RETRY_WAIT_S", 1)
        .set("INKPOOL_WEBHOOKS__RETRY_WAIT_MAX_S", 2)
}

pub async fn send(server: &Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = server.client().request(method.parse().unwrap(), server.url(&format!("/api/v1{path}")));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Makes a webhook; its id and secret.
pub async fn create(server: &Server, url: &str, events: &[&str]) -> (String, String) {
    let (status, body) = send(server, "POST", "/webhooks", Some(json!({"url": url, "events": events}))).await;
    assert_eq!(status, 201, "{body}");
    (body["id"].as_str().unwrap().to_owned(), body["secret"].as_str().unwrap().to_owned())
}

pub async fn show(server: &Server, id: &str) -> Value {
    server.get(&format!("/api/v1/webhooks/{id}")).await
}

pub async fn log(server: &Server, id: &str) -> Vec<Value> {
    server.get(&format!("/api/v1/webhooks/{id}/deliveries")).await["items"].as_array().unwrap().clone()
}

/// Waits until the newest line of a log is as it should be.
pub async fn until_logged(server: &Server, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let log = log(server, id).await;
        if let Some(line) = log.first().filter(|line| holds(line)) {
            return line.clone();
        }
        assert!(began.elapsed() < PATIENCE, "never logged: {log:#?}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn ping(server: &Server, id: &str) -> Value {
    let (status, body) = send(server, "POST", &format!("/webhooks/{id}/ping"), None).await;
    assert_eq!(status, 202, "{body}");
    body
}

/// The example of `docs/webhooks.md`, run by Python: whether it takes the message.
pub fn example_takes(got: &Got, secret: &str) -> Result<String, String> {
    let docs = include_str!("../../docs/webhooks.md");
    let code = docs.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let script = format!(
        "{code}\nimport json, sys\ngiven = json.load(sys.stdin)\n\
         print(verify(given['secret'], given['headers'], given['body'].encode())['kind'])\n"
    );
    let given = json!({
        "secret": secret,
        "body": got.text,
        "headers": {
            "webhook-id": got.id(),
            "webhook-timestamp": got.header("webhook-timestamp"),
            "webhook-signature": got.header("webhook-signature"),
        },
    });
    python(Path::new("/usr/bin/python3"), &["-c", &script], &given.to_string())
}

/// Holds messages against `docs/events/webhook.json`, by a validator that is not ours.
#[expect(clippy::disallowed_methods, reason = "a test's own setting, not one of the program")]
pub fn against_schema(got: &[Got]) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = || root.join(".tools/venv/bin/python");
    let program = std::env::var_os("INKPOOL_TEST_PYTHON").map_or_else(installed, Into::into);
    let jobs = got.iter().filter(|got| got.body["job"].is_object()).map(|got| json!(["job", got.body["job"]]));
    let lines: String =
        got.iter().map(|got| json!(["webhook", got.body])).chain(jobs).map(|line| format!("{line}\n")).collect();
    python(&program, &[root.join("tests/producers/schemas.py").to_str().unwrap()], &lines)
}

fn python(program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
