//! A new passkey for whoever is signed in.

use super::{Body, Known, LONGEST_NAME, TIMEOUT, begin, judge, ticket, with_ticket};
use crate::auth::beginning::Beginning;
use crate::auth::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use crate::auth::error::Code;
use crate::auth::fields::Fields;
use crate::auth::json::{SessionBody, UserBody};
use crate::settings::Switch;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::passkeys::webauthn::{self, ALGORITHMS};
use identity::passkeys::{self, Ceremony, Passkey};
use identity::{LiveSession, users};
use kernel::random;
use serde::Serialize;
use serde_json::Value;

pub struct RegisterOptions;
pub struct VerifyRegistration;

pub struct Wishes {
    name: Option<String>,
    attachment: Option<String>,
}

pub struct Input {
    response: Option<Value>,
    name: Option<String>,
    new_session: bool,
}

const ATTACHMENTS: [&str; 2] = ["platform", "cross-platform"];

/// `PublicKeyCredentialCreationOptionsJSON` of Web Authentication.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    challenge: &'a str,
    rp: Site<'a>,
    user: Person<'a>,
    pub_key_cred_params: Vec<Parameters>,
    timeout: i64,
    attestation: &'static str,
    exclude_credentials: Vec<Known<'a>>,
    authenticator_selection: Selection<'a>,
    extensions: Extensions,
    hints: [&'static str; 0],
}

#[derive(Serialize)]
struct Site<'a> {
    name: &'a str,
    id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Person<'a> {
    /// Random, each time another: it names nobody.
    id: &'a str,
    name: &'a str,
    display_name: &'a str,
}

#[derive(Serialize)]
struct Parameters {
    alg: i64,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Selection<'a> {
    resident_key: &'static str,
    user_verification: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticator_attachment: Option<&'a str>,
    require_resident_key: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extensions {
    cred_props: bool,
}

#[derive(Serialize)]
struct WithSession<'a> {
    #[serde(flatten)]
    passkey: Body<'a>,
    session: SessionBody<'a>,
    user: UserBody<'a>,
}

impl Endpoint for RegisterOptions {
    type Input = Wishes;
    const SPEC: Spec =
        Spec::get("/passkey/generate-register-options", Access::Fresh, "What a browser makes a passkey from")
            .of(Switch::Passkey);

    fn read(fields: &mut Fields) -> Wishes {
        // The original reads `context` for programs of its own that take the place of a session.
        fields.maybe_query("context");
        Wishes {
            attachment: fields.maybe_query_of("authenticatorAttachment", &ATTACHMENTS),
            name: fields.maybe_query("name"),
        }
    }

    async fn run(call: Call, wishes: Wishes) -> Outcome {
        let live = call.signed_in()?;
        own_session(live)?;
        let (begun, known) = begin(&call, Ceremony::Registration, Some(live)).await?;
        let settings = &call.app.settings.passkey;
        let email = live.user.email.as_str();
        let handle = URL_SAFE_NO_PAD.encode(random::alphanumeric(&mut random::secure(), 32));
        let options = Options {
            challenge: &begun.challenge,
            rp: Site { name: &settings.rp_name, id: &settings.rp_id },
            user: Person {
                id: &handle,
                name: wishes.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(email),
                display_name: email,
            },
            pub_key_cred_params: ALGORITHMS.map(|alg| Parameters { alg, kind: "public-key" }).into(),
            timeout: TIMEOUT,
            attestation: "none",
            exclude_credentials: known.iter().map(Known::from).collect(),
            authenticator_selection: Selection {
                resident_key: "preferred",
                user_verification: "preferred",
                authenticator_attachment: wishes.attachment.as_deref(),
                require_resident_key: false,
            },
            extensions: Extensions { cred_props: true },
            hints: [],
        };
        Ok(with_ticket(&call, Reply::json(&options), &begun))
    }
}

/// An administrator who looks at the service as somebody else leaves no key behind that opens the account for ever.
fn own_session(live: &LiveSession) -> Result<(), Code> {
    if live.session.impersonated_by.is_some() { Err(Code::NotYourPasskey) } else { Ok(()) }
}

/// What became of a registration.
enum Added {
    Done { passkey: Passkey, live: Option<LiveSession> },
    Taken,
    SignedOut,
}

impl Endpoint for VerifyRegistration {
    type Input = Input;
    const SPEC: Spec =
        Spec::post("/passkey/verify-registration", Access::Fresh, "Keeps the passkey that a browser made")
            .of(Switch::Passkey);

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        fields.storable(&["name"]);
        let name = fields.maybe_text("name").map(|name| name.trim().to_owned());
        if name.as_deref().is_some_and(|name| name.chars().count() > LONGEST_NAME) {
            fields.problem("name", "Too big: expected string to have <=255 characters");
        }
        Input {
            response: fields.any("response"),
            name: name.filter(|name| !name.is_empty()),
            new_session: fields.maybe_flag("createSession").unwrap_or(false),
        }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        let live = call.signed_in()?.clone();
        own_session(&live)?;
        let ticket = ticket(&call)?;
        let (app, now) = (call.app.clone(), call.now);
        let challenge = call
            .app
            .store
            .write(move |tx| passkeys::end(tx, &app.vault, Ceremony::Registration, &ticket, now))
            .await?
            .ok_or(Code::ChallengeNotFound)?;
        // Somebody else has signed in here meanwhile.
        if challenge.user.as_deref() != Some(live.user.id.as_str()) {
            return Err(Code::NotYourPasskey.into());
        }
        let response = input.response.filter(webauthn::is_whole_registration);
        let response = response.ok_or(Code::RegistrationUnreadable)?;
        let registered = judge(&call.app, &challenge, |expected| webauthn::register(expected, &response));
        let registered = registered.map_err(|reason| {
            tracing::info!(%reason, "a passkey was not registered");
            Code::RegistrationRefused
        })?;
        let (app, name) = (call.app.clone(), input.name);
        let beginning = input.new_session.then(|| Beginning::of(&call, None));
        let added = call
            .app
            .store
            .write(move |tx| {
                users::take_turn(tx, &live.user.id)?;
                // Whoever was banned or signed out meanwhile leaves no key behind.
                if identity::sessions::find_live(tx, &app.vault, &live.token, now)?.is_none() {
                    return Ok(Added::SignedOut);
                }
                let (id, rng) = (&live.user.id, &mut random::secure());
                let Some(passkey) = passkeys::add(tx, id, name.as_deref(), &registered, now, rng)? else {
                    return Ok::<_, store::Error>(Added::Taken);
                };
                let begin = |beginning: &Beginning| beginning.begin(tx, &app, live.user.clone(), None, now);
                let live = beginning.as_ref().map(begin).transpose()?;
                Ok(Added::Done { passkey, live })
            })
            .await?;
        match added {
            Added::Done { passkey, live: None } => Ok(Reply::json(&Body::from(&passkey))),
            Added::Done { passkey, live: Some(live) } => {
                let body = WithSession {
                    passkey: (&passkey).into(),
                    session: SessionBody::new(live.session.view(), &live.token),
                    user: (&live.user).into(),
                };
                Ok(Reply::json(&body).grant(Grant::renew(&live)).forget_guest(&call))
            }
            Added::Taken => Err(Code::PasskeyTaken.into()),
            Added::SignedOut => Err(Code::Unauthorized.into()),
        }
    }
}
