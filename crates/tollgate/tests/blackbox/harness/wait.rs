//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Asks again until the answer is there; fails the test, saying what did not come, when the limit has passed.
pub fn until<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < limit, "after {limit:?} still waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
