//! Another address for an account, with codes in place of links: one from the present address, where that was proven, and
//! one from the new one.

use super::super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::super::error::{Code, Failure};
use super::super::fields::Fields;
use super::{Recipient, Right, judged, send, try_code};
use crate::settings::Switch;
use http::StatusCode;
use identity::one_time;
use identity::one_time::codes::{CodePurpose, Tried};
use identity::users::{self, EmailChange};
use identity::{EmailAddress, User};
use serde_json::json;

pub struct RequestEmailChange;
pub struct ChangeEmail;

pub struct Input {
    new: String,
    otp: Option<String>,
}

fn refused(message: &'static str) -> Failure {
    Failure::Message(StatusCode::BAD_REQUEST, message)
}

/// The new address, if the user may ask for it.
fn wanted(call: &Call, user: &User, text: &str) -> Result<EmailAddress, Failure> {
    if !call.app.settings.methods.has(Switch::ChangeEmailByCode) {
        return Err(refused("Change email with OTP is disabled"));
    }
    let new = EmailAddress::parse(text).ok_or(Code::InvalidEmail)?;
    if new.as_str() == user.email {
        return Err(refused("Email is the same"));
    }
    Ok(new)
}

/// A code moves this account to this address, and nothing else.
fn subject(user: &User, new: &EmailAddress) -> String {
    format!("{}:{}", user.id.as_str(), new.as_str())
}

impl Endpoint for RequestEmailChange {
    type Input = Input;
    const SPEC: Spec = Spec::post(
        "/email-otp/request-email-change",
        Access::SignedIn,
        "Mails a code to the address that an account is to move to",
    )
    .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        Input { new: fields.text("newEmail"), otp: fields.maybe_text("otp") }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        // Whoever moves an account opens a way in.
        let user = call.in_person().ok_or(Code::Unauthorized)?.user.clone();
        let new = wanted(&call, &user, &input.new)?;
        // A stolen session alone moves no account.
        let otp = match (user.email_verified, input.otp.filter(|otp| !otp.is_empty())) {
            (false, _) => None,
            (true, Some(otp)) => Some(otp),
            (true, None) => return Err(refused("OTP is required to verify current email")),
        };
        let (app, now) = (call.app.clone(), call.now);
        let tried = call
            .app
            .store
            .write(move |tx| {
                if let Some(otp) = &otp {
                    let of = (CodePurpose::VerifyEmail, user.email.as_str());
                    let tried = try_code(tx, &app, of, otp, Right::UsedUp, now)?;
                    if tried != Tried::Right {
                        return Ok(tried);
                    }
                }
                // A taken address gets the same answer and no mail.
                let taken = users::by_email(tx, new.as_str())?.is_some();
                let name = (!taken).then_some(user.name.as_str());
                let to = Recipient { email: new.as_str(), name, subject: &subject(&user, &new) };
                send(tx, &app, CodePurpose::ChangeEmail, to, now)?;
                Ok::<_, store::Error>(Tried::Right)
            })
            .await?;
        judged(tried)?;
        call.app.outbox.wake();
        Ok(Reply::json(&json!({ "success": true })))
    }
}

impl Endpoint for ChangeEmail {
    type Input = Input;
    const SPEC: Spec = Spec::post(
        "/email-otp/change-email",
        Access::SignedIn,
        "Moves an account to the address that a code was mailed to",
    )
    .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        Input { new: fields.text("newEmail"), otp: Some(fields.text("otp")) }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        let live = call.in_person().ok_or(Code::Unauthorized)?;
        let user = live.user.clone();
        let new = wanted(&call, &user, &input.new)?;
        let (app, now, otp) = (call.app.clone(), call.now, input.otp.unwrap_or_default());
        let (tried, changed) = call
            .app
            .store
            .write(move |tx| {
                let bound = subject(&user, &new);
                let of = (CodePurpose::ChangeEmail, bound.as_str());
                let tried = try_code(tx, &app, of, &otp, Right::UsedUp, now)?;
                if tried != Tried::Right {
                    return Ok((tried, EmailChange::Refused));
                }
                let changed = users::change_email(tx, &user.id, &user.email, &new, now)?;
                if changed == EmailChange::Changed {
                    users::verify_email(tx, &user.id, new.as_str(), now)?;
                    // Links that were mailed to the old address stop working.
                    one_time::forget_links(tx, user.id.as_str())?;
                }
                Ok::<_, store::Error>((tried, changed))
            })
            .await?;
        judged(tried)?;
        match changed {
            EmailChange::Changed => Ok(Reply::json(&json!({ "success": true })).grant(Grant::renew(live))),
            EmailChange::Refused => Err(refused("Email already in use")),
        }
    }
}
