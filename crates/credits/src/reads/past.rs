//! What an owner had at a moment of the past: the entries up to it, added up by lot.

use super::balance::{Balance, MOST_GRANTS};
use super::{first_since, newest};
use crate::account::{Account, Lot};
use crate::entry::parse_parts;
use crate::machine;
use crate::owner::{AccountId, Owner};
use crate::rows::{lot_columns, read_drawn, read_lot};
use kernel::Millis;
use std::collections::BTreeMap;
use store::{Error, Row, Tx, params};

/// So many rows are looked at in a step.
const STEP: i64 = 5_000;

const PARTS: &str = "
    SELECT parts FROM credit_entries WHERE account_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq";
/// The account and what is left of its lots: one statement, so that they are of one moment.
const LEFT_NOW: &str = "
    SELECT 0 AS what, seq AS a, owed AS b, hold_count AS c, drawn AS d FROM credit_accounts WHERE id = $1
    UNION ALL
    SELECT 1, no, remaining, 0, '' FROM credit_lots WHERE account_id = $1 AND remaining > 0";
const TIME: &str = "SELECT created_at FROM credit_entries WHERE account_id = $1 AND seq = $2";
const COUNTS: &str = "SELECT hold_count, lot_count FROM credit_accounts WHERE id = $1";
/// An end that is written down is exact; one that nobody has settled yet came when it had to.
const HELD: &str = "
    SELECT parts FROM credit_holds WHERE account_id = $1 AND no > $2 AND no <= $3 AND created_at <= $4
    AND (ended_at > $4 OR (ended_at IS NULL AND expires_at > $4))";
/// And those of which something may have been carried over that nobody has settled yet.
const ALIVE: &str = concat!(
    "SELECT ",
    lot_columns!(),
    " FROM credit_lots WHERE account_id = $1 AND no > $2 AND no <= $3
    AND (expires_at > $4 OR rollover IS NOT NULL)"
);

/// The work of finding out, in steps.
#[derive(Debug, Clone)]
pub struct Past {
    account: AccountId,
    owner: Owner,
    unit: String,
    at: Millis,
    /// Of the last entry up to then.
    last_at: Millis,
    /// Entries still to be added up (or taken off, when the moment is nearer to now than to the beginning).
    entries: Range,
    backwards: bool,
    holds: Range,
    /// Known when the two above are done.
    lots: Option<Range>,
    remaining: BTreeMap<i64, i64>,
    owed: i64,
    held: BTreeMap<i64, i64>,
    lot_count: i64,
    alive: Vec<Lot>,
}

/// Numbers above the first up to the last.
#[derive(Debug, Clone, Copy)]
struct Range {
    after: i64,
    last: i64,
}

impl Range {
    /// The next piece, cut off the front.
    fn cut(&mut self) -> Option<Range> {
        if self.after >= self.last {
            return None;
        }
        let piece = Range { after: self.after, last: self.last.min(self.after + STEP) };
        self.after = piece.last;
        Some(piece)
    }
}

impl Past {
    /// `None` where there is no account.
    pub fn begin(tx: &mut Tx<'_>, owner: &Owner, unit: &str, at: Millis) -> Result<Option<Past>, Error> {
        let account = AccountId::of(owner, unit);
        let Some(newest) = newest(tx, &account)? else { return Ok(None) };
        let last = first_since(tx, &account, newest, at.plus(1))? - 1;
        let last_at = tx.query_opt(TIME, params![account.as_str(), last], |row| row.get(0))?;
        let counts = |row: &Row<'_>| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?));
        let (holds, lot_count) = tx.query_one(COUNTS, params![account.as_str()], counts)?;
        let mut past = Past {
            account,
            owner: owner.clone(),
            unit: unit.to_string(),
            at,
            last_at: last_at.unwrap_or(Millis(0)),
            entries: Range { after: 0, last },
            backwards: false,
            holds: Range { after: 0, last: holds },
            lots: None,
            remaining: BTreeMap::new(),
            owed: 0,
            held: BTreeMap::new(),
            lot_count,
            alive: Vec::new(),
        };
        if newest - last < last {
            past.begin_at_the_end(tx, last)?;
        }
        Ok(Some(past))
    }

    fn begin_at_the_end(&mut self, tx: &mut Tx<'_>, last: i64) -> Result<(), Error> {
        let (entries, holds, owed, remaining) =
            (&mut self.entries, &mut self.holds, &mut self.owed, &mut self.remaining);
        let mut drawn = BTreeMap::new();
        tx.query(LEFT_NOW, params![self.account.as_str()], |row| {
            match row.get::<i64>(0)? {
                0 => {
                    *entries = Range { after: last, last: row.get(1)? };
                    *owed = row.get(2)?;
                    holds.last = row.get(3)?;
                    drawn = read_drawn(row.text(4)?)?;
                }
                _ => {
                    remaining.insert(row.get(1)?, row.get(2)?);
                }
            }
            Ok(())
        })?;
        for (no, drawn) in drawn {
            *remaining.entry(no).or_default() += drawn.remaining;
        }
        self.backwards = true;
        Ok(())
    }

    /// Does a piece of the work; false when all is done.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<bool, Error> {
        let id = self.account.as_str().to_string();
        if let Some(piece) = self.entries.cut() {
            let sign = if self.backwards { -1 } else { 1 };
            for parts in tx.query(PARTS, params![&id, piece.after, piece.last], read_parts)? {
                for (lot, amount) in parts {
                    match lot {
                        Some(no) => *self.remaining.entry(no).or_default() += sign * amount,
                        None => self.owed -= sign * amount,
                    }
                }
            }
            return Ok(true);
        }
        if let Some(piece) = self.holds.cut() {
            let here = params![&id, piece.after, piece.last, self.at];
            for (lot, amount) in tx.query(HELD, here, read_parts)?.into_iter().flatten() {
                *self.held.entry(lot.unwrap_or(0)).or_default() += amount;
            }
            return Ok(true);
        }
        if self.lots.is_none() {
            self.remaining.retain(|_, amount| *amount != 0);
        }
        let first = self.remaining.keys().next().map_or(0, |no| no - 1);
        let last = self.remaining.keys().next_back().copied().unwrap_or(0);
        let lots = self.lots.get_or_insert(Range { after: first, last });
        let Some(piece) = lots.cut() else { return Ok(false) };
        for lot in tx.query(ALIVE, params![&id, piece.after, piece.last, self.at], read_lot)? {
            if let Some(remaining) = self.remaining.get(&lot.no) {
                let held = self.held.get(&lot.no).copied().unwrap_or(0);
                self.alive.push(Lot { remaining: *remaining, held, ended: false, ..lot });
            }
        }
        Ok(true)
    }

    /// A held part counts although its lot has expired; everything else of such a lot is gone.
    pub fn finish(mut self) -> Balance {
        let owed = self.carry_over();
        let total: i64 = self.alive.iter().map(|lot| lot.remaining).sum();
        let held: i64 = self.held.values().sum();
        let held_of_the_living: i64 = self.alive.iter().map(|lot| lot.held).sum();
        self.alive.sort_unstable_by_key(Lot::burn_key);
        self.alive.truncate(MOST_GRANTS);
        Balance {
            account: self.account,
            exists: true,
            unit: self.unit,
            balance: total + (held - held_of_the_living) - owed,
            held,
            debt: owed,
            grants: self.alive,
        }
    }

    /// Leaves those alive that were, and what had been carried over by then of the others, although no entry says so yet. Gives
    /// the debt that is left.
    fn carry_over(&mut self) -> i64 {
        let carried = self.alive.iter().filter(|lot| lot.carried).map(|lot| lot.remaining).sum();
        let mut account = Account {
            last_at: self.last_at,
            owed: self.owed,
            lot_count: self.lot_count,
            carried,
            ..Account::new(self.owner.clone(), self.unit.clone(), 0)
        };
        let over = |lot: &&Lot| lot.expires_at <= self.at;
        let mut ends: Vec<(Millis, i64)> =
            self.alive.iter().filter(over).map(|lot| (lot.expires_at, lot.no)).collect();
        ends.sort_unstable();
        std::mem::take(&mut self.alive).into_iter().for_each(|lot| account.take_in(lot));
        for (at, no) in ends {
            machine::end_lot(&mut account, no, at);
        }
        self.alive = account.lots.into_values().filter(|lot| lot.expires_at > self.at).collect();
        account.owed
    }
}

type Moved = Vec<(Option<i64>, i64)>;

fn read_parts(row: &Row<'_>) -> Result<Moved, Error> {
    let text = row.text(0)?;
    let parts = parse_parts(text).ok_or_else(|| Error::Fault(format!("parts {text}")))?;
    Ok(parts.into_iter().map(|part| (part.lot, part.amount)).collect())
}
