//! Signing in with a passkey. It is something one has and, on most devices, something one is: no second factor is asked.

use super::{Known, TIMEOUT, begin, judge, ticket, with_ticket};
use crate::auth::beginning::{Beginning, Entry, enter};
use crate::auth::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use crate::auth::error::{Code, Failure};
use crate::auth::fields::Fields;
use crate::auth::json::{Both, SessionBody};
use crate::settings::Switch;
use identity::LiveSession;
use identity::passkeys::webauthn::{self, Refused};
use identity::passkeys::{self, Ceremony, Challenge, Passkey};
use serde::Serialize;
use serde_json::Value;

pub struct AuthenticateOptions;
pub struct VerifyAuthentication;

/// `PublicKeyCredentialRequestOptionsJSON` of Web Authentication.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    rp_id: &'a str,
    challenge: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow_credentials: Vec<Known<'a>>,
    timeout: i64,
    user_verification: &'static str,
}

/// What became of a sign-in.
enum Admitted {
    In(Box<LiveSession>),
    Banned,
    /// The key has no user, or its counter went back.
    Refused,
}

impl Endpoint for AuthenticateOptions {
    type Input = ();
    const SPEC: Spec = Spec::get(
        "/passkey/generate-authenticate-options",
        Access::MaybeSignedIn,
        "What a browser signs in from",
    )
    .of(Switch::Passkey);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let (begun, known) = begin(&call, Ceremony::Authentication, call.session.as_ref()).await?;
        let options = Options {
            rp_id: &call.app.settings.passkey.rp_id,
            challenge: &begun.challenge,
            allow_credentials: known.iter().map(Known::from).collect(),
            timeout: TIMEOUT,
            user_verification: "preferred",
        };
        Ok(with_ticket(&call, Reply::json(&options), &begun))
    }
}

impl Endpoint for VerifyAuthentication {
    type Input = Value;
    const SPEC: Spec =
        Spec::post("/passkey/verify-authentication", Access::Anyone, "Opens a session with a passkey")
            .of(Switch::Passkey);

    fn read(fields: &mut Fields) -> Value {
        fields.need_object();
        fields.record("response")
    }

    async fn run(call: Call, response: Value) -> Outcome {
        let (challenge, passkey) = answered(&call, &response).await?;
        let key = passkey.key().ok_or(Code::PasskeyRefused)?;
        let used = judge(&call.app, &challenge, |expected| {
            webauthn::authenticate(expected, &response, &key, passkey.counter)
        });
        let used = used.map_err(|reason| {
            tracing::info!(%reason, "a passkey was refused");
            if reason == Refused::Signature { Code::PasskeyNotSigned } else { Code::PasskeyRefused }
        })?;
        let beginning = Beginning::of(&call, None);
        let (app, now) = (call.app.clone(), call.now);
        let admitted = call
            .app
            .store
            .write(move |tx| {
                let user = match enter(tx, &passkey.user_id, now)? {
                    Entry::Open(user) => user,
                    Entry::Banned => return Ok::<_, store::Error>(Admitted::Banned),
                    Entry::Gone => return Ok(Admitted::Refused),
                };
                if !passkeys::note_use(tx, &passkey, used)? {
                    return Ok(Admitted::Refused);
                }
                Ok(Admitted::In(Box::new(beginning.begin(tx, &app, user, None, now)?)))
            })
            .await?;
        match admitted {
            Admitted::In(live) => Ok(answer(&call, &live)),
            Admitted::Banned => Err(Code::BannedUser.into()),
            Admitted::Refused => Err(Code::PasskeyRefused.into()),
        }
    }
}

/// Uses the challenge up and finds the key that the answer names.
async fn answered(call: &Call, response: &Value) -> Result<(Challenge, Passkey), Failure> {
    let ticket = ticket(call)?;
    let named = webauthn::credential_id(response).unwrap_or_default().to_owned();
    let (app, now) = (call.app.clone(), call.now);
    let (challenge, passkey) = call
        .app
        .store
        .write(move |tx| {
            let challenge = passkeys::end(tx, &app.vault, Ceremony::Authentication, &ticket, now)?;
            Ok::<_, store::Error>((challenge, passkeys::by_credential(tx, &named)?))
        })
        .await?;
    let challenge = challenge.ok_or(Code::ChallengeNotFound)?;
    Ok((challenge, passkey.ok_or(Code::PasskeyUnknown)?))
}

fn answer(call: &Call, live: &LiveSession) -> Reply {
    let body = Both {
        session: SessionBody::new(live.session.view(), &live.token),
        user: (&live.user).into(),
        needs_refresh: None,
    };
    let grant = Grant { method: Some("passkey"), ..Grant::renew(live) };
    Reply::json(&body).grant(grant).forget_guest(call)
}
