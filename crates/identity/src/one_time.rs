//! Links that work once, and the only function that uses one up; codes that people type are in [`codes`].

pub mod codes;
pub mod foreign;

use kernel::{Millis, Vault, random};
use rand::CryptoRng;
use serde::{Serialize, de::DeserializeOwned};
use store::{Error, Row, Tx, params};

/// What a value is for. A value of one purpose never works for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    ResetPassword,
    VerifyEmail,
    /// Apart from the links that prove an address, because it dies with the password.
    ChangeEmail,
    DeleteUser,
    /// A sign-in that waits for its second factor.
    SecondFactor,
    /// A browser that is not asked for it.
    TrustedDevice,
    BackupCode,
    /// What a passkey is to sign.
    Passkey,
    /// A link that signs in.
    MagicLink,
    /// Hands a session to another app.
    Handover,
    /// What a device without a keyboard keeps while it waits.
    DeviceCode,
    /// A sign-in that was begun at a provider, or the linking of an account there.
    ProviderSignIn,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::ResetPassword => "reset-password",
            Purpose::VerifyEmail => "verify-email",
            Purpose::ChangeEmail => "change-email",
            Purpose::DeleteUser => "delete-user",
            Purpose::SecondFactor => "second-factor",
            Purpose::TrustedDevice => "trusted-device",
            Purpose::BackupCode => "backup-code",
            Purpose::Passkey => "passkey",
            Purpose::MagicLink => "magic-link",
            Purpose::Handover => "handover",
            Purpose::DeviceCode => "device-code",
            Purpose::ProviderSignIn => "provider-sign-in",
        }
    }

    /// How long a value lives.
    pub fn lifetime(self) -> i64 {
        match self {
            Purpose::ResetPassword | Purpose::VerifyEmail | Purpose::ChangeEmail => kernel::time::HOUR,
            Purpose::DeleteUser => kernel::time::DAY,
            Purpose::SecondFactor | Purpose::ProviderSignIn => 10 * kernel::time::MINUTE,
            Purpose::TrustedDevice => 30 * kernel::time::DAY,
            // Until they are used or replaced.
            Purpose::BackupCode => 36_500 * kernel::time::DAY,
            Purpose::Passkey | Purpose::MagicLink => 5 * kernel::time::MINUTE,
            Purpose::Handover => 3 * kernel::time::MINUTE,
            Purpose::DeviceCode => 30 * kernel::time::MINUTE,
        }
    }

    /// In letters and digits.
    fn length(self) -> usize {
        if self == Purpose::DeviceCode { 40 } else { LENGTH }
    }
}

/// What a value stands for once it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<P> {
    pub subject: String,
    pub payload: P,
}

/// The outcome of using a value up.
#[derive(Debug, Clone, PartialEq)]
pub enum Consumed<P> {
    /// This call was the first and only one to use it.
    Now(Found<P>),
    /// It was good once; who holds it is not an attacker who guesses, but it opens nothing any more.
    Before(Found<P>),
    Expired,
    Unknown,
}

const HASH: &str = "one-time value";
const LINK: &str = "one-time link";
const LENGTH: usize = 32;
/// Asked for again within this time, the same verification link is mailed once more, so that either mail works.
const SAME_LINK: i64 = kernel::time::MINUTE;

const INSERT: &str = "
    INSERT INTO one_time_values (value_hash, purpose, subject, payload, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (value_hash) DO NOTHING";
const RECENT: &str = "
    SELECT created_at FROM one_time_values
    WHERE subject = $1 AND purpose = $2 AND payload = $3 AND used_at IS NULL AND created_at > $4
    ORDER BY created_at DESC LIMIT 1";
const CONSUME: &str = "
    UPDATE one_time_values SET used_at = $3
    WHERE value_hash = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > $3
    RETURNING subject, payload";
const LOOK: &str = "SELECT subject, payload, expires_at, used_at FROM one_time_values WHERE value_hash = $1 AND purpose = $2";
const SUPERSEDE: &str = "DELETE FROM one_time_values WHERE subject = $1 AND purpose = $2 AND used_at IS NULL";
const WITHDRAW: &str = "DELETE FROM one_time_values WHERE subject = $1 AND purpose = $2";
const FORGET: &str = "DELETE FROM one_time_values WHERE subject = $1";
const FORGET_LINKS: &str = "
    DELETE FROM one_time_values
    WHERE subject = $1 AND purpose IN ('reset-password', 'verify-email', 'change-email', 'delete-user')";
const SWEEP: &str = "
    DELETE FROM one_time_values
    WHERE value_hash IN (SELECT value_hash FROM one_time_values WHERE expires_at <= $1 LIMIT 500)";

/// Makes a value for a subject. Earlier ones of the same purpose stop working, but for verification links: people open
/// whichever of two mails lies on top, and all these prove is that the mailbox can be read.
pub fn issue<P: Serialize>(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    subject: &str,
    payload: &P,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<String, Error> {
    // Two askers at once must not both find nothing to supersede.
    tx.lock("one-time", &[subject])?;
    let payload = serde_json::to_string(payload).map_err(|error| Error::Fault(error.to_string()))?;
    let (value, made_at) = match purpose {
        Purpose::VerifyEmail | Purpose::ChangeEmail => {
            let recent = params![subject, purpose.name(), &payload, now.minus(SAME_LINK)];
            let made_at = tx.query_opt(RECENT, recent, |row| row.get::<Millis>(0))?.unwrap_or(now);
            (vault.hash(LINK, &format!("{subject}\0{payload}\0{}", made_at.0)), made_at)
        }
        Purpose::ResetPassword | Purpose::DeleteUser | Purpose::DeviceCode => {
            supersede(tx, subject, purpose)?;
            (random::alphanumeric(rng, purpose.length()), now)
        }
        // Each browser has its own, and each mail with a link to sign in: people open whichever lies on top.
        Purpose::SecondFactor
        | Purpose::MagicLink
        | Purpose::Handover
        | Purpose::TrustedDevice
        | Purpose::BackupCode
        | Purpose::Passkey
        | Purpose::ProviderSignIn => (random::alphanumeric(rng, purpose.length()), now),
    };
    let hash = vault.hash(HASH, &value);
    tx.execute(
        INSERT,
        params![&hash, purpose.name(), subject, &payload, made_at, made_at.plus(purpose.lifetime())],
    )?;
    Ok(value)
}

/// Makes several values of one purpose for a subject, which the caller has chosen; those before them are gone.
pub fn issue_set(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    subject: &str,
    values: &[String],
    now: Millis,
) -> Result<(), Error> {
    tx.lock("one-time", &[subject])?;
    withdraw(tx, subject, purpose)?;
    for value in values {
        let hash = vault.hash(HASH, value);
        let end = now.plus(purpose.lifetime());
        tx.execute(INSERT, params![&hash, purpose.name(), subject, "null", now, end])?;
    }
    Ok(())
}

/// As much work as [`issue`] for an address that nobody has, so that the time of an answer does not tell: a row that is
/// good for nothing and swept with the next ones.
pub fn pretend(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    address: &str,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let nobody = vault.hash("nobody", address);
    tx.lock("one-time", &[&nobody])?;
    supersede(tx, &nobody, purpose)?;
    let hash = vault.hash(HASH, &random::alphanumeric(rng, LENGTH));
    tx.execute(INSERT, params![&hash, purpose.name(), &nobody, "{}", now, now]).map(|_| ())
}

/// Uses a value up, in one statement, so that of any number of callers at once one gets [`Consumed::Now`].
pub fn consume<P: DeserializeOwned>(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    value: &str,
    now: Millis,
) -> Result<Consumed<P>, Error> {
    let hash = vault.hash(HASH, value);
    if let Some(found) = tx.query_opt(CONSUME, params![&hash, purpose.name(), now], read)? {
        return Ok(Consumed::Now(found));
    }
    Ok(match standing(tx, vault, purpose, value, now)? {
        Standing::Unknown => Consumed::Unknown,
        Standing::Expired(_) => Consumed::Expired,
        // Good: it was used up between the two statements by another node.
        Standing::Used(found) | Standing::Good(found) => Consumed::Before(found),
    })
}

/// What would become of a value if it were used up now.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing<P> {
    Good(Found<P>),
    Used(Found<P>),
    Expired(Found<P>),
    Unknown,
}

/// Looks at a value without using it up, and says of one that does not work why.
pub fn standing<P: DeserializeOwned>(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    value: &str,
    now: Millis,
) -> Result<Standing<P>, Error> {
    let look = |row: &Row<'_>| Ok((read(row)?, row.get::<Millis>(2)?, row.get::<Option<Millis>>(3)?));
    let found = tx.query_opt(LOOK, params![&vault.hash(HASH, value), purpose.name()], look)?;
    Ok(match found {
        None => Standing::Unknown,
        Some((found, _, Some(_))) => Standing::Used(found),
        Some((found, end, None)) if end <= now => Standing::Expired(found),
        Some((found, _, None)) => Standing::Good(found),
    })
}

/// What a value stands for while it works, without using it up.
pub fn look<P: DeserializeOwned>(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    value: &str,
    now: Millis,
) -> Result<Option<Found<P>>, Error> {
    Ok(match standing(tx, vault, purpose, value, now)? {
        Standing::Good(found) => Some(found),
        _ => None,
    })
}

/// Tells whether a value would work, without using it up.
pub fn is_good(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    value: &str,
    now: Millis,
) -> Result<bool, Error> {
    let look = |row: &Row<'_>| Ok((row.get::<Millis>(2)?, row.get::<Option<Millis>>(3)?));
    let found = tx.query_opt(LOOK, params![&vault.hash(HASH, value), purpose.name()], look)?;
    Ok(matches!(found, Some((end, None)) if end > now))
}

/// Makes the unused values of a subject worthless.
pub fn supersede(tx: &mut Tx<'_>, subject: &str, purpose: Purpose) -> Result<(), Error> {
    tx.execute(SUPERSEDE, params![subject, purpose.name()]).map(|_| ())
}

/// Removes the values of a subject and purpose, used or not.
pub fn withdraw(tx: &mut Tx<'_>, subject: &str, purpose: Purpose) -> Result<(), Error> {
    tx.execute(WITHDRAW, params![subject, purpose.name()]).map(|_| ())
}

/// Makes every link worthless that was mailed to a subject's address.
pub fn forget_links(tx: &mut Tx<'_>, subject: &str) -> Result<(), Error> {
    tx.execute(FORGET_LINKS, params![subject]).map(|_| ())
}

/// Removes whatever was made for a subject.
pub fn forget_subject(tx: &mut Tx<'_>, subject: &str) -> Result<(), Error> {
    codes::forget_subject(tx, subject)?;
    tx.execute(FORGET, params![subject]).map(|_| ())
}

/// Deletes values whose time is over, some at a time; true when more may be left.
pub fn sweep(tx: &mut Tx<'_>, ended_before: Millis) -> Result<bool, Error> {
    let more = codes::sweep(tx, ended_before)?;
    Ok(tx.execute(SWEEP, params![ended_before])? >= 500 || more)
}

fn read<P: DeserializeOwned>(row: &Row<'_>) -> Result<Found<P>, Error> {
    let payload = serde_json::from_str(row.text(1)?)
        .map_err(|error| Error::Fault(format!("one-time payload: {error}")))?;
    Ok(Found { subject: row.get(0)?, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::time::{DAY, HOUR, MINUTE};
    use kernel::vault::DataKey;
    use store::{Options, Store};

    pub(super) const NOW: Millis = Millis(1_800_000_000_000);

    /// Runs the work in one transaction on a new database.
    pub(super) async fn with_store<T, F>(run: F) -> T
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>, &Vault) -> Result<T, Error> + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).expect("a new database");
        store.migrate().expect("a new schema");
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let mut run = run;
        store.write(move |tx| run(tx, &vault)).await.expect("the store answers")
    }

    fn make(tx: &mut Tx<'_>, vault: &Vault, purpose: Purpose, now: Millis) -> Result<String, Error> {
        issue(tx, vault, purpose, "subject", &"payload", now, &mut random::secure())
    }

    fn use_up(
        tx: &mut Tx<'_>,
        vault: &Vault,
        purpose: Purpose,
        value: &str,
        now: Millis,
    ) -> Result<Consumed<String>, Error> {
        consume(tx, vault, purpose, value, now)
    }

    fn found() -> Found<String> {
        Found { subject: "subject".into(), payload: "payload".into() }
    }

    #[tokio::test]
    async fn a_value_works_once_for_its_purpose_and_in_its_time() {
        with_store(|tx, vault| {
            let value = make(tx, vault, Purpose::ResetPassword, NOW)?;
            assert_eq!(value.len(), LENGTH);
            assert_eq!(use_up(tx, vault, Purpose::DeleteUser, &value, NOW)?, Consumed::Unknown);
            assert_eq!(use_up(tx, vault, Purpose::ResetPassword, "guessed", NOW)?, Consumed::Unknown);
            assert_eq!(
                use_up(tx, vault, Purpose::ResetPassword, &value, NOW.plus(HOUR))?,
                Consumed::Expired,
                "its last moment is over"
            );
            assert!(is_good(tx, vault, Purpose::ResetPassword, &value, NOW.plus(HOUR - 1))?);
            let last = NOW.plus(HOUR - 1);
            assert_eq!(use_up(tx, vault, Purpose::ResetPassword, &value, last)?, Consumed::Now(found()));
            assert_eq!(use_up(tx, vault, Purpose::ResetPassword, &value, last)?, Consumed::Before(found()));
            assert!(!is_good(tx, vault, Purpose::ResetPassword, &value, last)?);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn the_newest_value_alone_works_where_it_opens_something() {
        with_store(|tx, vault| {
            for purpose in [Purpose::ResetPassword, Purpose::DeleteUser] {
                let (old, new) = (make(tx, vault, purpose, NOW)?, make(tx, vault, purpose, NOW)?);
                assert_eq!(use_up(tx, vault, purpose, &old, NOW)?, Consumed::Unknown);
                assert_eq!(use_up(tx, vault, purpose, &new, NOW)?, Consumed::Now(found()));
            }
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn links_that_prove_an_address_live_beside_each_other_and_are_the_same_within_a_minute() {
        with_store(|tx, vault| {
            let purpose = Purpose::VerifyEmail;
            let first = make(tx, vault, purpose, NOW)?;
            assert_eq!(make(tx, vault, purpose, NOW.plus(MINUTE - 1))?, first);
            let second = make(tx, vault, purpose, NOW.plus(MINUTE))?;
            assert_ne!(first, second);
            // The same link has the end it had.
            assert_eq!(use_up(tx, vault, purpose, &first, NOW.plus(HOUR))?, Consumed::Expired);
            assert_eq!(use_up(tx, vault, purpose, &second, NOW.plus(HOUR))?, Consumed::Now(found()));
            // Once used up it is not sent again.
            assert_ne!(make(tx, vault, purpose, NOW.plus(HOUR))?, second);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_subject_is_forgotten_whole_and_time_sweeps_the_rest() {
        with_store(|tx, vault| {
            let reset = make(tx, vault, Purpose::ResetPassword, NOW)?;
            let delete = make(tx, vault, Purpose::DeleteUser, NOW)?;
            assert!(!sweep(tx, NOW.plus(HOUR))?);
            assert_eq!(use_up(tx, vault, Purpose::ResetPassword, &reset, NOW)?, Consumed::Unknown);
            assert!(is_good(tx, vault, Purpose::DeleteUser, &delete, NOW.plus(DAY - 1))?);
            forget_subject(tx, "another")?;
            assert!(is_good(tx, vault, Purpose::DeleteUser, &delete, NOW)?);
            forget_subject(tx, "subject")?;
            assert!(!is_good(tx, vault, Purpose::DeleteUser, &delete, NOW)?);
            Ok(())
        })
        .await;
    }
}
