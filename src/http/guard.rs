//! By which name a server may be called, and by whose pages.
//!
//! In `open` mode there is no login, so a web site in the user's browser must not be able to use the server: only programs
//! and pages of this machine may, addressed as such. A page of another site sends its own Origin; a site whose name was
//! rebound to 127.0.0.1 sends its own Host. With accounts the browser sends a cookie along: pages of other sites must not
//! change anything by it.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::AppState;
use super::problem::{Kind, Problem};
use crate::config::{self, AuthMode};

/// Answers 403 for a Host that is not served, and for requests of pages of other sites: in `open` mode for all of them,
/// with accounts for those that could change something.
pub async fn site(State(state): State<AppState>, request: Request, next: Next) -> Result<Response, Problem> {
    let (headers, uri) = (request.headers(), request.uri());
    match state.config.auth.mode {
        AuthMode::Open => check(headers, uri)?,
        AuthMode::Accounts => {
            let host = called_by(headers, uri).filter(|host| is_served(host, &state.config.http));
            let Some(host) = host else {
                return Err(Problem::new(Kind::HostNotAllowed, "The server is not to be called by this name.")
                    .remedy("Use a name of the setting http.hosts."));
            };
            // Nobody else's page can send a token along.
            let by_browser = !headers.contains_key(header::AUTHORIZATION);
            if by_browser && !request.method().is_safe() && !is_of_own_page(headers, host, &state.config.http.hosts) {
                return Err(Problem::new(Kind::OriginNotAllowed, "The request comes from a page of another site."));
            }
        }
    }
    Ok(next.run(request).await)
}

/// The one authority that a request is for.
fn called_by<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|value| value.to_str().ok());
    let authority = uri.authority().map(axum::http::uri::Authority::as_str).or(host);
    authority.filter(|_| hosts.next().is_none())
}

/// Whether a request is for a name of this machine.
pub fn is_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    called_by(headers, uri).is_some_and(is_loopback)
}

fn is_served(authority: &str, http: &config::Http) -> bool {
    let elsewhere = http.hosts.is_empty() && !is_loopback(&http.listen);
    elsewhere || is_loopback(authority) || is_one_of(authority, &http.hosts)
}

fn is_one_of(authority: &str, hosts: &[String]) -> bool {
    let name =
        authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(authority, |(name, _)| name);
    hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// What browsers say about the page that a request comes from. A program says nothing.
fn is_of_own_page(headers: &HeaderMap, authority: &str, hosts: &[String]) -> bool {
    let is_own_origin = |value: &HeaderValue| {
        let from = value.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, from)| from);
        // A proxy in front may call the server by another name than the browser calls the proxy.
        from.is_some_and(|from| from.eq_ignore_ascii_case(authority) || is_one_of(from, hosts))
    };
    let is_own_site = |value: &HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    headers.get_all(header::ORIGIN).iter().all(is_own_origin)
        && headers.get_all("sec-fetch-site").iter().all(is_own_site)
}

fn check(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let refused = |kind, detail: &str| {
        Problem::new(kind, detail).remedy("Use the address that the server printed at its start, on the same machine.")
    };
    let Some(authority) = called_by(headers, uri).filter(|authority| is_loopback(authority)) else {
        return Err(refused(
            Kind::HostNotAllowed,
            "Without accounts this server answers only to names of this machine.",
        ));
    };
    let origins = headers.get_all(header::ORIGIN).iter();
    let matches = |value: &HeaderValue| {
        let origin = value.to_str().unwrap_or_default();
        origin
            .split_once("://")
            .is_some_and(|(scheme, from)| matches!(scheme, "http" | "https") && from.eq_ignore_ascii_case(authority))
    };
    if !origins.into_iter().all(matches) {
        return Err(refused(Kind::OriginNotAllowed, "The request comes from a page of another site."));
    }
    Ok(())
}

/// Whether a `host[:port]` names this machine whatever a resolver says.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, tail)) => match tail.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port_is_valid = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let is_this_machine = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    port_is_valid && is_this_machine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: Option<&str>, origin: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check(&headers, &Uri::from_static("/")).err().map(|problem| problem.code)
    }

    #[test]
    fn this_machine_may() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:80", "127.1.2.3", "[::1]:8080", "[::1]"] {
            assert_eq!(verdict(Some(host), None), None, "{host}");
        }
        assert_eq!(verdict(Some("localhost:8080"), Some("http://localhost:8080")), None);
    }

    #[test]
    fn other_names_may_not() {
        for host in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "[::2]",
            "[::1",
            "::1x",
            "localhost:x",
            "user@localhost",
            "0.0.0.0",
        ] {
            assert_eq!(verdict(Some(host), None).as_deref(), Some("host_not_allowed"), "{host}");
        }
        assert_eq!(verdict(None, None).as_deref(), Some("host_not_allowed"));
    }

    #[test]
    fn pages_of_other_sites_change_nothing_with_accounts() {
        let own = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(header::HeaderName::from_static(name), value.parse().unwrap())]);
            is_of_own_page(&headers, "ink.lan:8080", &["ink.example.org".to_owned()])
        };
        for origin in
            ["http://ink.lan:8080", "https://INK.lan:8080", "https://ink.example.org", "https://ink.example.org:8443"]
        {
            assert!(own("origin", origin), "{origin}");
        }
        for origin in ["null", "", "http://ink.lan", "http://evil.example", "https://ink.example.org.evil.example"] {
            assert!(!own("origin", origin), "{origin}");
        }
        for (site, may) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            assert_eq!(own("sec-fetch-site", site), may, "{site}");
        }
    }

    #[test]
    fn names_to_be_called_by_are_set() {
        let mut http = config::Config::defaults().unwrap().http;
        let served = |http: &config::Http, host| is_served(host, http);
        assert!(served(&http, "localhost:8080") && !served(&http, "ink.lan"));
        http.listen = "0.0.0.0:8080".to_owned();
        assert!(served(&http, "ink.lan"));
        http.hosts = vec!["ink.lan".to_owned()];
        assert!(served(&http, "INK.lan:80") && served(&http, "127.0.0.1") && !served(&http, "evil.example"));
    }

    #[test]
    fn pages_of_other_sites_may_not() {
        for origin in ["https://example.com", "null", "http://localhost:9999", "http://127.0.0.1:8080", ""] {
            let verdict = verdict(Some("localhost:8080"), Some(origin));
            assert_eq!(verdict.as_deref(), Some("origin_not_allowed"), "{origin}");
        }
    }
}
