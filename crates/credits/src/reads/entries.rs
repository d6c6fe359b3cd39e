//! Lists of entries, newest first: pages with a cursor, and walks over all that match.

use super::cursor::{open_cursor, seal_cursor};
use super::{BadCursor, accounts_of, first_since};
use crate::entry::{self, Entry, Kind};
use crate::owner::{AccountId, Owner};
use kernel::{Millis, Vault};
use std::collections::VecDeque;
use store::{Error, Tx, params};

/// A step looks at no more entries of an account than these, however rare those that match.
const SPAN: i64 = 10_000;
/// An entry may have thousands of parts, one for each lot, so what is read at once goes by what the entries before had:
/// from the first to the last of these.
const ROWS_AT_FIRST: i64 = 64;
const LEAST_ROWS: i64 = 8;
const MOST_ROWS: i64 = 256;
/// A step gives no further entry when those that it gave have so many parts.
pub const MANY_PARTS: usize = 10_000;

/// All ten kinds are always named; a filter names its own several times.
const PAGE: &str = concat!(
    "SELECT ",
    entry::columns!(),
    " FROM credit_entries WHERE account_id = $1 AND seq < $2 AND seq >= $3
    AND kind IN ($5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ORDER BY seq DESC LIMIT $4"
);

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub owner: Owner,
    /// `None`: all of them.
    pub unit: Option<String>,
    /// Empty: all of them.
    pub kinds: Vec<Kind>,
    /// Inclusive.
    pub from: Option<Millis>,
    /// Exclusive.
    pub to: Option<Millis>,
}

impl Filter {
    /// What a cursor is good for: the same question and no other.
    fn signed_text(&self, position: &str) -> String {
        let kinds: Vec<&str> =
            Kind::ALL.into_iter().filter(|kind| self.kinds.contains(kind)).map(Kind::name).collect();
        let time = |at: Option<Millis>| at.map_or("-".to_string(), |at| at.0.to_string());
        let unit = self.unit.as_deref().unwrap_or("-");
        let (kinds, from, to) = (kinds.join("+"), time(self.from), time(self.to));
        // The owner comes last: its id may be any text.
        format!("{position}|{unit}|{kinds}|{from}|{to}|{}", self.owner)
    }
}

/// An entry and the unit of its account.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub unit: String,
    pub entry: Entry,
}

impl Listed {
    pub fn json(&self) -> String {
        self.entry.list_json(&self.unit)
    }
}

/// Where a list has come to. What is written after its beginning never appears in it: each account has a place that
/// only goes down.
#[derive(Debug, Clone)]
pub struct Walk {
    places: Vec<Place>,
    kinds: [&'static str; 10],
    rows: i64,
}

#[derive(Debug, Clone)]
struct Place {
    account: AccountId,
    unit: String,
    /// Entries from here on were looked at.
    before: i64,
    /// The last one to look at.
    floor: i64,
    /// Read, not yet given out.
    ready: VecDeque<Entry>,
}

impl Place {
    fn is_over(&self) -> bool {
        self.ready.is_empty() && self.before <= self.floor
    }

    /// Whether nothing can be said yet about its newest entry.
    fn is_unknown(&self) -> bool {
        self.ready.is_empty() && self.before > self.floor
    }

    fn fill(&mut self, tx: &mut Tx<'_>, kinds: &[&'static str; 10], most: i64) -> Result<(), Error> {
        let lowest = self.floor.max(self.before - SPAN);
        let mut values: Vec<store::Param<'_>> =
            params![self.account.as_str(), self.before, lowest, most].to_vec();
        values.extend(kinds.iter().map(|kind| store::Param::from(*kind)));
        let found = tx.query(PAGE, &values, Entry::read)?;
        self.before = match found.last() {
            Some(last) if found.len() as i64 == most => last.seq,
            _ => lowest,
        };
        self.ready = found.into();
        Ok(())
    }
}

impl Walk {
    /// From the newest entry that matches; `None` where the owner has no account at all.
    pub fn begin(tx: &mut Tx<'_>, filter: &Filter) -> Result<Option<Walk>, Error> {
        let accounts = accounts_of(tx, &filter.owner)?;
        if accounts.is_empty() {
            return Ok(None);
        }
        let mut places = Vec::new();
        for (account, unit, newest) in accounts {
            if filter.unit.as_ref().is_some_and(|wanted| *wanted != unit) {
                continue;
            }
            let floor = match filter.from {
                Some(from) => first_since(tx, &account, newest, from)?,
                None => 1,
            };
            let before = match filter.to {
                Some(to) => first_since(tx, &account, newest, to)?,
                None => newest + 1,
            };
            places.push(Place { account, unit, before, floor, ready: VecDeque::new() });
        }
        Ok(Some(Walk::over(places, &filter.kinds)))
    }

    /// Of an owner that has nothing yet.
    pub fn nowhere() -> Walk {
        Walk::over(Vec::new(), &[])
    }

    fn over(places: Vec<Place>, kinds: &[Kind]) -> Walk {
        Walk { places, kinds: kind_names(kinds), rows: ROWS_AT_FIRST }
    }

    /// From where a page ended.
    pub fn resume(vault: &Vault, filter: &Filter, cursor: &str) -> Result<Walk, BadCursor> {
        let position =
            open_cursor(vault, cursor, |position| filter.signed_text(position)).ok_or(BadCursor)?;
        let places: Vec<(String, i64, i64)> = serde_json::from_str(&position).map_err(|_| BadCursor)?;
        let place = |(unit, before, floor): (String, i64, i64)| Place {
            account: AccountId::of(&filter.owner, &unit),
            unit,
            before,
            floor,
            ready: VecDeque::new(),
        };
        Ok(Walk::over(places.into_iter().map(place).collect(), &filter.kinds))
    }

    /// The cursor that goes on from here, when there may be more.
    pub fn cursor(&self, vault: &Vault, filter: &Filter) -> Option<String> {
        let open = self.places.iter().filter(|place| !place.is_over());
        let place = |place: &Place| {
            let before = place.ready.front().map_or(place.before, |entry| entry.seq + 1);
            (place.unit.clone(), before, place.floor)
        };
        let places: Vec<(String, i64, i64)> = open.map(place).collect();
        if places.is_empty() {
            return None;
        }
        let position = serde_json::to_string(&places).expect("texts and numbers are JSON");
        Some(seal_cursor(vault, &position, |position| filter.signed_text(position)))
    }

    pub fn is_over(&self) -> bool {
        self.places.iter().all(Place::is_over)
    }

    /// Whether the next entry is at hand.
    pub fn has_next(&self) -> bool {
        self.places.iter().any(|place| !place.ready.is_empty()) && !self.places.iter().any(Place::is_unknown)
    }

    /// Gives at most so many entries, fewer when more has to be read first; an empty answer says nothing unless the walk
    /// [is over](Self::is_over).
    pub fn step(&mut self, tx: &mut Tx<'_>, most: usize) -> Result<Vec<Listed>, Error> {
        // One more than is wanted tells whether there is a next page.
        let rows = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1).min(self.rows);
        let (mut read, mut parts) = (0, 0);
        for place in self.places.iter_mut().filter(|place| place.is_unknown()) {
            place.fill(tx, &self.kinds, rows)?;
            read += place.ready.len();
            parts += place.ready.iter().map(|entry| entry.parts.len()).sum::<usize>();
        }
        self.rows = match parts {
            parts if parts > read * 64 => (self.rows / 4).max(LEAST_ROWS),
            _ => (self.rows * 2).min(MOST_ROWS),
        };
        let (mut given, mut parts) = (Vec::new(), 0);
        while given.len() < most && parts < MANY_PARTS && !self.places.iter().any(Place::is_unknown) {
            let newest = self.places.iter_mut().filter(|place| !place.ready.is_empty());
            let newest = newest.max_by_key(|place| place.ready.front().map(|entry| entry.created_at));
            let Some(place) = newest else { break };
            let Some(entry) = place.ready.pop_front() else { break };
            parts += entry.parts.len();
            given.push(Listed { unit: place.unit.clone(), entry });
        }
        Ok(given)
    }
}

fn kind_names(kinds: &[Kind]) -> [&'static str; 10] {
    let wanted = |kind: &Kind| kinds.is_empty() || kinds.contains(kind);
    let names: Vec<&'static str> = Kind::ALL.into_iter().filter(wanted).map(Kind::name).collect();
    std::array::from_fn(|at| names[at.min(names.len() - 1)])
}
