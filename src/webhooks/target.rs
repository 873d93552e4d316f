//! A webhook's URL, and the addresses behind its name: looked at when it is made and again before every attempt.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http_client::Url;
use tokio::sync::Semaphore;

use super::address::{Reach, reach};
use crate::config;

/// Longest URL, bytes: what proxies and servers take as well.
pub const URL_BYTES_MAX: usize = 2048;

/// Why nothing is sent there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Longer than [`URL_BYTES_MAX`].
    #[error("a URL has at most {URL_BYTES_MAX} bytes")]
    TooLong,
    /// Not an absolute URL with a host.
    #[error("this is no URL such as https://example.org/hook")]
    NotAUrl,
    /// Another scheme.
    #[error("the URL begins with {0}")]
    Scheme(&'static str),
    /// A name or password in it.
    #[error("the URL has a name or password in it; the signature says who sends")]
    Credentials,
    /// A port that is not in the list.
    #[error("port {0} is not one that webhooks may have here")]
    Port(u16),
    /// An address that is none of the Internet's. Which one is not said: names of an inner network are nobody's business.
    #[error("its address is one that webhooks may not have here: private, reserved, or of this machine")]
    Address,
    /// The name has no address now.
    #[error("the name could not be resolved")]
    Unresolved,
}

impl TargetError {
    /// For programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong | Self::NotAUrl | Self::Scheme(_) | Self::Credentials | Self::Port(_) => "url_not_allowed",
            Self::Address => "address_not_allowed",
            Self::Unresolved => "unresolved",
        }
    }
}

/// What the settings allow.
#[derive(Debug, Clone)]
pub struct Rules {
    allow_http: bool,
    allow_private: bool,
    ports: Vec<u16>,
}

impl Rules {
    /// Of these settings.
    #[must_use]
    pub fn of(config: &config::Webhooks) -> Self {
        Self { allow_http: config.allow_http, allow_private: config.allow_private, ports: config.ports.clone() }
    }

    fn allow(&self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.allow_private,
            Reach::Never => false,
        }
    }
}

/// A URL that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it is used: what stands in it for the same thing is written one way.
    pub url: Url,
    /// Host and port.
    pub host: String,
}

impl Target {
    /// Reads a URL as browsers do (WHATWG), so that every way to write an address is the address; and looks at it, if it is one.
    ///
    /// # Errors
    /// What is not allowed.
    pub fn parse(text: &str, rules: &Rules) -> Result<Self, TargetError> {
        if text.len() > URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        // Left out or changed by a reader of URLs; nobody means them.
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(TargetError::NotAUrl);
        }
        let mut url = Url::parse(text).map_err(|_| TargetError::NotAUrl)?;
        match url.scheme() {
            "https" => {}
            "http" if rules.allow_http => {}
            _ => return Err(TargetError::Scheme(rules.schemes())),
        }
        if !url.username().is_empty() || url.password().is_some() || text.contains('@') && has_userinfo(text) {
            return Err(TargetError::Credentials);
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(TargetError::NotAUrl);
        };
        if !rules.ports.is_empty() && !rules.ports.contains(&port) || port == 0 {
            return Err(TargetError::Port(port));
        }
        // No resolver is asked about an address.
        if literal(host).is_some_and(|address| !rules.allow(address)) {
            return Err(TargetError::Address);
        }
        let host = format!("{}:{port}", host.trim_end_matches('.'));
        url.set_fragment(None);
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        Ok(Self { url, host })
    }

    /// The name to look up; `None` when the host is an address.
    fn name(&self) -> Option<&str> {
        self.url.host_str().filter(|host| literal(host).is_none())
    }
}

impl Rules {
    const fn schemes(&self) -> &'static str {
        if self.allow_http { "https:// or http://" } else { "https://" }
    }
}

/// Whether the authority has an `@`, even one with nothing before it, which the reader drops.
fn has_userinfo(text: &str) -> bool {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches('/');
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Where addresses of names come from.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of a name.
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// As the system resolves names.
pub struct SystemLookup {
    /// A lookup holds a thread until the system gives up, whoever waits for it.
    threads: Arc<Semaphore>,
}

impl SystemLookup {
    /// With so many lookups at once at most.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS))) }
    }
}

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let threads = self.threads.clone();
        Box::pin(async move {
            let permit = threads.acquire_owned().await.map_err(io::Error::other)?;
            let work = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            });
            work.await.map_err(io::Error::other)?
        })
    }
}

/// Resolves names, and gives addresses only if every one of them is allowed.
#[derive(Clone)]
pub struct Guard {
    /// What is allowed.
    pub rules: Rules,
    lookup: Arc<dyn Lookup>,
    timeout: Duration,
}

impl Guard {
    /// With the rules and bounds of these settings.
    #[must_use]
    pub fn new(config: &config::Webhooks, lookup: Arc<dyn Lookup>) -> Self {
        Self { rules: Rules::of(config), lookup, timeout: config.timeout() }
    }

    /// With the system's names.
    #[must_use]
    pub fn system(config: &config::Webhooks) -> Self {
        Self::new(config, Arc::new(SystemLookup::new(config.parallel_max)))
    }

    /// Looks at a URL and at every address of its name.
    ///
    /// # Errors
    /// What is not allowed, or [`TargetError::Unresolved`].
    pub async fn check(&self, text: &str) -> Result<Target, TargetError> {
        let target = Target::parse(text, &self.rules)?;
        if let Some(name) = target.name() {
            self.addresses(name.to_owned()).await?;
        }
        Ok(target)
    }

    async fn addresses(&self, name: String) -> Result<Vec<IpAddr>, TargetError> {
        let found = tokio::time::timeout(self.timeout, self.lookup.lookup(name)).await;
        let Ok(Ok(addresses)) = found else { return Err(TargetError::Unresolved) };
        if addresses.is_empty() {
            return Err(TargetError::Unresolved);
        }
        // One that is not allowed among others is enough: the client might take it.
        if addresses.iter().any(|address| !self.rules.allow(*address)) {
            return Err(TargetError::Address);
        }
        Ok(addresses)
    }
}

/// The client's resolver: what it connects to is what was looked at here, since nobody resolves again.
impl http_client::dns::Resolve for Guard {
    fn resolve(&self, name: http_client::dns::Name) -> http_client::dns::Resolving {
        let (guard, name) = (self.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let addresses = guard.addresses(name).await?;
            let addresses: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as http_client::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow_http: bool, allow_private: bool) -> Rules {
        Rules { allow_http, allow_private, ports: vec![80, 443, 8443] }
    }

    fn code(text: &str) -> String {
        match Target::parse(text, &rules(true, false)) {
            Ok(target) => target.url.to_string(),
            Err(error) => error.to_string().split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn addresses_are_found_however_they_are_written() {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0177.0x0.0.1",
            "127.1",
            "127.0.1",
            "017700000001",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "127。0。0。1",
            "１２７.0.0.1",
            "①②⑦.0.0.1",
            "0",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:7f00:0001]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fc00::1]",
            "[ff02::1]",
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "[::ffff:a9fe:a9fe]",
            "10.1.2.3",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "198.51.100.1",
            "[2001:db8::1]",
        ] {
            for scheme in ["http", "https"] {
                assert_eq!(code(&format!("{scheme}://{host}/x")), "its address is", "{scheme} {host}");
            }
        }
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        let table = [
            (
                "this is no",
                "|x|/x|//example.org/|https://|https:///|https://exa mple.org/|https://example.org/\n|\thttps://example.org/",
            ),
            ("this is no", "https://[::1%25lo]/|https://[fe80::1%eth0]/|https://[::1|https://example.org\\@127.0.0.1/"),
            ("this is no", "https://256.256.256.256/|https://1.2.3.4.5/|https://exa<mple.org/|https://0x100000000/"),
            (
                "the URL begins",
                "ftp://example.org/|file:///etc/passwd|gopher://example.org/|ws://example.org/|unix://x/y|javascript:alert(1)|data:text/plain,x",
            ),
            (
                "the URL has",
                "https://user@example.org/|https://user:pass@example.org/|https://:pass@example.org/|https://@example.org/",
            ),
            (
                "the URL has",
                "https://example.org@127.0.0.1/|https://example.org:443@127.0.0.1/|https:///@example.org/|https:user@example.org",
            ),
            ("port 22 is", "https://example.org:22/|http://example.org:22"),
            ("port 0 is", "https://example.org:0/"),
        ];
        for (expected, urls) in table {
            for url in urls.split('|') {
                assert_eq!(code(url), expected, "{url:?}");
            }
        }
        let long = format!("https://example.org/{}", "x".repeat(URL_BYTES_MAX));
        assert_eq!(code(&long), "a URL has");
        // One that grows while it is read.
        let longer = format!("https://example.org/{}", "ж".repeat(1000));
        assert_eq!(code(&longer), "a URL has");
    }

    #[test]
    fn what_is_plain_is_kept() {
        for (text, kept) in [
            ("https://example.org/hook?x=1", "https://example.org/hook?x=1"),
            ("https://EXAMPLE.org", "https://example.org/"),
            ("https://example.org:8443/a@b#part", "https://example.org:8443/a@b"),
            ("http://example.org./", "http://example.org./"),
            ("https://почта.рф/", "https://xn--80a1acny.xn--p1ai/"),
            ("https://8.8.8.8/", "https://8.8.8.8/"),
            ("https://134744072/", "https://8.8.8.8/"),
            ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"),
        ] {
            assert_eq!(code(text), kept);
        }
        let parse = |text: &str, rules: &Rules| Target::parse(text, rules).map(|target| target.host);
        assert_eq!(parse("https://Example.org./", &rules(false, false)).as_deref(), Ok("example.org:443"));
        assert_eq!(parse("http://example.org/", &rules(false, false)), Err(TargetError::Scheme("https://")));
        assert_eq!(parse("https://127.0.0.1/", &rules(false, true)).as_deref(), Ok("127.0.0.1:443"));
        assert_eq!(parse("https://[::1]/", &rules(false, true)).as_deref(), Ok("[::1]:443"));
        assert_eq!(parse("https://169.254.169.254/", &rules(false, true)), Err(TargetError::Address));
    }
}
