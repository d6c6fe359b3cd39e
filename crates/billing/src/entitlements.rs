//! What a plan turns on in the app, beside credits, for as long as its subscription is live.

use crate::catalogue::Catalogue;
use crate::subscriptions::{Running, gives_access};
use credits::Owner;
use store::{Error, Tx, params};

/// Of two live ones the one that counts, as [`crate::subscriptions::of_owner`] says.
const LIVE: &str = "
    SELECT plan, status FROM billing_subscriptions WHERE owner = $1 AND live
    ORDER BY extra, created_at DESC, id LIMIT 1";

/// What an owner's plan turns on now. Nothing is read where no plan turns anything on.
pub fn features<'c>(tx: &mut Tx<'_>, catalogue: &'c Catalogue, owner: &Owner) -> Result<&'c [String], Error> {
    if !catalogue.has_features() {
        return Ok(&[]);
    }
    let found = tx.query_opt(LIVE, params![&owner.to_string()], |row| {
        Ok((row.get::<Option<String>>(0)?, row.get::<String>(1)?))
    })?;
    Ok(found.map_or(&[], |(plan, status)| turned_on(catalogue, plan.as_deref(), &status)))
}

/// The same of a subscription that was read.
pub fn features_of<'c>(catalogue: &'c Catalogue, running: Option<&Running>) -> &'c [String] {
    let live = running.filter(|running| running.live);
    live.map_or(&[], |running| turned_on(catalogue, running.plan.as_deref(), &running.status))
}

fn turned_on<'c>(catalogue: &'c Catalogue, plan: Option<&str>, status: &str) -> &'c [String] {
    let plan = plan.filter(|_| gives_access(status)).and_then(|name| catalogue.plans.get(name));
    plan.map_or(&[], |plan| &plan.features)
}
