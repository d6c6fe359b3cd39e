//! An account in memory: as much of it as a command needs, and what has changed since it was read.

use crate::command::Period;
use crate::entry::{Entry, Part, Source};
use crate::json::Object;
use crate::owner::{AccountId, Item, Owner};
use crate::spender::{Spender, SpentBy};
use crate::writes::KeyOnEntry;
use kernel::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// The end of what has none.
pub const NEVER: Millis = Millis(i64::MAX);

#[derive(Debug, Clone, PartialEq)]
pub struct Lot {
    pub no: i64,
    pub source: Source,
    pub amount: i64,
    /// What of it is not spent; a held part is in it.
    pub remaining: i64,
    pub held: i64,
    pub priority: i64,
    pub expires_at: Millis,
    pub created_at: Millis,
    pub reason: Option<String>,
    pub metadata: Option<String>,
    pub source_ref: Option<String>,
    /// What is left at its end is carried over, as long as no more than so much is carried over at a time; `None`: it is
    /// written off.
    pub rollover: Option<i64>,
    /// It is what was carried over from another lot.
    pub carried: bool,
    /// Its time is over, and nothing of it is free any more.
    pub ended: bool,
}

/// The total order in which lots are spent: lowest priority, soonest end, given before bought, oldest, number.
pub type BurnKey = (i64, Millis, i64, Millis, i64);

impl Lot {
    pub fn free(&self) -> i64 {
        self.remaining - self.held
    }

    pub fn is_open(&self) -> bool {
        !self.ended && self.free() > 0
    }

    pub fn burn_key(&self) -> BurnKey {
        (self.priority, self.expires_at, self.source.rank(), self.created_at, self.no)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldStatus {
    Held,
    Captured,
    Released,
    Expired,
}

impl HoldStatus {
    pub const ALL: [HoldStatus; 4] =
        [HoldStatus::Held, HoldStatus::Captured, HoldStatus::Released, HoldStatus::Expired];

    pub fn name(self) -> &'static str {
        match self {
            HoldStatus::Held => "held",
            HoldStatus::Captured => "captured",
            HoldStatus::Released => "released",
            HoldStatus::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<HoldStatus> {
        HoldStatus::ALL.into_iter().find(|status| status.name() == text)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub no: i64,
    pub amount: i64,
    pub captured: i64,
    pub status: HoldStatus,
    pub feature: Option<String>,
    pub quantity: Option<i64>,
    pub price_version: Option<i64>,
    pub reason: Option<String>,
    pub metadata: Option<String>,
    /// The [`Spender`] as text.
    pub source_ref: Option<String>,
    /// Positive amounts, in burn-down order.
    pub parts: Vec<Part>,
    pub expires_at: Millis,
    pub created_at: Millis,
    pub ended_at: Option<Millis>,
}

impl Hold {
    /// Who made it, if that was not the owner alone.
    pub(crate) fn spender(&self) -> Option<Spender> {
        self.source_ref.as_deref().and_then(Spender::parse)
    }

    /// It has no end: it keeps credits from being spent that somebody else may have a claim to. No limit counts it.
    pub fn is_freeze(&self) -> bool {
        self.expires_at == NEVER
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    pub period: Period,
    pub max: i64,
    pub starts_at: Millis,
    pub used: i64,
}

/// A crossing of the low-balance line.
#[derive(Debug, Clone, PartialEq)]
pub struct LowBalance {
    pub seq: i64,
    /// How many holds there were by then: a hold crosses the line without an entry.
    pub holds: i64,
    pub threshold: i64,
    pub available: i64,
    pub at: Millis,
}

/// What has to be written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changed {
    pub account: bool,
    /// True for one that is new, not open, or whose place among the open ones changed.
    pub lots: BTreeMap<i64, bool>,
    pub holds: BTreeSet<i64>,
    pub limits: bool,
    /// Limits that were taken away.
    pub dropped_limits: Vec<Period>,
    pub spenders: BTreeSet<SpentBy>,
    pub dropped_spender_limits: Vec<(SpentBy, Period)>,
    pub entries: Vec<Entry>,
    pub events: Vec<LowBalance>,
    /// With the number of their entry, in its order.
    pub(crate) keys: Vec<(i64, KeyOnEntry)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub id: AccountId,
    pub owner: Owner,
    pub unit: String,
    pub version: i64,
    pub seq: i64,
    pub hash: String,
    /// Of the newest entry; later ones are not older.
    pub last_at: Millis,
    pub balance: i64,
    pub held: i64,
    pub owed: i64,
    /// What remains of lots that were carried over.
    pub carried: i64,
    pub negative_floor: i64,
    pub lot_count: i64,
    pub hold_count: i64,
    /// When the next lot or hold ends by itself; may be too early, never too late.
    pub next_due: Millis,
    pub closed: bool,
    pub has_limits: bool,
    pub limits: Vec<Limit>,
    /// The limits of the spenders that were read; with none of its own a spender has an empty list.
    pub spenders: BTreeMap<SpentBy, Vec<Limit>>,

    pub lots: BTreeMap<i64, Lot>,
    /// What the rows of lots do not say yet, see [`Drawn`].
    pub(crate) drawn: BTreeMap<i64, Drawn>,
    /// The open ones among `lots`.
    pub(crate) order: BTreeSet<BurnKey>,
    /// Up to which key `lots` holds every open lot; `None`: it holds all.
    pub(crate) window_end: Option<BurnKey>,
    /// What ends by itself and is not in memory ends no sooner.
    pub(crate) beyond_due: Millis,
    pub holds: BTreeMap<i64, Hold>,
    /// Entries that a refund names, with what was given back of them.
    pub(crate) originals: BTreeMap<i64, (Entry, i64)>,
    /// What an index is made of, as the row has it; `None` without a row.
    pub(crate) stored: Option<Indexed>,
    pub changed: Changed,
}

/// Columns that change seldom: leaving them alone spares their indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub next_due: Millis,
    pub negative_floor: i64,
    pub has_limits: bool,
    pub closed: bool,
}

impl Account {
    /// An account that was never touched.
    pub fn new(owner: Owner, unit: String, negative_floor: i64) -> Account {
        Account { negative_floor, ..Account::with_id(AccountId::of(&owner, &unit), owner, unit) }
    }

    /// The same, when the id is known.
    pub(crate) fn with_id(id: AccountId, owner: Owner, unit: String) -> Account {
        Account {
            id,
            owner,
            unit,
            version: 0,
            seq: 0,
            hash: String::new(),
            last_at: Millis(0),
            balance: 0,
            held: 0,
            owed: 0,
            carried: 0,
            negative_floor: 0,
            lot_count: 0,
            hold_count: 0,
            next_due: NEVER,
            closed: false,
            has_limits: false,
            limits: Vec::new(),
            spenders: BTreeMap::new(),
            lots: BTreeMap::new(),
            drawn: BTreeMap::new(),
            order: BTreeSet::new(),
            window_end: None,
            beyond_due: NEVER,
            holds: BTreeMap::new(),
            originals: BTreeMap::new(),
            stored: None,
            changed: Changed::default(),
        }
    }

    pub(crate) fn indexed(&self) -> Indexed {
        Indexed {
            next_due: self.next_due,
            negative_floor: self.negative_floor,
            has_limits: self.has_limits,
            closed: self.closed,
        }
    }

    pub fn available(&self) -> i64 {
        self.balance - self.held
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed.account || self.changed.limits
    }

    /// Takes in a lot that was read, unless a newer copy is here.
    pub(crate) fn take_in(&mut self, mut lot: Lot) {
        if self.lots.contains_key(&lot.no) {
            return;
        }
        if let Some(drawn) = self.drawn.get(&lot.no) {
            drawn.apply(&mut lot);
        }
        if lot.is_open() {
            self.order.insert(lot.burn_key());
        }
        self.lots.insert(lot.no, lot);
    }

    /// Changes a lot that is here, and keeps the order of open ones true.
    pub(crate) fn change_lot(&mut self, no: i64, change: impl FnOnce(&mut Lot)) {
        let Some(lot) = self.lots.get_mut(&no) else { return };
        let (before, remaining) = ((lot.is_open(), lot.ended), lot.remaining);
        let drawn = self.drawn.entry(no).or_default();
        (drawn.remaining, drawn.held) = (drawn.remaining - lot.remaining, drawn.held - lot.held);
        change(lot);
        (drawn.remaining, drawn.held) = (drawn.remaining + lot.remaining, drawn.held + lot.held);
        if lot.carried {
            self.carried += lot.remaining - remaining;
        }
        let key = lot.burn_key();
        if lot.is_open() {
            self.order.insert(key);
        } else {
            self.order.remove(&key);
        }
        // Only rows of open lots may lag behind.
        *self.changed.lots.entry(no).or_default() |= !lot.is_open() || before != (lot.is_open(), lot.ended);
        self.changed.account = true;
    }

    /// The changed lots whose rows have to be written now, and whether whole: new ones, those whose place among the open
    /// ones changed, and all that are here when more than a few differ from their rows.
    pub(crate) fn lots_to_write(&mut self) -> Vec<(i64, bool)> {
        let whole = self.changed.lots.iter().filter(|(_, whole)| **whole);
        let mut rows: Vec<(i64, bool)> = whole.map(|(no, _)| (*no, true)).collect();
        for (no, _) in &rows {
            self.drawn.remove(no);
        }
        self.drawn.retain(|_, drawn| *drawn != Drawn::default());
        if self.drawn.len() > DRAWN {
            let lots = &self.lots;
            self.drawn.retain(|no, _| {
                let is_here = lots.contains_key(no);
                if is_here {
                    rows.push((*no, false));
                }
                !is_here
            });
        }
        rows
    }

    pub(crate) fn change_hold(&mut self, no: i64, change: impl FnOnce(&mut Hold)) {
        let Some(hold) = self.holds.get_mut(&no) else { return };
        change(hold);
        self.changed.holds.insert(no);
        self.changed.account = true;
    }

    pub(crate) fn due_by(&mut self, at: Millis) {
        self.next_due = self.next_due.min(at);
    }

    /// `{unit, balance, held, available, owed}`
    pub fn balance_json(&self) -> String {
        balance_object(&self.unit, self.balance, self.held, self.owed).end()
    }

    pub fn hold_json(&self, hold: &Hold) -> String {
        let mut object = Object::new();
        hold_members(&mut object, &self.id, &self.owner, &self.unit, hold);
        object.end()
    }
}

pub(crate) fn grant_members(object: &mut Object, account: &AccountId, owner: &Owner, unit: &str, lot: &Lot) {
    object.id("id", account, Item::Grant, lot.no);
    object.text(owner.field(), owner.id());
    object.text("unit", unit);
    object.text("source", lot.source.name());
    object.number("amount", lot.amount);
    object.number("remaining", lot.remaining);
    object.number("held", lot.held);
    object.time_or_null("expires_at", ends(lot.expires_at));
    object.number("priority", lot.priority);
    object.text_or_null("reason", lot.reason.as_deref());
    object.raw("metadata", lot.metadata.as_deref().unwrap_or("null"));
    object.time("created_at", lot.created_at);
}

pub(crate) fn hold_members(object: &mut Object, account: &AccountId, owner: &Owner, unit: &str, hold: &Hold) {
    object.id("id", account, Item::Hold, hold.no);
    object.text(owner.field(), owner.id());
    object.text("unit", unit);
    object.number("amount", hold.amount);
    object.number("captured", hold.captured);
    object.text("status", hold.status.name());
    object.text_or_null("feature", hold.feature.as_deref());
    object.text_or_null("reason", hold.reason.as_deref());
    object.time_or_null("expires_at", ends(hold.expires_at));
    object.time("created_at", hold.created_at);
}

/// By how much a lot differs from its row. A debit or hold that takes a part of a lot leaves the lot's row alone and says
/// so on the account's, which is written anyway; the rows of a few lots may lag behind like that, if they are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drawn {
    pub remaining: i64,
    pub held: i64,
}

/// The limits of no more spenders than these stay in memory.
const SPENDERS: usize = 64;

/// So many lots of an account may differ from their rows.
const DRAWN: usize = 4;

impl Drawn {
    pub(crate) fn apply(&self, lot: &mut Lot) {
        lot.remaining = lot.remaining.saturating_add(self.remaining);
        lot.held = lot.held.saturating_add(self.held);
    }
}

/// `1:-5,3:0:20`: number, what remains less or more, and what is held more or less if that differs.
pub(crate) fn drawn_text(drawn: &BTreeMap<i64, Drawn>) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(drawn.len() * 16);
    for (no, Drawn { remaining, held }) in drawn {
        let comma = if out.is_empty() { "" } else { "," };
        // Writing to a text cannot fail.
        let _ = match held {
            0 => write!(out, "{comma}{no}:{remaining}"),
            _ => write!(out, "{comma}{no}:{remaining}:{held}"),
        };
    }
    out
}

pub(crate) fn parse_drawn(text: &str) -> Option<BTreeMap<i64, Drawn>> {
    let member = |member: &str| {
        let mut numbers = member.split(':');
        let (no, remaining) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        let held = numbers.next().map_or(Some(0), |held| held.parse().ok())?;
        numbers.next().is_none().then_some((no, Drawn { remaining, held }))
    };
    text.split(',').filter(|text| !text.is_empty()).map(member).collect()
}

/// `debt` is what entries took without a lot.
pub(crate) fn balance_object(unit: &str, balance: i64, held: i64, debt: i64) -> Object {
    let mut object = Object::new();
    object.text("unit", unit);
    object.number("balance", balance);
    object.number("held", held);
    object.number("available", balance - held);
    object.number("owed", owed(balance, debt));
    object
}

/// As long as lots are worth more than the debt, held ones among them, nothing is owed.
pub(crate) fn owed(balance: i64, debt: i64) -> i64 {
    debt.min((-balance).max(0))
}

pub(crate) fn ends(at: Millis) -> Option<Millis> {
    (at != NEVER).then_some(at)
}

impl Account {
    /// Keeps of an account what the next command is likely to need.
    pub(crate) fn forget_what_is_over(&mut self) {
        self.lots.retain(|_, lot| lot.is_open() || lot.held > 0);
        self.holds.retain(|_, hold| hold.status == HoldStatus::Held);
        self.originals.clear();
        if self.spenders.len() > SPENDERS {
            self.spenders.clear();
        }
    }
}
