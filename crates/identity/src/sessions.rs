//! Sessions: opaque tokens, found by keyed hash, read from the store at every check.

use crate::device_codes;
use crate::users::{self, User, UserView};
use kernel::{Millis, OrganizationId, SessionId, TeamId, UserId, Vault, random};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

pub const TOKEN_HASH: &str = "session token";
pub const TOKEN_SEAL: &str = "session token";
const TOKEN_LENGTH: usize = 32;

#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    pub expires_at: Millis,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub ip_address: String,
    pub user_agent: String,
    pub impersonated_by: Option<String>,
    pub active_organization_id: Option<String>,
    pub active_team_id: Option<String>,
}

/// A session as it stands in its row, without copies: for the answer that every page and backend waits for.
#[derive(Debug, Clone, Copy)]
pub struct SessionView<'r> {
    pub id: &'r str,
    pub user_id: &'r str,
    pub expires_at: Millis,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub ip_address: &'r str,
    pub user_agent: &'r str,
    pub impersonated_by: Option<&'r str>,
    pub active_organization_id: Option<&'r str>,
    pub active_team_id: Option<&'r str>,
}

/// A session with the token that opens it.
#[derive(Clone, PartialEq)]
pub struct LiveSession {
    pub token: String,
    pub session: Session,
    pub user: User,
}

impl std::fmt::Debug for LiveSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSession")
            .field("id", &self.session.id)
            .field("user", &self.user.id)
            .finish_non_exhaustive()
    }
}

macro_rules! columns {
    () => {
        "s.id, s.user_id, s.expires_at, s.created_at, s.updated_at, s.ip_address, s.user_agent, s.impersonated_by, \
         s.active_organization_id, s.active_team_id"
    };
}
const COLUMN_COUNT: usize = 10;

const INSERT: &str = "
    INSERT INTO sessions (id, user_id, token_hash, token_sealed, expires_at, created_at, updated_at, ip_address, user_agent)
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8)";
const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    ", ",
    users::columns!(),
    " FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token_hash = $1"
);
const BY_ID: &str = "SELECT token_sealed FROM sessions WHERE id = $1";
// Guarded by the end that was read, so that of many requests at once one extends.
const EXTEND: &str = "UPDATE sessions SET expires_at = $3, updated_at = $4 WHERE id = $1 AND expires_at = $2";
// The row stays, with whatever else is known of the session.
const RENEW_TOKEN: &str = "
    UPDATE sessions SET token_hash = $2, token_sealed = $3, id = $4, expires_at = $5, created_at = $6, updated_at = $6
    WHERE token_hash = $1";
const LIST: &str = concat!(
    "SELECT s.token_sealed, ",
    columns!(),
    " FROM sessions s WHERE s.user_id = $1 AND s.expires_at > $2 AND s.impersonated_by IS NULL ORDER BY s.created_at DESC, s.id DESC LIMIT 1000"
);
const REVOKE: &str = "DELETE FROM sessions WHERE token_hash = $1 AND user_id = $2 RETURNING id";
const END: &str = "DELETE FROM sessions WHERE token_hash = $1";
const REVOKE_ALL: &str = "DELETE FROM sessions WHERE user_id = $1 RETURNING id";
const REVOKE_OTHERS: &str = "DELETE FROM sessions WHERE user_id = $1 AND id <> $2 RETURNING id";
const ACTIVATE: &str = "UPDATE sessions SET active_organization_id = $2 WHERE id = $1";
const ACTIVATE_TEAM: &str = "UPDATE sessions SET active_team_id = $2 WHERE id = $1";
const LEAVE: &str = "
    UPDATE sessions SET active_organization_id = NULL, active_team_id = NULL
    WHERE user_id = $2 AND (active_organization_id = $1
      OR active_team_id IN (SELECT id FROM teams WHERE organization_id = $1))";
const EMPTY: &str = "
    UPDATE sessions SET active_organization_id = NULL, active_team_id = NULL WHERE active_organization_id = $1";
const LEAVE_TEAM: &str =
    "UPDATE sessions SET active_team_id = NULL WHERE user_id = $2 AND active_team_id = $1";
const EMPTY_TEAM: &str = "UPDATE sessions SET active_team_id = NULL WHERE active_team_id = $1";
const EMPTY_TEAMS: &str = "
    UPDATE sessions SET active_team_id = NULL
    WHERE active_team_id IN (SELECT id FROM teams WHERE organization_id = $1)";
// An administrator sees them all, also those of administrators.
const LIST_ALL: &str = concat!(
    "SELECT s.token_sealed, ",
    columns!(),
    " FROM sessions s WHERE s.user_id = $1 AND s.expires_at > $2 ORDER BY s.created_at DESC, s.id DESC LIMIT 1000"
);
const IMPERSONATE: &str = "UPDATE sessions SET impersonated_by = $2 WHERE id = $1";
const END_IMPERSONATIONS: &str = "DELETE FROM sessions WHERE impersonated_by = $1";
const SWEEP: &str =
    "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= $1 LIMIT 500)";

/// What a new session is made of.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub lifetime: i64,
    pub ip_address: String,
    pub user_agent: String,
}

impl<'r> SessionView<'r> {
    fn read(row: &'r Row<'_>, from: usize) -> Result<SessionView<'r>, Error> {
        Ok(SessionView {
            id: row.text(from)?,
            user_id: row.text(from + 1)?,
            expires_at: row.get(from + 2)?,
            created_at: row.get(from + 3)?,
            updated_at: row.get(from + 4)?,
            ip_address: row.text(from + 5)?,
            user_agent: row.text(from + 6)?,
            impersonated_by: row.text_or_null(from + 7)?,
            active_organization_id: row.text_or_null(from + 8)?,
            active_team_id: row.text_or_null(from + 9)?,
        })
    }

    pub fn to_session(self) -> Session {
        Session {
            id: SessionId::from_text(self.id),
            user_id: UserId::from_text(self.user_id),
            expires_at: self.expires_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ip_address: self.ip_address.to_string(),
            user_agent: self.user_agent.to_string(),
            impersonated_by: self.impersonated_by.map(str::to_string),
            active_organization_id: self.active_organization_id.map(str::to_string),
            active_team_id: self.active_team_id.map(str::to_string),
        }
    }

    /// Old enough since its last extension to be extended. What an administrator has in somebody's place never is.
    pub fn is_due(&self, lifetime: i64, update_age: i64, now: Millis) -> bool {
        self.impersonated_by.is_none() && self.expires_at.minus(lifetime).plus(update_age) <= now
    }
}

impl Session {
    pub fn view(&self) -> SessionView<'_> {
        SessionView {
            id: self.id.as_str(),
            user_id: self.user_id.as_str(),
            expires_at: self.expires_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ip_address: &self.ip_address,
            user_agent: &self.user_agent,
            impersonated_by: self.impersonated_by.as_deref(),
            active_organization_id: self.active_organization_id.as_deref(),
            active_team_id: self.active_team_id.as_deref(),
        }
    }

    /// Young enough for sensitive acts; counted from its beginning, extensions do not help. 0 switches the rule off.
    pub fn is_fresh(&self, fresh_age: i64, now: Millis) -> bool {
        fresh_age == 0 || self.created_at.plus(fresh_age) > now
    }
}

pub fn create(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: User,
    new: &NewSession,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<LiveSession, Error> {
    let token = random::alphanumeric(rng, TOKEN_LENGTH);
    let session = Session {
        id: SessionId::new(rng),
        user_id: user.id.clone(),
        expires_at: now.plus(new.lifetime),
        created_at: now,
        updated_at: now,
        ip_address: new.ip_address.clone(),
        user_agent: new.user_agent.clone(),
        impersonated_by: None,
        active_organization_id: None,
        active_team_id: None,
    };
    let (hash, sealed) = (vault.hash(TOKEN_HASH, &token), vault.seal(TOKEN_SEAL, &token, rng));
    tx.execute(
        INSERT,
        params![
            session.id.as_str(),
            session.user_id.as_str(),
            &hash,
            &sealed,
            session.expires_at,
            now,
            &session.ip_address,
            &session.user_agent,
        ],
    )?;
    Ok(LiveSession { token, session, user })
}

/// The session that a token opens, expired or not: the caller says what an expired one means.
pub fn find(tx: &mut Tx<'_>, vault: &Vault, token: &str) -> Result<Option<LiveSession>, Error> {
    look(tx, vault, token, |session, user| LiveSession {
        token: token.to_string(),
        session: session.to_session(),
        user: user.to_user(),
    })
}

/// [`find`] for who needs the session only while its row is at hand.
pub fn look<T>(
    tx: &mut Tx<'_>,
    vault: &Vault,
    token: &str,
    see: impl FnOnce(SessionView<'_>, UserView<'_>) -> T,
) -> Result<Option<T>, Error> {
    look_at(tx, &vault.hash(TOKEN_HASH, token), see)
}

/// The session whose token has this hash.
pub(crate) fn look_at<T>(
    tx: &mut Tx<'_>,
    hash: &str,
    see: impl FnOnce(SessionView<'_>, UserView<'_>) -> T,
) -> Result<Option<T>, Error> {
    tx.query_opt(FIND, params![hash], |row| {
        Ok(see(SessionView::read(row, 0)?, UserView::read(row, COLUMN_COUNT)?))
    })
}

/// The session that a token opens now.
pub fn find_live(
    tx: &mut Tx<'_>,
    vault: &Vault,
    token: &str,
    now: Millis,
) -> Result<Option<LiveSession>, Error> {
    Ok(find(tx, vault, token)?.filter(|live| live.session.expires_at > now))
}

/// A session by its id, expired or not; `None` also where its token was sealed with a key that is gone.
pub fn find_by_id(tx: &mut Tx<'_>, vault: &Vault, id: &SessionId) -> Result<Option<LiveSession>, Error> {
    let sealed = tx.query_opt(BY_ID, params![id.as_str()], |row| row.get::<String>(0))?;
    match sealed.and_then(|sealed| vault.open(TOKEN_SEAL, &sealed)) {
        Some(token) => find(tx, vault, &token),
        None => Ok(None),
    }
}

/// Moves the end of a session; false when somebody else did, or when it is gone.
pub fn extend(tx: &mut Tx<'_>, session: &Session, lifetime: i64, now: Millis) -> Result<bool, Error> {
    let end = now.plus(lifetime);
    Ok(tx.execute(EXTEND, params![session.id.as_str(), session.expires_at, end, now])? == 1)
}

/// Gives a session another token and a fresh start; `None` when it was ended meanwhile. For when something has changed
/// about the user that the old token should not have been told of.
pub fn renew_token(
    tx: &mut Tx<'_>,
    vault: &Vault,
    live: &LiveSession,
    lifetime: i64,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Option<LiveSession>, Error> {
    let token = random::alphanumeric(rng, TOKEN_LENGTH);
    let id = SessionId::new(rng);
    let (old, hash) = (vault.hash(TOKEN_HASH, &live.token), vault.hash(TOKEN_HASH, &token));
    let sealed = vault.seal(TOKEN_SEAL, &token, rng);
    let end = now.plus(lifetime);
    if tx.execute(RENEW_TOKEN, params![&old, &hash, &sealed, id.as_str(), end, now])? == 0 {
        return Ok(None);
    }
    let session = Session { id, expires_at: end, created_at: now, updated_at: now, ..live.session.clone() };
    Ok(Some(LiveSession { token, session, user: live.user.clone() }))
}

/// A user's live sessions with their tokens, oldest first; impersonations are left out.
pub fn list_live(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    now: Millis,
) -> Result<Vec<(String, Session)>, Error> {
    // The newest thousand, should somebody have more: a thief's is among them.
    list_by(tx, LIST, vault, user, now)
}

/// The same with impersonations.
pub fn list_all_live(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    now: Millis,
) -> Result<Vec<(String, Session)>, Error> {
    list_by(tx, LIST_ALL, vault, user, now)
}

fn list_by(
    tx: &mut Tx<'_>,
    sql: &'static str,
    vault: &Vault,
    user: &UserId,
    now: Millis,
) -> Result<Vec<(String, Session)>, Error> {
    let mut rows = tx.query(sql, params![user.as_str(), now], |row| {
        Ok((row.get::<String>(0)?, SessionView::read(row, 1)?.to_session()))
    })?;
    rows.reverse();
    // A token that does not open was sealed with a key that is gone; the session cannot be shown, nor used by anybody.
    Ok(rows
        .into_iter()
        .filter_map(|(sealed, session)| Some((vault.open(TOKEN_SEAL, &sealed)?, session)))
        .collect())
}

/// Ends a session of this user; a token of somebody else does nothing. Gives the session that was ended.
pub fn revoke(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    token: &str,
) -> Result<Option<SessionId>, Error> {
    tx.query_opt(REVOKE, params![&vault.hash(TOKEN_HASH, token), user.as_str()], read_id)
}

/// Ends the session that this token opens, for a caller who has proven to hold it.
pub fn end(tx: &mut Tx<'_>, vault: &Vault, token: &str) -> Result<(), Error> {
    tx.execute(END, params![&vault.hash(TOKEN_HASH, token)]).map(|_| ())
}

/// Gives the sessions that were ended. Devices that they approved come in no more.
pub fn revoke_all(tx: &mut Tx<'_>, user: &UserId) -> Result<Vec<SessionId>, Error> {
    device_codes::withdraw(tx, user)?;
    tx.query(REVOKE_ALL, params![user.as_str()], read_id)
}

pub fn revoke_others(tx: &mut Tx<'_>, user: &UserId, keep: &SessionId) -> Result<Vec<SessionId>, Error> {
    device_codes::withdraw(tx, user)?;
    tx.query(REVOKE_OTHERS, params![user.as_str(), keep.as_str()], read_id)
}

/// Writes down who has this session in its user's place.
pub fn mark_impersonated(tx: &mut Tx<'_>, live: &mut LiveSession, by: &UserId) -> Result<(), Error> {
    tx.execute(IMPERSONATE, params![live.session.id.as_str(), by.as_str()])?;
    live.session.impersonated_by = Some(by.as_str().to_owned());
    Ok(())
}

/// Ends what an administrator has in the place of others.
pub fn end_impersonations(tx: &mut Tx<'_>, by: &UserId) -> Result<(), Error> {
    tx.execute(END_IMPERSONATIONS, params![by.as_str()]).map(|_| ())
}

/// Makes an organization the session's active one, or none. The caller has seen that the user belongs to it.
pub fn set_active_organization(
    tx: &mut Tx<'_>,
    id: &SessionId,
    organization: Option<&OrganizationId>,
) -> Result<(), Error> {
    tx.execute(ACTIVATE, params![id.as_str(), organization.map(OrganizationId::as_str)]).map(|_| ())
}

/// The same of a team.
pub fn set_active_team(tx: &mut Tx<'_>, id: &SessionId, team: Option<&TeamId>) -> Result<(), Error> {
    tx.execute(ACTIVATE_TEAM, params![id.as_str(), team.map(TeamId::as_str)]).map(|_| ())
}

/// A user is active in an organization and its teams no longer, in no browser; without a user, nobody is.
pub fn leave_organization(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    user: Option<&UserId>,
) -> Result<(), Error> {
    match user {
        Some(user) => tx.execute(LEAVE, params![organization.as_str(), user.as_str()])?,
        None => {
            tx.execute(EMPTY, params![organization.as_str()])?;
            tx.execute(EMPTY_TEAMS, params![organization.as_str()])?
        }
    };
    Ok(())
}

/// The same of one team.
pub fn leave_team(tx: &mut Tx<'_>, team: &TeamId, user: Option<&UserId>) -> Result<(), Error> {
    match user {
        Some(user) => tx.execute(LEAVE_TEAM, params![team.as_str(), user.as_str()])?,
        None => tx.execute(EMPTY_TEAM, params![team.as_str()])?,
    };
    Ok(())
}

fn read_id(row: &Row<'_>) -> Result<SessionId, Error> {
    Ok(SessionId::from_text(row.text(0)?))
}

/// Deletes sessions that ended before `ended_before`, some at a time; true when more may be left.
pub fn sweep(tx: &mut Tx<'_>, ended_before: Millis) -> Result<bool, Error> {
    Ok(tx.execute(SWEEP, params![ended_before])? >= 500)
}

const _: () =
    assert!(users::COLUMN_COUNT == 15 && COLUMN_COUNT == 10, "the columns of FIND follow each other");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::NewUser;
    use crate::{EmailAddress, users};
    use kernel::time::DAY;
    use kernel::vault::DataKey;
    use store::{Options, Store};

    const NOW: Millis = Millis(1_800_000_000_000);
    const WEEK: i64 = 7 * DAY;

    /// Runs the work in one transaction on a new database with two users.
    async fn with_users<F>(run: F)
    where
        F: Fn(&mut Tx<'_>, &Vault, &User, &User) -> Result<(), Error> + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).expect("a new database");
        store.migrate().expect("a new schema");
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let work = move |tx: &mut Tx<'_>| {
            let (ada, bob) = (user(tx, "ada@example.com")?, user(tx, "bob@example.com")?);
            run(tx, &vault, &ada, &bob)
        };
        store.write(work).await.expect("the store answers");
    }

    fn user(tx: &mut Tx<'_>, email: &str) -> Result<User, Error> {
        let email = EmailAddress::parse(email).expect("an address");
        let new =
            NewUser { name: "N".into(), email, email_verified: false, image: None, role: "user".into() };
        match users::create(tx, &new, NOW, &mut random::secure())? {
            Some(user) => Ok(user),
            None => Err(Error::Fault("taken".into())),
        }
    }

    fn begin(tx: &mut Tx<'_>, vault: &Vault, user: &User, now: Millis) -> Result<LiveSession, Error> {
        let new = NewSession { lifetime: WEEK, ip_address: "192.0.2.1".into(), user_agent: "test".into() };
        create(tx, vault, user.clone(), &new, now, &mut random::secure())
    }

    #[tokio::test]
    async fn a_session_is_found_by_its_token_until_its_last_moment() {
        with_users(|tx, vault, ada, _| {
            let live = begin(tx, vault, ada, NOW)?;
            assert_eq!(find(tx, vault, &live.token)?.as_ref(), Some(&live));
            assert!(find_live(tx, vault, &live.token, NOW.plus(WEEK - 1))?.is_some());
            assert!(find_live(tx, vault, &live.token, NOW.plus(WEEK))?.is_none());
            assert!(find(tx, vault, &live.token.to_ascii_lowercase())?.is_none());
            assert!(!format!("{live:?}").contains(&live.token), "a token is not for logs");
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn of_two_extensions_from_the_same_reading_one_succeeds() {
        with_users(|tx, vault, ada, _| {
            let live = begin(tx, vault, ada, NOW)?;
            let due = |session: &Session, now| session.view().is_due(WEEK, DAY, now);
            assert!(!due(&live.session, NOW.plus(DAY - 1)) && due(&live.session, NOW.plus(DAY)));
            assert!(extend(tx, &live.session, WEEK, NOW.plus(DAY))?);
            assert!(!extend(tx, &live.session, WEEK, NOW.plus(DAY))?);
            let found = find(tx, vault, &live.token)?.expect("it lives on").session;
            assert_eq!((found.expires_at, found.updated_at), (NOW.plus(DAY + WEEK), NOW.plus(DAY)));
            // A session that was ended meanwhile is not brought back.
            end(tx, vault, &live.token)?;
            assert!(!extend(tx, &found, WEEK, NOW.plus(2 * DAY))?);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn freshness_counts_from_the_beginning() {
        with_users(|tx, vault, ada, _| {
            let session = begin(tx, vault, ada, NOW)?.session;
            assert!(session.is_fresh(DAY, NOW.plus(DAY - 1)) && !session.is_fresh(DAY, NOW.plus(DAY)));
            assert!(session.is_fresh(0, NOW.plus(WEEK)), "0 switches the rule off");
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn only_the_owner_ends_a_session() {
        with_users(|tx, vault, ada, bob| {
            let (adas, bobs) = (begin(tx, vault, ada, NOW)?, begin(tx, vault, bob, NOW)?);
            assert_eq!(revoke(tx, vault, &ada.id, &bobs.token)?, None);
            assert_eq!(revoke_all(tx, &ada.id)?, std::slice::from_ref(&adas.session.id));
            assert!(find(tx, vault, &adas.token)?.is_none() && find(tx, vault, &bobs.token)?.is_some());
            let other = begin(tx, vault, bob, NOW)?;
            assert_eq!(revoke_others(tx, &bob.id, &other.session.id)?, [bobs.session.id]);
            let tokens: Vec<String> =
                list_live(tx, vault, &bob.id, NOW)?.into_iter().map(|(token, _)| token).collect();
            assert_eq!(tokens, [other.token]);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_ban_and_a_deletion_end_every_session() {
        with_users(|tx, vault, ada, bob| {
            let (adas, bobs) = (begin(tx, vault, ada, NOW)?, begin(tx, vault, bob, NOW)?);
            let ended = users::ban(tx, &ada.id, "", None, NOW)?;
            assert_eq!(ended, Some(vec![adas.session.id.clone()]));
            assert!(users::delete(tx, &bob.id)?);
            assert!(find(tx, vault, &adas.token)?.is_none() && find(tx, vault, &bobs.token)?.is_none());
            Ok(())
        })
        .await;
    }
}
