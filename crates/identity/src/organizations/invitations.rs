//! Invitations: an address that may become a member, by a link that is mailed to it.

use super::members::{self, Member};
use super::permissions::{self, Action};
use super::{Limits, Organization, Refusal, demand, find as find_organization, take_turn, teams};
use crate::email::EmailAddress;
use crate::sessions;
use crate::users::{self, User};
use kernel::{InvitationId, MemberId, Millis, OrganizationId, SessionId, TeamId, UserId};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

#[derive(Debug, Clone, PartialEq)]
pub struct Invitation {
    pub id: InvitationId,
    pub organization_id: OrganizationId,
    pub email: String,
    /// One name or several, separated by commas.
    pub role: String,
    /// One id or several, separated by commas.
    pub team_id: Option<String>,
    pub status: Status,
    pub inviter_id: UserId,
    pub expires_at: Millis,
    pub created_at: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Accepted,
    Rejected,
    Canceled,
}

impl Status {
    const ALL: [Status; 4] = [Status::Pending, Status::Accepted, Status::Rejected, Status::Canceled];

    /// As it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Accepted => "accepted",
            Status::Rejected => "rejected",
            Status::Canceled => "canceled",
        }
    }
}

macro_rules! columns {
    () => {
        "i.id, i.organization_id, i.email, i.role, i.team_id, i.status, i.inviter_id, i.expires_at, i.created_at"
    };
}

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM invitations i WHERE i.id = $1");
const WAITING_OF_ADDRESS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM invitations i WHERE i.organization_id = $1 AND i.email = $2 AND i.status = 'pending' AND i.expires_at > $3
      ORDER BY i.created_at, i.id LIMIT 1"
);
const COUNT_WAITING: &str = "
    SELECT COUNT(*) FROM invitations WHERE organization_id = $1 AND status = 'pending' AND expires_at > $2";
const WAITING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM invitations i WHERE i.organization_id = $1 AND i.status = 'pending' AND i.expires_at > $2"
);
// The newest thousand, should there be more.
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM invitations i WHERE i.organization_id = $1 ORDER BY i.created_at DESC, i.id DESC LIMIT 1000"
);
const OF_ADDRESS: &str = concat!(
    "SELECT ",
    columns!(),
    ", o.name FROM invitations i JOIN organizations o ON o.id = i.organization_id
      WHERE i.email = $1 AND i.status = 'pending' ORDER BY i.created_at DESC, i.id DESC LIMIT 1000"
);
const INSERT: &str = "
    INSERT INTO invitations (id, organization_id, email, role, team_id, status, inviter_id, expires_at, created_at)
    VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8)";
const PROLONG: &str = "UPDATE invitations SET expires_at = $2 WHERE id = $1";
const ANSWER: &str = "UPDATE invitations SET status = $2 WHERE id = $1 AND status = 'pending'";
const CANCEL: &str = "UPDATE invitations SET status = 'canceled' WHERE id = $1";
const SET_TEAM: &str = "UPDATE invitations SET team_id = $2 WHERE id = $1";

/// Whom to invite, and as what.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    pub email: EmailAddress,
    pub roles: Vec<String>,
    pub teams: Vec<String>,
    /// An invitation that waits is mailed again and lives on, instead of standing in the way.
    pub resend: bool,
}

/// What came of accepting.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub invitation: Invitation,
    pub member: Member,
    /// The one team that the invitation led into, now the session's.
    pub team: Option<TeamId>,
}

/// An invitation as its recipient sees it.
#[derive(Debug, Clone)]
pub struct Shown {
    pub invitation: Invitation,
    pub organization: Organization,
    pub inviter_email: String,
}

impl Invitation {
    fn read(row: &Row<'_>) -> Result<Invitation, Error> {
        let status = row.text(5)?;
        let status = Status::ALL.into_iter().find(|known| known.name() == status);
        Ok(Invitation {
            id: InvitationId::from_text(row.text(0)?),
            organization_id: OrganizationId::from_text(row.text(1)?),
            email: row.get(2)?,
            role: row.get(3)?,
            team_id: row.get(4)?,
            status: status.ok_or_else(|| Error::Fault("an invitation of another status".into()))?,
            inviter_id: UserId::from_text(row.text(6)?),
            expires_at: row.get(7)?,
            created_at: row.get(8)?,
        })
    }

    fn team_ids(&self) -> impl Iterator<Item = &str> {
        self.team_id.as_deref().unwrap_or("").split(',').filter(|id| !id.is_empty())
    }

    fn waits(&self, now: Millis) -> bool {
        self.status == Status::Pending && self.expires_at > now
    }
}

fn by_id(tx: &mut Tx<'_>, id: &InvitationId) -> Result<Option<Invitation>, Error> {
    tx.query_opt(BY_ID, params![id.as_str()], Invitation::read)
}

/// The invitation once its organization's turn has come.
fn in_turn(tx: &mut Tx<'_>, id: &InvitationId) -> Result<Option<Invitation>, Error> {
    let Some(found) = by_id(tx, id)? else { return Ok(None) };
    take_turn(tx, &found.organization_id)?;
    by_id(tx, id)
}

/// Invites an address, or prolongs the invitation that waits for it.
pub fn invite(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    new: &NewInvitation,
    limits: &Limits,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(Invitation, Organization), Refusal> {
    take_turn(tx, organization)?;
    let own = demand(tx, organization, caller, Action::CreateInvitation)?;
    if new.roles.is_empty() {
        return Err(Refusal::NoRole);
    }
    members::known(&new.roles)?;
    if new.roles.iter().any(|role| role == members::OWNER) && !own.is_owner() {
        return Err(Refusal::OwnersOnly);
    }
    let email = new.email.as_str();
    if members::by_email(tx, organization, email)?.is_some() {
        return Err(Refusal::AlreadyMember);
    }
    let waiting =
        tx.query_opt(WAITING_OF_ADDRESS, params![organization.as_str(), email, now], Invitation::read)?;
    if waiting.is_some() && !new.resend {
        return Err(Refusal::AlreadyInvited);
    }
    let found = find_organization(tx, organization)?.ok_or(Refusal::NoOrganization)?;
    let expires_at = now.plus(limits.invitation_life);
    if let Some(mut waiting) = waiting {
        if members::names_owner(&waiting.role) && !own.is_owner() {
            return Err(Refusal::OwnersOnly);
        }
        waiting.expires_at = expires_at;
        tx.execute(PROLONG, params![waiting.id.as_str(), expires_at])?;
        return Ok((waiting, found));
    }
    let count = tx.query_one(COUNT_WAITING, params![organization.as_str(), now], |row| row.get::<i64>(0))?;
    if count >= limits.invitations {
        return Err(Refusal::TooManyInvitations);
    }
    if new.teams.iter().any(|id| id.contains(',')) {
        return Err(Refusal::BadTeam);
    }
    for id in &new.teams {
        teams::find(tx, organization, &TeamId::from_text(id.as_str()))?.ok_or(Refusal::NoTeam)?;
    }
    let invitation = Invitation {
        id: InvitationId::new(rng),
        organization_id: organization.clone(),
        email: email.into(),
        role: members::joined(&new.roles),
        team_id: (!new.teams.is_empty()).then(|| new.teams.join(",")),
        status: Status::Pending,
        inviter_id: caller.clone(),
        expires_at,
        created_at: now,
    };
    let i = &invitation;
    tx.execute(
        INSERT,
        params![
            i.id.as_str(),
            organization.as_str(),
            &i.email,
            &i.role,
            &i.team_id,
            i.inviter_id.as_str(),
            expires_at,
            now
        ],
    )?;
    Ok((invitation, found))
}

/// The caller must be the one who was invited: the address of the link is no proof that one reads its mail, so an app may
/// ask for a verified one.
fn is_for(invitation: &Invitation, user: &User, verified_only: bool) -> Result<(), Refusal> {
    if !invitation.email.eq_ignore_ascii_case(&user.email) {
        return Err(Refusal::NotTheRecipient);
    }
    if verified_only && !user.email_verified { Err(Refusal::Unverified) } else { Ok(()) }
}

/// Makes whoever was invited a member, and the organization the active one of the session. Once, however many try.
pub fn accept(
    tx: &mut Tx<'_>,
    id: &InvitationId,
    (caller, session): (&UserId, &SessionId),
    verified_only: bool,
    limits: &Limits,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Accepted, Refusal> {
    users::take_turn(tx, caller)?;
    let mut invitation =
        in_turn(tx, id)?.filter(|invitation| invitation.waits(now)).ok_or(Refusal::NoInvitation)?;
    // Read in the user's turn: the address may have changed, and the user may be gone.
    let user = users::by_id(tx, caller)?.ok_or(Refusal::CallerGone)?;
    is_for(&invitation, &user, verified_only)?;
    let organization = invitation.organization_id.clone();
    find_organization(tx, &organization)?.ok_or(Refusal::NoOrganization)?;
    if members::count(tx, &organization)? >= limits.members {
        return Err(Refusal::TooManyMembers);
    }
    if tx.execute(ANSWER, params![id.as_str(), Status::Accepted.name()])? == 0 {
        return Err(Refusal::NoInvitation);
    }
    invitation.status = Status::Accepted;
    let member = Member {
        id: MemberId::new(rng),
        organization_id: organization.clone(),
        user_id: user.id.clone(),
        role: permissions::names(&invitation.role).collect::<Vec<_>>().join(","),
        created_at: now,
    };
    if !members::insert(tx, &member)? {
        return Err(Refusal::AlreadyMember);
    }
    let ids: Vec<TeamId> = invitation.team_ids().map(TeamId::from_text).collect();
    for id in &ids {
        teams::find(tx, &organization, id)?.ok_or(Refusal::NoTeam)?;
        teams::join(tx, id, &user.id, now, rng)?;
    }
    let team = match ids.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    };
    if let Some(team) = &team {
        sessions::set_active_team(tx, session, Some(team))?;
    }
    sessions::set_active_organization(tx, session, Some(&organization))?;
    Ok(Accepted { invitation, member, team })
}

/// Says no. A late one can still be rejected.
pub fn reject(
    tx: &mut Tx<'_>,
    id: &InvitationId,
    caller: &User,
    verified_only: bool,
) -> Result<Invitation, Refusal> {
    let found = in_turn(tx, id)?.filter(|invitation| invitation.status == Status::Pending);
    let mut invitation = found.ok_or(Refusal::NoInvitation)?;
    is_for(&invitation, caller, verified_only)?;
    if tx.execute(ANSWER, params![id.as_str(), Status::Rejected.name()])? == 0 {
        return Err(Refusal::NoInvitation);
    }
    invitation.status = Status::Rejected;
    Ok(invitation)
}

/// Takes an invitation back.
pub fn cancel(tx: &mut Tx<'_>, id: &InvitationId, caller: &UserId) -> Result<Invitation, Refusal> {
    let mut invitation = in_turn(tx, id)?.ok_or(Refusal::NoInvitation)?;
    demand(tx, &invitation.organization_id, caller, Action::CancelInvitation)?;
    tx.execute(CANCEL, params![id.as_str()])?;
    invitation.status = Status::Canceled;
    Ok(invitation)
}

/// What the recipient is shown before the answer.
pub fn show(
    tx: &mut Tx<'_>,
    id: &InvitationId,
    caller: &User,
    verified_only: bool,
    now: Millis,
) -> Result<Shown, Refusal> {
    let found = by_id(tx, id)?.filter(|invitation| invitation.waits(now));
    let invitation = found.ok_or(Refusal::NoInvitation)?;
    is_for(&invitation, caller, verified_only)?;
    let organization = find_organization(tx, &invitation.organization_id)?.ok_or(Refusal::NoOrganization)?;
    let inviter = members::with_person(tx, &invitation.organization_id, &invitation.inviter_id)?;
    let (_, person) = inviter.ok_or(Refusal::InviterLeft)?;
    Ok(Shown { invitation, organization, inviter_email: person.email })
}

/// Invitations open like links, so that they are shown to those alone who could make them; owners' ones to owners.
pub fn visible_to(member: &Member, mut invitations: Vec<Invitation>) -> Vec<Invitation> {
    if !permissions::allows(&member.role, Action::CreateInvitation) {
        return Vec::new();
    }
    if !member.is_owner() {
        invitations.retain(|invitation| !members::names_owner(&invitation.role));
    }
    invitations
}

pub fn list(tx: &mut Tx<'_>, organization: &OrganizationId) -> Result<Vec<Invitation>, Error> {
    let mut found = tx.query(LIST, params![organization.as_str()], Invitation::read)?;
    found.reverse();
    Ok(found)
}

/// All invitations of an organization, for a member who may make some.
pub fn list_for(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
) -> Result<Vec<Invitation>, Refusal> {
    let own = demand(tx, organization, caller, Action::CreateInvitation)?;
    Ok(visible_to(&own, list(tx, organization)?))
}

/// What waits for an address, each with the name of its organization.
pub fn of_address(tx: &mut Tx<'_>, email: &str) -> Result<Vec<(Invitation, String)>, Error> {
    let read = |row: &Row<'_>| Ok((Invitation::read(row)?, row.get(9)?));
    let mut found = tx.query(OF_ADDRESS, params![email], read)?;
    found.reverse();
    Ok(found)
}

/// Those that wait no longer lead into a team that is deleted.
pub(super) fn forget_team(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    team: &TeamId,
    now: Millis,
) -> Result<(), Error> {
    for invitation in tx.query(WAITING, params![organization.as_str(), now], Invitation::read)? {
        let rest: Vec<&str> = invitation.team_ids().filter(|id| *id != team.as_str()).collect();
        if rest.len() < invitation.team_ids().count() {
            let rest = (!rest.is_empty()).then(|| rest.join(","));
            tx.execute(SET_TEAM, params![invitation.id.as_str(), &rest])?;
        }
    }
    Ok(())
}
