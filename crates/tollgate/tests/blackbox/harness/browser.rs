//! A browser as the doors see one: it keeps cookies and names its origin.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Connection, Request, Response};
use super::server::Server;

pub const PASSWORD: &str = "correct horse battery staple";

/// Hashing a password on a busy test machine takes its time.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub struct Browser {
    pub address: SocketAddr,
    /// The page's origin, sent with everything but GET and HEAD; `None` for a caller that is no browser.
    pub origin: Option<String>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    cookies: Vec<Cookie>,
}

/// What a cookie's value stands for: without quotes and spaces around it, with percent signs decoded.
/// Two spellings of one value are one cookie, so that a test that forges values must leave them out.
pub fn cookie_meaning(text: &str) -> Vec<u8> {
    let text = text.trim().trim_matches('"').trim();
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, decoded) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Path and query of a link.
pub fn path_of(link: &str) -> &str {
    let behind_scheme = link.find("://").map_or(0, |at| at + 3);
    link[behind_scheme..].find('/').map_or("/", |at| &link[behind_scheme + at..])
}

#[derive(Debug, Clone)]
struct Cookie {
    name: String,
    value: String,
    path: String,
}

impl Browser {
    /// A fresh browser on a page of the server's own origin.
    pub fn new(server: &Server) -> Browser {
        Browser::open(server.address, &server.base_url)
    }

    /// For a server that the test started by hand.
    pub fn open(address: SocketAddr, origin: &str) -> Browser {
        Browser { address, origin: Some(origin.to_owned()), headers: Vec::new(), cookies: Vec::new() }
    }

    pub fn on_page(mut self, origin: &str) -> Browser {
        self.origin = Some(origin.to_owned());
        self
    }

    /// The same browser asking another node.
    pub fn at(&self, node: &Server) -> Browser {
        Browser { address: node.address, ..self.clone() }
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.send(Request::get(target))
    }

    #[track_caller]
    pub fn post(&mut self, target: &str, json: Value) -> Response {
        self.send(Request::post(target, &json))
    }

    /// Sends the request with cookies and origin (unless it has its own), and keeps the cookies of the answer.
    #[track_caller]
    pub fn send(&mut self, request: Request) -> Response {
        let request = self.dress(request);
        let result = Connection::open(self.address).and_then(|mut connection| {
            connection.set_timeout(PATIENCE);
            connection.exchange(&request)
        });
        match result {
            Ok(response) => {
                self.keep_cookies(&response);
                response
            }
            Err(failure) => panic!("{} {}: no answer: {failure:?}", request.method, request.target),
        }
    }

    #[track_caller]
    pub fn sign_up(&mut self, email: &str) -> Value {
        let body = json!({"name": "Test Person", "email": email, "password": PASSWORD});
        self.post("/api/auth/sign-up/email", body).expect(200).json()
    }

    #[track_caller]
    pub fn sign_in(&mut self, email: &str) -> Value {
        self.post("/api/auth/sign-in/email", json!({"email": email, "password": PASSWORD})).expect(200).json()
    }

    /// A sign-in that may fail.
    #[track_caller]
    pub fn try_sign_in(&mut self, email: &str, password: &str) -> Response {
        self.post("/api/auth/sign-in/email", json!({"email": email, "password": password}))
    }

    /// Opens a mailed link, wherever its host is.
    #[track_caller]
    pub fn follow(&mut self, link: &str) -> Response {
        self.get(path_of(link))
    }

    #[track_caller]
    pub fn sign_out(&mut self) {
        self.post("/api/auth/sign-out", json!({})).expect(200);
    }

    /// What `get-session` says; `null` when signed out.
    #[track_caller]
    pub fn session(&mut self) -> Value {
        self.get("/api/auth/get-session").expect(200).json()
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|cookie| cookie.name == name).map(|cookie| cookie.value.as_str())
    }

    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.forget_cookie(name);
        self.cookies.push(Cookie { name: name.into(), value: value.into(), path: "/".into() });
    }

    pub fn forget_cookie(&mut self, name: &str) {
        self.cookies.retain(|cookie| cookie.name != name);
    }

    /// The `Cookie` header for a path, as an app's backend would pass it on.
    pub fn cookie_header(&self, path: &str) -> String {
        let fitting = self.cookies.iter().filter(|cookie| cookie.fits(path));
        fitting.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; ")
    }

    fn dress(&self, mut request: Request) -> Request {
        let named = |request: &Request, wanted: &str| {
            request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        let cookies = self.cookie_header(&path);
        if !cookies.is_empty() && !named(&request, "Cookie") {
            request = request.header("Cookie", &cookies);
        }
        if let Some(origin) = &self.origin
            && !matches!(request.method.as_str(), "GET" | "HEAD")
            && !named(&request, "Origin")
        {
            request = request.header("Origin", origin);
        }
        for (name, value) in &self.headers {
            if !named(&request, name) {
                request = request.header(name, value);
            }
        }
        request
    }

    fn keep_cookies(&mut self, response: &Response) {
        for line in response.all("Set-Cookie") {
            let mut parts = line.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let mut cookie = Cookie { name: name.into(), value: value.into(), path: "/".into() };
            let mut ended = false;
            for attribute in parts {
                match attribute.split_once('=').unwrap_or((attribute, "")) {
                    (name, value) if name.eq_ignore_ascii_case("Path") => cookie.path = value.into(),
                    (name, value) if name.eq_ignore_ascii_case("Max-Age") => {
                        ended = value.parse::<i64>().is_ok_and(|seconds| seconds <= 0);
                    }
                    _ => {}
                }
            }
            self.cookies.retain(|known| known.name != cookie.name || known.path != cookie.path);
            if !ended {
                self.cookies.push(cookie);
            }
        }
    }
}

impl Cookie {
    fn fits(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn browser() -> Browser {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Browser {
            address,
            origin: Some("https://app.example".into()),
            headers: Vec::new(),
            cookies: Vec::new(),
        }
    }

    fn answer(cookies: &[&str]) -> Response {
        let headers = cookies.iter().map(|cookie| ("Set-Cookie".to_owned(), (*cookie).to_owned())).collect();
        Response { status: 200, headers, body: Vec::new() }
    }

    #[test]
    fn cookies_are_kept_replaced_and_cleared() {
        let mut browser = browser();
        browser.keep_cookies(&answer(&["a=1; Path=/; HttpOnly", "b=x=y; Path=/api; Max-Age=60"]));
        assert_eq!(browser.cookie_header("/api/auth"), "a=1; b=x=y");
        assert_eq!(browser.cookie_header("/apix"), "a=1");
        browser.keep_cookies(&answer(&["a=2; Path=/", "b=; Max-Age=0; Path=/api"]));
        assert_eq!(browser.cookie_header("/api/auth"), "a=2");
    }

    #[test]
    fn the_origin_goes_with_what_changes_something() {
        let named = |request: &Request| request.headers.iter().any(|(name, _)| name == "Origin");
        assert!(named(&browser().dress(Request::post("/x", &json!({})))));
        assert!(!named(&browser().dress(Request::get("/x"))));
        let own = browser().dress(Request::post("/x", &json!({})).header("Origin", "null"));
        assert_eq!(own.headers.iter().filter(|(name, _)| name == "Origin").count(), 1);
    }
}
