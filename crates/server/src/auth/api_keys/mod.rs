//! `/api-key/…`: users make keys for programs. With keys as sessions switched on, `x-api-key` opens any route of the door.

mod change;
mod create;
mod lists;
mod session;
mod shape;

pub use change::{DeleteKey, UpdateKey};
pub use create::CreateKey;
pub use lists::{GetKey, ListKeys};
pub use session::{header, open, reply as session_reply};

use super::endpoint::Call;
use super::error::Failure;
use super::fields::Fields;
use http::StatusCode;
use identity::api_keys::{self, ApiKey, Holder, Management};
use kernel::{OrganizationId, UserId};
use serde_json::Value;
use store::Tx;

/// The configurations that a key can be of, in the words of the original.
const OF_USERS: &str = "default";
const OF_ORGANIZATIONS: &str = "organization";

const MOST_DAYS: f64 = 365.0;
const LEAST_DAYS: f64 = 1.0;
const DAY_SECONDS: f64 = 86_400.0;
const LONGEST_NAME: usize = 32;
/// What only an operator sets.
const SERVER_ONLY: [&str; 7] = [
    "refillAmount",
    "refillInterval",
    "rateLimitMax",
    "rateLimitTimeWindow",
    "rateLimitEnabled",
    "permissions",
    "remaining",
];

macro_rules! failures {
    ($($name:ident $status:ident $code:literal $message:literal;)*) => {
        $(const $name: Failure = Failure::Coded { status: StatusCode::$status, code: $code, message: $message };)*
    };
}

failures! {
    UNAUTHORIZED UNAUTHORIZED "UNAUTHORIZED_SESSION" "Unauthorized or invalid session";
    SERVER_ONLY_PROPERTY BAD_REQUEST "SERVER_ONLY_PROPERTY" "The property you're trying to set can only be set from the server auth instance only.";
    NOT_FOUND NOT_FOUND "KEY_NOT_FOUND" "API Key not found";
    NOTHING_TO_UPDATE BAD_REQUEST "NO_VALUES_TO_UPDATE" "No values to update.";
    TOO_SOON BAD_REQUEST "EXPIRES_IN_IS_TOO_SMALL" "The expiresIn is smaller than the predefined minimum value.";
    TOO_LATE BAD_REQUEST "EXPIRES_IN_IS_TOO_LARGE" "The expiresIn is larger than the predefined maximum value.";
    BAD_NAME BAD_REQUEST "INVALID_NAME_LENGTH" "The name length is either too large or too small.";
    BAD_PREFIX BAD_REQUEST "INVALID_PREFIX_LENGTH" "The prefix length is either too large or too small.";
    BAD_METADATA BAD_REQUEST "INVALID_METADATA_TYPE" "metadata must be an object or undefined";
    NO_ORGANIZATION BAD_REQUEST "ORGANIZATION_ID_REQUIRED" "Organization ID is required for organization-owned API keys.";
    NOT_A_MEMBER FORBIDDEN "USER_NOT_MEMBER_OF_ORGANIZATION" "You are not a member of the organization that owns this API key.";
    NOT_ALLOWED FORBIDDEN "INSUFFICIENT_API_KEY_PERMISSIONS" "You do not have permission to perform this action on organization API keys.";
    INVALID UNAUTHORIZED "INVALID_API_KEY" "Invalid API key.";
    INVALID_LENGTH FORBIDDEN "INVALID_API_KEY" "Invalid API key.";
    DISABLED UNAUTHORIZED "KEY_DISABLED" "API Key is disabled";
    EXPIRED UNAUTHORIZED "KEY_EXPIRED" "API Key has expired";
    NO_USER UNAUTHORIZED "INVALID_REFERENCE_ID_FROM_API_KEY" "The reference id from the API key is invalid.";
}

/// The configuration of a key.
fn config_of(key: &ApiKey) -> &'static str {
    match key.holder {
        Holder::User(_) => OF_USERS,
        Holder::Organization(_) => OF_ORGANIZATIONS,
    }
}

/// The one that is meant: what is not known means the default, as in the original.
fn config_named(name: Option<&str>) -> &'static str {
    if name == Some(OF_ORGANIZATIONS) { OF_ORGANIZATIONS } else { OF_USERS }
}

/// A key that the caller may see and change.
fn find(
    tx: &mut Tx<'_>,
    user: &UserId,
    id: &str,
    config: Option<&str>,
) -> Result<Result<ApiKey, Failure>, store::Error> {
    let key = api_keys::by_id(tx, id)?.filter(|key| config_of(key) == config_named(config));
    let Some(key) = key else { return Ok(Err(NOT_FOUND)) };
    match &key.holder {
        Holder::User(holder) if holder == user => Ok(Ok(key)),
        Holder::User(_) => Ok(Err(NOT_FOUND)),
        Holder::Organization(id) => Ok(manages(tx, user, id)?.map(|()| key)),
    }
}

/// Whether the user may see and change the keys of this organization.
fn manages(
    tx: &mut Tx<'_>,
    user: &UserId,
    organization: &OrganizationId,
) -> Result<Result<(), Failure>, store::Error> {
    Ok(match api_keys::management(tx, organization, user)? {
        Management::Allowed => Ok(()),
        Management::NotAMember => Err(NOT_A_MEMBER),
        Management::NotAnOwner => Err(NOT_ALLOWED),
    })
}

/// A holder whose keys the user may see and change.
fn may_manage(tx: &mut Tx<'_>, user: &UserId, holder: &Holder) -> Result<Result<(), Failure>, store::Error> {
    match holder {
        Holder::User(_) => Ok(Ok(())),
        Holder::Organization(id) => manages(tx, user, id),
    }
}

/// Whether a member that only the server sets is there. Null says nothing where the original has it as its default.
fn asks_for_server_only(fields: &mut Fields, null_is_absent: Option<&str>) -> bool {
    let mut asks = false;
    for name in SERVER_ONLY {
        let value = match name {
            "permissions" => fields.any(name),
            "rateLimitEnabled" => fields.maybe_flag(name).map(Value::Bool),
            _ => fields.nullable_number(name, None).map(|number| number.map_or(Value::Null, Value::from)),
        };
        asks |= value.is_some_and(|value| !(value.is_null() && null_is_absent == Some(name)));
    }
    asks
}

/// Seconds from now as a moment, within the bounds of a key's life.
fn end_of(call: &Call, seconds: f64) -> Result<kernel::Millis, Failure> {
    let days = seconds / DAY_SECONDS;
    if days < LEAST_DAYS {
        return Err(TOO_SOON);
    }
    if days > MOST_DAYS {
        return Err(TOO_LATE);
    }
    Ok(call.now.plus((seconds * 1_000.0) as i64))
}

/// Objects and lists; other values are refused, and what says nothing is nothing.
fn metadata_text(value: &Value) -> Result<Option<String>, Failure> {
    match value {
        Value::Object(_) | Value::Array(_) => Ok(Some(value.to_string())),
        Value::Null => Ok(None),
        _ => Err(BAD_METADATA),
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let length = name.encode_utf16().count();
    if (1..=LONGEST_NAME).contains(&length) { Ok(()) } else { Err(BAD_NAME) }
}
