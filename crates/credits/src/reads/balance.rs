//! What an owner has now, although lots and holds may have ended that nobody has settled.

use crate::account::{self, Account, Hold, Lot, NEVER, balance_object, ends};
use crate::entry::Source;

use crate::machine;
use crate::owner::{AccountId, Item, Owner, item_id};
use crate::rows::{ONE_LOT, hold_columns, read_drawn, read_hold, read_lot};
use kernel::Millis;
use std::collections::BTreeSet;
use store::{Error, Row, Tx, params};

/// So many grants are listed; those that come later in the burn-down order count in the sums only.
pub(super) const MOST_GRANTS: usize = 1_000;
/// So many lots are read beside everything else that a thread does; more are a matter for a scan.
const FEW: usize = 64;
/// How often an account that changes meanwhile is read anew.
const TRIES: usize = 32;

/// The account, its first open lots and those that are due: one statement, so that they are of one moment.
const PICTURE: &str = "
    SELECT 0 AS what, version AS no, unit AS label, seq AS a, balance AS b, held AS c, owed AS d, next_due AS e,
           last_at AS f, lot_count AS g, carried AS h, closed AS i, drawn AS j
    FROM credit_accounts WHERE id = $1
    UNION ALL
    SELECT 1, no, source, amount, remaining, held, priority, expires_at, created_at,
           COALESCE(rollover, -1), CASE WHEN carried THEN 1 ELSE 0 END, ended, '' FROM (
        SELECT * FROM credit_lots WHERE account_id = $1 AND open AND expires_at > $2
        ORDER BY priority, expires_at, source_rank, created_at, no LIMIT $3) AS first_ones
    UNION ALL
    SELECT 1, no, source, amount, remaining, held, priority, expires_at, created_at,
           COALESCE(rollover, -1), CASE WHEN carried THEN 1 ELSE 0 END, ended, '' FROM (
        SELECT * FROM credit_lots WHERE account_id = $1 AND NOT ended AND expires_at <= $2
        ORDER BY expires_at LIMIT $4) AS due_ones";
/// The range takes in everything: it leads SQLite to the index of the few that are open, past those that have ended.
const HOLDS: &str = concat!(
    "SELECT ",
    hold_columns!(),
    " FROM credit_holds WHERE account_id = $1 AND status = 'held' AND expires_at > $2"
);
const VERSION: &str = "SELECT version FROM credit_accounts WHERE id = $1";
const UNITS: &str = "SELECT unit, negative_floor FROM credit_accounts WHERE owner = $1 ORDER BY unit";

/// Figures of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    pub account: AccountId,
    /// False for an owner that never had anything of this unit.
    pub exists: bool,
    pub unit: String,
    pub balance: i64,
    pub held: i64,
    /// What was taken without a grant.
    pub debt: i64,
    /// Those with something left, in burn-down order.
    pub grants: Vec<Lot>,
}

impl Balance {
    pub(super) fn nothing(account: AccountId, unit: &str) -> Balance {
        let unit = unit.to_string();
        Balance { account, exists: false, unit, balance: 0, held: 0, debt: 0, grants: Vec::new() }
    }

    pub fn available(&self) -> i64 {
        self.balance - self.held
    }

    /// What lies below zero.
    pub fn owed(&self) -> i64 {
        account::owed(self.balance, self.debt)
    }

    pub fn grant_id(&self, lot: &Lot) -> String {
        item_id(&self.account, Item::Grant, lot.no)
    }

    /// `{unit, balance, held, available, owed, grants}`
    pub fn json(&self) -> String {
        let grant = |lot: &Lot| {
            let mut object = crate::json::Object::new();
            object.text("id", &self.grant_id(lot));
            object.text("source", lot.source.name());
            object.number("amount", lot.amount);
            object.number("remaining", lot.remaining);
            object.time_or_null("expires_at", ends(lot.expires_at));
            object.number("priority", lot.priority);
            object.end()
        };
        let grants: Vec<String> = self.grants.iter().map(grant).collect();
        let mut object = balance_object(&self.unit, self.balance, self.held, self.debt);
        object.raw("grants", &format!("[{}]", grants.join(",")));
        object.end()
    }
}

/// The balance of an account that is quickly read; `None`: ask for it in a scan.
pub fn quick_balance(
    tx: &mut Tx<'_>,
    owner: &Owner,
    unit: &str,
    now: Millis,
) -> Result<Option<Balance>, Error> {
    let id = AccountId::of(owner, unit);
    let Some(account) = picture(tx, &id, owner, now, FEW + 1, FEW + 1)? else {
        return Ok(Some(Balance::nothing(id, unit)));
    };
    // What is held stands in rows of its own.
    if account.held > 0 || account.lots.len() > FEW {
        return Ok(None);
    }
    settled(account, now).map(Some)
}

pub fn balance(tx: &mut Tx<'_>, owner: &Owner, unit: &str, now: Millis) -> Result<Balance, Error> {
    let id = AccountId::of(owner, unit);
    for attempt in 1.. {
        let Some(mut account) = picture(tx, &id, owner, now, MOST_GRANTS, usize::MAX)? else { break };
        if account.held > 0 {
            take_in_holds(tx, &id, &mut account)?;
            let version: i64 = tx.query_one(VERSION, params![id.as_str()], |row| row.get(0))?;
            if version != account.version && attempt < TRIES {
                continue;
            }
        }
        return settled(account, now);
    }
    Ok(Balance::nothing(id, unit))
}

/// An account among all of an owner's.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub balance: Balance,
    /// How far below zero it may go; 0 or below.
    pub negative_floor: i64,
}

impl Standing {
    /// `{unit, balance, held, available, owed, negative_floor}`
    pub fn json(&self) -> String {
        let Balance { unit, balance, held, debt, .. } = &self.balance;
        let mut object = balance_object(unit, *balance, *held, *debt);
        object.number("negative_floor", self.negative_floor);
        object.end()
    }
}

/// The balance of each unit that the owner has or had.
pub fn accounts(tx: &mut Tx<'_>, owner: &Owner, now: Millis) -> Result<Vec<Balance>, Error> {
    Ok(standings(tx, owner, now)?.into_iter().map(|standing| standing.balance).collect())
}

/// The same with what is allowed there.
pub fn standings(tx: &mut Tx<'_>, owner: &Owner, now: Millis) -> Result<Vec<Standing>, Error> {
    let read = |row: &Row<'_>| Ok((row.get::<String>(0)?, row.get::<i64>(1)?));
    let units = tx.query(UNITS, params![&owner.to_string()], read)?;
    let standing = |(unit, negative_floor): (String, i64)| {
        Ok(Standing { balance: balance(tx, owner, &unit, now)?, negative_floor })
    };
    units.into_iter().map(standing).collect()
}

fn picture(
    tx: &mut Tx<'_>,
    id: &AccountId,
    owner: &Owner,
    now: Millis,
    open: usize,
    due: usize,
) -> Result<Option<Account>, Error> {
    let (open, due) = (i64::try_from(open).unwrap_or(i64::MAX), i64::try_from(due).unwrap_or(i64::MAX));
    let mut account = None;
    let mut lots = Vec::new();
    tx.query(PICTURE, params![id.as_str(), now, open, due], |row| {
        match row.get::<i64>(0)? {
            0 => account = Some(read_account(row, owner)?),
            _ => lots.push(read_figures(row)?),
        }
        Ok(())
    })?;
    let Some(mut account) = account else { return Ok(None) };
    lots.into_iter().for_each(|lot| account.take_in(lot));
    Ok(Some(account))
}

fn read_account(row: &Row<'_>, owner: &Owner) -> Result<Account, Error> {
    Ok(Account {
        version: row.get(1)?,
        seq: row.get(3)?,
        balance: row.get(4)?,
        held: row.get(5)?,
        owed: row.get(6)?,
        next_due: row.get(7)?,
        last_at: row.get(8)?,
        lot_count: row.get(9)?,
        carried: row.get(10)?,
        closed: row.get(11)?,
        drawn: read_drawn(row.text(12)?)?,
        ..Account::new(owner.clone(), row.get(2)?, 0)
    })
}

/// A lot without the texts that no balance shows.
fn read_figures(row: &Row<'_>) -> Result<Lot, Error> {
    let source = row.text(2)?;
    Ok(Lot {
        no: row.get(1)?,
        source: Source::parse(source).ok_or_else(|| Error::Fault(format!("a grant from {source}")))?,
        amount: row.get(3)?,
        remaining: row.get(4)?,
        held: row.get(5)?,
        priority: row.get(6)?,
        expires_at: row.get(7)?,
        created_at: row.get(8)?,
        rollover: Some(row.get(9)?).filter(|most| *most >= 0),
        carried: row.get::<i64>(10)? == 1,
        ended: row.get(11)?,
        reason: None,
        metadata: None,
        source_ref: None,
    })
}

/// The holds, and the lots that they hold wholly or beyond their end: those are not among the open ones.
fn take_in_holds(tx: &mut Tx<'_>, id: &AccountId, account: &mut Account) -> Result<(), Error> {
    let holds: Vec<Hold> = tx.query(HOLDS, params![id.as_str(), 0i64], read_hold)?;
    let parts = holds.iter().flat_map(|hold| &hold.parts).filter_map(|part| part.lot);
    let missing: BTreeSet<i64> = parts.filter(|no| !account.lots.contains_key(no)).collect();
    for no in missing {
        if let Some(lot) = tx.query_opt(ONE_LOT, params![id.as_str(), no], read_lot)? {
            account.take_in(lot);
        }
    }
    account.holds = holds.into_iter().map(|hold| (hold.no, hold)).collect();
    Ok(())
}

/// Lets time pass in memory, by the rules that will do it in the tables.
fn settled(mut account: Account, now: Millis) -> Result<Balance, Error> {
    account.beyond_due = NEVER;
    machine::settle(&mut account, now)
        .map_err(|stop| Error::Fault(format!("an account could not be settled: {stop:?}")))?;
    let alive = account.lots.into_values().filter(|lot| lot.expires_at > now && lot.remaining > 0);
    let mut grants: Vec<Lot> = alive.collect();
    grants.sort_unstable_by_key(Lot::burn_key);
    grants.truncate(MOST_GRANTS);
    Ok(Balance {
        account: account.id,
        exists: true,
        unit: account.unit,
        balance: account.balance,
        held: account.held,
        debt: account.owed,
        grants,
    })
}
