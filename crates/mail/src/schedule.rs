//! When a mail is tried again, when it is given up, and when the server is to blame rather than the mail: plain
//! functions without a clock.

use kernel::Millis;
use kernel::time::{DAY, HOUR, MINUTE, SECOND};
use std::time::Duration;

/// Trouble that may pass is outlasted this long.
const GIVE_UP_AFTER: i64 = DAY;
/// A refusal for good is believed after this long, and after this many tries: servers refuse everybody while they are
/// set up, or while their directory is down.
const REFUSED_FOR: i64 = 5 * MINUTE;
const REFUSED_TRIES: i64 = 3;
/// How long after its first minutes a mail is tried at least this often, so that all are sent within a minute after a
/// server is back.
const QUICK_TRIES: i64 = 12;
const QUICK_STEP: i64 = 45 * SECOND;
/// After content was handed over twice without an answer, patience: each further try may be another copy.
const UNCONFIRMED_STEP: i64 = HOUR;

/// What came of handing a mail to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    Sent,
    /// The server refused this mail or its recipient for good (5xx).
    Refused(Reason),
    /// The server refused this mail for now (4xx), or it could not be put together.
    Later(Reason),
    /// Nothing can be sent at present: no connection, no TLS, no sign-in, a silent server.
    ServerTrouble(Reason),
    /// The content was handed over and no answer came: it may have been delivered.
    Unconfirmed(Reason),
}

/// Why a mail was not sent. Kept in the row for operators; never holds anything of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) step: &'static str,
    pub(crate) code: Option<u16>,
    /// The server's words, which may name the recipient; not for logs.
    pub(crate) detail: String,
}

impl Reason {
    const DETAIL_LENGTH: usize = 200;

    pub(crate) fn new(step: &'static str, code: Option<u16>, detail: &str) -> Reason {
        let plain = detail.chars().map(|c| if c.is_control() { ' ' } else { c });
        Reason { step, code, detail: plain.take(Self::DETAIL_LENGTH).collect::<String>().trim().to_string() }
    }

    /// For the row.
    pub(crate) fn full(&self) -> String {
        if self.detail.is_empty() { self.short() } else { format!("{}: {}", self.short(), self.detail) }
    }

    /// For logs.
    pub(crate) fn short(&self) -> String {
        match self.code {
            Some(code) => format!("{}: {code}", self.step),
            None => self.step.to_string(),
        }
    }
}

/// What is known about a mail when it is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Try {
    /// This one included.
    pub(crate) attempts: i64,
    /// Earlier tries that were handed over and never answered.
    pub(crate) handovers: i64,
    pub(crate) created_at: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Sent,
    Again { after: i64, handed_over: bool, reason: Reason },
    Failed(Reason),
}

/// `jitter` is between 0.5 and 1.5 and only shortens the wait, so that the steps are upper limits.
pub(crate) fn judge(delivery: Delivery, tried: Try, now: Millis, jitter: f64) -> Verdict {
    let age = now.0.saturating_sub(tried.created_at.0);
    let shortened = |step: i64| (step as f64 * jitter / 1.5) as i64;
    let step = shortened(step_after(tried.attempts));
    match delivery {
        Delivery::Sent => Verdict::Sent,
        Delivery::Refused(reason) if age >= REFUSED_FOR && tried.attempts >= REFUSED_TRIES => {
            Verdict::Failed(reason)
        }
        Delivery::Later(reason) | Delivery::ServerTrouble(reason) | Delivery::Unconfirmed(reason)
            if age >= GIVE_UP_AFTER =>
        {
            Verdict::Failed(reason)
        }
        Delivery::Refused(reason) | Delivery::Later(reason) | Delivery::ServerTrouble(reason) => {
            Verdict::Again { after: step, handed_over: false, reason }
        }
        Delivery::Unconfirmed(reason) => {
            let after = if tried.handovers == 0 { step } else { shortened(UNCONFIRMED_STEP) };
            Verdict::Again { after, handed_over: true, reason }
        }
    }
}

fn step_after(attempts: i64) -> i64 {
    match attempts {
        ..=1 => SECOND,
        2 => 5 * SECOND,
        3 => 30 * SECOND,
        4..=QUICK_TRIES => QUICK_STEP,
        13 => 2 * MINUTE,
        14 => 10 * MINUTE,
        _ => HOUR,
    }
}

/// What the last deliveries say about the server. While it is in trouble one mail at a time probes it, whatever its
/// own turn, and the first success lets all others go at once: a long back-off of single mails must not outlast the
/// trouble of the server.
#[derive(Debug, Default)]
pub(crate) struct Health {
    troubled: bool,
    probes: u32,
    /// The mail that failed last, with no success since.
    failing: Option<String>,
}

impl Health {
    const LONGEST_PAUSE: u64 = 20;

    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled
    }

    /// Takes note of a delivery; true when trouble has just ended.
    pub(crate) fn note(&mut self, mail: &str, delivery: &Delivery) -> bool {
        match delivery {
            // A refusal for good is an answer: the server works.
            Delivery::Sent | Delivery::Refused(_) => {
                self.failing = None;
                self.probes = 0;
                return std::mem::take(&mut self.troubled);
            }
            Delivery::ServerTrouble(_) => self.troubled = true,
            // One mailbox that is full or greylisted is no trouble; two different mails in a row are.
            Delivery::Later(_) | Delivery::Unconfirmed(_) => {
                let other = self.failing.as_deref().is_some_and(|failing| failing != mail);
                self.troubled |= other;
            }
        }
        self.failing = Some(mail.to_string());
        self.probes = self.probes.saturating_add(1);
        false
    }

    /// How long to wait before the next probe: 1, 2, 4, 8, 16, 20 seconds, times `jitter` / 1.5.
    pub(crate) fn pause(&self, jitter: f64) -> Duration {
        let seconds = (1u64 << self.probes.saturating_sub(1).min(5)).min(Self::LONGEST_PAUSE);
        Duration::from_secs(seconds).mul_f64((jitter / 1.5).clamp(0.1, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason() -> Reason {
        Reason::new("recipient", Some(450), "try later")
    }

    fn tried(attempts: i64, handovers: i64) -> Try {
        Try { attempts, handovers, created_at: Millis(0) }
    }

    #[test]
    fn an_outage_of_minutes_is_noticed_to_be_over_within_a_minute_by_each_mail_alone() {
        let mut now = 0;
        for attempts in 1.. {
            if now >= 5 * MINUTE {
                break;
            }
            let Verdict::Again { after, .. } =
                judge(Delivery::Later(reason()), tried(attempts, 0), Millis(now), 1.5)
            else {
                panic!("given up after {now} ms")
            };
            assert!(after <= MINUTE, "{after} ms at {now}");
            now += after;
        }
    }

    #[test]
    fn passing_trouble_is_outlasted_for_a_day_and_a_refusal_for_minutes() {
        let last = |delivery: fn(Reason) -> Delivery| {
            let mut now = 0;
            for attempts in 1.. {
                match judge(delivery(reason()), tried(attempts, 0), Millis(now), 1.5) {
                    Verdict::Again { after, .. } => now += after,
                    Verdict::Failed(_) => return (now, attempts),
                    Verdict::Sent => unreachable!(),
                }
            }
            unreachable!()
        };
        let (given_up, tries) = last(Delivery::Later);
        assert!((DAY..DAY + HOUR).contains(&given_up) && tries < 50, "{given_up} {tries}");
        let (refused, tries) = last(Delivery::Refused);
        assert!((REFUSED_FOR..REFUSED_FOR + MINUTE).contains(&refused) && tries <= 10, "{refused} {tries}");
    }

    #[test]
    fn content_that_was_handed_over_twice_waits_an_hour() {
        let wait = |handovers| match judge(
            Delivery::Unconfirmed(reason()),
            tried(1 + handovers, handovers),
            Millis(0),
            1.5,
        ) {
            Verdict::Again { after, handed_over: true, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!((wait(0), wait(1), wait(2)), (SECOND, HOUR, HOUR));
    }

    #[test]
    fn one_full_mailbox_is_no_trouble_of_the_server_but_two_mails_in_a_row_are() {
        let mut health = Health::default();
        for _ in 0..5 {
            assert!(!health.note("a", &Delivery::Later(reason())));
        }
        assert!(!health.is_troubled());
        health.note("b", &Delivery::Sent);
        health.note("c", &Delivery::Later(reason()));
        assert!(!health.is_troubled());
        health.note("a", &Delivery::Later(reason()));
        assert!(health.is_troubled());
        assert!(health.note("a", &Delivery::Sent));
        assert!(!health.is_troubled() && !health.note("a", &Delivery::Sent));
        health.note("a", &Delivery::ServerTrouble(reason()));
        assert!(health.is_troubled());
    }

    #[test]
    fn reasons_stay_short_and_on_one_line() {
        let reason = Reason::new("recipient", Some(550), &format!("no\r\nsuch {}", "x".repeat(1_000)));
        assert!(reason.full().len() < 250 && !reason.full().contains(['\r', '\n']));
        assert_eq!(reason.short(), "recipient: 550");
    }

    proptest! {
        #[test]
        fn waits_are_positive_and_never_longer_than_an_hour(attempts in 1i64..100_000, handovers in 0i64..100, now in any::<i64>(), jitter in 0.5f64..1.5) {
            for delivery in [Delivery::Later(reason()), Delivery::Unconfirmed(reason()), Delivery::Refused(reason())] {
                if let Verdict::Again { after, .. } = judge(delivery, tried(attempts, handovers), Millis(now), jitter) {
                    prop_assert!((SECOND / 3..=HOUR).contains(&after));
                }
            }
        }

        #[test]
        fn probes_come_at_least_every_twenty_seconds(failures in 1u32..100, jitter in 0.5f64..1.5) {
            let mut health = Health::default();
            for _ in 0..failures {
                health.note("a", &Delivery::ServerTrouble(reason()));
            }
            prop_assert!(health.pause(jitter) <= Duration::from_secs(20));
        }
    }
}
