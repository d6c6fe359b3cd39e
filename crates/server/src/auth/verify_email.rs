//! Proving an address: the mail, and the link that also carries changes of address.

use super::beginning::{Beginning, Entry, enter};
use super::callback::{self, MailedLink};
use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::{self, Code, Failure};
use super::fields::Fields;
use super::json::UserBody;
use crate::app::{App, may_mail, pretend_mail, promise_mail};
use http::StatusCode;
use identity::one_time::{self, Consumed, Found, Purpose};
use identity::users::{self, EmailChange};
use identity::{EmailAddress, LiveSession, User};
use kernel::signed::encode_uri_component;
use kernel::{Millis, UserId, random};
use mail::{Link, Message};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::Tx;

/// What a verification link does when it is followed. Every kind is bound to the address that the user had.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Proof {
    /// Marks the address as the user's.
    Address { email: String },
    /// From the old address: sends the link to the new one.
    AllowChange { email: String, to: String },
    /// From the new address: makes it the user's.
    ConfirmChange { email: String, to: String },
}

impl Proof {
    fn purpose(&self) -> Purpose {
        match self {
            Proof::Address { .. } => Purpose::VerifyEmail,
            Proof::AllowChange { .. } | Proof::ConfirmChange { .. } => Purpose::ChangeEmail,
        }
    }

    fn bound_to(&self) -> &str {
        match self {
            Proof::Address { email }
            | Proof::AllowChange { email, .. }
            | Proof::ConfirmChange { email, .. } => email,
        }
    }
}

/// Promises the mail that proves a new user's address.
pub fn send_link(
    tx: &mut Tx<'_>,
    app: &App,
    user: &User,
    callback: Option<&str>,
    now: Millis,
) -> Result<(), store::Error> {
    let template = "verify-email";
    if !may_mail(tx, app, &user.email, template, now)? {
        return pretend_mail(tx, app, Purpose::VerifyEmail, &user.email, template, now);
    }
    let proof = Proof::Address { email: user.email.clone() };
    let url = link(tx, app, user, &proof, callback, now)?;
    promise_mail(tx, app, &user.email, &user.name, &Message::VerifyEmail { url }, now)
}

/// Makes the link for a proof. An empty target leads home.
pub fn link(
    tx: &mut Tx<'_>,
    app: &App,
    user: &User,
    proof: &Proof,
    callback: Option<&str>,
    now: Millis,
) -> Result<Link, store::Error> {
    let token = one_time::issue(
        tx,
        &app.vault,
        proof.purpose(),
        user.id.as_str(),
        proof,
        now,
        &mut random::secure(),
    )?;
    let target = encode_uri_component(callback.filter(|text| !text.is_empty()).unwrap_or("/"));
    Link::parse(&app.auth_url(&format!("/verify-email?token={token}&callbackURL={target}")))
        .map_err(|error| store::Error::Fault(error.to_string()))
}

pub struct SendVerificationEmail;

pub struct Send {
    email: String,
    callback: Option<String>,
}

impl Endpoint for SendVerificationEmail {
    type Input = Send;
    const SPEC: Spec = Spec::post(
        "/send-verification-email",
        Access::MaybeSignedIn,
        "Mails the link that proves an address again",
    );

    fn read(fields: &mut Fields) -> Send {
        fields.need_object();
        Send { email: fields.email("email"), callback: fields.maybe_text("callbackURL") }
    }

    /// Signed out the answer is the same for every address; the mail leaves from a queue, so the time is too.
    async fn run(call: Call, input: Send) -> Outcome {
        let email = input.email.to_ascii_lowercase();
        if let Some(live) = &call.session {
            if live.user.email != email {
                return Err(Code::EmailMismatch.into());
            }
            if live.user.email_verified {
                return Err(Code::EmailAlreadyVerified.into());
            }
        }
        let (app, now) = (call.app.clone(), call.now);
        call.app
            .store
            .write(move |tx| match users::by_email(tx, &email)? {
                Some(user) if !user.email_verified => {
                    send_link(tx, &app, &user, input.callback.as_deref(), now)
                }
                // As much work for everybody else.
                _ => {
                    may_mail(tx, &app, &email, "verify-email", now)?;
                    pretend_mail(tx, &app, Purpose::VerifyEmail, &email, "verify-email", now)
                }
            })
            .await?;
        call.app.outbox.wake();
        Ok(Reply::json(&json!({ "status": true })))
    }
}

pub struct VerifyEmail;

#[derive(Serialize)]
struct Changed<'a> {
    status: bool,
    user: UserBody<'a>,
}

/// What following a link led to.
enum Followed {
    /// Nothing to do any more: the address was proven before, or the link was followed before.
    Already,
    Proven(User),
    ChangeAllowed,
    AddressChanged(User),
    Refused(&'static str),
}

impl Endpoint for VerifyEmail {
    type Input = MailedLink;
    const SPEC: Spec = Spec::get(
        "/verify-email",
        Access::MaybeSignedIn,
        "The mailed link that proves an address or moves an account to another one",
    )
    .link();

    fn read(fields: &mut Fields) -> MailedLink {
        MailedLink::read(fields)
    }

    async fn run(call: Call, input: MailedLink) -> Outcome {
        let (app, now) = (call.app.clone(), call.now);
        let (token, target) = (input.token.clone(), input.callback.clone());
        let caller = call.session.as_ref().map(|live| live.user.id.clone());
        let followed = call
            .app
            .store
            .write(move |tx| follow(tx, &app, &token, target.as_deref(), caller.as_ref(), now))
            .await?;
        call.app.outbox.wake();
        let mut reply = Reply::json(&json!({ "status": true, "user": null }));
        let (mut grant, mut began) = (None, false);
        match followed {
            Followed::Refused(code) => return refuse(&call, &input, code),
            Followed::Already => {}
            Followed::ChangeAllowed => reply = Reply::json(&json!({ "status": true })),
            Followed::Proven(user) => {
                if call.app.settings.email_password.auto_sign_in_after_verification {
                    let live = sign_in(&call, user).await?;
                    let known = call.session.as_ref().map(|live| &live.token);
                    began = live.as_ref().is_some_and(|live| known != Some(&live.token));
                    grant = live.as_ref().map(Grant::renew);
                }
            }
            Followed::AddressChanged(user) => {
                grant = call.session.as_ref().map(Grant::renew);
                reply = Reply::json(&Changed { status: true, user: (&user).into() });
            }
        }
        if let Some(text) = &input.callback {
            let target = callback::target(&call.app.settings.trusted_origins, text)?;
            reply = Reply::redirect(&target.location());
        }
        if began {
            reply = reply.forget_guest(&call);
        }
        Ok(match grant {
            Some(grant) => reply.grant(grant),
            None => reply,
        })
    }
}

/// Uses the link up and does what it stands for, in one transaction.
fn follow(
    tx: &mut Tx<'_>,
    app: &App,
    token: &str,
    callback: Option<&str>,
    caller: Option<&UserId>,
    now: Millis,
) -> Result<Followed, store::Error> {
    // Opened in the browser of somebody else the link stays good for its owner.
    let looked: Option<Found<Proof>> = one_time::look(tx, &app.vault, Purpose::ChangeEmail, token, now)?;
    let is_others = |found: &Found<Proof>| caller.is_some_and(|caller| caller.as_str() != found.subject);
    if looked.as_ref().is_some_and(is_others) {
        return Ok(Followed::Refused("INVALID_USER"));
    }
    let consumed: Consumed<Proof> = match one_time::consume(tx, &app.vault, Purpose::VerifyEmail, token, now)?
    {
        Consumed::Unknown => one_time::consume(tx, &app.vault, Purpose::ChangeEmail, token, now)?,
        proof => proof,
    };
    let found = match consumed {
        Consumed::Now(found) => found,
        // Mail programs open links before people do: a second time is no error as long as the outcome still holds.
        Consumed::Before(found) => {
            let user = users::by_id(tx, &UserId::from_text(found.subject))?;
            let holds = user.is_some_and(|user| match &found.payload {
                Proof::Address { email } => user.email == *email && user.email_verified,
                Proof::AllowChange { email, .. } => user.email == *email,
                Proof::ConfirmChange { .. } => false,
            });
            return Ok(if holds { Followed::Already } else { Followed::Refused("INVALID_TOKEN") });
        }
        Consumed::Expired => return Ok(Followed::Refused("TOKEN_EXPIRED")),
        Consumed::Unknown => return Ok(Followed::Refused("INVALID_TOKEN")),
    };
    let Some(user) = users::by_id(tx, &UserId::from_text(found.subject))? else {
        return Ok(Followed::Refused("USER_NOT_FOUND"));
    };
    if user.email != found.payload.bound_to() {
        return Ok(Followed::Refused("INVALID_TOKEN"));
    }
    match found.payload {
        Proof::Address { email } => {
            if user.email_verified {
                return Ok(Followed::Already);
            }
            let proven = users::verify_email(tx, &user.id, &email, now)?;
            if proven && app.settings.email_password.require_verification {
                gate::arrival::welcome(tx, app.ledger.settings(), &app.vault, &user.id, &email, now)?;
            }
            Ok(Followed::Proven(User { email_verified: true, updated_at: now, ..user }))
        }
        Proof::AllowChange { email, to } => {
            let proof = Proof::ConfirmChange { email, to: to.clone() };
            let url = link(tx, app, &user, &proof, callback, now)?;
            promise_mail(tx, app, &to, &user.name, &Message::VerifyNewEmail { url }, now)?;
            Ok(Followed::ChangeAllowed)
        }
        Proof::ConfirmChange { email, to } => {
            let to = EmailAddress::from_stored(to);
            if users::change_email(tx, &user.id, &email, &to, now)? == EmailChange::Refused {
                return Ok(Followed::Refused("INVALID_TOKEN"));
            }
            // Links that were mailed to the old address stop working.
            one_time::forget_links(tx, user.id.as_str())?;
            Ok(Followed::AddressChanged(User { email: to.as_str().to_string(), updated_at: now, ..user }))
        }
    }
}

/// The session that a proven address opens: the one that is there, or a new one, also in place of another user's. None
/// for a user who is banned: the address is proven all the same.
async fn sign_in(call: &Call, user: User) -> Result<Option<LiveSession>, Failure> {
    if let Some(live) = call.session.as_ref().filter(|live| live.user.id == user.id) {
        return Ok(Some(live.clone()));
    }
    let (app, now, beginning) = (call.app.clone(), call.now, Beginning::of(call, None));
    let made = call.app.store.write(move |tx| {
        let Entry::Open(user) = enter(tx, &user.id, now)? else { return Ok::<_, store::Error>(None) };
        beginning.begin(tx, &app, user, None, now).map(Some)
    });
    Ok(made.await?)
}

fn refuse(call: &Call, input: &MailedLink, code: &'static str) -> Outcome {
    if let Some(text) = &input.callback {
        let target = callback::target(&call.app.settings.trusted_origins, text)?;
        return Ok(Reply::redirect(&target.with("error", code)));
    }
    let message = match code {
        "TOKEN_EXPIRED" => "Token expired",
        "USER_NOT_FOUND" => "User not found",
        "INVALID_USER" => "Invalid user",
        _ => "Invalid token",
    };
    Ok(error::answer(StatusCode::UNAUTHORIZED, message, Some(code)))
}
