//! A forgotten password, with a code in place of a link.

use super::super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::super::error::{Code, Failure};
use super::super::fields::Fields;
use super::super::password::judge;
use super::super::{mailbox, reset_password};
use super::{Right, ask, judged, try_code};
use crate::settings::Switch;
use http::StatusCode;
use identity::one_time::codes::{CodePurpose, Tried};
use identity::{EmailAddress, users};
use kernel::Secret;
use serde_json::json;

const PURPOSE: CodePurpose = CodePurpose::ResetPassword;

pub struct RequestReset;
/// The same under its older name.
pub struct ForgetPassword;

async fn request(call: Call, email: &str) -> Outcome {
    enabled(&call)?;
    ask(&call, PURPOSE, EmailAddress::parse(email).ok_or(Code::InvalidEmail)?).await
}

fn enabled(call: &Call) -> Result<(), Failure> {
    if call.app.settings.email_password.enabled {
        return Ok(());
    }
    Err(Failure::Message(StatusCode::BAD_REQUEST, "Reset password isn't enabled"))
}

impl Endpoint for RequestReset {
    type Input = String;
    const SPEC: Spec = Spec::post(
        "/email-otp/request-password-reset",
        Access::Anyone,
        "Mails a code to choose a new password with",
    )
    .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("email")
    }

    async fn run(call: Call, email: String) -> Outcome {
        request(call, &email).await
    }
}

impl Endpoint for ForgetPassword {
    type Input = String;
    const SPEC: Spec = Spec::post(
        "/forget-password/email-otp",
        Access::Anyone,
        "The same as /email-otp/request-password-reset",
    )
    .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("email")
    }

    async fn run(call: Call, email: String) -> Outcome {
        request(call, &email).await
    }
}

pub struct ResetPassword;

pub struct Reset {
    email: String,
    otp: String,
    password: Secret<String>,
}

impl Endpoint for ResetPassword {
    type Input = Reset;
    const SPEC: Spec =
        Spec::post("/email-otp/reset-password", Access::Anyone, "Sets a new password with a mailed code")
            .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> Reset {
        fields.need_object();
        Reset {
            email: fields.text("email"),
            otp: fields.text("otp"),
            password: Secret::new(fields.text("password")),
        }
    }

    async fn run(call: Call, input: Reset) -> Outcome {
        enabled(&call)?;
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        judge(&call.app.settings.email_password, input.password.expose())?;
        let (app, now) = (call.app.clone(), call.now);
        // Looked at first, so that guessed codes cost no hashing.
        let (subject, otp) = (email.clone(), input.otp.clone());
        let tried = call
            .app
            .store
            .write(move |tx| try_code(tx, &app, (PURPOSE, subject.as_str()), &otp, Right::Kept, now))
            .await?;
        judged(tried)?;
        let hash = call.app.hasher.hash(input.password).await?;
        let app = call.app.clone();
        let (tried, known) = call
            .app
            .store
            .write(move |tx| {
                let of = (PURPOSE, email.as_str());
                let tried = try_code(tx, &app, of, &input.otp, Right::UsedUp, now)?;
                if tried != Tried::Right {
                    return Ok((tried, false));
                }
                let Some(user) = users::by_email(tx, email.as_str())? else { return Ok((tried, false)) };
                users::take_turn(tx, &user.id)?;
                let current = users::by_id(tx, &user.id)?.filter(|user| user.email == email.as_str());
                let Some(mut user) = current else { return Ok((tried, false)) };
                // The code proves the address as a link to sign in does.
                let welcome = mailbox::claim(tx, &app, &mut user, now)?;
                reset_password::replace(tx, &app, &user, &hash, now)?;
                if let Some(email) = welcome {
                    gate::arrival::welcome(tx, app.ledger.settings(), &app.vault, &user.id, &email, now)?;
                }
                Ok::<_, store::Error>((tried, true))
            })
            .await?;
        judged(tried)?;
        if known { Ok(Reply::json(&json!({ "success": true }))) } else { Err(Code::UserNotFound.into()) }
    }
}
