//! What the person does: look at the code that the device shows, and approve or deny it.

use super::{bad, refused};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use http::StatusCode;
use identity::device_codes::{self, Decided, Status, Waiting};
use serde::Serialize;
use serde_json::json;

pub struct DeviceLook;
pub struct DeviceApprove;
pub struct DeviceDeny;

const EXPIRED: &str = "User code has expired";
const UNKNOWN: &str = "Invalid user code";

#[derive(Serialize)]
struct Body<'a> {
    user_code: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Option<&'a str>>,
}

impl Endpoint for DeviceLook {
    type Input = String;
    const SPEC: Spec = Spec::get(
        "/device",
        Access::MaybeSignedIn,
        "Which device shows this code; signed in, it becomes one's own to decide",
    )
    .of(Switch::DeviceAuthorization);

    fn read(fields: &mut Fields) -> String {
        fields.query("user_code")
    }

    async fn run(call: Call, code: String) -> Outcome {
        let user = call.in_person().map(|live| live.user.id.clone());
        let (app, now, typed, looking) = (call.app.clone(), call.now, code.clone(), user.clone());
        let found = call.app.store.write(move |tx| -> Result<Result<Waiting, Failure>, store::Error> {
            let Some(waiting) = device_codes::find(tx, &app.vault, &typed)? else {
                return Ok(Err(bad("invalid_request", UNKNOWN)));
            };
            if waiting.expires_at <= now {
                return Ok(Err(bad("expired_token", EXPIRED)));
            }
            match (&looking, &waiting.user_id, waiting.status) {
                (Some(user), None, Status::Pending) => {
                    let claimed = device_codes::claim(tx, waiting, user)?;
                    Ok(claimed.ok_or_else(|| bad("invalid_request", UNKNOWN)))
                }
                _ => Ok(Ok(waiting)),
            }
        });
        let waiting = found.await??;
        let is_own = user.is_some_and(|user| waiting.user_id.as_deref() == Some(user.as_str()));
        Ok(Reply::json(&Body {
            user_code: &code,
            status: waiting.status.name(),
            client_id: is_own.then_some(waiting.client_id.as_str()),
            scope: is_own.then_some(waiting.scope.as_deref()),
        }))
    }
}

macro_rules! decision {
    ($name:ident $path:literal $summary:literal $status:ident $verb:literal) => {
        impl Endpoint for $name {
            type Input = String;
            const SPEC: Spec =
                Spec::post($path, Access::MaybeSignedIn, $summary).of(Switch::DeviceAuthorization);

            fn read(fields: &mut Fields) -> String {
                fields.need_object();
                fields.text("userCode")
            }

            async fn run(call: Call, code: String) -> Outcome {
                decide(call, code, Status::$status, $verb).await
            }
        }
    };
}

decision!(DeviceApprove "/device/approve" "Lets the device in" Approved "approve");
decision!(DeviceDeny "/device/deny" "Turns the device away" Denied "deny");

async fn decide(call: Call, code: String, to: Status, verb: &str) -> Outcome {
    let Some(user) = call.in_person().map(|live| live.user.id.clone()) else {
        return Err(refused(StatusCode::UNAUTHORIZED, "unauthorized", "Authentication required"));
    };
    let (app, now) = (call.app.clone(), call.now);
    let decided =
        call.app.store.write(move |tx| device_codes::decide(tx, &app.vault, &code, &user, (to, now)));
    match decided.await? {
        Decided::Done => Ok(Reply::json(&json!({ "success": true }))),
        Decided::Unknown => Err(bad("invalid_request", UNKNOWN)),
        Decided::Expired => Err(bad("expired_token", EXPIRED)),
        Decided::Processed => Err(bad("invalid_request", "Device code already processed")),
        Decided::NotClaimed => Err(bad(
            "invalid_request",
            "Device code has not been claimed by a verifying session; call `GET /device` with the `user_code` while signed in before approving or denying",
        )),
        Decided::Foreign => {
            let message = format!("You are not authorized to {verb} this device authorization");
            Err(refused(StatusCode::FORBIDDEN, "access_denied", &message))
        }
    }
}
