//! A forgotten password: the mail, its link, and the new password.

use super::callback;
use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::password::judge;
use crate::app::{App, may_mail, pretend_mail, promise_mail};
use gate::departure::{Revocation, tell_revoked};
use http::StatusCode;
use identity::one_time::{self, Consumed, Purpose};
use identity::{User, accounts, attempts, sessions, users};
use kernel::signed::encode_uri_component;
use kernel::{Millis, Secret, UserId, random};
use mail::{Link, Message};
use serde_json::json;
use store::Tx;

pub struct RequestPasswordReset;
pub struct FollowResetLink;
pub struct ResetPassword;

pub struct Request {
    email: String,
    redirect_to: Option<String>,
}

impl Endpoint for RequestPasswordReset {
    type Input = Request;
    const SPEC: Spec =
        Spec::post("/request-password-reset", Access::Anyone, "Mails a link to choose a new password");

    fn read(fields: &mut Fields) -> Request {
        fields.need_object();
        Request {
            email: fields.email("email"),
            redirect_to: fields.maybe_text("redirectTo").filter(|text| !text.is_empty()),
        }
    }

    /// The same answer for everybody. The work for an unknown address is one look-up less than for a known one, and the
    /// mail leaves from a queue.
    async fn run(call: Call, input: Request) -> Outcome {
        if !call.app.settings.email_password.enabled {
            return Err(Failure::Message(StatusCode::BAD_REQUEST, "Reset password isn't enabled"));
        }
        let (app, now, email) = (call.app.clone(), call.now, input.email.to_ascii_lowercase());
        let target = input.redirect_to.as_deref().map(encode_uri_component).unwrap_or_default();
        call.app
            .store
            .write(move |tx| {
                let template = "reset-password";
                // Counted for unknown addresses too, and as much is written for them: the time of the answer tells nothing.
                let may = may_mail(tx, &app, &email, template, now)?;
                let user = users::by_email(tx, &email)?;
                let Some(user) = user.filter(|_| may) else {
                    return pretend_mail(tx, &app, Purpose::ResetPassword, &email, template, now);
                };
                let token = one_time::issue(
                    tx,
                    &app.vault,
                    Purpose::ResetPassword,
                    user.id.as_str(),
                    &json!({}),
                    now,
                    &mut random::secure(),
                )?;
                let url = app.auth_url(&format!("/reset-password/{token}?callbackURL={target}"));
                let url = Link::parse(&url).map_err(|error| store::Error::Fault(error.to_string()))?;
                promise_mail(tx, &app, &user.email, &user.name, &Message::ResetPassword { url }, now)
            })
            .await?;
        call.app.outbox.wake();
        Ok(Reply::json(&json!({
            "status": true,
            "message": "If this email exists in our system, check your email for the reset link"
        })))
    }
}

pub struct Follow {
    token: String,
    callback: String,
}

impl Endpoint for FollowResetLink {
    type Input = Follow;
    const SPEC: Spec = Spec::get(
        "/reset-password/{token}",
        Access::Anyone,
        "The mailed link: leads to the page for the new password",
    )
    .link();

    fn read(fields: &mut Fields) -> Follow {
        Follow { token: fields.segment(0), callback: fields.query("callbackURL") }
    }

    async fn run(call: Call, input: Follow) -> Outcome {
        if input.callback.is_empty() {
            return Ok(Reply::redirect(&format!("{}?error=INVALID_TOKEN", call.app.auth_url("/error"))));
        }
        let target = callback::target(&call.app.settings.trusted_origins, &input.callback)?;
        let (vault, token, now) = (call.app.vault.clone(), input.token.clone(), call.now);
        let good = call
            .app
            .store
            .read(move |tx| one_time::is_good(tx, &vault, Purpose::ResetPassword, &token, now))
            .await?;
        let (name, value) = if good { ("token", input.token.as_str()) } else { ("error", "INVALID_TOKEN") };
        Ok(Reply::redirect(&target.absolute_with(name, value)))
    }
}

/// Writes the password that a mail allowed to choose, and ends what the old one may have opened. After
/// [`users::take_turn`].
pub fn replace(tx: &mut Tx<'_>, app: &App, user: &User, hash: &str, now: Millis) -> Result<(), store::Error> {
    accounts::set_password(tx, &user.id, hash, now, &mut random::secure())?;
    // Whoever held a session before may have asked to move the account to an address of their own.
    for purpose in [Purpose::ChangeEmail, Purpose::ResetPassword] {
        one_time::supersede(tx, user.id.as_str(), purpose)?;
    }
    // A browser of before is asked for the second factor again.
    one_time::withdraw(tx, user.id.as_str(), Purpose::TrustedDevice)?;
    if app.settings.email_password.revoke_sessions_on_reset {
        let ended = sessions::revoke_all(tx, &user.id)?;
        tell_revoked(tx, &user.id, &ended, Revocation::PasswordReset, now)?;
    }
    // The owner comes back in by mail, however often somebody else guessed.
    attempts::forget(tx, &app.vault, &user.email)
}

pub struct Reset {
    new: Secret<String>,
    token: Option<String>,
}

/// How a reset ended.
enum Ended {
    Done,
    BadToken,
    NoUser,
}

impl Endpoint for ResetPassword {
    type Input = Reset;
    const SPEC: Spec =
        Spec::post("/reset-password", Access::Anyone, "Sets a new password with the token of a mailed link");

    fn read(fields: &mut Fields) -> Reset {
        fields.need_object();
        let new = Secret::new(fields.text("newPassword"));
        let in_query = fields.maybe_query("token");
        let token = fields.maybe_text("token").filter(|token| !token.is_empty()).or(in_query);
        Reset { new, token: token.filter(|token| !token.is_empty()) }
    }

    async fn run(call: Call, input: Reset) -> Outcome {
        let token = input.token.ok_or(Code::InvalidToken)?;
        judge(&call.app.settings.email_password, input.new.expose())?;
        let (vault, now) = (call.app.vault.clone(), call.now);
        let look = token.clone();
        // Looked at first, so that guessed tokens cost no hashing.
        if !call
            .app
            .store
            .read(move |tx| one_time::is_good(tx, &vault, Purpose::ResetPassword, &look, now))
            .await?
        {
            return Err(Code::InvalidToken.into());
        }
        let hash = call.app.hasher.hash(input.new).await?;
        let app = call.app.clone();
        let ended = call
            .app
            .store
            .write(move |tx| {
                let used: Consumed<serde_json::Value> =
                    one_time::consume(tx, &app.vault, Purpose::ResetPassword, &token, now)?;
                let Consumed::Now(found) = used else { return Ok(Ended::BadToken) };
                let Some(user) = users::by_id(tx, &UserId::from_text(found.subject))? else {
                    return Ok(Ended::NoUser);
                };
                users::take_turn(tx, &user.id)?;
                replace(tx, &app, &user, &hash, now)?;
                Ok::<_, store::Error>(Ended::Done)
            })
            .await?;
        match ended {
            Ended::Done => Ok(Reply::json(&json!({ "status": true }))),
            Ended::BadToken => Err(Code::InvalidToken.into()),
            Ended::NoUser => Err(Code::UserNotFound.into()),
        }
    }
}
