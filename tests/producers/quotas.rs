//! A submission that its owner has no room for is rejected, and one that there is room for again is taken.

use crate::common::nats::Nats;
use crate::common::pages;
use crate::common::server::{Server, data_directory};
use crate::events::options;
use crate::outside::{against_schemas, schema_of, until_told};
use crate::submit::{put, submit};

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_is_rejected() {
    let nats = Nats::start();
    let directory = data_directory();
    let page = pages::png(64, 64, 1);
    let options = options(&nats)
        .set("INKPOOL_QUOTAS__IN_OPEN_MODE", true)
        .set("INKPOOL_QUOTAS__STORED_BYTES_MAX", page.len() + 1);
    let mut server = Server::start(directory.path(), &options);
    let objects = directory.path().join("objects");
    submit(&nats, &put(&objects, "first.png", &page)).await;
    until_told(&nats, "the first is taken", |told| told.iter().any(|told| told.kind == "accepted")).await;
    submit(&nats, &put(&objects, "second.png", &pages::png(64, 64, 2))).await;
    let all = until_told(&nats, "a rejection", |told| told.iter().any(|told| told.kind == "rejected")).await;
    let rejected = all.iter().find(|told| told.kind == "rejected").unwrap();
    assert_eq!(rejected.body["code"], "storage_quota_reached");
    assert_eq!(rejected.body["limit"], format!("{} bytes", page.len() + 1));
    assert!(rejected.body["measured"].is_string() && rejected.body["remedy"].is_string());
    assert_eq!(against_schemas(all.iter().map(schema_of)), Ok(all.len()));
    assert_eq!(server.get("/api/v1/images").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}
