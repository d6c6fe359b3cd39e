//! Setting the second factor up and taking it away. Each asks for the password, which a stolen session does not know.

use crate::app::App;
use crate::auth::cookies::Writer;
use crate::auth::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use crate::auth::error::{Code, Failure};
use crate::auth::fields::Fields;
use crate::auth::password::prove;
use crate::settings::Switch;
use identity::second_factor::{self, authenticators, backup_codes, totp};
use identity::{LiveSession, sessions, users};
use kernel::{Millis, Secret, cookie, random};
use serde::Serialize;
use serde_json::json;
use store::Tx;

pub struct Enable;
pub struct Disable;
pub struct GenerateBackupCodes;
pub struct GetTotpUri;

pub struct Input {
    password: Secret<String>,
    method: Option<String>,
    issuer: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SetUp<'a> {
    method: &'static str,
    #[serde(rename = "totpURI")]
    uri: &'a str,
    backup_codes: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewCodes<'a> {
    status: bool,
    backup_codes: &'a [String],
}

const METHODS: [&str; 2] = ["otp", "totp"];

const fn spec(path: &'static str, summary: &'static str) -> Spec {
    Spec::post(path, Access::SignedIn, summary).of(Switch::TwoFactor)
}

fn read_password(fields: &mut Fields) -> Secret<String> {
    fields.need_object();
    Secret::new(fields.text("password"))
}

/// For a user without a password every one is wrong.
async fn prove_password(call: &Call, password: Secret<String>) -> Result<(), Failure> {
    match prove(call, password, Code::InvalidPassword).await {
        Err(Failure::Code(Code::CredentialAccountNotFound)) => Err(Code::InvalidPassword.into()),
        proven => proven.map(|_| ()),
    }
}

/// Switches the second factor, in the user's turn. The session goes on under another token; `None` when it was ended
/// meanwhile, and nothing is switched.
pub fn switch(
    tx: &mut Tx<'_>,
    app: &App,
    live: &LiveSession,
    on: bool,
    now: Millis,
) -> Result<Option<LiveSession>, store::Error> {
    let (lifetime, rng) = (app.settings.session.expires_in, &mut random::secure());
    let Some(mut renewed) = sessions::renew_token(tx, &app.vault, live, lifetime, now, rng)? else {
        return Ok(None);
    };
    match on {
        true => second_factor::switch_on(tx, &live.user.id, now)?,
        false => second_factor::switch_off(tx, &live.user.id, now)?,
    }
    if let Some(user) = users::by_id(tx, &live.user.id)? {
        renewed.user = user;
    }
    Ok(Some(renewed))
}

impl Endpoint for Enable {
    type Input = Input;
    const SPEC: Spec = spec("/two-factor/enable", "Sets up an authenticator app, or asks for mailed codes");

    fn read(fields: &mut Fields) -> Input {
        let password = read_password(fields);
        let method = fields.maybe_text("method");
        if method.as_deref().is_some_and(|method| !METHODS.contains(&method)) {
            fields.problem("method", "Invalid option: expected one of \"otp\"|\"totp\"");
        }
        Input { password, method, issuer: fields.maybe_text("issuer") }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        prove_password(&call, input.password).await?;
        if input.method.as_deref() == Some("otp") {
            return by_mail(&call).await;
        }
        let live = call.signed_in()?.clone();
        let (app, now, user) = (call.app.clone(), call.now, live.user.id.clone());
        let made = call
            .app
            .store
            .write(move |tx| {
                users::take_turn(tx, &user)?;
                let rng = &mut random::secure();
                let Some(secret) = authenticators::set_up(tx, &app.vault, &user, now, rng)? else {
                    return Ok::<_, store::Error>(None);
                };
                Ok(Some((secret, backup_codes::replace(tx, &app.vault, &user, now, rng)?)))
            })
            .await?;
        let (secret, codes) = made.ok_or(Code::TotpAlreadyEnabled)?;
        let issuer = input.issuer.filter(|issuer| !issuer.is_empty());
        let issuer = issuer.as_deref().unwrap_or(&call.app.settings.app_name);
        let uri = totp::uri(&secret, issuer, &live.user.email);
        Ok(Reply::json(&SetUp { method: "totp", uri: &uri, backup_codes: &codes }))
    }
}

/// Mailed codes need no setting up.
async fn by_mail(call: &Call) -> Outcome {
    if !call.app.settings.sends_mail {
        return Err(Code::OtpNotConfigured.into());
    }
    let live = switch_own(call, true).await?;
    Ok(Reply::json(&json!({ "method": "otp" })).grant(Grant::renew(&live)))
}

/// Switches the caller's own.
async fn switch_own(call: &Call, on: bool) -> Result<LiveSession, Failure> {
    let (app, now, live) = (call.app.clone(), call.now, call.signed_in()?.clone());
    let renewed = call
        .app
        .store
        .write(move |tx| {
            users::take_turn(tx, &live.user.id)?;
            match sessions::find_live(tx, &app.vault, &live.token, now)? {
                Some(live) => switch(tx, &app, &live, on, now),
                None => Ok(None),
            }
        })
        .await?;
    renewed.ok_or(Code::Unauthorized.into())
}

impl Endpoint for Disable {
    type Input = Secret<String>;
    const SPEC: Spec = spec("/two-factor/disable", "Asks for no second factor any more");

    fn read(fields: &mut Fields) -> Secret<String> {
        read_password(fields)
    }

    async fn run(call: Call, password: Secret<String>) -> Outcome {
        prove_password(&call, password).await?;
        let live = switch_own(&call, false).await?;
        let mut writer = Writer::new(&call.app, &call.names);
        if cookie::first(call.cookie_lines(), &call.names.trust_device).is_some() {
            writer.clear(&call.names.trust_device);
        }
        let reply = Reply::json(&json!({ "status": true })).cookies(writer.lines);
        Ok(reply.grant(Grant::renew(&live)))
    }
}

impl Endpoint for GenerateBackupCodes {
    type Input = Secret<String>;
    const SPEC: Spec =
        spec("/two-factor/generate-backup-codes", "Makes new backup codes, which replace the old ones");

    fn read(fields: &mut Fields) -> Secret<String> {
        read_password(fields)
    }

    async fn run(call: Call, password: Secret<String>) -> Outcome {
        let user = call.signed_in()?.user.clone();
        if !user.two_factor_enabled {
            return Err(Code::TwoFactorNotEnabled.into());
        }
        prove_password(&call, password).await?;
        let (app, now) = (call.app.clone(), call.now);
        let made = call
            .app
            .store
            .write(move |tx| {
                users::take_turn(tx, &user.id)?;
                if authenticators::find(tx, &app.vault, &user.id)?.is_none() {
                    return Ok::<_, store::Error>(None);
                }
                backup_codes::replace(tx, &app.vault, &user.id, now, &mut random::secure()).map(Some)
            })
            .await?;
        let codes = made.ok_or(Code::TwoFactorNotEnabled)?;
        Ok(Reply::json(&NewCodes { status: true, backup_codes: &codes }))
    }
}

impl Endpoint for GetTotpUri {
    type Input = Secret<String>;
    const SPEC: Spec = spec("/two-factor/get-totp-uri", "Shows what the authenticator app was set up with");

    fn read(fields: &mut Fields) -> Secret<String> {
        read_password(fields)
    }

    async fn run(call: Call, password: Secret<String>) -> Outcome {
        let user = call.signed_in()?.user.clone();
        let (vault, id) = (call.app.vault.clone(), user.id.clone());
        let found = call.app.store.read(move |tx| authenticators::find(tx, &vault, &id)).await?;
        let found = found.ok_or(Code::TotpNotEnabled)?;
        prove_password(&call, password).await?;
        let uri = totp::uri(&found.secret, &call.app.settings.app_name, &user.email);
        Ok(Reply::json(&json!({ "totpURI": uri })))
    }
}
