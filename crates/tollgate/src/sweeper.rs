//! Removes what is finished and old, a few milliseconds at a time. Any node may do it; doing it twice does no harm.

use crate::config::Retention;
use kernel::{Clock as _, Millis, SystemClock, random, time};
use std::time::Duration;
use store::{Counters, Error, Store, Tx};

const PAUSE: Duration = Duration::from_secs(600);
/// Events that go at once.
const EVENTS: i64 = 200;

/// How long things are kept, in milliseconds.
#[derive(Debug, Clone)]
pub struct Keep {
    pub retention: Retention,
    /// The life of a guest's cookie.
    pub guests: i64,
}

/// One chunk of one table; true when more may be left.
type Sweep = fn(&mut Tx<'_>, Millis, &Keep) -> Result<bool, Error>;

const SWEEPS: [(&str, Sweep); 11] = [
    ("sessions", |tx, now, keep| identity::sessions::sweep(tx, now.minus(keep.retention.ended_sessions))),
    ("one-time values", |tx, now, keep| {
        identity::one_time::sweep(tx, now.minus(keep.retention.one_time_values))
    }),
    ("device codes", |tx, now, keep| {
        identity::device_codes::sweep(tx, now.minus(keep.retention.one_time_values))
    }),
    ("API keys", |tx, now, keep| identity::api_keys::sweep(tx, now.minus(keep.retention.ended_sessions))),
    ("mails", |tx, now, keep| Ok(mail::sweep(tx, now, keep.retention.sent_mails)? > 0)),
    ("counters", |tx, now, _| Counters::sweep_in(tx, now)),
    ("events", |tx, now, keep| {
        let before = now.minus(keep.retention.billing_events);
        Ok(billing::inbox::forget(tx, before, EVENTS)? == EVENTS as u64)
    }),
    ("turns at Stripe's objects", |tx, now, _| billing::turns::sweep(tx, now)),
    ("outgoing events", |tx, now, keep| Ok(hooks::sweep(tx, now.minus(keep.retention.hook_events))? > 0)),
    ("notices of ends", |tx, now, _| Ok(credits::telling::sweep(tx, now)? > 0)),
    // A cookie is good in the second of its end.
    ("guests", |tx, now, keep| gate::guests::sweep(tx, now.minus(keep.guests + time::SECOND))),
];

/// Runs until the process ends. Nodes that started together do not sweep together.
pub async fn run(store: Store, keep: Keep) {
    loop {
        let factor = random::jitter(&mut random::secure());
        tokio::time::sleep(PAUSE.mul_f64(factor)).await;
        for (what, sweep) in SWEEPS {
            if let Err(error) = sweep_all(&store, &keep, sweep).await {
                tracing::warn!(what, %error, "sweeping stopped; the next round goes on");
            }
        }
    }
}

async fn sweep_all(store: &Store, keep: &Keep, sweep: Sweep) -> Result<(), Error> {
    loop {
        let (now, keep) = (SystemClock.now(), keep.clone());
        if !store.write(move |tx| sweep(tx, now, &keep)).await? {
            return Ok(());
        }
        // Whoever waits goes first.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use billing::inbox::{self, Arrival, State};
    use store::Options;

    const NOTHING: Retention =
        Retention { ended_sessions: 0, one_time_values: 0, sent_mails: 0, billing_events: 0, hook_events: 0 };

    #[tokio::test]
    async fn every_sweep_ends_on_an_empty_database() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        let keep = Keep { retention: NOTHING, guests: 0 };
        for (what, sweep) in SWEEPS {
            sweep_all(&store, &keep, sweep).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }

    #[tokio::test]
    async fn only_events_that_are_done_and_old_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        let now = SystemClock.now();
        let retention = Retention { billing_events: 90 * time::DAY, ..NOTHING };
        let keep = Keep { retention, guests: 0 };
        let written = store.write(move |tx| -> Result<(), Error> {
            for (name, state, days) in [
                ("old-done", State::Done, 91),
                ("old-ignored", State::Ignored, 91),
                ("old-pending", State::Pending, 91),
                ("old-failed", State::Failed, 91),
                ("young-done", State::Done, 89),
            ] {
                let arrival = Arrival {
                    event: name,
                    livemode: false,
                    kind: "invoice.paid",
                    subject: Some("invoice:in_1".into()),
                    created_at: now,
                    remark: None,
                    leased: false,
                };
                let id = inbox::row_id(name, false);
                inbox::receive(tx, &arrival, now.minus(days * time::DAY))?;
                match state {
                    State::Pending => {}
                    State::Failed => inbox::put_aside(tx, &id, "odd", now)?,
                    done => assert!(inbox::done(tx, &id, done, "nothing", now)?),
                }
            }
            Ok(())
        });
        written.await.unwrap();
        let (_, sweep) = SWEEPS.into_iter().find(|(what, _)| *what == "events").unwrap();
        sweep_all(&store, &keep, sweep).await.unwrap();
        let left = store.read(|tx| inbox::list(tx, None, None, 10)).await.unwrap();
        let mut left: Vec<&str> = left.iter().map(|seen| seen.event_id()).collect();
        left.sort_unstable();
        assert_eq!(left, ["old-failed", "old-pending", "young-done"]);
    }
}
