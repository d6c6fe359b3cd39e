//! The session's active organization and team: choose one, look at it.

use super::codes::*;
use super::most_members;
use super::shapes::{InvitationBody, MemberBody, OrganizationBody, TeamBody, shaped};
use crate::auth::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::{Fields, Nullable};
use crate::settings::Switch;
use identity::LiveSession;
use identity::organizations::invitations::{self, Invitation};
use identity::organizations::members::{self, Member, Person};
use identity::organizations::teams::{self, Team};
use identity::organizations::{self, Organization, Refusal};
use identity::sessions;
use kernel::{OrganizationId, TeamId};
use serde::Serialize;
use serde_json::Value;
use store::Tx;

pub struct SetActive;
pub struct SetActiveTeam;
pub struct GetOrganization;
pub struct GetFullOrganization;

/// By which name an organization is asked for.
enum Asked {
    Slug(String),
    Id(OrganizationId),
}

impl Asked {
    /// A slug goes before an id, and both before the active one.
    fn by(live: &LiveSession, slug: Option<String>, id: Option<&str>) -> Option<Asked> {
        match slug.filter(|slug| !slug.is_empty()) {
            Some(slug) => Some(Asked::Slug(slug)),
            None => super::named_or_active(live, id).map(Asked::Id),
        }
    }

    fn find(&self, tx: &mut Tx<'_>) -> Result<Organization, Refusal> {
        let found = match self {
            Asked::Slug(slug) => organizations::by_slug(tx, slug)?,
            Asked::Id(id) => organizations::find(tx, id)?,
        };
        found.ok_or(Refusal::NoOrganization)
    }
}

/// A stranger to an organization is told so, and is active in none afterwards.
async fn refused(call: &Call, refusal: Refusal) -> Failure {
    let Refusal::NotAMember = refusal else { return super::told_members(refusal) };
    let Ok(live) = call.signed_in() else { return super::told_members(Refusal::CallerGone) };
    let session = live.session.id.clone();
    let cleared = call.app.store.write(move |tx| sessions::set_active_organization(tx, &session, None)).await;
    match cleared {
        Ok(()) => USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION.forbidden(),
        Err::<_, store::Error>(error) => error.into(),
    }
}

impl Endpoint for SetActive {
    type Input = (Nullable, Option<String>);
    const SPEC: Spec = Spec::post(
        "/organization/set-active",
        Access::SignedIn,
        "Makes one of one's organizations the session's active one, or none",
    )
    .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> (Nullable, Option<String>) {
        fields.need_object();
        (fields.nullable_text("organizationId"), fields.maybe_text("organizationSlug"))
    }

    async fn run(call: Call, (id, slug): (Nullable, Option<String>)) -> Outcome {
        let live = call.signed_in()?.clone();
        let active = live.session.active_organization_id.as_deref();
        let asked = match &id {
            Nullable::Null => None,
            Nullable::Text(id) if !id.is_empty() => Some(Asked::Id(OrganizationId::from_text(id.as_str()))),
            _ => match slug.filter(|slug| !slug.is_empty()) {
                Some(slug) => Some(Asked::Slug(slug)),
                None => active.map(|id| Asked::Id(OrganizationId::from_text(id))),
            },
        };
        let Some(asked) = asked else {
            let reply = Reply::json(&Value::Null);
            if active.is_none() {
                return Ok(reply);
            }
            let session = live.session.id.clone();
            let clear = move |tx: &mut Tx<'_>| sessions::set_active_organization(tx, &session, None);
            call.app.store.write::<_, store::Error, _>(clear).await?;
            return Ok(reply.grant(Grant::renew(&live)));
        };
        let (user, session) = (live.user.id.clone(), live.session.id.clone());
        let chosen = call.app.store.write(move |tx| {
            // An id is judged by membership alone, so that strangers do not learn which exist.
            let id = match &asked {
                Asked::Id(id) => id.clone(),
                Asked::Slug(_) => asked.find(tx)?.id,
            };
            organizations::take_turn(tx, &id)?;
            members::of_user(tx, &id, &user)?.ok_or(Refusal::NotAMember)?;
            let organization = organizations::find(tx, &id)?.ok_or(Refusal::NoOrganization)?;
            sessions::set_active_organization(tx, &session, Some(&id))?;
            Ok(organization)
        });
        match chosen.await {
            Ok(organization) => {
                Ok(Reply::json(&OrganizationBody::stored(&organization)).grant(Grant::renew(&live)))
            }
            Err(refusal) => Err(refused(&call, refusal).await),
        }
    }
}

impl Endpoint for SetActiveTeam {
    type Input = Nullable;
    const SPEC: Spec = Spec::post(
        "/organization/set-active-team",
        Access::SignedIn,
        "Makes one of one's teams the session's active one, or none",
    )
    .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> Nullable {
        fields.need_object();
        fields.nullable_text("teamId")
    }

    async fn run(call: Call, team: Nullable) -> Outcome {
        let live = call.signed_in()?.clone();
        let active = live.session.active_team_id.clone();
        let team = match team {
            Nullable::Null => None,
            Nullable::Text(id) if !id.is_empty() => Some(TeamId::from_text(id)),
            _ => match active {
                Some(id) => Some(TeamId::from_text(id)),
                None => return Ok(Reply::json(&Value::Null)),
            },
        };
        let (user, session) = (live.user.id.clone(), live.session.id.clone());
        let Some(team) = team else {
            let reply = Reply::json(&Value::Null);
            if live.session.active_team_id.is_none() {
                return Ok(reply);
            }
            let clear = move |tx: &mut Tx<'_>| sessions::set_active_team(tx, &session, None);
            call.app.store.write::<_, store::Error, _>(clear).await?;
            return Ok(reply.grant(Grant::renew(&live)));
        };
        let organization = super::one_of(&live, None)?;
        let entered = call.app.store.write(move |tx| {
            let team = teams::enter(tx, &organization, &user, &team)?;
            sessions::set_active_team(tx, &session, Some(&team.id))?;
            Ok(team)
        });
        let team = entered.await.map_err(|refusal| match refusal {
            Refusal::NotInTeam => USER_IS_NOT_A_MEMBER_OF_THE_TEAM.forbidden(),
            refusal => super::told_members(refusal),
        })?;
        Ok(Reply::json(&TeamBody::from(&team)).grant(Grant::renew(&live)))
    }
}

impl Endpoint for GetOrganization {
    type Input = (Option<String>, Option<String>);
    const SPEC: Spec =
        Spec::get("/organization/get-organization", Access::SignedIn, "One of one's organizations")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> (Option<String>, Option<String>) {
        (fields.maybe_query("organizationId"), fields.maybe_query("organizationSlug"))
    }

    async fn run(call: Call, (id, slug): (Option<String>, Option<String>)) -> Outcome {
        let live = call.signed_in()?;
        let Some(asked) = Asked::by(live, slug, id.as_deref()) else { return Ok(Reply::json(&Value::Null)) };
        let user = live.user.id.clone();
        let found = call.app.store.read(move |tx| {
            let organization = asked.find(tx)?;
            members::of_user(tx, &organization.id, &user)?.ok_or(Refusal::NotAMember)?;
            Ok(organization)
        });
        match found.await {
            Ok(organization) => Ok(Reply::json(&OrganizationBody::stored(&organization))),
            Err(refusal) => Err(refused(&call, refusal).await),
        }
    }
}

pub struct FullInput {
    id: Option<String>,
    slug: Option<String>,
    members: Option<i64>,
}

/// An organization with everything in it, as far as the caller may see it.
struct Full {
    organization: Organization,
    invitations: Vec<Invitation>,
    members: Vec<(Member, Person)>,
    teams: Vec<(Team, i64)>,
}

#[derive(Serialize)]
struct FullBody<'a> {
    #[serde(flatten)]
    organization: OrganizationBody<'a>,
    invitations: Vec<InvitationBody<'a>>,
    members: Vec<MemberBody<'a>>,
    teams: Vec<CountedTeam<'a>>,
}

/// This route alone tells how many are in a team.
#[derive(Serialize)]
struct CountedTeam<'a> {
    #[serde(flatten)]
    team: TeamBody<'a>,
    #[serde(rename = "memberCount")]
    member_count: i64,
}

impl Endpoint for GetFullOrganization {
    type Input = FullInput;
    const SPEC: Spec = Spec::get(
        "/organization/get-full-organization",
        Access::SignedIn,
        "One of one's organizations with its members, invitations and teams",
    )
    .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> FullInput {
        FullInput {
            id: fields.maybe_query("organizationId"),
            slug: fields.maybe_query("organizationSlug"),
            members: fields.maybe_query("membersLimit").and_then(|text| text.parse().ok()),
        }
    }

    async fn run(call: Call, input: FullInput) -> Outcome {
        let live = call.signed_in()?;
        let Some(asked) = Asked::by(live, input.slug, input.id.as_deref()) else {
            return Ok(Reply::json(&Value::Null));
        };
        let (user, all) = (live.user.id.clone(), most_members(&call));
        let most = input.members.filter(|most| (1..=all).contains(most)).unwrap_or(all);
        let found = call.app.store.scan(move |tx| {
            let organization = asked.find(tx)?;
            let own = members::of_user(tx, &organization.id, &user)?.ok_or(Refusal::NotAMember)?;
            let invitations = invitations::visible_to(&own, invitations::list(tx, &organization.id)?);
            let members = members::list(tx, &organization.id, most)?;
            let teams = teams::list_counted(tx, &organization.id)?;
            Ok(Full { organization, invitations, members, teams })
        });
        match found.await {
            Ok(full) => Ok(Reply::json(&FullBody {
                organization: OrganizationBody::stored(&full.organization),
                invitations: shaped(&full.invitations),
                members: MemberBody::list(&full.members),
                teams: full
                    .teams
                    .iter()
                    .map(|(team, count)| CountedTeam { team: team.into(), member_count: *count })
                    .collect(),
            })),
            Err(refusal) => Err(refused(&call, refusal).await),
        }
    }
}
