//! `/get-session` and its alias `/session`: the plain check that every page and backend makes.

use super::current::{self, Refresh};
use super::endpoint::{Access, BodyKind, Call, Endpoint, Outcome, Reply, Spec};
use super::error::Code;
use super::fields::Fields;
use super::json::{Both, SessionBody};

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
        if !call.app.settings.session.defer_refresh {
            return Ok(uncached(super::error::Failure::from(Code::DeferRequired).into_reply()));
        }
        let refresh = if input.disable_refresh { Refresh::No } else { Refresh::Yes };
        answer(&call, refresh, false).await
    }
}

async fn answer(call: &Call, refresh: Refresh, tell_due: bool) -> Outcome {
    let resolved = current::resolve(&call.app, &call.presented, refresh, call.now).await?;
    let cookies = current::cookie_lines(&call.app, &call.names, &call.presented, &resolved);
    let reply = match &resolved.session {
        None => Reply::bytes(b"null".to_vec()),
        Some(live) => {
            let both = Both {
                session: SessionBody::new(&live.session, &live.token),
                user: (&live.user).into(),
                // Nothing to tell where nothing is ever extended.
                needs_refresh: (tell_due && !call.presented.dont_remember).then_some(resolved.is_due),
            };
            Reply::bytes(both.to_bytes())
        }
    };
    Ok(uncached(reply.cookies(cookies)))
}

fn uncached(reply: Reply) -> Reply {
    reply.header_text("cache-control", "no-store").header_text("pragma", "no-cache")
}
