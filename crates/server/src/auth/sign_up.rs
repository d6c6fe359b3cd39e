//! `/sign-up/email`: a new user with a password.

use super::beginning::Beginning;
use super::cookies::Keep;
use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::UserBody;
use super::username::{self, Names};
use super::{password, verify_email};
use crate::app::{App, may_mail, pretend_mail, promise_mail};
use identity::one_time::Purpose;
use identity::users::{self, NewUser};
use identity::{EmailAddress, LiveSession, User, accounts};
use kernel::{Millis, Secret, random};
use mail::{Link, Message};
use serde::Serialize;
use std::sync::Arc;

/// What only the server sets about a user.
pub const SERVER_FIELDS: [&str; 6] =
    ["role", "banned", "banReason", "banExpires", "twoFactorEnabled", "isAnonymous"];
/// Those of them that a sign-up may not even name; the others begin as every new user's and what is sent is ignored.
pub const REFUSED_FIELDS: [&str; 3] = ["role", "banReason", "banExpires"];

pub struct SignUpEmail;

pub struct Input {
    name: String,
    email: String,
    password: Secret<String>,
    image: Option<String>,
    callback: Option<String>,
    remember: Option<bool>,
    names: username::Sent,
}

#[derive(Serialize)]
struct Body<'a> {
    token: Option<&'a str>,
    user: UserBody<'a>,
}

/// How the transaction went.
enum Made {
    SignedIn(LiveSession),
    /// No session yet: the address has to be proven first, or people sign in themselves.
    Waiting(User),
    Taken,
    UsernameTaken,
}

impl Endpoint for SignUpEmail {
    type Input = Input;
    const SPEC: Spec =
        Spec::post("/sign-up/email", Access::Anyone, "Makes an account with an address and a password")
            .signing_in();

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        fields.need_record();
        fields.refuse(&REFUSED_FIELDS);
        fields.storable(&["name", "image"]);
        Input {
            name: fields.text("name"),
            email: fields.email("email"),
            password: Secret::new(fields.some_text("password")),
            image: fields.maybe_text("image"),
            callback: fields.maybe_text("callbackURL"),
            remember: fields.maybe_flag("rememberMe"),
            names: username::Sent::read(fields),
        }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        let settings = &call.app.settings.email_password;
        if !settings.enabled || !settings.sign_up {
            return Err(Code::SignUpDisabled.into());
        }
        let names = input.names.judge_new(&call.app)?;
        // Told before the password is looked at, as in the original; the transaction has the last word.
        if !names.are_free(&call.app).await? {
            return Err(Code::UsernameTaken.into());
        }
        password::judge(settings, input.password.expose())?;
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        // Hashed before the address is looked at, so that a taken one costs the same.
        let hash = call.app.hasher.hash(input.password.clone()).await?;
        let new = NewUser {
            name: input.name,
            email,
            email_verified: false,
            image: input.image,
            role: "user".into(),
        };
        let beginning = Beginning::of(&call, input.remember);
        let (app, now, callback) = (call.app.clone(), call.now, input.callback);
        let order = (new.clone(), names.clone());
        let made = call
            .app
            .store
            .write(move |tx| {
                make(tx, &app, (&order.0, &order.1), &hash, &beginning, callback.as_deref(), now)
            })
            .await?;
        call.app.outbox.wake();
        answer(&call, made, (&new, &names), input.remember)
    }
}

fn make(
    tx: &mut store::Tx<'_>,
    app: &Arc<App>,
    (new, names): (&NewUser, &Names),
    hash: &str,
    beginning: &Beginning,
    callback: Option<&str>,
    now: Millis,
) -> Result<Made, store::Error> {
    let (settings, rng) = (&app.settings.email_password, &mut random::secure());
    if !names.take(tx, None)? {
        return Ok(Made::UsernameTaken);
    }
    let user = match users::create(tx, new, now, rng)? {
        Some(user) => names.applied(user),
        None => {
            if tells_nothing(app) {
                pretend_mail(tx, app, Purpose::VerifyEmail, new.email.as_str(), "verify-email", now)?;
            }
            if tells_nothing(app) && settings.notify_taken {
                tell_owner(tx, app, new.email.as_str(), now)?;
            }
            return Ok(Made::Taken);
        }
    };
    names.write(tx, &user.id, now)?;
    accounts::set_password(tx, &user.id, hash, now, rng)?;
    gate::arrival::tell_created(tx, &user, now)?;
    if settings.require_verification {
        verify_email::send_link(tx, app, &user, callback, now)?;
    }
    // The grant waits for the proof: addresses that nobody reads must not be worth anything.
    if settings.require_verification {
        return Ok(Made::Waiting(user));
    }
    let email = user.email.clone();
    if settings.auto_sign_in {
        return Ok(Made::SignedIn(beginning.begin(tx, app, user, Some(&email), now)?));
    }
    gate::arrival::welcome(tx, app.ledger.settings(), &app.vault, &user.id, &email, now)?;
    Ok(Made::Waiting(user))
}

/// Where a sign-up does not sign in, a taken address gets the answer of a free one.
fn tells_nothing(app: &App) -> bool {
    let settings = &app.settings.email_password;
    settings.require_verification || !settings.auto_sign_in
}

/// The owner learns that somebody tried; whoever tried learns nothing.
fn tell_owner(tx: &mut store::Tx<'_>, app: &App, email: &str, now: Millis) -> Result<(), store::Error> {
    let Some(owner) = users::by_email(tx, email)? else { return Ok(()) };
    if !may_mail(tx, app, email, "address-taken", now)? {
        return Ok(());
    }
    let Ok(url) = Link::parse(&format!("{}/", app.settings.base_url)) else { return Ok(()) };
    promise_mail(tx, app, &owner.email, &owner.name, &Message::AddressTaken { url }, now)
}

fn answer(call: &Call, made: Made, (new, names): (&NewUser, &Names), remember: Option<bool>) -> Outcome {
    match made {
        Made::SignedIn(live) => {
            let reply = Reply::json(&Body { token: Some(&live.token), user: (&live.user).into() });
            Ok(reply.grant(sign_in_grant(&live, remember, Some("email"))).forget_guest(call))
        }
        Made::Waiting(user) => Ok(Reply::json(&Body { token: None, user: (&user).into() })),
        Made::Taken if tells_nothing(&call.app) => {
            let user = names.applied(User::fresh(new, call.now, &mut random::secure()));
            Ok(Reply::json(&Body { token: None, user: (&user).into() }))
        }
        Made::Taken => Err(Failure::from(Code::UserExists)),
        Made::UsernameTaken => Err(Code::UsernameTaken.into()),
    }
}

/// The session of a sign-in with a password, as the browser is to keep it.
pub fn sign_in_grant(live: &LiveSession, remember: Option<bool>, method: Option<&'static str>) -> Grant {
    Grant { token: live.token.clone(), user: live.user.id.clone(), keep: Some(keep(remember)), method }
}

/// `rememberMe` as it was sent, or not.
pub fn keep(remember: Option<bool>) -> Keep {
    if remember == Some(false) { Keep::Forget } else { Keep::Remember }
}
