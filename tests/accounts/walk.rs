//! All routes of the description: none opens for nobody, none shows what is somebody else's. The walk is made from
//! `docs/openapi.json`; a route that it does not know what to do with fails it.

use futures::StreamExt;
use serde_json::{Value, json};

use super::people::{Answer, Person, Place, options};

struct Route {
    method: String,
    path: String,
    operation: Value,
}

impl Route {
    fn has_id(&self) -> bool {
        self.path.contains('{') || self.takes_ids()
    }

    /// Whether ids stand in its query.
    fn takes_ids(&self) -> bool {
        self.operation["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "ids"))
    }

    /// Whether it says that it needs nothing.
    fn is_public(&self) -> bool {
        self.security().any(|way| way.as_object().unwrap().is_empty())
    }

    fn is_for_administrators(&self) -> bool {
        self.security().any(|way| way["session"].as_array().is_some_and(|roles| roles.contains(&json!("admin"))))
    }

    fn security(&self) -> impl Iterator<Item = &Value> {
        self.operation["security"].as_array().expect("every operation says what it needs").iter()
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn routes() -> Vec<Route> {
    let description: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    let mut routes = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            routes.push(Route { method: method.to_uppercase(), path: path.clone(), operation: operation.clone() });
        }
    }
    assert!(routes.len() > 30, "{}", routes.len());
    routes
}

/// What belongs to one person.
struct Belongings {
    image: String,
    job: String,
    upload: String,
    resumable: String,
    submission: String,
    token: String,
    session: String,
    invitation: String,
    node: String,
    webhook: String,
    delivery: String,
    account: String,
}

impl Belongings {
    async fn of(person: &Person<'_>, root: &Person<'_>) -> Self {
        let id = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned();
        let submission = format!("key-{}", uuid::Uuid::new_v4());
        let upload = person.upload_as(&submission).await;
        let item = &upload.json["items"][0];
        person.server.wait_final_as(&id(&item["job"]["id"]), |path| person.request("GET", path)).await;
        let webhook = id(&person.post("/api/v1/webhooks", json!({"url": WEBHOOK})).await.json["id"]);
        let ping = person.post(&format!("/api/v1/webhooks/{webhook}/ping"), json!(null)).await;
        Self {
            delivery: id(&ping.json["id"]),
            webhook,
            image: id(&item["image"]["id"]),
            job: id(&item["job"]["id"]),
            upload: id(&person.post("/api/v1/uploads", announcement()).await.json["items"][0]["id"]),
            resumable: person.begin_resumable().await,
            submission,
            token: id(&person.token(&["read"]).await["id"]),
            session: id(&person.get("/api/v1/session").await.json["credential"]["id"]),
            invitation: id(&root.post("/api/v1/invitations", json!(null)).await.json["id"]),
            account: id(&person.get("/api/v1/session").await.json["id"]),
            node: id(&root.get("/api/v1/cluster").await.json["nodes"][0]["id"]),
        }
    }

    /// The path with these ids. A new kind of id needs a line here.
    fn fill(&self, route: &Route) -> String {
        let id = match route.path.trim_start_matches("/api/v1/").split('/').next().unwrap() {
            "images" => &self.image,
            "jobs" => &self.job,
            "uploads" => &self.upload,
            "tus" => &self.resumable,
            "submissions" => &self.submission,
            "tokens" => &self.token,
            "sessions" => &self.session,
            "invitations" => &self.invitation,
            "cluster" => &self.node,
            "webhooks" => &self.webhook,
            "accounts" => &self.account,
            "failed-jobs" => &self.job,
            // Any id will do: administrators alone get as far as looking.
            "dead-letters" => &self.upload,
            _ if !route.has_id() => "",
            other => panic!("{}: whose ids are those of {other}?", route.name()),
        };
        let path = route.path.replace("{id}", id).replace("{key}", id).replace("{name}", "original");
        let path = path.replace("{delivery}", &self.delivery);
        assert!(!path.contains('{'), "{}: what is to be filled in?", route.name());
        if route.takes_ids() { format!("{path}?ids={id}") } else { path }
    }

    fn all(&self) -> [&str; 5] {
        [&self.image, &self.job, &self.token, &self.session, &self.webhook]
    }
}

/// An address: no name has to be resolved.
const WEBHOOK: &str = "https://8.8.8.8/hook";

fn announcement() -> Value {
    let file = json!({"filename": "a.png", "size_bytes": 9, "sha256": "ab".repeat(32), "content_type": "image/png"});
    json!({"preset": "photo", "files": [file]})
}

/// A body that the route would take. A new route with a body needs a line here.
fn body(route: &Route) -> Option<Value> {
    let content = route.operation["requestBody"]["content"].as_object()?;
    content.get("application/json")?;
    Some(match route.operation["operationId"].as_str().unwrap() {
        "process_image_again" => json!({"preset": "document"}),
        "change_node" => json!({"slots_count": 1}),
        "announce_uploads" => announcement(),
        "create_webhook" => json!({"url": WEBHOOK}),
        "change_webhook" => json!({"enabled": false}),
        "create_token" => json!({"name": "x"}),
        "create_account" | "log_in" => json!({"username": "x", "password": "y"}),
        "change_account" => json!({"role": "user"}),
        "set_quota" => json!({"jobs_queued_max": 5}),
        "reset_password" => json!({"new_password": "nine crooked lamps"}),
        "change_password" => json!({"current_password": "x", "new_password": "y"}),
        other => panic!("what does {other} take?"),
    })
}

async fn go(person: &Person<'_>, route: &Route, path: &str) -> Answer {
    let mut request = person.request(&route.method, path);
    if let Some(body) = body(route) {
        request = request.json(&body);
    }
    if route.path.starts_with("/api/v1/tus") {
        request = request.header("tus-resumable", "1.0.0").header("upload-length", "9").header("upload-offset", "0");
        request = request.header("content-type", "application/offset+octet-stream");
    }
    let answer = request.send().await.unwrap();
    if answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: String::new(),
            json: Value::Null,
        };
    }
    Answer::of(answer).await
}

/// An answer to HEAD has no document.
fn assert_refused(route: &Route, answer: &Answer, status: u16, code: &str) {
    if route.method == "HEAD" {
        assert_eq!(answer.status, status, "{}: {answer:?}", route.name());
    } else {
        answer.assert_problem(status, code);
    }
}

#[tokio::test]
async fn no_route_opens_for_others() {
    let place = Place::start(&options()).await;
    let (root, ada, bob) = (place.log_in("root").await, place.person("ada").await, place.person("bob").await);
    let belongings = Belongings::of(&ada, &root).await;
    let own = Belongings::of(&bob, &root).await;
    let mut ids = 0;
    for route in routes() {
        let path = belongings.fill(&route);
        let name = route.name();
        let nobody = go(&place.nobody(), &route, &path).await;
        if route.is_public() {
            assert_ne!(nobody.json["code"], "login_required", "{name}");
            continue;
        }
        assert_refused(&route, &nobody, 401, "login_required");
        assert!(nobody.header("www-authenticate").starts_with("Bearer"), "{name}");
        let unknown = place.nobody().with("authorization", "Bearer inkpool_00").send(&route.method, &path).await;
        assert_refused(&route, &unknown, 401, "login_required");
        if route.is_for_administrators() {
            go(&bob, &route, &path).await.assert_problem(403, "administrators_only");
            let by_token = bob.token(&["read", "write", "admin"]).await;
            let by_token =
                place.nobody().with("authorization", format!("Bearer {}", by_token["secret"].as_str().unwrap()));
            go(&by_token, &route, &path).await.assert_problem(403, "administrators_only");
        } else if route.has_id() {
            ids += 1;
            assert_refused(&route, &go(&bob, &route, &path).await, 404, "not_found");
        } else if route.method == "GET" {
            let answer = go(&bob, &route, &path).await;
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            for id in belongings.all() {
                assert!(!answer.text.contains(id), "{name} shows {id}");
            }
        }
    }
    assert!(ids >= 12, "{ids}");
    assert_is_all_there(&root, &ada, &belongings).await;
    assert_events_are_ones_own(&bob, &own, &belongings).await;
}

/// The ids of the walk were real ones, and bob has changed nothing.
async fn assert_is_all_there(root: &Person<'_>, ada: &Person<'_>, belongings: &Belongings) {
    for route in routes().iter().filter(|route| route.method == "GET") {
        let person = if route.is_for_administrators() { root } else { ada };
        let answer = go(person, route, &belongings.fill(route)).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", route.name());
    }
    for list in ["tokens", "sessions", "images", "jobs", "webhooks"] {
        let items = ada.get(&format!("/api/v1/{list}")).await.json["items"].as_array().unwrap().len();
        assert_eq!(items, 1, "{list}");
    }
    let job = ada.get(&format!("/api/v1/jobs/{}", belongings.job)).await;
    assert_eq!(job.json["state"], "succeeded");
    assert_eq!(root.get("/api/v1/invitations").await.json["items"].as_array().unwrap().len(), 2);
}

/// Events come in the order in which they happened, and ada's happened before.
async fn assert_events_are_ones_own(bob: &Person<'_>, own: &Belongings, others: &Belongings) {
    let mut stream = bob.request("GET", "/api/v1/events?last_event_id=0").send().await.unwrap().bytes_stream();
    let mut seen = String::new();
    while !seen.contains(&own.job) {
        let piece = stream.next().await.expect("the stream goes on").unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(!seen.contains(&others.job) && !seen.contains(&others.image), "{seen}");
}

#[tokio::test]
async fn nothing_redirects() {
    let place = Place::start(&options()).await;
    let ada = place.person("ada").await;
    for target in ["https://evil.example", "//evil.example", "/\\evil.example"] {
        for path in ["/", "/login", "/api/v1/session", "/api/v1/auth", "/api/v1/images"] {
            for name in ["next", "url", "redirect", "return_to", "continue"] {
                let path = format!("{path}?{name}={}", target.replace('\\', "%5C"));
                let answer = ada.get(&path).await;
                assert!(!(300..400).contains(&answer.status), "{path}: {answer:?}");
                assert_eq!(answer.header("location"), "", "{path}");
                assert_eq!(answer.header("refresh"), "", "{path}");
            }
        }
        let answer =
            ada.get(&format!("//{}", target.trim_start_matches("https:").trim_start_matches(['/', '\\']))).await;
        assert!(!(300..400).contains(&answer.status), "{answer:?}");
    }
    let uploaded = ada.upload().await;
    assert!(uploaded.header("location").starts_with("/api/v1/jobs/"), "{uploaded:?}");
}
