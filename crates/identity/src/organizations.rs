//! Organizations: who belongs together, what each member may do, whom they have invited.
//!
//! Every change of an organization takes its turn first ([`take_turn`]), so that its limits hold and its last owner stays,
//! however many requests come at once on however many nodes. Whoever takes a user's turn as well takes that one before.

pub mod invitations;
pub mod members;
pub mod permissions;
pub mod teams;

use crate::{sessions, users};
use kernel::time::HOUR;
use kernel::{MemberId, Millis, OrganizationId, TeamId, UserId};
use members::{Member, OWNER};
use permissions::{Action, allows};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};
use teams::Team;

#[derive(Debug, Clone, PartialEq)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    pub slug: String,
    pub logo: Option<String>,
    /// The text of a JSON object.
    pub metadata: Option<String>,
    pub created_at: Millis,
}

/// How much of everything there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In one organization.
    pub members: i64,
    /// That wait for an answer, in one organization.
    pub invitations: i64,
    /// In one organization.
    pub teams: i64,
    /// That one user belongs to and then still makes another.
    pub organizations: i64,
    pub invitation_life: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { members: 100, invitations: 100, teams: 100, organizations: 100, invitation_life: 48 * HOUR }
    }
}

/// Why a request about an organization is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such organization")]
    NoOrganization,
    /// The caller does not belong to the organization.
    #[error("the caller is no member")]
    NotAMember,
    /// The caller belongs to it, and that does not suffice.
    #[error("the member's role does not allow it")]
    NotAllowed,
    #[error("the slug is taken")]
    SlugTaken,
    #[error("the caller belongs to too many organizations")]
    TooManyOrganizations,
    #[error("the organization is full")]
    TooManyMembers,
    #[error("too many invitations wait for an answer")]
    TooManyInvitations,
    #[error("there are too many teams")]
    TooManyTeams,
    #[error("no role is named")]
    NoRole,
    #[error("there is no role {0}")]
    UnknownRole(String),
    /// Owners alone hand out their role, and take it away.
    #[error("only an owner may do that")]
    OwnersOnly,
    #[error("the last owner stays")]
    LastOwner,
    #[error("there is no such member")]
    NoMember,
    /// Of another organization.
    #[error("the member belongs elsewhere")]
    MemberElsewhere,
    #[error("the address is a member's")]
    AlreadyMember,
    #[error("the address is invited")]
    AlreadyInvited,
    #[error("there is no invitation that can be answered")]
    NoInvitation,
    #[error("the invitation is somebody else's")]
    NotTheRecipient,
    #[error("the caller's address is not verified")]
    Unverified,
    #[error("whoever invited has left")]
    InviterLeft,
    #[error("there is no such team")]
    NoTeam,
    #[error("the team's id holds a comma")]
    BadTeam,
    #[error("the last team stays")]
    LastTeam,
    #[error("the team is the caller's active one")]
    ActiveTeam,
    #[error("the caller is not in the team")]
    NotInTeam,
    /// The user who shall be added or removed does not belong to the organization.
    #[error("the other user is no member")]
    OtherNotAMember,
    /// The caller was deleted a moment ago.
    #[error("the caller is gone")]
    CallerGone,
    #[error("{0}")]
    Store(#[from] Error),
}

macro_rules! columns {
    () => {
        "o.id, o.name, o.slug, o.logo, o.metadata, o.created_at"
    };
}

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM organizations o WHERE o.id = $1");
const BY_SLUG: &str = concat!("SELECT ", columns!(), " FROM organizations o WHERE o.slug = $1");
const EXISTS: &str = "SELECT 1 FROM organizations WHERE id = $1";
const OF_USER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM members m JOIN organizations o ON o.id = m.organization_id WHERE m.user_id = $1
      ORDER BY m.created_at, m.id LIMIT 1000"
);
const COUNT_OF_USER: &str = "SELECT COUNT(*) FROM members WHERE user_id = $1";
const INSERT: &str = "
    INSERT INTO organizations (id, name, slug, logo, metadata, created_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING";
const SET: &str = "
    UPDATE organizations SET name = $2, slug = $3, logo = $4, metadata = $5 WHERE id = $1
    AND NOT EXISTS (SELECT 1 FROM organizations other WHERE other.slug = $3 AND other.id <> $1)";
const DELETE: &str = "DELETE FROM organizations WHERE id = $1";

/// What a new organization is made of.
#[derive(Debug, Clone)]
pub struct NewOrganization {
    pub name: String,
    pub slug: String,
    pub logo: Option<String>,
    pub metadata: Option<String>,
}

/// An organization with what is made together with it.
#[derive(Debug, Clone)]
pub struct Founded {
    pub organization: Organization,
    pub owner: Member,
    pub team: Team,
}

/// What shall become of an organization; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub name: Option<String>,
    pub slug: Option<String>,
    pub logo: Option<Option<String>>,
    pub metadata: Option<String>,
}

impl Organization {
    fn read(row: &Row<'_>) -> Result<Organization, Error> {
        Ok(Organization {
            id: OrganizationId::from_text(row.text(0)?),
            name: row.get(1)?,
            slug: row.get(2)?,
            logo: row.get(3)?,
            metadata: row.get(4)?,
            created_at: row.get(5)?,
        })
    }
}

/// Waits for the organization's turn; to be taken before anything about it is read that a decision rests on.
pub fn take_turn(tx: &mut Tx<'_>, id: &OrganizationId) -> Result<(), Error> {
    tx.lock("organization", &[id.as_str()])
}

pub fn find(tx: &mut Tx<'_>, id: &OrganizationId) -> Result<Option<Organization>, Error> {
    tx.query_opt(BY_ID, params![id.as_str()], Organization::read)
}

pub fn by_slug(tx: &mut Tx<'_>, slug: &str) -> Result<Option<Organization>, Error> {
    tx.query_opt(BY_SLUG, params![slug], Organization::read)
}

pub fn exists(tx: &mut Tx<'_>, id: &OrganizationId) -> Result<bool, Error> {
    Ok(tx.query_opt(EXISTS, params![id.as_str()], |_| Ok(()))?.is_some())
}

/// Those that a user belongs to, longest first.
pub fn of_user(tx: &mut Tx<'_>, user: &UserId) -> Result<Vec<Organization>, Error> {
    tx.query(OF_USER, params![user.as_str()], Organization::read)
}

/// A user's role in an organization: one name or several, separated by commas. `None` for whoever does not belong.
pub fn member_role(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<Option<String>, Error> {
    Ok(members::of_user(tx, organization, user)?.map(|member| member.role))
}

/// The caller as a member who may do this.
pub(crate) fn demand(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    action: Action,
) -> Result<Member, Refusal> {
    let member = members::of_user(tx, organization, caller)?.ok_or(Refusal::NotAMember)?;
    if allows(&member.role, action) { Ok(member) } else { Err(Refusal::NotAllowed) }
}

/// Makes an organization with its owner and its first team, which has its name.
pub fn found(
    tx: &mut Tx<'_>,
    owner: &UserId,
    new: &NewOrganization,
    limits: &Limits,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Founded, Refusal> {
    users::take_turn(tx, owner)?;
    if !users::exists(tx, owner)? {
        return Err(Refusal::CallerGone);
    }
    let count = tx.query_one(COUNT_OF_USER, params![owner.as_str()], |row| row.get::<i64>(0))?;
    if count >= limits.organizations {
        return Err(Refusal::TooManyOrganizations);
    }
    let organization = Organization {
        id: OrganizationId::new(rng),
        name: new.name.clone(),
        slug: new.slug.clone(),
        logo: new.logo.clone(),
        metadata: new.metadata.clone(),
        created_at: now,
    };
    // Of several who want one slug at once each waits for the one before, and sees that it is taken.
    tx.lock("slug", &[&new.slug])?;
    let o = &organization;
    let values = params![o.id.as_str(), &o.name, &o.slug, &o.logo, &o.metadata, now];
    if tx.execute(INSERT, values)? == 0 {
        return Err(Refusal::SlugTaken);
    }
    let owner = Member {
        id: MemberId::new(rng),
        organization_id: organization.id.clone(),
        user_id: owner.clone(),
        role: OWNER.into(),
        created_at: now,
    };
    members::insert(tx, &owner)?;
    let team = Team {
        id: TeamId::new(rng),
        organization_id: organization.id.clone(),
        name: organization.name.clone(),
        created_at: now,
        updated_at: None,
    };
    teams::insert(tx, &team)?;
    teams::join(tx, &team.id, &owner.user_id, now, rng)?;
    Ok(Founded { organization, owner, team })
}

pub fn change(
    tx: &mut Tx<'_>,
    id: &OrganizationId,
    caller: &UserId,
    changes: &Changes,
) -> Result<Organization, Refusal> {
    take_turn(tx, id)?;
    demand(tx, id, caller, Action::UpdateOrganization)?;
    let mut organization = find(tx, id)?.ok_or(Refusal::NoOrganization)?;
    if let Some(slug) = &changes.slug {
        tx.lock("slug", &[slug])?;
        organization.slug.clone_from(slug);
    }
    if let Some(name) = &changes.name {
        organization.name.clone_from(name);
    }
    if let Some(logo) = &changes.logo {
        organization.logo.clone_from(logo);
    }
    if let Some(metadata) = &changes.metadata {
        organization.metadata = Some(metadata.clone());
    }
    let o = &organization;
    let changed = tx.execute(SET, params![id.as_str(), &o.name, &o.slug, &o.logo, &o.metadata])?;
    if changed == 1 { Ok(organization) } else { Err(Refusal::SlugTaken) }
}

/// Deletes an organization for a member who may; gives what it was. The caller closes what it owned.
pub fn dissolve(tx: &mut Tx<'_>, id: &OrganizationId, caller: &UserId) -> Result<Organization, Refusal> {
    take_turn(tx, id)?;
    demand(tx, id, caller, Action::DeleteOrganization)?;
    let organization = find(tx, id)?.ok_or(Refusal::NoOrganization)?;
    delete(tx, id)?;
    Ok(organization)
}

/// Deletes it with members, invitations and teams; nobody is active in it any more.
pub fn delete(tx: &mut Tx<'_>, id: &OrganizationId) -> Result<bool, Error> {
    sessions::leave_organization(tx, id, None)?;
    Ok(tx.execute(DELETE, params![id.as_str()])? == 1)
}
