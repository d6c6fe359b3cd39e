//! Who may see the pages of `dev`: the person at this machine, with a browser that means this server.

use super::Pages;
use super::problem::Problem;
use crate::edge::RequestContext;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, FORWARDED, HOST, REFERRER_POLICY, VIA, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use kernel::ClientAddress;
use std::sync::Arc;
use url::{Host, Url};

const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A proxy or a tunnel on this machine is a local peer that speaks for strangers.
const FORWARDING: [HeaderName; 6] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Lets a request through, and gives each answer the headers that it did not choose itself.
pub async fn admit(
    State(pages): State<Arc<Pages>>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Response<Body> {
    let refused = refusal(&pages.hosts, context.client, request.headers(), request.uri());
    let mut response = match refused {
        Some(message) => Problem::forbidden(message).answer(&pages.views, request.headers()),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert_with(|| HeaderValue::from_static(value));
    };
    default(CONTENT_SECURITY_POLICY, PAGE_POLICY);
    // The pages hold links and a key that work.
    default(CACHE_CONTROL, "no-store");
    default(X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(X_FRAME_OPTIONS, "DENY");
    // With `no-referrer` a browser sends a form with `Origin: null`, which the sign-in refuses.
    default(REFERRER_POLICY, "same-origin");
    // Nothing here may be pulled into the page of an app on another port.
    default(CROSS_ORIGIN_RESOURCE_POLICY, "same-origin");
    response
}

fn refusal(hosts: &Hosts, client: ClientAddress, headers: &HeaderMap, uri: &Uri) -> Option<&'static str> {
    if FORWARDING.iter().any(|name| headers.contains_key(name)) {
        return Some(
            "These pages do not answer through a proxy or a tunnel. Open them on the machine that runs Tollgate.",
        );
    }
    // Without forwarding headers the client is the peer, whichever proxies are trusted.
    let (ClientAddress::Known(peer) | ClientAddress::Proxy(peer)) = client;
    if !peer.is_loopback() {
        return Some("These pages answer this machine only. Open them on the machine that runs Tollgate.");
    }
    // A page elsewhere can let its own name point at 127.0.0.1 (DNS rebinding), but not choose what the browser sends
    // as the host.
    if !hosts.are_meant_by(headers, uri) {
        return Some(
            "These pages answer to localhost only. Open them under http://localhost and the server's port.",
        );
    }
    None
}

/// The names under which the pages may be asked for.
pub struct Hosts(Vec<String>);

impl Hosts {
    pub fn new(base_url: &str) -> Hosts {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        names.extend(Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_owned)));
        Hosts(names)
    }

    /// Exactly one `Host`, and the same answer for a target in absolute form, which would overrule it.
    fn are_meant_by(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let mut lines = headers.get_all(HOST).iter();
        let (Some(host), None) = (lines.next(), lines.next()) else { return false };
        let holds = |text: &str| host_of(text).is_some_and(|host| self.0.contains(&host));
        host.to_str().is_ok_and(holds) && uri.authority().is_none_or(|authority| holds(authority.as_str()))
    }
}

/// The name in `name:port`, as a URL would hold it.
fn host_of(text: &str) -> Option<String> {
    let port = |text: &str| text.is_empty() || text.parse::<u16>().is_ok();
    let name = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']')?;
            (after.is_empty() || after.strip_prefix(':').is_some_and(port)).then(|| format!("[{inner}]"))?
        }
        None => match text.split_once(':') {
            Some((name, digits)) => port(digits).then(|| name.to_owned())?,
            None => text.to_owned(),
        },
    };
    Host::parse(&name).ok().map(|host| host.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        Hosts::new("http://tollgate.test:8655").are_meant_by(&headers, &Uri::from_static("/dev"))
    }

    #[test]
    fn only_names_of_this_machine_and_of_the_base_url_are_answered() {
        for host in [
            "localhost",
            "localhost:8655",
            "LOCALHOST:1",
            "127.0.0.1:8655",
            "[::1]",
            "[::1]:8655",
            "tollgate.test:8655",
        ] {
            assert!(meant(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8655",
            "localhost.evil.example",
            "localhost.",
            "a.localhost",
            "127.0.0.1.evil.example",
            "user@localhost",
            "localhost:8655:1",
            "localhost:http",
            "localhost/",
            "[::1",
            "[::1]x",
            "192.0.2.1",
            "0.0.0.0",
        ] {
            assert!(!meant(host), "{host}");
        }
    }

    #[test]
    fn a_second_host_or_another_target_is_refused() {
        let hosts = Hosts::new("http://localhost:8655");
        let mut headers = HeaderMap::new();
        assert!(!hosts.are_meant_by(&headers, &Uri::from_static("/dev")));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(hosts.are_meant_by(&headers, &Uri::from_static("http://localhost:8655/dev")));
        assert!(!hosts.are_meant_by(&headers, &Uri::from_static("http://evil.example/dev")));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(!hosts.are_meant_by(&headers, &Uri::from_static("/dev")));
    }

    #[test]
    fn only_loopback_peers_that_speak_for_themselves_are_admitted() {
        let hosts = Hosts::new("http://localhost:8655");
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        let uri = Uri::from_static("/dev");
        let known = |text: &str| ClientAddress::Known(text.parse().unwrap());
        for peer in ["127.0.0.1", "127.3.2.1", "::1"] {
            assert_eq!(refusal(&hosts, known(peer), &headers, &uri), None, "{peer}");
        }
        for peer in ["192.168.1.7", "172.17.0.1", "0.0.0.0", "fe80::1", "2001:db8::1"] {
            assert!(refusal(&hosts, known(peer), &headers, &uri).is_some(), "{peer}");
        }
        let proxy = ClientAddress::Proxy("10.0.0.1".parse().unwrap());
        assert!(refusal(&hosts, proxy, &headers, &uri).is_some());
        for name in FORWARDING {
            let mut headers = headers.clone();
            headers.insert(name.clone(), HeaderValue::from_static("127.0.0.1"));
            assert!(refusal(&hosts, known("127.0.0.1"), &headers, &uri).is_some(), "{name}");
        }
    }
}
