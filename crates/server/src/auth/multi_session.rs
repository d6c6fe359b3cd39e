//! Several accounts in one browser: each session has a cookie of its own beside the active one's.

use super::cookies::{self, Names, Writer};
use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::{Both, SessionBody};
use crate::app::App;
use crate::settings::Switch;
use http::HeaderMap;
use identity::{LiveSession, sessions};
use kernel::{Millis, cookie};
use serde_json::json;

/// Sessions that one browser holds at once; a further one becomes the active one all the same.
const MOST: usize = 5;

pub struct ListDeviceSessions;
pub struct SetActive;
pub struct Revoke;

/// The cookies of this browser's sessions that we signed: `(name, token)`.
fn held(app: &App, headers: &HeaderMap) -> Vec<(String, String)> {
    let cookies = cookie::all(cookies::lines(headers)).filter(|(name, _)| Names::is_multi(name));
    cookies
        .filter_map(|(name, value)| Some((name.to_string(), app.signer.open(value)?.into_owned())))
        .take(64)
        .collect()
}

async fn live_sessions(app: &App, tokens: Vec<String>, now: Millis) -> Result<Vec<LiveSession>, Failure> {
    let vault = app.vault.clone();
    let found = app.store.read(move |tx| {
        let find = |token: &String| sessions::find_live(tx, &vault, token, now).transpose();
        tokens.iter().filter_map(find).collect::<Result<Vec<_>, store::Error>>()
    });
    Ok(found.await?)
}

/// Keeps a new session among the device's. An older one of the same user ends: people have one session a browser.
pub async fn add_to_device(
    app: &App,
    names: &Names,
    headers: &HeaderMap,
    grant: &Grant,
    writer: &mut Writer<'_>,
    now: Millis,
) -> Result<(), Failure> {
    let name = names.multi(&grant.token);
    if cookie::first(cookies::lines(headers), &name).is_some() {
        return Ok(());
    }
    let held = held(app, headers);
    let sessions_held =
        live_sessions(app, held.iter().map(|(_, token)| token.clone()).collect(), now).await?;
    let same_user: Vec<String> = sessions_held
        .iter()
        .filter(|live| live.user.id == grant.user && live.token != grant.token)
        .map(|live| live.token.clone())
        .collect();
    for (name, _) in held.iter().filter(|(_, token)| same_user.contains(token)) {
        writer.clear(name);
    }
    let kept = held.len() - same_user.len();
    if !same_user.is_empty() {
        let vault = app.vault.clone();
        app.store
            .write(move |tx| same_user.iter().try_for_each(|token| sessions::end(tx, &vault, token)))
            .await?;
    }
    if kept < MOST {
        writer.multi(&grant.token);
    }
    Ok(())
}

fn body(live: &LiveSession) -> Both<'_> {
    Both {
        session: SessionBody::new(live.session.view(), &live.token),
        user: (&live.user).into(),
        needs_refresh: None,
    }
}

/// The token behind the cookie that belongs to the token named in the body.
fn named(call: &Call, token: &str) -> Result<(String, String), Failure> {
    let name = call.names.multi(token);
    let value = cookie::first(call.cookie_lines(), &name).and_then(|value| call.app.signer.open(value));
    value.map(|token| (name, token.into_owned())).ok_or(Code::InvalidSessionToken.into())
}

impl Endpoint for ListDeviceSessions {
    type Input = ();
    const SPEC: Spec = Spec::get(
        "/multi-session/list-device-sessions",
        Access::Anyone,
        "This browser's sessions, one a user",
    )
    .of(Switch::MultiSession);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let tokens = held(&call.app, &call.request.headers).into_iter().map(|(_, token)| token).collect();
        let found = live_sessions(&call.app, tokens, call.now).await?;
        let mut users = std::collections::HashSet::new();
        let list: Vec<Both<'_>> =
            found.iter().filter(|live| users.insert(live.user.id.as_str())).map(body).collect();
        Ok(Reply::json(&list))
    }
}

fn session_token(fields: &mut Fields) -> String {
    fields.need_object();
    fields.text("sessionToken")
}

impl Endpoint for SetActive {
    type Input = String;
    const SPEC: Spec = Spec::post(
        "/multi-session/set-active",
        Access::Anyone,
        "Makes one of this browser's sessions the active one",
    )
    .of(Switch::MultiSession);

    fn read(fields: &mut Fields) -> String {
        session_token(fields)
    }

    async fn run(call: Call, token: String) -> Outcome {
        let (name, token) = named(&call, &token)?;
        let found = live_sessions(&call.app, vec![token], call.now).await?;
        let Some(live) = found.first() else {
            let mut writer = Writer::new(&call.app, &call.names);
            writer.clear(&name);
            return Ok(Failure::from(Code::InvalidSessionToken).into_reply().cookies(writer.lines));
        };
        Ok(Reply::json(&body(live)).grant(Grant::renew(live)))
    }
}

impl Endpoint for Revoke {
    type Input = String;
    const SPEC: Spec =
        Spec::post("/multi-session/revoke", Access::SignedIn, "Ends one of this browser's sessions")
            .of(Switch::MultiSession);

    fn read(fields: &mut Fields) -> String {
        session_token(fields)
    }

    async fn run(call: Call, token: String) -> Outcome {
        let active = call.signed_in()?.token.clone();
        let (name, token) = named(&call, &token)?;
        let (vault, ended) = (call.app.vault.clone(), token.clone());
        call.app.store.write(move |tx| sessions::end(tx, &vault, &ended)).await?;
        let mut writer = Writer::new(&call.app, &call.names);
        writer.clear(&name);
        let reply = Reply::json(&json!({ "status": true })).cookies(writer.lines);
        if token != active {
            return Ok(reply);
        }
        // Another of the browser's sessions takes over, if there is one.
        let tokens = held(&call.app, &call.request.headers).into_iter().map(|(_, token)| token).collect();
        match live_sessions(&call.app, tokens, call.now).await?.first() {
            Some(next) => Ok(reply.grant(Grant::renew(next))),
            None => Ok(reply.end_session(&call)),
        }
    }
}
