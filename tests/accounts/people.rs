//! A server with accounts, and people who use it.

use serde_json::{Value, json};

use crate::common::pages;
use crate::common::server::{Options, Server, data_directory};

pub const PASSWORD: &str = "seven crooked lamps";

/// Settings of a server with accounts; passwords are hashed cheaply, except where time is measured.
pub fn options() -> Options {
    Options::default().slots(1).set("INKPOOL_AUTH__MODE", "accounts").set("INKPOOL_AUTH__ARGON2_MEMORY_KIB", 64)
}

pub struct Place {
    pub server: Server,
    pub data: tempfile::TempDir,
}

impl Place {
    /// A fresh server whose first account is `root`.
    pub async fn start(options: &Options) -> Self {
        let data = data_directory();
        let place = Self { server: Server::start(data.path(), options), data };
        assert_eq!(place.register("root").await.json["role"], "admin");
        place
    }

    pub fn nobody(&self) -> Person<'_> {
        Person { server: &self.server, headers: Vec::new() }
    }

    pub async fn register(&self, username: &str) -> Answer {
        let body = json!({"username": username, "password": PASSWORD});
        let answer = self.nobody().post("/api/v1/accounts", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer
    }

    /// Somebody with an account, logged in.
    pub async fn person(&self, username: &str) -> Person<'_> {
        self.register(username).await;
        self.log_in(username).await
    }

    pub async fn log_in(&self, username: &str) -> Person<'_> {
        let answer = self.try_log_in(username, PASSWORD).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.nobody().with("cookie", answer.cookie())
    }

    pub async fn try_log_in(&self, username: &str, password: &str) -> Answer {
        self.nobody().post("/api/v1/session", json!({"username": username, "password": password})).await
    }
}

/// Headers that somebody sends with every request.
#[derive(Clone)]
pub struct Person<'a> {
    pub server: &'a Server,
    headers: Vec<(String, String)>,
}

impl Person<'_> {
    pub fn with(&self, name: &str, value: impl ToString) -> Self {
        let mut person = self.clone();
        person.headers.push((name.to_owned(), value.to_string()));
        person
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.server.client().request(method.parse().unwrap(), self.server.url(path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    pub async fn send(&self, method: &str, path: &str) -> Answer {
        Answer::of(self.request(method, path).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request("POST", path).json(&body).send().await.unwrap()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request("PUT", path).json(&body).send().await.unwrap()).await
    }

    pub async fn upload(&self) -> Answer {
        let request = self.request("POST", "/api/v1/images?preset=photo&filename=page.png");
        Answer::of(request.body(pages::png(40, 30, 1)).send().await.unwrap()).await
    }

    /// The same with an idempotency key.
    pub async fn upload_as(&self, key: &str) -> Answer {
        self.with("idempotency-key", key).upload().await
    }

    /// Begins an upload in pieces; its id.
    pub async fn begin_resumable(&self) -> String {
        let request = self.request("POST", "/api/v1/tus").header("tus-resumable", "1.0.0").header("upload-length", "9");
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("location").rsplit('/').next().unwrap().to_owned()
    }

    /// Makes a token; the answer of its creation.
    pub async fn token(&self, scopes: &[&str]) -> Value {
        let answer = self.post("/api/v1/tokens", json!({"name": "scanner", "scopes": scopes})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Self { status, headers, text, json }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// `name=value` of the cookie that was set.
    pub fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
    }
}
