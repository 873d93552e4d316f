//! The page: a few files that the program carries. No build step, nothing from elsewhere.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::AppState;

struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal => $file:literal, $content_type:literal;)*) => {
        [$(Asset { path: $path, content_type: $content_type, bytes: include_bytes!(concat!("assets/", $file)) }),*]
    };
}

const ASSETS: &[Asset] = &assets! {
    "/" => "index.html", "text/html; charset=utf-8";
    "/assets/app.css" => "app.css", "text/css; charset=utf-8";
    "/assets/account.js" => "account.js", "text/javascript; charset=utf-8";
    "/assets/api.js" => "api.js", "text/javascript; charset=utf-8";
    "/assets/app.js" => "app.js", "text/javascript; charset=utf-8";
    "/assets/cards.js" => "cards.js", "text/javascript; charset=utf-8";
    "/assets/door.js" => "door.js", "text/javascript; charset=utf-8";
    "/assets/events.js" => "events.js", "text/javascript; charset=utf-8";
    "/assets/intake.js" => "intake.js", "text/javascript; charset=utf-8";
    "/assets/uploads.js" => "uploads.js", "text/javascript; charset=utf-8";
    "/assets/view.js" => "view.js", "text/javascript; charset=utf-8";
    "/assets/words.js" => "words.js", "text/javascript; charset=utf-8";
    "/assets/icon.svg" => "icon.svg", "image/svg+xml";
};

/// Routes of the page.
pub fn routes() -> axum::Router<AppState> {
    ASSETS.iter().fold(axum::Router::new(), |router, asset| {
        // Hashed once, at start.
        let etag = format!("\"{}\"", hex::encode(&Sha256::digest(asset.bytes)[..16]));
        router.route(asset.path, get(move |request: Request| answer(asset, etag.clone(), request)))
    })
}

async fn answer(asset: &'static Asset, etag: String, request: Request) -> Response {
    let Ok(tag) = HeaderValue::from_str(&etag) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        // Asked about each time, which costs a 304: a new version shows at once.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, tag),
    ];
    if is_known(request.headers(), &etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.bytes).into_response()
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes())
}
