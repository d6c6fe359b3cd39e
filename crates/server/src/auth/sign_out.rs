//! `/sign-out`: ends the session, and all others that this browser holds.

use super::cookies::{Names, Writer};
use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::fields::Fields;
use super::social::sign_out::{accounts_behind, place};
use crate::settings::Switch;
use identity::sessions;
use kernel::cookie;
use serde::Serialize;

pub struct SignOut;

pub struct Input {
    callback: Option<String>,
    disable_redirect: bool,
    state: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect: Option<bool>,
}

impl Endpoint for SignOut {
    type Input = Input;
    const SPEC: Spec =
        Spec::post("/sign-out", Access::Anyone, "Ends the session and the device's other sessions");

    fn read(fields: &mut Fields) -> Input {
        fields.maybe_object();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Input {
            callback: filled(fields.maybe_text("callbackURL")),
            disable_redirect: fields.maybe_flag("disableRedirect").unwrap_or(false),
            state: filled(fields.maybe_text("state")),
        }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        let app = &call.app;
        let mut writer = Writer::new(app, &call.names);
        let mut tokens: Vec<String> = call.presented.token.iter().cloned().collect();
        if app.settings.methods.has(Switch::MultiSession) {
            for (name, value) in cookie::all(call.cookie_lines()).filter(|(name, _)| Names::is_multi(name)) {
                // Only what we signed: a planted cookie must not end somebody's session.
                if let Some(token) = app.signer.open(value) {
                    writer.clear(name);
                    tokens.push(token.into_owned());
                }
            }
        }
        let mut accounts = Vec::new();
        if !tokens.is_empty() {
            let (app, now, active) = (app.clone(), call.now, call.presented.token.clone());
            accounts = call
                .app
                .store
                .write(move |tx| {
                    let behind = match &active {
                        Some(token) => accounts_behind(tx, &app, token, now)?,
                        None => Vec::new(),
                    };
                    tokens.iter().try_for_each(|token| sessions::end(tx, &app.vault, token))?;
                    Ok::<_, store::Error>(behind)
                })
                .await?;
        }
        let url = place(&call, &accounts, input.callback.as_deref(), input.state.as_deref()).await;
        let redirect = url.as_ref().map(|_| !input.disable_redirect);
        let mut reply = Reply::json(&Body { success: true, url: url.as_deref(), redirect });
        if let (Some(url), Some(true)) = (&url, redirect) {
            reply = reply.header_text("location", url);
        }
        Ok(reply.end_session(&call).cookies(writer.lines))
    }
}
