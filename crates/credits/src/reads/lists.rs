//! Holds, limits and events of an account.

use super::cursor::{BadCursor, open_cursor, seal_cursor};
use crate::account::{Account, Hold, HoldStatus};
use crate::answer::limit_json;
use crate::json::Object;
use crate::owner::{AccountId, Item, Owner, item_id};
use crate::rows::{read_hold, read_limit};
use crate::settings::Settings;
use crate::spender::SpentBy;
use kernel::{Millis, Vault};
use store::{Error, Row, Tx, params};

/// A step looks at no more holds than these, however rare those that match.
const SPAN: i64 = 10_000;

macro_rules! hold_columns {
    () => {
        "no, amount, captured, status, feature, quantity, price_version, reason, metadata, parts, expires_at, created_at, \
         ended_at, source_ref"
    };
}

const OWNER: &str = "SELECT owner, unit FROM credit_accounts WHERE id = $1";
const ONE_HOLD: &str =
    concat!("SELECT ", hold_columns!(), " FROM credit_holds WHERE account_id = $1 AND no = $2");
const HOLD_COUNT: &str = "SELECT hold_count FROM credit_accounts WHERE id = $1";
/// `$5` is a status or empty for all; a hold whose end has come is over although nobody has settled it.
const HOLDS: &str = concat!(
    "SELECT ",
    hold_columns!(),
    " FROM credit_holds WHERE account_id = $1 AND no < $2 AND no >= $3
    AND ($5 = '' OR ($5 = 'expired' AND status = 'held' AND expires_at <= $6)
         OR ($5 = 'held' AND status = 'held' AND expires_at > $6) OR ($5 <> 'held' AND status = $5))
    ORDER BY no DESC LIMIT $4"
);
const LIMITS: &str =
    "SELECT period, max, starts_at, used FROM credit_limits WHERE account_id = $1 ORDER BY period";
const SPENDER_LIMITS: &str = "
    SELECT period, max, starts_at, used, spender FROM credit_spender_limits
    WHERE account_id = $1 ORDER BY spender, period LIMIT 1000";
const EVENTS: &str = "
    SELECT id, seq, kind, threshold, available, created_at FROM credit_events
    WHERE account_id = $1 AND (created_at < $2 OR (created_at = $2 AND (seq < $3 OR (seq = $3 AND id < $5))))
    ORDER BY created_at DESC, seq DESC, id DESC LIMIT $4";

/// As it is now: its end may have come without anybody noticing.
fn as_of(hold: Hold, now: Millis) -> Hold {
    if hold.status == HoldStatus::Held && hold.expires_at <= now {
        return Hold { status: HoldStatus::Expired, ended_at: Some(hold.expires_at), ..hold };
    }
    hold
}

/// A hold as clients see it.
pub fn hold(tx: &mut Tx<'_>, account: &AccountId, no: i64, now: Millis) -> Result<Option<String>, Error> {
    let owner = tx.query_opt(OWNER, params![account.as_str()], |row| {
        let owner = Owner::parse(row.text(0)?);
        Ok(owner.map(|owner| Account::new(owner, row.get(1).unwrap_or_default(), 0)))
    })?;
    let Some(account) = owner.flatten() else { return Ok(None) };
    let hold = tx.query_opt(ONE_HOLD, params![account.id.as_str(), no], read_hold)?;
    Ok(hold.map(|hold| account.hold_json(&as_of(hold, now))))
}

/// A page of holds, newest first, in steps. Holds that are made after its beginning never appear.
#[derive(Debug, Clone)]
pub struct HoldsPage {
    owner: Owner,
    unit: String,
    status: Option<HoldStatus>,
    limit: usize,
    /// Holds from here on were looked at.
    before: i64,
    items: Vec<(i64, String)>,
}

impl HoldsPage {
    pub fn begin(
        tx: &mut Tx<'_>,
        owner: &Owner,
        unit: &str,
        status: Option<HoldStatus>,
        limit: usize,
    ) -> Result<HoldsPage, Error> {
        let id = AccountId::of(owner, unit);
        let count: Option<i64> = tx.query_opt(HOLD_COUNT, params![id.as_str()], |row| row.get(0))?;
        let before = count.unwrap_or(0) + 1;
        let (owner, unit) = (owner.clone(), unit.to_string());
        Ok(HoldsPage { owner, unit, status, limit, before, items: Vec::new() })
    }

    /// From where a page ended.
    pub fn resume(
        vault: &Vault,
        owner: &Owner,
        unit: &str,
        status: Option<HoldStatus>,
        limit: usize,
        cursor: &str,
    ) -> Result<HoldsPage, BadCursor> {
        let mut page = HoldsPage {
            owner: owner.clone(),
            unit: unit.to_string(),
            status,
            limit,
            before: 0,
            items: Vec::new(),
        };
        let position = open_cursor(vault, cursor, |position| page.question(position)).ok_or(BadCursor)?;
        page.before = position.parse().map_err(|_| BadCursor)?;
        Ok(page)
    }

    fn question(&self, position: &str) -> String {
        let status = self.status.map_or("", HoldStatus::name);
        format!("holds|{position}|{}|{status}|{}", self.unit, self.owner)
    }

    /// Does a piece of the work; false when the page is whole.
    pub fn step(&mut self, tx: &mut Tx<'_>, now: Millis) -> Result<bool, Error> {
        // One more than fits tells whether there is a next page.
        let room = (self.limit + 1).saturating_sub(self.items.len());
        if room == 0 || self.before <= 1 {
            return Ok(false);
        }
        let account = Account::new(self.owner.clone(), self.unit.clone(), 0);
        let (lowest, room) = ((self.before - SPAN).max(1), room as i64);
        let status = self.status.map_or("", HoldStatus::name);
        let here = params![account.id.as_str(), self.before, lowest, room, status, now];
        let found = tx.query(HOLDS, here, read_hold)?;
        let is_full = found.len() as i64 == room;
        self.before = found.last().filter(|_| is_full).map_or(lowest, |last| last.no);
        self.items.extend(found.into_iter().map(|hold| (hold.no, account.hold_json(&as_of(hold, now)))));
        Ok(true)
    }

    /// `{"items","next_cursor"}`
    pub fn json(mut self, vault: &Vault) -> String {
        let more = self.items.len() > self.limit;
        self.items.truncate(self.limit);
        let last = self.items.last().filter(|_| more).map(|(no, _)| no.to_string());
        let cursor = last.map(|last| seal_cursor(vault, &last, |position| self.question(position)));
        list_json(self.items.into_iter().map(|(_, item)| item), cursor.as_deref())
    }
}

/// A list as every door of ours gives it.
pub fn list_json(items: impl Iterator<Item = String>, next_cursor: Option<&str>) -> String {
    let mut object = Object::new();
    object.raw("items", &format!("[{}]", items.collect::<Vec<_>>().join(",")));
    object.text_or_null("next_cursor", next_cursor);
    object.end()
}

/// The limits of an account as they stand at `now`, as JSON.
pub fn limits(
    tx: &mut Tx<'_>,
    settings: &Settings,
    owner: &Owner,
    unit: &str,
    now: Millis,
) -> Result<Vec<String>, Error> {
    let account = Account::new(owner.clone(), unit.to_string(), 0);
    let found = tx.query(LIMITS, params![account.id.as_str()], read_limit)?;
    let of_all = found.iter().map(|limit| limit_json(settings, &account, None, limit, now));
    let read = |row: &Row<'_>| Ok((SpentBy::parse(row.text(4)?), read_limit(row)?));
    let found = tx.query(SPENDER_LIMITS, params![account.id.as_str()], read)?;
    let of_each = found.iter().map(|(part, limit)| limit_json(settings, &account, part.as_ref(), limit, now));
    Ok(of_all.chain(of_each).collect())
}

/// A page of events, newest first, as JSON; `None` for a cursor that this list did not give.
pub fn events(
    tx: &mut Tx<'_>,
    vault: &Vault,
    owner: &Owner,
    unit: &str,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Option<String>, Error> {
    let id = AccountId::of(owner, unit);
    let question = |position: &str| format!("events|{position}|{unit}|{owner}");
    let (mut at, mut seq, mut event) = (i64::MAX, i64::MAX, String::new());
    if let Some(cursor) = cursor {
        let position = open_cursor(vault, cursor, question);
        let Some(place) = position.as_deref().and_then(event_place) else { return Ok(None) };
        (at, seq, event) = place;
    }
    let here = params![id.as_str(), at, seq, limit as i64 + 1, &event];
    let mut found = tx.query(EVENTS, here, |row| {
        let (seq, at): (i64, Millis) = (row.get(1)?, row.get(5)?);
        let mut object = Object::new();
        object.text("id", row.text(0)?);
        object.text("kind", row.text(2)?);
        object.text(owner.field(), owner.id());
        object.text("unit", unit);
        object.text("entry_id", &item_id(&id, Item::Entry, seq));
        object.number("threshold", row.get(3)?);
        object.number("available", row.get(4)?);
        object.time("created_at", at);
        Ok((format!("{}:{seq}:{}", at.0, row.text(0)?), object.end()))
    })?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    let cursor = last.map(|(place, _)| seal_cursor(vault, place, question));
    Ok(Some(list_json(found.into_iter().map(|(_, item)| item), cursor.as_deref())))
}

/// Time, entry and id of an event in a list.
fn event_place(text: &str) -> Option<(i64, i64, String)> {
    let mut parts = text.splitn(3, ':');
    let (at, seq, id) = (parts.next()?, parts.next()?, parts.next()?);
    Some((at.parse().ok()?, seq.parse().ok()?, id.to_string()))
}
