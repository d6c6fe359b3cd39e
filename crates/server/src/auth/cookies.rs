//! The door's cookies: their names, and the sets of them that sign-in and sign-out send.

use crate::app::App;
use crate::settings::{CookieSettings, SameSite};
use http::HeaderMap;
use http::header::COOKIE;
use kernel::cookie::SetCookie;

const DAY_SECONDS: i64 = 86_400;
const LAST_METHOD_SECONDS: i64 = 30 * DAY_SECONDS;
const STATE_SECONDS: i64 = 300;
const TWO_FACTOR_SECONDS: i64 = 600;
const TRUST_DEVICE_SECONDS: i64 = 30 * DAY_SECONDS;
const PASSKEY_SECONDS: i64 = 300;

/// Full names, made once at start.
#[derive(Debug, Clone)]
pub struct Names {
    pub session_token: String,
    pub dont_remember: String,
    pub session_data: String,
    /// A sign-in that is under way at a provider.
    pub state: String,
    pub two_factor: String,
    pub trust_device: String,
    pub passkey: String,
    /// The session that an administrator comes back to.
    pub admin_session: String,
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
            state: name("state"),
            two_factor: name("two_factor"),
            trust_device: name("trust_device"),
            passkey: name("better-auth-passkey"),
            admin_session: name("admin_session"),
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

/// What the browser sent, each cookie by itself. A value that is no text counts as empty, so that what another program
/// keeps in the same browser takes nothing from ours.
pub fn lines(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    cookies.filter_map(|cookie| {
        let text = std::str::from_utf8(cookie).ok();
        text.or_else(|| {
            let equals = cookie.iter().position(|&byte| byte == b'=')?;
            std::str::from_utf8(&cookie[..=equals]).ok()
        })
    })
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

    /// A sign-in that waits for its second factor.
    pub fn two_factor(&mut self, challenge: &str) {
        let signed = self.app.signer.sign_for_cookie(challenge);
        self.push(&self.names.two_factor, &signed, Some(TWO_FACTOR_SECONDS), true);
    }

    /// A browser that is not asked for one.
    pub fn trust_device(&mut self, kept: &str) {
        let signed = self.app.signer.sign_for_cookie(kept);
        self.push(&self.names.trust_device, &signed, Some(TRUST_DEVICE_SECONDS), true);
    }

    /// Where an administrator comes back to, and whether that session was to be forgotten with the browser.
    pub fn admin_session(&mut self, token: &str, forgets: bool) {
        let value = format!("{token}:{}", if forgets { "true" } else { "" });
        let signed = self.app.signer.sign_for_cookie(&value);
        let max_age = self.app.settings.session.expires_in / 1_000;
        self.push(&self.names.admin_session, &signed, Some(max_age), true);
    }

    /// What a passkey is about to sign.
    pub fn passkey(&mut self, ticket: &str) {
        let signed = self.app.signer.sign_for_cookie(ticket);
        self.push(&self.names.passkey, &signed, Some(PASSKEY_SECONDS), true);
    }

    pub fn last_method(&mut self, method: &str) {
        self.push(&self.names.last_method, method, Some(LAST_METHOD_SECONDS), false);
    }

    /// Comes back from another site with the person, so it is never `Strict`.
    pub fn state(&mut self, value: &str) {
        let signed = self.app.signer.sign_for_cookie(value);
        let settings = &self.app.settings.cookies;
        let same_site = match settings.same_site {
            SameSite::Strict => SameSite::Lax,
            other => other,
        };
        let cookie = SetCookie {
            name: &self.names.state,
            value: &signed,
            max_age: Some(STATE_SECONDS),
            domain: settings.domain.as_deref(),
            http_only: true,
            secure: settings.secure,
            same_site: same_site.name(),
        };
        self.lines.push(cookie.to_line());
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use kernel::cookie;

    fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        cookie::first(lines(headers), name)
    }

    #[test]
    fn what_others_keep_in_a_browser_takes_nothing_from_ours() {
        let mut headers = HeaderMap::new();
        for line in [&b"x=\xe9; \xff; \xfe=1; own=good; y=\xc3\xa9"[..], b"z=1;\xa0own=second;last=1"] {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        assert_eq!(first(&headers, "own"), Some("good"));
        assert_eq!(first(&headers, "last"), Some("1"));
        assert_eq!(first(&headers, "y"), Some("é"));
        assert_eq!(first(&headers, "x"), Some(""));
    }

    #[test]
    fn a_value_that_is_no_text_is_not_cut_and_gives_no_turn_to_the_next() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_bytes(b"own=good\xff; own=good").unwrap());
        assert_eq!(first(&headers, "own"), Some(""));
    }
}
