//! Writing what has changed: few statements for many rows, in the order of the accounts.

use crate::account::{Account, Hold, Lot, LowBalance, drawn_text};
use crate::entry::{self, Entry, parts_text};
use crate::keys::KeptText;
use crate::owner::AccountId;
use crate::rows::{account_columns, hold_columns, lot_columns};
use crate::seal::{PUT_SEAL, Seal};
use crate::spender::SpentBy;
use kernel::{Millis, Vault};
use std::collections::HashMap;
use store::{Error, InsertMany, Many, Param, Tx, UpdateMany, params};

const DROP_LIMIT: &str = "DELETE FROM credit_limits WHERE account_id = $1 AND period = $2";
const DROP_SPENDER_LIMIT: &str =
    "DELETE FROM credit_spender_limits WHERE account_id = $1 AND spender = $2 AND period = $3";

const ADD_ACCOUNTS: InsertMany = InsertMany {
    into: concat!("INSERT INTO credit_accounts (", account_columns!(), ")"),
    width: 18,
    tail: "",
};
/// The columns that no index is made of. Whoever has changed the account since it was read makes it fail.
const MOVE_ACCOUNTS: UpdateMany = UpdateMany {
    table: "credit_accounts",
    keys: &["id", "version"],
    set: &[
        "seq",
        "hash",
        "last_at",
        "balance",
        "held",
        "owed",
        "lot_count",
        "hold_count",
        "drawn",
        "carried",
    ],
    also: "version = credit_accounts.version + 1",
    every: true,
};
/// All that can change.
const PUT_ACCOUNTS: UpdateMany = UpdateMany {
    set: &[
        "seq",
        "hash",
        "last_at",
        "balance",
        "held",
        "owed",
        "lot_count",
        "hold_count",
        "drawn",
        "carried",
        "negative_floor",
        "next_due",
        "has_limits",
        "closed",
    ],
    ..MOVE_ACCOUNTS
};
const MOVE_LOTS: UpdateMany = UpdateMany {
    table: "credit_lots",
    keys: &["account_id", "no"],
    set: &["remaining", "held"],
    also: "",
    every: false,
};
const PUT_LOTS: InsertMany = InsertMany {
    into: concat!("INSERT INTO credit_lots (account_id, source_rank, open, ", lot_columns!(), ")"),
    width: 17,
    tail: "ON CONFLICT (account_id, no) DO UPDATE SET open = excluded.open, remaining = excluded.remaining,
        held = excluded.held, ended = excluded.ended",
};
const PUT_HOLDS: InsertMany = InsertMany {
    into: concat!("INSERT INTO credit_holds (account_id, ", hold_columns!(), ")"),
    width: 15,
    tail: "ON CONFLICT (account_id, no) DO UPDATE SET captured = excluded.captured, status = excluded.status,
        expires_at = excluded.expires_at, ended_at = excluded.ended_at",
};
const PUT_LIMITS: InsertMany = InsertMany {
    into: "INSERT INTO credit_limits (account_id, period, max, starts_at, used)",
    width: 5,
    tail: "ON CONFLICT (account_id, period) DO UPDATE SET max = excluded.max, starts_at = excluded.starts_at,
        used = excluded.used",
};
const PUT_SPENDER_LIMITS: InsertMany = InsertMany {
    into: "INSERT INTO credit_spender_limits (account_id, spender, period, max, starts_at, used)",
    width: 6,
    tail: "ON CONFLICT (account_id, spender, period) DO UPDATE SET max = excluded.max, starts_at = excluded.starts_at,
        used = excluded.used",
};
const ADD_ENTRIES: InsertMany = InsertMany {
    into: concat!("INSERT INTO credit_entries (", entry::columns!(), ", key_id, key_request, key_answer)"),
    width: 23,
    tail: "",
};
const ADD_KEYS: InsertMany = InsertMany {
    into: "INSERT INTO credit_keys (id, request, status, answer, created_at)",
    width: 5,
    tail: "",
};
const ADD_EVENTS: InsertMany = InsertMany {
    into: "INSERT INTO credit_events (id, account_id, seq, kind, threshold, available, created_at)",
    width: 7,
    tail: "ON CONFLICT (id) DO NOTHING",
};

/// The key of an entry, as its row has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyOnEntry {
    pub id: String,
    /// `None`: the [plain](crate::keys::plain_request) one.
    pub request: Option<String>,
    /// See [`crate::keys::Beside`].
    pub answer: Option<String>,
}

/// Writes what has changed in these accounts, the new rows of keys, and the seal as it is then. The `last` thing in its
/// transaction is cheaper.
pub(crate) fn write(
    tx: &mut Tx<'_>,
    vault: &Vault,
    accounts: &mut HashMap<AccountId, Account>,
    keys: &[(String, KeptText)],
    seal: &Seal,
    now: Millis,
    last: bool,
) -> Result<Seal, Error> {
    let mut changed: Vec<&mut Account> =
        accounts.values_mut().filter(|account| account.is_changed()).collect();
    // Neighbours in the tree one after the other.
    changed.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    for account in &changed {
        for period in &account.changed.dropped_limits {
            tx.execute(DROP_LIMIT, params![account.id.as_str(), period.name()])?;
        }
        for (spender, period) in &account.changed.dropped_spender_limits {
            let spender = spender.to_string();
            tx.execute(DROP_SPENDER_LIMIT, params![account.id.as_str(), &spender, period.name()])?;
        }
    }
    let texts: Vec<Texts> = changed.iter_mut().map(|account| Texts::of(account)).collect();
    // One statement for all accounts that there are: two nodes then lock them in one order, and never wait for each other.
    let moved = |account: &&mut Account| account.stored.is_none_or(|stored| stored == account.indexed());
    let mut rows = Rows { all_moved: changed.iter().all(moved), ..Rows::default() };
    let mut seal = seal.clone();
    for (account, texts) in changed.iter().zip(&texts) {
        rows.add(account, texts);
        account.changed.entries.iter().for_each(|entry| seal.add(vault, &entry.hash));
    }
    for (id, kept) in keys {
        rows.keys.extend(params![id, &kept.request, kept.status, &kept.answer, now]);
    }
    let (total, mac) = (seal.total_text(), seal.signature(vault, now));
    let sealed: &[Param<'_>] = match rows.entries.is_empty() {
        true => &[],
        false => params![&seal.writer, seal.entries, &total, now, &mac],
    };
    let writes = [
        (Many::Insert(&ADD_ACCOUNTS), rows.new_accounts.as_slice()),
        (Many::Update(&PUT_ACCOUNTS), &rows.accounts),
        (Many::Update(&MOVE_ACCOUNTS), &rows.moved_accounts),
        (Many::Insert(&PUT_LOTS), &rows.lots),
        (Many::Update(&MOVE_LOTS), &rows.moved_lots),
        (Many::Insert(&PUT_HOLDS), &rows.holds),
        (Many::Insert(&PUT_LIMITS), &rows.limits),
        (Many::Insert(&PUT_SPENDER_LIMITS), &rows.spender_limits),
        (Many::Insert(&ADD_ENTRIES), &rows.entries),
        (Many::Insert(&ADD_EVENTS), &rows.events),
        (Many::Insert(&ADD_KEYS), &rows.keys),
        (Many::Insert(&PUT_SEAL), sealed),
    ];
    if last {
        tx.write_all_and_end(&writes)?;
    } else {
        tx.write_all(&writes)?;
    }
    for account in changed {
        account.version += 1;
        account.stored = Some(account.indexed());
        account.changed = Default::default();
    }
    Ok(seal)
}

/// What rows of one account borrow: texts that are made for them, and which of its lots get a row.
struct Texts {
    owner: String,
    drawn: String,
    /// True for a whole row.
    lots: Vec<(i64, bool)>,
    holds: Vec<String>,
    spenders: Vec<String>,
    entries: Vec<String>,
    events: Vec<String>,
}

impl Texts {
    fn of(account: &mut Account) -> Texts {
        let lots = account.lots_to_write();
        let holds = account.changed.holds.iter().filter_map(|no| account.holds.get(no));
        let entries = account.changed.entries.iter();
        let events = account.changed.events.iter();
        Texts {
            // A row that is there has it.
            owner: if account.stored.is_some() { String::new() } else { account.owner.to_string() },
            drawn: drawn_text(&account.drawn),
            lots,
            holds: holds.map(|hold| parts_text(&hold.parts)).collect(),
            spenders: account.changed.spenders.iter().map(SpentBy::to_string).collect(),
            entries: entries.map(|entry| parts_text(&entry.parts)).collect(),
            events: events
                .map(|event| format!("{}:{}:{}", account.id.as_str(), event.seq, event.holds))
                .collect(),
        }
    }
}

/// The values of all rows of a table, one after the other.
#[derive(Default)]
struct Rows<'a> {
    /// Of no account that there is has anything changed that an index is made of.
    all_moved: bool,
    new_accounts: Vec<Param<'a>>,
    accounts: Vec<Param<'a>>,
    moved_accounts: Vec<Param<'a>>,
    lots: Vec<Param<'a>>,
    moved_lots: Vec<Param<'a>>,
    holds: Vec<Param<'a>>,
    limits: Vec<Param<'a>>,
    spender_limits: Vec<Param<'a>>,
    entries: Vec<Param<'a>>,
    events: Vec<Param<'a>>,
    keys: Vec<Param<'a>>,
}

impl<'a> Rows<'a> {
    fn add(&mut self, account: &'a Account, texts: &'a Texts) {
        let id = account.id.as_str();
        match account.stored {
            None => self.new_accounts.extend(account_values(account, texts)),
            Some(_) if self.all_moved => {
                self.moved_accounts.extend(moved_values(account, &texts.drawn));
            }
            Some(_) => {
                self.accounts.extend(moved_values(account, &texts.drawn));
                self.accounts.extend(indexed_values(account));
            }
        }
        for (no, whole) in &texts.lots {
            let Some(lot) = account.lots.get(no) else { continue };
            if *whole {
                self.lots.extend(lot_values(id, lot));
            } else {
                self.moved_lots.extend(params![id, lot.no, lot.remaining, lot.held]);
            }
        }
        let holds = account.changed.holds.iter().filter_map(|no| account.holds.get(no));
        for (hold, parts) in holds.zip(&texts.holds) {
            self.holds.extend(hold_values(id, hold, parts));
        }
        if account.changed.limits {
            for limit in &account.limits {
                let row = params![id, limit.period.name(), limit.max, limit.starts_at, limit.used];
                self.limits.extend(row);
            }
        }
        for (part, name) in account.changed.spenders.iter().zip(&texts.spenders) {
            for limit in account.spenders.get(part).into_iter().flatten() {
                let row = params![id, name, limit.period.name(), limit.max, limit.starts_at, limit.used];
                self.spender_limits.extend(row);
            }
        }
        let mut keys = account.changed.keys.iter().peekable();
        for (entry, parts) in account.changed.entries.iter().zip(&texts.entries) {
            let key = keys.next_if(|(seq, _)| *seq == entry.seq).map(|(_, key)| key);
            self.entries.extend(entry_values(entry, parts, key));
        }
        for (event, key) in account.changed.events.iter().zip(&texts.events) {
            let LowBalance { seq, threshold, available, at, .. } = *event;
            self.events.extend(params![key, id, seq, "low_balance", threshold, available, at]);
        }
    }
}

fn account_values<'a>(account: &'a Account, texts: &'a Texts) -> [Param<'a>; 18] {
    [
        account.id.as_str().into(),
        texts.owner.as_str().into(),
        account.unit.as_str().into(),
        (account.version + 1).into(),
        account.seq.into(),
        account.hash.as_str().into(),
        account.last_at.into(),
        account.balance.into(),
        account.held.into(),
        account.owed.into(),
        account.negative_floor.into(),
        account.lot_count.into(),
        account.hold_count.into(),
        account.next_due.into(),
        account.has_limits.into(),
        account.closed.into(),
        texts.drawn.as_str().into(),
        account.carried.into(),
    ]
}

fn moved_values<'a>(account: &'a Account, drawn: &'a str) -> [Param<'a>; 12] {
    [
        account.id.as_str().into(),
        account.version.into(),
        account.seq.into(),
        account.hash.as_str().into(),
        account.last_at.into(),
        account.balance.into(),
        account.held.into(),
        account.owed.into(),
        account.lot_count.into(),
        account.hold_count.into(),
        drawn.into(),
        account.carried.into(),
    ]
}

fn indexed_values(account: &Account) -> [Param<'_>; 4] {
    [account.negative_floor.into(), account.next_due.into(), account.has_limits.into(), account.closed.into()]
}

fn lot_values<'a>(account: &'a str, lot: &'a Lot) -> [Param<'a>; 17] {
    [
        account.into(),
        lot.source.rank().into(),
        lot.is_open().into(),
        lot.no.into(),
        lot.source.name().into(),
        lot.amount.into(),
        lot.remaining.into(),
        lot.held.into(),
        lot.priority.into(),
        lot.expires_at.into(),
        lot.created_at.into(),
        (&lot.reason).into(),
        (&lot.metadata).into(),
        (&lot.source_ref).into(),
        lot.ended.into(),
        lot.rollover.into(),
        lot.carried.into(),
    ]
}

fn hold_values<'a>(account: &'a str, hold: &'a Hold, parts: &'a str) -> [Param<'a>; 15] {
    [
        account.into(),
        hold.no.into(),
        hold.amount.into(),
        hold.captured.into(),
        hold.status.name().into(),
        (&hold.feature).into(),
        hold.quantity.into(),
        hold.price_version.into(),
        (&hold.reason).into(),
        (&hold.metadata).into(),
        parts.into(),
        hold.expires_at.into(),
        hold.created_at.into(),
        hold.ended_at.into(),
        (&hold.source_ref).into(),
    ]
}

fn entry_values<'a>(entry: &'a Entry, parts: &'a str, key: Option<&'a KeyOnEntry>) -> [Param<'a>; 23] {
    [
        entry.account.as_str().into(),
        entry.seq.into(),
        entry.kind.name().into(),
        entry.amount.into(),
        entry.balance_after.into(),
        entry.counter.as_str().into(),
        (&entry.feature).into(),
        entry.quantity.into(),
        entry.price_version.into(),
        (&entry.reason).into(),
        entry.actor.as_str().into(),
        (&entry.request_id).into(),
        (&entry.idempotency_key).into(),
        (&entry.source_ref).into(),
        entry.hold_no.into(),
        entry.refund_of.into(),
        parts.into(),
        (&entry.metadata).into(),
        entry.created_at.into(),
        entry.hash.as_str().into(),
        key.map(|key| key.id.as_str()).into(),
        key.and_then(|key| key.request.as_deref()).into(),
        key.and_then(|key| key.answer.as_deref()).into(),
    ]
}
