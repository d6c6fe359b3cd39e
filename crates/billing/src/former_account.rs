//! Another account at Stripe, which knows nothing of what hung on the one before: what was under way there has ended here. What
//! was paid and granted stays.

use kernel::Millis;
use store::{Error, Tx, params};

const SUBSCRIPTIONS: &str = "
    UPDATE billing_subscriptions SET status = 'canceled', live = FALSE, extra = FALSE, updated_at = $1 WHERE live";
const CHECKOUTS: &str = "
    UPDATE billing_checkouts SET status = 'expired', updated_at = $1 WHERE status IN ('open', 'processing')";
const CUSTOMERS: &str = "
    UPDATE billing_customers SET customer_id = NULL, generation = generation + 1 WHERE customer_id IS NOT NULL";

const TOP_UPS: &str = "
    UPDATE billing_topups SET checkout_id = NULL, customer_id = NULL, payment_method = NULL, leased_until = 0, attempts = 0,
      updated_at = $1
    WHERE checkout_id IS NOT NULL";

/// Only for an account that is certainly gone, as the till of a `dev` that has ended is.
pub fn end(tx: &mut Tx<'_>, now: Millis) -> Result<(), Error> {
    tx.execute(SUBSCRIPTIONS, params![now])?;
    tx.execute(CHECKOUTS, params![now])?;
    tx.execute(TOP_UPS, params![now])?;
    tx.execute(CUSTOMERS, params![]).map(|_| ())
}
