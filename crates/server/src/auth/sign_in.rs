//! Passwords for sessions: `/sign-in/email`, and what every sign-in with a password goes through.

use super::beginning::{Beginning, Entry, enter};
use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::UserBody;
use super::sign_up::{keep, sign_in_grant};
use super::two_factor::pending::{self, Asked, Device, Step};
use super::{callback, verify_email};
use crate::app::App;
use identity::attempts::{self, Begun};
use identity::usernames::Username;
use identity::{EmailAddress, LiveSession, User, accounts, users};
use kernel::{Millis, Secret};
use serde::Serialize;
use store::Tx;

pub struct SignInEmail;

/// What an account is called by whoever signs in.
#[derive(Clone)]
pub enum Name {
    Address(EmailAddress),
    Username(Username),
}

impl Name {
    fn text(&self) -> &str {
        match self {
            Name::Address(address) => address.as_str(),
            Name::Username(name) => name.as_str(),
        }
    }

    fn find(&self, tx: &mut Tx<'_>) -> Result<Option<User>, store::Error> {
        match self {
            Name::Address(address) => users::by_email(tx, address.as_str()),
            Name::Username(name) => users::by_username(tx, name.as_str()),
        }
    }

    /// The answer to a wrong password, and to a name that nobody has.
    fn refused(&self) -> Code {
        match self {
            Name::Address(_) => Code::InvalidEmailOrPassword,
            Name::Username(_) => Code::InvalidUsernameOrPassword,
        }
    }

    /// What the browser remembers as the way it signed in; the original remembers addresses only.
    fn method(&self) -> Option<&'static str> {
        match self {
            Name::Address(_) => Some("email"),
            Name::Username(_) => None,
        }
    }
}

/// The rest of a sign-in with a password.
pub struct Input<N> {
    pub name: N,
    pub password: Secret<String>,
    pub callback: Option<String>,
    pub remember: Option<bool>,
}

impl<N> Input<N> {
    pub fn named<M>(self, name: M) -> Input<M> {
        Input { name, password: self.password, callback: self.callback, remember: self.remember }
    }
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
    /// With what a trusted device keeps from now on.
    In(Box<LiveSession>, Option<String>),
    /// A second factor is asked for first.
    Waiting(Asked),
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
    type Input = Input<String>;
    const SPEC: Spec =
        Spec::post("/sign-in/email", Access::Anyone, "Opens a session with an address and a password")
            .signing_in();

    fn read(fields: &mut Fields) -> Input<String> {
        fields.need_object();
        Input {
            name: fields.text("email"),
            password: Secret::new(fields.text("password")),
            callback: fields.maybe_text("callbackURL"),
            remember: fields.maybe_flag("rememberMe"),
        }
    }

    async fn run(call: Call, input: Input<String>) -> Outcome {
        if !call.app.settings.email_password.enabled {
            return Err(Code::SignInDisabled.into());
        }
        let email = EmailAddress::parse(&input.name).ok_or(Code::InvalidEmail)?;
        with_password(&call, input.named(Name::Address(email))).await
    }
}

/// Every sign-in with a password, whatever the account was called by.
pub async fn with_password(call: &Call, input: Input<Name>) -> Outcome {
    let Input { name, password, callback, remember } = input;
    if password.expose().encode_utf16().count() > call.app.settings.email_password.max_length {
        return Err(Code::PasswordTooLong.into());
    }
    let turn = call.app.hasher.turn(name.text()).await?;
    let candidate = begin(call, &name).await?;
    let checked = call.app.hasher.check(&turn, password, candidate.hash.clone()).await?;
    let (Some(user), Some(hash), true) = (candidate.user, candidate.hash, checked.matches) else {
        return Err(name.refused().into());
    };
    let beginning = Beginning::of(call, remember);
    let device = Device::of(call);
    let (app, now, target, kept) = (call.app.clone(), call.now, callback.clone(), device.clone());
    let admitted = call
        .app
        .store
        .write(move |tx| {
            let begin = (&beginning, &kept);
            admit(tx, &app, &user, (&hash, checked.better.as_deref()), begin, target.as_deref(), now)
        })
        .await?;
    call.app.outbox.wake();
    match admitted {
        Admitted::In(live, kept) => {
            let reply = answer(call, &live, &callback, sign_in_grant(&live, remember, name.method()))?;
            Ok(reply.cookies(pending::trusted(call, kept.as_deref())))
        }
        Admitted::Waiting(asked) => pending::ask(call, &asked, keep(remember), name.method(), &device),
        Admitted::Banned => Err(Code::BannedUser.into()),
        Admitted::Unverified => Err(Code::EmailNotVerified.into()),
        Admitted::Changed => Err(name.refused().into()),
    }
}

/// Counts the attempt and finds what the password is compared with. A name that nobody has goes the same way. One count
/// for each account, by whatever name it is called.
async fn begin(call: &Call, name: &Name) -> Result<Candidate, Failure> {
    let (app, now, name) = (call.app.clone(), call.now, name.clone());
    let (begun, candidate) = call
        .app
        .store
        .write(move |tx| {
            let user = name.find(tx)?;
            let counted = user.as_ref().map_or(name.text(), |user| user.email.as_str());
            let begun = attempts::begin(tx, &app.vault, counted, now)?;
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
    begin: (&Beginning, &Device),
    callback: Option<&str>,
    now: Millis,
) -> Result<Admitted, store::Error> {
    users::take_turn(tx, &user.id)?;
    attempts::succeed(tx, &app.vault, &user.email)?;
    // Read again: between the look-up and now the password may have been changed, and the user banned or deleted.
    if accounts::password_hash(tx, &user.id)?.as_deref() != Some(hash) {
        return Ok(Admitted::Changed);
    }
    let user = match enter(tx, &user.id, now)? {
        Entry::Open(user) => user,
        Entry::Banned => return Ok(Admitted::Banned),
        Entry::Gone => return Ok(Admitted::Changed),
    };
    if let Some(better) = better {
        accounts::rehash_password(tx, &user.id, hash, better)?;
    }
    if app.settings.email_password.require_verification && !user.email_verified {
        verify_email::send_link(tx, app, &user, callback, now)?;
        return Ok(Admitted::Unverified);
    }
    open(tx, app, user, begin, now)
}

/// What the right password of a user who may come in leads to: the one place before the session begins.
fn open(
    tx: &mut Tx<'_>,
    app: &App,
    user: User,
    (beginning, device): (&Beginning, &Device),
    now: Millis,
) -> Result<Admitted, store::Error> {
    let kept = match pending::judge(tx, app, &user, device, now)? {
        Step::Pass { renewed } => renewed,
        Step::Ask(asked) => return Ok(Admitted::Waiting(asked)),
    };
    let live = beginning.begin(tx, app, user, None, now)?;
    Ok(Admitted::In(Box::new(live), kept))
}

fn answer(call: &Call, live: &LiveSession, target: &Option<String>, grant: Grant) -> Outcome {
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
    let mut reply = Reply::json(&body).grant(grant).forget_guest(call);
    if let Some(url) = url {
        // Not a redirect: the original sends the header with a 200, and its client looks at the body.
        reply = reply.header_text("location", &url.location());
    }
    Ok(reply)
}
