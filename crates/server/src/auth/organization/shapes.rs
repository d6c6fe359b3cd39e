//! Organizations, members, invitations and teams as clients see them.

use crate::auth::json::Instant;
use identity::organizations::Organization;
use identity::organizations::invitations::Invitation;
use identity::organizations::members::{Member, Person};
use identity::organizations::teams::{Team, TeamMember};
use serde::Serialize;
use serde_json::Value;

/// The same metadata comes as a text from some routes and as an object from others, where it is left out when there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Metadata<'a> {
    Text(Option<&'a str>),
    Object(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationBody<'a> {
    id: &'a str,
    name: &'a str,
    slug: &'a str,
    logo: Option<&'a str>,
    created_at: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

impl<'a> OrganizationBody<'a> {
    fn new(organization: &'a Organization, metadata: Option<Metadata<'a>>) -> Self {
        OrganizationBody {
            id: organization.id.as_str(),
            name: &organization.name,
            slug: &organization.slug,
            logo: organization.logo.as_deref(),
            created_at: Instant(organization.created_at),
            metadata,
        }
    }

    /// With metadata as it is stored.
    pub fn stored(organization: &'a Organization) -> Self {
        OrganizationBody::new(organization, Some(Metadata::Text(organization.metadata.as_deref())))
    }

    /// With metadata as it was sent.
    pub fn opened(organization: &'a Organization) -> Self {
        let opened = organization.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
        OrganizationBody::new(organization, opened.map(Metadata::Object))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberBody<'a> {
    id: &'a str,
    organization_id: &'a str,
    user_id: &'a str,
    role: &'a str,
    created_at: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<PersonBody<'a>>,
}

#[derive(Serialize)]
struct PersonBody<'a> {
    id: &'a str,
    name: &'a str,
    email: &'a str,
    image: Option<&'a str>,
}

impl<'a> MemberBody<'a> {
    pub fn new(member: &'a Member, person: Option<&'a Person>) -> Self {
        MemberBody {
            id: member.id.as_str(),
            organization_id: member.organization_id.as_str(),
            user_id: member.user_id.as_str(),
            role: &member.role,
            created_at: Instant(member.created_at),
            user: person.map(|person| PersonBody {
                id: person.id.as_str(),
                name: &person.name,
                email: &person.email,
                image: person.image.as_deref(),
            }),
        }
    }

    pub fn list(found: &'a [(Member, Person)]) -> Vec<MemberBody<'a>> {
        found.iter().map(|(member, person)| MemberBody::new(member, Some(person))).collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvitationBody<'a> {
    id: &'a str,
    organization_id: &'a str,
    email: &'a str,
    role: &'a str,
    status: &'a str,
    team_id: Option<&'a str>,
    inviter_id: &'a str,
    expires_at: Instant,
    created_at: Instant,
}

impl<'a> From<&'a Invitation> for InvitationBody<'a> {
    fn from(invitation: &'a Invitation) -> Self {
        InvitationBody {
            id: invitation.id.as_str(),
            organization_id: invitation.organization_id.as_str(),
            email: &invitation.email,
            role: &invitation.role,
            status: invitation.status.name(),
            team_id: invitation.team_id.as_deref(),
            inviter_id: invitation.inviter_id.as_str(),
            expires_at: Instant(invitation.expires_at),
            created_at: Instant(invitation.created_at),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TeamBody<'a> {
    id: &'a str,
    name: &'a str,
    organization_id: &'a str,
    created_at: Instant,
    updated_at: Option<Instant>,
}

impl<'a> From<&'a Team> for TeamBody<'a> {
    fn from(team: &'a Team) -> Self {
        TeamBody {
            id: team.id.as_str(),
            name: &team.name,
            organization_id: team.organization_id.as_str(),
            created_at: Instant(team.created_at),
            updated_at: team.updated_at.map(Instant),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TeamMemberBody<'a> {
    id: &'a str,
    team_id: &'a str,
    user_id: &'a str,
    created_at: Instant,
}

impl<'a> From<&'a TeamMember> for TeamMemberBody<'a> {
    fn from(member: &'a TeamMember) -> Self {
        TeamMemberBody {
            id: &member.id,
            team_id: member.team_id.as_str(),
            user_id: member.user_id.as_str(),
            created_at: Instant(member.created_at),
        }
    }
}

/// Each of a list in its shape.
pub fn shaped<'a, T, S: From<&'a T>>(found: &'a [T]) -> Vec<S> {
    found.iter().map(S::from).collect()
}
