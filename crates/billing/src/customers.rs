//! One customer at Stripe for each owner. A customer is never found by its address: whoever can write an address could take
//! somebody else's.

use crate::books::owner;
use credits::Owner;
use kernel::Millis;
use store::{Error, Tx, params};

const PREPARE: &str = "
    INSERT INTO billing_customers (owner, customer_id, generation, email, created_at) VALUES ($1, NULL, 1, $2, $3)
    ON CONFLICT (owner) DO NOTHING";
const OF_OWNER: &str = "SELECT customer_id, generation, email FROM billing_customers WHERE owner = $1";
const KEEP: &str = "
    UPDATE billing_customers SET customer_id = $2 WHERE owner = $1 AND generation = $3 AND customer_id IS NULL";
const OWNER_OF: &str = "SELECT owner FROM billing_customers WHERE customer_id = $1";
const FORGET_ADDRESS: &str =
    "UPDATE billing_customers SET email = NULL WHERE owner = $1 AND email IS NOT NULL";
const UNLINK: &str = "
    UPDATE billing_customers SET customer_id = NULL, generation = generation + 1 WHERE customer_id = $1";

/// What is known of an owner's customer before Stripe is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    pub customer_id: Option<String>,
    pub generation: i64,
    pub email: Option<String>,
}

impl Prepared {
    /// The same for everybody who makes this owner's customer, so that Stripe makes one.
    pub fn idempotency_key(&self, owner: &Owner) -> String {
        format!("tg:customer:{owner}:{}", self.generation)
    }
}

/// The address is the owner's, if it has been proved; it stays as the first call names it.
pub fn prepare(tx: &mut Tx<'_>, owner: &Owner, email: Option<&str>, now: Millis) -> Result<Prepared, Error> {
    let owner = owner.to_string();
    tx.execute(PREPARE, params![&owner, email, now])?;
    tx.query_one(OF_OWNER, params![&owner], |row| {
        Ok(Prepared { customer_id: row.get(0)?, generation: row.get(1)?, email: row.get(2)? })
    })
}

/// Keeps what Stripe made. Whoever comes second finds the same id there.
pub fn keep(tx: &mut Tx<'_>, owner: &Owner, prepared: &Prepared, customer_id: &str) -> Result<(), Error> {
    tx.execute(KEEP, params![&owner.to_string(), customer_id, prepared.generation]).map(|_| ())
}

pub fn of_owner(tx: &mut Tx<'_>, owner: &Owner) -> Result<Option<String>, Error> {
    Ok(tx.query_opt(OF_OWNER, params![&owner.to_string()], |row| row.get(0))?.flatten())
}

pub fn owner_of(tx: &mut Tx<'_>, customer_id: &str) -> Result<Option<Owner>, Error> {
    tx.query_opt(OWNER_OF, params![customer_id], |row| owner(row.text(0)?))
}

/// The owner was deleted; their customer stays known, since money may still come back.
pub fn forget_address(tx: &mut Tx<'_>, owner: &Owner) -> Result<(), Error> {
    tx.execute(FORGET_ADDRESS, params![&owner.to_string()]).map(|_| ())
}

/// Stripe's customer is gone; what was bought stays.
pub fn unlink(tx: &mut Tx<'_>, customer_id: &str) -> Result<bool, Error> {
    Ok(tx.execute(UNLINK, params![customer_id])? == 1)
}
