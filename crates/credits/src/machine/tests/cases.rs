//! Cases that once went wrong, each on its own.

use crate::account::{Account, HoldStatus, Limit};
use crate::command::{Above, Action, Charge, Command, NewGrant, Period, Refusal, Shortfall, Target};
use crate::entry::{Kind, MAX_AMOUNT, Source};
use crate::machine::{Outcome, Stop, apply};
use crate::owner::Owner;
use crate::settings::Settings;
use kernel::Millis;
use kernel::time::{DAY, HOUR};

const NOON: Millis = Millis(20_000 * DAY + 12 * HOUR);

fn account() -> Account {
    Account::new(Owner::User("ada".into()), "credits".into(), 0)
}

fn with_limit(max: i64) -> Account {
    let mut account = account();
    account.limits.push(Limit { period: Period::Day, max, starts_at: Millis(0), used: 0 });
    account.has_limits = true;
    account
}

fn ask(account: &mut Account, action: Action, now: Millis) -> Result<Outcome, Stop> {
    let target = Target::Account(account.id.clone());
    let command = Command { target, action, actor: "test".into(), request_id: None, idempotency: None };
    let settings = Settings { low_balance: [("credits".to_string(), 10)].into(), ..Settings::default() };
    apply(&settings, account, None, &command, now)
}

fn done(account: &mut Account, action: Action, now: Millis) -> Outcome {
    ask(account, action, now).unwrap()
}

fn grant(amount: i64, expires_at: Option<Millis>) -> Action {
    let (source, priority) = (Source::Paid, 50);
    Action::Grant(NewGrant {
        amount,
        source,
        expires_at,
        priority,
        reason: None,
        metadata: None,
        source_ref: None,
        rollover: None,
    })
}

fn charge(amount: i64) -> Charge {
    Charge { amount, ..Charge::default() }
}

fn debit(amount: i64) -> Action {
    Action::Debit { charge: charge(amount), reason: None, metadata: None, allow_negative: false }
}

fn hold(amount: i64, expires_in: i64) -> Action {
    Action::Hold { charge: charge(amount), expires_in, reason: None, metadata: None }
}

#[test]
fn what_a_hold_of_yesterday_took_counts_today_when_it_is_captured_today() {
    let mut account = with_limit(10);
    done(&mut account, grant(100, None), NOON);
    done(&mut account, hold(8, DAY), NOON);
    let tomorrow = NOON.plus(DAY - HOUR);
    done(&mut account, debit(1), tomorrow);
    let captured =
        done(&mut account, Action::Capture { hold: 1, amount: None, above: Above::Refuse }, tomorrow);
    assert_eq!(account.limits[0].used, 9);
    let seq = captured.entry.unwrap().seq;
    account.originals.insert(seq, (account.changed.entries[seq as usize - 1].clone(), 0));
    done(&mut account, Action::Refund { entry: seq, amount: None, reason: "back".into() }, tomorrow);
    assert_eq!(account.limits[0].used, 1);
}

#[test]
fn a_capture_above_a_hold_of_yesterday_spends_no_more_than_a_day_allows() {
    let capture = |amount| Action::Capture { hold: 1, amount: Some(amount), above: Above::Balance };
    let mut account = with_limit(10);
    done(&mut account, grant(100, None), NOON);
    done(&mut account, hold(8, DAY), NOON);
    let tomorrow = NOON.plus(DAY - HOUR);
    let refused = ask(&mut account, capture(11), tomorrow);
    let Err(Stop::Refused(Refusal::LimitReached { used, max, .. })) = refused else { panic!("{refused:?}") };
    assert_eq!((used, max), (0, 10));
    done(&mut account, capture(10), tomorrow);
    assert_eq!(account.limits[0].used, 10);
}

#[test]
fn a_hold_of_yesterday_that_ends_gives_nothing_back_today() {
    let mut account = with_limit(10);
    done(&mut account, grant(100, None), NOON);
    done(&mut account, hold(8, 20 * HOUR), NOON);
    done(&mut account, debit(9), NOON.plus(19 * HOUR));
    done(&mut account, Action::Settle, NOON.plus(21 * HOUR));
    assert_eq!(account.limits[0].used, 9);
}

#[test]
fn of_two_limits_as_tight_the_longer_one_is_named() {
    for periods in [[Period::Day, Period::Month], [Period::Month, Period::Day]] {
        let mut account = account();
        let limit = |period| Limit { period, max: 5, starts_at: Millis(0), used: 0 };
        account.limits.extend(periods.map(limit));
        done(&mut account, grant(100, None), NOON);
        let refused = ask(&mut account, debit(6), NOON);
        let Err(Stop::Refused(Refusal::LimitReached { period, .. })) = refused else { panic!("{refused:?}") };
        assert_eq!(period, Period::Month);
    }
}

#[test]
fn a_refund_gives_back_what_a_capture_took_last_although_its_hold_took_of_that_grant_first() {
    let mut account = account();
    done(&mut account, grant(5, Some(NOON.plus(HOUR))), NOON);
    done(&mut account, grant(5, None), NOON);
    done(&mut account, hold(3, HOUR / 2), NOON);
    done(&mut account, hold(4, HOUR / 2), NOON);
    done(&mut account, Action::Release { hold: 1 }, NOON);
    // The second hold has 2 of the first grant and 2 of the second; the rest comes from the first again.
    let capture = Action::Capture { hold: 2, amount: Some(6), above: Above::Balance };
    let entry = done(&mut account, capture, NOON).entry.unwrap();
    account.originals.insert(entry.seq, (entry.clone(), 0));
    let refund = Action::Refund { entry: entry.seq, amount: Some(2), reason: "back".into() };
    let back = done(&mut account, refund, NOON).entry.unwrap();
    assert_eq!(back.parts.iter().map(|part| part.lot).collect::<Vec<_>>(), [Some(1)]);
}

#[test]
fn a_balance_that_falls_because_a_grant_ends_is_told_too() {
    let mut account = account();
    done(&mut account, grant(50, Some(NOON.plus(HOUR))), NOON);
    let refused = ask(&mut account, debit(99), NOON.plus(2 * HOUR));
    assert!(matches!(refused, Err(Stop::Refused(Refusal::Insufficient { .. }))));
    let told: Vec<i64> = account.changed.events.iter().map(|event| event.available).collect();
    assert_eq!(told, [0]);
}

#[test]
fn nothing_is_owed_while_grants_are_worth_more_than_the_debt() {
    let mut account = account();
    done(&mut account, Action::SetFloor { floor: -10 }, NOON);
    done(&mut account, grant(10, None), NOON);
    done(&mut account, hold(10, HOUR), NOON);
    let debit = Action::Debit { charge: charge(4), reason: None, metadata: None, allow_negative: true };
    done(&mut account, debit, NOON);
    let balance: serde_json::Value = serde_json::from_str(&account.balance_json()).unwrap();
    assert_eq!(
        (&balance["balance"], &balance["available"], &balance["owed"]),
        (&6.into(), &(-4).into(), &0.into())
    );
}

#[test]
fn no_balance_grows_beyond_what_can_be_counted() {
    let mut account = account();
    done(&mut account, grant(MAX_AMOUNT, None), NOON);
    let refused = ask(&mut account, grant(1, None), NOON);
    assert!(matches!(refused, Err(Stop::Refused(Refusal::Invalid { field: "amount", .. }))), "{refused:?}");
    done(&mut account, debit(MAX_AMOUNT), NOON);
    assert_eq!((account.balance, account.lots[&1].remaining), (0, 0));
}

/// A plan's period of which up to so much is carried over.
fn period(amount: i64, ends: Millis, most: i64) -> Action {
    let Action::Grant(new) = grant(amount, Some(ends)) else { unreachable!() };
    Action::Grant(NewGrant { source: Source::Plan, rollover: Some(most), ..new })
}

fn end_of(periods: i64) -> Millis {
    NOON.plus(periods * 30 * DAY)
}

/// Kind and amount of the newest entries, oldest first.
fn newest(account: &Account, count: usize) -> Vec<(Kind, i64)> {
    let entries = &account.changed.entries;
    entries[entries.len() - count..].iter().map(|entry| (entry.kind, entry.amount)).collect()
}

#[test]
fn what_is_left_of_a_period_is_carried_over_until_enough_is() {
    let mut account = account();
    done(&mut account, period(1_000, end_of(1), 1_500), NOON);
    done(&mut account, debit(300), NOON);
    done(&mut account, period(1_000, end_of(2), 1_500), end_of(1).plus(HOUR));
    assert_eq!((account.balance, account.carried), (1_700, 700));
    let moved = [(Kind::Rollover, -700), (Kind::Rollover, 700), (Kind::Grant, 1_000)];
    assert_eq!(newest(&account, 3), moved);
    // What has an end is spent first.
    done(&mut account, debit(100), end_of(1).plus(2 * HOUR));
    assert_eq!((account.lots[&2].remaining, account.lots[&3].remaining), (700, 900));
    done(&mut account, Action::Settle, end_of(2));
    assert_eq!((account.balance, account.carried), (1_500, 1_500));
    assert_eq!(newest(&account, 3), [(Kind::Rollover, -800), (Kind::Rollover, 800), (Kind::Expiry, -100)]);
    // It has no end of its own.
    done(&mut account, Action::Settle, end_of(50));
    assert_eq!(account.balance, 1_500);
}

#[test]
fn a_renewal_that_is_told_late_ends_like_one_that_came_in_time() {
    // Before the end of the first period, right after it, and when even the second one is over.
    for renewed_at in [end_of(1).minus(HOUR), end_of(1).plus(HOUR), end_of(2).plus(HOUR)] {
        let mut account = account();
        done(&mut account, period(1_000, end_of(1), 1_200), NOON);
        done(&mut account, debit(400), NOON);
        done(&mut account, period(1_000, end_of(2), 1_200), renewed_at);
        done(&mut account, Action::Settle, end_of(3));
        assert_eq!((account.balance, account.carried, account.owed), (1_200, 1_200, 0), "{renewed_at:?}");
        assert!(account.lots.values().all(|lot| lot.ended != lot.carried));
    }
}

#[test]
fn what_a_hold_kept_beyond_the_end_is_carried_over_when_it_comes_free() {
    let mut account = account();
    done(&mut account, period(100, end_of(1), 70), NOON);
    done(&mut account, hold(60, 40 * DAY), NOON);
    done(&mut account, Action::Settle, end_of(1));
    assert_eq!((account.balance, account.available(), account.carried), (100, 40, 40));
    let capture = Action::Capture { hold: 1, amount: Some(10), above: Above::Refuse };
    let entry = done(&mut account, capture, end_of(1).plus(DAY)).entry.unwrap();
    assert_eq!((account.balance, account.available(), account.carried), (70, 70, 70));
    let moved = [(Kind::Capture, -10), (Kind::Rollover, -30), (Kind::Rollover, 30), (Kind::Expiry, -20)];
    assert_eq!(newest(&account, 4), moved);
    // What comes back to a period that is over goes the same way.
    done(&mut account, debit(5), end_of(1).plus(DAY));
    account.originals.insert(entry.seq, (entry.clone(), 0));
    let refund = Action::Refund { entry: entry.seq, amount: None, reason: "back".into() };
    done(&mut account, refund, end_of(1).plus(2 * DAY));
    assert_eq!((account.balance, account.carried), (70, 70));
    let moved = [(Kind::Refund, 10), (Kind::Rollover, -5), (Kind::Rollover, 5), (Kind::Expiry, -5)];
    assert_eq!(newest(&account, 4), moved);
}

#[test]
fn debt_is_paid_from_what_is_carried_over() {
    let mut account = account();
    done(&mut account, Action::SetFloor { floor: -10 }, NOON);
    done(&mut account, period(10, end_of(1), 100), NOON);
    done(&mut account, hold(10, DAY), NOON);
    let negative = Action::Debit { charge: charge(4), reason: None, metadata: None, allow_negative: true };
    done(&mut account, negative, NOON);
    done(&mut account, Action::Settle, end_of(1));
    assert_eq!((account.balance, account.owed, account.carried), (6, 0, 6));
}

fn freeze(amount: i64, instead_of: Option<i64>) -> Action {
    Action::Freeze { amount, instead_of, reason: "disputed".into() }
}

#[test]
fn no_limit_refuses_or_counts_a_freeze() {
    let mut account = with_limit(10);
    done(&mut account, grant(100, None), NOON);
    done(&mut account, debit(8), NOON);
    let frozen = done(&mut account, freeze(500, None), NOON).hold;
    assert_eq!((account.available(), account.held, account.limits[0].used), (0, 92, 8));
    assert_eq!(done(&mut account, freeze(500, frozen), NOON).hold, frozen, "nothing is left to freeze");
    let refused = ask(&mut account, Action::Extend { hold: 1, expires_in: HOUR }, NOON);
    assert!(matches!(refused, Err(Stop::Refused(Refusal::Conflict { .. }))), "{refused:?}");
    assert_eq!(done(&mut account, freeze(0, frozen), NOON).hold, frozen);
    assert_eq!((account.available(), account.held, account.limits[0].used), (92, 0, 8));
    assert_eq!(account.holds[&1].status, HoldStatus::Released);
    done(&mut account, debit(2), NOON);
    // Of an account that has nothing nothing is frozen.
    let mut nothing = super::cases::account();
    assert_eq!(done(&mut nothing, freeze(5, None), NOON), Outcome::default());
}

#[test]
fn what_a_freeze_kept_beyond_its_end_is_clawed_back_before_anything_else() {
    let mut account = account();
    done(&mut account, grant(100, Some(NOON.plus(HOUR))), NOON);
    let frozen = done(&mut account, freeze(100, None), NOON).hold;
    done(&mut account, grant(100, None), NOON.plus(2 * HOUR));
    let claw_back = |amount, frozen| Action::ClawBack {
        amount,
        frozen,
        grant: Some(1),
        shortfall: Shortfall::Owe,
        reason: "lost".into(),
        source_ref: None,
    };
    // A part of it is decided; the rest stays frozen.
    let rest = done(&mut account, claw_back(30, frozen), NOON.plus(3 * HOUR)).hold;
    assert_eq!((account.balance, account.held, account.available()), (170, 70, 100));
    assert_eq!((account.holds[&1].status, account.holds[&1].captured), (HoldStatus::Captured, 30));
    let done = done(&mut account, claw_back(80, rest), NOON.plus(4 * HOUR));
    assert_eq!((account.balance, account.held, account.owed, done.hold), (90, 0, 0, None));
    assert_eq!(account.lots[&2].remaining, 90);
    assert_eq!(newest(&account, 1), [(Kind::Clawback, -80)]);
}
