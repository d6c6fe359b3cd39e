//! Administration over the Better Auth door: the rules are `identity::admin`; here stand the original's paths, shapes and
//! codes.

pub mod bans;
pub mod impersonation;
pub mod lists;
pub mod sessions;
pub mod users;

use super::endpoint::Call;
use super::error::Failure;
use super::json::UserBody;
use crate::edge::RequestContext;
use http::StatusCode;
use identity::admin::{Refusal, may_administer};
use identity::{LiveSession, User};
use kernel::UserId;
use serde::Serialize;

const USER_NOT_FOUND: Failure =
    Failure::Coded { status: StatusCode::NOT_FOUND, code: "USER_NOT_FOUND", message: "User not found" };

macro_rules! denials {
    ($($name:ident $message:literal;)*) => {
        $(const $name: Failure = Failure::Coded {
            status: StatusCode::FORBIDDEN,
            code: stringify!($name),
            message: $message,
        };)*
    };
}

denials! {
    YOU_ARE_NOT_ALLOWED_TO_BAN_USERS "You are not allowed to ban users";
    YOU_ARE_NOT_ALLOWED_TO_CHANGE_USERS_ROLE "You are not allowed to change users role";
    YOU_ARE_NOT_ALLOWED_TO_CREATE_USERS "You are not allowed to create users";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_USERS "You are not allowed to delete users";
    YOU_ARE_NOT_ALLOWED_TO_GET_USER "You are not allowed to get user";
    YOU_ARE_NOT_ALLOWED_TO_IMPERSONATE_USERS "You are not allowed to impersonate users";
    YOU_ARE_NOT_ALLOWED_TO_LIST_USERS "You are not allowed to list users";
    YOU_ARE_NOT_ALLOWED_TO_LIST_USERS_SESSIONS "You are not allowed to list users sessions";
    YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS "You are not allowed to revoke users sessions";
    YOU_ARE_NOT_ALLOWED_TO_SET_USERS_PASSWORD "You are not allowed to set users password";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_USERS "You are not allowed to update users";
    YOU_CANNOT_IMPERSONATE_ADMINS "You cannot impersonate admins";
}

fn bad(code: &'static str, message: &'static str) -> Failure {
    Failure::Coded { status: StatusCode::BAD_REQUEST, code, message }
}

/// The administrator who calls; everybody else who is signed in gets the denial of the route.
fn administrator(call: &Call, denial: Failure) -> Result<&LiveSession, Failure> {
    let live = call.signed_in()?;
    if may_administer(live) { Ok(live) } else { Err(denial) }
}

fn told(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::NoUser => USER_NOT_FOUND,
        Refusal::AddressTaken => {
            bad("USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL", "User already exists. Use another email.")
        }
        Refusal::UsernameTaken => {
            bad("USERNAME_IS_ALREADY_TAKEN", "Username is already taken. Please try another.")
        }
        Refusal::Yourself => bad("YOU_CANNOT_REMOVE_YOURSELF", "You cannot remove yourself"),
        Refusal::Administrator => YOU_CANNOT_IMPERSONATE_ADMINS,
        Refusal::Banned => super::error::Code::BannedUser.into(),
        Refusal::Store(error) => error.into(),
    }
}

/// Writes down who did what to whom: a line in the log under the target `audit`, with ids only.
fn record(call: &Call, action: &'static str, user: Option<&UserId>) {
    let by = call.session.as_ref().map_or("", |live| live.user.id.as_str());
    let request_id =
        call.request.extensions.get::<RequestContext>().map(|context| context.request_id.as_str());
    tracing::info!(
        target: "audit",
        action,
        by,
        user = user.map(UserId::as_str),
        client = %call.client.to_text(),
        request_id,
        "an administrator acted"
    );
}

#[derive(Serialize)]
struct OneUser<'a> {
    user: UserBody<'a>,
}

impl<'a> OneUser<'a> {
    fn new(user: &'a User) -> OneUser<'a> {
        OneUser { user: user.into() }
    }
}
