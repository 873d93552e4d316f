//! Who is let in: users, credentials files and certificates, on both sides.

use std::path::Path;

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_are_asked_for_and_sent() {
    let nats = Nats::start_with("authorization { user: ink, password: pool }");
    let Err(BusError::Unfit(why)) = JetStreamBus::open(&at(&nats), settings()).await.map(drop) else {
        panic!("a stranger was let in")
    };
    assert!(why.contains("authorization"), "{why}");
    let known = NatsSettings { user: "ink".to_owned(), password: "pool".to_owned(), ..at(&nats) };
    publish(&JetStreamBus::open(&known, settings()).await.unwrap(), "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_strangers_are_not_believed() {
    let nats = Nats::start_with(&tls(""));
    let secure = NatsSettings { tls: true, ca_file: fixture("ca.pem").into(), ..at(&nats) };
    publish(&JetStreamBus::open(&secure, settings()).await.unwrap(), "a").await;
    let trusting_others = NatsSettings { ca_file: Default::default(), ..secure };
    // Whether that is told at once or found out later depends on where the handshake ends.
    if let Ok(bus) = JetStreamBus::open(&trusting_others, settings()).await {
        assert!(matches!(bus.publish(Lane::Bulk, "b", Bytes::new()).await, Err(BusError::Unavailable(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_our_own_is_asked_for_and_shown() {
    let nats = Nats::start_with(&tls(&format!("ca_file: {:?}, verify: true", fixture("ca.pem"))));
    let nameless = NatsSettings { tls: true, ca_file: fixture("ca.pem").into(), ..at(&nats) };
    let named = NatsSettings {
        client_cert_file: fixture("client.pem").into(),
        client_key_file: fixture("client.key").into(),
        ..nameless.clone()
    };
    publish(&JetStreamBus::open(&named, settings()).await.unwrap(), "a").await;
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    if let Ok(bus) = JetStreamBus::open(&nameless, settings()).await {
        assert!(matches!(bus.publish(Lane::Bulk, "b", Bytes::new()).await, Err(BusError::Unavailable(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_is_read_and_believed_if_its_account_is_known() {
    let (ours, others) = (Operator::new(), Operator::new());
    let nats = Nats::start_with(&ours.configuration());
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str| NatsSettings { credentials_file: folder.path().join(name), ..at(&nats) };
    ours.write_user(&folder.path().join("ours"));
    others.write_user(&folder.path().join("others"));
    std::fs::write(folder.path().join("broken"), "no credentials").unwrap();

    publish(&JetStreamBus::open(&with("ours"), settings()).await.unwrap(), "a").await;
    for (name, word) in [("others", "authorization"), ("broken", "broken"), ("missing", "missing")] {
        let Err(BusError::Unfit(why)) = JetStreamBus::open(&with(name), settings()).await.map(drop) else {
            panic!("{name}: a stranger was let in")
        };
        assert!(why.contains(word), "{name}: {why}");
    }
}

/// A file of `tests/fixtures/nats`: an authority of our own, with certificates for 127.0.0.1 and for a client, good for a
/// hundred years.
fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/nats/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What a server needs to speak TLS, and more.
fn tls(more: &str) -> String {
    format!("tls {{ cert_file: {:?}, key_file: {:?}, {more} }}", fixture("server.pem"), fixture("server.key"))
}

/// One who signs accounts, and one account that may have streams.
struct Operator {
    key: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Operator {
    fn new() -> Self {
        Self { key: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    /// The server's side: it knows the accounts by heart.
    fn configuration(&self) -> String {
        let account = |limits: Value| json!({ "type": "account", "version": 2, "limits": limits });
        let unbounded = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let without_streams = json!({ "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1 });
        let (key, account_key, system) = (&self.key, self.account.public_key(), self.system.public_key());
        format!(
            "operator: {}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload: {{ {account_key}: {}, {system}: {} }}",
            signed(key, &key.public_key(), json!({ "type": "operator", "version": 2 })),
            signed(key, &account_key, account(unbounded)),
            signed(key, &system, account(without_streams)),
        )
    }

    /// A user of the account, as a file that holds his token and the seed of his key.
    fn write_user(&self, path: &Path) {
        let user = KeyPair::new_user();
        let may = json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
        let parts = [
            ("NATS USER JWT", signed(&self.account, &user.public_key(), may)),
            ("USER NKEY SEED", user.seed().unwrap()),
        ];
        let text = parts.map(|(what, text)| format!("-----BEGIN {what}-----\n{text}\n------END {what}------\n"));
        std::fs::write(path, text.join("\n")).unwrap();
    }
}

/// A token of NATS: what is claimed of `subject`, signed by `key`.
fn signed(key: &KeyPair, subject: &str, claims: Value) -> String {
    use base64::Engine as _;
    let base64 = |bytes: &[u8]| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body =
        json!({ "jti": subject, "iat": 1, "iss": key.public_key(), "name": "test", "sub": subject, "nats": claims });
    let text = format!("{}.{}", base64(header.to_string().as_bytes()), base64(body.to_string().as_bytes()));
    format!("{text}.{}", base64(&key.sign(text.as_bytes()).unwrap()))
}
