//! What the device asks: for a code, and again and again whether somebody has approved it.

use crate::auth::beginning::{Beginning, Entry, enter};
use crate::auth::endpoint::{Access, BodyKind, Call, Endpoint, Outcome, Reply, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use http::StatusCode;
use identity::LiveSession;
use identity::device_codes::{self, Polled};
use kernel::{random, time};
use serde_json::json;
use store::Tx;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Whatever a device is told, no cache may keep it.
fn bad(error: &'static str, description: &str) -> Failure {
    Failure::OAuth {
        status: StatusCode::BAD_REQUEST,
        error,
        description: description.to_owned(),
        uncached: true,
    }
}

/// In UTF-16 code units; more is no client's id or scope.
const LONGEST: usize = 512;

pub struct DeviceCode;
pub struct DeviceToken;

pub struct Wanted {
    client_id: String,
    user_id: Option<String>,
    scope: Option<String>,
}

impl Endpoint for DeviceCode {
    type Input = Wanted;
    const SPEC: Spec = Spec {
        body: BodyKind::JsonOrForm,
        ..Spec::post("/device/code", Access::Anyone, "Gives a device its codes")
            .of(Switch::DeviceAuthorization)
    };

    fn read(fields: &mut Fields) -> Wanted {
        fields.need_object();
        let wanted = Wanted {
            client_id: fields.text("client_id"),
            user_id: fields.maybe_text("user_id").filter(|id| !id.is_empty()),
            scope: fields.maybe_text("scope").filter(|scope| !scope.is_empty()),
        };
        fields.storable(&["client_id", "user_id", "scope"]);
        let texts = [
            ("client_id", Some(&wanted.client_id)),
            ("user_id", wanted.user_id.as_ref()),
            ("scope", wanted.scope.as_ref()),
        ];
        for (name, text) in texts {
            if text.is_some_and(|text| text.encode_utf16().count() > LONGEST) {
                fields.problem(name, "Too big: expected string to have <=512 characters");
            }
        }
        wanted
    }

    fn unreadable(failure: Failure) -> Failure {
        bad("invalid_request", &failure.to_string())
    }

    async fn run(call: Call, wanted: Wanted) -> Outcome {
        if wanted.client_id.is_empty() {
            return Err(bad("invalid_request", "client_id is required"));
        }
        let (app, now, interval) = (call.app.clone(), call.now, call.app.settings.device.interval);
        let issued = call.app.store.write(move |tx| {
            let asked = (wanted.client_id.as_str(), wanted.scope.as_deref(), wanted.user_id.as_deref());
            device_codes::issue(tx, &app.vault, asked, interval, now, &mut random::secure())
        });
        let issued = issued.await?;
        let uri = format!("{}/device", call.app.settings.base_url);
        let body = json!({
            "device_code": issued.device_code,
            "user_code": issued.user_code,
            "verification_uri": uri,
            // The code's letters need no quoting.
            "verification_uri_complete": format!("{uri}?user_code={}", issued.user_code),
            "expires_in": device_codes::lifetime() / time::SECOND,
            "interval": interval / time::SECOND,
        });
        Ok(Reply::json(&body).uncached())
    }
}

/// What a device is told.
enum Told {
    Granted(Box<LiveSession>, Option<String>),
    Not(Polled),
    /// Whoever approved it may not come in any more.
    Shut,
}

impl Endpoint for DeviceToken {
    type Input = (String, String);
    const SPEC: Spec = Spec::post(
        "/device/token",
        Access::Anyone,
        "Whether somebody has approved the device; if so, its session",
    )
    .of(Switch::DeviceAuthorization);

    fn read(fields: &mut Fields) -> Self::Input {
        fields.need_object();
        let grant_type = fields.any("grant_type");
        if fields.has_object() && grant_type.as_ref().and_then(|value| value.as_str()) != Some(GRANT_TYPE) {
            fields.problem("grant_type", &format!("Invalid input: expected \"{GRANT_TYPE}\""));
        }
        (fields.text("device_code"), fields.text("client_id"))
    }

    async fn run(call: Call, (device_code, client_id): Self::Input) -> Outcome {
        let beginning = Beginning::of(&call, None);
        let (app, now) = (call.app.clone(), call.now);
        let told = call.app.store.write(move |tx: &mut Tx<'_>| -> Result<Told, store::Error> {
            let polled = device_codes::poll(tx, &app.vault, (&device_code, &client_id), now)?;
            let Polled::Approved { user_id, scope } = polled else { return Ok(Told::Not(polled)) };
            let Entry::Open(user) = enter(tx, &user_id, now)? else { return Ok(Told::Shut) };
            let live = beginning.begin(tx, &app, user, None, now)?;
            Ok(Told::Granted(Box::new(live), scope))
        });
        match told.await? {
            Told::Granted(live, scope) => {
                let seconds = (live.session.expires_at.0 - now.0) / time::SECOND;
                let body = json!({
                    "access_token": live.token,
                    "token_type": "Bearer",
                    "expires_in": seconds,
                    "scope": scope.unwrap_or_default(),
                });
                Ok(Reply::json(&body).uncached())
            }
            Told::Not(polled) => Err(answer(&polled)),
            Told::Shut => Err(bad("access_denied", "Access denied")),
        }
    }
}

fn answer(polled: &Polled) -> Failure {
    match polled {
        Polled::OtherClient => bad("invalid_grant", "Client ID mismatch"),
        Polled::TooSoon => bad("slow_down", "Polling too frequently"),
        Polled::Expired => bad("expired_token", "Device code has expired"),
        Polled::Pending => bad("authorization_pending", "Authorization pending"),
        Polled::Denied => bad("access_denied", "Access denied"),
        Polled::Unknown | Polled::Approved { .. } => bad("invalid_grant", "Invalid device code"),
    }
}
