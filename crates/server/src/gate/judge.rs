//! The judge of sessions at the gate. It is the one that `get-session` asks: the same cookie or token, the same row, the
//! same rule of extension.

use super::Gate;
use crate::auth::current::{self, Presented, Refresh};
use crate::service::Failure;
use gate::authorize::{Demand, Denied};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::{SessionView, UserView, sessions};
use kernel::Millis;
use store::Tx;

/// A session's token, or the user's own `Authorization` where that header is the caller's.
const TOKEN: HeaderName = HeaderName::from_static("x-tollgate-token");

/// What the judge found.
pub(super) enum Looked<T> {
    /// No session.
    Nobody,
    /// A session that is good and has to be extended first: see [`extend`].
    Due,
    Denied(Denied),
    /// The user, and what was to be seen of user and session.
    Passes(String, T),
}

/// What the request shows as its session: the token that was passed on, else what the Better Auth door would take. Where
/// `Authorization` is not the user's it is left out.
pub(super) fn presented(gate: &Gate, headers: &HeaderMap, is_users: bool) -> Presented {
    let mut given = headers.get_all(TOKEN).iter();
    match (given.next(), given.next()) {
        (None, _) if is_users => Presented::read(&gate.app, &gate.names, headers),
        (None, _) => Presented::of_cookies(&gate.app, &gate.names, headers),
        (Some(text), None) => {
            let text = text.to_str().unwrap_or("").trim();
            let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let token = token.map_or(text, |(_, token)| token.trim());
            Presented::passed_on(&gate.app, &gate.names, headers, token)
        }
        // Which of them is meant is anybody's guess.
        (Some(_), Some(_)) => Presented::default(),
    }
}

/// One look at the row of the session that is presented.
pub(super) fn look<T>(
    tx: &mut Tx<'_>,
    gate: &Gate,
    presented: &Presented,
    demand: &Demand,
    now: Millis,
    see: impl FnOnce(&SessionView<'_>, &UserView<'_>) -> T,
) -> Result<Looked<T>, store::Error> {
    let Some(token) = &presented.token else { return Ok(Looked::Nobody) };
    let app = &gate.app;
    let looked = sessions::look(tx, &app.vault, token, |session, user| {
        if session.expires_at <= now {
            return Looked::Nobody;
        }
        if let Err(denied) = demand.judge(&user, now) {
            return Looked::Denied(denied);
        }
        if !app.settings.session.defer_refresh && current::is_due(app, presented, &session, now) {
            return Looked::Due;
        }
        Looked::Passes(user.id.to_owned(), see(&session, &user))
    });
    Ok(looked?.unwrap_or(Looked::Nobody))
}

/// Extends a session that is due, and judges what came of it. `cookies` gets the lines that tell the browser.
pub(super) async fn extend<T>(
    gate: &Gate,
    presented: &Presented,
    demand: &Demand,
    now: Millis,
    see: impl FnOnce(&SessionView<'_>, &UserView<'_>) -> T,
    cookies: &mut Vec<String>,
) -> Result<Looked<T>, Failure> {
    let resolved = current::resolve(&gate.app, presented, Refresh::Yes, now).await?;
    if resolved.extended {
        *cookies = current::cookie_lines(&gate.app, &gate.names, presented, &resolved);
    }
    let Some(live) = resolved.session else { return Ok(Looked::Nobody) };
    let user = live.user.view();
    Ok(match demand.judge(&user, now) {
        Err(denied) => Looked::Denied(denied),
        Ok(()) => Looked::Passes(user.id.to_owned(), see(&live.session.view(), &user)),
    })
}

pub(super) fn set_cookies(headers: &mut HeaderMap, lines: Vec<String>) {
    for line in lines {
        if let Ok(value) = HeaderValue::try_from(line) {
            headers.append(SET_COOKIE, value);
        }
    }
}
