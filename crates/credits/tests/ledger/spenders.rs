//! Limits of keys and members on what one owner has.

use crate::world::{World, body, charge, grant, must, on_every_store};
use credits::{
    Above, Action, Command, Error, Ledger, Owner, Period, Refusal, Spender, SpentBy, Target, parse_item,
};
use kernel::time::DAY;
use serde_json::Value;

fn by(key: Option<&str>, member: Option<&str>) -> Option<Spender> {
    Spender::of(key.map(str::to_owned), member.map(str::to_owned))
}

fn command(action: Action) -> Command {
    let target = Target::Owner { owner: Owner::Organization("acme".into()), unit: "credits".into() };
    Command { target, action, actor: "key:test".into(), request_id: None, idempotency: None }
}

fn debit(amount: i64, spender: Option<Spender>) -> Command {
    let charge = credits::Charge { spender, ..charge(amount) };
    command(Action::Debit { charge, reason: None, metadata: None, allow_negative: false })
}

fn hold(amount: i64, spender: Option<Spender>) -> Command {
    let charge = credits::Charge { spender, ..charge(amount) };
    command(Action::Hold { charge, expires_in: 60_000, reason: None, metadata: None })
}

async fn limit(ledger: &Ledger, of: Option<SpentBy>, period: Period, max: Option<i64>) -> Value {
    body(&must(ledger, command(Action::SetLimit { of, period, max })).await)["limit"].clone()
}

/// Scope, id, maximum and what was used of the limit that refused.
async fn refused(ledger: &Ledger, command: Command) -> (&'static str, String, i64, i64) {
    match ledger.submit(command).await {
        Err(Error::Refused(Refusal::LimitReached { scope, owner_id, max, used, .. })) => {
            (scope, owner_id, max, used)
        }
        other => panic!("{other:?}"),
    }
}

async fn entry(ledger: &Ledger, command: Command) -> i64 {
    let answer = must(ledger, command).await;
    let id = body(&answer)["entry"]["id"].as_str().unwrap().to_owned();
    parse_item(&id, credits::Item::Entry).unwrap().1
}

fn member(id: &str) -> Option<SpentBy> {
    Some(SpentBy::Member(id.into()))
}

fn key(id: &str) -> Option<SpentBy> {
    Some(SpentBy::Key(id.into()))
}

/// A wallet of 1,000 with a cap of 80 a day, each member's is 50.
async fn company(world: &World) -> Ledger {
    let ledger = world.ledger();
    must(&ledger, command(grant(1_000))).await;
    limit(&ledger, None, Period::Day, Some(80)).await;
    for id in ["ada", "bob"] {
        limit(&ledger, member(id), Period::Day, Some(50)).await;
    }
    ledger
}

#[test]
fn the_tightest_of_member_and_organization_refuses_and_is_named() {
    on_every_store(|world| async move {
        let ledger = company(&world).await;
        must(&ledger, debit(50, by(None, Some("ada")))).await;
        let over = refused(&ledger, debit(1, by(None, Some("ada")))).await;
        assert_eq!(over, ("member", "ada".into(), 50, 50));
        let over = refused(&ledger, debit(50, by(None, Some("bob")))).await;
        assert_eq!(over, ("organization", "acme".into(), 80, 50));
        must(&ledger, debit(30, by(None, Some("bob")))).await;
        // Whoever has no limit still has the organization's.
        let over = refused(&ledger, debit(1, by(None, Some("eve")))).await;
        assert_eq!(over, ("organization", "acme".into(), 80, 80));
        world.assert_whole().await;
    });
}

#[test]
fn what_a_key_spends_counts_for_its_user_and_comes_back_to_both() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        must(&ledger, command(grant(1_000))).await;
        limit(&ledger, key("k1"), Period::Month, Some(40)).await;
        limit(&ledger, member("ada"), Period::Day, Some(60)).await;
        let (both, ada) = (|| by(Some("k1"), Some("ada")), || by(None, Some("ada")));
        let first = entry(&ledger, debit(30, both())).await;
        let over = refused(&ledger, debit(11, both())).await;
        assert_eq!(over, ("key", "k1".into(), 40, 30));
        must(&ledger, debit(30, ada())).await;
        let over = refused(&ledger, debit(1, both())).await;
        assert_eq!(over, ("member", "ada".into(), 60, 60));
        let refund = Action::Refund { entry: first, amount: Some(20), reason: "broken".into() };
        let answer = must(&ledger, command(refund)).await;
        assert_eq!(body(&answer)["entry"]["source_ref"], "key:k1 user:ada");
        must(&ledger, debit(20, both())).await;
        let over = refused(&ledger, debit(11, by(Some("k1"), Some("bob")))).await;
        assert_eq!(over, ("key", "k1".into(), 40, 30));
        must(&ledger, debit(500, by(Some("k2"), Some("bob")))).await;
        world.assert_whole().await;
    });
}

#[test]
fn holds_count_when_they_are_made_and_what_is_not_captured_comes_back() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        must(&ledger, command(grant(1_000))).await;
        limit(&ledger, key("k"), Period::Day, Some(100)).await;
        let held = |answer: &credits::Answer| {
            let body = body(answer);
            parse_item(body["hold"]["id"].as_str().unwrap(), credits::Item::Hold).unwrap().1
        };
        let spender = || by(Some("k"), None);
        let first = held(&must(&ledger, hold(60, spender())).await);
        let second = held(&must(&ledger, hold(40, spender())).await);
        assert_eq!(refused(&ledger, hold(1, spender())).await.3, 100);
        // Whoever captures, it was the key that spent.
        let capture = |hold, amount, above| command(Action::Capture { hold, amount: Some(amount), above });
        let captured = entry(&ledger, capture(first, 10, Above::Refuse)).await;
        must(&ledger, debit(50, spender())).await;
        assert_eq!(refused(&ledger, debit(1, spender())).await.3, 100);
        assert_eq!(
            refused(&ledger, capture(second, 41, Above::Balance)).await,
            ("key", "k".into(), 100, 100)
        );
        must(&ledger, command(Action::Release { hold: second })).await;
        must(&ledger, debit(40, spender())).await;
        must(&ledger, command(Action::Refund { entry: captured, amount: None, reason: "r".into() })).await;
        must(&ledger, hold(10, spender())).await;
        assert_eq!(refused(&ledger, debit(1, spender())).await.3, 100);
        // Its end gives it back, and the next day all.
        world.clock.forward(60_001);
        must(&ledger, debit(10, spender())).await;
        assert_eq!(refused(&ledger, debit(1, spender())).await.3, 100);
        world.clock.forward(DAY);
        must(&ledger, debit(100, spender())).await;
        world.assert_whole().await;
    });
}

#[test]
fn a_limit_that_is_new_knows_what_was_spent_and_one_that_is_gone_refuses_nothing() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        must(&ledger, command(grant(1_000))).await;
        let spender = || by(Some("k"), Some("ada"));
        let first = entry(&ledger, debit(30, spender())).await;
        must(&ledger, debit(7, by(None, Some("ada")))).await;
        must(&ledger, debit(100, None)).await;
        must(&ledger, hold(5, spender())).await;
        must(&ledger, command(Action::Refund { entry: first, amount: Some(10), reason: "r".into() })).await;
        for (of, used) in [(key("k"), 25), (member("ada"), 32), (key("other"), 0), (None, 132)] {
            let set = limit(&ledger, of.clone(), Period::Day, Some(1_000)).await;
            assert_eq!(set["used"], used, "{set}");
        }
        limit(&ledger, key("k"), Period::Day, Some(25)).await;
        refused(&ledger, debit(1, spender())).await;
        // Another node knows it, and so does a ledger that begins anew.
        refused(&world.other_node(), debit(1, spender())).await;
        assert_eq!(limit(&ledger, key("k"), Period::Day, None).await, Value::Null);
        must(&world.other_node(), debit(1, spender())).await;
        must(&ledger, debit(1, spender())).await;
        world.assert_whole().await;
    });
}

#[test]
fn two_nodes_spend_a_keys_limit_to_its_end_and_no_further() {
    on_every_store(|world| async move {
        let (one, other) = (world.ledger(), world.other_node());
        must(&one, command(grant(1_000))).await;
        limit(&one, key("k"), Period::Day, Some(50)).await;
        let mut tasks = Vec::new();
        for at in 0..120 {
            let ledger = if at % 2 == 0 { one.clone() } else { other.clone() };
            let spend = debit(1, by(Some("k"), Some("ada")));
            tasks.push(tokio::spawn(async move { ledger.submit(spend).await }));
        }
        let mut done = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => done += 1,
                Err(Error::Refused(Refusal::LimitReached { scope: "key", .. })) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(done, 50);
        world.assert_whole().await;
    });
}
