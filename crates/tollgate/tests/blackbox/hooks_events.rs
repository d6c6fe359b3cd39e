//! What is told, and what of it: users, sessions, credits and money, and the mails about credits.

use std::time::Duration;

use serde_json::{Value, json};
use till::DisputeStep;

use crate::harness::credits::{Backend, DAY, in_milliseconds, make_user, post};
use crate::harness::receiver::{Receiver, all_delivered};
use crate::harness::shop::Shop;
use crate::harness::{Browser, Engine, PASSWORD, Server, until};
use crate::on_both_engines;

const PATIENCE: Duration = Duration::from_secs(30);
const REACHABLE: &str = "[hooks]\nallow_private = true\n";

/// The data of all events of a kind, in the order of their coming.
fn all_of(receiver: &Receiver, kind: &str) -> Vec<Value> {
    let received = receiver.received();
    received.iter().filter(|it| it.kind() == kind).map(|it| it.json()["data"].clone()).collect()
}

fn users_and_their_sessions_are_told_of(engine: Engine) {
    let server = Server::with(engine, &format!("{REACHABLE}[accounts]\ndelete_user = true\n"));
    let receiver = Receiver::of(&server);
    let mut ada = Browser::new(&server);
    let id = ada.sign_up("ada@example.com")["user"]["id"].clone();
    let user = id.as_str().expect("an id").to_owned();
    assert_eq!(
        receiver.told("user.created"),
        json!({"user_id": id, "email": "ada@example.com", "email_verified": false, "name": "Test Person", "role": "user"})
    );
    let sessions = |server: &Server| {
        let rows = server.database.rows("SELECT id FROM sessions ORDER BY created_at, id");
        rows.into_iter().flatten().flatten().collect::<Vec<_>>()
    };
    let mut phone = Browser::new(&server);
    phone.try_sign_in("ada@example.com", PASSWORD).expect(200);
    let before = sessions(&server);
    ada.post("/api/auth/revoke-other-sessions", json!({})).expect(200);
    let kept = sessions(&server);
    let ended: Vec<&String> = before.iter().filter(|id| !kept.contains(id)).collect();
    assert_eq!(
        receiver.told("session.revoked"),
        json!({"user_id": id, "session_ids": ended, "reason": "revoked"})
    );
    // Nothing is left to revoke, so nothing is told.
    ada.post("/api/auth/revoke-other-sessions", json!({})).expect(200);
    let change = json!({"currentPassword": PASSWORD, "newPassword": "another good password", "revokeOtherSessions": true});
    ada.post("/api/auth/change-password", change).expect(200);
    server.command(&["user", "ban", &user]).expect_done();
    server.command(&["user", "delete", &user, "--yes"]).expect_done();
    assert_eq!(receiver.told("user.deleted"), json!({ "user_id": id }));
    all_delivered(&server);
    let mut reasons: Vec<Value> =
        all_of(&receiver, "session.revoked").iter().map(|it| it["reason"].clone()).collect();
    reasons.sort_by_key(Value::to_string);
    assert_eq!(reasons, ["banned", "password_changed", "revoked"]);
    // What named the person went with the account.
    assert!(!server.database.dump().contains("ada@example.com"));
    // A user whom an operator makes is one, too.
    server.command(&["user", "create", "bob@example.com"]).expect_done();
    until(PATIENCE, "bob", || {
        all_of(&receiver, "user.created").iter().any(|it| it["email"] == "bob@example.com").then_some(())
    });
}
on_both_engines!(users_and_their_sessions_are_told_of);

fn money_and_what_it_was_worth_are_told_of_once(engine: Engine) {
    let shop = Shop::with(engine, &format!("{REACHABLE}[credits]\nlow_balance = 100\n"));
    let receiver = Receiver::of(&shop.server);
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    let id = json!(ada.id);
    let bought = receiver.told("purchase.completed");
    assert_eq!(bought["user_id"], id);
    for (member, value) in [
        ("purchase_id", json!(format!("cs:{session}"))),
        ("item", json!("small")),
        ("reason", json!("purchase")),
        ("credits", json!(500)),
        ("unit", json!("credits")),
        ("amount", json!(1_000)),
        ("currency", json!("usd")),
        ("expires_at", json!(null)),
    ] {
        assert_eq!(bought[member], value, "{member} of {bought}");
    }
    let granted = receiver.told("credits.granted");
    assert_eq!(
        (&granted["user_id"], &granted["amount"], &granted["source"]),
        (&id, &json!(500), &json!("paid"))
    );
    assert_eq!((&granted["balance"], &granted["source_ref"]), (&json!(500), &bought["purchase_id"]));
    assert!(granted["entry_id"].is_string() && granted["grant_id"].is_string(), "{granted}");
    for event in shop.till.events_of("checkout.session.completed") {
        shop.till.deliver(&event, 5).expect("copies");
    }
    shop.settled();

    shop.till.refund(&session, Some(400)).expect("a part goes back");
    let refunded = receiver.told("purchase.refunded");
    let figures =
        ["amount", "amount_refunded", "credits", "credits_taken_back"].map(|name| refunded[name].clone());
    assert_eq!(figures, [1_000, 400, 500, 200].map(Value::from), "{refunded}");
    let taken = receiver.told("credits.clawed_back");
    assert_eq!((&taken["amount"], &taken["balance"], &taken["user_id"]), (&json!(200), &json!(300), &id));

    ada.spend(250);
    let low = receiver.told("credits.low");
    assert_eq!(low, json!({"user_id": id, "unit": "credits", "threshold": 100, "available": 50}));

    let dispute = shop.till.dispute(&session, None).expect("the rest is disputed");
    let opened = receiver.told("dispute.opened");
    assert_eq!((&opened["dispute_id"], &opened["user_id"]), (&dispute["id"], &id));
    assert_eq!((&opened["item"], &opened["amount"]), (&json!("small"), &json!(600)));
    assert!(opened.get("won").is_none(), "{opened}");
    shop.till.step_dispute(dispute["id"].as_str().expect("an id"), DisputeStep::Win).expect("it is won");
    let closed = receiver.told("dispute.closed");
    assert_eq!((&closed["dispute_id"], &closed["won"]), (&dispute["id"], &json!(true)));

    let mut bob = shop.buyer();
    let subscription = bob.subscribe("basic");
    shop.settled();
    let state = until(PATIENCE, "an active subscription", || {
        all_of(&receiver, "subscription.changed").into_iter().find(|it| it["status"] == "active")
    });
    assert_eq!((&state["subscription_id"], &state["plan"]), (&json!(subscription), &json!("basic")));
    assert_eq!((&state["user_id"], &state["cancel_at_period_end"]), (&json!(bob.id), &json!(false)));
    let period = until(PATIENCE, "its first period", || {
        all_of(&receiver, "purchase.completed").into_iter().find(|it| it["item"] == "basic")
    });
    assert_eq!((&period["reason"], &period["credits"]), (&json!("period"), &json!(1_000)));
    assert!(period["expires_at"].is_string(), "{period}");

    until(PATIENCE, "bob's grant", || (all_of(&receiver, "credits.granted").len() == 2).then_some(()));
    all_delivered(&shop.server);
    for (kind, count) in [
        ("purchase.completed", 2),
        ("credits.granted", 2),
        ("purchase.refunded", 1),
        ("dispute.opened", 1),
        ("dispute.closed", 1),
    ] {
        assert_eq!(all_of(&receiver, kind).len(), count, "{kind}");
    }
    receiver.received().iter().for_each(|it| receiver.expect_signed(it));
    shop.expect_sound();
}
on_both_engines!(money_and_what_it_was_worth_are_told_of_once);

/// Whoever moves credits: a backend, an operator, a sign-up.
fn every_grant_is_told_of_and_none_from_before(engine: Engine) {
    let server = Server::with(engine, &format!("{REACHABLE}[credits]\nsignup_grant = 7\n"));
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 1);
    let receiver = Receiver::for_events(&server, &["credits.granted"]);
    let body = json!({"user_id": user, "amount": 2, "source": "promo", "reason": "hello", "expires_at": in_milliseconds(30 * DAY)});
    let once = backend.post("grants", "a-key", &body).expect(201).json();
    backend.post("grants", "a-key", &body).expect(201);
    post(&mut backend, "debits", json!({"user_id": user, "amount": 1})).expect(201);
    server.command(&["credits", "grant", &user, "3", "--reason", "by hand"]).expect_done();
    Browser::new(&server).sign_up("ada@example.com");
    receiver.wait_for(3);
    all_delivered(&server);
    let told = all_of(&receiver, "credits.granted");
    let mut amounts: Vec<i64> = told.iter().filter_map(|it| it["amount"].as_i64()).collect();
    amounts.sort_unstable();
    assert_eq!(amounts, [2, 3, 7], "{told:?}");
    let first = told.iter().find(|it| it["amount"] == 2).expect("it was told");
    assert_eq!((&first["entry_id"], &first["grant_id"]), (&once["entry"]["id"], &once["grant"]["id"]));
    assert_eq!((&first["expires_at"], &first["reason"]), (&body["expires_at"], &json!("hello")));
}
on_both_engines!(every_grant_is_told_of_and_none_from_before);

// ---- mails about credits ----

#[track_caller]
fn mailed(server: &Server, user: &str) -> crate::harness::mail::Mail {
    server.mail.take(&format!("{user}@example.com"), PATIENCE)
}

fn a_low_balance_is_mailed_once_for_each_crossing(engine: Engine) {
    let server = Server::with(engine, "[credits]\nlow_balance = 10\nbuy_url = \"/pricing\"\n");
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 20);
    backend.debit(&user, 13).expect(201);
    let mail = mailed(&server, &user);
    assert!(mail.text().contains("you have 7 credits left"), "{}", mail.text());
    assert_eq!(mail.link(), format!("{}/pricing", server.base_url));
    backend.debit(&user, 2).expect(201);
    backend.grant(&user, 20);
    backend.debit(&user, 22).expect(201);
    let mail = mailed(&server, &user);
    assert!(mail.text().contains("you have 3 credits left"), "{}", mail.text());
    backend.grant(&user, 20);
    backend.hold(&user, 15);
    let mail = mailed(&server, &user);
    assert!(mail.text().contains("you have 8 credits left"), "{}", mail.text());
    assert_eq!(server.mail.count(&format!("{user}@example.com")), 0);
}
on_both_engines!(a_low_balance_is_mailed_once_for_each_crossing);

fn credits_that_end_soon_are_mailed_once_for_each_grant(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let [user, other, subscriber, idle] = std::array::from_fn(|_| make_user(&server));
    let soon = in_milliseconds(2 * DAY);
    backend.grant_with(&user, 20, json!({"expires_at": soon}));
    backend.grant_with(&user, 20, json!({"expires_at": in_milliseconds(9 * DAY)}));
    backend.grant_with(&subscriber, 20, json!({"expires_at": soon, "source": "plan"}));
    backend.grant_with(&idle, 20, json!({"expires_at": soon}));
    backend.debit(&idle, 20).expect(201);
    backend.debit(&user, 5).expect(201);
    // They were given long ago.
    server.database.shift("credit_lots", "created_at", -20 * DAY, "TRUE");
    let mail = mailed(&server, &user);
    assert!(mail.text().contains("\n15 of your credits"), "{}", mail.text());
    assert!(mail.text().contains(&soon[..10]) && mail.subject().starts_with("15 credits"), "{mail:?}");
    assert_eq!(mail.link(), format!("{}/billing", server.base_url));
    // A later round tells somebody else, and nobody twice.
    backend.grant_with(&other, 4, json!({"expires_at": soon}));
    server.database.shift("credit_lots", "created_at", -20 * DAY, "amount = 4");
    mailed(&server, &other);
    for user in [&user, &subscriber, &idle] {
        assert_eq!(server.mail.count(&format!("{user}@example.com")), 0, "{user}");
    }
}
on_both_engines!(credits_that_end_soon_are_mailed_once_for_each_grant);

fn mails_about_credits_can_be_switched_off(engine: Engine) {
    let server = Server::with(engine, "[credits]\nlow_balance = 10\n[mail]\ncredit_notices = false\n");
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 20);
    backend.debit(&user, 13).expect(201);
    until(PATIENCE, "the crossing is noticed", || {
        let told = "SELECT COUNT(*) FROM credit_events WHERE told_at IS NOT NULL";
        (server.database.integer(told) == 1).then_some(())
    });
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM mails"), 0);
}
on_both_engines!(mails_about_credits_can_be_switched_off);
