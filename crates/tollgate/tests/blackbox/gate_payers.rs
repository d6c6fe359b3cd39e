//! Organizations that pay: for members who name them, for members in whose session they are active, for their own keys; up
//! to what the organization, each member and each key may spend.

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, counted, figures, fresh_key, items, ledger_verifies, number, refused, text,
};
use crate::harness::database::quoted;
use crate::harness::gate::Guard;
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const FREE: &str = "[api_keys]\nrate_limit_max = 0\n";

struct Member {
    browser: Browser,
    id: String,
}

fn signed_up(server: &Server, email: &str) -> Member {
    let mut browser = Browser::new(server);
    let id = text(&browser.sign_up(email)["user"]["id"]);
    Member { browser, id }
}

/// An organization of Ada's, with metadata.
fn found(ada: &mut Member, slug: &str, metadata: Value) -> String {
    let body = json!({"name": slug, "slug": slug, "metadata": metadata});
    text(&ada.browser.post("/api/auth/organization/create", body).expect(200).json()["id"])
}

fn join(server: &Server, organization: &str, member: &Member) {
    let values = [organization, &member.id].map(quoted).join(", ");
    server.database.execute(&format!(
        "INSERT INTO members (id, organization_id, user_id, role, created_at) \
         VALUES ({}, {values}, 'member', 1)",
        quoted(&format!("m-{}", member.id))
    ));
}

fn grant(backend: &mut Backend, organization: &str, amount: i64) {
    let body = json!({"organization_id": organization, "amount": amount, "source": "paid", "reason": "test"});
    backend.post("grants", &fresh_key(), &body).expect(201);
}

fn spend(guard: &mut Guard, member: &Member, organization: &str, amount: i64) -> Response {
    let body = json!({"charge": {"amount": amount}, "payer": {"organization_id": organization}});
    guard.ask_under(&member.browser, &fresh_key(), &body)
}

fn balance(backend: &mut Backend, organization: &str) -> Value {
    backend.get(&format!("balance?organization_id={organization}")).expect(200).json()
}

fn the_credits_door_knows_organizations(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let acme = found(&mut ada, "acme", json!({}));
    grant(&mut backend, &acme, 100);
    backend.grant(&ada.id, 50);
    let owned = |more: Value| crate::harness::credits::merged(json!({"organization_id": acme}), more);
    let entry = backend.post("debits", &fresh_key(), &owned(json!({"amount": 10}))).expect(201).json();
    assert_eq!(
        (&entry["entry"]["organization_id"], &entry["entry"]["user_id"]),
        (&json!(acme), &Value::Null)
    );
    let hold = backend
        .post("holds", &fresh_key(), &owned(json!({"amount": 5, "expires_in": 60})))
        .expect(201)
        .json();
    let capture = format!("holds/{}/capture", text(&hold["hold"]["id"]));
    backend.post(&capture, &fresh_key(), &json!({})).expect(200);
    let transfer = json!({
        "from": {"user_id": ada.id}, "to": {"organization_id": acme}, "amount": 20, "reason": "pooled",
    });
    backend.post("transfers", &fresh_key(), &transfer).expect(201);
    assert_eq!(figures(&balance(&mut backend, &acme)), [105, 0, 105, 0]);
    assert_eq!(figures(&backend.balance(&ada.id)), [30, 0, 30, 0]);
    let page = backend.get(&format!("entries?organization_id={acme}")).expect(200).json();
    assert_eq!(items(&page).len(), 4);
    let absent = json!({"organization_id": "absent", "amount": 1});
    let refusal = refused(&backend.post("debits", &fresh_key(), &absent), 404, "not_found");
    assert_eq!(refusal["field"], "organization_id");
    backend.put("accounts", &owned(json!({"negative_floor": -5}))).expect(200);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(the_credits_door_knows_organizations);

fn an_organization_pays_for_its_members_and_for_nobody_else(engine: Engine) {
    let server = Server::with(engine, FREE);
    let mut guard = Guard::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let (bob, eve) = (signed_up(&server, "bob@example.com"), signed_up(&server, "eve@example.com"));
    let acme = found(&mut ada, "acme", json!({}));
    join(&server, &acme, &bob);
    grant(&mut guard.backend, &acme, 100);
    let paid = spend(&mut guard, &bob, &acme, 30).expect(200).json();
    assert_eq!((&paid["subject"]["id"], number(&paid["charge"]["balance"])), (&json!(bob.id), 70));
    let page = guard.backend.get(&format!("entries?organization_id={acme}")).expect(200).json();
    let entry = items(&page)[0].clone();
    assert_eq!(
        (text(&entry["actor"]), text(&entry["source_ref"])),
        (format!("user:{0}", bob.id), format!("user:{0}", bob.id))
    );
    for body in [json!({}), json!({"charge": {"amount": 1}})] {
        let body = crate::harness::credits::merged(body, json!({"payer": {"organization_id": acme}}));
        refused(&guard.ask_under(&eve.browser, &fresh_key(), &body), 403, "forbidden");
    }
    refused(&spend(&mut guard, &bob, "absent", 1), 403, "forbidden");
    refused(&spend(&mut guard, &bob, &acme, 71), 402, "insufficient_credits");
    // Whoever leaves spends no more.
    server.database.execute(&format!("DELETE FROM members WHERE user_id = {}", quoted(&bob.id)));
    refused(&spend(&mut guard, &bob, &acme, 1), 403, "forbidden");
    books_balance(&server.database);
}
on_both_engines!(an_organization_pays_for_its_members_and_for_nobody_else);

fn the_active_organization_pays_by_default_if_it_says_so(engine: Engine) {
    let server = Server::with(engine, FREE);
    let mut guard = Guard::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let silent = found(&mut ada, "silent", json!({}));
    let pays = found(&mut ada, "pays", json!({"pays": true}));
    guard.backend.grant(&ada.id, 100);
    grant(&mut guard.backend, &silent, 100);
    grant(&mut guard.backend, &pays, 200);
    let charge = json!({"charge": {"amount": 1}});
    let activate = |ada: &mut Member, id: Value| {
        ada.browser.post("/api/auth/organization/set-active", json!({"organizationId": id})).expect(200);
    };
    let mut charged = |ada: &Member, key: &str| {
        let answer = guard.ask_under(&ada.browser, key, &charge).expect(200).json();
        (number(&answer["charge"]["balance"]), answer["charge"]["replayed"] == true)
    };
    // The newest is the active one.
    assert_eq!(charged(&ada, "first"), (199, false));
    activate(&mut ada, json!(silent));
    // The key is the user's, whoever pays by now: the first payer stands.
    assert_eq!(charged(&ada, "first"), (199, true));
    assert_eq!(charged(&ada, "second"), (99, false));
    activate(&mut ada, Value::Null);
    assert_eq!(charged(&ada, "third"), (98, false));
    activate(&mut ada, json!(pays));
    assert_eq!(charged(&ada, "fourth"), (198, false));
    // Who names a payer means it.
    let named = json!({"charge": {"amount": 1}, "payer": {"user_id": ada.id}});
    let answer = guard.ask_under(&ada.browser, &fresh_key(), &named).expect(200).json();
    assert_eq!(number(&answer["charge"]["balance"]), 97);
    let other = json!({"charge": {"amount": 1}, "payer": {"organization_id": pays}});
    let mismatch = guard.ask_under(&ada.browser, "first", &other);
    refused(&mismatch, 409, "idempotency_mismatch");
    // A proxy is told what there is to spend.
    let forward = Request::get("/api/gate/forward")
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Uri", "/")
        .header("X-Forwarded-Host", "app.example")
        .header("Cookie", &ada.browser.cookie_header("/"));
    assert_eq!(guard.backend.send(forward).expect(200).header("X-Tollgate-Balance"), Some("198"));
    books_balance(&server.database);
}
on_both_engines!(the_active_organization_pays_by_default_if_it_says_so);

/// Two members with 50 a day each, a pooled wallet with 80 a day.
fn the_second_member_stops_at_what_the_organization_has_left(engine: Engine) {
    let server = Server::with(engine, FREE);
    let mut guard = Guard::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let (bob, eve) = (signed_up(&server, "bob@example.com"), signed_up(&server, "eve@example.com"));
    let acme = found(&mut ada, "acme", json!({}));
    join(&server, &acme, &bob);
    grant(&mut guard.backend, &acme, 1_000);
    let limit = |more: Value| {
        let body = json!({"organization_id": acme, "window": "day"});
        crate::harness::credits::merged(body, more)
    };
    guard.backend.put("limits", &limit(json!({"max": 80}))).expect(200);
    for member in [&ada.id, &bob.id] {
        let set =
            guard.backend.put("limits", &limit(json!({"max": 50, "member_user_id": member}))).expect(200);
        assert_eq!(set.json()["limit"]["scope"], "member");
    }
    let stranger = limit(json!({"max": 50, "member_user_id": eve.id}));
    assert_eq!(refused(&guard.backend.put("limits", &stranger), 404, "not_found")["field"], "member_user_id");
    spend(&mut guard, &ada, &acme, 50).expect(200);
    let over = refused(&spend(&mut guard, &ada, &acme, 1), 429, "limit_reached");
    assert_eq!(
        over["limit"],
        json!({"scope": "member", "id": ada.id, "window": "day", "max": 50, "used": 50})
    );
    let over = refused(&spend(&mut guard, &bob, &acme, 50), 429, "limit_reached");
    assert_eq!(
        over["limit"],
        json!({"scope": "organization", "id": acme, "window": "day", "max": 80, "used": 50})
    );
    let answers = in_parallel(50, |_| spend(&mut guard.another(), &bob, &acme, 1));
    assert_eq!(counted(answers.iter().map(|answer| answer.status)), [(200, 30), (429, 20)].into());
    assert_eq!(figures(&balance(&mut guard.backend, &acme)), [920, 0, 920, 0]);
    let listed = guard.backend.get(&format!("limits?organization_id={acme}")).expect(200).json();
    let used: Vec<i64> = items(&listed).iter().map(|limit| number(&limit["used"])).collect();
    assert_eq!((used.len(), used.iter().sum::<i64>(), used[0]), (3, 160, 80));
    books_balance(&server.database);
}
on_both_engines!(the_second_member_stops_at_what_the_organization_has_left);

fn an_organizations_key_spends_what_is_the_organizations(engine: Engine) {
    let server = Server::with(engine, FREE);
    let mut guard = Guard::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let acme = found(&mut ada, "acme", json!({}));
    let other = found(&mut ada, "other", json!({}));
    grant(&mut guard.backend, &acme, 100);
    let body = json!({"configId": "organization", "organizationId": acme});
    let robot = ada.browser.post("/api/auth/api-key/create", body).expect(200).json();
    let own = ada.browser.post("/api/auth/api-key/create", json!({})).expect(200).json();
    let ask = |guard: &mut Guard, key: &Value, body: Value| {
        let request = Request::post("/api/gate/authorize", &body);
        let request = request.header("X-Tollgate-Token", key["key"].as_str().expect("a key"));
        guard.backend.send(request.header("Idempotency-Key", &fresh_key()))
    };
    let paid = ask(&mut guard, &robot, json!({"charge": {"amount": 10}})).expect(200).json();
    assert_eq!((&paid["subject"]["id"], &paid["user"]), (&robot["id"], &Value::Null));
    assert_eq!(number(&paid["charge"]["balance"]), 90);
    refused(&ask(&mut guard, &robot, json!({"user_id": ada.id})), 403, "user_mismatch");
    refused(&ask(&mut guard, &robot, json!({"role": "user"})), 403, "forbidden");
    for payer in [json!({"organization_id": other}), json!({"user_id": ada.id})] {
        refused(&ask(&mut guard, &robot, json!({"payer": payer})), 403, "forbidden");
    }
    // A member's own key spends the organization's when it is asked to, within the member's limit and its own.
    let limit = json!({"organization_id": acme, "window": "day", "max": 7, "member_user_id": ada.id});
    guard.backend.put("limits", &limit).expect(200);
    let by_key = |amount: i64| json!({"charge": {"amount": amount}, "payer": {"organization_id": acme}});
    ask(&mut guard, &own, by_key(5)).expect(200);
    let over = refused(&ask(&mut guard, &own, by_key(3)), 429, "limit_reached");
    assert_eq!((&over["limit"]["scope"], &over["limit"]["used"]), (&json!("member"), &json!(5)));
    spend(&mut guard, &ada, &acme, 2).expect(200);
    let limit = json!({"organization_id": acme, "window": "day", "max": 12, "key_id": robot["id"]});
    guard.backend.put("limits", &limit).expect(200);
    let over = refused(&ask(&mut guard, &robot, json!({"charge": {"amount": 3}})), 429, "limit_reached");
    assert_eq!((&over["limit"]["scope"], &over["limit"]["used"]), (&json!("key"), &json!(10)));
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(an_organizations_key_spends_what_is_the_organizations);

fn switched_off_organizations_pay_for_nobody(engine: Engine) {
    let mut server = Server::with(engine, FREE);
    let mut ada = signed_up(&server, "ada@example.com");
    let pays = found(&mut ada, "pays", json!({"pays": true}));
    let mut guard = Guard::of(&server);
    grant(&mut guard.backend, &pays, 100);
    guard.backend.grant(&ada.id, 10);
    server.reconfigure("[methods]\norganizations = false\n");
    server.stop();
    server.restart();
    let mut guard = Guard::of(&server);
    refused(&spend(&mut guard, &ada, &pays, 1), 403, "forbidden");
    let answer = guard.ask_under(&ada.browser, "k", &json!({"charge": {"amount": 1}})).expect(200).json();
    assert_eq!(number(&answer["charge"]["balance"]), 9);
}
on_both_engines!(switched_off_organizations_pay_for_nobody);

/// The wallet of all is spent exactly, whoever spends, and each request once.
fn a_pooled_wallet_is_spent_to_the_last_credit_and_no_further(engine: Engine) {
    let server = Server::with(engine, FREE);
    let mut guard = Guard::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let bob = signed_up(&server, "bob@example.com");
    let acme = found(&mut ada, "acme", json!({"pays": true}));
    join(&server, &acme, &bob);
    grant(&mut guard.backend, &acme, 30);
    let answers = in_parallel(50, |at| {
        let member = if at % 2 == 0 { &ada } else { &bob };
        spend(&mut guard.another(), member, &acme, 1)
    });
    assert_eq!(counted(answers.iter().map(|answer| answer.status)), [(200, 30), (402, 20)].into());
    grant(&mut guard.backend, &acme, 30);
    let body = json!({"charge": {"amount": 10}, "payer": {"organization_id": acme}});
    let answers =
        in_parallel(50, |_| guard.another().ask_under(&bob.browser, "job", &body).expect(200).json());
    let fresh = answers.iter().filter(|answer| answer["charge"]["replayed"] == false).count();
    let entries: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| text(&answer["charge"]["entry_id"])).collect();
    assert_eq!((fresh, entries.len()), (1, 1));
    // What one member asked for, another may ask for under the same key.
    assert_eq!(guard.ask_under(&ada.browser, "job", &body).expect(200).json()["charge"]["replayed"], false);
    assert_eq!(figures(&balance(&mut guard.backend, &acme)), [10, 0, 10, 0]);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_pooled_wallet_is_spent_to_the_last_credit_and_no_further);

fn what_a_member_holds_and_gets_back_counts_for_the_member(engine: Engine) {
    let server = Server::with(engine, FREE);
    let mut guard = Guard::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let acme = found(&mut ada, "acme", json!({}));
    grant(&mut guard.backend, &acme, 100);
    let limit = json!({"organization_id": acme, "window": "month", "max": 60, "member_user_id": ada.id});
    guard.backend.put("limits", &limit).expect(200);
    let body = json!({"charge": {"amount": 60}, "hold": true, "payer": {"organization_id": acme}});
    let held = guard.ask_under(&ada.browser, &fresh_key(), &body).expect(200).json();
    refused(&guard.ask_under(&ada.browser, &fresh_key(), &body), 429, "limit_reached");
    // The backend captures; what it leaves is the member's again.
    let capture = format!("holds/{}/capture", text(&held["charge"]["hold_id"]));
    let captured = guard.backend.post(&capture, &fresh_key(), &json!({"amount": 45})).expect(200).json();
    assert_eq!(captured["entry"]["source_ref"], format!("user:{}", ada.id));
    refused(&spend(&mut guard, &ada, &acme, 16), 429, "limit_reached");
    spend(&mut guard, &ada, &acme, 15).expect(200);
    for _ in 0..2 {
        let refund = json!({"entry_id": captured["entry"]["id"], "amount": 20, "reason": "broken"});
        guard.backend.post("refunds", &fresh_key(), &refund).expect(201);
    }
    let over = json!({"entry_id": captured["entry"]["id"], "amount": 6, "reason": "broken"});
    assert_eq!(
        refused(&guard.backend.post("refunds", &fresh_key(), &over), 409, "conflict")["refundable"],
        5
    );
    spend(&mut guard, &ada, &acme, 40).expect(200);
    refused(&spend(&mut guard, &ada, &acme, 1), 429, "limit_reached");
    assert_eq!(figures(&balance(&mut guard.backend, &acme)), [40, 0, 40, 0]);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(what_a_member_holds_and_gets_back_counts_for_the_member);

fn an_organization_that_is_gone_pays_no_more_and_its_books_stay(engine: Engine) {
    let server = Server::with(engine, FREE);
    let mut guard = Guard::of(&server);
    let mut ada = signed_up(&server, "ada@example.com");
    let acme = found(&mut ada, "acme", json!({"pays": true}));
    grant(&mut guard.backend, &acme, 100);
    guard.backend.grant(&ada.id, 10);
    spend(&mut guard, &ada, &acme, 30).expect(200);
    ada.browser.post("/api/auth/organization/delete", json!({"organizationId": acme})).expect(200);
    refused(&spend(&mut guard, &ada, &acme, 1), 403, "forbidden");
    let own =
        guard.ask_under(&ada.browser, &fresh_key(), &json!({"charge": {"amount": 1}})).expect(200).json();
    assert_eq!(number(&own["charge"]["balance"]), 9);
    let debit = json!({"organization_id": acme, "amount": 1});
    refused(&guard.backend.post("debits", &fresh_key(), &debit), 404, "not_found");
    let page = guard.backend.get(&format!("entries?organization_id={acme}")).expect(200).json();
    assert_eq!(items(&page).len(), 2);
    books_balance(&server.database);
}
on_both_engines!(an_organization_that_is_gone_pays_no_more_and_its_books_stay);
