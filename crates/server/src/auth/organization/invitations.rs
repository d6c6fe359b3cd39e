//! Invitations: send, answer, take back, look at.

use super::codes::*;
use super::members::names;
use super::shapes::{InvitationBody, MemberBody, shaped};
use super::{invited, named_or_active, told, told_members};
use crate::auth::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, SignedOut, Spec};
use crate::auth::error::{Code, Failure};
use crate::auth::fields::Fields;
use crate::settings::Switch;
use http::StatusCode;
use identity::EmailAddress;
use identity::organizations::Refusal;
use identity::organizations::invitations::{self, NewInvitation};
use kernel::{InvitationId, random};
use serde::Serialize;
use serde_json::json;

pub struct InviteMember;
pub struct AcceptInvitation;
pub struct RejectInvitation;
pub struct CancelInvitation;
pub struct GetInvitation;
pub struct ListInvitations;
pub struct ListUserInvitations;

pub struct Invite {
    email: String,
    roles: Vec<String>,
    organization: Option<String>,
    resend: bool,
    teams: Vec<String>,
}

impl Endpoint for InviteMember {
    type Input = Invite;
    const SPEC: Spec =
        Spec::post("/organization/invite-member", Access::SignedIn, "Invites an address by mail")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> Invite {
        fields.need_object();
        Invite {
            email: fields.text("email"),
            roles: names(&fields.texts("role")),
            organization: fields.maybe_text("organizationId"),
            resend: fields.maybe_flag("resend") == Some(true),
            teams: fields.maybe_texts("teamId").unwrap_or_default(),
        }
    }

    async fn run(call: Call, input: Invite) -> Outcome {
        let live = call.signed_in()?;
        let organization = named_or_active(live, input.organization.as_deref());
        let organization = organization.ok_or_else(|| ORGANIZATION_NOT_FOUND.bad())?;
        let new = NewInvitation {
            email: EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?,
            roles: input.roles,
            teams: input.teams.into_iter().filter(|id| !id.is_empty()).collect(),
            resend: input.resend,
        };
        let (app, user, now) = (call.app.clone(), live.user.id.clone(), call.now);
        let invited = call.app.store.write(move |tx| {
            let limits = &app.settings.organizations.limits;
            let rng = &mut random::secure();
            let (invitation, organization) =
                invitations::invite(tx, &organization, &user, &new, limits, now, rng)?;
            invited::tell(tx, &app, &invitation, &organization, now)?;
            Ok(invitation)
        });
        let invitation = invited.await.map_err(|refusal| {
            let to_members = YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION.forbidden();
            told(refusal, &MEMBER_NOT_FOUND.bad(), &to_members)
        })?;
        call.app.outbox.wake();
        Ok(Reply::json(&InvitationBody::from(&invitation)))
    }
}

fn invitation_id(fields: &mut Fields) -> InvitationId {
    fields.need_object();
    InvitationId::from_text(fields.text("invitationId"))
}

impl Endpoint for AcceptInvitation {
    type Input = InvitationId;
    const SPEC: Spec = Spec::post("/organization/accept-invitation", Access::SignedIn, "Becomes a member")
        .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> InvitationId {
        invitation_id(fields)
    }

    async fn run(call: Call, id: InvitationId) -> Outcome {
        let live = call.signed_in()?;
        let (user, session, now) = (live.user.id.clone(), live.session.id.clone(), call.now);
        let app = call.app.clone();
        let accepted = call.app.store.write(move |tx| {
            let settings = &app.settings.organizations;
            let (who, verified) = ((&user, &session), settings.require_verified_email);
            invitations::accept(tx, &id, who, verified, &settings.limits, now, &mut random::secure())
        });
        let accepted = accepted.await.map_err(told_members)?;
        let reply = Reply::json(&json!({
            "invitation": InvitationBody::from(&accepted.invitation),
            "member": MemberBody::new(&accepted.member, None),
        }));
        Ok(match accepted.team {
            Some(_) => reply.grant(Grant::renew(live)),
            None => reply,
        })
    }
}

impl Endpoint for RejectInvitation {
    type Input = InvitationId;
    const SPEC: Spec =
        Spec::post("/organization/reject-invitation", Access::SignedIn, "Says no to an invitation")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> InvitationId {
        invitation_id(fields)
    }

    async fn run(call: Call, id: InvitationId) -> Outcome {
        let user = call.signed_in()?.user.clone();
        let verified = call.app.settings.organizations.require_verified_email;
        let rejected = call.app.store.write(move |tx| invitations::reject(tx, &id, &user, verified)).await;
        let invitation = rejected.map_err(|refusal| match refusal {
            // This route says it with more feeling.
            Refusal::NoInvitation => Failure::Coded {
                status: StatusCode::BAD_REQUEST,
                code: INVITATION_NOT_FOUND.code,
                message: "Invitation not found!",
            },
            refusal => told_members(refusal),
        })?;
        Ok(Reply::json(&json!({ "invitation": InvitationBody::from(&invitation), "member": null })))
    }
}

impl Endpoint for CancelInvitation {
    type Input = InvitationId;
    const SPEC: Spec =
        Spec::post("/organization/cancel-invitation", Access::SignedIn, "Takes an invitation back")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> InvitationId {
        invitation_id(fields)
    }

    async fn run(call: Call, id: InvitationId) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let canceled = call.app.store.write(move |tx| invitations::cancel(tx, &id, &user)).await;
        let invitation = canceled.map_err(|refusal| {
            let to_members = YOU_ARE_NOT_ALLOWED_TO_CANCEL_THIS_INVITATION.forbidden();
            told(refusal, &MEMBER_NOT_FOUND.bad(), &to_members)
        })?;
        Ok(Reply::json(&InvitationBody::from(&invitation)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(flatten)]
    invitation: InvitationBody<'a>,
    organization_name: &'a str,
    organization_slug: &'a str,
    inviter_email: &'a str,
}

impl Endpoint for GetInvitation {
    type Input = InvitationId;
    const SPEC: Spec = Spec::get(
        "/organization/get-invitation",
        Access::SignedIn,
        "An invitation to one's own address, with what it leads to",
    )
    .of(Switch::Organizations)
    .signed_out(SignedOut::Says("Not authenticated"));

    fn read(fields: &mut Fields) -> InvitationId {
        InvitationId::from_text(fields.query("id"))
    }

    async fn run(call: Call, id: InvitationId) -> Outcome {
        let (user, now) = (call.signed_in()?.user.clone(), call.now);
        let verified = call.app.settings.organizations.require_verified_email;
        let shown = call.app.store.read(move |tx| invitations::show(tx, &id, &user, verified, now)).await;
        let shown = shown.map_err(|refusal| match refusal {
            Refusal::Unverified => EMAIL_VERIFICATION_REQUIRED_FOR_INVITATION.forbidden(),
            refusal => told_members(refusal),
        })?;
        Ok(Reply::json(&Shown {
            invitation: (&shown.invitation).into(),
            organization_name: &shown.organization.name,
            organization_slug: &shown.organization.slug,
            inviter_email: &shown.inviter_email,
        }))
    }
}

impl Endpoint for ListInvitations {
    type Input = Option<String>;
    const SPEC: Spec =
        Spec::get("/organization/list-invitations", Access::SignedIn, "The invitations of an organization")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_query("organizationId")
    }

    async fn run(call: Call, organization: Option<String>) -> Outcome {
        let live = call.signed_in()?;
        let organization = named_or_active(live, organization.as_deref());
        let organization =
            organization.ok_or(Failure::Message(StatusCode::BAD_REQUEST, "Organization ID is required"))?;
        let user = live.user.id.clone();
        let found = call.app.store.scan(move |tx| invitations::list_for(tx, &organization, &user)).await;
        let found = found.map_err(|refusal| {
            let to_strangers =
                Failure::Message(StatusCode::FORBIDDEN, "You are not a member of this organization");
            told(refusal, &to_strangers, &YOU_ARE_NOT_ALLOWED_TO_LIST_INVITATIONS.forbidden())
        })?;
        Ok(Reply::json(&shaped::<_, InvitationBody<'_>>(&found)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting<'a> {
    #[serde(flatten)]
    invitation: InvitationBody<'a>,
    organization_name: &'a str,
}

impl Endpoint for ListUserInvitations {
    type Input = bool;
    const SPEC: Spec = Spec::get(
        "/organization/list-user-invitations",
        Access::MaybeSignedIn,
        "The invitations that wait for one's own, verified address",
    )
    .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> bool {
        fields.maybe_query("email").is_some_and(|email| !email.is_empty())
    }

    async fn run(call: Call, names_address: bool) -> Outcome {
        let refuse = |text| Err(Failure::Message(StatusCode::BAD_REQUEST, text));
        if names_address {
            return refuse("User email cannot be passed for client side API calls.");
        }
        let Some(live) = &call.session else {
            return refuse("Missing session headers, or email query parameter.");
        };
        if !live.user.email_verified {
            return Err(EMAIL_VERIFICATION_REQUIRED_FOR_INVITATION.forbidden());
        }
        let email = live.user.email.clone();
        let found = call.app.store.scan(move |tx| invitations::of_address(tx, &email)).await?;
        let list: Vec<Waiting<'_>> = found
            .iter()
            .map(|(invitation, name)| Waiting { invitation: invitation.into(), organization_name: name })
            .collect();
        Ok(Reply::json(&list))
    }
}
