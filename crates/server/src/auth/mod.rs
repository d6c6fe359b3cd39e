//! The Better Auth door: `/api/auth/*` as the official client speaks it.
//!
//! An endpoint is a type that implements [`Endpoint`]: what it is called, what it needs, how it reads its input, and
//! what it does. [`pipeline`] runs every request through the same steps in the contract's order, so no endpoint can
//! forget a check or change its place. docs/reference/better-auth.md says where we differ from the original on purpose.

mod accounts;
mod admin;
mod anonymous;
mod api_keys;
mod app_session;
mod beginning;
mod billing;
mod body;
mod callback;
pub(crate) mod cookies;
mod credits;
pub(crate) mod current;
mod delete_user;
mod device;
mod email_change;
mod email_code;
mod endpoint;
mod error;
mod fields;
mod get_session;
mod json;
mod jwt;
mod magic_link;
mod mailbox;
mod misc;
mod multi_session;
mod one_time_token;
mod organization;
pub(crate) mod origin_guard;
mod passkey;
mod password;
mod pipeline;
pub(crate) mod rates;
mod reset_password;
mod sessions;
mod sign_in;
mod sign_out;
mod sign_up;
mod social;
mod two_factor;
mod update_user;
mod username;
mod verify_email;

use crate::app::App;
use crate::openapi::RouteDoc;
use axum::Router;
use endpoint::{Endpoint, Spec};
use std::sync::Arc;

/// Mounts every endpoint once, and tells what was mounted: the documentation and the authorization matrix read the
/// same list.
macro_rules! endpoints {
    ($($kind:ty),* $(,)?) => {
        /// What is offered at this door.
        pub const ROUTES: &[Spec] = &[$(<$kind as Endpoint>::SPEC),*];

        /// The same for the OpenAPI document, with what each endpoint reads.
        pub fn route_docs() -> Vec<RouteDoc> {
            vec![$(endpoint::document::<$kind>()),*]
        }

        /// Reads a body as every endpoint would, without doing anything: what the fuzz target calls.
        pub fn read_everywhere(content_type: &str, bytes: &[u8]) {
            $(endpoint::read_only::<$kind>(content_type, bytes);)*
        }

        fn mount(app: &Arc<App>) -> Router {
            let routes = pipeline::Routes::new(app.clone());
            $(let routes = routes.with::<$kind>();)*
            routes.into_router()
        }
    };
}

endpoints![
    get_session::GetSession,
    get_session::PostSession,
    get_session::SessionAlias,
    sign_up::SignUpEmail,
    sign_in::SignInEmail,
    username::SignInUsername,
    username::IsUsernameAvailable,
    magic_link::SignInMagicLink,
    magic_link::VerifyMagicLink,
    email_code::SendVerificationOtp,
    email_code::CheckVerificationOtp,
    email_code::VerifyEmailOtp,
    email_code::SignInEmailOtp,
    email_code::RequestReset,
    email_code::ForgetPassword,
    email_code::ResetPassword,
    email_code::RequestEmailChange,
    email_code::ChangeEmail,
    anonymous::SignInAnonymous,
    anonymous::DeleteAnonymousUser,
    one_time_token::Generate,
    one_time_token::Verify,
    jwt::Token,
    jwt::KeySet,
    sign_out::SignOut,
    social::SignInSocial,
    social::FollowCallback,
    social::PostedCallback,
    social::LinkSocial,
    social::GetAccessToken,
    social::RefreshToken,
    social::AccountInfo,
    sessions::ListSessions,
    sessions::RevokeSession,
    sessions::RevokeSessions,
    sessions::RevokeOtherSessions,
    sessions::UpdateSession,
    update_user::UpdateUser,
    email_change::ChangeEmail,
    password::ChangePassword,
    password::VerifyPassword,
    reset_password::RequestPasswordReset,
    reset_password::FollowResetLink,
    reset_password::ResetPassword,
    verify_email::SendVerificationEmail,
    verify_email::VerifyEmail,
    delete_user::DeleteUser,
    delete_user::DeleteUserCallback,
    accounts::ListAccounts,
    accounts::UnlinkAccount,
    multi_session::ListDeviceSessions,
    multi_session::SetActive,
    multi_session::Revoke,
    api_keys::CreateKey,
    api_keys::ListKeys,
    api_keys::GetKey,
    api_keys::UpdateKey,
    api_keys::DeleteKey,
    device::DeviceCode,
    device::DeviceToken,
    device::DeviceLook,
    device::DeviceApprove,
    device::DeviceDeny,
    two_factor::Enable,
    two_factor::Disable,
    two_factor::GetTotpUri,
    two_factor::VerifyTotp,
    two_factor::SendOtp,
    two_factor::VerifyOtp,
    two_factor::GenerateBackupCodes,
    two_factor::VerifyBackupCode,
    passkey::RegisterOptions,
    passkey::VerifyRegistration,
    passkey::AuthenticateOptions,
    passkey::VerifyAuthentication,
    passkey::List,
    passkey::Update,
    passkey::Delete,
    credits::CreditsBalance,
    credits::CreditsEntries,
    credits::CreditsUsage,
    billing::BillingCatalog,
    billing::BillingCheckout,
    billing::BillingCheckoutStatus,
    billing::BillingPortal,
    billing::BillingSubscription,
    billing::BillingChange,
    billing::BillingCancel,
    billing::BillingResume,
    billing::BillingInvoices,
    billing::BillingTopUp,
    billing::BillingSetTopUp,
    organization::itself::Create,
    organization::itself::CheckSlug,
    organization::itself::Update,
    organization::itself::Delete,
    organization::itself::List,
    organization::itself::HasPermission,
    organization::active::SetActive,
    organization::active::SetActiveTeam,
    organization::active::GetOrganization,
    organization::active::GetFullOrganization,
    organization::invitations::InviteMember,
    organization::invitations::AcceptInvitation,
    organization::invitations::RejectInvitation,
    organization::invitations::CancelInvitation,
    organization::invitations::GetInvitation,
    organization::invitations::ListInvitations,
    organization::invitations::ListUserInvitations,
    organization::members::ListMembers,
    organization::members::GetActiveMember,
    organization::members::GetActiveMemberRole,
    organization::members::UpdateMemberRole,
    organization::members::RemoveMember,
    organization::members::Leave,
    organization::teams::CreateTeam,
    organization::teams::UpdateTeam,
    organization::teams::RemoveTeam,
    organization::teams::ListTeams,
    organization::teams::ListUserTeams,
    organization::teams::ListTeamMembers,
    organization::teams::AddTeamMember,
    organization::teams::RemoveTeamMember,
    admin::lists::ListUsers,
    admin::lists::GetUser,
    admin::users::CreateUser,
    admin::users::UpdateUser,
    admin::users::SetRole,
    admin::users::SetUserPassword,
    admin::users::RemoveUser,
    admin::users::HasPermission,
    admin::sessions::ListUserSessions,
    admin::sessions::RevokeUserSession,
    admin::sessions::RevokeUserSessions,
    admin::bans::BanUser,
    admin::bans::UnbanUser,
    admin::impersonation::ImpersonateUser,
    admin::impersonation::StopImpersonating,
    misc::Alive,
    misc::ErrorPage,
];

/// The door, to be mounted at the root: its routes carry their whole paths.
pub fn router(app: &Arc<App>) -> Router {
    mount(app)
}

pub use social::callback::onward as callback_onward;

pub use endpoint::{Access, BodyKind, Method, Spec as RouteSpec};
