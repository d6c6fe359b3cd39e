//! Cases that once went wrong, each on its own.

use crate::account::{Account, Limit};
use crate::command::{Above, Action, Charge, Command, NewGrant, Period, Refusal, Target};
use crate::entry::{MAX_AMOUNT, Source};
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
    })
}

fn charge(amount: i64) -> Charge {
    Charge { amount, ..Charge::default() }
}

fn debit(amount: i64) -> Action {
    Action::Debit { charge: charge(amount), reason: None, metadata: None, allow_negative: false }
}

fn hold(amount: i64, expires_in: i64) -> Action {
    Action::Hold { charge: charge(amount), expires_in: Some(expires_in), reason: None, metadata: None }
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
