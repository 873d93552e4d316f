//! All routes on one page.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::identity::{Need, guarded};
use super::problem::{Kind, Problem};
use super::{
    AppState, JSON_BYTES_MAX, accounts, archive, assets, cluster, dead_letters, deliveries, events, failures, files,
    guard, health, identity, images, jobs, limits, observe, people, presets, quota, sessions, tokens, upload, webhooks,
};

/// Headers of every answer that sets no stricter ones. The page needs its own scripts, styles and pictures, and
/// `blob:` for pictures that are still being sent.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

#[derive(OpenApi)]
#[openapi(
    modifiers(&Schemes),
    info(
        title = "Inkpool",
        description = "Cleans and converts images: upload, follow the job, fetch the files. Errors are problem \
            documents (RFC 9457); another owner's id answers 404; lists are followed by `next_cursor`."
    ),
    tags(
        (name = "images", description = "Uploads and their files"),
        (name = "uploads", description = "Bytes that go past the server, or to a signed path of it"),
        (name = "jobs", description = "What is being made of them"),
        (name = "events", description = "Server-sent events"),
        (name = "webhooks", description = "Addresses that are told what becomes of jobs"),
        (name = "presets", description = "What can be asked for"),
        (name = "accounts", description = "Login, sessions, tokens"),
        (name = "cluster", description = "Nodes, slots, queues"),
        (name = "health", description = "For load balancers and Prometheus"),
    )
)]
struct Description;

/// The two ways to come in.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let session = ApiKeyValue::with_description(
            "__Host-inkpool_session",
            "Of a browser; on this machine it is called inkpool_session. Pages send X-Inkpool-Csrf: 1 with what is not GET. \
             Without accounts nothing is needed.",
        );
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token, with the scopes that stand at each operation."))
            .build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("session", RefOr::T(SecurityScheme::ApiKey(ApiKey::Cookie(session))));
        components.add_security_scheme("token", RefOr::T(SecurityScheme::Http(token)));
    }
}

/// Every route stands in one group, and a group says what its routes need.
fn api() -> OpenApiRouter<AppState> {
    let public = OpenApiRouter::new()
        .routes(routes!(accounts::entrance))
        .routes(routes!(accounts::create))
        .routes(routes!(sessions::create))
        // Its signature is all that is asked for.
        .routes(routes!(upload::content::put))
        .merge(upload::tus::speaking(OpenApiRouter::new().routes(routes!(upload::tus::options))));
    let own_account = OpenApiRouter::new()
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::revoke))
        .routes(routes!(sessions::change_password))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        // Whoever makes one is told of all jobs from then on, by whatever token.
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::show, webhooks::change, webhooks::delete))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::ping))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::again));
    let administrators = OpenApiRouter::new()
        .routes(routes!(people::list))
        .routes(routes!(people::show, people::change))
        .routes(routes!(people::set_quota))
        .routes(routes!(people::reset_password))
        .routes(routes!(accounts::invitations, accounts::invite))
        .routes(routes!(accounts::revoke_invitation))
        .routes(routes!(failures::list))
        .routes(routes!(failures::retry))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::delete))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(cluster::show))
        .routes(routes!(cluster::change));
    let everybody = OpenApiRouter::new()
        .routes(routes!(sessions::show, sessions::delete))
        .routes(routes!(quota::show))
        .routes(routes!(images::list, upload::create))
        .routes(routes!(upload::announce::announce))
        .routes(routes!(upload::complete::complete))
        .routes(routes!(archive::show))
        .routes(routes!(upload::recall::recall))
        .routes(routes!(images::show, images::delete))
        .routes(routes!(images::process_again))
        .routes(routes!(files::show))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(events::all))
        .routes(routes!(events::of_job))
        .routes(routes!(presets::list))
        .routes(routes!(presets::limits));
    let in_pieces = OpenApiRouter::new().routes(routes!(upload::tus::create::create)).routes(routes!(
        upload::tus::show,
        upload::tus::head,
        upload::tus::patch::patch,
        upload::tus::terminate,
        upload::tus::patch::posted
    ));
    let v1 = identity::public(public)
        .merge(guarded(own_account, Need::OwnAccount))
        .merge(guarded(administrators, Need::Administrator))
        .merge(guarded(everybody, Need::Login))
        .merge(upload::tus::speaking(guarded(in_pieces, Need::Login)));
    let health = OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics));
    OpenApiRouter::with_openapi(Description::openapi()).merge(identity::public(health)).nest("/api/v1", v1)
}

/// The description of the API (OpenAPI 3.1), as it stands in `docs/openapi.json`.
///
/// # Errors
/// Never for a description that the build made; it is how JSON is written.
pub fn openapi() -> Result<String, serde_json::Error> {
    let (_, mut description) = api().split_for_parts();
    // A rest of a path is written {*name} for the router and {name} for readers.
    let paths = std::mem::take(&mut description.paths.paths);
    description.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    let mut description = serde_json::to_value(&description)?;
    super::description::complete(&mut description)?;
    let mut text = serde_json::to_string_pretty(&description)?;
    text.push('\n');
    Ok(text)
}

/// Everything that is served.
pub fn router(state: AppState) -> Router {
    let description = Arc::new(openapi());
    let (api, _) = api().split_for_parts();
    let router = api
        .merge(assets::routes())
        .route("/api/openapi.json", get(async move || describe(&description)))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    // The first layer sees the request first.
    let layers = ServiceBuilder::new()
        .layer(from_fn(observe::request))
        .layer(from_fn(security_headers))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.clone(), limits::header_size))
        .layer(from_fn_with_state(state.clone(), guard::site))
        .layer(from_fn_with_state(state.clone(), limits::load_and_time))
        .layer(from_fn_with_state(state.clone(), identity::identify))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX));
    router.layer(layers).with_state(state)
}

fn describe(description: &Result<String, serde_json::Error>) -> Result<Response, Problem> {
    let text = description.as_ref().map_err(|error| Problem::internal(error))?.clone();
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn security_headers(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn no_such_path(OriginalUri(uri): OriginalUri) -> Problem {
    let shown: String = uri.path().chars().take(200).collect();
    Problem::new(Kind::NotFound, format!("There is nothing at {shown}."))
}

async fn no_such_method(method: Method) -> Problem {
    let shown: String = method.as_str().chars().take(20).collect();
    Problem::new(Kind::MethodNotAllowed, format!("{shown} is not one of the methods of this path; Allow names them."))
}

fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Problem::internal(&text.unwrap_or("a panic without a message")).into_response()
}
