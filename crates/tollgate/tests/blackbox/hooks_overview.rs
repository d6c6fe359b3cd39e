//! What operators see of outgoing events: figures in `/metrics`, and what `doctor` says of endpoints.

use std::time::Duration;

use serde_json::Value;

use crate::harness::receiver::{Answer, Receiver, all_delivered};
use crate::harness::{Browser, Engine, Server, until};
use crate::on_both_engines;

const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn doctor(server: &Server) -> Value {
    server.command(&["doctor", "--json"]).expect_done().json()
}

fn says(report: &Value, list: &str, words: &str) -> bool {
    report[list].as_array().expect("a list").iter().any(|line| line.to_string().contains(words))
}

#[track_caller]
fn shows(server: &Server, name: &str, is: impl Fn(f64) -> bool) {
    until(PATIENCE, name, || is(server.metric(name)).then_some(()));
}

fn endpoints_that_do_not_answer_are_counted_and_named(engine: Engine) {
    let server = Server::with(engine, "[hooks]\nallow_private = true\n");
    assert!(!doctor(&server).to_string().contains("outgoing events"));
    let receiver = Receiver::of(&server);
    assert!(says(&doctor(&server), "good", "1 endpoint takes outgoing events"));
    Browser::new(&server).sign_up("ada@example.com");
    receiver.wait_for(1);
    all_delivered(&server);
    shows(&server, "tollgate_hooks_waiting", |count| count == 0.0);
    assert_eq!(server.metric("tollgate_hooks_overdue_seconds"), 0.0);

    receiver.answer(Answer::Status(500));
    Browser::new(&server).sign_up("bob@example.com");
    shows(&server, "tollgate_hooks_waiting", |count| count == 1.0);
    shows(&server, "tollgate_hooks_endpoints_failing", |count| count == 1.0);
    assert!(says(&doctor(&server), "advice", "1 endpoint takes no outgoing events"));

    // Three days later it is given up, and the endpoint with it.
    server.database.execute("UPDATE hook_endpoints SET disabled_at = created_at");
    server.database.execute("UPDATE hook_deliveries SET state = 'failed' WHERE state = 'waiting'");
    shows(&server, "tollgate_hooks_failed", |count| count == 1.0);
    shows(&server, "tollgate_hooks_endpoints_off", |count| count == 1.0);
    assert_eq!(server.metric("tollgate_hooks_endpoints_failing"), 0.0);
    let report = doctor(&server);
    assert!(says(&report, "advice", "1 endpoint is switched off"), "{report}");
    assert!(says(&report, "advice", "1 delivery was given up"), "{report}");

    // What waits past its time is counted in seconds.
    let waits = format!(
        "UPDATE hook_deliveries SET state = 'waiting', due_at = due_at - {} WHERE state = 'failed'",
        kernel::time::HOUR
    );
    server.database.execute(&waits);
    shows(&server, "tollgate_hooks_overdue_seconds", |seconds| seconds > 3_000.0);
}
on_both_engines!(endpoints_that_do_not_answer_are_counted_and_named);
