//! Passkeys: register one, sign in with it, list, rename and remove one's own.
//!
//! A ceremony is two requests: options with a challenge, which the browser's cookie leads back to, and what the
//! authenticator made of it. A challenge is used up by the first answer, right or wrong.

mod authenticate;
mod own;
mod register;

pub use authenticate::{AuthenticateOptions, VerifyAuthentication};
pub use own::{Delete, List, Update};
pub use register::{RegisterOptions, VerifyRegistration};

use super::cookies::Writer;
use super::endpoint::{Call, Reply};
use super::error::{Code, Failure};
use super::json::Instant;
use crate::app::App;
use identity::passkeys::webauthn::Expected;
use identity::passkeys::{self, Begun, Ceremony, Challenge, Passkey};
use identity::{LiveSession, User};
use kernel::{cookie, random};
use serde::Serialize;
use url::Url;

/// How long a browser waits for the person, in milliseconds.
const TIMEOUT: i64 = 60_000;
/// So long a name is no name; authenticators cut it much earlier.
const LONGEST_NAME: usize = 255;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    name: Option<&'a str>,
    public_key: &'a str,
    user_id: &'a str,
    #[serde(rename = "credentialID")]
    credential_id: &'a str,
    counter: i64,
    device_type: &'a str,
    backed_up: bool,
    transports: &'a str,
    created_at: Instant,
    aaguid: &'a str,
    id: &'a str,
}

impl<'a> From<&'a Passkey> for Body<'a> {
    fn from(passkey: &'a Passkey) -> Self {
        Body {
            name: passkey.name.as_deref(),
            public_key: &passkey.public_key,
            user_id: passkey.user_id.as_str(),
            credential_id: &passkey.credential_id,
            counter: passkey.counter,
            device_type: &passkey.device_type,
            backed_up: passkey.backed_up,
            transports: &passkey.transports,
            created_at: Instant(passkey.created_at),
            aaguid: &passkey.aaguid,
            id: passkey.id.as_str(),
        }
    }
}

/// A key as the options name it to the browser.
#[derive(Serialize)]
struct Known<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transports: Vec<&'a str>,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'a> From<&'a Passkey> for Known<'a> {
    fn from(passkey: &'a Passkey) -> Self {
        Known { id: &passkey.credential_id, transports: passkey.transports().collect(), kind: "public-key" }
    }
}

/// Makes a challenge, and reads the keys of whoever is signed in.
async fn begin(
    call: &Call,
    ceremony: Ceremony,
    live: Option<&LiveSession>,
) -> Result<(Begun, Vec<Passkey>), Failure> {
    let (app, now) = (call.app.clone(), call.now);
    let user: Option<User> = live.map(|live| live.user.clone());
    let begun = call.app.store.write(move |tx| {
        let id = user.as_ref().map(|user| &user.id);
        let known = id.map(|id| passkeys::list(tx, id)).transpose()?.unwrap_or_default();
        let begun = passkeys::begin(tx, &app.vault, ceremony, id, now, &mut random::secure())?;
        Ok::<_, store::Error>((begun, known))
    });
    Ok(begun.await?)
}

/// Lets the browser keep the way back to its challenge.
fn with_ticket(call: &Call, reply: Reply, begun: &Begun) -> Reply {
    let mut writer = Writer::new(&call.app, &call.names);
    writer.passkey(&begun.ticket);
    reply.cookies(writer.lines)
}

/// The way back to the challenge, as this browser's cookie has it.
fn ticket(call: &Call) -> Result<String, Failure> {
    let found = cookie::first(call.cookie_lines(), &call.names.passkey);
    let opened = found.and_then(|value| call.app.signer.open(value));
    opened.map(|value| value.into_owned()).ok_or(Code::ChallengeNotFound.into())
}

/// Runs a judgement of [`identity::passkeys::webauthn`] on an answer to this challenge.
fn judge<T>(app: &App, challenge: &Challenge, judgement: impl FnOnce(&Expected<'_>) -> T) -> T {
    let rp_id = &app.settings.passkey.rp_id;
    let is_ours =
        |origin: &str| app.settings.trusted_origins.allows_reading(origin) && belongs(origin, rp_id);
    judgement(&Expected { challenge: &challenge.text, rp_id, is_ours: &is_ours })
}

/// Whether pages of this origin may use keys of this id: its host is the id or below it.
fn belongs(origin: &str, rp_id: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    let host = url.host_str().unwrap_or_default();
    host.strip_suffix(rp_id).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_its_host_and_those_below() {
        for (origin, good) in [
            ("https://example.com", true),
            ("https://app.example.com:8443", true),
            ("https://badexample.com", false),
            ("https://example.com.evil.test", false),
            ("https://com", false),
            ("example.com", false),
        ] {
            assert_eq!(belongs(origin, "example.com"), good, "{origin}");
        }
    }
}
