//! Organizations over the Better Auth door: the rules are `identity::organizations`; here stand the original's paths, shapes
//! and codes, with their quirks.

pub mod active;
mod codes;
pub mod invitations;
mod invited;
pub mod itself;
pub mod members;
mod shapes;
pub mod teams;

use super::endpoint::Call;
use super::error::Failure;
use codes::*;
use http::StatusCode;
use identity::LiveSession;
use identity::organizations::Refusal;
use kernel::OrganizationId;

/// The organization that a request is about: the one it names, else the session's active one. An empty name counts as none.
fn named_or_active(live: &LiveSession, named: Option<&str>) -> Option<OrganizationId> {
    let named = named.filter(|id| !id.is_empty());
    named.or(live.session.active_organization_id.as_deref()).map(OrganizationId::from_text)
}

/// The same where there has to be one.
fn one_of(live: &LiveSession, named: Option<&str>) -> Result<OrganizationId, Failure> {
    named_or_active(live, named).ok_or_else(|| NO_ACTIVE_ORGANIZATION.bad())
}

/// What the original answers to a refusal. What it says to strangers and to members who may not differs from route to
/// route.
fn told(refusal: Refusal, to_strangers: &Failure, to_members: &Failure) -> Failure {
    match refusal {
        Refusal::NotAMember => to_strangers.clone(),
        Refusal::NotAllowed => to_members.clone(),
        Refusal::NoOrganization => ORGANIZATION_NOT_FOUND.bad(),
        Refusal::SlugTaken => ORGANIZATION_SLUG_ALREADY_TAKEN.bad(),
        Refusal::TooManyOrganizations => YOU_HAVE_REACHED_THE_MAXIMUM_NUMBER_OF_ORGANIZATIONS.forbidden(),
        Refusal::TooManyMembers => ORGANIZATION_MEMBERSHIP_LIMIT_REACHED.forbidden(),
        Refusal::TooManyInvitations => INVITATION_LIMIT_REACHED.forbidden(),
        Refusal::TooManyTeams => YOU_HAVE_REACHED_THE_MAXIMUM_NUMBER_OF_TEAMS.bad(),
        Refusal::NoRole => ROLE_NOT_FOUND.bad(),
        Refusal::UnknownRole(names) => Failure::Named {
            status: StatusCode::BAD_REQUEST,
            code: None,
            message: format!("{}: {names}", ROLE_NOT_FOUND.code),
        },
        Refusal::OwnersOnly => YOU_ARE_NOT_ALLOWED_TO_INVITE_USER_WITH_THIS_ROLE.forbidden(),
        Refusal::LastOwner => YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER.bad(),
        Refusal::NoMember => MEMBER_NOT_FOUND.bad(),
        Refusal::MemberElsewhere => YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER.forbidden(),
        Refusal::AlreadyMember => USER_IS_ALREADY_A_MEMBER_OF_THIS_ORGANIZATION.bad(),
        Refusal::AlreadyInvited => USER_IS_ALREADY_INVITED_TO_THIS_ORGANIZATION.bad(),
        Refusal::NoInvitation => INVITATION_NOT_FOUND.bad(),
        Refusal::NotTheRecipient => YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION.forbidden(),
        Refusal::Unverified => {
            EMAIL_VERIFICATION_REQUIRED_BEFORE_ACCEPTING_OR_REJECTING_INVITATION.forbidden()
        }
        Refusal::InviterLeft => INVITER_IS_NO_LONGER_A_MEMBER_OF_THE_ORGANIZATION.bad(),
        Refusal::NoTeam => TEAM_NOT_FOUND.bad(),
        Refusal::BadTeam => INVALID_TEAM_ID.bad(),
        Refusal::LastTeam => UNABLE_TO_REMOVE_LAST_TEAM.bad(),
        Refusal::ActiveTeam => YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM.forbidden(),
        Refusal::NotInTeam => USER_IS_NOT_A_MEMBER_OF_THE_TEAM.bad(),
        Refusal::OtherNotAMember => USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION.bad(),
        Refusal::CallerGone => super::error::Code::Unauthorized.into(),
        Refusal::Store(error) => error.into(),
    }
}

/// [`told`] where strangers are told that they are no member, and nobody is refused for a role.
fn told_members(refusal: Refusal) -> Failure {
    told(refusal, &MEMBER_NOT_FOUND.bad(), &MEMBER_NOT_FOUND.bad())
}

/// How many rows a list of members has at most.
fn most_members(call: &Call) -> i64 {
    call.app.settings.organizations.limits.members
}
