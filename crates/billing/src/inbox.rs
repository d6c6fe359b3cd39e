//! The inbox: verified events as rows. A delivery is answered as soon as its row is written; the work happens afterwards, on any
//! node, under a lease, until it is done or given up.

use kernel::Millis;
use kernel::time::{DAY, HOUR, MINUTE, SECOND};
use store::{Error, Row, Tx, params};

/// Workers renew theirs as long as they work, so that after a crash nothing waits for long.
const LEASE: i64 = 20 * SECOND;
/// Of somebody who does the work once and renews nothing: longer than the slowest work on one event.
const LEASE_BY_HAND: i64 = 2 * MINUTE;
/// Stripe itself stops after three days.
const GIVE_UP_AFTER: i64 = 3 * DAY;

macro_rules! columns {
    () => {
        "id, kind, subject, state, attempts, error, effect, created_at, received_at, done_at"
    };
}

const RECEIVE: &str = "
    INSERT INTO billing_inbox (id, kind, subject, state, attempts, due_at, leased_until, effect, created_at, received_at, done_at)
    VALUES ($1, $2, $3, $4, $9, $5, $10, $6, $7, $5, $8)
    ON CONFLICT (id) DO NOTHING";
const READY: &str = "
    SELECT id FROM billing_inbox WHERE state = 'pending' AND due_at <= $1 AND leased_until <= $1 ORDER BY due_at LIMIT $2";
const LEASE_ONE: &str = "
    UPDATE billing_inbox SET leased_until = $3, attempts = attempts + 1
    WHERE id = $1 AND state = 'pending' AND leased_until <= $2 RETURNING subject, attempts, received_at";
const RENEW: &str = "
    UPDATE billing_inbox SET leased_until = $2 WHERE id = $1 AND state = 'pending' AND leased_until > 0";
const GIVE_BACK: &str = "
    UPDATE billing_inbox SET leased_until = 0, attempts = attempts - 1
    WHERE id = $1 AND state = 'pending' AND leased_until > 0";
const DONE: &str = "
    UPDATE billing_inbox SET state = $2, effect = $3, error = NULL, leased_until = 0, done_at = $4
    WHERE id = $1 AND state = 'pending'";
const AGAIN: &str = "
    UPDATE billing_inbox SET state = $2, error = $3, due_at = $4, leased_until = 0
    WHERE id = $1 AND state = 'pending'";
const REOPEN: &str = "
    UPDATE billing_inbox SET state = 'pending', attempts = 1, due_at = $2, leased_until = $3, error = NULL, done_at = NULL, received_at = $2
    WHERE id = $1 AND subject IS NOT NULL AND leased_until <= $2 RETURNING subject";
const ONE: &str = concat!("SELECT ", columns!(), " FROM billing_inbox WHERE id = $1");
const NEWEST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM billing_inbox WHERE (received_at, id) < ($1, $2) ORDER BY received_at DESC, id DESC LIMIT $3"
);
const NEWEST_IN_STATE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM billing_inbox WHERE state = $4 AND (received_at, id) < ($1, $2) ORDER BY received_at DESC, id DESC LIMIT $3"
);
const COUNTS: &str = "SELECT state, COUNT(*) FROM billing_inbox GROUP BY state";
const FORGET: &str = "
    DELETE FROM billing_inbox WHERE id IN (
      SELECT id FROM billing_inbox WHERE received_at < $1 AND state IN ('done', 'ignored') ORDER BY received_at LIMIT $2)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Done,
    /// Verified and kept, and nothing of ours.
    Ignored,
    /// Given up; `replay` opens it again.
    Failed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Done => "done",
            State::Ignored => "ignored",
            State::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        [State::Pending, State::Done, State::Ignored, State::Failed]
            .into_iter()
            .find(|state| state.name() == text)
    }
}

/// An event that has been verified.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// Stripe's id.
    pub event: &'a str,
    pub livemode: bool,
    pub kind: &'a str,
    /// None: it is kept and ignored.
    pub subject: Option<String>,
    pub created_at: Millis,
    /// Why it is ignored.
    pub remark: Option<&'static str>,
    /// Whoever writes it down works on it at once, and nobody else meanwhile.
    pub leased: bool,
}

/// As operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub kind: String,
    pub subject: Option<String>,
    pub state: State,
    pub attempts: i64,
    pub error: Option<String>,
    pub effect: Option<String>,
    pub created_at: Millis,
    pub received_at: Millis,
    pub done_at: Option<Millis>,
}

impl Seen {
    /// As Stripe spells it.
    pub fn event_id(&self) -> &str {
        self.id.split_once(':').map_or(self.id.as_str(), |(_, event)| event)
    }

    pub fn livemode(&self) -> bool {
        self.id.starts_with("live:")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    pub id: String,
    pub subject: String,
    pub attempts: i64,
    pub received_at: Millis,
}

/// The mode is part of the id: test and live events never meet.
pub fn row_id(event: &str, livemode: bool) -> String {
    if livemode { format!("live:{event}") } else { format!("test:{event}") }
}

/// False when it is there already.
pub fn receive(tx: &mut Tx<'_>, arrival: &Arrival<'_>, now: Millis) -> Result<bool, Error> {
    let id = row_id(arrival.event, arrival.livemode);
    let pending = arrival.subject.is_some();
    let state = if pending { State::Pending } else { State::Ignored };
    let done_at = (!pending).then_some(now);
    let (attempts, leased_until) =
        if pending && arrival.leased { (1, now.plus(LEASE_BY_HAND)) } else { (0, Millis(0)) };
    let values = params![
        &id,
        arrival.kind,
        &arrival.subject,
        state.name(),
        now,
        arrival.remark,
        arrival.created_at,
        done_at,
        attempts,
        leased_until
    ];
    Ok(tx.execute(RECEIVE, values)? == 1)
}

/// Whether [`lease`] would find something, without writing.
pub fn is_any_ready(tx: &mut Tx<'_>, now: Millis) -> Result<bool, Error> {
    Ok(tx.query_opt(READY, params![now, 1], |_| Ok(()))?.is_some())
}

pub fn lease(tx: &mut Tx<'_>, most: usize, now: Millis) -> Result<Vec<Leased>, Error> {
    let ids = tx.query(READY, params![now, most as i64], |row| row.get::<String>(0))?;
    let mut leased = Vec::with_capacity(ids.len());
    for id in ids {
        let read = |row: &Row<'_>| Ok((row.get::<Option<String>>(0)?, row.get(1)?, row.get(2)?));
        // Another node may have been faster.
        let row = tx.query_opt(LEASE_ONE, params![&id, now, now.plus(LEASE)], read)?;
        if let Some((Some(subject), attempts, received_at)) = row {
            leased.push(Leased { id, subject, attempts, received_at });
        }
    }
    Ok(leased)
}

/// For work that is still under way.
pub fn renew(tx: &mut Tx<'_>, ids: &[String], now: Millis) -> Result<(), Error> {
    for id in ids {
        tx.execute(RENEW, params![id, now.plus(LEASE)])?;
    }
    Ok(())
}

/// What was begun and is not going to be finished: somebody else may take it at once.
pub fn give_back(tx: &mut Tx<'_>, ids: &[String]) -> Result<(), Error> {
    for id in ids {
        tx.execute(GIVE_BACK, params![id])?;
    }
    Ok(())
}

/// In the transaction of the effect.
pub fn done(tx: &mut Tx<'_>, id: &str, state: State, effect: &str, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(DONE, params![id, state.name(), effect, now])? == 1)
}

/// What came to nothing is tried again later, or given up. `true` when it was given up.
pub fn failed(tx: &mut Tx<'_>, leased: &Leased, error: &str, now: Millis) -> Result<bool, Error> {
    let over = now.0.saturating_sub(leased.received_at.0) >= GIVE_UP_AFTER;
    let state = if over { State::Failed } else { State::Pending };
    let due = now.plus(pause(leased.attempts));
    tx.execute(AGAIN, params![&leased.id, state.name(), error, due])?;
    Ok(over)
}

/// What can never succeed is put aside at once, where operators see it.
pub fn put_aside(tx: &mut Tx<'_>, id: &str, error: &str, now: Millis) -> Result<(), Error> {
    tx.execute(AGAIN, params![id, State::Failed.name(), error, now]).map(|_| ())
}

fn pause(attempts: i64) -> i64 {
    match attempts {
        ..=1 => SECOND,
        2 => 5 * SECOND,
        3 => 30 * SECOND,
        4 => 2 * MINUTE,
        5 => 10 * MINUTE,
        6..=12 => HOUR,
        _ => 4 * HOUR,
    }
}

/// Replay: the work is to be done again, which changes nothing that was done, by whoever calls. `None` when there is no such
/// event, when it means nothing to us, or when somebody works on it now.
pub fn reopen(tx: &mut Tx<'_>, id: &str, now: Millis) -> Result<Option<Leased>, Error> {
    let subject = tx.query_opt(REOPEN, params![id, now, now.plus(LEASE_BY_HAND)], |row| row.get(0))?;
    Ok(subject.map(|subject| Leased { id: id.to_owned(), subject, attempts: 1, received_at: now }))
}

pub fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Seen>, Error> {
    tx.query_opt(ONE, params![id], read_seen)
}

/// Newest first, after the one that is given.
pub fn list(
    tx: &mut Tx<'_>,
    state: Option<State>,
    before: Option<(Millis, &str)>,
    most: i64,
) -> Result<Vec<Seen>, Error> {
    let (at, id) = before.unwrap_or((Millis(i64::MAX), ""));
    match state {
        Some(state) => tx.query(NEWEST_IN_STATE, params![at, id, most, state.name()], read_seen),
        None => tx.query(NEWEST, params![at, id, most], read_seen),
    }
}

/// How many there are in each state.
pub fn counts(tx: &mut Tx<'_>) -> Result<Vec<(String, i64)>, Error> {
    tx.query(COUNTS, params![], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// A chunk of a sweep; gives how many went.
pub fn forget(tx: &mut Tx<'_>, before: Millis, most: i64) -> Result<u64, Error> {
    tx.execute(FORGET, params![before, most])
}

fn read_seen(row: &Row<'_>) -> Result<Seen, Error> {
    let state = row.text(3)?;
    Ok(Seen {
        id: row.get(0)?,
        kind: row.get(1)?,
        subject: row.get(2)?,
        state: State::parse(state).ok_or_else(|| Error::Fault(format!("an event that is {state}")))?,
        attempts: row.get(4)?,
        error: row.get(5)?,
        effect: row.get(6)?,
        created_at: row.get(7)?,
        received_at: row.get(8)?,
        done_at: row.get(9)?,
    })
}
