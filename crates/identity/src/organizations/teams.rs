//! Teams: parts of an organization, each with some of its members.

use super::permissions::Action;
use super::{Limits, Refusal, demand, invitations, members, take_turn};
use crate::sessions;
use kernel::{Millis, OrganizationId, TeamId, UserId, random};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

#[derive(Debug, Clone, PartialEq)]
pub struct Team {
    pub id: TeamId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub created_at: Millis,
    pub updated_at: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TeamMember {
    pub id: String,
    pub team_id: TeamId,
    pub user_id: UserId,
    pub created_at: Millis,
}

macro_rules! columns {
    () => {
        "t.id, t.organization_id, t.name, t.created_at, t.updated_at"
    };
}

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM teams t WHERE t.id = $1");
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM teams t WHERE t.organization_id = $1 ORDER BY t.created_at, t.id LIMIT 1000"
);
const LIST_COUNTED: &str = concat!(
    "SELECT ",
    columns!(),
    ", (SELECT COUNT(*) FROM team_members own WHERE own.team_id = t.id)
      FROM teams t WHERE t.organization_id = $1 ORDER BY t.created_at, t.id LIMIT 1000"
);
const COUNT: &str = "SELECT COUNT(*) FROM teams WHERE organization_id = $1";
// Whoever has left an organization is in none of its teams.
const OF_USER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM team_members own JOIN teams t ON t.id = own.team_id
      JOIN members m ON m.organization_id = t.organization_id AND m.user_id = own.user_id
      WHERE own.user_id = $1 ORDER BY own.created_at, own.id LIMIT 1000"
);
const INSERT: &str = "
    INSERT INTO teams (id, organization_id, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)";
const RENAME: &str = "UPDATE teams SET name = $2, updated_at = $3 WHERE id = $1";
const DELETE: &str = "DELETE FROM teams WHERE id = $1";
const JOIN: &str = "
    INSERT INTO team_members (id, team_id, user_id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const LEAVE: &str = "DELETE FROM team_members WHERE team_id = $1 AND user_id = $2";
const LEAVE_ALL: &str = "
    DELETE FROM team_members WHERE user_id = $2 AND team_id IN (SELECT id FROM teams WHERE organization_id = $1)";
const MEMBER: &str =
    "SELECT id, team_id, user_id, created_at FROM team_members WHERE team_id = $1 AND user_id = $2";
const MEMBERS: &str = "
    SELECT id, team_id, user_id, created_at FROM team_members WHERE team_id = $1 ORDER BY created_at, id LIMIT 10000";

impl Team {
    fn read(row: &Row<'_>) -> Result<Team, Error> {
        Ok(Team {
            id: TeamId::from_text(row.text(0)?),
            organization_id: OrganizationId::from_text(row.text(1)?),
            name: row.get(2)?,
            created_at: row.get(3)?,
            updated_at: row.get(4)?,
        })
    }
}

impl TeamMember {
    fn read(row: &Row<'_>) -> Result<TeamMember, Error> {
        Ok(TeamMember {
            id: row.get(0)?,
            team_id: TeamId::from_text(row.text(1)?),
            user_id: UserId::from_text(row.text(2)?),
            created_at: row.get(3)?,
        })
    }
}

pub(crate) fn insert(tx: &mut Tx<'_>, team: &Team) -> Result<(), Error> {
    let t = team;
    let values = params![
        t.id.as_str(),
        t.organization_id.as_str(),
        &t.name,
        t.created_at,
        t.updated_at.map(|at| at.0)
    ];
    tx.execute(INSERT, values).map(|_| ())
}

/// A team of this organization.
pub fn find(tx: &mut Tx<'_>, organization: &OrganizationId, id: &TeamId) -> Result<Option<Team>, Error> {
    Ok(by_id(tx, id)?.filter(|team| team.organization_id == *organization))
}

fn by_id(tx: &mut Tx<'_>, id: &TeamId) -> Result<Option<Team>, Error> {
    tx.query_opt(BY_ID, params![id.as_str()], Team::read)
}

pub fn list(tx: &mut Tx<'_>, organization: &OrganizationId) -> Result<Vec<Team>, Error> {
    tx.query(LIST, params![organization.as_str()], Team::read)
}

/// [`list`] with how many are in each.
pub fn list_counted(tx: &mut Tx<'_>, organization: &OrganizationId) -> Result<Vec<(Team, i64)>, Error> {
    tx.query(LIST_COUNTED, params![organization.as_str()], |row| Ok((Team::read(row)?, row.get(5)?)))
}

/// Teams that a user is in, in all organizations.
pub fn of_user(tx: &mut Tx<'_>, user: &UserId) -> Result<Vec<Team>, Error> {
    tx.query(OF_USER, params![user.as_str()], Team::read)
}

pub fn member(tx: &mut Tx<'_>, team: &TeamId, user: &UserId) -> Result<Option<TeamMember>, Error> {
    tx.query_opt(MEMBER, params![team.as_str(), user.as_str()], TeamMember::read)
}

/// Puts a user into a team; who is in it already stays.
pub(crate) fn join(
    tx: &mut Tx<'_>,
    team: &TeamId,
    user: &UserId,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let id = random::alphanumeric(rng, 32);
    tx.execute(JOIN, params![&id, team.as_str(), user.as_str(), now]).map(|_| ())
}

pub(crate) fn leave_all(tx: &mut Tx<'_>, organization: &OrganizationId, user: &UserId) -> Result<(), Error> {
    tx.execute(LEAVE_ALL, params![organization.as_str(), user.as_str()]).map(|_| ())
}

pub fn create(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    name: &str,
    limits: &Limits,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Team, Refusal> {
    take_turn(tx, organization)?;
    demand(tx, organization, caller, Action::CreateTeam)?;
    let count = tx.query_one(COUNT, params![organization.as_str()], |row| row.get::<i64>(0))?;
    if count >= limits.teams {
        return Err(Refusal::TooManyTeams);
    }
    let team = Team {
        id: TeamId::new(rng),
        organization_id: organization.clone(),
        name: name.into(),
        created_at: now,
        updated_at: Some(now),
    };
    insert(tx, &team)?;
    Ok(team)
}

pub fn change(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    id: &TeamId,
    name: Option<&str>,
    now: Millis,
) -> Result<Team, Refusal> {
    take_turn(tx, organization)?;
    demand(tx, organization, caller, Action::UpdateTeam)?;
    let mut team = find(tx, organization, id)?.ok_or(Refusal::NoTeam)?;
    if let Some(name) = name {
        team.name = name.into();
    }
    team.updated_at = Some(now);
    tx.execute(RENAME, params![id.as_str(), &team.name, now])?;
    Ok(team)
}

/// Deletes a team, but neither the caller's `active` one nor the last. Invitations that wait no longer lead into it.
pub fn delete(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    id: &TeamId,
    active: Option<&str>,
    now: Millis,
) -> Result<(), Refusal> {
    take_turn(tx, organization)?;
    if active == Some(id.as_str()) && members::of_user(tx, organization, caller)?.is_some() {
        return Err(Refusal::ActiveTeam);
    }
    demand(tx, organization, caller, Action::DeleteTeam)?;
    find(tx, organization, id)?.ok_or(Refusal::NoTeam)?;
    if tx.query_one(COUNT, params![organization.as_str()], |row| row.get::<i64>(0))? <= 1 {
        return Err(Refusal::LastTeam);
    }
    sessions::leave_team(tx, id, None)?;
    invitations::forget_team(tx, organization, id, now)?;
    tx.execute(DELETE, params![id.as_str()])?;
    Ok(())
}

/// The team that a session is to be active in.
pub fn enter(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    user: &UserId,
    id: &TeamId,
) -> Result<Team, Refusal> {
    take_turn(tx, organization)?;
    let team = find(tx, organization, id)?.ok_or(Refusal::NoTeam)?;
    member(tx, id, user)?.ok_or(Refusal::NotInTeam)?;
    Ok(team)
}

/// Those in a team, for whoever is in it.
pub fn members_for(tx: &mut Tx<'_>, id: &TeamId, caller: &UserId) -> Result<Vec<TeamMember>, Refusal> {
    let team = by_id(tx, id)?.ok_or(Refusal::NoTeam)?;
    let belongs = members::of_user(tx, &team.organization_id, caller)?.is_some();
    if !belongs || member(tx, id, caller)?.is_none() {
        return Err(Refusal::NotInTeam);
    }
    Ok(tx.query(MEMBERS, params![id.as_str()], TeamMember::read)?)
}

/// Puts a member of the organization into a team.
pub fn add(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    (id, user): (&TeamId, &UserId),
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<TeamMember, Refusal> {
    take_turn(tx, organization)?;
    demand(tx, organization, caller, Action::UpdateMember)?;
    members::of_user(tx, organization, user)?.ok_or(Refusal::OtherNotAMember)?;
    find(tx, organization, id)?.ok_or(Refusal::NoTeam)?;
    join(tx, id, user, now, rng)?;
    member(tx, id, user)?.ok_or(Refusal::NotInTeam)
}

/// Takes a member of the organization out of a team.
pub fn remove(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    (id, user): (&TeamId, &UserId),
) -> Result<(), Refusal> {
    take_turn(tx, organization)?;
    demand(tx, organization, caller, Action::DeleteMember)?;
    members::of_user(tx, organization, user)?.ok_or(Refusal::OtherNotAMember)?;
    find(tx, organization, id)?.ok_or(Refusal::NoTeam)?;
    if tx.execute(LEAVE, params![id.as_str(), user.as_str()])? == 0 {
        return Err(Refusal::NotInTeam);
    }
    sessions::leave_team(tx, id, Some(user))?;
    Ok(())
}

/// Teams of a user: one's own, in one organization or in all, or another member's for whoever may change members.
pub fn list_of_user(
    tx: &mut Tx<'_>,
    caller: &UserId,
    user: &UserId,
    organization: Option<&OrganizationId>,
) -> Result<Vec<Team>, Refusal> {
    let mut teams = of_user(tx, user)?;
    if let Some(organization) = organization {
        if user == caller {
            members::of_user(tx, organization, caller)?.ok_or(Refusal::NotAMember)?;
        } else {
            demand(tx, organization, caller, Action::UpdateMember)?;
            members::of_user(tx, organization, user)?.ok_or(Refusal::OtherNotAMember)?;
        }
        teams.retain(|team| team.organization_id == *organization);
    }
    Ok(teams)
}
