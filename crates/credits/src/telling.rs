//! What apps and people are told of the ledger. Its own rows say what happened, so they are read afterwards, on any node:
//! whoever moved credits, in whichever transaction, has left them, and a crash in between changes nothing.

use crate::entry::{Kind, parse_parts};
use crate::owner::{AccountId, Item, Owner, item_id};
use crate::reads;
use hooks::Origin;
use kernel::Millis;
use kernel::time::{DAY, MINUTE};
use serde_json::{Value, json};
use store::{Error, Row, Tx, params};

/// Rows of a kind that one transaction tells of.
const CHUNK: i64 = 200;
const MARK: &str = "credits";
/// An entry carries the time when its transaction began, so it may turn up behind one that is later.
const OVERLAP: i64 = 2 * MINUTE;
/// For clocks of other nodes, once in a while; an event is kept for longer.
const LONG_OVERLAP: i64 = DAY;
const OLDEST: i64 = 2 * DAY;
/// How far the mark may lie behind when there is nothing to tell.
const MARK_STEP: i64 = MINUTE;
/// People are told of an end so long before, and not before half of the time is over.
const NOTICE: i64 = 3 * DAY;

const MOVED: &str = "
    SELECT e.account_id, e.seq, e.kind, e.amount, e.balance_after, e.counter, e.reason, e.source_ref, e.parts,
           e.created_at, a.owner, a.unit
    FROM credit_entries e JOIN credit_accounts a ON a.id = e.account_id
    WHERE e.kind IN ('grant', 'clawback') AND e.created_at >= $1 AND NOT EXISTS (
      SELECT 1 FROM hook_events h WHERE h.origin = 'entry:' || e.account_id || ':' || CAST(e.seq AS TEXT))
    ORDER BY e.created_at LIMIT $2";
const LOT_END: &str = "SELECT expires_at FROM credit_lots WHERE account_id = $1 AND no = $2";
const IS_ANY_CROSSING: &str = "SELECT 1 FROM credit_events WHERE told_at IS NULL LIMIT 1";
const CROSSINGS: &str = "
    SELECT v.id, v.account_id, v.threshold, v.available, a.owner, a.unit
    FROM credit_events v JOIN credit_accounts a ON a.id = v.account_id
    WHERE v.told_at IS NULL ORDER BY v.created_at LIMIT $1";
const TOLD: &str = "UPDATE credit_events SET told_at = $2 WHERE id = $1 AND told_at IS NULL";
const ENDING: &str = "
    SELECT l.account_id, l.no, l.expires_at, a.owner, a.unit
    FROM credit_lots l JOIN credit_accounts a ON a.id = l.account_id
    WHERE NOT l.ended AND l.expires_at < 9223372036854775807 AND l.expires_at > $1 AND l.expires_at <= $2
      AND (l.expires_at - l.created_at) / 2 >= l.expires_at - $1 AND l.source <> 'plan' AND NOT a.closed
      AND NOT EXISTS (SELECT 1 FROM credit_notices n WHERE n.account_id = l.account_id AND n.no = l.no)
    ORDER BY l.expires_at LIMIT $3";
const FORGET: &str = "
    DELETE FROM credit_notices WHERE told_at < $1 AND account_id IN (
      SELECT account_id FROM credit_notices WHERE told_at < $1 LIMIT $2)";
const NOTE: &str = "INSERT INTO credit_notices (account_id, no, told_at) VALUES ($1, $2, $3) ON CONFLICT (account_id, no) DO NOTHING";

/// Something that a person should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub owner: Owner,
    pub unit: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// What is available fell below what the configuration calls low.
    Low { available: i64 },
    /// What is left of a grant ends soon.
    Ending { amount: i64, expires_at: Millis },
}

/// What there is to tell, as far as a look without writing shows.
#[derive(Debug, Clone, Default)]
pub struct Untold {
    moved: Vec<Moved>,
    crossings: bool,
    /// All was told up to here.
    mark: Option<Millis>,
}

impl Untold {
    pub fn is_nothing(&self) -> bool {
        self.moved.is_empty() && !self.crossings && self.mark.is_none()
    }

    /// There is no more than this.
    pub fn is_all(&self) -> bool {
        (self.moved.len() as i64) < CHUNK
    }
}

/// An entry that gave or took back.
#[derive(Debug, Clone)]
struct Moved {
    account: AccountId,
    seq: i64,
    kind: Kind,
    amount: i64,
    balance: i64,
    counter: String,
    reason: Option<String>,
    source_ref: Option<String>,
    grant: Option<i64>,
    at: Millis,
    owner: Owner,
    unit: String,
}

/// `thorough` looks further back.
pub fn look(tx: &mut Tx<'_>, thorough: bool, now: Millis) -> Result<Untold, Error> {
    let crossings = tx.query_opt(IS_ANY_CROSSING, params![], |_| Ok(()))?.is_some();
    // Nobody is told of what happened before there was anybody to tell.
    let Some(first) = hooks::first_since(tx)? else {
        return Ok(Untold { crossings, ..Untold::default() });
    };
    let told = hooks::mark(tx, MARK)?.unwrap_or(first);
    let mut from = told.minus(OVERLAP);
    if thorough {
        from = from.min(told.minus(LONG_OVERLAP).max(now.minus(OLDEST)));
    }
    let moved = tx.query(MOVED, params![from.max(first), CHUNK], read_moved)?;
    let is_all = (moved.len() as i64) < CHUNK;
    let mark = (is_all && (!moved.is_empty() || now.0.saturating_sub(told.0) > MARK_STEP)).then_some(now);
    Ok(Untold { moved, crossings, mark })
}

/// Tells of what was found; gives what people should hear of. Another node may have been faster.
pub fn tell(tx: &mut Tx<'_>, untold: &Untold, now: Millis) -> Result<Vec<Notice>, Error> {
    for moved in &untold.moved {
        let row = format!("entry:{}:{}", moved.account.as_str(), moved.seq);
        let ends = match moved.grant {
            Some(no) => tx.query_opt(LOT_END, params![moved.account.as_str(), no], |row| row.get(0))?,
            None => None,
        };
        let kind = match moved.kind {
            Kind::Grant => hooks::Kind::CreditsGranted,
            _ => hooks::Kind::CreditsClawedBack,
        };
        let origin = Origin { row: &row, at: moved.at };
        hooks::tell_once(tx, kind, &moved.owner.to_string(), origin, now, || moved.data(ends))?;
    }
    if let Some(mark) = untold.mark {
        hooks::set_mark(tx, MARK, mark)?;
    }
    if untold.crossings { tell_crossings(tx, now) } else { Ok(Vec::new()) }
}

fn tell_crossings(tx: &mut Tx<'_>, now: Millis) -> Result<Vec<Notice>, Error> {
    let read = |row: &Row<'_>| {
        let (threshold, available): (i64, i64) = (row.get(2)?, row.get(3)?);
        Ok((row.get::<String>(0)?, threshold, available, owner(row, 4)?, row.get::<String>(5)?))
    };
    let mut notices = Vec::new();
    for (id, threshold, available, owner, unit) in tx.query(CROSSINGS, params![CHUNK], read)? {
        if tx.execute(TOLD, params![&id, now])? == 0 {
            continue;
        }
        hooks::tell(tx, hooks::Kind::CreditsLow, &owner.to_string(), now, || {
            named(&owner, json!({"unit": unit, "threshold": threshold, "available": available}))
        })?;
        notices.push(Notice { owner, unit, what: What::Low { available } });
    }
    Ok(notices)
}

/// Whether [`tell_ending`] would find something, without writing.
pub fn is_any_ending(tx: &mut Tx<'_>, now: Millis) -> Result<bool, Error> {
    Ok(tx.query_opt(ENDING, params![now, now.plus(NOTICE), 1], |_| Ok(()))?.is_some())
}

/// Notes grants that end soon, and gives those of which something is left. A plan's are left out: the next period brings
/// new ones. Each is given once.
pub fn tell_ending(tx: &mut Tx<'_>, now: Millis) -> Result<Vec<Notice>, Error> {
    let read = |row: &Row<'_>| {
        let (no, expires_at): (i64, Millis) = (row.get(1)?, row.get(2)?);
        Ok((row.get::<String>(0)?, no, expires_at, owner(row, 3)?, row.get::<String>(4)?))
    };
    let mut notices = Vec::new();
    let found = tx.query(ENDING, params![now, now.plus(NOTICE), CHUNK], read)?;
    for (account, no, expires_at, owner, unit) in found {
        if tx.execute(NOTE, params![&account, no, now])? == 0 {
            continue;
        }
        let balance = reads::balance(tx, &owner, &unit, now)?;
        let lot = balance.grants.iter().find(|lot| lot.no == no);
        let amount = lot.map_or(0, |lot| lot.remaining - lot.held);
        if amount > 0 {
            notices.push(Notice { owner, unit, what: What::Ending { amount, expires_at } });
        }
    }
    Ok(notices)
}

/// Removes notes of grants that have long ended, a chunk of them; gives how many.
pub fn sweep(tx: &mut Tx<'_>, now: Millis) -> Result<u64, Error> {
    tx.execute(FORGET, params![now.minus(NOTICE + DAY), CHUNK])
}

impl Moved {
    fn data(&self, ends: Option<Millis>) -> Value {
        let mut data = json!({
            "unit": self.unit, "amount": self.amount.abs(), "balance": self.balance,
            "entry_id": item_id(&self.account, Item::Entry, self.seq), "reason": self.reason,
            "source_ref": self.source_ref,
        });
        if self.kind == Kind::Grant {
            data["source"] = self.counter.strip_prefix("source:").unwrap_or(&self.counter).into();
            data["grant_id"] = self.grant.map(|no| item_id(&self.account, Item::Grant, no)).into();
            data["expires_at"] = ends.and_then(crate::account::ends).map(Millis::iso).into();
        }
        named(&self.owner, data)
    }
}

fn named(owner: &Owner, mut data: Value) -> Value {
    data[owner.field()] = owner.id().into();
    data
}

fn owner(row: &Row<'_>, column: usize) -> Result<Owner, Error> {
    let text = row.text(column)?;
    Owner::parse(text).ok_or_else(|| Error::Fault(format!("an account of {text}")))
}

fn read_moved(row: &Row<'_>) -> Result<Moved, Error> {
    let (kind, parts) = (row.text(2)?, row.text(8)?);
    let parts = parse_parts(parts).ok_or_else(|| Error::Fault(format!("parts {parts}")))?;
    Ok(Moved {
        account: AccountId::stored(row.text(0)?),
        seq: row.get(1)?,
        kind: Kind::parse(kind).ok_or_else(|| Error::Fault(format!("an entry of kind {kind}")))?,
        amount: row.get(3)?,
        balance: row.get(4)?,
        counter: row.get(5)?,
        reason: row.get(6)?,
        source_ref: row.get(7)?,
        grant: parts.iter().find_map(|part| part.lot),
        at: row.get(9)?,
        owner: owner(row, 10)?,
        unit: row.get(11)?,
    })
}
