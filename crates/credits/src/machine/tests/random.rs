//! More than 100,000 random commands: the machine and the model agree on each, and the ledger adds up after each.

use super::model::{Model, No};
use crate::account::{Account, HoldStatus, Limit, NEVER};
use crate::command::{Above, Action, Charge, Command, NewGrant, Period, Refusal, Shortfall, Target};
use crate::entry::{Entry, Kind, Source};
use crate::machine::{Lack, Outcome, Stop, apply};
use crate::owner::Owner;
use crate::settings::Settings;
use kernel::Millis;
use kernel::time::{HOUR, SECOND};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;
use std::collections::HashMap;

/// An account as the machine keeps it, with all the entries it has written.
pub struct Subject {
    pub account: Account,
    pub entries: Vec<Entry>,
    model: Model,
}

impl Subject {
    pub fn new(name: &str) -> Subject {
        let account = Account::new(Owner::User(name.into()), "credits".into(), 0);
        Subject { account, entries: Vec::new(), model: Model::default() }
    }

    fn without_entries(&self) -> Subject {
        Subject { account: self.account.clone(), entries: Vec::new(), model: self.model.clone() }
    }
}

/// What happens next: on which account, how much later, and what. Holds and entries are counted from the newest.
#[derive(Debug, Clone)]
pub struct Step {
    pub second: bool,
    pub later: i64,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Plain(Action),
    Capture { back: i64, amount: Option<i64>, above: Above },
    Release { back: i64 },
    Extend { back: i64, expires_in: i64 },
    Refund { back: i64, amount: Option<i64> },
    Reinstate { back: i64, amount: Option<i64> },
    Freeze { back: Option<i64>, amount: i64 },
    ClawBack { back: i64, named: bool, frozen: Option<i64>, amount: i64, shortfall: Shortfall },
    Grant { amount: i64, source: Source, priority: i64, ends_in: Option<i64>, rollover: Option<i64> },
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let later = prop_oneof![
        6 => Just(0),
        6 => 1..20 * SECOND,
        1 => Just(10 * SECOND),
        1 => HOUR..30 * HOUR,
        1 => -5 * SECOND..0i64,
    ];
    let step = (prop::bool::weighted(0.2), later, what());
    prop::collection::vec(step.prop_map(|(second, later, what)| Step { second, later, what }), 1..240)
}

fn what() -> impl Strategy<Value = What> {
    let amount = || prop_oneof![8 => 1..12i64, 1 => 12..40i64];
    let maybe = || prop::option::of(1..14i64);
    let back = || 0..6i64;
    let time = || prop_oneof![Just(10 * SECOND), Just(20 * SECOND), 1..40 * SECOND, HOUR..20 * HOUR];
    let charge = |amount| Charge { amount, ..Charge::default() };
    let source = prop::sample::select(Source::ALL.to_vec());
    let priority = prop::sample::select(vec![0, 50, 50, 50, 100]);
    // Some are over when they come.
    let end = prop_oneof![20 => time(), 1 => -20 * SECOND..=0i64];
    let most = prop_oneof![4 => 0..30i64, 1 => Just(crate::MAX_AMOUNT)];
    let rollover = prop::option::weighted(0.3, most);
    let grant = (amount(), source, priority, prop::option::weighted(0.6, end), rollover);
    let above = prop::sample::select(vec![Above::Refuse, Above::Cap, Above::Balance, Above::Floor]);
    let shortfall = prop::sample::select(vec![Shortfall::Owe, Shortfall::Clamp]);
    let period = prop::sample::select(vec![Period::Day, Period::Month]);
    let reason = || "random".to_string();
    prop_oneof![
        6 => grant.prop_map(|(amount, source, priority, ends_in, rollover)| {
            What::Grant { amount, source, priority, ends_in, rollover }
        }),
        8 => (amount(), any::<bool>()).prop_map(move |(amount, allow_negative)| {
            let charge = charge(amount);
            What::Plain(Action::Debit { charge, reason: None, metadata: None, allow_negative })
        }),
        5 => (amount(), time()).prop_map(move |(amount, expires_in)| {
            What::Plain(Action::Hold { charge: charge(amount), expires_in, reason: None, metadata: None })
        }),
        2 => (prop::option::of(back()), prop_oneof![4 => amount(), 1 => Just(0)])
            .prop_map(|(back, amount)| What::Freeze { back, amount }),
        4 => (back(), maybe(), above)
            .prop_map(|(back, amount, above)| What::Capture { back, amount, above }),
        2 => back().prop_map(|back| What::Release { back }),
        1 => (back(), time()).prop_map(|(back, expires_in)| What::Extend { back, expires_in }),
        4 => (back(), maybe()).prop_map(|(back, amount)| What::Refund { back, amount }),
        2 => (back(), maybe()).prop_map(|(back, amount)| What::Reinstate { back, amount }),
        2 => (back(), any::<bool>(), prop::option::of(back()), amount(), shortfall)
            .prop_map(|(back, named, frozen, amount, shortfall)| {
                What::ClawBack { back, named, frozen, amount, shortfall }
            }),
        1 => prop_oneof![-12..0i64, 1..12i64].prop_map(move |amount| {
            What::Plain(Action::Adjust { amount, reason: reason() })
        }),
        2 => (amount(), any::<bool>()).prop_map(move |(amount, _)| {
            What::Plain(Action::Transfer { to: Owner::User("other".into()), amount, reason: reason() })
        }),
        1 => (-15..=0i64).prop_map(|floor| What::Plain(Action::SetFloor { floor })),
        1 => (period, prop::option::of(20..80i64)).prop_map(|(period, max)| {
            What::Plain(Action::SetLimit { of: None, period, max })
        }),
        1 => Just(What::Plain(Action::Settle)),
    ]
}

fn newest(entries: &[Entry], kinds: &[Kind], back: i64) -> i64 {
    let known = entries.iter().rev().filter(|entry| kinds.contains(&entry.kind));
    // Too far back is an entry of any kind, or none.
    known.map(|entry| entry.seq).nth(back as usize).unwrap_or(entries.len() as i64 + 1 - back)
}

/// The newest but so many freezes that last; too far back is any hold, or none.
fn freeze(subject: &Subject, back: i64) -> i64 {
    let holds = subject.account.holds.values().rev();
    let open = holds.filter(|hold| hold.status == HoldStatus::Held && hold.is_freeze());
    open.map(|hold| hold.no).nth(back as usize).unwrap_or(subject.account.hold_count + 2 - back).max(1)
}

pub fn action(what: &What, subject: &Subject, now: Millis) -> Action {
    let hold = |back: i64| (subject.account.hold_count - back).max(1);
    let reason = String::from("random");
    match what {
        What::Plain(action) => action.clone(),
        What::Capture { back, amount, above } => {
            Action::Capture { hold: hold(*back), amount: *amount, above: *above }
        }
        What::Release { back } => Action::Release { hold: hold(*back) },
        What::Extend { back, expires_in } => Action::Extend { hold: hold(*back), expires_in: *expires_in },
        What::Refund { back, amount } => {
            let entry = newest(&subject.entries, &[Kind::Debit, Kind::Capture], *back).max(1);
            Action::Refund { entry, amount: *amount, reason }
        }
        What::Reinstate { back, amount } => {
            let entry = newest(&subject.entries, &[Kind::Clawback], *back).max(1);
            Action::Reinstate { entry, amount: *amount, reason, source_ref: None }
        }
        What::Freeze { back, amount } => {
            Action::Freeze { amount: *amount, instead_of: back.map(|back| freeze(subject, back)), reason }
        }
        What::ClawBack { back, named, frozen, amount, shortfall } => {
            let grant = named.then(|| (subject.account.lot_count - back).max(1));
            let (amount, shortfall) = (*amount, *shortfall);
            let frozen = frozen.map(|back| freeze(subject, back));
            Action::ClawBack { amount, frozen, grant, shortfall, reason, source_ref: None }
        }
        What::Grant { amount, source, priority, ends_in, rollover } => Action::Grant(NewGrant {
            amount: *amount,
            source: *source,
            expires_at: ends_in.map(|time| now.plus(time)),
            priority: *priority,
            reason: None,
            metadata: None,
            source_ref: None,
            rollover: *rollover,
        }),
    }
}

/// Applies with everything in memory; what stands in entries is put there when it is asked for.
pub fn apply_in_memory(
    settings: &Settings,
    subject: &mut Subject,
    other: &mut Subject,
    action: &Action,
    now: Millis,
) -> Result<Outcome, Refusal> {
    let target = Target::Account(subject.account.id.clone());
    let command =
        Command { target, action: action.clone(), actor: "test".into(), request_id: None, idempotency: None };
    loop {
        let (account, receiver) = (&mut subject.account, &mut other.account);
        match apply(settings, account, Some(receiver), &command, now) {
            Ok(outcome) => return Ok(outcome),
            Err(Stop::Refused(refusal)) => return Err(refusal),
            Err(Stop::Lacks(Lack::Entry(seq))) => {
                let written = subject.entries.iter().chain(&subject.account.changed.entries);
                let written: Vec<Entry> = written.cloned().collect();
                let back = written.iter().filter(|entry| entry.refund_of == Some(seq));
                let back = back.map(|entry| entry.amount).sum();
                subject.account.originals.insert(seq, (written[seq as usize - 1].clone(), back));
            }
            Err(Stop::Lacks(Lack::Limit(None, period, starts_at))) => {
                let mut model = subject.model.clone();
                model.pass_time(now);
                let used = model.used(settings, period, now.max(subject.account.last_at));
                subject.account.limits.push(Limit { period, max: i64::MAX, starts_at, used });
            }
            Err(Stop::Lacks(lack)) => panic!("{lack:?}, and everything is in memory"),
        }
    }
}

fn plain(refusal: &Refusal) -> No {
    match refusal {
        Refusal::NotFound { .. } | Refusal::UnknownOwner { .. } => No::NotFound,
        Refusal::Insufficient { balance, available, required, .. } => {
            No::Insufficient { balance: *balance, available: *available, required: *required }
        }
        Refusal::Conflict { refundable, .. } => No::Conflict { refundable: *refundable },
        Refusal::LimitReached { period, max, used, .. } => {
            No::Limit { period: *period, max: *max, used: *used }
        }
        Refusal::Invalid { field, .. } => No::Invalid { field },
        Refusal::KeyMismatch { .. } => panic!("{refusal:?}"),
    }
}

/// One step on both; what differs is told.
fn take(
    settings: &Settings,
    world: &mut [Subject; 2],
    step: &Step,
    now: Millis,
) -> Result<bool, TestCaseError> {
    let [first, second] = world;
    let (subject, other) = if step.second { (second, first) } else { (first, second) };
    let mut action = action(&step.what, subject, now);
    if let Action::Transfer { to, .. } = &mut action {
        to.clone_from(&other.account.owner);
    }
    let mut alone = (subject.without_entries(), other.without_entries());
    let expected = subject.model.apply(&mut other.model, settings, &action, now);
    // The machine may not look at what the model has done already.
    let model = std::mem::replace(&mut subject.model, alone.0.model.clone());
    let outcome = apply_in_memory(settings, subject, other, &action, now);
    subject.model = model;
    match (&outcome, &expected) {
        (Ok(_), Ok(())) => {}
        (Err(refusal), Err(no)) => {
            prop_assert_eq!(&plain(refusal), no, "{:?}", action);
            // Nothing but what time does by itself.
            apply_in_memory(settings, &mut alone.0, &mut alone.1, &Action::Settle, now).unwrap();
            let limits = subject.account.limits.clone();
            for (is, time_alone) in [(&*subject, &mut alone.0), (&*other, &mut alone.1)] {
                let mut is = is.account.clone();
                time_alone.account.limits.clone_from(&limits);
                (is.changed.limits, is.limits) = (time_alone.account.changed.limits, limits.clone());
                is.originals.clone_from(&time_alone.account.originals);
                prop_assert_eq!(&is, &time_alone.account, "{:?} was refused", action);
            }
        }
        _ => prop_assert!(false, "{action:?}: {outcome:?} where {expected:?} was expected"),
    }
    for subject in [subject, other] {
        compare(subject)?;
    }
    Ok(expected.is_ok())
}

fn compare(subject: &mut Subject) -> Result<(), TestCaseError> {
    let (account, model) = (&mut subject.account, &subject.model);
    for entry in std::mem::take(&mut account.changed.entries) {
        prop_assert_eq!(entry.hash.clone(), entry.compute_hash());
        let last = subject.entries.last();
        prop_assert_eq!(&entry.prev_hash, last.map_or("", |last| &last.hash));
        prop_assert_eq!(entry.seq, last.map_or(0, |last| last.seq) + 1);
        prop_assert_eq!(entry.balance_after, last.map_or(0, |last| last.balance_after) + entry.amount);
        prop_assert!(last.is_none_or(|last| last.created_at <= entry.created_at));
        let at = subject.entries.len();
        prop_assert!(at < model.entries.len(), "an entry too many: {:?}", entry);
        let expected = &model.entries[at];
        let parts: Vec<(Option<i64>, i64)> = entry.parts.iter().map(|part| (part.lot, part.amount)).collect();
        prop_assert_eq!(entry.amount, parts.iter().map(|(_, amount)| amount).sum::<i64>());
        let gives_back = entry.refund_of.map(|seq| seq as usize - 1);
        let is = super::model::Entry {
            kind: entry.kind,
            amount: entry.amount,
            balance_after: entry.balance_after,
            parts,
            at: entry.created_at,
            gives_back,
        };
        prop_assert_eq!(&is, expected, "entry {}", entry.seq);
        subject.entries.push(entry);
    }
    account.changed = Default::default();
    account.originals.clear();
    prop_assert_eq!(subject.entries.len(), model.entries.len());
    prop_assert_eq!(account.seq as usize, subject.entries.len());
    prop_assert_eq!(&account.hash, subject.entries.last().map_or("", |last| &last.hash));
    let numbers = (account.balance, account.held, account.available(), account.owed);
    prop_assert_eq!(numbers, (model.balance(), model.held(), model.available(), model.debt));
    let sum: i64 = subject.entries.iter().map(|entry| entry.amount).sum();
    let remaining: i64 = account.lots.values().map(|lot| lot.remaining).sum();
    prop_assert_eq!((account.balance, account.balance), (sum, remaining - account.owed));
    prop_assert_eq!(account.carried, model.carried());
    let open = account.holds.values().filter(|hold| hold.status == HoldStatus::Held);
    prop_assert_eq!(account.held, open.map(|hold| hold.amount).sum::<i64>());
    prop_assert_eq!(account.lots.len(), model.lots.len());
    let mut moved: HashMap<Option<i64>, i64> = HashMap::new();
    for part in subject.entries.iter().flat_map(|entry| &entry.parts) {
        *moved.entry(part.lot).or_default() += part.amount;
    }
    for lot in account.lots.values() {
        let expected = &model.lots[lot.no as usize - 1];
        let is = (lot.remaining, lot.held, lot.ended, lot.carried);
        let (left, held) = (expected.left, model.held_of(lot.no));
        prop_assert_eq!(is, (left, held, expected.ended, expected.carried), "lot {}", lot.no);
        let end = (lot.expires_at != NEVER).then_some(lot.expires_at);
        prop_assert_eq!((end, lot.rollover), (expected.end, expected.rollover), "lot {}", lot.no);
        prop_assert_eq!(lot.remaining, moved.get(&Some(lot.no)).copied().unwrap_or(0));
        prop_assert_eq!(lot.is_open(), account.order.contains(&lot.burn_key()));
        prop_assert!(lot.ended || account.next_due <= lot.expires_at);
    }
    for hold in account.holds.values() {
        prop_assert_eq!(hold.status == HoldStatus::Held, model.holds[hold.no as usize - 1].open);
        prop_assert!(hold.status != HoldStatus::Held || account.next_due <= hold.expires_at);
    }
    Ok(())
}

/// No debit or capture leaves less than the floor that applied to it: zero, or the owner's where it was allowed.
fn stays_above_its_floor(
    subject: &Subject,
    step: &Step,
    floor: i64,
    entries: usize,
) -> Result<(), TestCaseError> {
    for entry in &subject.entries[entries..] {
        let allowed = match &step.what {
            What::Plain(Action::Debit { allow_negative, .. }) if entry.kind == Kind::Debit => *allow_negative,
            What::Capture { above, .. } if entry.kind == Kind::Capture => *above == Above::Floor,
            _ => continue,
        };
        let taken_as_debt = entry.parts.iter().any(|part| part.lot.is_none());
        prop_assert!(!taken_as_debt || allowed, "{:?}", entry);
        prop_assert!(!taken_as_debt || entry.balance_after >= floor, "{:?} under {}", entry, floor);
    }
    Ok(())
}

#[test]
fn a_hundred_thousand_random_commands_do_what_the_model_does() {
    let config =
        Config { cases: 1_000, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (commands, accepted) = (Cell::new(0u64), Cell::new(0u64));
    let settings = Settings::default();
    // An hour before a month ends.
    let start = Millis::parse_iso("2026-03-31T23:00:00Z").unwrap();
    let result = runner.run(&steps(), |steps| {
        let mut world = [Subject::new("one"), Subject::new("other")];
        let mut now = start;
        for step in &steps {
            now = now.plus(step.later);
            let at = usize::from(step.second);
            let (floor, entries) = (world[at].account.negative_floor, world[at].entries.len());
            accepted.set(accepted.get() + u64::from(take(&settings, &mut world, step, now)?));
            commands.set(commands.get() + 1);
            stays_above_its_floor(&world[at], step, floor, entries)?;
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(commands.get() >= 100_000, "only {} commands", commands.get());
    assert!(accepted.get() * 3 > commands.get(), "too many were refused to prove much: {}", accepted.get());
}
