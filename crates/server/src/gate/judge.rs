//! The judge of sessions and API keys at the gate. It is the one that `get-session` asks: the same cookie, token or key, the
//! same row, the same rules of extension and of counting.

use super::Gate;
use crate::auth::current::{self, Presented, Refresh};
use crate::service::Failure;
use crate::settings::Switch;
use billing::entitlements;
use credits::Owner;
use gate::authorize::{self, Demand, Denied, Subject};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::api_keys::{self, Holder, Unusable, Used};
use identity::{User, UserView, users};
use kernel::{Millis, time};
use std::sync::Arc;
use store::Tx;

/// A session's token, or the user's own `Authorization` where that header is the caller's.
const TOKEN: HeaderName = HeaderName::from_static("x-tollgate-token");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What the judge found.
pub(super) enum Looked<T> {
    /// No session.
    Nobody,
    /// A session that is good and has to be extended first: see [`extend`].
    Due,
    Denied(Denied),
    Passes(Passing, T),
}

/// Who passes, and who pays for it.
pub(super) struct Passing {
    pub subject: Subject,
    pub payer: Owner,
    /// What the payer's plan turns on, where that is asked for.
    pub features: Vec<String>,
}

/// What is to be seen of whoever passes.
pub(super) struct Seen<'a> {
    pub subject: &'a Subject,
    /// `None`: it is an organization's key.
    pub user: Option<&'a UserView<'a>>,
    /// Of the session.
    pub expires_at: Option<Millis>,
}

/// What is asked of whoever comes, and whether the plan's features are to be told.
pub(super) struct Question {
    pub demand: Demand,
    pub tells_features: bool,
}

/// What the request shows of who it is.
pub(super) enum Shown {
    Session(Arc<Presented>),
    /// An API key.
    Key(String),
    /// Something that opens nothing, in place of all else that there may be.
    Nothing,
}

/// What the request shows: the token that was passed on, else an API key, else what the Better Auth door would take. Where
/// `Authorization` is not the user's it is left out.
pub(super) fn shown(gate: &Gate, headers: &HeaderMap, is_users: bool) -> Shown {
    match (only(headers, &TOKEN), only(headers, &API_KEY)) {
        (Some(Some(text)), _) => {
            let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let token = token.map_or(text, |(_, token)| token.trim());
            if takes_keys(gate) && api_keys::looks_like_one(token) {
                return Shown::Key(token.to_owned());
            }
            Shown::Session(Arc::new(Presented::passed_on(&gate.app, &gate.names, headers, token)))
        }
        (None, Some(Some(text))) if takes_keys(gate) => match api_keys::looks_like_one(text) {
            true => Shown::Key(text.to_owned()),
            false => Shown::Nothing,
        },
        // Which of several is meant is anybody's guess.
        (Some(None), _) => Shown::Nothing,
        (None, Some(None)) if takes_keys(gate) => Shown::Nothing,
        (None, _) => Shown::Session(Arc::new(match is_users {
            true => Presented::read(&gate.app, &gate.names, headers),
            false => Presented::of_cookies(&gate.app, &gate.names, headers),
        })),
    }
}

fn takes_keys(gate: &Gate) -> bool {
    gate.app.settings.methods.has(Switch::ApiKeys)
}

/// The text of a header; the inner `None`: it stands there several times, or is no text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut given = headers.get_all(name).iter();
    let first = given.next()?;
    Some(first.to_str().ok().map(str::trim).filter(|_| given.next().is_none()))
}

/// One look at the row of the session that is presented.
pub(super) fn look<T>(
    tx: &mut Tx<'_>,
    gate: &Gate,
    presented: &Presented,
    question: &Question,
    now: Millis,
    see: impl FnOnce(Seen<'_>) -> T,
) -> Result<Looked<T>, store::Error> {
    let app = &gate.app;
    let looked = current::look(tx, app, presented, now, |session, user| {
        if session.expires_at <= now {
            return Err(Looked::Nobody);
        }
        if let Err(denied) = question.demand.judge(&user, now) {
            return Err(Looked::Denied(denied));
        }
        if !app.settings.session.defer_refresh && current::is_due(app, presented, &session, now) {
            return Err(Looked::Due);
        }
        let subject = Subject::User(user.id.to_owned());
        let seen = see(Seen { subject: &subject, user: Some(&user), expires_at: Some(session.expires_at) });
        Ok((subject, session.active_organization_id.map(str::to_owned), seen))
    });
    match looked? {
        None => Ok(Looked::Nobody),
        Some(Err(looked)) => Ok(looked),
        Some(Ok((subject, active, seen))) => let_pass(tx, gate, question, (subject, active), seen),
    }
}

/// Who pays, and what that one's plan turns on: the last that is judged before a charge.
fn let_pass<T>(
    tx: &mut Tx<'_>,
    gate: &Gate,
    question: &Question,
    (subject, active): (Subject, Option<String>),
    seen: T,
) -> Result<Looked<T>, store::Error> {
    let has_organizations = gate.app.settings.methods.has(Switch::Organizations);
    let named = question.demand.payer.as_ref();
    if matches!(named, Some(Owner::Organization(_))) && !has_organizations {
        return Ok(Looked::Denied(Denied::ForeignPayer));
    }
    let active = active.as_deref().filter(|_| has_organizations);
    let Some(payer) = authorize::payer(tx, named, &subject, active)? else {
        return Ok(Looked::Denied(Denied::ForeignPayer));
    };
    let features = match &gate.app.billing {
        Some(desk) if question.tells_features => {
            entitlements::features(tx, &desk.tools().terms.catalogue, &payer)?.to_vec()
        }
        _ => Vec::new(),
    };
    Ok(Looked::Passes(Passing { subject, payer, features }, seen))
}

/// What whoever shows no session is told; an app learns what is wrong with what it sent.
pub(super) fn signed_out(gate: &Gate, shown: &Shown, now: Millis) -> Failure {
    if gate.app.settings.session.strategy.is_own() {
        return Failure::Unauthenticated;
    }
    let refusal = match shown {
        Shown::Session(presented) => presented.app.as_ref().and_then(|session| session.refusal(now)),
        Shown::Key(_) | Shown::Nothing => None,
    };
    Failure::SignedOutOfApp(refusal)
}

/// Extends a session that is due, and judges what came of it. `cookies` gets the lines that tell the browser.
pub(super) async fn extend<T: Send + 'static>(
    gate: &Arc<Gate>,
    presented: &Presented,
    question: &Arc<Question>,
    now: Millis,
    see: impl FnOnce(Seen<'_>) -> T + Send,
    cookies: &mut Vec<String>,
) -> Result<Looked<T>, Failure> {
    let resolved = current::resolve(&gate.app, presented, Refresh::Yes, now).await?;
    if resolved.extended {
        *cookies = current::cookie_lines(&gate.app, &gate.names, presented, &resolved);
    }
    let Some(live) = resolved.session else { return Ok(Looked::Nobody) };
    if let Err(denied) = question.demand.judge(&live.user.view(), now) {
        return Ok(Looked::Denied(denied));
    }
    let (looking, asking) = (gate.clone(), question.clone());
    let looked = gate.app.store.read(move |tx| {
        let subject = Subject::User(live.user.id.as_str().to_owned());
        let_pass(tx, &looking, &asking, (subject, live.session.active_organization_id.clone()), live.clone())
    });
    Ok(match looked.await? {
        Looked::Passes(passing, live) => {
            let user = live.user.view();
            let seen = Seen {
                subject: &passing.subject,
                user: Some(&user),
                expires_at: Some(live.session.expires_at),
            };
            let seen = see(seen);
            Looked::Passes(passing, seen)
        }
        Looked::Denied(denied) => Looked::Denied(denied),
        Looked::Nobody | Looked::Due => Looked::Nobody,
    })
}

/// Uses an API key once, and judges it and its user.
pub(super) async fn by_key<T: Send + 'static>(
    gate: &Arc<Gate>,
    key: &str,
    question: &Arc<Question>,
    now: Millis,
    see: fn(Seen<'_>) -> T,
) -> Result<Looked<T>, Failure> {
    let (looking, asking, key) = (gate.clone(), question.clone(), key.to_owned());
    let looked = gate.app.store.write(move |tx| -> Result<Result<Looked<T>, Failure>, store::Error> {
        let key = match api_keys::take(tx, &looking.app.vault, &key, now)? {
            Used::Counted(key) => key,
            Used::Refused(why) => return Ok(refuse(why, now)),
        };
        let (user, holder) = match &key.holder {
            Holder::User(id) => (users::by_id(tx, id)?, Owner::User(id.as_str().to_owned())),
            Holder::Organization(id) => (None, Owner::Organization(id.as_str().to_owned())),
        };
        let user = user.as_ref().map(User::view);
        if let Err(denied) = asking.demand.judge_key(&key, user.as_ref(), now) {
            return Ok(Ok(Looked::Denied(denied)));
        }
        let subject = Subject::ApiKey { id: key.id, holder };
        let seen = see(Seen { subject: &subject, user: user.as_ref(), expires_at: None });
        let_pass(tx, &looking, &asking, (subject, None), seen).map(Ok)
    });
    looked.await?
}

fn refuse<T>(why: Unusable, now: Millis) -> Result<Looked<T>, Failure> {
    let seconds = |at: Millis| ((at.0 - now.0 + time::SECOND - 1) / time::SECOND).max(1);
    match why {
        Unusable::Unknown | Unusable::Disabled | Unusable::Expired => Ok(Looked::Nobody),
        Unusable::TooOften { retry_at } => Err(Failure::KeyTooOften { seconds: seconds(retry_at) }),
        // Without a refill it stays so; a day is as good as any other time to ask again.
        Unusable::UsedUp { refills_at } => {
            Err(Failure::KeyUsedUp { seconds: refills_at.map_or(time::DAY / time::SECOND, seconds) })
        }
    }
}

/// Refuses whose plan does not turn on what is demanded.
pub(super) fn entitled(gate: &Gate, demand: &Demand, passing: &Passing) -> Result<(), Failure> {
    let Some(lacking) = demand.lacks(&passing.features) else { return Ok(()) };
    let buy_url = gate.app.ledger.settings().buy_url.clone();
    Err(Failure::NotEntitled { feature: lacking.to_owned(), buy_url })
}

/// Whether there is a plan that turns something on.
pub(super) fn sells_features(gate: &Gate) -> bool {
    gate.app.billing.as_ref().is_some_and(|desk| desk.tools().terms.catalogue.has_features())
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
