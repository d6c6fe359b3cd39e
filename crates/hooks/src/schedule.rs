//! When a delivery is tried again and when it is given up: plain functions without a clock.

use kernel::Millis;
use kernel::time::{DAY, HOUR, MINUTE, SECOND};

/// Trouble is outlasted this long.
const GIVE_UP_AFTER: i64 = 3 * DAY;
/// An endpoint that took nothing for so long when something is given up is switched off. A little less, because its trouble
/// was noticed after the delivery had begun.
pub(crate) const HOPELESS_AFTER: i64 = GIVE_UP_AFTER - HOUR;

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    /// A status from 200 to 299.
    Taken(Answer),
    /// Any other status.
    Refused(Answer),
    /// No answer, and why.
    Unanswered(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    /// The first characters, on one line.
    pub text: String,
    /// `Retry-After`, in milliseconds.
    pub wait: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Delivered,
    /// Milliseconds.
    Again(i64),
    GivenUp,
    /// The endpoint asks for no more events, by 410.
    Unwanted,
}

/// `attempts` includes this one. `jitter` is between 0.5 and 1.5 and only shortens the wait.
pub(crate) fn judge(tried: &Tried, attempts: i64, begun_at: Millis, now: Millis, jitter: f64) -> Verdict {
    let asked = match tried {
        Tried::Taken(_) => return Verdict::Delivered,
        Tried::Refused(answer) if answer.status == 410 => return Verdict::Unwanted,
        Tried::Refused(answer) => answer.wait.unwrap_or(0),
        Tried::Unanswered(_) => 0,
    };
    if now.0.saturating_sub(begun_at.0) >= GIVE_UP_AFTER {
        return Verdict::GivenUp;
    }
    let step = (step_after(attempts) as f64 * jitter / 1.5) as i64;
    Verdict::Again(step.max(asked.min(HOUR)))
}

fn step_after(attempts: i64) -> i64 {
    match attempts {
        ..=1 => 5 * SECOND,
        2 => 30 * SECOND,
        3 => 2 * MINUTE,
        4 => 10 * MINUTE,
        5 => 30 * MINUTE,
        _ => HOUR,
    }
}

/// For the log: why it was not taken, and what to do where that is not plain.
pub(crate) fn explain(tried: &Tried) -> Option<String> {
    match tried {
        Tried::Taken(_) => None,
        Tried::Refused(Answer { status: status @ 300..=399, .. }) => {
            Some(format!("the endpoint redirects ({status}), which is not followed: add the final address"))
        }
        Tried::Refused(Answer { status: 410, .. }) => Some("the endpoint wants no more events (410)".into()),
        Tried::Refused(answer) => Some(format!("the endpoint answered {}", answer.status)),
        Tried::Unanswered(why) => Some(why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(status: u16, wait: Option<i64>) -> Tried {
        Tried::Refused(Answer { status, text: String::new(), wait })
    }

    #[test]
    fn trouble_is_outlasted_for_three_days_and_no_longer() {
        for tried in
            [refused(500, None), refused(302, None), refused(404, None), Tried::Unanswered("x".into())]
        {
            let (mut now, mut attempts) = (0, 1);
            while let Verdict::Again(after) = judge(&tried, attempts, Millis(0), Millis(now), 1.5) {
                now += after;
                attempts += 1;
            }
            assert!((GIVE_UP_AFTER..GIVE_UP_AFTER + HOUR).contains(&now), "{now}");
            assert!((70..90).contains(&attempts), "{attempts}");
        }
    }

    #[test]
    fn an_endpoint_may_ask_for_patience_or_for_no_more() {
        let wait = |wait| judge(&refused(429, Some(wait)), 1, Millis(0), Millis(0), 1.5);
        assert_eq!(wait(20 * MINUTE), Verdict::Again(20 * MINUTE));
        assert_eq!(wait(DAY), Verdict::Again(HOUR));
        assert_eq!(wait(1), Verdict::Again(5 * SECOND));
        assert_eq!(judge(&refused(410, None), 1, Millis(0), Millis(0), 1.0), Verdict::Unwanted);
        let taken = Tried::Taken(Answer { status: 204, text: String::new(), wait: None });
        assert_eq!(judge(&taken, 99, Millis(0), Millis(i64::MAX), 1.0), Verdict::Delivered);
    }

    proptest! {
        #[test]
        fn waits_are_never_nothing_and_never_more_than_an_hour(attempts in 1i64..100_000, wait in proptest::option::of(any::<i64>()), jitter in 0.5f64..1.5) {
            let Verdict::Again(after) = judge(&refused(503, wait), attempts, Millis(0), Millis(0), jitter) else {
                return Err(TestCaseError::fail("given up at once"));
            };
            prop_assert!((SECOND..=HOUR).contains(&after));
        }
    }
}
