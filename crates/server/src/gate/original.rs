//! The request that a proxy asks about, as its headers tell it: `X-Forwarded-*` of Caddy and Traefik, `X-Original-*` of
//! nginx.

use crate::service::Failure;
use gate::rules::{Doubt, PlainPath};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName};
use kernel::TrustedOrigins;
use kernel::redirect;

const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
/// A longer target would not fit into the buffers that proxies have for an answer's headers.
const TARGET_BYTES: usize = 2_048;

/// Which answers the proxy understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxy {
    /// Any: they are handed on to the browser.
    Open,
    /// 2xx, 401 and 403; everything else becomes 500.
    Nginx,
}

impl Proxy {
    pub fn of(headers: &HeaderMap) -> Proxy {
        match [ORIGINAL_URI, ORIGINAL_URL].iter().any(|name| headers.contains_key(name)) {
            true => Proxy::Nginx,
            false => Proxy::Open,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Original<'a> {
    pub method: &'a str,
    /// Path and query.
    target: &'a str,
    /// Scheme and host, as far as they are told.
    scheme: &'a str,
    host: &'a str,
}

impl<'a> Original<'a> {
    pub fn read(headers: &'a HeaderMap) -> Result<Original<'a>, Failure> {
        let (scheme, host) = (lenient(headers, &FORWARDED_PROTO), lenient(headers, &FORWARDED_HOST));
        // A proxy writes one kind; the other kind was written by the client, to be taken for the proxy's.
        let forwarded = [FORWARDED_METHOD, FORWARDED_URI].iter().any(|name| headers.contains_key(name));
        let original =
            [ORIGINAL_METHOD, ORIGINAL_URI, ORIGINAL_URL].iter().any(|name| headers.contains_key(name));
        if forwarded && original {
            return Err(Failure::Doubtful(
                "it has both X-Forwarded-Method or -Uri and X-Original-Method, -URI or -URL; let the proxy clear those it does not set",
            ));
        }
        let url = only(headers, &ORIGINAL_URL)?;
        let uri = only(headers, &ORIGINAL_URI)?;
        let (method, target, scheme, host) = match (uri, url) {
            (None, None) => {
                let method = needed(headers, &FORWARDED_METHOD, "X-Forwarded-Method")?;
                (method, needed(headers, &FORWARDED_URI, "X-Forwarded-Uri")?, scheme, host)
            }
            (Some(uri), None) => (needed(headers, &ORIGINAL_METHOD, "X-Original-Method")?, uri, scheme, host),
            (None, Some(url)) => {
                let method = needed(headers, &ORIGINAL_METHOD, "X-Original-Method")?;
                let (scheme, rest) = url.split_once("://").ok_or(NOT_ABSOLUTE)?;
                let slash = rest.find('/').ok_or(NOT_ABSOLUTE)?;
                (method, &rest[slash..], scheme, &rest[..slash])
            }
            (Some(_), Some(_)) => {
                return Err(Failure::Doubtful("it has both X-Original-URI and X-Original-URL"));
            }
        };
        // Some programs take `get` for `GET`.
        if !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            return Err(Failure::Doubtful("its method is not written in capitals"));
        }
        Ok(Original { method, target, scheme, host })
    }

    /// A proxy that does not set the query of its question hands on the client's own, who would so choose what to be
    /// charged for.
    pub fn check_own_query(&self, query: Option<&str>) -> Result<(), Failure> {
        let own = self.target.split_once('?').map(|(_, query)| query);
        match query {
            Some(query) if !query.is_empty() && own == Some(query) => Err(Failure::Doubtful(
                "its own query came along; let the proxy end the address it asks at with a question mark",
            )),
            _ => Ok(()),
        }
    }

    pub fn path(&self) -> Result<PlainPath, Doubt> {
        PlainPath::read(self.target)
    }

    /// A person looks at a page and can be sent elsewhere.
    pub fn is_page(&self, headers: &HeaderMap) -> bool {
        let names_html = |line: &str| {
            line.split(',').any(|part| {
                part.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
            })
        };
        let accepts = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).any(names_html);
        matches!(self.method, "GET" | "HEAD") && accepts
    }

    /// Where people come back to after signing in: where they wanted to go, if that is a place of ours.
    pub fn sign_in_target(&self, trusted: &TrustedOrigins) -> String {
        let target = format!("{}://{}{}", self.scheme, self.host, self.target);
        let web = matches!(self.scheme, "http" | "https") && target.len() <= TARGET_BYTES;
        let target = if web { redirect::judge(trusted, &target) } else { None };
        target.map_or_else(|| "/".to_owned(), |target| target.location())
    }
}

const NOT_ABSOLUTE: Failure = Failure::Doubtful("X-Original-URL is not an absolute URL");

/// For what is judged where it is used.
fn lenient<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let mut given = headers.get_all(name).iter();
    match (given.next(), given.next()) {
        (Some(value), None) => value.to_str().unwrap_or(""),
        _ => "",
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut given = headers.get_all(name).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) if !text.is_empty() => Ok(Some(text)),
            _ => Err(Failure::Doubtful("one of its headers is empty or not ASCII")),
        },
        (Some(_), Some(_)) => Err(Failure::Doubtful("one of its headers stands twice")),
    }
}

fn needed<'a>(headers: &'a HeaderMap, name: &HeaderName, spelled: &'static str) -> Result<&'a str, Failure> {
    only(headers, name)?.ok_or_else(|| {
        Failure::invalid(spelled, "it is required: the proxy tells by it which request it asks about")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn sign_in(pairs: &[(&'static str, &str)]) -> String {
        let trusted = TrustedOrigins::new("https://auth.example", &["https://app.example".into()]).unwrap();
        let headers = headers(pairs);
        Original::read(&headers).unwrap().sign_in_target(&trusted)
    }

    #[test]
    fn only_targets_of_ours_are_come_back_to() {
        let to = |proto: &str, host: &str, uri: &str| {
            let pairs = [
                ("x-forwarded-method", "GET"),
                ("x-forwarded-uri", uri),
                ("x-forwarded-proto", proto),
                ("x-forwarded-host", host),
            ];
            sign_in(&pairs)
        };
        assert_eq!(to("https", "app.example", "/a?b=c&d=%20"), "https://app.example/a?b=c&d=%20");
        assert_eq!(to("https", "auth.example", "/"), "https://auth.example/");
        for (proto, host, uri) in [
            ("http", "app.example", "/a"),
            ("https", "evil.example", "/a"),
            ("https", "app.example.evil.example", "/a"),
            ("https", "app.example@evil.example", "/a"),
            ("https", "app.example:444", "/a"),
            ("https", "app.example, evil.example", "/a"),
            ("https", "", "/a"),
            ("", "app.example", "/a"),
            ("javascript", "app.example", "/a"),
            ("https", "app.example", "/\\evil.example"),
            ("https", "app.example", &format!("/{}", "a".repeat(2_048))),
            ("https", "evil.example/", "@app.example/"),
        ] {
            assert_eq!(to(proto, host, uri), "/", "{proto} {host} {uri}");
        }
    }

    #[test]
    fn one_kind_of_headers_tells_the_request() {
        let read = |pairs: &[(&'static str, &str)]| {
            let headers = headers(pairs);
            Original::read(&headers)
                .map(|original| format!("{} {}", original.method, original.target))
                .map_err(|failure| failure.parts().0.as_u16())
        };
        let (method, uri) = (("x-forwarded-method", "GET"), ("x-forwarded-uri", "/a?b"));
        let (verb, path) = (("x-original-method", "POST"), ("x-original-uri", "/c"));
        let url = ("x-original-url", "https://app.example/d?e");
        assert_eq!(read(&[method, uri]), Ok("GET /a?b".into()));
        assert_eq!(read(&[verb, path]), Ok("POST /c".into()));
        assert_eq!(read(&[verb, url]), Ok("POST /d?e".into()));
        for missing in [&[][..], &[method], &[uri], &[verb], &[path], &[url]] {
            assert_eq!(read(missing), Err(422), "{missing:?}");
        }
        for doubtful in [
            &[method, uri, path][..],
            &[method, uri, verb],
            &[verb, path, uri],
            &[verb, path, method],
            &[verb, path, url],
            &[method, uri, uri],
            &[method, method, uri],
            &[verb, path, path],
            &[("x-forwarded-method", "get"), uri],
            &[("x-forwarded-method", "GET POST"), uri],
            &[("x-forwarded-method", ""), uri],
            &[method, ("x-forwarded-uri", "")],
            &[verb, ("x-original-url", "/d")],
            &[verb, ("x-original-url", "https://app.example")],
        ] {
            assert_eq!(read(doubtful), Err(403), "{doubtful:?}");
        }
    }
}
