use crate::wire::{Reply, ask_within};
use crate::world::*;
use std::time::Duration;
use till::{Fault, Till};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

fn create(till: &Till, key: &str, patience: Duration) -> Option<Reply> {
    let authorization = format!("Bearer {}", till.secret_key().expose());
    let headers = [("Authorization", authorization.as_str()), ("Idempotency-Key", key)];
    ask_within(till.address(), "POST /v1/customers", &headers, "email=a%40b.test", patience)
}

fn customers(till: &Till) -> usize {
    till.events_of("customer.created").len()
}

#[test]
fn what_failed_before_the_work_can_be_tried_again_under_the_same_key() {
    let till = till();
    let faults = [Fault::Silent, Fault::Broken, Fault::Status(503), Fault::TooMany];
    for (place, fault) in faults.into_iter().enumerate() {
        till.fault(fault, 1);
        let key = format!("key-{place}");
        let failed = create(&till, &key, if fault == Fault::Silent { SHORT } else { LONG });
        let status = failed.map(|reply| reply.status);
        let expected = match fault {
            Fault::Status(status) => Some(status),
            Fault::TooMany => Some(429),
            _ => None,
        };
        assert_eq!((status, customers(&till)), (expected, place), "{fault:?}");
        let again = create(&till, &key, LONG).expect("an answer");
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, None), "{fault:?}");
    }
}

#[test]
fn what_failed_after_the_work_is_found_done_under_the_same_key() {
    let till = till();
    let faults = [Fault::SilentAfterWork, Fault::BrokenAfterWork, Fault::WrongJson];
    for (place, fault) in faults.into_iter().enumerate() {
        till.fault(fault, 1);
        let key = format!("key-{place}");
        let failed = create(&till, &key, if fault == Fault::SilentAfterWork { SHORT } else { LONG });
        match fault {
            Fault::WrongJson => {
                let body = failed.expect("an answer").body;
                assert!(serde_json::from_str::<serde_json::Value>(&body).is_err(), "{body}");
            }
            _ => assert!(failed.is_none(), "{fault:?}"),
        }
        assert_eq!(customers(&till), place + 1, "{fault:?}");
        let again = create(&till, &key, LONG).expect("an answer");
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{fault:?}");
        assert_eq!(customers(&till), place + 1, "{fault:?}");
    }
}

#[test]
fn a_kept_failure_is_given_again_and_another_key_works() {
    let till = till();
    till.fault(Fault::KeptFailure, 1);
    let failed = create(&till, "one", LONG).expect("an answer");
    let again = create(&till, "one", LONG).expect("an answer");
    assert_eq!((failed.status, again.status, again.header("idempotent-replayed")), (500, 500, Some("true")));
    assert_eq!(create(&till, "two", LONG).expect("an answer").status, 200);
}

#[test]
fn a_key_is_in_use_while_its_request_is_under_way_and_free_when_its_caller_left() {
    let till = till();
    till.fault(Fault::Slow(Duration::from_secs(60)), 1);
    let (first, second) = std::thread::scope(|scope| {
        let slow = scope.spawn(|| create(&till, "one", Duration::from_secs(2)));
        while till.faults_left() > 0 {
            std::thread::yield_now();
        }
        let second = create(&till, "one", LONG).expect("an answer");
        (slow.join().expect("no panic"), second)
    });
    assert!(first.is_none(), "the caller left");
    assert_eq!(second.status, 409);
    // The till notices that the caller left at its own time.
    let again = std::iter::repeat_with(|| create(&till, "one", LONG).expect("an answer"))
        .take(10_000)
        .find(|reply| reply.status != 409)
        .expect("the key is freed");
    assert_eq!(again.status, 200);
    assert_eq!(customers(&till), 1);
}

#[test]
fn faults_reach_their_paths_only_and_can_be_taken_back() {
    let till = till();
    till.fault_on("/v1/refunds", Fault::TooMany, 1);
    assert_eq!(create(&till, "a", LONG).expect("an answer").status, 200);
    till.fault(Fault::TooMany, 5);
    till.clear_faults();
    assert_eq!(create(&till, "b", LONG).expect("an answer").status, 200);
}
