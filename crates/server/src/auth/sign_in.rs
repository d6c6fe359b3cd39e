//! `/sign-in/email`: a password for a session.

use super::beginning::Beginning;
use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::UserBody;
use super::sign_up::sign_in_grant;
use super::{callback, verify_email};
use crate::app::App;
use identity::attempts::{self, Begun};
use identity::users::{self, Standing};
use identity::{EmailAddress, LiveSession, User, accounts};
use kernel::{Millis, Secret};
use serde::Serialize;
use store::Tx;

pub struct SignInEmail;

pub struct Input {
    email: String,
    password: Secret<String>,
    callback: Option<String>,
    remember: Option<bool>,
}

#[derive(Serialize)]
struct Body<'a> {
    redirect: bool,
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    user: UserBody<'a>,
}

/// How the right password was received.
enum Admitted {
    In(Box<LiveSession>),
    Banned,
    Unverified,
    /// While it was compared, the password was replaced or the user deleted: it is no longer the right one.
    Changed,
}

/// What a sign-in is checked against.
struct Candidate {
    user: Option<User>,
    hash: Option<String>,
}

impl Endpoint for SignInEmail {
    type Input = Input;
    const SPEC: Spec =
        Spec::post("/sign-in/email", Access::Anyone, "Opens a session with an address and a password")
            .signing_in();

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        Input {
            email: fields.text("email"),
            password: Secret::new(fields.text("password")),
            callback: fields.maybe_text("callbackURL"),
            remember: fields.maybe_flag("rememberMe"),
        }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        let settings = &call.app.settings.email_password;
        if !settings.enabled {
            return Err(Code::SignInDisabled.into());
        }
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        if input.password.expose().encode_utf16().count() > settings.max_length {
            return Err(Code::PasswordTooLong.into());
        }
        let turn = call.app.hasher.turn(email.as_str()).await?;
        let candidate = begin(&call, &email).await?;
        let checked = call.app.hasher.check(&turn, input.password, candidate.hash.clone()).await?;
        let (Some(user), Some(hash), true) = (candidate.user, candidate.hash, checked.matches) else {
            return Err(Code::InvalidEmailOrPassword.into());
        };
        let beginning = Beginning::of(&call, input.remember);
        let (app, now, target) = (call.app.clone(), call.now, input.callback.clone());
        let admitted = call
            .app
            .store
            .write(move |tx| {
                admit(tx, &app, &user, (&hash, checked.better.as_deref()), &beginning, target.as_deref(), now)
            })
            .await?;
        call.app.outbox.wake();
        match admitted {
            Admitted::In(live) => answer(&call, &live, &input.callback, input.remember),
            Admitted::Banned => Err(Code::BannedUser.into()),
            Admitted::Unverified => Err(Code::EmailNotVerified.into()),
            Admitted::Changed => Err(Code::InvalidEmailOrPassword.into()),
        }
    }
}

/// Counts the attempt and finds what the password is compared with. An unknown address goes the same way.
async fn begin(call: &Call, email: &EmailAddress) -> Result<Candidate, Failure> {
    let (app, now, address) = (call.app.clone(), call.now, email.as_str().to_string());
    let (begun, candidate) = call
        .app
        .store
        .write(move |tx| {
            let begun = attempts::begin(tx, &app.vault, &address, now)?;
            let user = users::by_email(tx, &address)?;
            let hash = user.as_ref().map(|user| accounts::password_hash(tx, &user.id)).transpose()?.flatten();
            Ok::<_, store::Error>((begun, Candidate { user, hash }))
        })
        .await?;
    match begun {
        Begun::Allowed => Ok(candidate),
        Begun::Refused { retry_at } => Err(Failure::Locked { retry_at, now }),
    }
}

fn admit(
    tx: &mut Tx<'_>,
    app: &App,
    user: &User,
    (hash, better): (&str, Option<&str>),
    beginning: &Beginning,
    callback: Option<&str>,
    now: Millis,
) -> Result<Admitted, store::Error> {
    users::take_turn(tx, &user.id)?;
    attempts::succeed(tx, &app.vault, &user.email)?;
    // Read again: between the look-up and now the password may have been changed, and the user banned or deleted.
    let current = users::by_id(tx, &user.id)?;
    let unchanged = accounts::password_hash(tx, &user.id)?.as_deref() == Some(hash);
    let Some(mut user) = current.filter(|_| unchanged) else { return Ok(Admitted::Changed) };
    match user.standing(now) {
        Standing::Banned => return Ok(Admitted::Banned),
        Standing::BanEnded => {
            users::unban(tx, &user.id, now)?;
            (user.banned, user.ban_reason, user.ban_expires) = (false, None, None);
        }
        Standing::Good => {}
    }
    if let Some(better) = better {
        accounts::rehash_password(tx, &user.id, hash, better)?;
    }
    if app.settings.email_password.require_verification && !user.email_verified {
        verify_email::send_link(tx, app, &user, callback, now)?;
        return Ok(Admitted::Unverified);
    }
    let live = beginning.begin(tx, app, user, None, now)?;
    Ok(Admitted::In(Box::new(live)))
}

fn answer(call: &Call, live: &LiveSession, target: &Option<String>, remember: Option<bool>) -> Outcome {
    let url = target
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(|text| callback::target(&call.app.settings.trusted_origins, text))
        .transpose()?;
    let body = Body {
        redirect: url.is_some(),
        token: &live.token,
        url: target.as_deref(),
        user: (&live.user).into(),
    };
    let mut reply = Reply::json(&body).grant(sign_in_grant(live, remember)).forget_guest(call);
    if let Some(url) = url {
        // Not a redirect: the original sends the header with a 200, and its client looks at the body.
        reply = reply.header_text("location", &url.location());
    }
    Ok(reply)
}
