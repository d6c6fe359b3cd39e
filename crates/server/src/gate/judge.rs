//! The judge of sessions at the gate. It is the one that `get-session` asks: the same cookie or token, the same row, the
//! same rule of extension.

use super::Gate;
use crate::auth::current::{self, Presented, Refresh};
use crate::service::Failure;
use billing::entitlements;
use credits::Owner;
use gate::authorize::{Demand, Denied};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::{SessionView, UserView, sessions};
use kernel::Millis;
use std::sync::Arc;
use store::Tx;

/// A session's token, or the user's own `Authorization` where that header is the caller's.
const TOKEN: HeaderName = HeaderName::from_static("x-tollgate-token");

/// What the judge found.
#[derive(Clone)]
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

/// What the plan turns on of the one who pays, in the look that found who it is.
pub(super) fn features<T>(
    tx: &mut Tx<'_>,
    gate: &Gate,
    demand: &Demand,
    looked: &Looked<T>,
) -> Result<Vec<String>, store::Error> {
    let (Looked::Passes(user, _), Some(desk)) = (looked, &gate.app.billing) else { return Ok(Vec::new()) };
    let payer = demand.payer.clone().unwrap_or_else(|| Owner::User(user.clone()));
    Ok(entitlements::features(tx, &desk.tools().terms.catalogue, &payer)?.to_vec())
}

/// The same for a session that had to be extended first.
pub(super) async fn features_after<T: Clone + Send + 'static>(
    gate: &Arc<Gate>,
    demand: &Arc<Demand>,
    looked: &Looked<T>,
) -> Result<Vec<String>, store::Error> {
    let (gate, demand, looked) = (gate.clone(), demand.clone(), looked.clone());
    let store = gate.app.store.clone();
    store.read(move |tx| features(tx, &gate, &demand, &looked)).await
}

/// Refuses whose plan does not turn on what is demanded.
pub(super) fn entitled(gate: &Gate, demand: &Demand, features: &[String]) -> Result<(), Failure> {
    let Some(lacking) = demand.lacks(features) else { return Ok(()) };
    let buy_url = gate.app.ledger.settings().buy_url.clone();
    Err(Failure::NotEntitled { feature: lacking.to_owned(), buy_url })
}

/// Whether any plan turns this on, in words for whoever named something else.
pub(super) fn check_entitlement(gate: &Gate, name: &str) -> Result<(), &'static str> {
    let Some(desk) = &gate.app.billing else {
        return Err("billing is not configured, so no plan turns anything on; set stripe.secret_key");
    };
    let known = desk.tools().terms.catalogue.knows_feature(name);
    known.then_some(()).ok_or("no plan in stripe.plans has such a feature")
}

pub(super) fn set_cookies(headers: &mut HeaderMap, lines: Vec<String>) {
    for line in lines {
        if let Ok(value) = HeaderValue::try_from(line) {
            headers.append(SET_COOKIE, value);
        }
    }
}
