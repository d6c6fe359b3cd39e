//! One's own password: change it, prove it.

use super::beginning::Beginning;
use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::UserBody;
use crate::settings::EmailPasswordSettings;
use gate::departure::{Revocation, tell_revoked};
use identity::attempts::{self, Begun};
use identity::one_time::{self, Purpose};
use identity::passwords::{Policy, Weakness};
use identity::users::{self, Standing};
use identity::{LiveSession, accounts, sessions};
use kernel::Secret;
use serde::Serialize;

pub struct ChangePassword;
pub struct VerifyPassword;

pub struct Change {
    current: Secret<String>,
    new: Secret<String>,
    revoke_others: bool,
}

#[derive(Serialize)]
struct Changed<'a> {
    token: Option<&'a str>,
    user: UserBody<'a>,
}

/// Refuses passwords that are too short, too long, or the first that guessers try.
pub fn judge(settings: &EmailPasswordSettings, password: &str) -> Result<(), Failure> {
    let policy = Policy {
        min_length: settings.min_length,
        max_length: settings.max_length,
        refuse_common: settings.refuse_common,
    };
    policy.judge(password).map_err(|weakness| match weakness {
        Weakness::TooShort => Code::PasswordTooShort.into(),
        Weakness::TooLong => Code::PasswordTooLong.into(),
        Weakness::Common => Code::PasswordCompromised.into(),
    })
}

/// Checks the signed-in user's password and gives its stored hash. Guessing here is counted with guessing at the
/// sign-in, so that a stolen session is no way around that count.
pub async fn prove(call: &Call, password: Secret<String>, wrong: Code) -> Result<String, Failure> {
    // No password is longer, so none that long is worth hashing.
    if password.expose().encode_utf16().count() > call.app.settings.email_password.max_length {
        return Err(Code::PasswordTooLong.into());
    }
    let user = &call.signed_in()?.user;
    let turn = call.app.hasher.turn(&user.email).await?;
    let (app, id, email, now) = (call.app.clone(), user.id.clone(), user.email.clone(), call.now);
    let (begun, hash) = call
        .app
        .store
        .write(move |tx| {
            let hash = accounts::password_hash(tx, &id)?;
            Ok::<_, store::Error>((attempts::begin(tx, &app.vault, &email, now)?, hash))
        })
        .await?;
    if let Begun::Refused { retry_at } = begun {
        return Err(Failure::Locked { retry_at, now });
    }
    let hash = hash.ok_or(Code::CredentialAccountNotFound)?;
    if !call.app.hasher.check(&turn, password, Some(hash.clone())).await?.matches {
        return Err(wrong.into());
    }
    let (vault, email) = (call.app.vault.clone(), user.email.clone());
    call.app.store.write(move |tx| attempts::succeed(tx, &vault, &email)).await?;
    Ok(hash)
}

impl Endpoint for ChangePassword {
    type Input = Change;
    const SPEC: Spec = Spec::post("/change-password", Access::SignedIn, "Changes one's own password");

    fn read(fields: &mut Fields) -> Change {
        fields.need_object();
        Change {
            new: Secret::new(fields.text("newPassword")),
            current: Secret::new(fields.text("currentPassword")),
            revoke_others: fields.maybe_flag("revokeOtherSessions").unwrap_or(false),
        }
    }

    async fn run(call: Call, input: Change) -> Outcome {
        judge(&call.app.settings.email_password, input.new.expose())?;
        let old = prove(&call, input.current, Code::InvalidPassword).await?;
        let new = call.app.hasher.hash(input.new).await?;
        let live = call.signed_in()?.clone();
        let beginning = Beginning::of(&call, None);
        let (app, now, user, revoke) = (call.app.clone(), call.now, live.user.clone(), input.revoke_others);
        // Links to choose a new password, or to move the account elsewhere, die with the old one.
        let changed: Option<Option<LiveSession>> = call
            .app
            .store
            .write(move |tx| {
                users::take_turn(tx, &user.id)?;
                // The user may have been banned or deleted while the password was hashed.
                let current =
                    users::by_id(tx, &user.id)?.filter(|user| user.standing(now) != Standing::Banned);
                let Some(user) = current else { return Ok::<_, store::Error>(None) };
                if !accounts::replace_password(tx, &user.id, &old, &new, now)? {
                    return Ok(None);
                }
                for purpose in [Purpose::ResetPassword, Purpose::ChangeEmail] {
                    one_time::supersede(tx, user.id.as_str(), purpose)?;
                }
                if !revoke {
                    return Ok(Some(None));
                }
                let ended = sessions::revoke_all(tx, &user.id)?;
                tell_revoked(tx, &user.id, &ended, Revocation::PasswordChanged, now)?;
                Ok(Some(Some(beginning.begin(tx, &app, user, None, now)?)))
            })
            .await?;
        // Somebody else changed it between the check and now: the password that was proven is no longer the one.
        let renewed = changed.ok_or(Code::InvalidPassword)?;
        let reply = Reply::json(&Changed {
            token: renewed.as_ref().map(|live| live.token.as_str()),
            user: (&live.user).into(),
        });
        Ok(match &renewed {
            Some(live) => reply.grant(Grant::renew(live)).forget_guest(&call),
            None => reply,
        })
    }
}

impl Endpoint for VerifyPassword {
    type Input = Secret<String>;
    const SPEC: Spec =
        Spec::post("/verify-password", Access::SignedIn, "Tells whether a password is one's own");

    fn read(fields: &mut Fields) -> Secret<String> {
        fields.need_object();
        Secret::new(fields.text("password"))
    }

    async fn run(call: Call, password: Secret<String>) -> Outcome {
        prove(&call, password, Code::InvalidPassword).await?;
        Ok(Reply::json(&serde_json::json!({ "status": true })))
    }
}
