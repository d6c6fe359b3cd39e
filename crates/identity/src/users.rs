//! Users: the row behind every account, whatever it signs in with.

use crate::email::EmailAddress;
use kernel::{Millis, SessionId, UserId};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub email: String,
    pub email_verified: bool,
    pub image: Option<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub username: Option<String>,
    pub display_username: Option<String>,
    pub two_factor_enabled: bool,
    pub is_anonymous: bool,
    pub role: Option<String>,
    pub banned: bool,
    pub ban_reason: Option<String>,
    pub ban_expires: Option<Millis>,
}

/// A user as it stands in its row, without copies.
#[derive(Debug, Clone, Copy)]
pub struct UserView<'r> {
    pub id: &'r str,
    pub name: &'r str,
    pub email: &'r str,
    pub email_verified: bool,
    pub image: Option<&'r str>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub username: Option<&'r str>,
    pub display_username: Option<&'r str>,
    pub two_factor_enabled: bool,
    pub is_anonymous: bool,
    pub role: Option<&'r str>,
    pub banned: bool,
    pub ban_reason: Option<&'r str>,
    pub ban_expires: Option<Millis>,
}

/// How many columns [`UserView::read`] takes.
pub(crate) const COLUMN_COUNT: usize = 15;

macro_rules! columns {
    () => {
        "u.id, u.name, u.email, u.email_verified, u.image, u.created_at, u.updated_at, u.username, u.display_username, \
         u.two_factor_enabled, u.is_anonymous, u.role, u.banned, u.ban_reason, u.ban_expires"
    };
}
pub(crate) use columns;

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM users u WHERE u.id = $1");
const EXISTS: &str = "SELECT 1 FROM users WHERE id = $1";
const BY_EMAIL: &str = concat!("SELECT ", columns!(), " FROM users u WHERE u.email = $1");
const BY_USERNAME: &str = concat!("SELECT ", columns!(), " FROM users u WHERE u.username = $1");
const INSERT: &str = "
    INSERT INTO users (id, name, email, email_verified, image, created_at, updated_at, two_factor_enabled, is_anonymous, role, banned)
    VALUES ($1, $2, $3, $4, $5, $6, $6, FALSE, FALSE, $7, FALSE)
    ON CONFLICT DO NOTHING";
const SET_NAME: &str = "UPDATE users SET name = $2, updated_at = $3 WHERE id = $1";
const SET_IMAGE: &str = "UPDATE users SET image = $2, updated_at = $3 WHERE id = $1";
const SET_ROLE: &str = "UPDATE users SET role = $2, updated_at = $3 WHERE id = $1";
const SET_VERIFIED: &str = "UPDATE users SET email_verified = $2, updated_at = $3 WHERE id = $1";
const VERIFY: &str = "UPDATE users SET email_verified = TRUE, updated_at = $3 WHERE id = $1 AND email = $2";
// The address must still be the one the change began with, and the new one free.
const CHANGE_EMAIL: &str = "
    UPDATE users SET email = $3, updated_at = $4
    WHERE id = $1 AND email = $2 AND NOT EXISTS (SELECT 1 FROM users other WHERE other.email = $3)";
const BAN: &str =
    "UPDATE users SET banned = TRUE, ban_reason = $2, ban_expires = $3, updated_at = $4 WHERE id = $1";
const UNBAN: &str =
    "UPDATE users SET banned = FALSE, ban_reason = NULL, ban_expires = NULL, updated_at = $2 WHERE id = $1";
const DELETE: &str = "DELETE FROM users WHERE id = $1";

/// What a new user brings along.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub name: String,
    pub email: EmailAddress,
    pub email_verified: bool,
    pub image: Option<String>,
    pub role: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailChange {
    Changed,
    /// Taken meanwhile, or the user's own address is no longer the one the change began with.
    Refused,
}

/// Whether a user may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Good,
    Banned,
    /// The ban has ended by itself: lift it at this sign-in.
    BanEnded,
}

impl<'r> UserView<'r> {
    pub(crate) fn read(row: &'r Row<'_>, from: usize) -> Result<UserView<'r>, Error> {
        Ok(UserView {
            id: row.text(from)?,
            name: row.text(from + 1)?,
            email: row.text(from + 2)?,
            email_verified: row.get(from + 3)?,
            image: row.text_or_null(from + 4)?,
            created_at: row.get(from + 5)?,
            updated_at: row.get(from + 6)?,
            username: row.text_or_null(from + 7)?,
            display_username: row.text_or_null(from + 8)?,
            two_factor_enabled: row.get(from + 9)?,
            is_anonymous: row.get(from + 10)?,
            role: row.text_or_null(from + 11)?,
            banned: row.get(from + 12)?,
            ban_reason: row.text_or_null(from + 13)?,
            ban_expires: row.get(from + 14)?,
        })
    }

    pub fn standing(&self, now: Millis) -> Standing {
        match (self.banned, self.ban_expires) {
            (false, _) => Standing::Good,
            (true, Some(end)) if end <= now => Standing::BanEnded,
            (true, _) => Standing::Banned,
        }
    }

    /// The user's roles: they stand in one text, separated by commas.
    pub fn roles(&self) -> impl Iterator<Item = &'r str> {
        self.role.unwrap_or("").split(',').map(str::trim).filter(|role| !role.is_empty())
    }

    pub fn to_user(self) -> User {
        User {
            id: UserId::from_text(self.id),
            name: self.name.to_string(),
            email: self.email.to_string(),
            email_verified: self.email_verified,
            image: self.image.map(str::to_string),
            created_at: self.created_at,
            updated_at: self.updated_at,
            username: self.username.map(str::to_string),
            display_username: self.display_username.map(str::to_string),
            two_factor_enabled: self.two_factor_enabled,
            is_anonymous: self.is_anonymous,
            role: self.role.map(str::to_string),
            banned: self.banned,
            ban_reason: self.ban_reason.map(str::to_string),
            ban_expires: self.ban_expires,
        }
    }
}

impl User {
    pub fn view(&self) -> UserView<'_> {
        UserView {
            id: self.id.as_str(),
            name: &self.name,
            email: &self.email,
            email_verified: self.email_verified,
            image: self.image.as_deref(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            username: self.username.as_deref(),
            display_username: self.display_username.as_deref(),
            two_factor_enabled: self.two_factor_enabled,
            is_anonymous: self.is_anonymous,
            role: self.role.as_deref(),
            banned: self.banned,
            ban_reason: self.ban_reason.as_deref(),
            ban_expires: self.ban_expires,
        }
    }

    pub fn standing(&self, now: Millis) -> Standing {
        self.view().standing(now)
    }

    /// A user as sign-up would make it; also what a sign-up with a taken address answers, so that the two look alike.
    pub fn fresh(new: &NewUser, now: Millis, rng: &mut impl CryptoRng) -> User {
        User {
            id: UserId::new(rng),
            name: new.name.clone(),
            email: new.email.as_str().to_string(),
            email_verified: new.email_verified,
            image: new.image.clone(),
            created_at: now,
            updated_at: now,
            username: None,
            display_username: None,
            two_factor_enabled: false,
            is_anonymous: false,
            role: Some(new.role.clone()),
            banned: false,
            ban_reason: None,
            ban_expires: None,
        }
    }
}

pub fn by_id(tx: &mut Tx<'_>, id: &UserId) -> Result<Option<User>, Error> {
    tx.query_opt(BY_ID, params![id.as_str()], |row| Ok(UserView::read(row, 0)?.to_user()))
}

/// [`by_id`] for who needs the user only while the row is at hand.
pub fn look<T>(tx: &mut Tx<'_>, id: &str, see: impl FnOnce(UserView<'_>) -> T) -> Result<Option<T>, Error> {
    tx.query_opt(BY_ID, params![id], |row| Ok(see(UserView::read(row, 0)?)))
}

pub fn exists(tx: &mut Tx<'_>, id: &UserId) -> Result<bool, Error> {
    Ok(tx.query_opt(EXISTS, params![id.as_str()], |_| Ok(()))?.is_some())
}

pub fn by_email(tx: &mut Tx<'_>, email: &str) -> Result<Option<User>, Error> {
    tx.query_opt(BY_EMAIL, params![email], |row| Ok(UserView::read(row, 0)?.to_user()))
}

/// The user of a username as it is stored: in small letters.
pub fn by_username(tx: &mut Tx<'_>, username: &str) -> Result<Option<User>, Error> {
    tx.query_opt(BY_USERNAME, params![username], |row| Ok(UserView::read(row, 0)?.to_user()))
}

/// Of several who want one address at once each waits for the one before, and sees that it is taken; otherwise the
/// unique key would refuse them, which looks like a mistake of ours.
fn take_address(tx: &mut Tx<'_>, address: &EmailAddress) -> Result<(), Error> {
    tx.lock("address", &[address.as_str()])
}

/// Makes a user; `None` when the address is taken.
pub fn create(
    tx: &mut Tx<'_>,
    new: &NewUser,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Option<User>, Error> {
    let user = User::fresh(new, now, rng);
    Ok(insert(tx, &user, now)?.then_some(user))
}

/// Writes a new user's row; false when the address or the id is taken.
pub fn insert(tx: &mut Tx<'_>, user: &User, now: Millis) -> Result<bool, Error> {
    take_address(tx, &EmailAddress::from_stored(user.email.clone()))?;
    let values =
        params![user.id.as_str(), &user.name, &user.email, user.email_verified, &user.image, now, &user.role];
    Ok(tx.execute(INSERT, values)? == 1)
}

pub fn set_name(tx: &mut Tx<'_>, id: &UserId, name: &str, now: Millis) -> Result<(), Error> {
    tx.execute(SET_NAME, params![id.as_str(), name, now]).map(|_| ())
}

pub fn set_image(tx: &mut Tx<'_>, id: &UserId, image: Option<&str>, now: Millis) -> Result<(), Error> {
    tx.execute(SET_IMAGE, params![id.as_str(), image, now]).map(|_| ())
}

/// True when there is such a user.
pub fn set_role(tx: &mut Tx<'_>, id: &UserId, role: &str, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(SET_ROLE, params![id.as_str(), role, now])? == 1)
}

/// What an administrator says about the address, without a proof.
pub fn set_verified(tx: &mut Tx<'_>, id: &UserId, verified: bool, now: Millis) -> Result<(), Error> {
    tx.execute(SET_VERIFIED, params![id.as_str(), verified, now]).map(|_| ())
}

/// Marks the address as proven, if it still is the user's.
pub fn verify_email(tx: &mut Tx<'_>, id: &UserId, email: &str, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(VERIFY, params![id.as_str(), email, now])? == 1)
}

pub fn change_email(
    tx: &mut Tx<'_>,
    id: &UserId,
    from: &str,
    to: &EmailAddress,
    now: Millis,
) -> Result<EmailChange, Error> {
    take_address(tx, to)?;
    let changed = tx.execute(CHANGE_EMAIL, params![id.as_str(), from, to.as_str(), now])? == 1;
    Ok(if changed { EmailChange::Changed } else { EmailChange::Refused })
}

/// Waits for the user's turn. Where two transactions run at once (PostgreSQL), one that begins a session and one that
/// ends them all would each miss what the other writes: a session would outlive a ban, or a replaced password open one.
/// Taken before anything is read, so that the second sees what the first did.
pub fn take_turn(tx: &mut Tx<'_>, id: &UserId) -> Result<(), Error> {
    tx.lock("sessions of user", &[id.as_str()])
}

/// Bans a user and ends all sessions in the same breath, also those that the user has in the place of others; gives the own, or `None` when there is no such user.
pub fn ban(
    tx: &mut Tx<'_>,
    id: &UserId,
    reason: &str,
    until: Option<Millis>,
    now: Millis,
) -> Result<Option<Vec<SessionId>>, Error> {
    take_turn(tx, id)?;
    let known = tx.execute(BAN, params![id.as_str(), reason, until, now])? == 1;
    let ended = crate::sessions::revoke_all(tx, id)?;
    crate::sessions::end_impersonations(tx, id)?;
    Ok(known.then_some(ended))
}

pub fn unban(tx: &mut Tx<'_>, id: &UserId, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(UNBAN, params![id.as_str(), now])? == 1)
}

/// Deletes a user with all sessions, accounts and open links.
pub fn delete(tx: &mut Tx<'_>, id: &UserId) -> Result<bool, Error> {
    take_turn(tx, id)?;
    crate::one_time::forget_subject(tx, id.as_str())?;
    crate::sessions::end_impersonations(tx, id)?;
    Ok(tx.execute(DELETE, params![id.as_str()])? == 1)
}
