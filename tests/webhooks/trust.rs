//! Certificates of receivers: believed when an authority that this machine or the settings trust has signed them.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::server::{Options, Server, data_directory};
use crate::receiver::*;

/// An authority of our own and a certificate for 127.0.0.1, good for a hundred years.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/nats");

/// A receiver behind TLS on a free port; the heads of what came.
struct Secure {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Secure {
    fn start() -> Self {
        let chain =
            CertificateDer::pem_file_iter(format!("{FIXTURES}/server.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(format!("{FIXTURES}/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that does not believe the certificate hangs up.
                if let Ok(head) = answer(stream.unwrap(), config.clone()) {
                    kept.lock().unwrap().push(head);
                }
            }
        });
        Self { port, heads }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/hook", self.port)
    }
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<String> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, stream);
    let (mut got, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece)?;
        got.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&got);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if length.is_none_or(|length: usize| body.len() >= length) {
            let head = head.to_owned();
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
            stream.conn.send_close_notify();
            stream.flush()?;
            return Ok(head);
        }
    }
}

fn secure_options() -> Options {
    options().set("INKPOOL_WEBHOOKS__ALLOW_HTTP", "false")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_trusted_authority_is_believed() {
    let (receiver, directory) = (Secure::start(), data_directory());
    let trusting = secure_options().set("INKPOOL_WEBHOOKS__CA_FILE", format!("{FIXTURES}/ca.pem"));
    let server = Server::start(directory.path(), &trusting);
    let (id, _) = create(&server, &receiver.url(), &["failed"]).await;
    ping(&server, &id).await;
    let line = until_logged(&server, &id, |line| line["state"] == "delivered").await;
    assert_eq!(line["tries"][0]["status"], 204, "{line}");
    let heads = receiver.heads.lock().unwrap().clone();
    assert!(heads.len() == 1 && heads[0].to_lowercase().contains("webhook-signature: v1,"), "{heads:?}");
    // The name must be right as well as the signature.
    let by_name = receiver.url().replace("127.0.0.1", "localhost");
    let (id, _) = create(&server, &by_name, &["failed"]).await;
    ping(&server, &id).await;
    let line = until_logged(&server, &id, |line| line["tries"][0].is_object()).await;
    assert_eq!(line["tries"][0]["code"], "untrusted", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_stranger_is_refused_and_the_log_says_so() {
    let (receiver, directory) = (Secure::start(), data_directory());
    let server = Server::start(directory.path(), &secure_options());
    let (id, _) = create(&server, &receiver.url(), &["failed"]).await;
    ping(&server, &id).await;
    let line = until_logged(&server, &id, |line| line["tries"][0].is_object()).await;
    let tried = &line["tries"][0];
    assert_eq!((tried["code"].as_str(), tried["status"].as_u64()), (Some("untrusted"), None), "{line}");
    assert!(tried["detail"].as_str().unwrap().starts_with("its certificate is not trusted: "), "{line}");
    assert_eq!(line["state"], "pending", "it is tried again: a certificate can be mended");
    assert_eq!(receiver.heads.lock().unwrap().len(), 0, "something was told");
}

#[test]
fn a_file_without_certificates_stops_the_start() {
    let directory = data_directory();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    for (file, words) in
        [(empty.as_path(), "holds no certificate"), (&directory.path().join("none.pem"), "No such file")]
    {
        let options = secure_options().set("INKPOOL_WEBHOOKS__CA_FILE", file.display());
        let Err(log) = Server::try_start(&directory.path().join("data"), &options) else {
            panic!("{words}: it started")
        };
        assert!(log.contains("webhooks.ca_file") && log.contains(words), "{log}");
    }
}
