//! Administration: what administrators may do to users, and how they find them.

pub mod search;

use crate::email::EmailAddress;
use crate::one_time::{self, Purpose};
use crate::users::{self, EmailChange, User};
use crate::{LiveSession, accounts, attempts, sessions};
use kernel::{Millis, SessionId, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Tx};

/// Who has this role may do everything below; nobody else may do anything.
pub const ADMIN: &str = "admin";

/// A resource and what is done to it, as clients name them.
const POWERS: [(&str, &[&str]); 2] = [
    (
        "user",
        &[
            "create",
            "list",
            "set-role",
            "ban",
            "impersonate",
            "delete",
            "set-password",
            "set-email",
            "set-phone",
            "get",
            "update",
        ],
    ),
    ("session", &["list", "revoke", "delete"]),
];

/// Whether a role, one name or several separated by commas, is an administrator's.
pub fn is_admin(role: Option<&str>) -> bool {
    role.unwrap_or("").split(',').any(|name| name.trim() == ADMIN)
}

/// Whether the session may administer. One that an administrator has in a user's place never may, even if that user
/// becomes an administrator meanwhile: nobody gains power by impersonating.
pub fn may_administer(live: &LiveSession) -> bool {
    live.session.impersonated_by.is_none() && is_admin(live.user.role.as_deref())
}

/// Whether a role allows all that is asked for. Asking for nothing is granted to nobody.
pub fn allows_all<'a>(role: Option<&str>, asked: &[(&'a str, Vec<&'a str>)]) -> bool {
    let granted =
        |resource: &str| POWERS.iter().find(|(name, _)| *name == resource).map(|(_, powers)| *powers);
    is_admin(role)
        && !asked.is_empty()
        && asked.iter().all(|(resource, actions)| {
            let powers = granted(resource).unwrap_or_default();
            !actions.is_empty() && actions.iter().all(|action| powers.contains(action))
        })
}

/// Why a request of an administrator is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such user")]
    NoUser,
    #[error("the address is somebody else's")]
    AddressTaken,
    #[error("the username is somebody else's")]
    UsernameTaken,
    #[error("administrators do not do that to themselves")]
    Yourself,
    #[error("the user is an administrator")]
    Administrator,
    #[error("the user is banned")]
    Banned,
    #[error("{0}")]
    Store(#[from] Error),
}

/// What shall become of a user; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub name: Option<String>,
    pub image: Option<Option<String>>,
    pub email: Option<EmailAddress>,
    pub email_verified: Option<bool>,
    pub role: Option<String>,
    pub banned: Option<bool>,
    pub ban_reason: Option<Option<String>>,
    pub ban_expires: Option<Option<Millis>>,
}

/// A user after a change, with the sessions that it ended.
#[derive(Debug, Clone)]
pub struct Changed {
    pub user: User,
    pub ended: Vec<SessionId>,
}

/// Waits for the user's turn and reads the row.
pub fn in_turn(tx: &mut Tx<'_>, id: &UserId) -> Result<User, Refusal> {
    users::take_turn(tx, id)?;
    users::by_id(tx, id)?.ok_or(Refusal::NoUser)
}

/// Changes a user. A ban ends all sessions; another address ends the links that were mailed to the old one.
pub fn change(tx: &mut Tx<'_>, id: &UserId, changes: &Changes, now: Millis) -> Result<Changed, Refusal> {
    let before = in_turn(tx, id)?;
    if let Some(email) = changes.email.as_ref().filter(|email| email.as_str() != before.email) {
        if users::change_email(tx, id, &before.email, email, now)? == EmailChange::Refused {
            return Err(Refusal::AddressTaken);
        }
        one_time::forget_subject(tx, id.as_str())?;
        // Nobody has proven the new one.
        users::set_verified(tx, id, changes.email_verified.unwrap_or(false), now)?;
    }
    if let Some(name) = &changes.name {
        users::set_name(tx, id, name, now)?;
    }
    if let Some(image) = &changes.image {
        users::set_image(tx, id, image.as_deref(), now)?;
    }
    if let Some(verified) = changes.email_verified {
        users::set_verified(tx, id, verified, now)?;
    }
    if let Some(role) = &changes.role {
        set_role(tx, id, role, now)?;
    }
    let ended = change_ban(tx, &before, changes, now)?;
    let user = users::by_id(tx, id)?.ok_or(Refusal::NoUser)?;
    Ok(Changed { user, ended })
}

fn change_ban(
    tx: &mut Tx<'_>,
    before: &User,
    changes: &Changes,
    now: Millis,
) -> Result<Vec<SessionId>, Error> {
    if (changes.banned, &changes.ban_reason, &changes.ban_expires) == (None, &None, &None) {
        return Ok(Vec::new());
    }
    if !changes.banned.unwrap_or(before.banned) {
        users::unban(tx, &before.id, now)?;
        return Ok(Vec::new());
    }
    let reason = changes.ban_reason.clone().unwrap_or_else(|| before.ban_reason.clone());
    let until = changes.ban_expires.unwrap_or(before.ban_expires);
    let ended = users::ban(tx, &before.id, reason.as_deref().unwrap_or(NO_REASON), until, now)?;
    Ok(ended.unwrap_or_default())
}

/// What stands where an administrator gives no reason.
pub const NO_REASON: &str = "No reason";

/// Gives a user another role. Whoever is an administrator no longer stops acting for others at once.
pub fn set_role(tx: &mut Tx<'_>, id: &UserId, role: &str, now: Millis) -> Result<(), Refusal> {
    if !users::set_role(tx, id, role, now)? {
        return Err(Refusal::NoUser);
    }
    if !is_admin(Some(role)) {
        sessions::end_impersonations(tx, id)?;
    }
    Ok(())
}

/// Sets a password that an administrator chose. Links to choose another one end, and so does the count of wrong ones;
/// sessions live on.
pub fn set_password(
    tx: &mut Tx<'_>,
    vault: &Vault,
    id: &UserId,
    hash: &str,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Refusal> {
    let user = in_turn(tx, id)?;
    accounts::set_password(tx, id, hash, now, rng)?;
    for purpose in [Purpose::ResetPassword, Purpose::ChangeEmail] {
        one_time::supersede(tx, id.as_str(), purpose)?;
    }
    attempts::forget(tx, vault, &user.email)?;
    Ok(())
}

/// Whom an administrator may stand in for.
pub fn stands_in_for(user: &User) -> Result<(), Refusal> {
    if is_admin(user.role.as_deref()) { Err(Refusal::Administrator) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_may_all_but_stand_in_for_each_other() {
        let all = |role, asked: &[(&'static str, &[&'static str])]| {
            let asked: Vec<_> = asked.iter().map(|(name, actions)| (*name, actions.to_vec())).collect();
            allows_all(role, &asked)
        };
        assert!(all(Some("admin"), &[("user", &["ban", "delete"]), ("session", &["revoke"])]));
        assert!(all(Some("user, admin"), &[("user", &["list"])]));
        assert!(!all(Some("admin"), &[("user", &["impersonate-admins"])]));
        assert!(!all(Some("admin"), &[]) && !all(Some("admin"), &[("user", &[])]));
        assert!(!all(Some("admin"), &[("user", &["list"]), ("billing", &["read"])]));
        for role in [None, Some("user"), Some("administrator"), Some("Admin"), Some("")] {
            assert!(!all(role, &[("user", &["get"])]), "{role:?}");
        }
    }
}
