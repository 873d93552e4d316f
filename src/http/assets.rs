//! The page: a few files that the program carries. No build step, nothing from elsewhere. The shell (`index.html`) is
//! rendered once at the start, in every language and theme; the words are those that the page's modules use.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::AppState;
use super::shell::{Look, Shell};

struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($content_type:literal: $($file:literal)*;)*) => {
        [$($(Asset {
            path: concat!("/assets/", $file),
            content_type: $content_type,
            bytes: include_bytes!(concat!("assets/", $file)),
        }),*),*]
    };
}

const ASSETS: &[Asset] = &assets! {
    "text/css; charset=utf-8": "app.css" "docs.css" "hooks.css" "views.css";
    "text/html; charset=utf-8": "docs.html";
    "text/javascript; charset=utf-8":
        "account.js" "api.js" "app.js" "cards.js" "cluster.js" "desk.js" "docs.js" "door.js" "events.js" "failures.js" "hooks.js" "image.js" "intake.js" "library.js"
        "look.js" "people.js" "quota.js" "router.js" "say.js" "stage.js" "tus.js" "uploads.js" "words.js" "words/en.js" "words/ru.js";
    "image/svg+xml": "icon.svg";
};

/// Paths that people have in their browser's bar: the same shell, whose modules show what the path says.
const VIEWS: [&str; 5] = ["/", "/library", "/images/{id}", "/cluster", "/webhooks"];

/// Routes of the page.
pub fn routes() -> axum::Router<AppState> {
    let files = ASSETS.iter().fold(axum::Router::new(), |router, asset| {
        // Hashed once, at start.
        let etag = etag_of(asset.bytes);
        let path = if asset.path == "/assets/docs.html" { "/api/docs" } else { asset.path };
        router.route(path, get(move |request: Request| answer(asset, etag.clone(), request)))
    });
    let shells: Arc<[(Look, String, String)]> = Look::ALL
        .map(|look| {
            let html = Shell::of(look.language).render(look);
            (look, etag_of(html.as_bytes()), html)
        })
        .into();
    VIEWS.iter().fold(files, |router, path| {
        let shells = shells.clone();
        router.route(path, get(async move |headers: HeaderMap| shell(&shells, &headers)))
    })
}

fn etag_of(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16]))
}

fn shell(shells: &[(Look, String, String)], headers: &HeaderMap) -> Response {
    let look = Look::asked_for(headers);
    let Some((_, etag, html)) = shells.iter().find(|(made, ..)| *made == look) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let more = [
        (header::CONTENT_LANGUAGE, HeaderValue::from_static(look.language.code())),
        (header::VARY, HeaderValue::from_static("accept-language, cookie")),
    ];
    (more, cached(headers, etag, "text/html; charset=utf-8", || html.clone())).into_response()
}

async fn answer(asset: &'static Asset, etag: String, request: Request) -> Response {
    cached(request.headers(), &etag, asset.content_type, || asset.bytes)
}

/// Asked about each time, which costs a 304: a new version shows at once.
fn cached<B: IntoResponse>(
    asked: &HeaderMap,
    etag: &str,
    content_type: &'static str,
    body: impl FnOnce() -> B,
) -> Response {
    let Ok(tag) = HeaderValue::from_str(etag) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, tag),
    ];
    if asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, body()).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::shell::Language;
    use super::*;

    fn text(name: &str) -> &'static str {
        let asset = ASSETS.iter().find(|asset| asset.path == format!("/assets/{name}")).unwrap();
        std::str::from_utf8(asset.bytes).unwrap()
    }

    /// What stands between `before` and the next quote, everywhere.
    fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_module_that_is_imported_is_served() {
        let served: Vec<_> = ASSETS.iter().map(|asset| asset.path).collect();
        for asset in ASSETS.iter().filter(|asset| asset.path.ends_with(".js")) {
            for name in quoted(std::str::from_utf8(asset.bytes).unwrap(), "from \"./") {
                assert!(served.contains(&format!("/assets/{name}").as_str()), "{}: {name}", asset.path);
            }
        }
    }

    #[test]
    fn every_key_that_is_asked_for_has_words() {
        let english = Shell::of(Language::En);
        let words = english.words();
        let mut asked = 0;
        for asset in ASSETS.iter().filter(|asset| asset.path.ends_with(".js") && !asset.path.contains("/words/")) {
            let script = std::str::from_utf8(asset.bytes).unwrap();
            for key in quoted(script, " t(\"").chain(quoted(script, "(t(\"")).chain(quoted(script, "{t(\"")) {
                assert!(words.contains_key(key), "{}: {key}", asset.path);
                asked += 1;
            }
        }
        assert!(asked > 60, "{asked}");
    }

    #[test]
    fn nothing_of_an_owner_becomes_markup() {
        for asset in ASSETS.iter().filter(|asset| asset.path.ends_with(".js")) {
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!text(&asset.path["/assets/".len()..]).contains(way), "{}: {way}", asset.path);
            }
        }
    }

    #[test]
    fn files_stay_short() {
        for asset in ASSETS {
            let lines = asset.bytes.iter().filter(|&&byte| byte == b'\n').count();
            assert!(lines < 500, "{}: {lines} lines", asset.path);
        }
    }
}
