//! Events: what there is to tell, and how it is written down with the change that it tells of.

use crate::endpoints::{self, Listener};
use kernel::{Millis, random};
use serde_json::{Value, json};
use store::{Error, Tx, params};

/// What can happen. docs/reference/events.md says what each carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    UserCreated,
    UserDeleted,
    SessionRevoked,
    CreditsLow,
    CreditsGranted,
    CreditsClawedBack,
    PurchaseCompleted,
    PurchaseRefunded,
    SubscriptionChanged,
    DisputeOpened,
    DisputeClosed,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::UserCreated,
        Kind::UserDeleted,
        Kind::SessionRevoked,
        Kind::CreditsLow,
        Kind::CreditsGranted,
        Kind::CreditsClawedBack,
        Kind::PurchaseCompleted,
        Kind::PurchaseRefunded,
        Kind::SubscriptionChanged,
        Kind::DisputeOpened,
        Kind::DisputeClosed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::UserCreated => "user.created",
            Kind::UserDeleted => "user.deleted",
            Kind::SessionRevoked => "session.revoked",
            Kind::CreditsLow => "credits.low",
            Kind::CreditsGranted => "credits.granted",
            Kind::CreditsClawedBack => "credits.clawed_back",
            Kind::PurchaseCompleted => "purchase.completed",
            Kind::PurchaseRefunded => "purchase.refunded",
            Kind::SubscriptionChanged => "subscription.changed",
            Kind::DisputeOpened => "dispute.opened",
            Kind::DisputeClosed => "dispute.closed",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

/// The row that an event was made of afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Of one row one event is made.
    pub row: &'a str,
    /// When it happened.
    pub at: Millis,
}

const ADD: &str = "
    INSERT INTO hook_events (id, kind, subject, origin, payload, created_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (origin) DO NOTHING";
const ADD_DELIVERY: &str = "
    INSERT INTO hook_deliveries (event_id, endpoint_id, state, attempts, begun_at, due_at, leased_until)
    VALUES ($1, $2, 'waiting', 0, $3, $3, 0)";

/// Tells of a change in its transaction. Without an endpoint nothing is written. `subject` is whom it is about, as
/// `user:…`; `data` must hold no secret, since it is kept in clear.
pub fn tell(
    tx: &mut Tx<'_>,
    kind: Kind,
    subject: &str,
    now: Millis,
    data: impl FnOnce() -> Value,
) -> Result<(), Error> {
    let listeners = endpoints::listeners(tx)?;
    if !listeners.is_empty() {
        write(tx, kind, subject, None, now, now, &data(), &listeners)?;
    }
    Ok(())
}

/// Tells of a row that may have been told of before; then nothing happens. True when it is news.
pub fn tell_once(
    tx: &mut Tx<'_>,
    kind: Kind,
    subject: &str,
    origin: Origin<'_>,
    now: Millis,
    data: impl FnOnce() -> Value,
) -> Result<bool, Error> {
    let listeners = endpoints::listeners(tx)?;
    if listeners.is_empty() {
        return Ok(false);
    }
    write(tx, kind, subject, Some(origin.row), origin.at, now, &data(), &listeners)
}

#[expect(clippy::too_many_arguments, reason = "the columns of a row")]
fn write(
    tx: &mut Tx<'_>,
    kind: Kind,
    subject: &str,
    origin: Option<&str>,
    at: Millis,
    now: Millis,
    data: &Value,
    listeners: &[Listener],
) -> Result<bool, Error> {
    let id = format!("evt_{}", random::alphanumeric(&mut random::secure(), 24));
    let payload = json!({"type": kind.name(), "timestamp": at.iso(), "data": data}).to_string();
    if tx.execute(ADD, params![&id, kind.name(), subject, origin, &payload, now])? == 0 {
        return Ok(false);
    }
    for listener in listeners.iter().filter(|listener| listener.enabled && listener.wanted.has(kind)) {
        tx.execute(ADD_DELIVERY, params![&id, &listener.endpoint, now])?;
    }
    Ok(true)
}

// Only this kind names a person.
const FORGET_DELIVERIES: &str = "
    DELETE FROM hook_deliveries WHERE event_id IN (
      SELECT id FROM hook_events WHERE subject = $1 AND kind = 'user.created')";
const FORGET: &str = "DELETE FROM hook_events WHERE subject = $1 AND kind = 'user.created'";

/// Removes what names a person, in the transaction that deletes the user.
pub fn forget(tx: &mut Tx<'_>, subject: &str) -> Result<(), Error> {
    tx.execute(FORGET_DELIVERIES, params![subject])?;
    tx.execute(FORGET, params![subject]).map(|_| ())
}

const MARK: &str = "SELECT at FROM hook_marks WHERE name = $1";
const SET_MARK: &str = "
    INSERT INTO hook_marks (name, at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET at = excluded.at
    WHERE hook_marks.at < excluded.at";

/// Up to when a table was read whose rows become events.
pub fn mark(tx: &mut Tx<'_>, name: &str) -> Result<Option<Millis>, Error> {
    tx.query_opt(MARK, params![name], |row| row.get(0))
}

/// A mark only moves on.
pub fn set_mark(tx: &mut Tx<'_>, name: &str, at: Millis) -> Result<(), Error> {
    tx.execute(SET_MARK, params![name, at]).map(|_| ())
}
