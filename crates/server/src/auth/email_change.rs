//! `/change-email`: begins a change of address, which ends when the new one is proven.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::verify_email::{Proof, link};
use crate::app::{may_mail, pretend_mail, promise_mail};
use http::StatusCode;
use identity::one_time::Purpose;
use identity::{EmailAddress, users};
use mail::{Address, Message};
use serde_json::json;

pub struct ChangeEmail;

pub struct Input {
    new: String,
    callback: Option<String>,
}

impl Endpoint for ChangeEmail {
    type Input = Input;
    const SPEC: Spec = Spec::post(
        "/change-email",
        Access::SignedIn,
        "Mails the links that move one's account to another address",
    );

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        Input { new: fields.email("newEmail"), callback: fields.maybe_text("callbackURL") }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        if !call.app.settings.accounts.change_email {
            return Err(Code::ChangeEmailDisabled.into());
        }
        // Whoever moves an account opens a way in.
        let user = call.in_person().ok_or(Code::Unauthorized)?.user.clone();
        let new = EmailAddress::parse(&input.new).ok_or(Code::InvalidEmail)?;
        if new.as_str() == user.email {
            return Err(Failure::Message(StatusCode::BAD_REQUEST, "Email is the same"));
        }
        let (app, now) = (call.app.clone(), call.now);
        call.app
            .store
            .write(move |tx| {
                let (from, to) = (user.email.clone(), new.as_str().to_string());
                let (mailbox, template) = match user.email_verified {
                    true => (&user.email, "confirm-email-change"),
                    false => (&to, "verify-new-email"),
                };
                let may = may_mail(tx, &app, mailbox, template, now)?;
                // A taken address gets the same answer and no mail; its owner is none of the caller's business.
                if !may || users::by_email(tx, &to)?.is_some() {
                    return pretend_mail(tx, &app, Purpose::ChangeEmail, &to, template, now);
                }
                let callback = input.callback.as_deref();
                // Whoever proved the old address confirms there first: a stolen session alone moves no account.
                if user.email_verified {
                    let url = link(
                        tx,
                        &app,
                        &user,
                        &Proof::AllowChange { email: from, to: to.clone() },
                        callback,
                        now,
                    )?;
                    let Ok(new_email) = Address::parse(&to) else { return Ok(()) };
                    promise_mail(
                        tx,
                        &app,
                        &user.email,
                        &user.name,
                        &Message::ConfirmEmailChange { new_email, url },
                        now,
                    )
                } else {
                    let url = link(
                        tx,
                        &app,
                        &user,
                        &Proof::ConfirmChange { email: from, to: to.clone() },
                        callback,
                        now,
                    )?;
                    promise_mail(tx, &app, &to, &user.name, &Message::VerifyNewEmail { url }, now)
                }
            })
            .await?;
        call.app.outbox.wake();
        Ok(Reply::json(&json!({ "status": true })))
    }
}
