//! An id token that an app got at the provider by itself, as apps on phones do: taken in place of the way there and
//! back.

use super::super::beginning::Beginning;
use super::super::endpoint::{Call, Grant, Outcome, Reply};
use super::super::error::{Code, Failure};
use super::super::fields::Fields;
use super::super::json::UserBody;
use super::arrival::{CameIn, come_in, incoming, terms};
use super::start::Wish;
use super::{NO_USER_INFO, note, out_of_reach, provider};
use http::StatusCode;
use identity::LiveSession;
use identity::providers::{Incoming, Linked, linking};
use kernel::{Millis, Secret, random};
use oidc::profile::name_from_apple;
use oidc::{Kind, Provider, Tokens, Trouble};
use serde::Serialize;
use serde_json::{Value, json};

const NOT_SUPPORTED: Failure = Failure::Coded {
    status: StatusCode::NOT_FOUND,
    code: "ID_TOKEN_NOT_SUPPORTED",
    message: "id_token not supported",
};
const INVALID: Failure =
    Failure::Coded { status: StatusCode::UNAUTHORIZED, code: "INVALID_TOKEN", message: "Invalid token" };
const NO_EMAIL: Failure = Failure::Coded {
    status: StatusCode::UNAUTHORIZED,
    code: "USER_EMAIL_NOT_FOUND",
    message: "User email not found",
};

const fn refused(code: &'static str, message: &'static str) -> Failure {
    Failure::Coded { status: StatusCode::UNAUTHORIZED, code, message }
}

/// The token and what came with it.
pub struct Brought {
    token: Secret<String>,
    nonce: Option<String>,
    access: Option<Secret<String>>,
    refresh: Option<Secret<String>>,
    ends: Option<f64>,
    /// As Apple tells a name, once.
    user: Option<String>,
}

impl Brought {
    pub fn read(fields: &mut Fields) -> Option<Brought> {
        let given = fields.maybe_record("idToken").filter(Value::is_object)?;
        let secret = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Secret::new);
        Some(Brought {
            token: Secret::new(fields.text("idToken.token")),
            nonce: fields.maybe_text("idToken.nonce").filter(|nonce| !nonce.is_empty()),
            access: secret(fields.maybe_text("idToken.accessToken")),
            refresh: secret(fields.maybe_text("idToken.refreshToken")),
            ends: fields.maybe_number("idToken.expiresAt", None),
            user: given.get("user").filter(|user| user.is_object()).map(ToString::to_string),
        })
    }

    /// Some apps tell the end in seconds, some in milliseconds.
    fn ends(&self, now: Millis) -> Option<Millis> {
        let ends = self.ends.filter(|ends| ends.is_finite() && *ends > 0.0)?;
        let milliseconds = if ends < 1e11 { ends * 1_000.0 } else { ends };
        Some(Millis(milliseconds as i64)).filter(|ends| *ends > now)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    redirect: bool,
    token: &'a str,
    user: UserBody<'a>,
}

/// Who the token speaks of; nothing is believed before it holds.
async fn judge(call: &Call, provider: &Provider, brought: &Brought) -> Result<Incoming, Failure> {
    if !provider.signs() {
        return Err(NOT_SUPPORTED);
    }
    let (token, nonce) = (brought.token.expose(), brought.nonce.as_deref());
    let found = provider.profile_from_app(token, nonce, brought.access.as_ref(), call.now).await;
    let mut profile = match found {
        Ok(Some(profile)) => profile,
        Ok(None) => return Err(NO_USER_INFO),
        Err(Trouble::BadToken(reason)) => {
            note(provider, &Trouble::BadToken(reason));
            return Err(INVALID);
        }
        Err(trouble) => return Err(out_of_reach(provider, &trouble)),
    };
    if provider.settings.kind == Kind::Apple {
        profile.name = brought.user.as_deref().and_then(name_from_apple).or(profile.name);
    }
    let tokens = Tokens {
        access: brought.access.clone(),
        refresh: brought.refresh.clone(),
        id: Some(brought.token.clone()),
        access_ends: brought.access.as_ref().and_then(|_| brought.ends(call.now)),
        ..Tokens::default()
    };
    incoming(provider, profile, tokens).ok_or(NO_EMAIL)
}

pub async fn sign_in(call: &Call, wish: &Wish, brought: &Brought) -> Outcome {
    let provider = provider(call, &wish.provider)?;
    let incoming = judge(call, provider, brought).await?;
    let terms = terms(provider, wish.sign_up_asked);
    let beginning = Beginning::of(call, None);
    let (app, now) = (call.app.clone(), call.now);
    let came =
        call.app.store.write(move |tx| come_in(tx, &app, (&incoming, terms), &beginning, None, now)).await?;
    call.app.outbox.wake();
    match came {
        CameIn::In { live, .. } => {
            let body = Body { redirect: false, token: &live.token, user: (&live.user).into() };
            Ok(Reply::json(&body).grant(Grant::renew(&live)).forget_guest(call))
        }
        CameIn::NotLinked => Err(refused("OAUTH_LINK_ERROR", "account not linked")),
        CameIn::SignUpDisabled => Err(refused("OAUTH_LINK_ERROR", "signup disabled")),
        CameIn::Banned => Err(Code::BannedUser.into()),
    }
}

pub async fn link(call: &Call, wish: &Wish, brought: &Brought, live: &LiveSession) -> Outcome {
    let provider = provider(call, &wish.provider)?;
    let incoming = judge(call, provider, brought).await?;
    let trusted = provider.settings.trusted;
    let (app, now, live) = (call.app.clone(), call.now, live.clone());
    let linked = call
        .app
        .store
        .write(move |tx| {
            let who = (&live.user.id, live.token.as_str());
            linking::link(tx, &app.vault, who, &incoming, trusted, now, &mut random::secure())
        })
        .await?;
    match linked {
        Linked::Done => Ok(Reply::json(&json!({ "url": "", "status": true, "redirect": false }))),
        Linked::NotAllowed => Err(refused("LINKING_NOT_ALLOWED", "Account not linked - linking not allowed")),
        Linked::OtherEmail => {
            let message = "Account not linked - different emails not allowed";
            Err(refused("LINKING_DIFFERENT_EMAILS_NOT_ALLOWED", message))
        }
        Linked::OtherUser => Err(Failure::Coded {
            status: StatusCode::CONFLICT,
            code: "SOCIAL_ACCOUNT_ALREADY_LINKED",
            message: "Social account already linked",
        }),
    }
}
