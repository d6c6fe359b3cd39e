//! The rules of the ledger, without I/O, clock or chance: an account, a command and a moment give an outcome.
//!
//! What an outcome needs is looked at before anything is changed, so a refusal changes nothing but what time does by
//! itself. An account may be here in part; then a rule says what it [lacks](Lack), and is asked again with more.

mod disputed;
mod limits;

pub(crate) use limits::whose;

use crate::account::{Account, Hold, HoldStatus, Lot, LowBalance, NEVER};
use crate::command::{Above, Action, Charge, Command, NewGrant, Period, Refusal};
use crate::entry::{Entry, Kind, MAX_AMOUNT, Part, Source};
use crate::settings::Settings;
use crate::spender::{Spender, SpentBy};
use kernel::Millis;

/// What an account must have in memory before the command can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// More of the open lots.
    Lots,
    /// These lots, open or not.
    TheseLots(Vec<i64>),
    Hold(i64),
    /// An entry, with what was given back of it.
    Entry(i64),
    /// A limit that is new: what was spent since its window began, by all or by one.
    Limit(Option<SpentBy>, Period, Millis),
    /// The limits of a spender.
    Spender(SpentBy),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    Refused(Refusal),
    Lacks(Lack),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub entry: Option<Entry>,
    pub grant: Option<i64>,
    pub hold: Option<i64>,
}

type Done = Result<Outcome, Stop>;

/// Applies a command. `other` is the receiving account of a transfer; its [time has to pass](pass_time) before, since a
/// [`Lack`] is always of `account`.
pub fn apply(
    settings: &Settings,
    account: &mut Account,
    mut other: Option<&mut Account>,
    command: &Command,
    now: Millis,
) -> Done {
    if let Some(other) = other.as_deref_mut() {
        pass_time(settings, other, now)?;
    }
    pass_time(settings, account, now)?;
    let before = account.available();
    let outcome = act(settings, account, other, command, now)?;
    note_low_balance(settings, account, before, now);
    Ok(outcome)
}

fn act(
    settings: &Settings,
    account: &mut Account,
    other: Option<&mut Account>,
    command: &Command,
    now: Millis,
) -> Done {
    let now = now.max(account.last_at);
    let header = Header::of(command);
    match &command.action {
        Action::Settle => Ok(Outcome::default()),
        Action::Grant(new) => grant(account, new, &header, now),
        Action::Debit { charge, reason, metadata, allow_negative } => {
            let header = Header { reason: reason.clone(), metadata: metadata.clone(), ..header };
            debit(settings, account, charge, *allow_negative, header, now)
        }
        Action::Hold { charge, expires_in, reason, metadata } => {
            let end = now.plus(*expires_in);
            hold(settings, account, charge, end, reason.clone(), metadata.clone(), now)
        }
        Action::Capture { hold, amount, above } => {
            capture(settings, account, *hold, *amount, *above, header, now)
        }
        Action::Release { hold } => release(settings, account, *hold, now),
        Action::Extend { hold, expires_in } => extend(account, *hold, now.plus(*expires_in)),
        Action::Refund { entry, amount, reason } => {
            let header = Header { reason: Some(reason.clone()), ..header };
            refund(settings, account, *entry, *amount, header, now)
        }
        Action::Freeze { amount, instead_of, reason } => {
            disputed::freeze(account, *amount, *instead_of, reason, now)
        }
        Action::ClawBack { amount, frozen, grant, shortfall, reason, source_ref } => {
            let header = Header { reason: Some(reason.clone()), source_ref: source_ref.clone(), ..header };
            disputed::claw_back(account, *amount, (*frozen, *grant), *shortfall, header, now)
        }
        Action::Reinstate { entry, amount, reason, source_ref } => {
            let header = Header { reason: Some(reason.clone()), source_ref: source_ref.clone(), ..header };
            give_back(account, *entry, *amount, &[Kind::Clawback], Kind::Reinstate, header, now)
        }
        Action::Adjust { amount, reason } => {
            let header = Header { reason: Some(reason.clone()), ..header };
            adjust(account, *amount, header, now)
        }
        Action::Transfer { to, .. } if *to == account.owner => {
            let message = "an owner cannot transfer to itself".to_string();
            Err(Refusal::Invalid { field: "to", message }.into())
        }
        Action::Transfer { amount, reason, .. } => {
            let header = Header { reason: Some(reason.clone()), ..header };
            let Some(other) = other else { return Err(Refusal::NotFound { what: "receiver" }.into()) };
            transfer(account, other, *amount, header, now)
        }
        Action::SetFloor { floor } => {
            account.negative_floor = *floor;
            account.changed.account = true;
            Ok(Outcome::default())
        }
        Action::SetLimit { of, period, max } => {
            limits::set(settings, account, of.as_ref(), (*period, *max), now)
        }
    }
}

/// What entries of one command have in common.
#[derive(Debug, Clone, Default)]
struct Header {
    actor: String,
    request_id: Option<String>,
    key: Option<String>,
    reason: Option<String>,
    metadata: Option<String>,
    source_ref: Option<String>,
    feature: Option<String>,
    quantity: Option<i64>,
    price_version: Option<i64>,
    hold_no: Option<i64>,
    refund_of: Option<i64>,
}

impl Header {
    fn of(command: &Command) -> Header {
        Header {
            actor: command.actor.clone(),
            request_id: command.request_id.clone(),
            key: command.idempotency.as_ref().map(|given| given.key.clone()),
            ..Header::default()
        }
    }

    fn charged(self, charge: &Charge) -> Header {
        Header {
            source_ref: charge.spender.as_ref().map(Spender::to_string),
            feature: charge.feature.clone(),
            quantity: charge.quantity,
            price_version: charge.price_version,
            ..self
        }
    }

    fn system(reason: &str) -> Header {
        Header { actor: "system".into(), reason: Some(reason.into()), ..Header::default() }
    }
}

/// Writes an entry; the parts have been moved by the caller. The sum of the parts is the amount: the other side is `counter`.
fn write(
    account: &mut Account,
    kind: Kind,
    counter: &str,
    parts: Vec<Part>,
    header: Header,
    at: Millis,
) -> Entry {
    let amount = parts.iter().map(|part| part.amount).sum();
    account.balance += amount;
    account.seq += 1;
    account.last_at = at.max(account.last_at);
    let mut entry = Entry {
        account: account.id.clone(),
        seq: account.seq,
        kind,
        amount,
        balance_after: account.balance,
        counter: counter.to_string(),
        feature: header.feature,
        quantity: header.quantity,
        price_version: header.price_version,
        reason: header.reason,
        actor: header.actor,
        request_id: header.request_id,
        idempotency_key: header.key,
        source_ref: header.source_ref,
        hold_no: header.hold_no,
        refund_of: header.refund_of,
        parts,
        metadata: header.metadata,
        created_at: account.last_at,
        prev_hash: account.hash.clone(),
        hash: String::new(),
    };
    entry.hash = entry.compute_hash();
    account.hash.clone_from(&entry.hash);
    account.changed.account = true;
    account.changed.entries.push(entry.clone());
    entry
}

// ---- what time does

/// [Settles](settle) an account, and notes when that made its balance low.
pub fn pass_time(settings: &Settings, account: &mut Account, now: Millis) -> Result<(), Stop> {
    let before = account.available();
    settle(account, now)?;
    note_low_balance(settings, account, before, now);
    Ok(())
}

/// Ends lots and holds whose time has come, in the order in which it came. They must be in memory.
pub fn settle(account: &mut Account, now: Millis) -> Result<(), Stop> {
    if account.next_due > now {
        return Ok(());
    }
    let holds =
        account.holds.values().filter(|hold| hold.status == HoldStatus::Held && hold.expires_at <= now);
    let mut due: Vec<(Millis, u8, i64)> = holds.map(|hold| (hold.expires_at, 0, hold.no)).collect();
    let lots = account.lots.values().filter(|lot| !lot.ended && lot.expires_at <= now);
    due.extend(lots.map(|lot| (lot.expires_at, 1, lot.no)));
    due.sort_unstable();
    // A hold releases into lots that may not be here.
    let touched = due.iter().filter(|(_, rank, _)| *rank == 0).filter_map(|(_, _, no)| account.holds.get(no));
    let touched: Vec<&Hold> = touched.collect();
    lacks_lots(account, touched.iter().flat_map(|hold| &hold.parts))?;
    limits::lacks(account, touched.iter().filter_map(|hold| hold.spender()))?;
    for (at, rank, no) in due {
        if rank == 0 {
            let Some(hold) = account.holds.get(&no) else { continue };
            let (parts, created_at, spender) = (hold.parts.clone(), hold.created_at, hold.spender());
            account.change_hold(no, |hold| {
                hold.status = HoldStatus::Expired;
                hold.ended_at = Some(at);
            });
            // It was counted in the window in which it was made.
            limits::give_back(account, spender.as_ref(), total(&parts), created_at);
            free(account, &parts, at);
        } else {
            end_lot(account, no, at);
        }
    }
    let holds =
        account.holds.values().filter(|hold| hold.status == HoldStatus::Held).map(|hold| hold.expires_at);
    let lots = account.lots.values().filter(|lot| !lot.ended).map(|lot| lot.expires_at);
    account.next_due = holds.chain(lots).chain([account.beyond_due]).min().unwrap_or(NEVER);
    account.changed.account = true;
    Ok(())
}

pub(crate) fn end_lot(account: &mut Account, no: i64, at: Millis) {
    let Some(free) = account.lots.get(&no).map(Lot::free) else { return };
    account.change_lot(no, |lot| lot.ended = true);
    take_off(account, no, free, "expired", at);
}

/// Takes what is free off a lot that has ended: as much as may be is carried over into a lot without an end, and the rest is
/// gone. The same whether a lot ends, a hold frees what it kept beyond the end, or something comes back to it.
fn take_off(account: &mut Account, no: i64, free: i64, why: &str, at: Millis) {
    let Some(lot) = account.lots.get(&no).filter(|_| free > 0).cloned() else { return };
    let room = lot.rollover.map_or(0, |most| most.saturating_sub(account.carried).max(0));
    let kept = free.min(room);
    account.change_lot(no, |lot| lot.remaining -= free);
    let off = |amount: i64| vec![Part { lot: Some(no), amount: -amount }];
    if kept > 0 {
        let header = Header { source_ref: lot.source_ref.clone(), ..Header::system("the period is over") };
        let out = write(account, Kind::Rollover, "rollover", off(kept), header.clone(), at);
        let heir = Lot {
            amount: kept,
            remaining: 0,
            held: 0,
            expires_at: NEVER,
            created_at: out.created_at,
            reason: Some("carried over".into()),
            metadata: None,
            rollover: None,
            carried: true,
            ended: false,
            ..lot
        };
        let (_, parts) = add_lot(account, heir);
        write(account, Kind::Rollover, "rollover", parts, header, at);
    }
    if free > kept {
        write(account, Kind::Expiry, "expired", off(free - kept), Header::system(why), at);
    }
}

/// Frees held parts; what belongs to a lot that has ended meanwhile is taken off it.
fn free(account: &mut Account, parts: &[Part], at: Millis) {
    let mut lost = Vec::new();
    for part in parts {
        let Some(no) = part.lot else { continue };
        account.held -= part.amount;
        let ended = account.lots.get(&no).is_some_and(|lot| lot.ended);
        account.change_lot(no, |lot| lot.held -= part.amount);
        if ended {
            lost.push((no, part.amount));
        }
    }
    for (no, amount) in lost {
        take_off(account, no, amount, "expired while held", at);
    }
}

// ---- looking before doing

fn lacks_lots<'p>(account: &Account, parts: impl Iterator<Item = &'p Part>) -> Result<(), Stop> {
    let missing = parts.filter_map(|part| part.lot).filter(|no| !account.lots.contains_key(no));
    let mut missing: Vec<i64> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    Err(Stop::Lacks(Lack::TheseLots(missing)))
}

/// Free parts of so much, in burn-down order; fewer when there is no more.
fn pick(account: &Account, amount: i64) -> Result<Vec<Part>, Stop> {
    let mut left = amount;
    let mut parts = Vec::new();
    for key in &account.order {
        if left == 0 || account.window_end.is_some_and(|end| *key > end) {
            break;
        }
        let Some(lot) = account.lots.get(&key.4) else { continue };
        let part = lot.free().min(left);
        left -= part;
        parts.push(Part { lot: Some(lot.no), amount: part });
    }
    if left > 0 && account.window_end.is_some() {
        return Err(Stop::Lacks(Lack::Lots));
    }
    Ok(parts)
}

fn total(parts: &[Part]) -> i64 {
    parts.iter().map(|part| part.amount).sum()
}

/// As parts of an entry that takes: negative, the rest as debt.
fn taken(parts: &[Part], amount: i64) -> Vec<Part> {
    let mut out: Vec<Part> = parts.iter().map(|part| Part { lot: part.lot, amount: -part.amount }).collect();
    let rest = amount - total(parts);
    if rest > 0 {
        out.push(Part { lot: None, amount: -rest });
    }
    out
}

fn insufficient(account: &Account, required: i64) -> Stop {
    Stop::Refused(Refusal::Insufficient {
        unit: account.unit.clone(),
        balance: account.balance,
        available: account.available(),
        required,
    })
}

/// No balance grows beyond what JavaScript can count.
fn fits(account: &Account, amount: i64) -> Result<(), Stop> {
    let sum = account.balance.checked_add(amount).filter(|sum| (-MAX_AMOUNT..=MAX_AMOUNT).contains(sum));
    let message = "the balance would be more than can be counted exactly (9007199254740991)";
    sum.map(|_| ()).ok_or_else(|| Refusal::Invalid { field: "amount", message: message.into() }.into())
}

/// Takes parts that are free, and the rest as debt.
fn take(account: &mut Account, parts: &[Part], amount: i64) {
    for part in parts {
        if let Some(no) = part.lot {
            account.change_lot(no, |lot| lot.remaining -= part.amount);
        }
    }
    account.owed += amount - total(parts);
}

fn note_low_balance(settings: &Settings, account: &mut Account, before: i64, now: Millis) {
    let Some(&threshold) = settings.low_balance.get(&account.unit) else { return };
    let available = account.available();
    if before >= threshold && available < threshold {
        let event = LowBalance { seq: account.seq, holds: account.hold_count, threshold, available, at: now };
        account.changed.events.push(event);
    }
}

// ---- the commands

fn grant(account: &mut Account, new: &NewGrant, header: &Header, now: Millis) -> Done {
    let is_over = new.expires_at.is_some_and(|end| end <= now);
    if is_over && new.rollover.is_none() {
        let message = "the end must lie in the future".to_string();
        return Err(Refusal::Invalid { field: "expires_at", message }.into());
    }
    fits(account, new.amount)?;
    let header = Header {
        reason: new.reason.clone(),
        metadata: new.metadata.clone(),
        source_ref: new.source_ref.clone(),
        ..header.clone()
    };
    let lot = Lot {
        no: 0,
        source: new.source,
        amount: new.amount,
        remaining: 0,
        held: 0,
        priority: new.priority,
        expires_at: new.expires_at.unwrap_or(NEVER),
        created_at: now,
        reason: new.reason.clone(),
        metadata: new.metadata.clone(),
        source_ref: new.source_ref.clone(),
        rollover: new.rollover,
        carried: false,
        ended: false,
    };
    let (no, parts) = add_lot(account, lot);
    let entry = write(account, Kind::Grant, new.source.counter(), parts, header, now);
    if is_over {
        end_lot(account, no, now);
    }
    Ok(Outcome { entry: Some(entry), grant: Some(no), hold: None })
}

/// Adds a lot; debt is paid from it first. Gives its number and the parts of the entry.
fn add_lot(account: &mut Account, lot: Lot) -> (i64, Vec<Part>) {
    account.lot_count += 1;
    let no = account.lot_count;
    let paid = account.owed.min(lot.amount);
    account.owed -= paid;
    account.due_by(lot.expires_at);
    let remaining = lot.amount - paid;
    account.carried += if lot.carried { remaining } else { 0 };
    account.take_in(Lot { no, remaining, ..lot });
    account.changed.lots.insert(no, true);
    account.changed.account = true;
    let mut parts = Vec::with_capacity(2);
    if paid > 0 {
        parts.push(Part { lot: None, amount: paid });
    }
    if remaining > 0 {
        parts.push(Part { lot: Some(no), amount: remaining });
    }
    (no, parts)
}

fn debit(
    settings: &Settings,
    account: &mut Account,
    charge: &Charge,
    allow_negative: bool,
    header: Header,
    now: Millis,
) -> Done {
    let floor = if allow_negative { account.negative_floor } else { 0 };
    limits::may_spend(settings, account, charge, now)?;
    if account.available() - charge.amount < floor {
        return Err(insufficient(account, charge.amount));
    }
    fits(account, -charge.amount)?;
    let parts = pick(account, charge.amount)?;
    take(account, &parts, charge.amount);
    limits::count(account, charge.spender.as_ref(), charge.amount);
    let parts = taken(&parts, charge.amount);
    let entry = write(account, Kind::Debit, "spent", parts, header.charged(charge), now);
    Ok(Outcome { entry: Some(entry), ..Outcome::default() })
}

fn hold(
    settings: &Settings,
    account: &mut Account,
    charge: &Charge,
    expires_at: Millis,
    reason: Option<String>,
    metadata: Option<String>,
    now: Millis,
) -> Done {
    limits::may_spend(settings, account, charge, now)?;
    if account.available() < charge.amount {
        return Err(insufficient(account, charge.amount));
    }
    let parts = pick(account, charge.amount)?;
    keep_back(account, &parts);
    limits::count(account, charge.spender.as_ref(), charge.amount);
    let no = add_hold(
        account,
        Hold {
            no: 0,
            amount: charge.amount,
            captured: 0,
            status: HoldStatus::Held,
            feature: charge.feature.clone(),
            quantity: charge.quantity,
            price_version: charge.price_version,
            reason,
            metadata,
            source_ref: charge.spender.as_ref().map(Spender::to_string),
            parts,
            expires_at,
            created_at: now,
            ended_at: None,
        },
    );
    Ok(Outcome { hold: Some(no), ..Outcome::default() })
}

/// Marks free parts as held.
fn keep_back(account: &mut Account, parts: &[Part]) {
    for part in parts {
        if let Some(no) = part.lot {
            account.change_lot(no, |lot| lot.held += part.amount);
        }
    }
    account.held += total(parts);
}

/// Adds a hold whose parts are marked already, and gives its number.
fn add_hold(account: &mut Account, hold: Hold) -> i64 {
    account.hold_count += 1;
    let no = account.hold_count;
    account.due_by(hold.expires_at);
    account.holds.insert(no, Hold { no, ..hold });
    account.changed.holds.insert(no);
    account.changed.account = true;
    no
}

/// Parts behind others, in the order in which they were taken: what is given back comes from the end.
fn join(mut parts: Vec<Part>, more: Vec<Part>) -> Vec<Part> {
    for part in more {
        match parts.last_mut().filter(|last| last.lot == part.lot) {
            Some(last) => last.amount += part.amount,
            None => parts.push(part),
        }
    }
    parts
}

/// A hold that can still be used.
fn live_hold(account: &Account, no: i64) -> Result<Hold, Stop> {
    if no > account.hold_count {
        return Err(Refusal::NotFound { what: "hold" }.into());
    }
    let Some(hold) = account.holds.get(&no) else { return Err(Stop::Lacks(Lack::Hold(no))) };
    if hold.status != HoldStatus::Held {
        let message = format!("the hold is {} already", hold.status.name());
        return Err(Refusal::Conflict { message, refundable: None }.into());
    }
    lacks_lots(account, hold.parts.iter())?;
    limits::lacks(account, hold.spender().into_iter())?;
    Ok(hold.clone())
}

fn capture(
    settings: &Settings,
    account: &mut Account,
    no: i64,
    amount: Option<i64>,
    above: Above,
    header: Header,
    now: Millis,
) -> Done {
    let hold = live_hold(account, no)?;
    let spender = hold.spender();
    limits::roll(settings, account, now);
    let wanted = amount.unwrap_or(hold.amount);
    let extra = (wanted - hold.amount).max(0);
    let extra = match above {
        Above::Refuse if extra > 0 => {
            let message = format!("the hold is of {} only", hold.amount);
            return Err(Refusal::Conflict { message, refundable: None }.into());
        }
        Above::Refuse | Above::Cap => 0,
        Above::Balance | Above::Floor => extra,
    };
    if extra > 0 {
        // A hold of an earlier window begins to count in this one when it is captured.
        limits::within(settings, account, spender.as_ref(), now, |limit| {
            extra + if hold.is_freeze() || hold.created_at < limit.starts_at { hold.amount } else { 0 }
        })?;
        let floor = if above == Above::Floor { account.negative_floor } else { 0 };
        if account.available() - extra < floor {
            return Err(insufficient(account, extra));
        }
    }
    let more = pick(account, extra)?;
    let spent = wanted.min(hold.amount);
    let (spend, rest) = split(&hold.parts, spent);
    take_held(account, &spend);
    take(account, &more, extra);
    uncount(account, &hold);
    limits::count(account, spender.as_ref(), spent + extra);
    let parts = taken(&join(spend, more), spent + extra);
    account.change_hold(no, |hold| {
        hold.status = HoldStatus::Captured;
        hold.captured = spent + extra;
        hold.ended_at = Some(now);
    });
    let header = Header {
        feature: hold.feature,
        quantity: hold.quantity,
        price_version: hold.price_version,
        reason: hold.reason,
        metadata: hold.metadata,
        source_ref: hold.source_ref,
        hold_no: Some(no),
        ..header
    };
    let entry = write(account, Kind::Capture, "spent", parts, header, now);
    free(account, &rest, now);
    Ok(Outcome { entry: Some(entry), hold: Some(no), grant: None })
}

/// What a hold took of the limits.
fn uncount(account: &mut Account, hold: &Hold) {
    if !hold.is_freeze() {
        limits::give_back(account, hold.spender().as_ref(), hold.amount, hold.created_at);
    }
}

/// Takes parts that a hold has marked.
fn take_held(account: &mut Account, parts: &[Part]) {
    for part in parts {
        if let Some(no) = part.lot {
            account.held -= part.amount;
            account.change_lot(no, |lot| {
                lot.held -= part.amount;
                lot.remaining -= part.amount;
            });
        }
    }
}

/// The first so much of the parts, and the rest.
fn split(parts: &[Part], amount: i64) -> (Vec<Part>, Vec<Part>) {
    let mut left = amount;
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for part in parts {
        let here = part.amount.min(left);
        left -= here;
        if here > 0 {
            first.push(Part { amount: here, ..*part });
        }
        if part.amount > here {
            rest.push(Part { amount: part.amount - here, ..*part });
        }
    }
    (first, rest)
}

fn release(settings: &Settings, account: &mut Account, no: i64, now: Millis) -> Done {
    let hold = live_hold(account, no)?;
    limits::roll(settings, account, now);
    account.change_hold(no, |hold| {
        hold.status = HoldStatus::Released;
        hold.ended_at = Some(now);
    });
    uncount(account, &hold);
    free(account, &hold.parts, now);
    Ok(Outcome { hold: Some(no), ..Outcome::default() })
}

fn extend(account: &mut Account, no: i64, expires_at: Millis) -> Done {
    if live_hold(account, no)?.is_freeze() {
        let message = "the hold has no end: it lasts until what it waits for is decided".into();
        return Err(Refusal::Conflict { message, refundable: None }.into());
    }
    account.change_hold(no, |hold| hold.expires_at = expires_at);
    account.due_by(expires_at);
    Ok(Outcome { hold: Some(no), ..Outcome::default() })
}

fn refund(
    settings: &Settings,
    account: &mut Account,
    seq: i64,
    amount: Option<i64>,
    header: Header,
    now: Millis,
) -> Done {
    limits::roll(settings, account, now);
    // Whoever spent it may spend it again.
    let original = account.originals.get(&seq).map(|(entry, _)| (entry.spender(), entry.created_at));
    let spender = original.as_ref().and_then(|(spender, _)| spender.clone());
    limits::lacks(account, spender.iter().cloned())?;
    let header = Header { source_ref: spender.as_ref().map(Spender::to_string), ..header };
    let kinds = [Kind::Debit, Kind::Capture];
    let outcome = give_back(account, seq, amount, &kinds, Kind::Refund, header, now)?;
    if let (Some(entry), Some((_, at))) = (&outcome.entry, original) {
        limits::give_back(account, spender.as_ref(), entry.amount, at);
    }
    Ok(outcome)
}

/// Gives back what an entry took, last taken first, into the lots it came from.
fn give_back(
    account: &mut Account,
    seq: i64,
    amount: Option<i64>,
    kinds: &[Kind],
    kind: Kind,
    header: Header,
    now: Millis,
) -> Done {
    if seq > account.seq {
        return Err(Refusal::NotFound { what: "entry" }.into());
    }
    let Some((original, before)) = account.originals.get(&seq) else {
        return Err(Stop::Lacks(Lack::Entry(seq)));
    };
    let (original, before) = (original.clone(), *before);
    if !kinds.contains(&original.kind) {
        let message = format!("an entry of kind {} cannot be given back", original.kind.name());
        return Err(Refusal::Invalid { field: "entry_id", message }.into());
    }
    let left = -original.amount - before;
    let amount = amount.unwrap_or(left);
    if amount > left || left == 0 {
        let message = format!("{left} of it can still be given back");
        return Err(Refusal::Conflict { message, refundable: Some(left) }.into());
    }
    fits(account, amount)?;
    lacks_lots(account, original.parts.iter())?;
    let backwards: Vec<Part> =
        original.parts.iter().rev().map(|part| Part { lot: part.lot, amount: -part.amount }).collect();
    let (_, rest) = split(&backwards, before);
    let (returned, _) = split(&rest, amount);
    let mut parts = Vec::new();
    let mut lost = Vec::new();
    for part in returned {
        match part.lot {
            Some(no) => {
                let ended = account.lots.get(&no).is_some_and(|lot| lot.ended);
                account.change_lot(no, |lot| lot.remaining += part.amount);
                parts.push(part);
                if ended {
                    lost.push((no, part.amount));
                }
            }
            None => {
                // Debt that a later grant has paid already comes back as a grant.
                let paid = part.amount.min(account.owed);
                account.owed -= paid;
                if paid > 0 {
                    parts.push(Part { lot: None, amount: paid });
                }
                if part.amount > paid {
                    parts.push(returned_lot(account, part.amount - paid, now));
                }
            }
        }
    }
    if let Some(known) = account.originals.get_mut(&seq) {
        known.1 += amount;
    }
    let header = Header {
        feature: original.feature,
        price_version: original.price_version,
        refund_of: Some(seq),
        ..header
    };
    let entry = write(account, kind, &original.counter, parts, header, now);
    for (no, amount) in lost {
        take_off(account, no, amount, "expired before it came back", now);
    }
    Ok(Outcome { entry: Some(entry), ..Outcome::default() })
}

/// A lot for credits that have no lot to go back to.
fn returned_lot(account: &mut Account, amount: i64, now: Millis) -> Part {
    account.lot_count += 1;
    let no = account.lot_count;
    account.take_in(Lot {
        no,
        source: Source::Adjustment,
        amount,
        remaining: amount,
        held: 0,
        priority: 50,
        expires_at: NEVER,
        created_at: now,
        reason: Some("given back after its debt was paid".into()),
        metadata: None,
        source_ref: None,
        rollover: None,
        carried: false,
        ended: false,
    });
    account.changed.lots.insert(no, true);
    Part { lot: Some(no), amount }
}

fn adjust(account: &mut Account, amount: i64, header: Header, now: Millis) -> Done {
    let counter = Source::Adjustment.counter();
    if amount >= 0 {
        fits(account, amount)?;
        let lot = Lot {
            no: 0,
            source: Source::Adjustment,
            amount,
            remaining: 0,
            held: 0,
            priority: 50,
            expires_at: NEVER,
            created_at: now,
            reason: header.reason.clone(),
            metadata: None,
            source_ref: None,
            rollover: None,
            carried: false,
            ended: false,
        };
        let (no, parts) = add_lot(account, lot);
        let entry = write(account, Kind::Adjustment, counter, parts, header, now);
        return Ok(Outcome { entry: Some(entry), grant: Some(no), hold: None });
    }
    let amount = -amount;
    if account.available() - amount < account.negative_floor {
        return Err(insufficient(account, amount));
    }
    let parts = pick(account, amount)?;
    take(account, &parts, amount);
    let entry = write(account, Kind::Adjustment, counter, taken(&parts, amount), header, now);
    Ok(Outcome { entry: Some(entry), ..Outcome::default() })
}

/// Moves free credits to another owner, with their source, end and priority.
fn transfer(from: &mut Account, to: &mut Account, amount: i64, header: Header, now: Millis) -> Done {
    if from.available() < amount {
        return Err(insufficient(from, amount));
    }
    fits(to, amount)?;
    let parts = pick(from, amount)?;
    take(from, &parts, amount);
    let mut received = Vec::new();
    for part in &parts {
        let Some(lot) = part.lot.and_then(|no| from.lots.get(&no)) else { continue };
        let copy = Lot { amount: part.amount, remaining: 0, held: 0, ended: false, ..lot.clone() };
        for part in add_lot(to, copy).1 {
            match received.iter_mut().find(|known: &&mut Part| known.lot == part.lot) {
                Some(known) => known.amount += part.amount,
                None => received.push(part),
            }
        }
    }
    let arrival = Header { source_ref: Some(from.owner.to_string()), key: None, ..header.clone() };
    let header = Header { source_ref: Some(to.owner.to_string()), ..header };
    let at = now.max(to.last_at);
    write(to, Kind::Transfer, "transfer", received, arrival, at);
    let entry = write(from, Kind::Transfer, "transfer", taken(&parts, amount), header, now);
    Ok(Outcome { entry: Some(entry), ..Outcome::default() })
}

#[cfg(test)]
mod tests;
