//! The answers to a challenge: codes of an app, mailed codes, backup codes.
//!
//! Each is judged in one transaction that holds the user's turn, so of any number of answers at once each sees what those
//! before it used up; and each is counted before it is judged.

use super::manage::switch;
use super::pending;
use crate::app::{App, may_mail, promise_mail};
use crate::auth::beginning::{Beginning, Entry, enter};
use crate::auth::cookies::Writer;
use crate::auth::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use crate::auth::error::{Code, Failure};
use crate::auth::fields::Fields;
use crate::auth::json::UserBody;
use crate::settings::Switch;
use identity::attempts::Begun;
use identity::one_time::codes::{self, CodePurpose, Tried};
use identity::second_factor::{self, authenticators, backup_codes, challenges, devices, totp};
use identity::{LiveSession, User, sessions, users};
use kernel::{Millis, Secret, UserId, cookie, random};
use mail::{CodeUse, Message};
use serde::Serialize;
use store::Tx;

pub struct VerifyTotp;
pub struct SendOtp;
pub struct VerifyOtp;
pub struct VerifyBackupCode;

pub struct Input {
    code: Secret<String>,
    trust: bool,
    /// Only tells whether the code is right.
    no_session: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Factor {
    App,
    Mailed,
    Backup,
}

/// Who answers.
#[derive(Clone)]
enum Answerer {
    SignedIn(Box<LiveSession>),
    /// A sign-in that waits; what its browser was given.
    Waiting(String),
}

/// What became of an answer.
enum Answered {
    /// The sign-in is done; a trusted device keeps something.
    In {
        live: Box<LiveSession>,
        device: Option<String>,
    },
    /// Right, of somebody who was signed in or wanted no session.
    Right {
        token: Option<String>,
        user: Box<User>,
    },
    /// The first right one: from now on it is asked for, and the session has another token.
    SwitchedOn {
        before: Box<LiveSession>,
        live: Box<LiveSession>,
    },
    Wrong,
    /// There is nothing of this kind to answer.
    NotSetUp,
    /// No code was mailed, or too long ago.
    NoCode,
    TooMany,
    /// The sign-in waits no more.
    Over,
    /// The session of whoever was signed in is over.
    SignedOut,
    Locked(Millis),
    Banned,
}

enum Verdict {
    Right,
    Wrong,
    NoCode,
    TooMany,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    user: UserBody<'a>,
}

impl Answerer {
    fn of(call: &Call) -> Result<Answerer, Failure> {
        if let Some(live) = &call.session {
            return Ok(Answerer::SignedIn(Box::new(live.clone())));
        }
        let found = cookie::first(call.cookie_lines(), &call.names.two_factor);
        let challenge = found.and_then(|value| call.app.signer.open(value));
        challenge
            .map(|value| Answerer::Waiting(value.into_owned()))
            .ok_or(Code::InvalidTwoFactorCookie.into())
    }

    /// Whose mailed code it is: that of one sign-in, or of one session.
    fn subject(&self, app: &App) -> String {
        match self {
            Answerer::SignedIn(live) => format!("{}!{}", live.user.id, live.session.id),
            Answerer::Waiting(challenge) => app.vault.hash("second factor code", challenge),
        }
    }
}

fn read(fields: &mut Fields) -> Input {
    fields.need_object();
    Input {
        code: Secret::new(fields.text("code")),
        trust: fields.maybe_flag("trustDevice").unwrap_or(false),
        no_session: false,
    }
}

const fn spec(path: &'static str, summary: &'static str) -> Spec {
    Spec::post(path, Access::MaybeSignedIn, summary).of(Switch::TwoFactor)
}

impl Endpoint for VerifyTotp {
    type Input = Input;
    const SPEC: Spec = spec("/two-factor/verify-totp", "Answers with a code of the authenticator app");

    fn read(fields: &mut Fields) -> Input {
        read(fields)
    }

    async fn run(call: Call, input: Input) -> Outcome {
        verify(call, input, Factor::App).await
    }
}

impl Endpoint for VerifyOtp {
    type Input = Input;
    const SPEC: Spec = spec("/two-factor/verify-otp", "Answers with a mailed code");

    fn read(fields: &mut Fields) -> Input {
        read(fields)
    }

    async fn run(call: Call, input: Input) -> Outcome {
        verify(call, input, Factor::Mailed).await
    }
}

impl Endpoint for VerifyBackupCode {
    type Input = Input;
    const SPEC: Spec = spec("/two-factor/verify-backup-code", "Answers with a backup code, which is used up");

    fn read(fields: &mut Fields) -> Input {
        let input = read(fields);
        Input { no_session: fields.maybe_flag("disableSession").unwrap_or(false), ..input }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        verify(call, input, Factor::Backup).await
    }
}

impl Endpoint for SendOtp {
    type Input = ();
    const SPEC: Spec = spec("/two-factor/send-otp", "Mails a code that answers");

    fn read(fields: &mut Fields) {
        fields.maybe_object();
        fields.maybe_flag("trustDevice");
    }

    async fn run(call: Call, (): ()) -> Outcome {
        if !call.app.settings.sends_mail {
            return Err(Code::OtpNotConfigured.into());
        }
        let answerer = Answerer::of(&call)?;
        let (app, now) = (call.app.clone(), call.now);
        let sent = call.app.store.write(move |tx| send(tx, &app, &answerer, now)).await?;
        call.app.outbox.wake();
        match sent {
            Sent::Done => Ok(Reply::json(&serde_json::json!({ "status": true }))),
            Sent::Over => Err(Code::InvalidTwoFactorCookie.into()),
            Sent::TooMany => Err(Failure::TooMany { seconds: MAILS_AGAIN }),
        }
    }
}

/// Mails to one mailbox are counted by the hour.
const MAILS_AGAIN: i64 = 3_600;

enum Sent {
    Done,
    /// The sign-in waits no more.
    Over,
    TooMany,
}

fn send(tx: &mut Tx<'_>, app: &App, answerer: &Answerer, now: Millis) -> Result<Sent, store::Error> {
    let user = match answerer {
        Answerer::SignedIn(live) => live.user.clone(),
        Answerer::Waiting(challenge) => {
            let Some(id) = challenges::find(tx, &app.vault, challenge, now)? else { return Ok(Sent::Over) };
            let Some(user) = users::by_id(tx, &id)? else { return Ok(Sent::Over) };
            user
        }
    };
    if !may_mail(tx, app, &user.email, "second-factor-code", now)? {
        return Ok(Sent::TooMany);
    }
    let subject = answerer.subject(app);
    let code = codes::issue(tx, &app.vault, CodePurpose::SecondFactor, &subject, now, &mut random::secure())?;
    let message = Message::Code { code: mail::Code::new(code), purpose: CodeUse::SecondFactor };
    promise_mail(tx, app, &user.email, &user.name, &message, now)?;
    Ok(Sent::Done)
}

async fn verify(call: Call, input: Input, factor: Factor) -> Outcome {
    let answerer = Answerer::of(&call)?;
    let beginning = Beginning::of(&call, Some(!call.presented.dont_remember));
    let (app, now) = (call.app.clone(), call.now);
    let answered = call
        .app
        .store
        .write(move |tx| {
            let answer = Answer { app: &app, factor, input: &input, subject: answerer.subject(&app), now };
            match &answerer {
                Answerer::SignedIn(live) => answer.of_session(tx, live),
                Answerer::Waiting(challenge) => answer.of_sign_in(tx, challenge, &beginning),
            }
        })
        .await?;
    reply(&call, factor, answered)
}

/// One answer, while it is judged.
struct Answer<'a> {
    app: &'a App,
    factor: Factor,
    input: &'a Input,
    /// Of mailed codes.
    subject: String,
    now: Millis,
}

impl Answer<'_> {
    fn of_sign_in(
        &self,
        tx: &mut Tx<'_>,
        challenge: &str,
        beginning: &Beginning,
    ) -> Result<Answered, store::Error> {
        let (app, now) = (self.app, self.now);
        let Some(id) = challenges::find(tx, &app.vault, challenge, now)? else { return Ok(Answered::Over) };
        let user = match enter(tx, &id, now)? {
            Entry::Open(user) => user,
            Entry::Banned => return Ok(Answered::Banned),
            Entry::Gone => return Ok(Answered::Over),
        };
        // Read again: while this one waited for its turn, another answer may have been the right one.
        if challenges::find(tx, &app.vault, challenge, now)?.is_none() {
            return Ok(Answered::Over);
        }
        let authenticator = authenticators::find(tx, &app.vault, &id)?;
        let is_set_up = match self.factor {
            Factor::App => authenticator.as_ref().is_some_and(|found| found.verified),
            Factor::Backup => authenticator.is_some(),
            Factor::Mailed => true,
        };
        if !is_set_up {
            return Ok(Answered::NotSetUp);
        }
        if let Begun::Refused { retry_at } = second_factor::begin_attempt(tx, &app.vault, &id, now)? {
            return Ok(Answered::Locked(retry_at));
        }
        // A mailed code counts its own.
        if self.factor != Factor::Mailed && !challenges::take_try(tx, &app.vault, challenge, now)? {
            second_factor::attempt_was_none(tx, &app.vault, &id)?;
            return Ok(Answered::TooMany);
        }
        match self.judge(tx, &id, authenticator.map(|found| found.secret))? {
            Verdict::Right => {}
            refused => return self.refuse(tx, &id, refused),
        }
        second_factor::attempt_succeeded(tx, &app.vault, &id)?;
        if self.input.no_session {
            return Ok(Answered::Right { token: None, user: Box::new(user) });
        }
        if !challenges::close(tx, &app.vault, challenge, now)? {
            return Ok(Answered::Over);
        }
        let device = match self.input.trust {
            true => Some(devices::trust(tx, &app.vault, &id, now, &mut random::secure())?),
            false => None,
        };
        let live = Box::new(beginning.begin(tx, app, user, None, now)?);
        Ok(Answered::In { live, device })
    }

    fn of_session(&self, tx: &mut Tx<'_>, live: &LiveSession) -> Result<Answered, store::Error> {
        let (app, now, id) = (self.app, self.now, &live.user.id);
        users::take_turn(tx, id)?;
        // Read again: it may have been ended, or the second factor switched, since the request began.
        let Some(live) = sessions::find_live(tx, &app.vault, &live.token, now)? else {
            return Ok(Answered::SignedOut);
        };
        let authenticator = authenticators::find(tx, &app.vault, id)?;
        match (self.factor, authenticator) {
            (Factor::App | Factor::Backup, None) => Ok(Answered::NotSetUp),
            (Factor::App, Some(found)) if !found.verified => {
                // Whoever has the session can read the secret: there is nothing to guess. Nor is the step used up, so that the
                // same code may sign in at once.
                if totp::matching_step(&found.secret, self.input.code.expose(), now).is_none() {
                    return Ok(Answered::Wrong);
                }
                let answered = self.switch_on(tx, live)?;
                if !matches!(answered, Answered::SignedOut) {
                    authenticators::prove(tx, id)?;
                }
                Ok(answered)
            }
            (_, authenticator) => {
                if let Begun::Refused { retry_at } = second_factor::begin_attempt(tx, &app.vault, id, now)? {
                    return Ok(Answered::Locked(retry_at));
                }
                match self.judge(tx, id, authenticator.map(|found| found.secret))? {
                    Verdict::Right => {}
                    refused => return self.refuse(tx, id, refused),
                }
                second_factor::attempt_succeeded(tx, &app.vault, id)?;
                if self.factor == Factor::Mailed { self.switch_on(tx, live) } else { Ok(right(live)) }
            }
        }
    }

    /// Whether the answer is right; what works once is used up.
    fn judge(
        &self,
        tx: &mut Tx<'_>,
        user: &UserId,
        secret: Option<Secret<String>>,
    ) -> Result<Verdict, store::Error> {
        let (vault, now, code) = (&self.app.vault, self.now, self.input.code.expose());
        let good = match self.factor {
            Factor::App => {
                let step = secret.and_then(|secret| totp::matching_step(&secret, code, now));
                step.map_or(Ok(false), |step| authenticators::use_step(tx, user, step))?
            }
            Factor::Backup => backup_codes::consume(tx, vault, user, code, now)?,
            Factor::Mailed => {
                match codes::consume(tx, vault, CodePurpose::SecondFactor, &self.subject, code, now)? {
                    Tried::Right => true,
                    Tried::Wrong => false,
                    Tried::TooMany => return Ok(Verdict::TooMany),
                    Tried::Expired | Tried::Unknown => return Ok(Verdict::NoCode),
                }
            }
        };
        Ok(if good { Verdict::Right } else { Verdict::Wrong })
    }

    fn refuse(&self, tx: &mut Tx<'_>, user: &UserId, verdict: Verdict) -> Result<Answered, store::Error> {
        let answered = match verdict {
            Verdict::Right | Verdict::Wrong => return Ok(Answered::Wrong),
            Verdict::NoCode => Answered::NoCode,
            Verdict::TooMany => Answered::TooMany,
        };
        second_factor::attempt_was_none(tx, &self.app.vault, user)?;
        Ok(answered)
    }

    /// From now on a second factor is asked for. Where it was not, the session gets another token.
    fn switch_on(&self, tx: &mut Tx<'_>, live: LiveSession) -> Result<Answered, store::Error> {
        if live.user.two_factor_enabled {
            return Ok(right(live));
        }
        Ok(match switch(tx, self.app, &live, true, self.now)? {
            Some(renewed) => Answered::SwitchedOn { before: Box::new(live), live: Box::new(renewed) },
            None => Answered::SignedOut,
        })
    }
}

fn right(live: LiveSession) -> Answered {
    Answered::Right { token: Some(live.token), user: Box::new(live.user) }
}

fn reply(call: &Call, factor: Factor, answered: Answered) -> Outcome {
    let body = |token: Option<&str>, user: &User| Reply::json(&Body { token, user: user.into() });
    let code = match answered {
        Answered::In { live, device } => {
            let mut writer = Writer::new(&call.app, &call.names);
            writer.clear(&call.names.two_factor);
            // A trusted device is one to be remembered; but a session that is not to be stays so.
            if device.is_some() && !call.presented.dont_remember {
                writer.clear(&call.names.dont_remember);
            }
            let reply = body(Some(&live.token), &live.user).cookies(writer.lines);
            let reply = reply.cookies(pending::trusted(call, device.as_deref()));
            return Ok(reply.grant(Grant::renew(&live)).forget_guest(call));
        }
        Answered::Right { token, user } => return Ok(body(token.as_deref(), &user)),
        // The original answers the first code of an app with what was before; its clients ask for the session anew.
        Answered::SwitchedOn { before, live } => {
            let shown = if factor == Factor::App { &before } else { &live };
            return Ok(body(Some(&shown.token), &shown.user).grant(Grant::renew(&live)));
        }
        Answered::Locked(retry_at) => return Err(Failure::FactorLocked { retry_at, now: call.now }),
        Answered::TooMany if factor != Factor::Mailed => {
            let mut writer = Writer::new(&call.app, &call.names);
            writer.clear(&call.names.two_factor);
            return Ok(Failure::from(Code::TooManyCodes).into_reply().cookies(writer.lines));
        }
        Answered::TooMany => Code::TooManyCodes,
        Answered::Wrong if factor == Factor::Backup => Code::WrongBackup,
        Answered::Wrong => Code::WrongAnswer,
        Answered::NotSetUp if factor == Factor::Backup => Code::BackupCodesNotEnabled,
        Answered::NotSetUp => Code::TotpNotEnabled,
        Answered::NoCode => Code::FactorCodeExpired,
        Answered::Over => Code::InvalidTwoFactorCookie,
        Answered::SignedOut => Code::Unauthorized,
        Answered::Banned => Code::BannedUser,
    };
    Err(code.into())
}
