//! Signing in at a provider: the way there ([`start`]), the way back ([`callback`]), tokens that apps bring along
//! ([`id_token`]), what the provider handed out ([`tokens`]), and the way out ([`sign_out`]).

mod arrival;
pub mod callback;
mod id_token;
pub mod link;
pub mod sign_out;
pub mod start;
pub mod tokens;

use super::endpoint::Call;
use super::error::Failure;
use http::StatusCode;
use oidc::{Provider, Trouble};

pub use callback::{FollowCallback, PostedCallback};
pub use link::LinkSocial;
pub use start::SignInSocial;
pub use tokens::{AccountInfo, GetAccessToken, RefreshToken};

const PROVIDER_NOT_FOUND: Failure = Failure::Coded {
    status: StatusCode::NOT_FOUND,
    code: "PROVIDER_NOT_FOUND",
    message: "Provider not found",
};
const NO_USER_INFO: Failure = Failure::Coded {
    status: StatusCode::UNAUTHORIZED,
    code: "FAILED_TO_GET_USER_INFO",
    message: "Failed to get user info",
};

fn provider<'a>(call: &'a Call, id: &str) -> Result<&'a Provider, Failure> {
    call.app.providers.get(id).ok_or(PROVIDER_NOT_FOUND)
}

/// Where the provider sends people back to.
fn redirect_uri(call: &Call, provider: &Provider) -> String {
    call.app.auth_url(&format!("/callback/{}", provider.settings.id))
}

/// A provider that does not answer is a matter of its own and of the operator's; the person is told to try again.
fn out_of_reach(provider: &Provider, trouble: &Trouble) -> Failure {
    note(provider, trouble);
    Failure::Coded {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "PROVIDER_UNAVAILABLE",
        message: "The provider cannot be reached at the moment. Please try again, or sign in another way.",
    }
}

/// Nothing in it comes from a token or a code.
fn note(provider: &Provider, trouble: &Trouble) {
    tracing::warn!(provider = provider.settings.id, %trouble, "a provider could not be asked");
}
