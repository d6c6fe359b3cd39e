//! Between the rules and the tables: loads what commands touch, applies them in order, writes what changed.

use crate::account::{Account, Hold, HoldStatus, Limit, Lot, NEVER, owed};
use crate::command::{Action, Answer, Command, Figures, Idempotency, Period, Refusal, Target};
use crate::entry::{self, Entry, Kind, Source, parse_parts, parts_text};
use crate::json::Object;
use crate::lane::OwnerExists;
use crate::machine::{self, Lack, Outcome, Stop};
use crate::owner::{AccountId, Item, Owner, parse_item};
use crate::reads::first_since;
use crate::settings::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::{Millis, Vault};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use store::{Error, InsertMany, Param, Row, Tx, params};

/// How many lots are read at first, and at once when these do not suffice.
const WINDOW: usize = 32;
const CHUNK: usize = 1_024;

macro_rules! account_columns {
    () => {
        "id, owner, unit, version, seq, hash, last_at, balance, held, owed, negative_floor, lot_count, hold_count, next_due, \
         has_limits, closed"
    };
}
macro_rules! lot_columns {
    () => {
        "no, source, amount, remaining, held, priority, expires_at, created_at, reason, metadata, source_ref, ended"
    };
}
macro_rules! hold_columns {
    () => {
        "no, amount, captured, status, feature, quantity, price_version, reason, metadata, parts, expires_at, created_at, ended_at"
    };
}
pub(crate) use {hold_columns, lot_columns};

pub(crate) const ACCOUNTS: &str =
    concat!("SELECT ", account_columns!(), " FROM credit_accounts WHERE id IN ($1)");
const KEYS: &str = "SELECT id, request, status, answer FROM credit_keys WHERE id IN ($1)";
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
const ONE_HOLD: &str =
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

// A refund counts in the window of what it gives back, as it does in the rules.
const SPENT_SINCE: &str = "
    SELECT CAST(COALESCE(SUM(-amount), 0) AS BIGINT) FROM credit_entries
    WHERE account_id = $1 AND seq >= $2 AND (kind IN ('debit', 'capture') OR (kind = 'refund' AND refund_of >= $2))";
const HELD_SINCE: &str = "
    SELECT no, amount FROM credit_holds WHERE account_id = $1 AND status = 'held' AND created_at >= $2";
const DROP_LIMIT: &str = "DELETE FROM credit_limits WHERE account_id = $1 AND period = $2";

const PUT_ACCOUNTS: InsertMany = InsertMany {
    into: concat!("INSERT INTO credit_accounts (", account_columns!(), ")"),
    width: 16,
    tail: "ON CONFLICT (id) DO UPDATE SET version = excluded.version, seq = excluded.seq, hash = excluded.hash,
        last_at = excluded.last_at, balance = excluded.balance, held = excluded.held, owed = excluded.owed,
        negative_floor = excluded.negative_floor, lot_count = excluded.lot_count, hold_count = excluded.hold_count,
        next_due = excluded.next_due, has_limits = excluded.has_limits, closed = excluded.closed",
};
/// The columns of [`PUT_ACCOUNTS`] that no index is made of.
const MOVE_ACCOUNTS: InsertMany = InsertMany {
    tail:
        "ON CONFLICT (id) DO UPDATE SET version = excluded.version, seq = excluded.seq, hash = excluded.hash,
        last_at = excluded.last_at, balance = excluded.balance, held = excluded.held, owed = excluded.owed,
        lot_count = excluded.lot_count, hold_count = excluded.hold_count",
    ..PUT_ACCOUNTS
};
/// The same of [`PUT_LOTS`].
const MOVE_LOTS: InsertMany = InsertMany {
    tail: "ON CONFLICT (account_id, no) DO UPDATE SET remaining = excluded.remaining, held = excluded.held",
    ..PUT_LOTS
};
const PUT_LOTS: InsertMany = InsertMany {
    into: concat!("INSERT INTO credit_lots (account_id, source_rank, open, ", lot_columns!(), ")"),
    width: 15,
    tail: "ON CONFLICT (account_id, no) DO UPDATE SET open = excluded.open, remaining = excluded.remaining,
        held = excluded.held, ended = excluded.ended",
};
const PUT_HOLDS: InsertMany = InsertMany {
    into: concat!("INSERT INTO credit_holds (account_id, ", hold_columns!(), ")"),
    width: 14,
    tail: "ON CONFLICT (account_id, no) DO UPDATE SET captured = excluded.captured, status = excluded.status,
        expires_at = excluded.expires_at, ended_at = excluded.ended_at",
};
const PUT_LIMITS: InsertMany = InsertMany {
    into: "INSERT INTO credit_limits (account_id, period, max, starts_at, used)",
    width: 5,
    tail: "ON CONFLICT (account_id, period) DO UPDATE SET max = excluded.max, starts_at = excluded.starts_at,
        used = excluded.used",
};
const ADD_ENTRIES: InsertMany =
    InsertMany { into: concat!("INSERT INTO credit_entries (", entry::columns!(), ")"), width: 21, tail: "" };
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
const ONE_SEAL: &str = "SELECT entries, total, sealed_at, mac FROM credit_seals WHERE writer = $1";
const PUT_SEAL: InsertMany = InsertMany {
    into: "INSERT INTO credit_seals (writer, entries, total, sealed_at, mac)",
    width: 5,
    tail: "ON CONFLICT (writer) DO UPDATE SET entries = excluded.entries, total = excluded.total,
        sealed_at = excluded.sealed_at, mac = excluded.mac",
};

/// What a batch works with.
#[derive(Clone, Copy)]
pub(crate) struct Bench<'a> {
    pub settings: &'a Settings,
    pub vault: &'a Vault,
    pub owner_exists: &'a OwnerExists,
    pub now: Millis,
}

/// Commands that are judged one after the other; atomic ones all happen or none.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub commands: Vec<Command>,
    pub atomic: bool,
}

pub(crate) type Results = Vec<Result<Answer, Refusal>>;

/// What a transaction left behind: the answers of each group, and the accounts as they are now.
pub(crate) struct Written {
    pub results: Vec<Results>,
    pub accounts: HashMap<AccountId, Account>,
    pub seal: Seal,
}

/// Runs groups of commands in one transaction. `known` are accounts as they were read before; each is used if nobody
/// changed it since.
pub(crate) fn run(
    tx: &mut Tx<'_>,
    bench: Bench<'_>,
    known: &HashMap<AccountId, Account>,
    seal: &Seal,
    groups: &[Group],
) -> Result<Written, Error> {
    let mut batch = Batch { bench, accounts: HashMap::new(), keys: HashMap::new(), new_keys: Vec::new() };
    batch.load(tx, known, groups)?;
    let mut results = Vec::with_capacity(groups.len());
    for group in groups {
        results.push(if group.atomic {
            batch.all_or_none(tx, group)?
        } else {
            batch.each(tx, &group.commands)?
        });
    }
    let seal = batch.save(tx, seal)?;
    Ok(Written { results, accounts: batch.accounts, seal })
}

struct Kept {
    request: String,
    status: i64,
    answer: String,
}

impl Kept {
    fn again(&self) -> Result<Answer, Error> {
        let fault = || Error::Fault("an answer that was kept cannot be read".into());
        let said: Said = serde_json::from_str(&self.answer).map_err(|_| fault())?;
        let figures = said.figures().ok_or_else(fault)?;
        let status = u16::try_from(self.status).unwrap_or(200);
        Ok(Answer { status, body: self.answer.clone(), replayed: true, figures })
    }
}

/// What is read of an answer that was kept.
#[derive(serde::Deserialize)]
struct Said {
    entry: Option<SaidItem>,
    hold: Option<SaidItem>,
    grant: Option<SaidItem>,
    balance: SaidBalance,
}

#[derive(serde::Deserialize)]
struct SaidItem {
    id: String,
    amount: i64,
}

#[derive(serde::Deserialize)]
struct SaidBalance {
    unit: String,
    balance: i64,
    held: i64,
    owed: i64,
}

impl Said {
    fn figures(self) -> Option<Figures> {
        let item = |said: &Option<SaidItem>, kind| match said {
            Some(said) => {
                parse_item(&said.id, kind).map(|(account, no)| Some((account, no, said.amount.abs())))
            }
            None => Some(None),
        };
        let (entry, hold) = (item(&self.entry, Item::Entry)?, item(&self.hold, Item::Hold)?);
        let grant = item(&self.grant, Item::Grant)?;
        let (account, _, amount) = entry.clone().or(hold.clone()).or(grant.clone())?;
        let number = |item: Option<(AccountId, i64, i64)>| item.map(|(_, number, _)| number);
        let SaidBalance { unit, balance, held, owed } = self.balance;
        let (entry, hold, grant) = (number(entry), number(hold), number(grant));
        Some(Figures { account, entry, hold, grant, amount, unit, balance, held, owed })
    }
}

struct Batch<'a> {
    bench: Bench<'a>,
    accounts: HashMap<AccountId, Account>,
    keys: HashMap<String, Kept>,
    new_keys: Vec<String>,
}

/// Which accounts a command touches; the receiver of a transfer is the second.
fn touched(command: &Command) -> (AccountId, Option<(AccountId, Owner, String)>) {
    let receiver = match (&command.action, &command.target) {
        (Action::Transfer { to, .. }, Target::Owner { unit, .. }) => {
            Some((AccountId::of(to, unit), to.clone(), unit.clone()))
        }
        _ => None,
    };
    (command.target.account(), receiver)
}

fn key_id(owner: &Owner, operation: &str, given: &Idempotency) -> String {
    let mut hash = Sha256::new();
    for text in [owner.to_string().as_str(), operation, &given.key] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..24])
}

impl Batch<'_> {
    fn load(
        &mut self,
        tx: &mut Tx<'_>,
        known: &HashMap<AccountId, Account>,
        groups: &[Group],
    ) -> Result<(), Error> {
        let commands = || groups.iter().flat_map(|group| &group.commands);
        let mut wanted: BTreeMap<AccountId, Option<(Owner, String)>> = BTreeMap::new();
        for command in commands() {
            let (account, receiver) = touched(command);
            let named = match &command.target {
                Target::Owner { owner, unit } => Some((owner.clone(), unit.clone())),
                Target::Account(_) => None,
            };
            let slot = wanted.entry(account).or_default();
            if slot.is_none() {
                *slot = named;
            }
            if let Some((account, owner, unit)) = receiver {
                wanted.entry(account).or_insert(Some((owner, unit)));
            }
        }
        let ids: Vec<&str> = wanted.keys().map(AccountId::as_str).collect();
        tx.lock("credits", &ids)?;
        for mut account in tx.query_keys(ACCOUNTS, &ids, read_account)? {
            match known.get(&account.id) {
                Some(copy) if copy.version == account.version => account = copy.clone(),
                _ => load_window(tx, &mut account)?,
            }
            self.accounts.insert(account.id.clone(), account);
        }
        for (id, named) in wanted {
            let Some((owner, unit)) = named else { continue };
            if !self.accounts.contains_key(&id) && (self.bench.owner_exists)(tx, &owner)? {
                let floor = self.bench.settings.negative_floor;
                self.accounts.insert(id, Account::new(owner, unit, floor));
            }
        }
        let key_ids: Vec<String> = commands().filter_map(|command| self.key_of(command)).collect();
        let mut key_ids: Vec<&str> = key_ids.iter().map(String::as_str).collect();
        key_ids.sort_unstable();
        key_ids.dedup();
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<String>(0)?,
                Kept { request: row.get(1)?, status: row.get(2)?, answer: row.get(3)? },
            ))
        };
        self.keys = tx.query_keys(KEYS, &key_ids, read)?.into_iter().collect();
        Ok(())
    }

    fn key_of(&self, command: &Command) -> Option<String> {
        let given = command.idempotency.as_ref()?;
        let owner = match (&given.scope, &command.target) {
            (Some(scope), _) => scope,
            (None, Target::Owner { owner, .. }) => owner,
            (None, Target::Account(id)) => &self.accounts.get(id)?.owner,
        };
        Some(key_id(owner, command.action.operation(), given))
    }

    fn each(&mut self, tx: &mut Tx<'_>, commands: &[Command]) -> Result<Results, Error> {
        commands.iter().map(|command| self.one(tx, command)).collect()
    }

    fn all_or_none(&mut self, tx: &mut Tx<'_>, group: &Group) -> Result<Results, Error> {
        let before = self.accounts.clone();
        let new_keys = self.new_keys.len();
        let results = self.each(tx, &group.commands)?;
        let Some(refused) = results.iter().position(Result::is_err) else { return Ok(results) };
        self.accounts = before;
        for id in self.new_keys.drain(new_keys..) {
            self.keys.remove(&id);
        }
        let others = || {
            let message = "another item of the batch was refused, so nothing was done".to_string();
            Err(Refusal::Conflict { message, refundable: None })
        };
        let keep = |(at, result)| if at == refused { result } else { others() };
        Ok(results.into_iter().enumerate().map(keep).collect())
    }

    fn one(&mut self, tx: &mut Tx<'_>, command: &Command) -> Result<Result<Answer, Refusal>, Error> {
        let key = self.key_of(command);
        if let (Some(kept), Some(given)) =
            (key.as_ref().and_then(|key| self.keys.get(key)), &command.idempotency)
        {
            return match difference(&kept.request, &given.request) {
                Some(field) => Ok(Err(Refusal::KeyMismatch { field })),
                None => kept.again().map(Ok),
            };
        }
        let (id, receiver) = touched(command);
        let Some(mut account) = self.accounts.remove(&id) else { return Ok(Err(unknown(command))) };
        let mut other = receiver.as_ref().and_then(|(id, _, _)| self.accounts.remove(id));
        let judged = match (&receiver, &other) {
            _ if account.closed && !may_touch_closed(&command.action) => Err(unknown(command)),
            (Some(_), Some(other)) if other.closed => Err(Refusal::UnknownOwner { field: "to" }),
            (Some((id, ..)), None) if *id != account.id => Err(Refusal::UnknownOwner { field: "to" }),
            _ => self.apply(tx, &mut account, other.as_mut(), command)?,
        };
        let result = judged.map(|outcome| answer(self.bench, &account, &command.action, &outcome));
        if let (Ok(answer), Some(key), Some(given)) = (&result, key, &command.idempotency) {
            let kept = Kept {
                request: given.request.clone(),
                status: answer.status.into(),
                answer: answer.body.clone(),
            };
            self.keys.insert(key.clone(), kept);
            self.new_keys.push(key);
        }
        self.accounts.insert(id, account);
        if let (Some((id, ..)), Some(other)) = (receiver, other) {
            self.accounts.insert(id, other);
        }
        Ok(result)
    }

    /// Asks the rules, and loads what they lack until they can say.
    fn apply(
        &self,
        tx: &mut Tx<'_>,
        account: &mut Account,
        mut other: Option<&mut Account>,
        command: &Command,
    ) -> Result<Result<Outcome, Refusal>, Error> {
        let now = self.bench.now;
        load_due(tx, account, now)?;
        if let Some(other) = other.as_deref_mut() {
            // It is settled here, so that whatever is lacking below is lacking in the first account.
            load_due(tx, other, now)?;
            while let Err(Stop::Lacks(lack)) = machine::settle(other, now) {
                if !load_lack(tx, other, &lack)? {
                    return Ok(Err(Refusal::NotFound { what: lack_name(&lack) }));
                }
            }
        }
        loop {
            match machine::apply(self.bench.settings, account, other.as_deref_mut(), command, now) {
                Ok(outcome) => return Ok(Ok(outcome)),
                Err(Stop::Refused(refusal)) => return Ok(Err(refusal)),
                Err(Stop::Lacks(lack)) if load_lack(tx, account, &lack)? => {}
                Err(Stop::Lacks(lack)) => return Ok(Err(Refusal::NotFound { what: lack_name(&lack) })),
            }
        }
    }

    fn save(&mut self, tx: &mut Tx<'_>, seal: &Seal) -> Result<Seal, Error> {
        let now = self.bench.now;
        let changed: Vec<&mut Account> = self
            .accounts
            .values_mut()
            .filter(|account| account.changed.account || account.changed.limits)
            .collect();
        for account in &changed {
            for period in &account.changed.dropped_limits {
                tx.execute(DROP_LIMIT, params![account.id.as_str(), period.name()])?;
            }
        }
        let (mut accounts, mut moved_accounts) = (Vec::new(), Vec::new());
        let (mut lots, mut moved_lots) = (Vec::new(), Vec::new());
        let mut holds = Vec::new();
        let mut limits = Vec::new();
        let mut entries: Vec<&Entry> = Vec::new();
        let mut events = Vec::new();
        let mut texts = Texts::default();
        for account in &changed {
            let id = account.id.as_str();
            for (no, whole) in &account.changed.lots {
                let Some(lot) = account.lots.get(no) else { continue };
                let rows = if *whole { &mut lots } else { &mut moved_lots };
                rows.extend(lot_values(id, lot));
            }
            for hold in account.changed.holds.iter().filter_map(|no| account.holds.get(no)) {
                holds.push((id, hold, texts.add(parts_text(&hold.parts))));
            }
            if account.changed.limits {
                for limit in &account.limits {
                    let row = params![id, limit.period.name(), limit.max, limit.starts_at, limit.used];
                    limits.extend_from_slice(row);
                }
            }
            entries.extend(&account.changed.entries);
            for event in &account.changed.events {
                events.push((id, event, texts.add(format!("{id}:{}", event.seq))));
            }
        }
        let owners: Vec<String> = changed.iter().map(|account| account.owner.to_string()).collect();
        for (account, owner) in changed.iter().zip(&owners) {
            let moved = account.stored == Some(account.indexed());
            let rows = if moved { &mut moved_accounts } else { &mut accounts };
            rows.extend(account_values(account, owner));
        }
        let holds: Vec<Param<'_>> =
            holds.iter().flat_map(|(id, hold, parts)| hold_values(id, hold, texts.get(*parts))).collect();
        let parts: Vec<String> = entries.iter().map(|entry| parts_text(&entry.parts)).collect();
        let rows: Vec<Param<'_>> =
            entries.iter().zip(&parts).flat_map(|(entry, parts)| entry_values(entry, parts)).collect();
        let events: Vec<Param<'_>> = events
            .iter()
            .flat_map(|(id, event, key)| {
                let key = texts.get(*key);
                params![key, *id, event.seq, "low_balance", event.threshold, event.available, event.at]
                    .to_vec()
            })
            .collect();
        let keys = self.new_keys.iter().filter_map(|id| self.keys.get(id).map(|kept| (id, kept)));
        let keys: Vec<Param<'_>> = keys
            .flat_map(|(id, kept)| params![id, &kept.request, kept.status, &kept.answer, now].to_vec())
            .collect();
        let mut seal = seal.clone();
        entries.iter().for_each(|entry| seal.add(self.bench.vault, &entry.hash));
        let (total, mac) = (seal.total_text(), seal.signature(self.bench.vault, now));
        let sealed: &[Param<'_>] =
            if entries.is_empty() { &[] } else { params![&seal.writer, seal.entries, &total, now, &mac] };
        tx.insert_all(&[
            (&PUT_ACCOUNTS, &accounts),
            (&MOVE_ACCOUNTS, &moved_accounts),
            (&PUT_LOTS, &lots),
            (&MOVE_LOTS, &moved_lots),
            (&PUT_HOLDS, &holds),
            (&PUT_LIMITS, &limits),
            (&ADD_ENTRIES, &rows),
            (&ADD_EVENTS, &events),
            (&ADD_KEYS, &keys),
            (&PUT_SEAL, sealed),
        ])?;
        for account in changed {
            account.version += 1;
            account.stored = Some(account.indexed());
            account.changed = Default::default();
        }
        Ok(seal)
    }
}

/// Texts that rows borrow while they are put together.
#[derive(Default)]
struct Texts(Vec<String>);

impl Texts {
    fn add(&mut self, text: String) -> usize {
        self.0.push(text);
        self.0.len() - 1
    }

    fn get(&self, at: usize) -> &str {
        &self.0[at]
    }
}

fn unknown(command: &Command) -> Refusal {
    match &command.target {
        Target::Owner { owner, .. } => Refusal::UnknownOwner { field: owner.field() },
        Target::Account(_) => Refusal::NotFound {
            what: match &command.action {
                Action::Refund { .. } | Action::Reinstate { .. } => "entry",
                _ => "hold",
            },
        },
    }
}

/// Money that comes or goes at Stripe still nets after the owner is gone.
fn may_touch_closed(action: &Action) -> bool {
    matches!(action, Action::ClawBack { .. } | Action::Reinstate { .. } | Action::Settle)
}

fn lack_name(lack: &Lack) -> &'static str {
    match lack {
        Lack::Lots | Lack::TheseLots(_) => "grant",
        Lack::Hold(_) => "hold",
        Lack::Entry(_) => "entry",
        Lack::Limit(..) => "limit",
    }
}

/// The first member in which two requests differ.
fn difference(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let parse =
        |text: &str| serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text).unwrap_or_default();
    let (one, other) = (parse(one), parse(other));
    let names = one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>();
    names.into_iter().find(|name| one.get(*name) != other.get(*name)).cloned()
}

/// The body that is answered now and at every replay.
fn answer(bench: Bench<'_>, account: &Account, action: &Action, outcome: &Outcome) -> Answer {
    let figures = figures(account, outcome);
    let mut object = Object::new();
    if let Action::SetLimit { period, .. } = action {
        let limit = account.limits.iter().find(|limit| limit.period == *period);
        let limit = limit.map(|limit| limit_json(bench.settings, account, limit, bench.now));
        object.raw("limit", limit.as_deref().unwrap_or("null"));
        return Answer { status: 200, body: object.end(), replayed: false, figures };
    }
    if let Some(lot) = outcome.grant.and_then(|no| account.lots.get(&no)) {
        object.raw("grant", &account.grant_json(lot));
    }
    if let Some(hold) = outcome.hold.and_then(|no| account.holds.get(&no)) {
        object.raw("hold", &account.hold_json(hold));
    }
    if let Some(entry) = &outcome.entry {
        object.raw("entry", &entry.answer_json(&account.owner, &account.unit));
    }
    if let Action::SetFloor { .. } = action {
        object.number("negative_floor", account.negative_floor);
    }
    object.raw("balance", &account.balance_json());
    let status = match action {
        Action::Capture { .. } | Action::Release { .. } | Action::Extend { .. } => 200,
        Action::Settle | Action::SetFloor { .. } | Action::SetLimit { .. } => 200,
        _ => 201,
    };
    Answer { status, body: object.end(), replayed: false, figures }
}

fn figures(account: &Account, outcome: &Outcome) -> Figures {
    let held = || outcome.hold.and_then(|no| account.holds.get(&no)).map_or(0, |hold| hold.amount);
    Figures {
        account: account.id.clone(),
        entry: outcome.entry.as_ref().map(|entry| entry.seq),
        hold: outcome.hold,
        grant: outcome.grant,
        amount: outcome.entry.as_ref().map_or_else(held, |entry| entry.amount.abs()),
        unit: account.unit.clone(),
        balance: account.balance,
        held: account.held,
        owed: owed(account.balance, account.owed),
    }
}

/// A limit as it stands in answers.
pub(crate) fn limit_json(settings: &Settings, account: &Account, limit: &Limit, now: Millis) -> String {
    let (starts_at, resets_at) = settings.window(limit.period, now);
    let mut object = Object::new();
    let is_organization = matches!(account.owner, Owner::Organization(_));
    object.text("scope", if is_organization { "organization" } else { "user" });
    object.text("id", account.owner.id());
    object.text("unit", &account.unit);
    object.text("window", limit.period.name());
    object.number("max", limit.max);
    object.number("used", if starts_at > limit.starts_at { 0 } else { limit.used });
    object.time("resets_at", resets_at);
    object.end()
}

// ---- reading

pub(crate) fn read_account(row: &Row<'_>) -> Result<Account, Error> {
    let owner = row.text(1)?;
    let owner = Owner::parse(owner).ok_or_else(|| Error::Fault(format!("an account of {owner}")))?;
    let fresh = Account::new(owner, row.get(2)?, 0);
    let mut account = Account {
        id: AccountId::stored(row.text(0)?),
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
        ..fresh
    };
    account.stored = Some(account.indexed());
    Ok(account)
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

fn load_window(tx: &mut Tx<'_>, account: &mut Account) -> Result<(), Error> {
    let lots = tx.query(FIRST_LOTS, params![account.id.as_str(), WINDOW as i64], read_lot)?;
    account.window_end = (lots.len() == WINDOW).then(|| lots.last().map(Lot::burn_key)).flatten();
    lots.into_iter().for_each(|lot| account.take_in(lot));
    if account.has_limits {
        account.limits = tx.query(LIMITS, params![account.id.as_str()], read_limit)?;
    }
    Ok(())
}

/// Brings in what has ended by itself, and when the next thing does.
fn load_due(tx: &mut Tx<'_>, account: &mut Account, now: Millis) -> Result<(), Error> {
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
fn load_lack(tx: &mut Tx<'_>, account: &mut Account, lack: &Lack) -> Result<bool, Error> {
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
        Lack::Limit(period, starts_at) => {
            let used = spent_since(tx, account, *starts_at)?.max(0);
            // It has no effect yet: the rule that asked puts the maximum in.
            account.limits.push(Limit { period: *period, max: i64::MAX, starts_at: *starts_at, used });
            Ok(true)
        }
    }
}

/// What debits, captures and open holds of a window come to.
fn spent_since(tx: &mut Tx<'_>, account: &Account, since: Millis) -> Result<i64, Error> {
    let id = account.id.as_str().to_string();
    let fresh = &account.changed.entries;
    let stored = fresh.first().map_or(account.seq, |entry| entry.seq - 1);
    let first = first_since(tx, &account.id, stored, since)?;
    let counts = |entry: &&Entry| match entry.kind {
        Kind::Debit | Kind::Capture => entry.seq >= first,
        Kind::Refund => entry.refund_of.is_some_and(|original| original >= first),
        _ => false,
    };
    let stored: i64 = tx.query_one(SPENT_SINCE, params![&id, first], |row| row.get(0))?;
    let unwritten: i64 = fresh.iter().filter(counts).map(|entry| -entry.amount).sum();
    let read = |row: &Row<'_>| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?));
    let mut held = 0;
    for (no, amount) in tx.query(HELD_SINCE, params![&id, since], read)? {
        // What is in memory is newer than its row.
        held += if account.holds.contains_key(&no) { 0 } else { amount };
    }
    for hold in account.holds.values() {
        let counts = hold.status == HoldStatus::Held && hold.created_at >= since;
        held += if counts { hold.amount } else { 0 };
    }
    Ok(stored + unwritten + held)
}

// ---- writing

fn account_values<'a>(account: &'a Account, owner: &'a str) -> [Param<'a>; 16] {
    [
        account.id.as_str().into(),
        owner.into(),
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
    ]
}

fn lot_values<'a>(account: &'a str, lot: &'a Lot) -> [Param<'a>; 15] {
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
    ]
}

fn hold_values<'a>(account: &'a str, hold: &'a Hold, parts: &'a str) -> [Param<'a>; 14] {
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
    ]
}

fn entry_values<'a>(entry: &'a Entry, parts: &'a str) -> [Param<'a>; 21] {
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
        entry.prev_hash.as_str().into(),
        entry.hash.as_str().into(),
    ]
}

// ---- seals

/// What one writer has written: the count of its entries and the sum of their keyed hashes, signed anew with every
/// transaction. The sum over all writers must be the sum over all entries, so that neither an entry nor the newest rows
/// can be taken away, although each account's chain alone would not show the latter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seal {
    pub writer: String,
    pub entries: i64,
    pub total: [u64; 4],
}

pub(crate) const SEAL: &str = "ledger entry";
const SIGNATURE: &str = "ledger seal";

impl Seal {
    pub fn new(writer: String) -> Seal {
        Seal { writer, entries: 0, total: [0; 4] }
    }

    /// As it was written last. `None` when somebody else has touched it: it must not be signed anew, so that the check
    /// finds it as it is.
    pub fn read(tx: &mut Tx<'_>, vault: &Vault, writer: &str) -> Result<Option<Seal>, Error> {
        let row = |row: &Row<'_>| {
            Ok((row.get::<i64>(0)?, row.get::<String>(1)?, row.get::<Millis>(2)?, row.get::<String>(3)?))
        };
        let Some((entries, total, at, mac)) = tx.query_opt(ONE_SEAL, params![writer], row)? else {
            return Ok(Some(Seal::new(writer.to_string())));
        };
        let seal = parse_total(&total).map(|total| Seal { writer: writer.to_string(), entries, total });
        Ok(seal.filter(|seal| seal.signature(vault, at) == mac))
    }

    pub fn add(&mut self, vault: &Vault, hash: &str) {
        self.entries += 1;
        let mac = vault.mac(SEAL, hash);
        add(&mut self.total, &mac);
    }

    pub fn total_text(&self) -> String {
        let bytes: Vec<u8> = self.total.iter().flat_map(|word| word.to_be_bytes()).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub fn signature(&self, vault: &Vault, at: Millis) -> String {
        let text = format!("{}|{}|{}|{}", self.writer, self.entries, self.total_text(), at.0);
        vault.hash(SIGNATURE, &text)
    }
}

/// What [`Seal::total_text`] wrote.
pub(crate) fn parse_total(text: &str) -> Option<[u64; 4]> {
    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let mut total = [0; 4];
    add(&mut total, &bytes);
    Some(total)
}

/// Adds a number of 256 bits, whose first word is the greatest.
pub(crate) fn add(total: &mut [u64; 4], bytes: &[u8; 32]) {
    let word = |at: usize| u64::from_be_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap_or_default());
    add_words(total, [word(0), word(1), word(2), word(3)]);
}

pub(crate) fn add_words(total: &mut [u64; 4], words: [u64; 4]) {
    let mut carry = false;
    for at in (0..4).rev() {
        let (sum, over) = total[at].overflowing_add(words[at]);
        let (sum, more) = sum.overflowing_add(u64::from(carry));
        total[at] = sum;
        carry = over || more;
    }
}
