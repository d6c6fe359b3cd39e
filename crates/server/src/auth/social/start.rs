//! `/sign-in/social`: the address at the provider that a person is sent to, or a token that the app got there itself.

use super::super::cookies::Writer;
use super::super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::super::fields::Fields;
use super::id_token::{self, Brought};
use super::{out_of_reach, provider, redirect_uri};
use crate::settings::Switch;
use identity::providers::{Link, State, state};
use identity::sessions;
use kernel::random;
use oidc::Start;
use oidc::provider::RESERVED;
use serde_json::{Value, json};

pub struct SignInSocial;

/// What an app asks for, to sign in or to link.
pub struct Wish {
    pub provider: String,
    callback: Option<String>,
    error_callback: Option<String>,
    new_user_callback: Option<String>,
    disable_redirect: bool,
    pub sign_up_asked: bool,
    scopes: Vec<String>,
    login_hint: Option<String>,
    parameters: Vec<(String, String)>,
    pub id_token: Option<Brought>,
}

impl Wish {
    pub fn read(fields: &mut Fields) -> Wish {
        fields.need_object();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let wish = Wish {
            callback: filled(fields.maybe_text("callbackURL")),
            provider: fields.text("provider"),
            error_callback: filled(fields.maybe_text("errorCallbackURL")),
            new_user_callback: filled(fields.maybe_text("newUserCallbackURL")),
            disable_redirect: fields.maybe_flag("disableRedirect").unwrap_or(false),
            id_token: Brought::read(fields),
            scopes: scopes(fields),
            sign_up_asked: fields.maybe_flag("requestSignUp").unwrap_or(false),
            login_hint: filled(fields.maybe_text("loginHint")),
            parameters: parameters(fields),
        };
        // Apps of the original pass it on to code of their own; here is none.
        fields.maybe_record("additionalData");
        wish
    }

    fn state(&self, id: &str, link: Option<Link>) -> State {
        State {
            callback: self.callback.clone(),
            error_callback: self.error_callback.clone(),
            new_user_callback: self.new_user_callback.clone().filter(|_| link.is_none()),
            sign_up_asked: self.sign_up_asked,
            link,
            ..State::new(id, &mut random::secure())
        }
    }
}

fn scopes(fields: &mut Fields) -> Vec<String> {
    let items = match fields.any("scopes") {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            fields.problem("scopes", "Invalid input: expected array");
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        match item {
            Value::String(text) => read.push(text),
            _ => fields.problem(&format!("scopes.{at}"), "Invalid input: expected string"),
        }
    }
    read
}

/// Further parameters for the provider; those that bind the answer are not the app's to choose.
fn parameters(fields: &mut Fields) -> Vec<(String, String)> {
    let Some(Value::Object(members)) = fields.maybe_record("additionalParams") else { return Vec::new() };
    let mut read = Vec::new();
    for (name, value) in members {
        match value {
            _ if RESERVED.contains(&name.as_str()) => {
                fields
                    .problem("additionalParams", "additionalParams cannot include reserved OAuth parameters");
            }
            Value::String(text) => read.push((name, text)),
            _ => fields.problem(&format!("additionalParams.{name}"), "Invalid input: expected string"),
        }
    }
    read
}

impl Endpoint for SignInSocial {
    type Input = Wish;
    const SPEC: Spec = Spec::post(
        "/sign-in/social",
        Access::Anyone,
        "Tells where to sign in at a provider, or takes its id token",
    );

    fn read(fields: &mut Fields) -> Wish {
        Wish::read(fields)
    }

    async fn run(call: Call, wish: Wish) -> Outcome {
        match &wish.id_token {
            Some(brought) => id_token::sign_in(&call, &wish, brought).await,
            None => begin(&call, &wish, None).await,
        }
    }
}

/// Keeps what the answer will be bound to, and tells where to go.
pub async fn begin(call: &Call, wish: &Wish, link: Option<Link>) -> Outcome {
    let provider = provider(call, &wish.provider)?;
    // Asked before anything is kept: nobody is sent away while the provider is not there.
    provider.issuer(call.now).await.map_err(|trouble| out_of_reach(provider, &trouble))?;
    let begun = wish.state(provider.settings.id, link);
    let (app, now, mut kept) = (call.app.clone(), call.now, begun.clone());
    // A link is for the one who asks; who signs in may have been anonymous before.
    let before = call.presented.token.clone();
    let before = before.filter(|_| kept.link.is_none() && call.app.settings.methods.has(Switch::Anonymous));
    let value = call
        .app
        .store
        .write(move |tx| {
            let live = match &before {
                Some(token) => sessions::find_live(tx, &app.vault, token, now)?,
                None => None,
            };
            let user = live.map(|live| live.user).filter(|user| user.is_anonymous);
            kept.anonymous = user.map(|user| user.id.into_string());
            state::issue(tx, &app.vault, &kept, now, &mut random::secure())
        })
        .await?;
    let start = Start {
        state: &value,
        verifier: &begun.verifier,
        nonce: &begun.nonce,
        redirect_uri: &redirect_uri(call, provider),
        scopes: &wish.scopes,
        login_hint: wish.login_hint.as_deref(),
        parameters: &wish.parameters,
    };
    let url = provider.authorization_url(&start, call.now).await;
    let url = url.map_err(|trouble| out_of_reach(provider, &trouble))?;
    let mut writer = Writer::new(&call.app, &call.names);
    writer.state(&value);
    let mut reply =
        Reply::json(&json!({ "url": url, "redirect": !wish.disable_redirect })).cookies(writer.lines);
    if !wish.disable_redirect {
        // Not a redirect: the client looks at the body.
        reply = reply.header_text("location", &url);
    }
    Ok(reply)
}
