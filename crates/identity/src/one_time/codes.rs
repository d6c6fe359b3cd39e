//! Codes of six digits that people read in a mail and type: one for each subject and purpose, with few tries.
//!
//! A try is counted and judged by one statement that holds the code's row until its transaction ends, so of any number
//! of callers at once each sees what those before it used up. The count stands only if the transaction does: a caller
//! gives what came out back as a value, never as an error.

use kernel::secret::same_secret;
use kernel::time::MINUTE;
use kernel::{Millis, Vault, random};
use rand::{CryptoRng, RngExt as _};
use store::{Error, Tx, params};

/// What a code is for. A code of one purpose never works for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodePurpose {
    SignIn,
    VerifyEmail,
    ResetPassword,
    ChangeEmail,
    SecondFactor,
}

impl CodePurpose {
    fn name(self) -> &'static str {
        match self {
            CodePurpose::SignIn => "sign-in",
            CodePurpose::VerifyEmail => "verify-email",
            CodePurpose::ResetPassword => "reset-password",
            CodePurpose::ChangeEmail => "change-email",
            CodePurpose::SecondFactor => "second-factor",
        }
    }

    /// How long a code lives.
    pub fn lifetime(self) -> i64 {
        match self {
            CodePurpose::SecondFactor => 3 * MINUTE,
            _ => 5 * MINUTE,
        }
    }

    /// How many wrong tries it survives; the next try ends it, wrong or right.
    pub fn tries(self) -> i64 {
        match self {
            CodePurpose::SecondFactor => 5,
            _ => 3,
        }
    }
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    Right,
    Wrong,
    /// The tries are used up, and the code is gone.
    TooMany,
    /// It was too late, and the code is gone.
    Expired,
    /// There is no code.
    Unknown,
}

const HASH: &str = "one-time code";
const DIGITS: usize = 6;

const ISSUE: &str = "
    INSERT INTO one_time_codes (subject, purpose, code_hash, wrong_tries, created_at, expires_at)
    VALUES ($1, $2, $3, 0, $4, $5)
    ON CONFLICT (subject, purpose) DO UPDATE
    SET code_hash = EXCLUDED.code_hash, wrong_tries = 0, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at";
const TRY: &str = "
    UPDATE one_time_codes SET wrong_tries = wrong_tries + CASE WHEN code_hash = $3 THEN 0 ELSE 1 END
    WHERE subject = $1 AND purpose = $2
    RETURNING code_hash, wrong_tries, expires_at";
const END: &str = "DELETE FROM one_time_codes WHERE subject = $1 AND purpose = $2";
const FORGET: &str = "DELETE FROM one_time_codes WHERE subject = $1";
const SWEEP: &str = "
    DELETE FROM one_time_codes
    WHERE subject IN (SELECT subject FROM one_time_codes WHERE expires_at <= $1 LIMIT 500) AND expires_at <= $1";

/// Makes a code for a subject; an earlier one of the same purpose stops working, and its tries count no more.
pub fn issue(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: CodePurpose,
    subject: &str,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<String, Error> {
    let code = format!("{:0DIGITS$}", rng.random_range(0..1_000_000));
    write(tx, purpose, subject, &hash(vault, purpose, subject, &code), now)?;
    Ok(code)
}

/// As much work as [`issue`], for a subject that gets no code: its tries are counted and run out like those of others,
/// so that none of them tells whether there was a mail, and no code is the right one.
pub fn pretend(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: CodePurpose,
    subject: &str,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let nothing = hash(vault, purpose, subject, &random::alphanumeric(rng, 32));
    write(tx, purpose, subject, &nothing, now)
}

fn write(tx: &mut Tx<'_>, purpose: CodePurpose, subject: &str, hash: &str, now: Millis) -> Result<(), Error> {
    let end = now.plus(purpose.lifetime());
    tx.execute(ISSUE, params![subject, purpose.name(), hash, now, end]).map(|_| ())
}

/// Tries a code and uses it up when it is right: of any number of callers at once one gets [`Tried::Right`].
pub fn consume(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: CodePurpose,
    subject: &str,
    code: &str,
    now: Millis,
) -> Result<Tried, Error> {
    let tried = look(tx, vault, purpose, subject, code, now)?;
    if tried == Tried::Right {
        end(tx, purpose, subject)?;
    }
    Ok(tried)
}

/// Tries a code without using it up. A wrong try counts as any other.
pub fn look(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: CodePurpose,
    subject: &str,
    code: &str,
    now: Millis,
) -> Result<Tried, Error> {
    let given = hash(vault, purpose, subject, code);
    let row = tx.query_opt(TRY, params![subject, purpose.name(), &given], |row| {
        let right = same_secret(row.text(0)?.as_bytes(), given.as_bytes());
        Ok((right, row.get::<i64>(1)?, row.get::<Millis>(2)?))
    })?;
    let Some((right, wrong_tries, expires_at)) = row else { return Ok(Tried::Unknown) };
    let most = if right { purpose.tries() - 1 } else { purpose.tries() };
    let tried = if expires_at <= now {
        Tried::Expired
    } else if wrong_tries > most {
        Tried::TooMany
    } else if right {
        return Ok(Tried::Right);
    } else {
        return Ok(Tried::Wrong);
    };
    end(tx, purpose, subject)?;
    Ok(tried)
}

/// Makes a subject's code worthless.
pub fn end(tx: &mut Tx<'_>, purpose: CodePurpose, subject: &str) -> Result<(), Error> {
    tx.execute(END, params![subject, purpose.name()]).map(|_| ())
}

/// Removes whatever was made for a subject.
pub(super) fn forget_subject(tx: &mut Tx<'_>, subject: &str) -> Result<(), Error> {
    tx.execute(FORGET, params![subject]).map(|_| ())
}

/// Deletes codes whose time is over, some at a time; true when more may be left.
pub(super) fn sweep(tx: &mut Tx<'_>, ended_before: Millis) -> Result<bool, Error> {
    Ok(tx.execute(SWEEP, params![ended_before])? >= 500)
}

/// Bound to subject and purpose, so that equal codes of two people look different in the table.
fn hash(vault: &Vault, purpose: CodePurpose, subject: &str, code: &str) -> String {
    vault.hash(HASH, &format!("{}\0{subject}\0{code}", purpose.name()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, with_store};
    use super::*;

    const PURPOSE: CodePurpose = CodePurpose::SignIn;

    fn make(tx: &mut Tx<'_>, vault: &Vault, now: Millis) -> Result<String, Error> {
        issue(tx, vault, PURPOSE, "subject", now, &mut random::secure())
    }

    fn wrong(code: &str) -> &'static str {
        if code == "000000" { "111111" } else { "000000" }
    }

    #[tokio::test]
    async fn a_code_works_once_for_its_purpose_and_subject_and_in_its_time() {
        with_store(|tx, vault| {
            let code = make(tx, vault, NOW)?;
            assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
            let other = CodePurpose::ResetPassword;
            assert_eq!(consume(tx, vault, other, "subject", &code, NOW)?, Tried::Unknown);
            assert_eq!(consume(tx, vault, PURPOSE, "another", &code, NOW)?, Tried::Unknown);
            let last = NOW.plus(PURPOSE.lifetime() - 1);
            assert_eq!(look(tx, vault, PURPOSE, "subject", &code, last)?, Tried::Right);
            assert_eq!(consume(tx, vault, PURPOSE, "subject", &code, last)?, Tried::Right);
            assert_eq!(consume(tx, vault, PURPOSE, "subject", &code, last)?, Tried::Unknown);
            let code = make(tx, vault, NOW)?;
            let late = NOW.plus(PURPOSE.lifetime());
            assert_eq!(consume(tx, vault, PURPOSE, "subject", &code, late)?, Tried::Expired);
            assert_eq!(consume(tx, vault, PURPOSE, "subject", &code, late)?, Tried::Unknown);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn after_its_tries_the_right_code_is_refused_too() {
        with_store(|tx, vault| {
            for purpose in [CodePurpose::SignIn, CodePurpose::SecondFactor] {
                let code = issue(tx, vault, purpose, "subject", NOW, &mut random::secure())?;
                for _ in 0..purpose.tries() {
                    assert_eq!(consume(tx, vault, purpose, "subject", wrong(&code), NOW)?, Tried::Wrong);
                }
                assert_eq!(consume(tx, vault, purpose, "subject", &code, NOW)?, Tried::TooMany);
                assert_eq!(consume(tx, vault, purpose, "subject", &code, NOW)?, Tried::Unknown);
                // Looking counts as well.
                let code = issue(tx, vault, purpose, "subject", NOW, &mut random::secure())?;
                for _ in 0..purpose.tries() {
                    assert_eq!(look(tx, vault, purpose, "subject", wrong(&code), NOW)?, Tried::Wrong);
                }
                assert_eq!(look(tx, vault, purpose, "subject", wrong(&code), NOW)?, Tried::TooMany);
                assert_eq!(look(tx, vault, purpose, "subject", &code, NOW)?, Tried::Unknown);
            }
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_new_code_replaces_the_old_one_and_its_tries() {
        with_store(|tx, vault| {
            let old = make(tx, vault, NOW)?;
            for _ in 0..PURPOSE.tries() {
                consume(tx, vault, PURPOSE, "subject", wrong(&old), NOW)?;
            }
            let mut new = make(tx, vault, NOW)?;
            while new == old {
                new = make(tx, vault, NOW)?;
            }
            assert_eq!(consume(tx, vault, PURPOSE, "subject", &old, NOW)?, Tried::Wrong);
            assert_eq!(consume(tx, vault, PURPOSE, "subject", &new, NOW)?, Tried::Right);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_pretended_code_runs_out_like_a_real_one() {
        with_store(|tx, vault| {
            pretend(tx, vault, PURPOSE, "subject", NOW, &mut random::secure())?;
            for number in 0..PURPOSE.tries() {
                let code = format!("{number:06}");
                assert_eq!(consume(tx, vault, PURPOSE, "subject", &code, NOW)?, Tried::Wrong);
            }
            assert_eq!(consume(tx, vault, PURPOSE, "subject", "999999", NOW)?, Tried::TooMany);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn codes_go_with_their_subject_and_with_time() {
        with_store(|tx, vault| {
            let code = make(tx, vault, NOW)?;
            super::super::forget_subject(tx, "another")?;
            super::super::sweep(tx, NOW.plus(PURPOSE.lifetime() - 1))?;
            assert_eq!(look(tx, vault, PURPOSE, "subject", &code, NOW)?, Tried::Right);
            super::super::sweep(tx, NOW.plus(PURPOSE.lifetime()))?;
            assert_eq!(look(tx, vault, PURPOSE, "subject", &code, NOW)?, Tried::Unknown);
            let code = make(tx, vault, NOW)?;
            super::super::forget_subject(tx, "subject")?;
            assert_eq!(look(tx, vault, PURPOSE, "subject", &code, NOW)?, Tried::Unknown);
            Ok(())
        })
        .await;
    }
}
