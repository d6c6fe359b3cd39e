//! Teams: make them, name them, put members into them.

use super::codes::*;
use super::shapes::{TeamBody, TeamMemberBody, shaped};
use super::{one_of, told, told_members};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, SignedOut, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use identity::organizations::{Refusal, members, teams};
use kernel::{OrganizationId, TeamId, UserId, random};
use serde_json::json;

pub struct CreateTeam;
pub struct UpdateTeam;
pub struct RemoveTeam;
pub struct ListTeams;
pub struct ListUserTeams;
pub struct ListTeamMembers;
pub struct AddTeamMember;
pub struct RemoveTeamMember;

impl Endpoint for CreateTeam {
    type Input = (String, Option<String>);
    const SPEC: Spec =
        Spec::post("/organization/create-team", Access::SignedIn, "Makes a team in an organization")
            .of(Switch::Organizations)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> (String, Option<String>) {
        fields.need_object();
        fields.storable(&["name"]);
        (fields.text("name"), fields.maybe_text("organizationId"))
    }

    async fn run(call: Call, (name, organization): (String, Option<String>)) -> Outcome {
        let live = call.signed_in()?;
        let (organization, user) = (one_of(live, organization.as_deref())?, live.user.id.clone());
        let (limits, now) = (call.app.settings.organizations.limits, call.now);
        let made = call.app.store.write(move |tx| {
            teams::create(tx, &organization, &user, &name, &limits, now, &mut random::secure())
        });
        let team = made.await.map_err(|refusal| {
            let to_strangers = YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION.forbidden();
            told(
                refusal,
                &to_strangers,
                &YOU_ARE_NOT_ALLOWED_TO_CREATE_TEAMS_IN_THIS_ORGANIZATION.forbidden(),
            )
        })?;
        Ok(Reply::json(&TeamBody::from(&team)))
    }
}

pub struct UpdateInput {
    team: TeamId,
    name: Option<String>,
    organization: Option<String>,
}

impl Endpoint for UpdateTeam {
    type Input = UpdateInput;
    const SPEC: Spec = Spec::post("/organization/update-team", Access::SignedIn, "Gives a team another name")
        .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> UpdateInput {
        fields.need_object();
        let team = TeamId::from_text(fields.text("teamId"));
        fields.record("data");
        fields.storable(&["data.name"]);
        UpdateInput {
            team,
            name: fields.maybe_some_text("data.name"),
            organization: fields.maybe_text("data.organizationId"),
        }
    }

    async fn run(call: Call, input: UpdateInput) -> Outcome {
        let live = call.signed_in()?;
        let (organization, user) = (one_of(live, input.organization.as_deref())?, live.user.id.clone());
        let now = call.now;
        let changed = call.app.store.write(move |tx| {
            teams::change(tx, &organization, &user, &input.team, input.name.as_deref(), now)
        });
        let to_all = YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_TEAM.forbidden();
        let team = changed.await.map_err(|refusal| told(refusal, &to_all, &to_all))?;
        Ok(Reply::json(&TeamBody::from(&team)))
    }
}

impl Endpoint for RemoveTeam {
    type Input = (TeamId, Option<String>);
    const SPEC: Spec = Spec::post("/organization/remove-team", Access::SignedIn, "Deletes a team")
        .of(Switch::Organizations)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> (TeamId, Option<String>) {
        fields.need_object();
        (TeamId::from_text(fields.text("teamId")), fields.maybe_text("organizationId"))
    }

    async fn run(call: Call, (team, organization): (TeamId, Option<String>)) -> Outcome {
        let live = call.signed_in()?;
        let (organization, user) = (one_of(live, organization.as_deref())?, live.user.id.clone());
        let (active, now) = (live.session.active_team_id.clone(), call.now);
        let deleted = call
            .app
            .store
            .write(move |tx| teams::delete(tx, &organization, &user, &team, active.as_deref(), now));
        deleted.await.map_err(|refusal| {
            let to_members = YOU_ARE_NOT_ALLOWED_TO_DELETE_TEAMS_IN_THIS_ORGANIZATION.forbidden();
            told(refusal, &YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM.forbidden(), &to_members)
        })?;
        Ok(Reply::json(&json!({ "message": "Team removed successfully." })))
    }
}

impl Endpoint for ListTeams {
    type Input = Option<String>;
    const SPEC: Spec =
        Spec::get("/organization/list-teams", Access::SignedIn, "The teams of an organization")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_query("organizationId")
    }

    async fn run(call: Call, organization: Option<String>) -> Outcome {
        let live = call.signed_in()?;
        let (organization, user) = (one_of(live, organization.as_deref())?, live.user.id.clone());
        let found = call.app.store.scan(move |tx| {
            members::of_user(tx, &organization, &user)?.ok_or(Refusal::NotAMember)?;
            Ok(teams::list(tx, &organization)?)
        });
        let to_strangers = YOU_ARE_NOT_ALLOWED_TO_ACCESS_THIS_ORGANIZATION.forbidden();
        let found = found.await.map_err(|refusal| told(refusal, &to_strangers, &to_strangers))?;
        Ok(Reply::json(&shaped::<_, TeamBody<'_>>(&found)))
    }
}

impl Endpoint for ListUserTeams {
    type Input = (Option<String>, Option<String>);
    const SPEC: Spec = Spec::get(
        "/organization/list-user-teams",
        Access::SignedIn,
        "The teams that one is in, or that another member is in",
    )
    .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> (Option<String>, Option<String>) {
        (fields.maybe_query("userId"), fields.maybe_query("organizationId"))
    }

    async fn run(call: Call, (user, organization): (Option<String>, Option<String>)) -> Outcome {
        let live = call.signed_in()?;
        let own = live.user.id.clone();
        let user = user.filter(|id| !id.is_empty()).map_or_else(|| own.clone(), UserId::from_text);
        let organization = match user == own {
            // One's own are of all organizations, unless one is named.
            true => organization.filter(|id| !id.is_empty()).map(OrganizationId::from_text),
            false => Some(one_of(live, organization.as_deref())?),
        };
        let found =
            call.app.store.scan(move |tx| teams::list_of_user(tx, &own, &user, organization.as_ref())).await;
        let found = found.map_err(|refusal| {
            let to_strangers = YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION.forbidden();
            told(refusal, &to_strangers, &YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER.forbidden())
        })?;
        Ok(Reply::json(&shaped::<_, TeamBody<'_>>(&found)))
    }
}

impl Endpoint for ListTeamMembers {
    type Input = Option<String>;
    const SPEC: Spec =
        Spec::get("/organization/list-team-members", Access::SignedIn, "Who is in one of one's teams")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_query("teamId")
    }

    async fn run(call: Call, team: Option<String>) -> Outcome {
        let live = call.signed_in()?;
        let named = team.filter(|id| !id.is_empty()).or_else(|| live.session.active_team_id.clone());
        let team = TeamId::from_text(named.ok_or_else(|| YOU_DO_NOT_HAVE_AN_ACTIVE_TEAM.bad())?);
        let user = live.user.id.clone();
        let found = call.app.store.scan(move |tx| teams::members_for(tx, &team, &user)).await;
        let found = found.map_err(told_members)?;
        Ok(Reply::json(&shaped::<_, TeamMemberBody<'_>>(&found)))
    }
}

pub struct InTeam {
    team: TeamId,
    user: UserId,
    organization: Option<String>,
}

impl InTeam {
    fn read(fields: &mut Fields) -> InTeam {
        fields.need_object();
        InTeam {
            team: TeamId::from_text(fields.text("teamId")),
            user: UserId::from_text(fields.id("userId")),
            organization: fields.maybe_text("organizationId"),
        }
    }

    fn told(refusal: Refusal, to_members: Failure) -> Failure {
        told(refusal, &USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION.bad(), &to_members)
    }
}

impl Endpoint for AddTeamMember {
    type Input = InTeam;
    const SPEC: Spec =
        Spec::post("/organization/add-team-member", Access::SignedIn, "Puts a member into a team")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> InTeam {
        InTeam::read(fields)
    }

    async fn run(call: Call, input: InTeam) -> Outcome {
        let live = call.signed_in()?;
        let (organization, caller) = (one_of(live, input.organization.as_deref())?, live.user.id.clone());
        let now = call.now;
        let added = call.app.store.write(move |tx| {
            let whom = (&input.team, &input.user);
            teams::add(tx, &organization, &caller, whom, now, &mut random::secure())
        });
        let member = added.await.map_err(|refusal| {
            InTeam::told(refusal, YOU_ARE_NOT_ALLOWED_TO_CREATE_A_NEW_TEAM_MEMBER.forbidden())
        })?;
        Ok(Reply::json(&TeamMemberBody::from(&member)))
    }
}

impl Endpoint for RemoveTeamMember {
    type Input = InTeam;
    const SPEC: Spec =
        Spec::post("/organization/remove-team-member", Access::SignedIn, "Takes a member out of a team")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> InTeam {
        InTeam::read(fields)
    }

    async fn run(call: Call, input: InTeam) -> Outcome {
        let live = call.signed_in()?;
        let (organization, caller) = (one_of(live, input.organization.as_deref())?, live.user.id.clone());
        let removed = call
            .app
            .store
            .write(move |tx| teams::remove(tx, &organization, &caller, (&input.team, &input.user)))
            .await;
        removed.map_err(|refusal| {
            InTeam::told(refusal, YOU_ARE_NOT_ALLOWED_TO_REMOVE_A_TEAM_MEMBER.forbidden())
        })?;
        Ok(Reply::json(&json!({ "message": "Team member removed successfully." })))
    }
}
