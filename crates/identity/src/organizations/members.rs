//! Members: who belongs to an organization, and as what.

use super::permissions::{self, Action};
use super::{Refusal, demand, take_turn, teams};
use crate::listing::Filter;
use crate::{sessions, users};
use kernel::{MemberId, Millis, OrganizationId, UserId};
use store::{Error, Row, Tx, params};

/// Who made the organization has this role, and an organization keeps at least one of them.
pub const OWNER: &str = "owner";

#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub id: MemberId,
    pub organization_id: OrganizationId,
    pub user_id: UserId,
    /// One name or several, separated by commas.
    pub role: String,
    pub created_at: Millis,
}

/// What members see of each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    pub id: UserId,
    pub name: String,
    pub email: String,
    pub image: Option<String>,
}

macro_rules! columns {
    () => {
        "m.id, m.organization_id, m.user_id, m.role, m.created_at, u.name, u.email, u.image"
    };
}

const OF_USER: &str = "
    SELECT id, organization_id, user_id, role, created_at FROM members WHERE organization_id = $1 AND user_id = $2";
const BY_ID: &str = "SELECT id, organization_id, user_id, role, created_at FROM members WHERE id = $1";
const WITH_PERSON: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM members m JOIN users u ON u.id = m.user_id WHERE m.organization_id = $1 AND m.user_id = $2"
);
const BY_EMAIL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM users u JOIN members m ON m.user_id = u.id WHERE u.email = $2 AND m.organization_id = $1"
);
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM members m JOIN users u ON u.id = m.user_id WHERE m.organization_id = $1 ORDER BY m.created_at, m.id LIMIT $2"
);
const COUNT: &str = "SELECT COUNT(*) FROM members WHERE organization_id = $1";
const OWNERS: &str = "SELECT role FROM members WHERE organization_id = $1 AND role LIKE '%owner%'";
const INSERT: &str = "
    INSERT INTO members (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING";
const SET_ROLE: &str = "UPDATE members SET role = $2 WHERE id = $1";
const DELETE: &str = "DELETE FROM members WHERE id = $1";
const ALONE: &str = "
    SELECT m.organization_id,
      (SELECT COUNT(*) FROM members other WHERE other.organization_id = m.organization_id AND other.user_id <> $1)
    FROM members m WHERE m.user_id = $1";

impl Member {
    fn read(row: &Row<'_>) -> Result<Member, Error> {
        Ok(Member {
            id: MemberId::from_text(row.text(0)?),
            organization_id: OrganizationId::from_text(row.text(1)?),
            user_id: UserId::from_text(row.text(2)?),
            role: row.get(3)?,
            created_at: row.get(4)?,
        })
    }

    fn read_with_person(row: &Row<'_>) -> Result<(Member, Person), Error> {
        let member = Member::read(row)?;
        let person =
            Person { id: member.user_id.clone(), name: row.get(5)?, email: row.get(6)?, image: row.get(7)? };
        Ok((member, person))
    }

    pub fn is_owner(&self) -> bool {
        names_owner(&self.role)
    }
}

pub(crate) fn names_owner(role: &str) -> bool {
    permissions::names(role).any(|name| name == OWNER)
}

/// The names of a role as it is stored.
pub(crate) fn joined(names: &[String]) -> String {
    names.join(",")
}

/// Refuses names that no role has.
pub(crate) fn known(names: &[String]) -> Result<(), Refusal> {
    let unknown: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !permissions::ROLES.contains(name)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::UnknownRole(unknown.join(", "))) }
}

/// The caller's own place in an organization.
pub fn of_user(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<Option<Member>, Error> {
    tx.query_opt(OF_USER, params![organization.as_str(), user.as_str()], Member::read)
}

pub fn with_person(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<Option<(Member, Person)>, Error> {
    tx.query_opt(WITH_PERSON, params![organization.as_str(), user.as_str()], Member::read_with_person)
}

pub(crate) fn by_email(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    email: &str,
) -> Result<Option<(Member, Person)>, Error> {
    tx.query_opt(BY_EMAIL, params![organization.as_str(), email], Member::read_with_person)
}

pub fn count(tx: &mut Tx<'_>, organization: &OrganizationId) -> Result<i64, Error> {
    tx.query_one(COUNT, params![organization.as_str()], |row| row.get(0))
}

/// The first `most` members, longest first.
pub fn list(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    most: i64,
) -> Result<Vec<(Member, Person)>, Error> {
    tx.query(LIST, params![organization.as_str(), most], Member::read_with_person)
}

/// A column that a list of members is filtered or sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Id,
    OrganizationId,
    UserId,
    Role,
    CreatedAt,
}

impl Column {
    pub fn parse(name: &str) -> Option<Column> {
        Some(match name {
            "id" => Column::Id,
            "organizationId" => Column::OrganizationId,
            "userId" => Column::UserId,
            "role" => Column::Role,
            "createdAt" => Column::CreatedAt,
            _ => return None,
        })
    }

    /// As a text that sorts as the column does.
    fn of(self, member: &Member) -> String {
        match self {
            Column::Id => member.id.to_string(),
            Column::OrganizationId => member.organization_id.to_string(),
            Column::UserId => member.user_id.to_string(),
            Column::Role => member.role.clone(),
            Column::CreatedAt => member.created_at.iso(),
        }
    }
}

/// Which members to show.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    pub limit: Option<usize>,
    pub offset: usize,
    /// The flag: from the last to the first.
    pub sort: Option<(Column, bool)>,
    pub filter: Option<(Column, Filter)>,
}

impl Listing {
    /// The page, and how many there are in all. An organization's members are few enough to be looked at all.
    pub fn of(&self, mut members: Vec<(Member, Person)>, most: usize) -> (Vec<(Member, Person)>, usize) {
        if let Some((column, filter)) = &self.filter {
            members.retain(|(member, _)| filter.matches(&column.of(member)));
        }
        if let Some((column, downwards)) = self.sort {
            members.sort_by_cached_key(|(member, _)| column.of(member));
            if downwards {
                members.reverse();
            }
        }
        let total = members.len();
        (members.into_iter().skip(self.offset).take(self.limit.unwrap_or(most)).collect(), total)
    }
}

/// False when the user belongs already.
pub(crate) fn insert(tx: &mut Tx<'_>, member: &Member) -> Result<bool, Error> {
    let m = member;
    let values =
        params![m.id.as_str(), m.organization_id.as_str(), m.user_id.as_str(), &m.role, m.created_at];
    Ok(tx.execute(INSERT, values)? == 1)
}

fn owners(tx: &mut Tx<'_>, organization: &OrganizationId) -> Result<usize, Error> {
    let roles = tx.query(OWNERS, params![organization.as_str()], |row| row.get::<String>(0))?;
    Ok(roles.iter().filter(|role| names_owner(role)).count())
}

/// Ends a membership, with its teams, and makes the user active there in no browser.
fn end(tx: &mut Tx<'_>, member: &Member) -> Result<(), Error> {
    sessions::leave_organization(tx, &member.organization_id, Some(&member.user_id))?;
    teams::leave_all(tx, &member.organization_id, &member.user_id)?;
    tx.execute(DELETE, params![member.id.as_str()]).map(|_| ())
}

/// Removes a member by id or address. The person is given where the address was.
pub fn remove(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    who: &str,
) -> Result<(Member, Option<Person>), Refusal> {
    take_turn(tx, organization)?;
    let own = of_user(tx, organization, caller)?.ok_or(Refusal::NotAMember)?;
    let found = if who.contains('@') {
        by_email(tx, organization, &who.to_lowercase())?.map(|(member, person)| (member, Some(person)))
    } else {
        tx.query_opt(BY_ID, params![who], Member::read)?.map(|member| (member, None))
    };
    let (member, person) = found.ok_or(Refusal::NoMember)?;
    let is_here = member.organization_id == *organization;
    if is_here && member.is_owner() && (!own.is_owner() || owners(tx, organization)? <= 1) {
        return Err(Refusal::LastOwner);
    }
    if !permissions::allows(&own.role, Action::DeleteMember) {
        return Err(Refusal::NotAllowed);
    }
    if !is_here {
        return Err(Refusal::NoMember);
    }
    end(tx, &member)?;
    Ok((member, person))
}

pub fn leave(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
) -> Result<(Member, Person), Refusal> {
    take_turn(tx, organization)?;
    let (member, person) = with_person(tx, organization, caller)?.ok_or(Refusal::NotAMember)?;
    if member.is_owner() && owners(tx, organization)? <= 1 {
        return Err(Refusal::LastOwner);
    }
    end(tx, &member)?;
    Ok((member, person))
}

/// Gives a member other roles.
pub fn set_role(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    caller: &UserId,
    id: &MemberId,
    roles: &[String],
) -> Result<Member, Refusal> {
    take_turn(tx, organization)?;
    let own = of_user(tx, organization, caller)?.ok_or(Refusal::NotAMember)?;
    let found = tx.query_opt(BY_ID, params![id.as_str()], Member::read)?;
    let mut member = found.ok_or(Refusal::NoMember)?;
    if member.organization_id != *organization {
        return Err(Refusal::MemberElsewhere);
    }
    let makes_owner = roles.iter().any(|role| role == OWNER);
    if (member.is_owner() || makes_owner) && !own.is_owner() {
        return Err(Refusal::OwnersOnly);
    }
    if member.is_owner() && !makes_owner && owners(tx, organization)? <= 1 {
        return Err(Refusal::LastOwner);
    }
    demand(tx, organization, caller, Action::UpdateMember)?;
    known(roles)?;
    member.role = joined(roles);
    tx.execute(SET_ROLE, params![id.as_str(), &member.role])?;
    Ok(member)
}

/// Another role for a user, given by the operator.
pub fn appoint(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    user: &UserId,
    roles: &[String],
) -> Result<Member, Refusal> {
    take_turn(tx, organization)?;
    let mut member = of_user(tx, organization, user)?.ok_or(Refusal::NoMember)?;
    known(roles)?;
    if member.is_owner() && !roles.iter().any(|role| role == OWNER) && owners(tx, organization)? <= 1 {
        return Err(Refusal::LastOwner);
    }
    member.role = joined(roles);
    tx.execute(SET_ROLE, params![member.id.as_str(), &member.role])?;
    Ok(member)
}

/// Before a user is deleted: organizations that nobody else belongs to, which go as well. Others stay, be it without an
/// owner. Takes the turns of them all, so that who is alone stays alone until the transaction ends.
pub fn left_alone(tx: &mut Tx<'_>, user: &UserId) -> Result<Vec<OrganizationId>, Error> {
    users::take_turn(tx, user)?;
    let read = |row: &Row<'_>| Ok((OrganizationId::from_text(row.text(0)?), row.get::<i64>(1)?));
    let known = tx.query(ALONE, params![user.as_str()], read)?;
    let ids: Vec<&str> = known.iter().map(|(id, _)| id.as_str()).collect();
    tx.lock("organization", &ids)?;
    let found = tx.query(ALONE, params![user.as_str()], read)?;
    Ok(found.into_iter().filter(|(_, others)| *others == 0).map(|(id, _)| id).collect())
}
