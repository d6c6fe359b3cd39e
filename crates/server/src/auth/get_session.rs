//! `/get-session` and its alias `/session`: the plain check that every page and backend makes.

use super::api_keys;
use super::current::{self, Refresh};
use super::endpoint::{Access, BodyKind, Call, Endpoint, Outcome, Reply, Spec};
use super::error::Code;
use super::fields::Fields;
use super::json::{Both, SessionBody, Written};
use super::jwt;
use crate::settings::Switch;
use identity::{SessionView, UserView, sessions};

const LONGEST_HEADER: usize = 8 * 1024;

pub struct GetSession;
pub struct SessionAlias;
pub struct PostSession;

pub struct Input {
    disable_refresh: bool,
}

fn read(fields: &mut Fields) -> Input {
    // There is no cache to disable; the parameter is checked as any other.
    fields.query_flag("disableCookieCache");
    Input { disable_refresh: fields.query_flag("disableRefresh") }
}

impl Endpoint for GetSession {
    type Input = Input;
    const SPEC: Spec =
        Spec::get("/get-session", Access::Anyone, "The session that the cookie opens, or null");

    fn read(fields: &mut Fields) -> Input {
        read(fields)
    }

    async fn run(call: Call, input: Input) -> Outcome {
        let defer = call.app.settings.session.defer_refresh;
        let refresh = if defer || input.disable_refresh { Refresh::No } else { Refresh::Yes };
        answer(&call, refresh, defer && !input.disable_refresh).await
    }
}

impl Endpoint for SessionAlias {
    type Input = Input;
    const SPEC: Spec = Spec::get("/session", Access::Anyone, "The same as /get-session");

    fn read(fields: &mut Fields) -> Input {
        read(fields)
    }

    async fn run(call: Call, input: Input) -> Outcome {
        GetSession::run(call, input).await
    }
}

impl Endpoint for PostSession {
    type Input = Input;
    const SPEC: Spec = Spec {
        body: BodyKind::None,
        ..Spec::post(
            "/get-session",
            Access::Anyone,
            "Extends the session where GET is told not to (defer_refresh)",
        )
    };

    fn read(fields: &mut Fields) -> Input {
        read(fields)
    }

    async fn run(call: Call, input: Input) -> Outcome {
        if !call.app.settings.session.defer_refresh && call.key.is_none() {
            return Ok(uncached(super::error::Failure::from(Code::DeferRequired).into_reply()));
        }
        let refresh = if input.disable_refresh { Refresh::No } else { Refresh::Yes };
        answer(&call, refresh, false).await
    }
}

async fn answer(call: &Call, refresh: Refresh, tell_due: bool) -> Outcome {
    if let (Some(key), Some(live)) = (&call.key, &call.session) {
        return Ok(api_keys::session_reply(call, key, live));
    }
    if call.presented.app.is_some() {
        let resolved = current::resolve(&call.app, &call.presented, Refresh::No, call.now).await?;
        let body = resolved.session.map(|live| body(live.session.view(), live.user.view(), "", None));
        let bytes = body.map_or_else(|| b"null".to_vec(), |written| written.bytes);
        return Ok(uncached(Reply::bytes(bytes)));
    }
    // Nothing to tell where nothing is ever extended.
    let tell_due = tell_due && !call.presented.dont_remember;
    if call.presented.token.is_none() {
        return Ok(uncached(Reply::bytes(b"null".to_vec())));
    }
    if let Some((written, user)) = unchanged(call, refresh, tell_due).await? {
        return stated(call, written, user, Vec::new()).await;
    }
    let resolved = current::resolve(&call.app, &call.presented, refresh, call.now).await?;
    let cookies = current::cookie_lines(&call.app, &call.names, &call.presented, &resolved);
    let Some(live) = resolved.session else {
        return Ok(uncached(Reply::bytes(b"null".to_vec()).cookies(cookies)));
    };
    let written =
        body(live.session.view(), live.user.view(), &live.token, tell_due.then_some(resolved.is_due));
    let user = has_jwt(call).then(|| live.user.id.as_str().to_owned());
    stated(call, written, user, cookies).await
}

fn has_jwt(call: &Call) -> bool {
    call.app.settings.methods.has(Switch::Jwt)
}

/// With the signed statement for services that check it by themselves, where there are such.
async fn stated(call: &Call, written: Written, user: Option<String>, cookies: Vec<String>) -> Outcome {
    let signed = match &user {
        Some(user) => Some(jwt::state(call, &written.bytes[written.user], user).await),
        None => None,
    };
    let reply = uncached(Reply::bytes(written.bytes).cookies(cookies));
    let Some(signed) = signed else { return Ok(reply) };
    let token = match signed {
        // The session was read, and that is what was asked for: the statement follows when there is a key.
        Err(error) if error.is_unavailable() => return Ok(reply),
        signed => signed?,
    };
    // A picture in the user's row would make a header that no client takes; `/token` has it.
    Ok(if token.len() > LONGEST_HEADER { reply } else { reply.exposed(jwt::HEADER, &token) })
}

/// The answer of nearly every check, about a live session that is not to be extended: made while its row is at hand.
async fn unchanged(
    call: &Call,
    refresh: Refresh,
    tell_due: bool,
) -> Result<Option<(Written, Option<String>)>, store::Error> {
    let has_jwt = has_jwt(call);
    let (app, presented, now) = (call.app.clone(), call.presented.clone(), call.now);
    let look = move |tx: &mut store::Tx<'_>| {
        let Some(token) = &presented.token else { return Ok(None) };
        let answer = sessions::look(tx, &app.vault, token, |session, user| {
            let is_due = current::is_due(&app, &presented, &session, now);
            let stays = session.expires_at > now && !(is_due && refresh == Refresh::Yes);
            let written = || body(session, user, token, tell_due.then_some(is_due));
            stays.then(|| (written(), has_jwt.then(|| user.id.to_owned())))
        });
        Ok(answer?.flatten())
    };
    call.app.store.read(look).await
}

fn body(session: SessionView<'_>, user: UserView<'_>, token: &str, needs_refresh: Option<bool>) -> Written {
    Both { session: SessionBody::new(session, token), user: user.into(), needs_refresh }.to_bytes()
}

fn uncached(reply: Reply) -> Reply {
    reply.header_text("cache-control", "no-store").header_text("pragma", "no-cache")
}
