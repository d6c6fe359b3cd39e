//! The door's cookies: their names, and the sets of them that sign-in and sign-out send.

use crate::app::App;
use crate::settings::CookieSettings;
use http::HeaderMap;
use http::header::COOKIE;
use kernel::cookie::SetCookie;

const DAY_SECONDS: i64 = 86_400;
const LAST_METHOD_SECONDS: i64 = 30 * DAY_SECONDS;

/// Full names, made once at start.
#[derive(Debug, Clone)]
pub struct Names {
    pub session_token: String,
    pub dont_remember: String,
    pub session_data: String,
    /// Never with the `__Secure-` prefix: scripts of the page read it.
    pub last_method: String,
}

impl Names {
    pub fn new(settings: &CookieSettings) -> Names {
        let secure = if settings.secure { "__Secure-" } else { "" };
        let name = |rest: &str| format!("{secure}{}.{rest}", settings.prefix);
        Names {
            session_token: name("session_token"),
            dont_remember: name("dont_remember"),
            session_data: name("session_data"),
            last_method: format!("{}.last_used_login_method", settings.prefix),
        }
    }

    pub fn multi(&self, token: &str) -> String {
        format!("{}_multi-{}", self.session_token, token.to_ascii_lowercase())
    }

    pub fn is_multi(name: &str) -> bool {
        name.contains("_multi-")
    }
}

pub fn lines(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok())
}

/// How long a session's cookie stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As long as the session.
    Remember,
    /// Until the browser ends.
    Forget,
}

/// Writes cookies with the deployment's attributes.
pub struct Writer<'a> {
    app: &'a App,
    names: &'a Names,
    pub lines: Vec<String>,
}

impl<'a> Writer<'a> {
    pub fn new(app: &'a App, names: &'a Names) -> Writer<'a> {
        Writer { app, names, lines: Vec::new() }
    }

    fn push(&mut self, name: &str, value: &str, max_age: Option<i64>, http_only: bool) {
        let settings = &self.app.settings.cookies;
        let cookie = SetCookie {
            name,
            value,
            max_age,
            domain: settings.domain.as_deref(),
            http_only,
            secure: settings.secure,
            same_site: settings.same_site.name(),
        };
        self.lines.push(cookie.to_line());
    }

    pub fn session(&mut self, token: &str, keep: Keep) {
        let signed = self.app.signer.sign_for_cookie(token);
        let max_age = (keep == Keep::Remember).then_some(self.app.settings.session.expires_in / 1_000);
        self.push(&self.names.session_token, &signed, max_age, true);
    }

    pub fn dont_remember(&mut self) {
        let signed = self.app.signer.sign_for_cookie("true");
        self.push(&self.names.dont_remember, &signed, None, true);
    }

    pub fn multi(&mut self, token: &str) {
        let signed = self.app.signer.sign_for_cookie(token);
        let max_age = self.app.settings.session.expires_in / 1_000;
        self.push(&self.names.multi(token), &signed, Some(max_age), true);
    }

    pub fn last_method(&mut self, method: &str) {
        self.push(&self.names.last_method, method, Some(LAST_METHOD_SECONDS), false);
    }

    pub fn clear(&mut self, name: &str) {
        self.push(name, "", Some(0), true);
    }

    /// What a browser forgets when its session is over.
    pub fn clear_session(&mut self) {
        for name in [&self.names.session_token, &self.names.session_data, &self.names.dont_remember] {
            self.clear(name);
        }
    }
}
