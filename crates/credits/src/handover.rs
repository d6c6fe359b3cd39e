//! What a guest or an anonymous user has goes to the user that they become, in the transaction of the sign-up or sign-in.

use crate::command::{Action, Command, Refusal, Target};
use crate::lane::{OwnerExists, Results, apply_made_in};

use crate::owner::{AccountId, Owner};
use crate::reads;
use crate::settings::Settings;
use kernel::{Millis, Vault};
use std::sync::Arc;
use store::{Error, Tx, params};

const UNITS: &str = "SELECT unit FROM credit_accounts WHERE owner = $1";
const CLOSE_EMPTY: &str = "
    UPDATE credit_accounts SET closed = TRUE, version = version + 1
    WHERE owner = $1 AND NOT closed AND held = 0 AND balance <= 0";
const OPEN_ACCOUNTS: &str = "SELECT id FROM credit_accounts WHERE owner IN ($1) AND NOT closed AND held = 0";
const CLOSE_ONE: &str = "
    UPDATE credit_accounts SET closed = TRUE, version = version + 1 WHERE id = $1 AND NOT closed AND held = 0";

/// Moves all that is free, of each unit by one transfer, and closes the accounts that are empty then. `also` are commands
/// of the same transaction, whose results are given back. What is held stays where its hold can be captured. Comes last
/// in its transaction: it holds what others wait for.
pub fn hand_over(
    tx: &mut Tx<'_>,
    settings: &Settings,
    vault: &Vault,
    (from, to): (&[Owner], &Owner),
    also: Vec<Command>,
    now: Millis,
) -> Result<Results, Error> {
    let others = also.len();
    let make = |tx: &mut Tx<'_>| {
        lock_accounts(tx, settings, from, to)?;
        let mut commands = also;
        for from in from {
            for found in reads::accounts(tx, from, now)? {
                let free = found.available();
                commands.extend((free > 0).then(|| transfer(from, to, found.unit, free)));
            }
        }
        Ok(commands)
    };
    let exists: OwnerExists = Arc::new(|_, _| Ok(true));
    let mut results = apply_made_in(tx, settings, vault, &exists, make, now)?;
    for refusal in results.split_off(others).into_iter().filter_map(Result::err) {
        report(from, to, &refusal);
    }
    for from in from {
        tx.execute(CLOSE_EMPTY, params![&from.to_string()])?;
    }
    Ok(results)
}

/// A grant or a debit that is under way on another node is waited for, the first one of an account as well.
fn lock_accounts(tx: &mut Tx<'_>, settings: &Settings, from: &[Owner], to: &Owner) -> Result<(), Error> {
    // Also units that are not configured any more: their accounts have not ended.
    let mut units = settings.units.clone();
    for from in from {
        units.extend(tx.query(UNITS, params![&from.to_string()], |row| row.get::<String>(0))?);
    }
    let owners = || from.iter().chain([to]);
    let ids: Vec<AccountId> =
        units.iter().flat_map(|unit| owners().map(|owner| AccountId::of(owner, unit))).collect();
    crate::rows::lock_accounts(tx, &ids.iter().map(AccountId::as_str).collect::<Vec<_>>())
}

fn reason(from: &Owner) -> &'static str {
    match from {
        Owner::Guest(_) => "the guest signed in",
        _ => "the anonymous user signed in",
    }
}

fn transfer(from: &Owner, to: &Owner, unit: String, amount: i64) -> Command {
    Command {
        target: Target::Owner { owner: from.clone(), unit },
        action: Action::Transfer { to: to.clone(), amount, reason: reason(from).into() },
        actor: "system".into(),
        request_id: None,
        idempotency: None,
    }
}

/// Nobody is kept from signing in because credits cannot be moved: they stay where an operator finds them.
fn report(from: &[Owner], to: &Owner, refusal: &Refusal) {
    let from: Vec<String> = from.iter().map(Owner::to_string).collect();
    tracing::error!(?from, %to, ?refusal, "what a guest or an anonymous user has was not moved; move it with a transfer");
}

/// Closes the accounts of owners whose time is over, but for those with an open hold.
pub fn close_forgotten(tx: &mut Tx<'_>, owners: &[Owner]) -> Result<(), Error> {
    let texts: Vec<String> = owners.iter().map(Owner::to_string).collect();
    let asked: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ids = tx.query_keys(OPEN_ACCOUNTS, &asked, |row| row.get::<String>(0))?;
    crate::rows::lock_accounts(tx, &ids.iter().map(String::as_str).collect::<Vec<_>>())?;
    ids.iter().try_for_each(|id| tx.execute(CLOSE_ONE, params![id]).map(|_| ()))
}
