//! The grant that a new person gets, once for an address.

use crate::command::{Action, Answer, Command, NewGrant, Refusal, Target};
use crate::entry::Source;
use crate::lane::{OwnerExists, apply_in};
use crate::owner::Owner;
use crate::settings::Settings;
use kernel::{Millis, Vault};
use std::sync::Arc;
use store::{Error, Tx, params};

const REMEMBER: &str = "INSERT INTO credit_signups (address_hash, created_at) VALUES ($1, $2) ON CONFLICT (address_hash) DO NOTHING";

const MAILBOX: &str = "sign-up grant";
const USER: &str = "user of a sign-up grant";

/// Grants what the configuration gives to new people, in the transaction that makes the user or proves the address.
/// Comes last in its transaction: it holds what others wait for.
pub fn grant(
    tx: &mut Tx<'_>,
    settings: &Settings,
    vault: &Vault,
    user_id: &str,
    email: &str,
    now: Millis,
) -> Result<bool, Error> {
    match due(tx, settings, vault, user_id, email, now)? {
        Some(command) => apply(tx, settings, vault, command, now),
        None => Ok(false),
    }
}

/// Makes the grant that is [`due`].
pub fn apply(
    tx: &mut Tx<'_>,
    settings: &Settings,
    vault: &Vault,
    command: Command,
    now: Millis,
) -> Result<bool, Error> {
    let exists: OwnerExists = Arc::new(|_, _| Ok(true));
    was_granted(apply_in(tx, settings, vault, &exists, vec![command], now)?)
}

/// The grant that is due to a new person, to be applied in the same transaction; see [`was_granted`]. The mailbox is
/// remembered by its keyed hash, so that deleting the account and coming back brings no second grant; the user is, so
/// that moving the account to another mailbox brings none either. Of two at once (PostgreSQL) the second waits for the
/// first at the row they both want.
pub fn due(
    tx: &mut Tx<'_>,
    settings: &Settings,
    vault: &Vault,
    user_id: &str,
    email: &str,
    now: Millis,
) -> Result<Option<Command>, Error> {
    let Some(gift) = &settings.signup_grant else { return Ok(None) };
    for hash in [vault.hash(MAILBOX, &normalised(email)), vault.hash(USER, user_id)] {
        if tx.execute(REMEMBER, params![&hash, now])? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Command {
        target: Target::Owner { owner: Owner::User(user_id.to_string()), unit: gift.unit.clone() },
        action: Action::Grant(NewGrant {
            amount: gift.amount,
            source: Source::Signup,
            expires_at: gift.expires_in.map(|time| now.plus(time)),
            priority: 50,
            reason: Some("sign-up".into()),
            metadata: None,
            source_ref: None,
            rollover: None,
        }),
        actor: "system".into(),
        request_id: None,
        idempotency: None,
    }))
}

/// Whether the command of [`due`] did what it should.
pub fn was_granted(results: Vec<Result<Answer, Refusal>>) -> Result<bool, Error> {
    match results.into_iter().next() {
        Some(Err(Refusal::Invalid { message, .. })) => Err(Error::Fault(message)),
        result => Ok(matches!(result, Some(Ok(_)))),
    }
}

/// One mailbox in its many spellings: case, dots and tags that large providers ignore are left out.
fn normalised(email: &str) -> String {
    let lower = email.trim().to_lowercase();
    let Some((name, domain)) = lower.rsplit_once('@') else { return lower };
    let name = name.split('+').next().filter(|name| !name.is_empty()).unwrap_or(name);
    match domain {
        "gmail.com" | "googlemail.com" => format!("{}@gmail.com", name.replace('.', "")),
        _ => format!("{name}@{domain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_are_one() {
        for text in ["Ada.L+x@Gmail.com", "adal@googlemail.com", "a.d.a.l@gmail.com"] {
            assert_eq!(normalised(text), "adal@gmail.com");
        }
        assert_eq!(normalised("Ada.L+x@Example.com"), "ada.l@example.com");
        assert_ne!(normalised("+ada@example.com"), normalised("+bob@example.com"));
        assert_ne!(normalised("adal@example.com"), normalised("ada.l@example.com"));
    }
}
