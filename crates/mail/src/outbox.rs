//! The table of promised mails: written with the change that promises them, leased by whoever sends them.

use crate::address::{Address, Recipient};
use crate::message::Message;
use crate::schedule::Verdict;
use kernel::{Millis, Vault, random};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use store::{Error, Tx, params};
use tokio::sync::Notify;

const PURPOSE: &str = "mail";
/// Longer than any try can last, so that a row is only taken from a node that is gone.
pub(crate) const LEASE: i64 = 60 * kernel::time::SECOND;
/// Rows that one statement of a sweep changes: a few milliseconds.
const CHUNK: i64 = 500;

/// Rings the [`crate::Mailer`] of this process; cheap to clone.
#[derive(Clone, Default)]
pub struct Outbox {
    pub(crate) rung: Arc<Notify>,
}

impl Outbox {
    /// To be called after the transaction that called [`enqueue`] was committed; without it the mail leaves a second
    /// later.
    pub fn wake(&self) {
        self.rung.notify_one();
    }
}

/// What is sealed. The address is in it once more: a row whose recipient was changed does not open.
#[derive(Serialize, Deserialize)]
struct Content {
    to: Address,
    name: Option<String>,
    message: Message,
}

const INSERT: &str = "
INSERT INTO mails (id, recipient, template, content_sealed, state, attempts, handovers, due_at, leased_until, created_at)
VALUES ($1, $2, $3, $4, 'waiting', 0, 0, $5, 0, $5)";

/// Promises a mail as part of the caller's change. Nothing but the recipient and the kind of mail is stored in clear.
pub fn enqueue(
    tx: &mut Tx<'_>,
    vault: &Vault,
    to: &Recipient,
    message: &Message,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let content = Content { to: to.address.clone(), name: to.name.clone(), message: message.clone() };
    let content = serde_json::to_string(&content).map_err(|error| Error::Fault(error.to_string()))?;
    let sealed = vault.seal(PURPOSE, &content, rng);
    let id = new_id(now, rng);
    tx.execute(INSERT, params![&id, to.address.as_str(), message.template(), &sealed, now])?;
    Ok(())
}

const INSERT_NOTHING: &str = "
INSERT INTO mails (id, recipient, template, content_sealed, state, attempts, handovers, due_at, leased_until, created_at)
VALUES ($1, '', $2, $3, 'skipped', 0, 0, $4, 0, $4)";

/// As much work as [`enqueue`] where there is nobody to write to, so that the time of an answer does not tell. Nobody ever
/// opens what is sealed here; the row is swept with the sent ones.
pub fn pretend(
    tx: &mut Tx<'_>,
    vault: &Vault,
    template: &'static str,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let sealed = vault.seal("no mail", &" ".repeat(256), rng);
    tx.execute(INSERT_NOTHING, params![&new_id(now, rng), template, &sealed, now]).map(|_| ())
}

/// Ids sort by time, so that pages of the inbox can go on from one.
fn new_id(now: Millis, rng: &mut impl CryptoRng) -> String {
    let random: [u8; 10] = random::bytes(rng);
    let tail: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{:012x}{tail}", now.0.max(0))
}

/// What a sealed content says, if it belongs to the row's recipient.
pub(crate) fn open(vault: &Vault, recipient: &str, sealed: &str) -> Option<(Recipient, Message)> {
    let content: Content = serde_json::from_str(&vault.open(PURPOSE, sealed)?).ok()?;
    let Content { to, name, message } = content;
    (to.as_str() == recipient).then_some((Recipient { address: to, name }, message))
}

/// A row that this node may send until its lease ends.
#[derive(Clone)]
pub(crate) struct Leased {
    pub(crate) id: String,
    pub(crate) recipient: String,
    pub(crate) template: String,
    pub(crate) content_sealed: String,
    pub(crate) attempts: i64,
    pub(crate) handovers: i64,
    pub(crate) created_at: Millis,
    pub(crate) leased_until: Millis,
}

/// Which rows may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Those whose time has come.
    Due,
    /// Any that waits, to probe a server in trouble; not those that may have been delivered twice already.
    Any,
}

impl Turn {
    fn latest(self, now: Millis) -> Millis {
        if self == Turn::Due { now } else { Millis(i64::MAX) }
    }
}

const IS_ANY_READY: &str = "
SELECT 1 FROM mails
WHERE state = 'waiting' AND due_at <= $2 AND (due_at <= $1 OR handovers < 2) AND leased_until <= $1
LIMIT 1";

/// A cheap look before [`lease`], which writes.
pub(crate) fn is_any_ready(tx: &mut Tx<'_>, turn: Turn, now: Millis) -> Result<bool, Error> {
    Ok(tx.query_opt(IS_ANY_READY, params![now, turn.latest(now)], |_| Ok(()))?.is_some())
}

/// The outer conditions are not a repetition: a node that waited for another's row lock checks them anew on the row as
/// the other left it, and goes without.
const TAKE: &str = "
UPDATE mails SET leased_until = $3, attempts = attempts + 1
WHERE state = 'waiting' AND leased_until <= $1 AND id IN (
  SELECT id FROM mails
  WHERE state = 'waiting' AND due_at <= $2 AND (due_at <= $1 OR handovers < 2) AND leased_until <= $1
  ORDER BY due_at LIMIT $4)
RETURNING id, recipient, template, content_sealed, attempts, handovers, created_at, leased_until";

pub(crate) fn lease(tx: &mut Tx<'_>, turn: Turn, limit: usize, now: Millis) -> Result<Vec<Leased>, Error> {
    let values = params![now, turn.latest(now), now.plus(LEASE), limit as i64];
    tx.query(TAKE, values, |row| {
        Ok(Leased {
            id: row.get(0)?,
            recipient: row.get(1)?,
            template: row.get(2)?,
            content_sealed: row.get(3)?,
            attempts: row.get(4)?,
            handovers: row.get(5)?,
            created_at: row.get(6)?,
            leased_until: row.get(7)?,
        })
    })
}

/// Not guarded by the lease: what was sent was sent, whoever holds the row by now.
const MARK_SENT: &str = "
UPDATE mails SET state = 'sent', content_sealed = '', last_error = NULL, sent_at = $2, leased_until = 0
WHERE id = $1 AND state = 'waiting'";

const MARK_FAILED: &str = "
UPDATE mails SET state = 'failed', content_sealed = '', last_error = $3, leased_until = 0
WHERE id = $1 AND leased_until = $2 AND state = 'waiting'";

const PUT_OFF: &str = "
UPDATE mails SET due_at = $3, handovers = handovers + $4, last_error = $5, leased_until = 0
WHERE id = $1 AND leased_until = $2 AND state = 'waiting'";

/// Writes down what came of a try.
pub(crate) fn settle(tx: &mut Tx<'_>, leased: &Leased, verdict: &Verdict, now: Millis) -> Result<(), Error> {
    let (id, lease) = (&leased.id, leased.leased_until);
    match verdict {
        Verdict::Sent => tx.execute(MARK_SENT, params![id, now])?,
        Verdict::Failed(reason) => tx.execute(MARK_FAILED, params![id, lease, &reason.full()])?,
        Verdict::Again { after, handed_over, reason } => {
            let handed_over = i64::from(*handed_over);
            tx.execute(PUT_OFF, params![id, lease, now.plus(*after), handed_over, &reason.full()])?
        }
    };
    Ok(())
}

const PULL_FORWARD: &str = "
UPDATE mails SET due_at = $1
WHERE state = 'waiting' AND due_at > $1 AND handovers < 2 AND id IN (
  SELECT id FROM mails WHERE state = 'waiting' AND due_at > $1 AND handovers < 2 LIMIT $2)";

/// Makes what was put off due at once; true when there may be more.
pub(crate) fn pull_forward(tx: &mut Tx<'_>, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(PULL_FORWARD, params![now, CHUNK])? == CHUNK as u64)
}

const CAPTURE: &str = "
UPDATE mails SET state = 'captured', leased_until = 0
WHERE state = 'waiting' AND id IN (SELECT id FROM mails WHERE state = 'waiting' LIMIT $1)";

const SKIP: &str = "
UPDATE mails SET state = 'skipped', content_sealed = '', leased_until = 0
WHERE state = 'waiting' AND id IN (SELECT id FROM mails WHERE state = 'waiting' LIMIT $1)";

const IS_ANY_WAITING: &str = "SELECT 1 FROM mails WHERE state = 'waiting' LIMIT 1";

pub(crate) fn is_any_waiting(tx: &mut Tx<'_>) -> Result<bool, Error> {
    Ok(tx.query_opt(IS_ANY_WAITING, params![], |_| Ok(()))?.is_some())
}

/// For `dev`: the mail stays as it is, for the inbox page. True when there may be more.
pub(crate) fn capture(tx: &mut Tx<'_>) -> Result<bool, Error> {
    Ok(tx.execute(CAPTURE, params![CHUNK])? == CHUNK as u64)
}

/// For `smtp_url = "none"`: nothing is sent and nothing kept. True when there may be more.
pub(crate) fn skip(tx: &mut Tx<'_>) -> Result<bool, Error> {
    Ok(tx.execute(SKIP, params![CHUNK])? == CHUNK as u64)
}

const SWEEP: &str = "
DELETE FROM mails WHERE id IN (
  SELECT id FROM mails WHERE created_at < $1 AND state <> 'waiting' ORDER BY created_at LIMIT $2)";

/// Deletes mails that no longer wait and are older than `keep` milliseconds, a chunk of them; gives how many. To be
/// called in transactions of their own until it gives 0.
pub fn sweep(tx: &mut Tx<'_>, now: Millis, keep: i64) -> Result<u64, Error> {
    tx.execute(SWEEP, params![now.minus(keep), CHUNK])
}
