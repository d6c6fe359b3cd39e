//! The ledger's rows: their columns, and how an account is read as far as a command needs it.

use crate::account::{Account, Drawn, Hold, HoldStatus, Limit, Lot, NEVER, parse_drawn};
use crate::command::Period;
use crate::entry::{self, Entry, Kind, Source, parse_parts};
use crate::keys::{KeptEntry, KeptText};
use crate::machine::Lack;
use crate::owner::{AccountId, Owner};
use crate::reads::first_since;
use crate::spender::{Spender, SpentBy};
use kernel::Millis;
use std::collections::BTreeMap;
use store::{Error, Row, Tx, params};

/// How many lots are read at first, and at once when these do not suffice.
const WINDOW: usize = 32;
const CHUNK: usize = 1_024;

macro_rules! account_columns {
    () => {
        "id, owner, unit, version, seq, hash, last_at, balance, held, owed, negative_floor, lot_count, hold_count, next_due, \
         has_limits, closed, drawn, carried"
    };
}
macro_rules! lot_columns {
    () => {
        "no, source, amount, remaining, held, priority, expires_at, created_at, reason, metadata, source_ref, ended, \
         rollover, carried"
    };
}
macro_rules! hold_columns {
    () => {
        "no, amount, captured, status, feature, quantity, price_version, reason, metadata, parts, expires_at, created_at, ended_at, \
         source_ref"
    };
}
pub(crate) use {account_columns, hold_columns, lot_columns};

pub(crate) const ACCOUNTS: &str =
    concat!("SELECT ", account_columns!(), " FROM credit_accounts WHERE id IN ($1)");
pub(crate) const VERSIONS: &str = "SELECT id, version FROM credit_accounts WHERE id IN ($1)";
pub(crate) const KEYS: &str = "SELECT id, request, status, answer FROM credit_keys WHERE id IN ($1)";
pub(crate) const KEYS_OF_ENTRIES: &str = concat!(
    "SELECT ",
    entry::columns!(),
    ", key_id, key_request, key_answer FROM credit_entries WHERE key_id IN ($1)"
);
const FIRST_LOTS: &str = concat!(
    "SELECT ",
    lot_columns!(),
    " FROM credit_lots WHERE account_id = $1 AND open
    ORDER BY priority, expires_at, source_rank, created_at, no LIMIT $2"
);
const MORE_LOTS: &str = concat!(
    "SELECT ",
    lot_columns!(),
    " FROM credit_lots WHERE account_id = $1 AND open
    AND (priority, expires_at, source_rank, created_at, no) > ($3, $4, $5, $6, $7)
    ORDER BY priority, expires_at, source_rank, created_at, no LIMIT $2"
);
pub(crate) const ONE_LOT: &str =
    concat!("SELECT ", lot_columns!(), " FROM credit_lots WHERE account_id = $1 AND no = $2");
const DUE_LOTS: &str = concat!(
    "SELECT ",
    lot_columns!(),
    " FROM credit_lots WHERE account_id = $1 AND NOT ended AND expires_at <= $2"
);
const NEXT_LOT: &str = "SELECT expires_at FROM credit_lots WHERE account_id = $1 AND NOT ended AND expires_at > $2 ORDER BY expires_at LIMIT 1";
pub(crate) const ONE_HOLD: &str =
    concat!("SELECT ", hold_columns!(), " FROM credit_holds WHERE account_id = $1 AND no = $2");
const DUE_HOLDS: &str = concat!(
    "SELECT ",
    hold_columns!(),
    " FROM credit_holds WHERE account_id = $1 AND status = 'held' AND expires_at <= $2"
);
const NEXT_HOLD: &str = "
    SELECT expires_at FROM credit_holds WHERE account_id = $1 AND status = 'held' AND expires_at > $2
    ORDER BY expires_at LIMIT 1";
const LIMITS: &str = "SELECT period, max, starts_at, used FROM credit_limits WHERE account_id = $1";
const ONE_ENTRY: &str =
    concat!("SELECT ", entry::columns!(), " FROM credit_entries WHERE account_id = $1 AND seq = $2");
const GIVEN_BACK: &str = "
    SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM credit_entries WHERE account_id = $1 AND refund_of = $2";

const SPENDER_LIMITS: &str =
    "SELECT period, max, starts_at, used FROM credit_spender_limits WHERE account_id = $1 AND spender = $2";

// A refund counts in the window of what it gives back, as it does in the rules.
const SPENT_SINCE: &str = "
    SELECT CAST(COALESCE(SUM(-amount), 0) AS BIGINT) FROM credit_entries
    WHERE account_id = $1 AND seq >= $2 AND (kind IN ('debit', 'capture') OR (kind = 'refund' AND refund_of >= $2))";
// Who spent it stands on each, if that was not the owner alone.
const SPENT_BY_SINCE: &str = "
    SELECT source_ref, CAST(SUM(-amount) AS BIGINT) FROM credit_entries
    WHERE account_id = $1 AND seq >= $2 AND source_ref IS NOT NULL
      AND (kind IN ('debit', 'capture') OR (kind = 'refund' AND refund_of >= $2))
    GROUP BY source_ref";
// Nothing is spent by what is frozen.
const HELD_SINCE: &str = "
    SELECT no, amount, source_ref FROM credit_holds
    WHERE account_id = $1 AND status = 'held' AND created_at >= $2 AND expires_at < 9223372036854775807";
pub(crate) fn read_account(row: &Row<'_>) -> Result<Account, Error> {
    let owner = row.text(1)?;
    let owner = Owner::parse(owner).ok_or_else(|| Error::Fault(format!("an account of {owner}")))?;
    let fresh = Account::with_id(AccountId::stored(row.text(0)?), owner, row.get(2)?);
    let mut account = Account {
        version: row.get(3)?,
        seq: row.get(4)?,
        hash: row.get(5)?,
        last_at: row.get(6)?,
        balance: row.get(7)?,
        held: row.get(8)?,
        owed: row.get(9)?,
        negative_floor: row.get(10)?,
        lot_count: row.get(11)?,
        hold_count: row.get(12)?,
        next_due: row.get(13)?,
        has_limits: row.get(14)?,
        closed: row.get(15)?,
        drawn: read_drawn(row.text(16)?)?,
        carried: row.get(17)?,
        ..fresh
    };
    account.stored = Some(account.indexed());
    Ok(account)
}

pub(crate) fn read_drawn(text: &str) -> Result<BTreeMap<i64, Drawn>, Error> {
    parse_drawn(text).ok_or_else(|| Error::Fault(format!("an account that has drawn {text}")))
}

pub(crate) fn read_lot(row: &Row<'_>) -> Result<Lot, Error> {
    let source = row.text(1)?;
    Ok(Lot {
        no: row.get(0)?,
        source: Source::parse(source).ok_or_else(|| Error::Fault(format!("a grant from {source}")))?,
        amount: row.get(2)?,
        remaining: row.get(3)?,
        held: row.get(4)?,
        priority: row.get(5)?,
        expires_at: row.get(6)?,
        created_at: row.get(7)?,
        reason: row.get(8)?,
        metadata: row.get(9)?,
        source_ref: row.get(10)?,
        ended: row.get(11)?,
        rollover: row.get(12)?,
        carried: row.get(13)?,
    })
}

pub(crate) fn read_hold(row: &Row<'_>) -> Result<Hold, Error> {
    let (status, parts) = (row.text(3)?, row.text(9)?);
    Ok(Hold {
        no: row.get(0)?,
        amount: row.get(1)?,
        captured: row.get(2)?,
        status: HoldStatus::parse(status).ok_or_else(|| Error::Fault(format!("a hold that is {status}")))?,
        feature: row.get(4)?,
        quantity: row.get(5)?,
        price_version: row.get(6)?,
        reason: row.get(7)?,
        metadata: row.get(8)?,
        parts: parse_parts(parts).ok_or_else(|| Error::Fault(format!("parts {parts}")))?,
        expires_at: row.get(10)?,
        created_at: row.get(11)?,
        ended_at: row.get(12)?,
        source_ref: row.get(13)?,
    })
}

pub(crate) fn read_limit(row: &Row<'_>) -> Result<Limit, Error> {
    let period = row.text(0)?;
    Ok(Limit {
        period: Period::parse(period).ok_or_else(|| Error::Fault(format!("a limit by {period}")))?,
        max: row.get(1)?,
        starts_at: row.get(2)?,
        used: row.get(3)?,
    })
}

pub(crate) fn read_kept_entry(row: &Row<'_>) -> Result<(String, KeptEntry), Error> {
    let kept = KeptEntry { entry: Entry::read(row)?, request: row.get(21)?, answer: row.get(22)? };
    Ok((row.get(20)?, kept))
}

pub(crate) fn read_kept_text(row: &Row<'_>) -> Result<(String, KeptText), Error> {
    Ok((row.get(0)?, KeptText { request: row.get(1)?, status: row.get(2)?, answer: row.get(3)? }))
}

/// Holds accounts until the transaction ends: those that are not there yet by their name, the others by their row as
/// well, since whoever trusts his memory changes a row without holding its name.
pub(crate) fn lock_accounts(tx: &mut Tx<'_>, ids: &[&str]) -> Result<(), Error> {
    tx.lock("credits", ids)?;
    tx.lock_rows("credit_accounts", "id", ids)
}

pub(crate) fn load_window(tx: &mut Tx<'_>, account: &mut Account) -> Result<(), Error> {
    let lots = tx.query(FIRST_LOTS, params![account.id.as_str(), WINDOW as i64], read_lot)?;
    account.window_end = (lots.len() == WINDOW).then(|| lots.last().map(Lot::burn_key)).flatten();
    lots.into_iter().for_each(|lot| account.take_in(lot));
    if account.has_limits {
        account.limits = tx.query(LIMITS, params![account.id.as_str()], read_limit)?;
    }
    Ok(())
}

/// Brings in what has ended by itself, and when the next thing does.
pub(crate) fn load_due(tx: &mut Tx<'_>, account: &mut Account, now: Millis) -> Result<(), Error> {
    if account.next_due > now || account.version == 0 {
        return Ok(());
    }
    let id = account.id.as_str().to_string();
    let here = params![&id, now];
    for lot in tx.query(DUE_LOTS, here, read_lot)? {
        account.take_in(lot);
    }
    for hold in tx.query(DUE_HOLDS, here, read_hold)? {
        account.holds.entry(hold.no).or_insert(hold);
    }
    let mut next = NEVER;
    for sql in [NEXT_LOT, NEXT_HOLD] {
        next = next.min(tx.query_opt(sql, here, |row| row.get(0))?.unwrap_or(NEVER));
    }
    account.beyond_due = next;
    Ok(())
}

/// False when there is no such thing.
pub(crate) fn load_lack(tx: &mut Tx<'_>, account: &mut Account, lack: &Lack) -> Result<bool, Error> {
    let id = account.id.as_str().to_string();
    match lack {
        Lack::Lots => {
            let Some((priority, expires_at, rank, created_at, no)) = account.window_end else {
                return Ok(false);
            };
            let after = params![&id, CHUNK as i64, priority, expires_at, rank, created_at, no];
            let lots = tx.query(MORE_LOTS, after, read_lot)?;
            account.window_end = (lots.len() == CHUNK).then(|| lots.last().map(Lot::burn_key)).flatten();
            lots.into_iter().for_each(|lot| account.take_in(lot));
            Ok(true)
        }
        Lack::TheseLots(numbers) => {
            let mut found = true;
            for no in numbers {
                match tx.query_opt(ONE_LOT, params![&id, *no], read_lot)? {
                    Some(lot) => account.take_in(lot),
                    None => found = false,
                }
            }
            Ok(found)
        }
        Lack::Hold(no) => {
            let hold = tx.query_opt(ONE_HOLD, params![&id, *no], read_hold)?;
            Ok(hold.map(|hold| account.holds.insert(hold.no, hold)).is_some())
        }
        Lack::Entry(seq) => {
            // An entry of this very transaction is not written yet.
            let fresh = account.changed.entries.iter().find(|entry| entry.seq == *seq).cloned();
            let entry = match fresh {
                Some(entry) => Some(entry),
                None => tx.query_opt(ONE_ENTRY, params![&id, *seq], Entry::read)?,
            };
            let Some(entry) = entry else { return Ok(false) };
            let stored: i64 = tx.query_one(GIVEN_BACK, params![&id, *seq], |row| row.get(0))?;
            let fresh = account.changed.entries.iter().filter(|entry| entry.refund_of == Some(*seq));
            let given_back = stored + fresh.map(|entry| entry.amount).sum::<i64>();
            account.originals.insert(*seq, (entry, given_back));
            Ok(true)
        }
        Lack::Spender(part) => {
            let own = tx.query(SPENDER_LIMITS, params![&id, &part.to_string()], read_limit)?;
            account.spenders.insert(part.clone(), own);
            Ok(true)
        }
        Lack::Limit(of, period, starts_at) => {
            let used = spent_since(tx, account, of.as_ref(), *starts_at)?.max(0);
            // It has no effect yet: the rule that asked puts the maximum in.
            let limit = Limit { period: *period, max: i64::MAX, starts_at: *starts_at, used };
            match of {
                None => account.limits.push(limit),
                Some(part) => account.spenders.entry(part.clone()).or_default().push(limit),
            }
            Ok(true)
        }
    }
}

/// What debits, captures and open holds of a window come to: of all, or of one spender.
fn spent_since(
    tx: &mut Tx<'_>,
    account: &Account,
    of: Option<&SpentBy>,
    since: Millis,
) -> Result<i64, Error> {
    let id = account.id.as_str().to_string();
    let is_theirs = |spender: Option<Spender>| match of {
        None => true,
        Some(part) => spender.is_some_and(|spender| spender.parts().any(|own| own == *part)),
    };
    let fresh = &account.changed.entries;
    let stored = fresh.first().map_or(account.seq, |entry| entry.seq - 1);
    let first = first_since(tx, &account.id, stored, since)?;
    let counts = |entry: &&Entry| match entry.kind {
        Kind::Debit | Kind::Capture => entry.seq >= first && is_theirs(entry.spender()),
        Kind::Refund => {
            entry.refund_of.is_some_and(|original| original >= first) && is_theirs(entry.spender())
        }
        _ => false,
    };
    let stored: i64 = match of {
        None => tx.query_one(SPENT_SINCE, params![&id, first], |row| row.get(0))?,
        Some(_) => {
            let read = |row: &Row<'_>| Ok((Spender::parse(row.text(0)?), row.get::<i64>(1)?));
            let sums = tx.query(SPENT_BY_SINCE, params![&id, first], read)?;
            sums.into_iter().filter_map(|(spender, sum)| is_theirs(spender).then_some(sum)).sum()
        }
    };
    let unwritten: i64 = fresh.iter().filter(counts).map(|entry| -entry.amount).sum();
    let read = |row: &Row<'_>| {
        let spender = row.text_or_null(2)?.and_then(Spender::parse);
        Ok((row.get::<i64>(0)?, row.get::<i64>(1)?, spender))
    };
    let mut held = 0;
    for (no, amount, spender) in tx.query(HELD_SINCE, params![&id, since], read)? {
        // What is in memory is newer than its row.
        held += if account.holds.contains_key(&no) || !is_theirs(spender) { 0 } else { amount };
    }
    for hold in account.holds.values() {
        let counts = hold.status == HoldStatus::Held && hold.created_at >= since && !hold.is_freeze();
        held += if counts && is_theirs(hold.spender()) { hold.amount } else { 0 };
    }
    Ok(stored + unwritten + held)
}
