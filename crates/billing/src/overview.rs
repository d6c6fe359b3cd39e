//! What an operator wants to see of billing at a glance: work that waits, work that was given up, and what a person should look at.

use crate::books::owner;
use crate::subscriptions::{self, Running};
use crate::topups;
use credits::Owner;
use kernel::Millis;
use store::{Error, Row, Tx, params};

/// As many as a person reads.
const MOST: i64 = 100;

const PENDING: &str =
    "SELECT COUNT(*), COALESCE(MIN(received_at), 0) FROM billing_inbox WHERE state = 'pending'";
const FAILED: &str = "SELECT COUNT(*) FROM billing_inbox WHERE state = 'failed'";
const CHECKOUTS: &str = "
    SELECT status, COUNT(*) FROM billing_checkouts WHERE status IN ('open', 'processing') GROUP BY status";
const SUBSCRIPTIONS: &str = "
    SELECT status, COUNT(*) FROM billing_subscriptions WHERE live GROUP BY status ORDER BY status";
const DISPUTES: &str = "
    SELECT d.id, d.payment_intent, d.amount, d.status, d.created_at,
      (SELECT MIN(p.owner) FROM billing_payments p WHERE p.payment_intent = d.payment_intent),
      (SELECT MIN(p.currency) FROM billing_payments p WHERE p.payment_intent = d.payment_intent)
    FROM billing_disputes d
    WHERE d.standing = 'open' OR d.status IN ('warning_needs_response', 'warning_under_review')
    ORDER BY d.created_at, d.id LIMIT $1";

/// Events that are not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub pending: i64,
    /// When the oldest of those that wait arrived.
    pub oldest: Option<Millis>,
    /// Given up.
    pub failed: i64,
}

/// A dispute or inquiry that is not decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDispute {
    pub id: String,
    pub payment_intent: String,
    /// In the smallest unit of the currency.
    pub amount: i64,
    /// Stripe's word.
    pub status: String,
    pub since: Millis,
    /// None: nothing of ours was bought with this payment.
    pub owner: Option<Owner>,
    pub currency: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    pub load: Load,
    /// Checkouts of which the end is not known: status and count.
    pub checkouts: Vec<(String, i64)>,
    /// Running ones, by Stripe's word for their state.
    pub subscriptions: Vec<(String, i64)>,
    /// Automatic top-ups: state and count.
    pub top_ups: Vec<(String, i64)>,
    /// Second subscriptions of one owner, who pays twice.
    pub extra: Vec<Running>,
    pub disputes: Vec<OpenDispute>,
}

/// Cheap: it is asked for again and again.
pub fn load(tx: &mut Tx<'_>) -> Result<Load, Error> {
    let (pending, oldest) = tx.query_one(PENDING, params![], |row| Ok((row.get(0)?, row.get::<i64>(1)?)))?;
    let failed = tx.query_one(FAILED, params![], |row| row.get(0))?;
    Ok(Load { pending, oldest: (pending > 0).then_some(Millis(oldest)), failed })
}

pub fn overview(tx: &mut Tx<'_>) -> Result<Overview, Error> {
    let counted = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(Overview {
        load: load(tx)?,
        checkouts: tx.query(CHECKOUTS, params![], counted)?,
        subscriptions: tx.query(SUBSCRIPTIONS, params![], counted)?,
        top_ups: topups::counts(tx)?,
        extra: subscriptions::extra(tx, MOST)?,
        disputes: tx.query(DISPUTES, params![MOST], read_dispute)?,
    })
}

fn read_dispute(row: &Row<'_>) -> Result<OpenDispute, Error> {
    Ok(OpenDispute {
        id: row.get(0)?,
        payment_intent: row.get(1)?,
        amount: row.get(2)?,
        status: row.get(3)?,
        since: row.get(4)?,
        owner: row.get::<Option<String>>(5)?.as_deref().map(owner).transpose()?,
        currency: row.get(6)?,
    })
}
