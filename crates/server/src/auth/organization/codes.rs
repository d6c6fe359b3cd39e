//! The plugin's codes and texts. Their statuses differ from route to route.

use crate::auth::error::Failure;
use http::StatusCode;

#[derive(Debug, Clone, Copy)]
pub struct Said {
    pub code: &'static str,
    message: &'static str,
}

impl Said {
    pub fn with(self, status: StatusCode) -> Failure {
        Failure::Coded { status, code: self.code, message: self.message }
    }

    pub fn bad(self) -> Failure {
        self.with(StatusCode::BAD_REQUEST)
    }

    pub fn forbidden(self) -> Failure {
        self.with(StatusCode::FORBIDDEN)
    }
}

macro_rules! codes {
    ($($name:ident $message:literal;)*) => {
        $(pub const $name: Said = Said { code: stringify!($name), message: $message };)*
    };
}

codes! {
    EMAIL_VERIFICATION_REQUIRED_BEFORE_ACCEPTING_OR_REJECTING_INVITATION "Email verification required before accepting or rejecting invitation";
    EMAIL_VERIFICATION_REQUIRED_FOR_INVITATION "Email verification required to view or list invitations for the session email";
    INVALID_TEAM_ID "Team id contains a reserved character";
    INVITATION_LIMIT_REACHED "Invitation limit reached";
    INVITATION_NOT_FOUND "Invitation not found";
    INVITER_IS_NO_LONGER_A_MEMBER_OF_THE_ORGANIZATION "Inviter is no longer a member of the organization";
    MEMBER_NOT_FOUND "Member not found";
    NO_ACTIVE_ORGANIZATION "No active organization";
    ORGANIZATION_ALREADY_EXISTS "Organization already exists";
    ORGANIZATION_MEMBERSHIP_LIMIT_REACHED "Organization membership limit reached";
    ORGANIZATION_NOT_FOUND "Organization not found";
    ORGANIZATION_SLUG_ALREADY_TAKEN "Organization slug already taken";
    ROLE_NOT_FOUND "Role not found";
    TEAM_NOT_FOUND "Team not found";
    UNABLE_TO_REMOVE_LAST_TEAM "Unable to remove last team";
    USER_IS_ALREADY_A_MEMBER_OF_THIS_ORGANIZATION "User is already a member of this organization";
    USER_IS_ALREADY_INVITED_TO_THIS_ORGANIZATION "User is already invited to this organization";
    USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION "User is not a member of the organization";
    USER_IS_NOT_A_MEMBER_OF_THE_TEAM "User is not a member of the team";
    YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION "You are not a member of this organization";
    YOU_ARE_NOT_ALLOWED_TO_ACCESS_THIS_ORGANIZATION "You are not allowed to access this organization as an owner";
    YOU_ARE_NOT_ALLOWED_TO_CANCEL_THIS_INVITATION "You are not allowed to cancel this invitation";
    YOU_ARE_NOT_ALLOWED_TO_CREATE_A_NEW_TEAM_MEMBER "You are not allowed to create a new member";
    YOU_ARE_NOT_ALLOWED_TO_CREATE_TEAMS_IN_THIS_ORGANIZATION "You are not allowed to create teams in this organization";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_TEAMS_IN_THIS_ORGANIZATION "You are not allowed to delete teams in this organization";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_MEMBER "You are not allowed to delete this member";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_ORGANIZATION "You are not allowed to delete this organization";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM "You are not allowed to delete this team";
    YOU_ARE_NOT_ALLOWED_TO_INVITE_USER_WITH_THIS_ROLE "You are not allowed to invite a user with this role";
    YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION "You are not allowed to invite users to this organization";
    YOU_ARE_NOT_ALLOWED_TO_LIST_INVITATIONS "You are not allowed to list invitations for this organization";
    YOU_ARE_NOT_ALLOWED_TO_REMOVE_A_TEAM_MEMBER "You are not allowed to remove a team member";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER "You are not allowed to update this member";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_ORGANIZATION "You are not allowed to update this organization";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_TEAM "You are not allowed to update this team";
    YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION "You are not the recipient of the invitation";
    YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER "You cannot leave the organization as the only owner";
    YOU_CANNOT_LEAVE_THE_ORGANIZATION_WITHOUT_AN_OWNER "You cannot leave the organization without an owner";
    YOU_DO_NOT_HAVE_AN_ACTIVE_TEAM "You do not have an active team";
    YOU_HAVE_REACHED_THE_MAXIMUM_NUMBER_OF_ORGANIZATIONS "You have reached the maximum number of organizations";
    YOU_HAVE_REACHED_THE_MAXIMUM_NUMBER_OF_TEAMS "You have reached the maximum number of teams";
}
