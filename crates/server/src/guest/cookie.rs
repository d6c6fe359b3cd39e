//! The guest cookie on its way in and out.

use crate::app::App;
use crate::auth::cookies::lines;
use gate::guest_cookie;
use http::HeaderMap;
use kernel::cookie::{self, SetCookie};
use kernel::{GuestId, Millis, time};

fn name(app: &App) -> &'static str {
    match app.settings.cookies.secure {
        true => "__Secure-tollgate.guest",
        false => guest_cookie::NAME,
    }
}

/// The guest of a cookie that we signed and whose time is not over. Whether there still is such a guest, the store knows.
pub(crate) fn presented(app: &App, headers: &HeaderMap, now: Millis) -> Option<GuestId> {
    let settings = &app.settings.guest;
    let value = if settings.enabled { cookie::first(lines(headers), name(app)) } else { None };
    app.guest_keys.open(value?, settings.ttl, now)
}

/// The line that gives a browser its cookie.
pub(super) fn line(app: &App, guest: &GuestId, now: Millis) -> String {
    set(app, &app.guest_keys.sign(guest, now), app.settings.guest.ttl / time::SECOND)
}

/// The line that takes the cookie from a browser that sent one, good or not.
pub(crate) fn forgotten(app: &App, headers: &HeaderMap) -> Option<String> {
    let sent = app.settings.guest.enabled && cookie::first(lines(headers), name(app)).is_some();
    sent.then(|| set(app, "", 0))
}

fn set(app: &App, value: &str, max_age: i64) -> String {
    let settings = &app.settings.cookies;
    SetCookie {
        name: name(app),
        value,
        max_age: Some(max_age),
        domain: settings.domain.as_deref(),
        http_only: true,
        secure: settings.secure,
        same_site: settings.same_site.name(),
    }
    .to_line()
}
