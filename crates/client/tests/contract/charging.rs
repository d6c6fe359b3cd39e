//! Credits under the service key: each effect under its key, and holds that end one way or another.

use crate::stub::{JSON, KEY, Received, Reply, Stub, answer, json_reply, refusal};
use serde_json::{Value, json};
use std::time::Duration;
use tollgate_client::{
    Above, Account, Error, GuestId, Hold, IdempotencyKey, Misconfigured, OrganizationId, UserId,
};

const CAPTURE: &str = "POST /api/credits/holds/h1/capture";
const RELEASE: &str = "POST /api/credits/holds/h1/release";
const MINUTES: Duration = Duration::from_secs(300);

fn key() -> IdempotencyKey {
    IdempotencyKey::new("job-1").expect("a key")
}

fn balance() -> Value {
    json!({"unit": "credits", "balance": 95, "held": 5, "available": 90, "owed": 0})
}

fn entry(amount: i64) -> Value {
    json!({"entry": {"id": "e1", "amount": -amount, "unit": "credits"}, "balance": balance()})
}

fn held() -> Value {
    json!({"hold": {"id": "h1", "amount": 60, "unit": "credits", "status": "held"}, "balance": balance()})
}

/// A credits door that has no rules.
fn door(received: &Received) -> Reply {
    match received.line.as_str() {
        "POST /api/credits/debits" => json_reply("201 Created", &entry(5)),
        "POST /api/credits/holds" => json_reply("201 Created", &held()),
        CAPTURE => json_reply("200 OK", &entry(received.json()["amount"].as_i64().expect("an amount"))),
        _ if received.line.starts_with("GET ") => json_reply("200 OK", &balance()),
        _ => json_reply("200 OK", &json!({"hold": {}, "balance": balance()})),
    }
}

fn account(stub: &Stub) -> Account {
    stub.tollgate().account(UserId::new("ada"))
}

async fn hold(stub: &Stub) -> Hold {
    account(stub).hold(60, MINUTES, &key()).await.expect("it is held")
}

/// Round trips enough for whatever was begun before to have arrived.
async fn assert_never_asked(stub: &Stub, line: &str) {
    for _ in 0..10 {
        account(stub).balance(None).await.expect("an answer");
    }
    assert!(stub.asked(line).is_empty(), "{:?}", stub.asked(line));
}

#[tokio::test]
async fn a_charge_goes_out_once_under_its_key() {
    let stub = Stub::start(door).await;
    let spent = account(&stub).spend("report", &key()).await.expect("it is charged");
    assert_eq!((spent.entry_id.as_str(), spent.amount, spent.unit.as_str()), ("e1", 5, "credits"));
    assert_eq!((spent.balance, spent.available, spent.replayed), (95, 90, false));
    let received = &stub.received()[0];
    assert_eq!(received.line, "POST /api/credits/debits");
    assert_eq!(received.json(), json!({"user_id": "ada", "feature": "report"}));
    assert_eq!(received.header("idempotency-key"), Some("job-1"));
    assert_eq!(received.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_eq!(received.header("cookie"), None);
}

#[tokio::test]
async fn a_repetition_is_marked() {
    let lines = [JSON, "Idempotent-Replayed: true"];
    let stub = Stub::always(Reply::Bytes(answer("201 Created", &lines, &entry(5).to_string()))).await;
    assert!(account(&stub).spend(5, &key()).await.expect("it was charged").replayed);
    let stub = Stub::always(Reply::Bytes(answer("201 Created", &lines, &held().to_string()))).await;
    assert!(account(&stub).hold(60, MINUTES, &key()).await.expect("it was held").replayed());
}

#[tokio::test]
async fn a_balance_is_asked_for_its_owner_and_unit() {
    let stub = Stub::start(door).await;
    let tollgate = stub.tollgate();
    let balance = tollgate.account(UserId::new("a&b=../c")).balance(None).await.expect("an answer");
    assert_eq!((balance.balance, balance.held, balance.available, balance.owed), (95, 5, 90, 0));
    tollgate.account(OrganizationId::new("acme")).balance(Some("to kens")).await.expect("an answer");
    tollgate.account(GuestId::new("g")).balance(None).await.expect("an answer");
    let lines: Vec<_> = stub.received().into_iter().map(|received| received.line).collect();
    assert_eq!(
        lines,
        [
            "GET /api/credits/balance?user_id=a%26b%3D%2E%2E%2Fc",
            "GET /api/credits/balance?organization_id=acme&unit=to%20kens",
            "GET /api/credits/balance?guest_id=g",
        ]
    );
}

#[tokio::test]
async fn a_key_without_the_scope_is_the_app_s_fault() {
    let stub = Stub::always(refusal("403 Forbidden", "forbidden")).await;
    let error = account(&stub).spend(5, &key()).await.expect_err("it is forbidden");
    assert!(matches!(error, Error::Misconfigured(Misconfigured::LacksScope)), "{error:?}");
}

#[tokio::test]
async fn a_settled_hold_is_not_released() {
    let stub = Stub::start(door).await;
    let hold = hold(&stub).await;
    let received = &stub.received()[0];
    assert_eq!(received.json(), json!({"user_id": "ada", "amount": 60, "expires_in": 300}));
    let spent = hold.settle(45).await.expect("it is settled");
    assert_eq!(spent.amount, 45);
    let captured = &stub.asked(CAPTURE)[0];
    assert_eq!(captured.json(), json!({"amount": 45, "above": "refuse"}));
    assert_eq!(captured.header("idempotency-key"), Some("settle-h1"));
    drop(hold);
    assert_never_asked(&stub, RELEASE).await;
}

#[tokio::test]
async fn more_than_was_held_is_settled_as_said() {
    let stub = Stub::start(door).await;
    for (above, name) in [(Above::Cap, "cap"), (Above::Balance, "balance"), (Above::Floor, "floor")] {
        hold(&stub).await.settle_above(90, above).await.expect("it is settled");
        let captured = stub.asked(CAPTURE);
        assert_eq!(captured.last().expect("it was asked").json(), json!({"amount": 90, "above": name}));
    }
}

#[tokio::test]
async fn a_dropped_hold_is_released_once() {
    let stub = Stub::start(door).await;
    drop(hold(&stub).await);
    let released = stub.until_asked(RELEASE, 1).await;
    assert_eq!(released[0].header("idempotency-key"), Some("release-h1"));
    assert_eq!(released[0].json(), json!({}));
    for _ in 0..10 {
        account(&stub).balance(None).await.expect("an answer");
    }
    assert_eq!(stub.asked(RELEASE).len(), 1);
}

#[tokio::test]
async fn a_failing_or_panicking_work_releases() {
    let stub = Stub::start(door).await;
    let failing = async {
        let _hold = hold(&stub).await;
        Err::<(), &str>("the provider is down")
    };
    failing.await.expect_err("it fails");
    stub.until_asked(RELEASE, 1).await;
    let held = hold(&stub).await;
    let panicking = tokio::spawn(async move {
        let _hold = held;
        panic!("the work panics");
    });
    assert!(panicking.await.expect_err("it panics").is_panic());
    stub.until_asked(RELEASE, 2).await;
    // As when a client hangs up and the handler is dropped half-way.
    let held = hold(&stub).await;
    let working = tokio::spawn(async move {
        let _hold = held;
        std::future::pending::<()>().await;
    });
    working.abort();
    stub.until_asked(RELEASE, 3).await;
}

#[tokio::test]
async fn a_released_hold_is_not_released_again() {
    let stub = Stub::start(door).await;
    let hold = hold(&stub).await;
    assert_eq!(hold.release().await.expect("it is released").available, 90);
    drop(hold);
    for _ in 0..10 {
        account(&stub).balance(None).await.expect("an answer");
    }
    assert_eq!(stub.asked(RELEASE).len(), 1);
}

#[tokio::test]
async fn a_hold_can_be_dropped_on_any_thread() {
    let stub = Stub::start(door).await;
    let hold = hold(&stub).await;
    std::thread::spawn(move || drop(hold)).join().expect("dropping does not panic");
    stub.until_asked(RELEASE, 1).await;
}

#[test]
fn a_hold_may_outlive_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let hold = runtime.block_on(async { hold(&Stub::start(door).await).await });
    drop(runtime);
    drop(hold);
}

#[tokio::test]
async fn a_refused_settlement_leaves_the_hold_to_be_released() {
    let stub = Stub::start(|received| match received.line.as_str() {
        CAPTURE => refusal("409 Conflict", "conflict"),
        _ => door(received),
    })
    .await;
    let hold = hold(&stub).await;
    assert_eq!(hold.settle(90).await.expect_err("too much").code(), "conflict");
    drop(hold);
    stub.until_asked(RELEASE, 1).await;
}

#[tokio::test]
async fn a_settlement_of_unknown_outcome_is_not_taken_back() {
    let stub = Stub::start(|received| match received.line.as_str() {
        CAPTURE => Reply::AndClose(Vec::new()),
        _ => door(received),
    })
    .await;
    let hold = hold(&stub).await;
    assert!(hold.settle(45).await.expect_err("no answer").is_unavailable());
    assert!(hold.settle(45).await.expect_err("no answer").is_unavailable());
    drop(hold);
    assert_never_asked(&stub, RELEASE).await;
    let keys: Vec<_> =
        stub.asked(CAPTURE).iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(
        keys,
        [Some("settle-h1".to_owned()), Some("settle-h1".to_owned())],
        "the same action, so the same key"
    );
}

#[tokio::test]
async fn a_settlement_that_is_cancelled_half_way_is_not_taken_back() {
    let stub = Stub::start(|received| match received.line.as_str() {
        CAPTURE => Reply::Silence,
        _ => door(received),
    })
    .await;
    let hold = hold(&stub).await;
    tokio::select! {
        settled = hold.settle(45) => panic!("{settled:?}"),
        _ = stub.until_asked(CAPTURE, 1) => {}
    }
    drop(hold);
    assert_never_asked(&stub, RELEASE).await;
}

#[tokio::test]
async fn a_hold_is_extended_while_the_work_goes_on() {
    let stub = Stub::start(door).await;
    let hold = hold(&stub).await;
    hold.extend(Duration::from_secs(60)).await.expect("it is extended");
    let extended = stub.asked("POST /api/credits/holds/h1/extend");
    assert_eq!(extended[0].json(), json!({"expires_in": 60}));
    drop(hold);
    stub.until_asked(RELEASE, 1).await;
}

#[tokio::test]
async fn an_id_never_leaves_its_place_in_the_path() {
    let strange =
        json!({"hold": {"id": "../../x?y#z", "amount": 60, "unit": "credits"}, "balance": balance()});
    let stub = Stub::start(move |received| match received.line.as_str() {
        "POST /api/credits/holds" => json_reply("201 Created", &strange),
        _ => door(received),
    })
    .await;
    drop(hold(&stub).await);
    stub.until_asked("POST /api/credits/holds/%2E%2E%2F%2E%2E%2Fx%3Fy%23z/release", 1).await;
}
