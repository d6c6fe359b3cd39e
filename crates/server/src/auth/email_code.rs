//! Codes of six digits that are mailed: to sign in, to prove an address, to choose a new password, to change the address.

mod change;
mod reset;

pub use change::{ChangeEmail, RequestEmailChange};
pub use reset::{ForgetPassword, RequestReset, ResetPassword};

use super::beginning::{Beginning, Entry, enter};
use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::UserBody;
use super::mailbox::{self, CameIn, Newcomer};
use super::sign_up::REFUSED_FIELDS;
use crate::app::{App, may_mail, promise_mail};
use crate::settings::Switch;
use http::StatusCode;
use identity::one_time::codes::{self, CodePurpose, Tried};
use identity::{EmailAddress, LiveSession, User, attempts, users};
use kernel::{Millis, random};
use mail::{CodeUse, Message};
use serde::Serialize;
use serde_json::json;
use store::Tx;

/// What codes can be asked for by their name; the last one has a route of its own.
const TYPES: [&str; 4] = ["email-verification", "sign-in", "forget-password", "change-email"];

fn code_type(fields: &mut Fields) -> String {
    let kind = fields.text("type");
    if fields.is_text("type") && !TYPES.contains(&kind.as_str()) {
        fields.problem("type", &format!("Invalid option: expected one of \"{}\"", TYPES.join("\"|\"")));
    }
    kind
}

/// `None` for a change of address, whose codes are bound to a user.
fn purpose_of(kind: &str) -> Option<CodePurpose> {
    match kind {
        "email-verification" => Some(CodePurpose::VerifyEmail),
        "sign-in" => Some(CodePurpose::SignIn),
        "forget-password" => Some(CodePurpose::ResetPassword),
        _ => None,
    }
}

fn mailed_as(purpose: CodePurpose) -> CodeUse {
    match purpose {
        CodePurpose::SignIn => CodeUse::SignIn,
        CodePurpose::VerifyEmail => CodeUse::VerifyEmail,
        CodePurpose::ResetPassword => CodeUse::ResetPassword,
        CodePurpose::ChangeEmail => CodeUse::ChangeEmail,
        CodePurpose::SecondFactor => CodeUse::SecondFactor,
    }
}

/// Who gets a code.
struct Recipient<'a> {
    email: &'a str,
    /// How the mail greets; `None`: nobody is to have a code, and it looks as if somebody had.
    name: Option<&'a str>,
    /// What the code is bound to.
    subject: &'a str,
}

/// Mails a code, or does as much work for somebody who gets none. Past the limits of mails and of wrong codes the last one
/// stays.
fn send(
    tx: &mut Tx<'_>,
    app: &App,
    purpose: CodePurpose,
    to: Recipient<'_>,
    now: Millis,
) -> Result<(), store::Error> {
    let (mailed, rng) = (mailed_as(purpose), &mut random::secure());
    let spent = attempts::codes_are_spent(tx, &app.vault, to.subject, now)?;
    if !may_mail(tx, app, to.email, mailed.name(), now)? || spent {
        return mail::pretend(tx, &app.vault, "code", now, rng);
    }
    let Some(name) = to.name else {
        codes::pretend(tx, &app.vault, purpose, to.subject, now, rng)?;
        return mail::pretend(tx, &app.vault, "code", now, rng);
    };
    let code = mail::Code::new(codes::issue(tx, &app.vault, purpose, to.subject, now, rng)?);
    promise_mail(tx, app, to.email, name, &Message::Code { code, purpose: mailed }, now)
}

/// What a try does with a code that is right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    UsedUp,
    Kept,
}

/// Tries a code; a wrong one counts for the code and for the day.
fn try_code(
    tx: &mut Tx<'_>,
    app: &App,
    (purpose, subject): (CodePurpose, &str),
    code: &str,
    right: Right,
    now: Millis,
) -> Result<Tried, store::Error> {
    let tried = match right {
        Right::UsedUp => codes::consume(tx, &app.vault, purpose, subject, code, now)?,
        Right::Kept => codes::look(tx, &app.vault, purpose, subject, code, now)?,
    };
    if matches!(tried, Tried::Wrong | Tried::TooMany) {
        attempts::count_wrong_code(tx, &app.vault, subject, now)?;
    }
    Ok(tried)
}

fn judged(tried: Tried) -> Result<(), Failure> {
    match tried {
        Tried::Right => Ok(()),
        Tried::Wrong | Tried::Unknown => Err(Code::InvalidOtp.into()),
        Tried::Expired => Err(Code::OtpExpired.into()),
        Tried::TooMany => Err(Failure::Coded {
            status: StatusCode::FORBIDDEN,
            code: "TOO_MANY_ATTEMPTS",
            message: "Too many attempts",
        }),
    }
}

pub struct SendVerificationOtp;

pub struct Asked {
    email: String,
    kind: String,
}

impl Endpoint for SendVerificationOtp {
    type Input = Asked;
    const SPEC: Spec = Spec {
        signs_in: true,
        ..Spec::post("/email-otp/send-verification-otp", Access::Anyone, "Mails a code").of(Switch::EmailCode)
    };

    fn read(fields: &mut Fields) -> Asked {
        fields.need_object();
        Asked { email: fields.text("email"), kind: code_type(fields) }
    }

    /// The same answer for everybody.
    async fn run(call: Call, input: Asked) -> Outcome {
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        let Some(purpose) = purpose_of(&input.kind) else {
            return Err(Failure::Message(StatusCode::BAD_REQUEST, "Invalid OTP type"));
        };
        ask(&call, purpose, email).await
    }
}

async fn ask(call: &Call, purpose: CodePurpose, email: EmailAddress) -> Outcome {
    let (app, now) = (call.app.clone(), call.now);
    call.app
        .store
        .write(move |tx| {
            let user = users::by_email(tx, email.as_str())?;
            let makes_new = purpose == CodePurpose::SignIn && mailbox::takes_new(&app);
            let name = user.as_ref().map(|user| user.name.as_str()).or(makes_new.then_some(""));
            send(tx, &app, purpose, Recipient { email: email.as_str(), name, subject: email.as_str() }, now)
        })
        .await?;
    call.app.outbox.wake();
    Ok(Reply::json(&json!({ "success": true })))
}

pub struct CheckVerificationOtp;

pub struct Check {
    email: String,
    kind: String,
    otp: String,
}

impl Endpoint for CheckVerificationOtp {
    type Input = Check;
    const SPEC: Spec = Spec::post(
        "/email-otp/check-verification-otp",
        Access::Anyone,
        "Tells whether a code is the right one, without using it up; a wrong one counts",
    )
    .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> Check {
        fields.need_object();
        Check { email: fields.text("email"), kind: code_type(fields), otp: fields.text("otp") }
    }

    async fn run(call: Call, input: Check) -> Outcome {
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        let purpose = purpose_of(&input.kind).ok_or(Code::InvalidOtp)?;
        let (app, now) = (call.app.clone(), call.now);
        let (tried, known) = call
            .app
            .store
            .write(move |tx| {
                let of = (purpose, email.as_str());
                let tried = try_code(tx, &app, of, &input.otp, Right::Kept, now)?;
                Ok::<_, store::Error>((tried, users::by_email(tx, email.as_str())?.is_some()))
            })
            .await?;
        judged(tried)?;
        if known { Ok(Reply::json(&json!({ "success": true }))) } else { Err(Code::UserNotFound.into()) }
    }
}

pub struct VerifyEmailOtp;

pub struct Proof {
    email: String,
    otp: String,
}

#[derive(Serialize)]
struct Verified<'a> {
    status: bool,
    token: Option<&'a str>,
    user: UserBody<'a>,
}

enum Followed {
    Tried(Tried),
    NoUser,
    Proven(Box<User>),
    SignedIn(Box<LiveSession>),
    Banned,
}

impl Endpoint for VerifyEmailOtp {
    type Input = Proof;
    const SPEC: Spec =
        Spec::post("/email-otp/verify-email", Access::Anyone, "Proves an address with a mailed code")
            .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> Proof {
        fields.need_object();
        Proof { email: fields.text("email"), otp: fields.text("otp") }
    }

    async fn run(call: Call, input: Proof) -> Outcome {
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        let (app, now, beginning) = (call.app.clone(), call.now, Beginning::of(&call, None));
        let followed =
            call.app.store.write(move |tx| prove(tx, &app, &beginning, &email, &input.otp, now)).await?;
        match followed {
            Followed::Tried(tried) => judged(tried).and(Err(Code::InvalidOtp.into())),
            Followed::NoUser => Err(Code::UserNotFound.into()),
            Followed::Banned => Err(Code::BannedUser.into()),
            Followed::Proven(user) => {
                Ok(Reply::json(&Verified { status: true, token: None, user: user.as_ref().into() }))
            }
            Followed::SignedIn(live) => {
                let body = Verified { status: true, token: Some(&live.token), user: (&live.user).into() };
                Ok(Reply::json(&body).grant(mailbox::grant(&live, None)).forget_guest(&call))
            }
        }
    }
}

/// Uses the code up and does what it stands for, in one transaction.
fn prove(
    tx: &mut Tx<'_>,
    app: &App,
    beginning: &Beginning,
    email: &EmailAddress,
    code: &str,
    now: Millis,
) -> Result<Followed, store::Error> {
    let of = (CodePurpose::VerifyEmail, email.as_str());
    let tried = try_code(tx, app, of, code, Right::UsedUp, now)?;
    if tried != Tried::Right {
        return Ok(Followed::Tried(tried));
    }
    let Some(mut user) = users::by_email(tx, email.as_str())? else { return Ok(Followed::NoUser) };
    let settings = &app.settings.email_password;
    let mut welcome = None;
    if !user.email_verified && users::verify_email(tx, &user.id, email.as_str(), now)? {
        (user.email_verified, user.updated_at) = (true, now);
        welcome = settings.require_verification.then(|| email.as_str());
    }
    if settings.auto_sign_in_after_verification {
        return Ok(match enter(tx, &user.id, now)? {
            Entry::Open(user) => Followed::SignedIn(Box::new(beginning.begin(tx, app, user, welcome, now)?)),
            Entry::Banned => Followed::Banned,
            Entry::Gone => Followed::NoUser,
        });
    }
    if let Some(email) = welcome {
        gate::arrival::welcome(tx, app.ledger.settings(), &app.vault, &user.id, email, now)?;
    }
    Ok(Followed::Proven(Box::new(user)))
}

pub struct SignInEmailOtp;

pub struct SignIn {
    email: String,
    otp: String,
    newcomer: Newcomer,
}

#[derive(Serialize)]
struct SignedIn<'a> {
    token: &'a str,
    user: UserBody<'a>,
}

impl Endpoint for SignInEmailOtp {
    type Input = SignIn;
    const SPEC: Spec = Spec::post("/sign-in/email-otp", Access::Anyone, "Opens a session with a mailed code")
        .of(Switch::EmailCode);

    fn read(fields: &mut Fields) -> SignIn {
        fields.need_object();
        fields.storable(&["name", "image"]);
        fields.refuse(&REFUSED_FIELDS);
        SignIn {
            email: fields.text("email"),
            otp: fields.text("otp"),
            newcomer: Newcomer {
                name: fields.maybe_text("name").unwrap_or_default(),
                image: fields.maybe_text("image"),
            },
        }
    }

    async fn run(call: Call, input: SignIn) -> Outcome {
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidOtp)?;
        let (app, now, beginning) = (call.app.clone(), call.now, Beginning::of(&call, None));
        let (tried, came_in) = call
            .app
            .store
            .write(move |tx| {
                let of = (CodePurpose::SignIn, email.as_str());
                let tried = try_code(tx, &app, of, &input.otp, Right::UsedUp, now)?;
                if tried != Tried::Right {
                    return Ok((tried, CameIn::Closed));
                }
                let came_in = mailbox::come_in(tx, &app, &beginning, &email, &input.newcomer, now)?;
                Ok::<_, store::Error>((tried, came_in))
            })
            .await?;
        judged(tried)?;
        let live = match came_in {
            CameIn::New(live) | CameIn::Known(live) => live,
            CameIn::Banned => return Err(Code::BannedUser.into()),
            CameIn::Closed => return Err(Code::InvalidOtp.into()),
        };
        let body = SignedIn { token: &live.token, user: (&live.user).into() };
        Ok(Reply::json(&body).grant(mailbox::grant(&live, Some("email-otp"))).forget_guest(&call))
    }
}
