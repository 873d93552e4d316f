//! The same bytes twice, where it is asked for.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Server, parse, png};
use inkpool::job::{JobError, OwnerId};

const DEDUP: &str = "/api/v1/images?preset=photo&dedup=true";

fn ids(answer: &Answer) -> (Value, Value) {
    let item = &answer.json["items"][0];
    (item["image"]["id"].clone(), item["job"]["id"].clone())
}

async fn images(server: &Server) -> usize {
    server.ledger.images(OwnerId::LOCAL, None, 100).await.unwrap().len()
}

#[tokio::test]
async fn what_is_there_is_not_stored_again() {
    let server = Server::start().await;
    let first = server.post(&format!("{DEDUP}&filename=a.png"), png(40, 30)).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.json["items"][0].get("deduplicated"), None);
    // On its way, and under another name.
    let again = server.post(&format!("{DEDUP}&filename=b.png"), png(40, 30)).await;
    assert_eq!((again.status, ids(&again)), (200, ids(&first)), "{again:?}");
    assert_eq!(again.json["items"][0]["deduplicated"], true);
    assert_eq!(again.json["items"][0]["image"]["filename"], "a.png");
    assert_eq!(again.header("location"), first.header("location"));
    // Done: with its files.
    server.succeed(parse(&ids(&first).1), "full.webp", b"done").await;
    let done = server.post(DEDUP, png(40, 30)).await;
    assert_eq!((done.status, ids(&done)), (200, ids(&first)));
    assert_eq!(done.json["items"][0]["image"]["files"][1]["name"], "full.webp");
    assert_eq!(done.json["items"][0]["job"]["state"], "succeeded");
    assert_eq!((images(&server).await, server.objects().len()), (1, 2), "the original and its one file");
    // Not asked for, other settings, other bytes: another image.
    for query in
        ["/api/v1/images?preset=photo", &format!("{DEDUP}&set.quality=55"), "/api/v1/images?preset=document&dedup=true"]
    {
        assert_eq!(server.post(query, png(40, 30)).await.status, 202, "{query}");
    }
    assert_eq!(server.post(DEDUP, png(41, 30)).await.status, 202);
    assert_eq!(images(&server).await, 5);
    server.post("/api/v1/images?dedup=maybe", png(40, 30)).await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn what_failed_is_made_again() {
    let server = Server::start().await;
    let first = server.post(DEDUP, png(40, 30)).await;
    server.fail(parse(&ids(&first).1), JobError::new("malformed", "damaged", None, false)).await;
    let again = server.post(DEDUP, png(40, 30)).await;
    assert_eq!(again.status, 202);
    assert_ne!(ids(&again).0, ids(&first).0);
}

#[tokio::test]
async fn a_form_says_which_of_its_files_were_there() {
    let server = Server::start().await;
    let first = server.post(DEDUP, png(40, 30)).await;
    let part = |bytes| reqwest::multipart::Part::bytes(bytes).file_name("x.png");
    let form = reqwest::multipart::Form::new()
        .text("preset", "photo")
        .text("dedup", "true")
        .part("file", part(png(40, 30)))
        .part("file", part(png(50, 30)))
        .part("file", part(png(50, 30)))
        .part("file", part(b"this is no image, whatever it is called".to_vec()));
    let answer =
        Answer::of(server.client.post(server.url("/api/v1/images")).multipart(form).send().await.unwrap()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let items = answer.json["items"].as_array().unwrap();
    let marked: Vec<_> = items.iter().map(|item| item["deduplicated"] == true).collect();
    assert_eq!(marked, [true, false, true, false]);
    assert_eq!(items[0]["image"]["id"], ids(&first).0);
    assert_eq!(items[1]["image"]["id"], items[2]["image"]["id"]);
    assert_eq!(items[3]["error"]["code"], "unsupported_format");
    assert_eq!((images(&server).await, server.objects().len()), (2, 2));
}

#[tokio::test]
async fn the_same_request_gives_the_same_answer() {
    let server = Server::start().await;
    let first = server.post(DEDUP, png(40, 30)).await;
    let send = || async {
        let request = server.client.post(server.url(DEDUP)).header("idempotency-key", "k").body(png(40, 30));
        Answer::of(request.send().await.unwrap()).await
    };
    let (one, other) = (send().await, send().await);
    assert_eq!((one.status, ids(&one)), (200, ids(&first)));
    assert_eq!((other.status, &other.json), (200, &one.json));
}

#[tokio::test]
async fn an_announcement_is_answered_without_a_put() {
    let server = Server::start().await;
    let file = |bytes: &[u8]| {
        json!({"filename": "s.png", "size_bytes": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes)),
            "content_type": "image/png"})
    };
    let (known, fresh) = (png(40, 30), png(50, 30));
    let first = server.post(DEDUP, known.clone()).await;
    let body = json!({"preset": "photo", "dedup": true, "files": [file(&known), file(&fresh)]});
    let answer = server.post_json("/api/v1/uploads", body.clone()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let items = answer.json["items"].as_array().unwrap();
    assert_eq!((&items[0]["id"], &items[0]["url"]), (&Value::Null, &Value::Null));
    assert_eq!(items[0]["known"]["image"]["id"], ids(&first).0);
    assert_eq!(items[0]["known"]["deduplicated"], true);
    assert!(items[1]["id"].is_string() && items[1].get("known").is_none());
    // Whoever announces twice and puts both has one image all the same.
    let twice = server.post_json("/api/v1/uploads", body).await.json["items"][1].clone();
    let mut made = Vec::new();
    for target in [&items[1], &twice] {
        let mut put = server.client.put(server.url(target["url"].as_str().unwrap())).body(fresh.clone());
        for (name, value) in target["headers"].as_object().unwrap() {
            put = put.header(name, value.as_str().unwrap());
        }
        assert_eq!(put.send().await.unwrap().status(), 200);
        let path = format!("/api/v1/uploads/{}/complete", target["id"].as_str().unwrap());
        made.push(server.post(&path, Vec::new()).await);
    }
    assert_eq!((made[0].status, made[1].status), (202, 200), "{made:?}");
    assert_eq!(made[0].json["image"]["id"], made[1].json["image"]["id"]);
    assert_eq!(images(&server).await, 2);
}
