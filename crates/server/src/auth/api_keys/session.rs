//! A user's key in place of a session: `x-api-key` on any route, where that is switched on.

use super::{DISABLED, EXPIRED, INVALID, INVALID_LENGTH, NO_USER};
use crate::app::App;
use crate::auth::endpoint::{Call, Reply};
use crate::auth::error::{Code, Failure};
use crate::auth::json::{Instant, UserBody};
use crate::edge::RequestContext;
use crate::settings::Switch;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::api_keys::{self, ApiKey, Holder, Unusable, Used};
use identity::users::{self, Standing};
use identity::{LiveSession, Session, User};
use kernel::{Millis, SessionId};
use serde::Serialize;
use std::sync::Arc;
use store::Tx;

const HEADER: HeaderName = HeaderName::from_static("x-api-key");
/// What is said of the end of a key that has none: the original reads the seconds of a week as milliseconds.
const ENDLESS: i64 = 604_800;

/// What was sent as a key, where a key may be sent.
pub fn header<'h>(app: &App, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
    let methods = &app.settings.methods;
    if !methods.has(Switch::ApiKeys) || !methods.has(Switch::ApiKeySessions) {
        return None;
    }
    headers.get(HEADER).filter(|value| !value.is_empty())
}

enum Opened {
    By(Box<ApiKey>, Box<User>),
    Refused(Unusable),
    Banned,
    Nobody,
}

/// Uses the key that was sent, and gives the session that it stands for. A key that opens nothing ends the request, whatever
/// its route.
pub async fn open(
    app: &Arc<App>,
    headers: &HeaderMap,
    context: &RequestContext,
) -> Result<Option<(ApiKey, LiveSession)>, Failure> {
    let Some(value) = header(app, headers) else { return Ok(None) };
    // Of two keys, which is meant is anybody's guess.
    let text = value.to_str().ok().filter(|_| headers.get_all(HEADER).iter().count() == 1);
    let text = text.ok_or(INVALID)?.trim().to_owned();
    if api_keys::is_too_short(&text) {
        return Err(INVALID_LENGTH);
    }
    if !api_keys::looks_like_one(&text) {
        return Err(INVALID);
    }
    let (using, token, now) = (app.clone(), text.clone(), context.now);
    let opened = app.store.write(move |tx| take(tx, &using, &text, now)).await?;
    match opened {
        Opened::By(key, user) => {
            let live = made_up(&key, *user, token, now, headers, context);
            Ok(Some((*key, live)))
        }
        Opened::Banned => Err(Code::BannedUser.into()),
        Opened::Nobody => Err(NO_USER),
        Opened::Refused(why) => Err(refusal(why, now)),
    }
}

fn take(tx: &mut Tx<'_>, app: &App, text: &str, now: Millis) -> Result<Opened, store::Error> {
    let key = match api_keys::take(tx, &app.vault, text, now)? {
        Used::Counted(key) => key,
        Used::Refused(why) => return Ok(Opened::Refused(why)),
    };
    // An organization's key stands for nobody.
    let Holder::User(id) = &key.holder else { return Ok(Opened::Nobody) };
    Ok(match users::by_id(tx, id)? {
        None => Opened::Nobody,
        Some(user) if user.standing(now) == Standing::Banned => Opened::Banned,
        Some(user) => Opened::By(key, Box::new(user)),
    })
}

fn refusal(why: Unusable, now: Millis) -> Failure {
    match why {
        Unusable::Unknown => INVALID,
        Unusable::Disabled => DISABLED,
        Unusable::Expired => EXPIRED,
        Unusable::UsedUp { .. } => Failure::KeyLimited {
            code: "USAGE_EXCEEDED",
            message: "API Key has reached its usage limit",
            wait: None,
        },
        Unusable::TooOften { retry_at } => Failure::KeyLimited {
            code: "RATE_LIMITED",
            message: "Rate limit exceeded.",
            wait: Some(retry_at.0 - now.0),
        },
    }
}

/// For this request only. It began at the beginning of time, so that it is not fresh: who steals a key must not reach what
/// asks for a recent sign-in.
fn made_up(
    key: &ApiKey,
    user: User,
    token: String,
    now: Millis,
    headers: &HeaderMap,
    context: &RequestContext,
) -> LiveSession {
    let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let session = Session {
        id: SessionId::from_text(key.id.as_str()),
        user_id: user.id.clone(),
        expires_at: key.expires_at.unwrap_or(now.plus(ENDLESS)),
        created_at: Millis(0),
        updated_at: now,
        ip_address: context.client.to_text(),
        user_agent: user_agent.to_owned(),
        impersonated_by: None,
        active_organization_id: None,
        active_team_id: None,
    };
    LiveSession { token, session, user }
}

#[derive(Serialize)]
struct Body<'a> {
    user: UserBody<'a>,
    session: SessionBody<'a>,
}

/// Fewer members than a session has.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionBody<'a> {
    id: &'a str,
    token: &'a str,
    user_id: &'a str,
    user_agent: Option<&'a str>,
    ip_address: Option<&'a str>,
    created_at: Instant,
    updated_at: Instant,
    expires_at: Instant,
}

/// What `get-session` says of a key.
pub fn reply(call: &Call, key: &ApiKey, live: &LiveSession) -> Reply {
    fn some(text: &str) -> Option<&str> {
        Some(text).filter(|text| !text.is_empty())
    }
    Reply::json(&Body {
        user: (&live.user).into(),
        session: SessionBody {
            id: &key.id,
            token: &live.token,
            user_id: live.user.id.as_str(),
            user_agent: some(&live.session.user_agent),
            ip_address: some(&live.session.ip_address),
            created_at: Instant(call.now),
            updated_at: Instant(call.now),
            expires_at: Instant(live.session.expires_at),
        },
    })
}
