//! Who asks: by session cookie or bearer token; and what they need for a route.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use cookie::{Cookie, SameSite};
use tokio::sync::broadcast::Receiver;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::AppState;
use super::guard::is_this_machine;
use super::problem::{Kind, Problem};
use crate::auth::secret::Secret;
use crate::auth::{Auth, Login, now_ms};
use crate::job::{CredentialId, OwnerId};
use crate::store::accounts::{CredentialKind, Role, Scope};

/// A page must set it on unsafe requests with a cookie: pages of other sites cannot without asking first, and are refused.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-inkpool-csrf");
/// Headers that only browsers send.
const BROWSER_HEADERS: [&str; 4] = ["origin", "referer", "sec-fetch-site", "sec-fetch-mode"];

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The one user of `open` mode.
    Local,
    /// Nobody has logged in.
    Nobody,
    /// Somebody has.
    Known(Arc<Login>),
}

impl Caller {
    /// Whose images are theirs.
    pub fn owner(&self) -> Result<OwnerId, Problem> {
        match self {
            Self::Local => Ok(OwnerId::LOCAL),
            Self::Known(login) => Ok(login.account.owner),
            Self::Nobody => Err(login_required()),
        }
    }

    /// Whether they may see what concerns all.
    pub fn administrator(&self) -> Result<(), Problem> {
        match self {
            Self::Local => Ok(()),
            Self::Nobody => Err(login_required()),
            Self::Known(login) => check(Need::Administrator, login, &Method::GET, &HeaderMap::new()),
        }
    }

    /// Resolves when the session or token that this caller came in by has ended: at once if that was here, else when it is
    /// looked at again. Never in `open` mode.
    pub async fn ended(&self, auth: Option<&Auth>, told: Option<Receiver<CredentialId>>) {
        let (Self::Known(login), Some(auth), Some(mut told)) = (self, auth, told) else {
            return std::future::pending().await;
        };
        let left_ms = login.credential.expires_at_ms.map_or(i64::MAX, |end| end.saturating_sub(now_ms()));
        let expired = tokio::time::sleep(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)));
        let revoked = async {
            // An error: some were missed, so nobody knows; the client comes again and is looked at anew.
            while told.recv().await.is_ok_and(|id| id != login.credential.id) {}
        };
        let elsewhere = async { while auth.is_still_good(login.credential.id).await {} };
        tokio::select! {
            () = expired => {}
            () = revoked => {}
            () = elsewhere => {}
        }
    }
}

/// Nobody who may ask this has logged in.
fn login_required() -> Problem {
    Problem::new(Kind::LoginRequired, "Log in, or send a token.")
        .remedy("POST /api/v1/session, or the header Authorization: Bearer with a token.")
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self::Nobody))
    }
}

/// The login of a route that makes no sense without accounts.
pub struct Member(pub Arc<Login>);

impl FromRequestParts<AppState> for Member {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        state.auth()?;
        match Caller::from_request_parts(parts, state).await? {
            Caller::Known(login) => Ok(Self(login)),
            Caller::Local | Caller::Nobody => Err(login_required()),
        }
    }
}

/// Where a request comes from, for bounds on tries.
pub struct Address(pub IpAddr);

impl FromRequestParts<AppState> for Address {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
        Ok(Self(forwarded(&parts.headers, state.config.auth.forwarded_hops).unwrap_or(peer)))
    }
}

/// The address that the outermost of `hops` proxies has seen. What stands before it came with the request.
fn forwarded(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let seen: Vec<_> = lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect();
    seen.get(seen.len().checked_sub(hops.max(1))?).filter(|_| hops > 0)?.parse().ok()
}

/// The session cookie of a request: its name and whether it is `Secure`, by the name the server was called by.
pub struct SessionCookie {
    secure: bool,
    /// The secret that came with the request.
    pub value: Option<String>,
}

impl FromRequestParts<AppState> for SessionCookie {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        Ok(Self::of(&parts.headers, &parts.uri, state))
    }
}

impl SessionCookie {
    fn of(headers: &HeaderMap, uri: &Uri, state: &AppState) -> Self {
        let mut cookie =
            Self { secure: !state.config.auth.insecure_http && !is_this_machine(headers, uri), value: None };
        let name = cookie.name();
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        cookie.value = lines
            .flat_map(Cookie::split_parse)
            .filter_map(Result::ok)
            .find(|cookie| cookie.name() == name)
            .map(|cookie| cookie.value().to_owned());
        cookie
    }

    /// Browsers take a name with this prefix only from this very host, over HTTPS and for all paths.
    const fn name(&self) -> &'static str {
        if self.secure { "__Host-inkpool_session" } else { "inkpool_session" }
    }

    /// `Set-Cookie` that hands out a session.
    pub fn set(&self, secret: &Secret, age_h: u32) -> String {
        self.build(secret.reveal(), time::Duration::hours(age_h.into()))
    }

    /// `Set-Cookie` that removes it.
    pub fn remove(&self) -> String {
        self.build("", time::Duration::ZERO)
    }

    fn build(&self, value: &str, age: time::Duration) -> String {
        let cookie = Cookie::build((self.name(), value)).path("/").http_only(true).secure(self.secure);
        cookie.same_site(SameSite::Lax).max_age(age).build().to_string()
    }
}

/// Finds out who asks and writes it to the request.
pub async fn identify(State(state): State<AppState>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let path = request.uri().path();
    let asks_for_data = path.starts_with("/api/v1/") || path == "/metrics";
    let caller = match &state.ports.auth {
        None => Caller::Local,
        Some(_) if !asks_for_data => Caller::Nobody,
        Some(auth) => {
            let found = match bearer(request.headers()) {
                Some(token) => auth.resolve(token, CredentialKind::Token).await?,
                None => match SessionCookie::of(request.headers(), request.uri(), &state).value {
                    Some(session) => auth.resolve(&session, CredentialKind::Session).await?,
                    None => None,
                },
            };
            found.map_or(Caller::Nobody, |login| Caller::Known(Arc::new(login)))
        }
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The token of an `Authorization` header; what is no bearer token is one that nobody has.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A login; a token with scope `read`, or `write` for what changes something.
    Login,
    /// A login that may change the account itself: a session, or a token with scope `admin`.
    OwnAccount,
    /// An administrator, by session or by a token with scope `admin`.
    Administrator,
}

impl Need {
    fn scope(self, method: &Method) -> Scope {
        match self {
            Self::Login if method.is_safe() => Scope::Read,
            Self::Login => Scope::Write,
            Self::OwnAccount | Self::Administrator => Scope::Admin,
        }
    }
}

/// Puts the need before every route of a group, and into its description.
pub fn guarded(mut group: OpenApiRouter<AppState>, need: Need) -> OpenApiRouter<AppState> {
    for item in group.get_openapi_mut().paths.paths.values_mut() {
        for (method, operation) in operations(item) {
            describe(operation, need, &method);
        }
    }
    group.route_layer(axum::middleware::from_fn(move |request: Request, next: Next| require(need, request, next)))
}

/// Says of every route of a group that it needs no login.
pub fn public(mut group: OpenApiRouter<AppState>) -> OpenApiRouter<AppState> {
    for item in group.get_openapi_mut().paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            operation.security = Some(vec![SecurityRequirement::default()]);
        }
    }
    group
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    use Method as M;
    let methods = [M::GET, M::HEAD, M::OPTIONS, M::PUT, M::POST, M::DELETE, M::PATCH];
    let PathItem { get, head, options, put, post, delete, patch, .. } = item;
    let operations = [get, head, options, put, post, delete, patch];
    methods.into_iter().zip(operations).filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn describe(operation: &mut Operation, need: Need, method: &Method) {
    let session: &[&str] = if need == Need::Administrator { &["admin"] } else { &[] };
    let scope = match need.scope(method) {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Admin => "admin",
    };
    operation.security = Some(vec![
        SecurityRequirement::new("session", session.iter().copied()),
        SecurityRequirement::new("token", [scope]),
    ]);
    let problem = |codes: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        ResponseBuilder::new().description(codes).content("application/problem+json", content).build()
    };
    let responses = &mut operation.responses.responses;
    responses.entry("401".to_owned()).or_insert_with(|| RefOr::T(problem("`login_required`")));
    let codes = match need {
        Need::Login | Need::OwnAccount => "`scope_missing`, `csrf_header_missing`, `origin_not_allowed`",
        Need::Administrator => "`administrators_only`, `scope_missing`, `csrf_header_missing`, `origin_not_allowed`",
    };
    responses.entry("403".to_owned()).or_insert_with(|| RefOr::T(problem(codes)));
}

/// Answers 401 or 403 unless the caller has what the route needs.
pub async fn require(need: Need, request: Request, next: Next) -> Result<Response, Problem> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Local) => {}
        Some(Caller::Known(login)) => check(need, login, request.method(), request.headers())?,
        Some(Caller::Nobody) | None => return Err(login_required()),
    }
    Ok(next.run(request).await)
}

fn check(need: Need, login: &Login, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let by_cookie = login.credential.kind == CredentialKind::Session;
    let from_browser = BROWSER_HEADERS.iter().any(|name| headers.contains_key(*name));
    if by_cookie && !method.is_safe() && from_browser && !headers.contains_key(CSRF_HEADER) {
        return Err(Problem::new(Kind::CsrfHeaderMissing, "A page says with a header that it means this request.")
            .remedy("Send X-Inkpool-Csrf: 1, or use a token instead of the cookie."));
    }
    if need == Need::Administrator && login.account.role != Role::Admin {
        return Err(Problem::new(Kind::AdministratorsOnly, "Only administrators may do this."));
    }
    let scope = need.scope(method);
    if !login.credential.scopes.has(scope) {
        let scope = format!("{scope:?}").to_lowercase();
        return Err(Problem::new(Kind::ScopeMissing, format!("The token does not have the scope {scope}."))
            .remedy("Make a token with this scope."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_known_proxy_has_seen_counts() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 10.0.0.1".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.2".parse().unwrap());
        let seen = |hops| forwarded(&headers, hops).map(|address| address.to_string());
        assert_eq!(seen(0), None);
        assert_eq!(seen(1).as_deref(), Some("10.0.0.2"));
        assert_eq!(seen(2).as_deref(), Some("10.0.0.1"));
        assert_eq!(seen(9), None);
    }
}
