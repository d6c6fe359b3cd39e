//! Outgoing events on their way: once to each endpoint, signed, whatever is in trouble at either end.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::credits::{Backend, make_users};
use crate::harness::receiver::{Answer, Received, Receiver, all_delivered, hurry};
use crate::harness::{Browser, Engine, Server, in_parallel, until};
use crate::on_both_engines;

const PATIENCE: Duration = Duration::from_secs(30);
/// The tests' endpoints are on this machine.
const REACHABLE: &str = "[hooks]\nallow_private = true\n";

fn open(engine: Engine) -> Server {
    Server::with(engine, REACHABLE)
}

fn ids(received: &[Received]) -> BTreeSet<String> {
    received.iter().map(|it| it.id().to_owned()).collect()
}

/// The first line of the log for an endpoint, once it says so.
#[track_caller]
fn logged(server: &Server, endpoint: &str, says: impl Fn(&Value) -> bool) -> Value {
    until(PATIENCE, "a line of the log", || {
        let log = server.command(&["hooks", "log", "--endpoint", endpoint, "--json"]).expect_done().json();
        log["items"].as_array()?.iter().find(|line| says(line)).cloned()
    })
}

fn each_event_is_delivered_once_to_each_endpoint_that_wants_it(engine: Engine) {
    let server = open(engine);
    let (all, some) =
        (Receiver::of(&server), Receiver::for_events(&server, &["user.deleted", "session.revoked"]));
    let mut ada = Browser::new(&server);
    let made = ada.sign_up("ada@example.com");
    ada.post("/api/auth/revoke-sessions", json!({})).expect(200);
    all.wait_for(2);
    all_delivered(&server);
    assert_eq!(all.kinds(), ["session.revoked", "user.created"]);
    assert_eq!(some.kinds(), ["session.revoked"]);
    for received in all.received() {
        all.expect_signed(&received);
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(
            received.header("webhook-signature").split_once(',').map(|(version, _)| version),
            Some("v1")
        );
    }
    let created = all.received().into_iter().find(|it| it.kind() == "user.created").expect("it came").json();
    let members: Vec<&String> = created.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["data", "timestamp", "type"]);
    assert_eq!(created["data"]["user_id"], made["user"]["id"]);
    assert_eq!(created["data"]["email"], "ada@example.com");
    // One event is one id, at each endpoint with a signature of its own.
    let [first] = some.received().try_into().expect("one delivery");
    some.expect_signed(&first);
    let twin = all.received().into_iter().find(|it| it.id() == first.id()).expect("the same event");
    assert_eq!(twin.body, first.body);
    assert_ne!(twin.header("webhook-signature"), first.header("webhook-signature"));
}
on_both_engines!(each_event_is_delivered_once_to_each_endpoint_that_wants_it);

fn an_endpoint_in_trouble_gets_it_later_and_holds_up_no_other(engine: Engine) {
    let server = open(engine);
    let elsewhere = Receiver::listen();
    let [silent, broken, gone, moved, well] = std::array::from_fn(|_| Receiver::of(&server));
    silent.answer(Answer::Silence);
    broken.answer(Answer::Status(500));
    gone.answer(Answer::HangUp);
    moved.answer(Answer::With(302, format!("Location: {}", elsewhere.url())));
    Browser::new(&server).sign_up("ada@example.com");
    well.told("user.created");
    let line = logged(&server, &broken.id, |line| line["status"] == json!(500));
    assert_eq!((&line["answer"], &line["state"]), (&json!("answer 500"), &json!("waiting")), "{line}");
    let line = logged(&server, &moved.id, |line| line["status"] == json!(302));
    assert!(line["error"].as_str().is_some_and(|error| error.contains("not followed")), "{line}");
    logged(&server, &gone.id, |line| line["error"].is_string() && line["status"].is_null());
    let line = logged(&server, &silent.id, |line| line["error"] == json!("no answer in 10 s"));
    assert_eq!((&line["status"], &line["state"]), (&json!(null), &json!("waiting")), "{line}");
    assert_eq!(elsewhere.received().len(), 0);
    for receiver in [&silent, &broken, &gone, &moved] {
        receiver.answer(Answer::Status(204));
    }
    hurry(&server);
    all_delivered(&server);
    for receiver in [&silent, &broken, &gone, &moved] {
        let received = receiver.received();
        assert!(received.len() >= 2, "{received:?}");
        assert_eq!(ids(&received).len(), 1);
        received.iter().for_each(|received| receiver.expect_signed(received));
    }
    assert_eq!(well.received().len(), 1);
    let listed = server.command(&["hooks", "list", "--json"]).expect_done().json();
    let items = listed["items"].as_array().expect("a list").clone();
    assert!(
        items.iter().all(|item| item["failing_since"].is_null() && item["disabled_at"].is_null()),
        "{listed}"
    );
}
on_both_engines!(an_endpoint_in_trouble_gets_it_later_and_holds_up_no_other);

fn after_three_days_it_is_given_up_and_the_endpoint_switched_off_until_somebody_mends_it(engine: Engine) {
    let server = open(engine);
    let receiver = Receiver::of(&server);
    receiver.answer(Answer::Status(503));
    Browser::new(&server).sign_up("ada@example.com");
    logged(&server, &receiver.id, |line| line["status"] == json!(503));
    const DAYS: i64 = 3 * 24 * 3_600 * 1_000;
    server.database.shift("hook_deliveries", "begun_at", -DAYS, "state = 'waiting'");
    server.database.shift("hook_endpoints", "failing_since", -DAYS, "failing_since IS NOT NULL");
    hurry(&server);
    let line = logged(&server, &receiver.id, |line| line["state"] == json!("failed"));
    let listed = server.command(&["hooks", "list", "--json"]).expect_done().json();
    assert!(listed["items"][0]["disabled_at"].is_string(), "{listed}");
    until(PATIENCE, "a line in the log", || {
        server.log().contains("an endpoint was switched off").then_some(())
    });
    // Nothing more comes while it is off, and what happens is kept.
    let tries = receiver.received().len();
    Browser::new(&server).sign_up("bob@example.com");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM hook_events"), 2);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM hook_deliveries"), 1);
    let refused = server.command(&["hooks", "resend", "--since", "2020-01-01", "--endpoint", &receiver.id]);
    assert!(refused.code == Some(1) && refused.stderr.contains("hooks enable"), "{refused:?}");
    receiver.answer(Answer::Status(200));
    server.command(&["hooks", "enable", &receiver.id]).expect_done();
    let event = line["event"].as_str().expect("an id");
    let resent = server.command(&["hooks", "resend", event, "--json"]).expect_done().json();
    assert_eq!(resent["deliveries"], 1);
    all_delivered(&server);
    assert_eq!(receiver.received()[tries..].iter().map(Received::id).collect::<Vec<_>>(), [event]);
    let resent = server.command(&["hooks", "resend", "--since", "2020-01-01", "--json"]).expect_done().json();
    assert_eq!(resent["deliveries"], 2);
    all_delivered(&server);
    assert_eq!(receiver.received().len(), tries + 3);
}
on_both_engines!(after_three_days_it_is_given_up_and_the_endpoint_switched_off_until_somebody_mends_it);

fn an_endpoint_that_wants_no_more_is_switched_off_at_once(engine: Engine) {
    let server = open(engine);
    let receiver = Receiver::of(&server);
    receiver.answer(Answer::Status(410));
    Browser::new(&server).sign_up("ada@example.com");
    logged(&server, &receiver.id, |line| line["state"] == json!("failed"));
    let listed = server.command(&["hooks", "list", "--json"]).expect_done().json();
    assert!(listed["items"][0]["disabled_at"].is_string(), "{listed}");
    assert_eq!(receiver.received().len(), 1);
}
on_both_engines!(an_endpoint_that_wants_no_more_is_switched_off_at_once);

fn an_endpoint_that_came_later_can_be_sent_what_was_before(engine: Engine) {
    let server = open(engine);
    let early = Receiver::of(&server);
    for name in ["ada", "bob", "eve"] {
        Browser::new(&server).sign_up(&format!("{name}@example.com"));
    }
    early.wait_for(3);
    all_delivered(&server);
    let late = Receiver::for_events(&server, &["user.created"]);
    let since = ["hooks", "resend", "--since", "2020-01-01T00:00:00Z", "--endpoint", &late.id, "--json"];
    let failed = server.command(&[&since[..], &["--failed"]].concat()).expect_done().json();
    assert_eq!(failed["deliveries"], 0, "nothing was given up");
    assert_eq!(server.command(&since).expect_done().json()["deliveries"], 3);
    assert_eq!(ids(&late.wait_for(3)), ids(&early.received()));
    all_delivered(&server);
    assert_eq!((early.received().len(), late.received().len()), (3, 3));
    let unknown = server.command(&["hooks", "resend", "evt_unknown"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert_eq!(server.command(&["hooks", "resend"]).code, Some(2));
    server.command(&["hooks", "remove", &late.id]).expect_done();
    assert_eq!(server.command(&["hooks", "remove", &late.id]).code, Some(1));
    Browser::new(&server).sign_up("joe@example.com");
    early.wait_for(4);
    assert_eq!(late.received().len(), 3);
}
on_both_engines!(an_endpoint_that_came_later_can_be_sent_what_was_before);

/// What was written with the change is delivered, whenever the process ends: before the delivery, and in its midst, where it
/// may come twice, under one id.
fn a_kill_loses_nothing(engine: Engine) {
    let mut server = open(engine);
    let receiver = Receiver::of(&server);
    receiver.answer(Answer::Silence);
    Browser::new(&server).sign_up("ada@example.com");
    let [first] = receiver.wait_for(1).try_into().expect("one try");
    server.kill();
    receiver.answer(Answer::Status(200));
    server.restart();
    // Nobody knows that the node is gone until its lease has ended.
    all_delivered(&server);
    let received = receiver.received();
    assert_eq!((received.len(), ids(&received).len()), (2, 1));
    assert_eq!(received[1].body, first.body);

    let backend = Backend::of(&server);
    let users = make_users(&server, 20);
    let granted = in_parallel(20, |at| {
        let body = json!({"user_id": users[at], "amount": 5, "source": "promo", "reason": "a test"});
        backend.another().try_post("grants", Some("once"), &body).is_ok_and(|answer| answer.status == 201)
    });
    server.kill();
    server.restart();
    let made = server.database.integer("SELECT COUNT(*) FROM credit_entries WHERE kind = 'grant'");
    assert!(made >= granted.iter().filter(|granted| **granted).count() as i64);
    until(PATIENCE, "every grant is told of", || {
        let told: BTreeSet<String> = receiver
            .received()
            .iter()
            .filter(|it| it.kind() == "credits.granted")
            .map(|it| it.json()["data"]["entry_id"].to_string())
            .collect();
        (told.len() as i64 == made).then_some(())
    });
}
on_both_engines!(a_kill_loses_nothing);

fn two_nodes_deliver_each_event_once(engine: Engine) {
    let first = open(engine);
    let second = Server::second_node(&first);
    let receiver = Receiver::of(&first);
    let users = make_users(&first, 60);
    let backend = Backend::of(&first);
    let nodes = [&first, &second];
    let answers = in_parallel(6, |lane| {
        let mut backend = backend.at(nodes[lane % 2]);
        for user in users.iter().skip(lane).step_by(6) {
            backend.grant(user, 5);
        }
    });
    assert_eq!(answers.len(), 6);
    let received = receiver.wait_for(60);
    all_delivered(&first);
    let entries: BTreeSet<String> =
        received.iter().map(|it| it.json()["data"]["entry_id"].to_string()).collect();
    assert_eq!((entries.len(), receiver.received().len()), (60, 60));
    received.iter().for_each(|it| receiver.expect_signed(it));
}
on_both_engines!(two_nodes_deliver_each_event_once);

fn a_change_that_is_taken_back_tells_nothing(engine: Engine) {
    let server = Server::with(engine, &format!("{REACHABLE}[credits]\nsignup_grant = 5\n"));
    let receiver = Receiver::of(&server);
    let sign_up = |name: &str| {
        let body = json!({"name": name, "email": format!("{name}@example.com"), "password": crate::harness::PASSWORD});
        Browser::new(&server).post("/api/auth/sign-up/email", body).status
    };
    // The grant comes last in the transaction of a sign-up, behind the event.
    server.database.execute("ALTER TABLE credit_signups RENAME TO away");
    assert_eq!(sign_up("ada"), 500);
    server.database.execute("ALTER TABLE away RENAME TO credit_signups");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM hook_events"), 0);
    assert_eq!(sign_up("ada"), 200);
    assert_ne!(sign_up("ada"), 200);
    receiver.wait_for(2);
    all_delivered(&server);
    assert_eq!(receiver.kinds(), ["credits.granted", "user.created"]);
}
on_both_engines!(a_change_that_is_taken_back_tells_nothing);

/// Whoever may add an endpoint must not reach what only this machine does.
fn private_addresses_are_refused_unless_they_are_allowed(engine: Engine) {
    let mut server = Server::start(engine);
    let receiver = Receiver::of(&server);
    let mut by_name = Receiver::listen();
    by_name.id = {
        let url = format!("http://localhost:{}/hooks", by_name.address.port());
        let made = server.command(&["hooks", "add", &url, "--json"]).expect_done().json();
        made["id"].as_str().expect("an id").to_owned()
    };
    for url in [
        "https://10.0.0.1/",
        "https://[fd00::1]/",
        "https://169.254.169.254/latest/meta-data",
        "http://example.com/",
        "https://a:b@example.com/",
    ] {
        let refused = server.command(&["hooks", "add", url]);
        assert!(
            refused.code == Some(1) && refused.stderr.contains("Nothing was added"),
            "{url}: {refused:?}"
        );
    }
    Browser::new(&server).sign_up("ada@example.com");
    for id in [&receiver.id, &by_name.id] {
        let error = "not on the public Internet";
        logged(&server, id, |line| line["error"].as_str().is_some_and(|found| found.contains(error)));
    }
    assert_eq!((receiver.received().len(), by_name.received().len()), (0, 0));
    server.stop();
    server.reconfigure(REACHABLE);
    server.restart();
    hurry(&server);
    all_delivered(&server);
    assert_eq!(
        (receiver.kinds(), by_name.kinds()),
        (vec!["user.created".to_owned()], vec!["user.created".to_owned()])
    );
}
on_both_engines!(private_addresses_are_refused_unless_they_are_allowed);

fn secrets_of_endpoints_lie_sealed_and_are_never_logged(engine: Engine) {
    let server = Server::with(engine, &format!("{REACHABLE}[telemetry]\nlog = \"debug\"\n"));
    let receiver = Receiver::of(&server);
    Browser::new(&server).sign_up("ada@example.com");
    receiver.told("user.created");
    all_delivered(&server);
    let secret = receiver.secret.expose();
    let key = secret.strip_prefix("whsec_").expect("the form of Standard Webhooks");
    let signature = receiver.received()[0].header("webhook-signature").to_owned();
    let shown = server.command(&["hooks", "list"]).expect_done().stdout;
    for place in [server.database.dump(), server.log(), shown] {
        assert!(!place.contains(key) && !place.contains(&signature));
    }
    assert!(!server.log().contains("ada@example.com"));
}
on_both_engines!(secrets_of_endpoints_lie_sealed_and_are_never_logged);
