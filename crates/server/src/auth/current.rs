//! Who is calling: the session that a request presents, looked up in the store every time.

use super::app_session::{self, AppSession};
use super::cookies::{self, Keep, Names, Writer};
use crate::app::App;
use crate::settings::Switch;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::{LiveSession, SessionView, UserView, sessions};
use kernel::signed::{Signer, decode_uri_component};
use kernel::{Millis, cookie};
use std::sync::Arc;
use store::Tx;

/// What a request shows, before anybody asks the store.
#[derive(Clone, Default)]
pub struct Presented {
    /// A token that is validly signed in a cookie, or was sent as a bearer token.
    pub token: Option<String>,
    /// Our signature was on it; a bearer token may come without one.
    pub is_signed: bool,
    /// The browser asked not to be remembered.
    pub dont_remember: bool,
    /// There is a cookie of that name, whatever it holds.
    pub has_dont_remember: bool,
    /// In the token's place where sessions are an app's.
    pub app: Option<AppSession>,
}

/// What became of it.
#[derive(Default)]
pub struct Resolved {
    pub session: Option<LiveSession>,
    /// The session was extended just now: its cookie has to be sent again.
    pub extended: bool,
    /// It is old enough to be extended.
    pub is_due: bool,
    /// A token was shown that opens nothing: the browser should forget it.
    pub forget: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Extend a session that is old enough.
    Yes,
    /// Change nothing.
    No,
}

impl Presented {
    pub fn read(app: &App, names: &Names, headers: &HeaderMap) -> Presented {
        if !app.settings.session.strategy.is_own() {
            return Presented::of_app(app_session::read(app, headers, true));
        }
        let bearer =
            if app.settings.methods.has(Switch::Bearer) { bearer(&app.signer, headers) } else { None };
        Presented::beside_cookies(app, names, headers, bearer)
    }

    /// A token that a backend or a proxy passes on in a header of its own: it stands in for the cookie, also when it
    /// opens nothing.
    pub fn passed_on(app: &App, names: &Names, headers: &HeaderMap, token: &str) -> Presented {
        if !app.settings.session.strategy.is_own() {
            return Presented::of_app(Some(app_session::passed_on(app, token)));
        }
        let opened = if app.settings.methods.has(Switch::Bearer) { open(&app.signer, token) } else { None };
        match opened {
            None => Presented::default(),
            opened => Presented::beside_cookies(app, names, headers, opened),
        }
    }

    /// Where `Authorization` is somebody else's: a backend's service key.
    pub fn of_cookies(app: &App, names: &Names, headers: &HeaderMap) -> Presented {
        if !app.settings.session.strategy.is_own() {
            return Presented::of_app(app_session::read(app, headers, false));
        }
        Presented::beside_cookies(app, names, headers, None)
    }

    fn beside_cookies(
        app: &App,
        names: &Names,
        headers: &HeaderMap,
        bearer: Option<(String, bool)>,
    ) -> Presented {
        let signed = |name: &str| {
            let value = cookie::first(cookies::lines(headers), name)?;
            app.signer.open(value).map(|value| value.into_owned())
        };
        let found = bearer.or_else(|| Some((signed(&names.session_token)?, true)));
        let is_signed = found.as_ref().is_some_and(|(_, is_signed)| *is_signed);
        let has_dont_remember = cookie::first(cookies::lines(headers), &names.dont_remember).is_some();
        Presented {
            token: found.map(|(token, _)| token),
            is_signed,
            dont_remember: has_dont_remember && signed(&names.dont_remember).is_some(),
            has_dont_remember,
            app: None,
        }
    }

    fn of_app(session: Option<AppSession>) -> Presented {
        let is_signed = session.as_ref().is_some_and(AppSession::is_signed);
        Presented { is_signed, app: session, ..Presented::default() }
    }

    /// Nothing that could open anything.
    pub fn is_empty(&self) -> bool {
        self.token.is_none() && self.app.is_none()
    }

    pub fn keep(&self) -> Keep {
        if self.dont_remember { Keep::Forget } else { Keep::Remember }
    }
}

/// `Authorization: Bearer` with a bare token or `token.signature`, raw or percent-encoded. What is not well-formed is
/// ignored, and the cookie counts. Tells whether the token was signed.
fn bearer(signer: &Signer, headers: &HeaderMap) -> Option<(String, bool)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer ") { open(signer, token) } else { None }
}

fn open(signer: &Signer, token: &str) -> Option<(String, bool)> {
    if token.is_empty() {
        return None;
    }
    if token.contains('.') {
        return signer.open(token).map(|value| (value.into_owned(), true));
    }
    decode_uri_component(token).map(|token| (token.into_owned(), false))
}

/// Old enough to be extended; a session that the browser shall not remember never is.
pub fn is_due(app: &App, presented: &Presented, session: &SessionView<'_>, now: Millis) -> bool {
    let settings = &app.settings.session;
    !presented.dont_remember
        && presented.app.is_none()
        && session.is_due(settings.expires_in, settings.update_age, now)
}

/// One look at what is presented; an expired session is the caller's to judge.
pub fn look<T>(
    tx: &mut Tx<'_>,
    app: &App,
    presented: &Presented,
    now: Millis,
    see: impl FnOnce(SessionView<'_>, UserView<'_>) -> T,
) -> Result<Option<T>, store::Error> {
    match (&presented.app, &presented.token) {
        (Some(shown), _) => shown.look(tx, app, now, see),
        (None, Some(token)) => sessions::look(tx, &app.vault, token, see),
        (None, None) => Ok(None),
    }
}

/// An app's session with a user who may come in. It has no token that is ours to tell.
async fn resolve_app(
    app: &Arc<App>,
    shown: AppSession,
    now: Millis,
) -> Result<Option<LiveSession>, store::Error> {
    let looking = app.clone();
    let see = move |session: SessionView<'_>, user: UserView<'_>| {
        let good = session.expires_at > now && app_session::is_welcome(&user, now);
        good.then(|| LiveSession {
            token: String::new(),
            session: session.to_session(),
            user: user.to_user(),
        })
    };
    let found = app.store.read(move |tx| shown.look(tx, &looking, now, see)).await?;
    Ok(found.flatten())
}

/// Looks the token up. Where nothing has to be written this is one read.
pub async fn resolve(
    app: &Arc<App>,
    presented: &Presented,
    refresh: Refresh,
    now: Millis,
) -> Result<Resolved, store::Error> {
    if let Some(shown) = presented.app.clone() {
        let session = resolve_app(app, shown, now).await?;
        return Ok(Resolved { session, ..Resolved::default() });
    }
    let Some(token) = presented.token.clone() else { return Ok(Resolved::default()) };
    let vault = app.vault.clone();
    let found = app.store.read(move |tx| sessions::find(tx, &vault, &token)).await?;
    let Some(live) = found else { return Ok(Resolved { forget: true, ..Resolved::default() }) };
    let settings = &app.settings.session;
    if live.session.expires_at <= now {
        if refresh == Refresh::Yes {
            let (vault, token) = (app.vault.clone(), live.token);
            let ended = app.store.write(move |tx| sessions::end(tx, &vault, &token)).await;
            // It is over whether or not that can be written down; the sweeper comes again.
            ended.or_else(|error: store::Error| if error.is_unavailable() { Ok(()) } else { Err(error) })?;
        }
        return Ok(Resolved { forget: true, ..Resolved::default() });
    }
    let is_due = is_due(app, presented, &live.session.view(), now);
    if !is_due || refresh == Refresh::No {
        return Ok(Resolved { session: Some(live), is_due, ..Resolved::default() });
    }
    let lifetime = settings.expires_in;
    let (vault, found) = (app.vault.clone(), live.clone());
    // Of many requests at once one extends; the others read what it wrote. A session that was revoked meanwhile stays so.
    let extended = app
        .store
        .write(move |tx| {
            sessions::extend(tx, &live.session, lifetime, now)?;
            sessions::find_live(tx, &vault, &live.token, now)
        })
        .await;
    let extended = match extended {
        // On a full disk reads go on: the session is as good as it was found, and a later request extends it.
        Err(error) if error.is_unavailable() => {
            return Ok(Resolved { session: Some(found), is_due, ..Resolved::default() });
        }
        extended => extended?,
    };
    Ok(Resolved { extended: extended.is_some(), forget: extended.is_none(), session: extended, is_due })
}

/// The cookie lines that the outcome calls for.
pub fn cookie_lines(app: &App, names: &Names, presented: &Presented, resolved: &Resolved) -> Vec<String> {
    let mut writer = Writer::new(app, names);
    if resolved.forget {
        writer.clear_session();
    }
    if let (true, Some(live)) = (resolved.extended, &resolved.session) {
        writer.session(&live.token, presented.keep());
    }
    writer.lines
}
