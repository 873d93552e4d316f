//! Who may talk to a server in `open` mode: programs and pages of this machine, addressed as such.
//!
//! There is no login, so a web site in the user's browser must not be able to use the server. A page of another site
//! sends its own Origin; a site whose name was rebound to 127.0.0.1 sends its own Host.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::AppState;
use super::problem::{Kind, Problem};
use crate::config::AuthMode;

/// Answers 403 unless Host is a loopback name or address and Origin, when present, matches it.
pub async fn open_mode(State(state): State<AppState>, request: Request, next: Next) -> Result<Response, Problem> {
    if state.config.auth.mode == AuthMode::Open {
        check(request.headers(), request.uri())?;
    }
    Ok(next.run(request).await)
}

fn check(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let refused = |kind, detail: &str| {
        Problem::new(kind, detail).remedy("Use the address that the server printed at its start, on the same machine.")
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|value| value.to_str().ok());
    let authority = uri.authority().map(axum::http::uri::Authority::as_str).or(host);
    let Some(authority) = authority.filter(|authority| is_loopback(authority) && hosts.next().is_none()) else {
        return Err(refused(
            Kind::HostNotAllowed,
            "Without accounts this server answers only to names of this machine.",
        ));
    };
    let origins = headers.get_all(header::ORIGIN).iter();
    let matches = |value: &axum::http::HeaderValue| {
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
    fn pages_of_other_sites_may_not() {
        for origin in ["https://example.com", "null", "http://localhost:9999", "http://127.0.0.1:8080", ""] {
            let verdict = verdict(Some("localhost:8080"), Some(origin));
            assert_eq!(verdict.as_deref(), Some("origin_not_allowed"), "{origin}");
        }
    }
}
