//! Sessions of an app with Auth.js: what a request shows of one, and what it is worth.
//!
//! Where sessions are the app's, they are nobody else's: our own cookies and tokens open nothing then, and the app's nothing
//! otherwise.

use super::cookies;
use super::error::Failure;
use crate::app::App;
use crate::settings::Strategy;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use identity::authjs::reading;
use identity::authjs::sessions;
use identity::authjs::token::{Claims, Refusal, Verifier};
use identity::users::{self, Standing};
use identity::{SessionView, UserView};
use kernel::Millis;
use store::Tx;

/// What stands in the place of our own token.
#[derive(Clone)]
pub enum AppSession {
    /// A token that the app made, which may be over.
    Claims(Claims),
    /// The token of a session that the app's adapter keeps here.
    Kept(String),
    /// Something that opens nothing.
    Refused(Refusal),
}

/// A header wins over the cookie, whatever it holds. `own_header`: `Authorization` is the user's and not a backend's.
pub fn read(app: &App, headers: &HeaderMap, own_header: bool) -> Option<AppSession> {
    let bearer = if own_header { bearer(headers) } else { None };
    match bearer {
        Some(token) => Some(shown(app, token)),
        None => of_cookie(app, headers),
    }
}

/// A token that a backend passes on in a header of its own.
pub fn passed_on(app: &App, token: &str) -> AppSession {
    shown(app, reading::bare(token))
}

fn bearer(headers: &HeaderMap) -> Option<Result<String, Refusal>> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let only = given.next()?;
    // Of two tokens another program on the way may have judged the other one.
    match (only.to_str(), given.next()) {
        (Ok(text), None) => reading::bearer(text),
        _ => Some(Err(Refusal::Invalid)),
    }
}

fn shown(app: &App, token: Result<String, Refusal>) -> AppSession {
    match (token, &app.settings.session.strategy) {
        (Err(refusal), _) => AppSession::Refused(refusal),
        (Ok(token), Strategy::AuthJsToken(verifier)) => opened(verifier, &token),
        (Ok(token), _) => AppSession::Kept(token),
    }
}

fn opened(verifier: &Verifier, token: &str) -> AppSession {
    verifier.open(token).map_or_else(AppSession::Refused, AppSession::Claims)
}

fn of_cookie(app: &App, headers: &HeaderMap) -> Option<AppSession> {
    let (settings, lines) = (&app.settings, cookies::lines(headers));
    let name = &settings.authjs.cookie_name;
    let Strategy::AuthJsToken(verifier) = &settings.session.strategy else {
        return reading::cookie(lines, name).map(AppSession::Kept);
    };
    let mut refused = None;
    for text in reading::cookie_candidates(lines, name) {
        match opened(verifier, &text) {
            AppSession::Refused(refusal) => refused = refused.or(Some(AppSession::Refused(refusal))),
            opened => return Some(opened),
        }
    }
    refused
}

impl AppSession {
    /// The app's secret made it, so it is nobody's guess.
    pub fn is_signed(&self) -> bool {
        matches!(self, AppSession::Claims(_))
    }

    /// Why it opens nothing, where that can be told without a look at the store.
    pub fn refusal(&self, now: Millis) -> Option<Refusal> {
        match self {
            AppSession::Claims(claims) => claims.judge(now).err(),
            AppSession::Kept(_) => None,
            AppSession::Refused(refusal) => Some(*refusal),
        }
    }

    /// The session and its user as they stand now; a token that is good says nothing of whether its user is still there.
    pub fn look<T>(
        &self,
        tx: &mut Tx<'_>,
        app: &App,
        now: Millis,
        see: impl FnOnce(SessionView<'_>, UserView<'_>) -> T,
    ) -> Result<Option<T>, store::Error> {
        match self {
            AppSession::Claims(claims) if claims.judge(now).is_ok() => {
                users::look(tx, &claims.subject, |user| see(of_claims(claims, user.id, now), user))
            }
            AppSession::Kept(token) => sessions::look(tx, &app.vault, token, see),
            AppSession::Claims(_) | AppSession::Refused(_) => Ok(None),
        }
    }
}

/// No row stands behind it, so it has the user's id.
fn of_claims<'c>(claims: &Claims, user: &'c str, now: Millis) -> SessionView<'c> {
    let begun = claims.issued_at.unwrap_or(now);
    SessionView {
        id: user,
        user_id: user,
        // A token that counts although it has just ended, since clocks differ, is not over to those who ask afterwards.
        expires_at: claims.expires_at.max(now.plus(1)),
        created_at: begun,
        updated_at: begun,
        ip_address: "",
        user_agent: "",
        impersonated_by: None,
        active_organization_id: None,
        active_team_id: None,
    }
}

/// A user who may be told of: a ban outlives no session, but it does not end a token.
pub fn is_welcome(user: &UserView<'_>, now: Millis) -> bool {
    user.standing(now) != Standing::Banned
}

/// The parts of this door that are left where the app signs people in.
pub fn keeps(path: &str) -> bool {
    ["/credits/", "/billing/"].iter().any(|door| path.starts_with(door))
        || ["/get-session", "/session", "/ok", "/error"].contains(&path)
}

/// In this door's words.
pub fn failure(refusal: Refusal) -> Failure {
    let code = match refusal {
        Refusal::NotAToken(_) => "BEARER_NOT_A_TOKEN",
        Refusal::Invalid => "INVALID_TOKEN",
        Refusal::EncryptedNotSigned | Refusal::SignedNotEncrypted => "TOKEN_FORMAT_MISMATCH",
        Refusal::Expired => "TOKEN_EXPIRED",
        Refusal::NoSubject => "NO_SUBJECT",
    };
    Failure::Named { status: StatusCode::UNAUTHORIZED, code: Some(code), message: refusal.to_string() }
}
