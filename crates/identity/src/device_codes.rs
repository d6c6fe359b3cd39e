//! Sign-in of devices without a keyboard (RFC 8628): the device waits with its own code while a person, signed in
//! elsewhere, looks at the short one that it shows and approves or denies it.

use crate::one_time::{self, Consumed, Purpose, Standing};
use crate::users;
use kernel::{Millis, UserId, Vault, random};
use rand::{CryptoRng, Rng};
use store::{Error, Row, Tx, params};

const HASH: &str = "device user code";
/// Without letters and digits that people take for one another.
const CHARSET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const USER_CODE_LENGTH: usize = 8;
/// Two live codes that are alike come once in 2^40; a third attempt is never needed.
const ATTEMPTS: usize = 3;

/// How long a device may wait.
pub fn lifetime() -> i64 {
    Purpose::DeviceCode.lifetime()
}

/// What a device shows and keeps.
pub struct Issued {
    pub device_code: String,
    pub user_code: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Approved,
    Denied,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Approved => "approved",
            Status::Denied => "denied",
        }
    }

    fn parse(text: &str) -> Option<Status> {
        [Status::Pending, Status::Approved, Status::Denied].into_iter().find(|status| status.name() == text)
    }
}

/// A device that waits, as the person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub id: String,
    pub client_id: String,
    pub scope: Option<String>,
    /// Who has looked first, or whom the app named beforehand: nobody else may decide.
    pub user_id: Option<String>,
    pub status: Status,
    pub expires_at: Millis,
}

/// What a device is told when it asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Polled {
    Unknown,
    /// The code was given to another client.
    OtherClient,
    TooSoon,
    Expired,
    Pending,
    Denied,
    /// This call was the first and only one to use the code.
    Approved {
        user_id: UserId,
        scope: Option<String>,
    },
}

/// What came of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    Done,
    Unknown,
    Expired,
    /// Approved or denied before.
    Processed,
    /// Nobody has looked at it while signed in.
    NotClaimed,
    /// It is somebody else's to decide.
    Foreign,
}

const INSERT: &str = "
    INSERT INTO device_codes (id, user_code_hash, client_id, scope, user_id, status, polling_interval, expires_at)
    VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7)
    ON CONFLICT (user_code_hash) DO NOTHING";
const BY_USER_CODE: &str =
    "SELECT id, client_id, scope, user_id, status, expires_at FROM device_codes WHERE user_code_hash = $1";
const BY_ID: &str =
    "SELECT id, client_id, scope, user_id, status, expires_at FROM device_codes WHERE id = $1";
const CLAIM: &str =
    "UPDATE device_codes SET user_id = $2 WHERE id = $1 AND status = 'pending' AND user_id IS NULL";
const DECIDE: &str =
    "UPDATE device_codes SET status = $3 WHERE id = $1 AND status = 'pending' AND user_id = $2";
const POLL: &str = "
    UPDATE device_codes SET last_polled_at = $2
    WHERE id = $1 AND (last_polled_at IS NULL OR last_polled_at + polling_interval <= $2)";
const DELETE: &str = "DELETE FROM device_codes WHERE id = $1";
const TAKE: &str = "DELETE FROM device_codes WHERE id = $1 AND status = 'approved'";
const WITHDRAW: &str = "UPDATE device_codes SET status = 'denied' WHERE user_id = $1 AND status = 'approved'";
const SWEEP: &str =
    "DELETE FROM device_codes WHERE id IN (SELECT id FROM device_codes WHERE expires_at <= $1 LIMIT 500)";

/// Makes the codes of a device that wants to sign in. `for_user`: nobody else may approve it.
pub fn issue(
    tx: &mut Tx<'_>,
    vault: &Vault,
    (client_id, scope, for_user): (&str, Option<&str>, Option<&str>),
    interval: i64,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Issued, Error> {
    for _ in 0..ATTEMPTS {
        let (id, user_code) = (random::alphanumeric(rng, 32), user_code(rng));
        let hash = vault.hash(HASH, &user_code);
        let row = params![&id, &hash, client_id, scope, for_user, interval, now.plus(lifetime())];
        if tx.execute(INSERT, row)? == 1 {
            let device_code = one_time::issue(tx, vault, Purpose::DeviceCode, &id, &(), now, rng)?;
            return Ok(Issued { device_code, user_code });
        }
    }
    Err(Error::Fault("no free user code was found".into()))
}

fn user_code(rng: &mut impl Rng) -> String {
    let mut bytes = [0u8; USER_CODE_LENGTH];
    rng.fill_bytes(&mut bytes);
    bytes.iter().map(|byte| char::from(CHARSET[usize::from(byte & 31)])).collect()
}

/// A code as it is stored: people type small letters, and dashes and spaces to read it by.
fn normalized(typed: &str) -> Option<String> {
    let code: String =
        typed.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase()).collect();
    (code.len() == USER_CODE_LENGTH && code.bytes().all(|letter| CHARSET.contains(&letter))).then_some(code)
}

fn read(row: &Row<'_>) -> Result<Waiting, Error> {
    let status = row.text(4)?;
    Ok(Waiting {
        id: row.get(0)?,
        client_id: row.get(1)?,
        scope: row.get(2)?,
        user_id: row.get(3)?,
        status: Status::parse(status)
            .ok_or_else(|| Error::Fault(format!("a device code that is {status}")))?,
        expires_at: row.get(5)?,
    })
}

/// The device that shows this code.
pub fn find(tx: &mut Tx<'_>, vault: &Vault, typed: &str) -> Result<Option<Waiting>, Error> {
    let Some(code) = normalized(typed) else { return Ok(None) };
    tx.query_opt(BY_USER_CODE, params![&vault.hash(HASH, &code)], read)
}

/// The first who looks while signed in is the one who decides.
pub fn claim(tx: &mut Tx<'_>, waiting: Waiting, user: &UserId) -> Result<Option<Waiting>, Error> {
    if tx.execute(CLAIM, params![&waiting.id, user.as_str()])? == 1 {
        return Ok(Some(Waiting { user_id: Some(user.as_str().to_owned()), ..waiting }));
    }
    tx.query_opt(BY_ID, params![&waiting.id], read)
}

pub fn decide(
    tx: &mut Tx<'_>,
    vault: &Vault,
    typed: &str,
    user: &UserId,
    (to, now): (Status, Millis),
) -> Result<Decided, Error> {
    let Some(waiting) = find(tx, vault, typed)? else { return Ok(Decided::Unknown) };
    if waiting.expires_at <= now {
        return Ok(Decided::Expired);
    }
    if waiting.status != Status::Pending {
        return Ok(Decided::Processed);
    }
    match waiting.user_id.as_deref() {
        None => return Ok(Decided::NotClaimed),
        Some(other) if other != user.as_str() => return Ok(Decided::Foreign),
        Some(_) => {}
    }
    let done = tx.execute(DECIDE, params![&waiting.id, user.as_str(), to.name()])? == 1;
    Ok(if done { Decided::Done } else { Decided::Processed })
}

/// A device asks. What it is told for good ends its code.
pub fn poll(
    tx: &mut Tx<'_>,
    vault: &Vault,
    (device_code, client_id): (&str, &str),
    now: Millis,
) -> Result<Polled, Error> {
    let (id, is_over) = match one_time::standing::<()>(tx, vault, Purpose::DeviceCode, device_code, now)? {
        Standing::Good(found) => (found.subject, false),
        Standing::Expired(found) => (found.subject, true),
        Standing::Used(_) | Standing::Unknown => return Ok(Polled::Unknown),
    };
    let Some(waiting) = tx.query_opt(BY_ID, params![&id], read)? else { return Ok(Polled::Unknown) };
    if waiting.client_id != client_id {
        return Ok(Polled::OtherClient);
    }
    if tx.execute(POLL, params![&id, now])? == 0 {
        return Ok(Polled::TooSoon);
    }
    if is_over {
        end(tx, &id)?;
        return Ok(Polled::Expired);
    }
    match waiting.status {
        Status::Pending => Ok(Polled::Pending),
        Status::Denied => {
            end(tx, &id)?;
            Ok(Polled::Denied)
        }
        Status::Approved => {
            // Before the code is used up: whoever bans or deletes the user takes the same turn.
            let user_id = UserId::from_text(waiting.user_id.unwrap_or_default());
            users::take_turn(tx, &user_id)?;
            // The approval may have been withdrawn since it was read.
            if tx.execute(TAKE, params![&id])? == 0 {
                return Ok(Polled::Unknown);
            }
            match one_time::consume::<()>(tx, vault, Purpose::DeviceCode, device_code, now)? {
                Consumed::Now(_) => Ok(Polled::Approved { user_id, scope: waiting.scope }),
                _ => Ok(Polled::Unknown),
            }
        }
    }
}

/// Takes back what a user's sessions have approved and no device has fetched: with the sessions ends what they let in.
/// Before the sessions are ended, so that one that a device fetches at this moment ends with them.
pub fn withdraw(tx: &mut Tx<'_>, user: &UserId) -> Result<(), Error> {
    tx.execute(WITHDRAW, params![user.as_str()]).map(|_| ())
}

fn end(tx: &mut Tx<'_>, id: &str) -> Result<(), Error> {
    one_time::supersede(tx, id, Purpose::DeviceCode)?;
    tx.execute(DELETE, params![id]).map(|_| ())
}

/// Deletes what nobody waits for any more, some at a time; true when more may be left.
pub fn sweep(tx: &mut Tx<'_>, ended_before: Millis) -> Result<bool, Error> {
    Ok(tx.execute(SWEEP, params![ended_before])? >= 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        let code = user_code(&mut random::secure());
        assert_eq!(code.len(), USER_CODE_LENGTH);
        let lower = code.to_ascii_lowercase();
        for typed in [&code, &lower, &format!("{}-{}", &code[..4], &lower[4..]), &format!(" {code}\n")] {
            assert_eq!(normalized(typed).as_deref(), Some(code.as_str()), "{typed}");
        }
        for typed in ["", "ABCDEFG", "ABCDEFGHJ", "ABCDEFG0", "ABCDEFGI", "ÄBCDEFGH"] {
            assert_eq!(normalized(typed), None, "{typed}");
        }
    }
}
