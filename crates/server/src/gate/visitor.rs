//! Who has no session and asks to do what a guest may: the guest cookie in place of the session, the allowance in place of
//! the charge.

use super::Gate;
use crate::edge::RequestContext;
use crate::guest;
use crate::service::Failure;
use gate::allowances::{Asked, Standing};
use gate::authorize::Demand;
use gate::guests;
use http::HeaderMap;
use kernel::{GuestId, time};

/// Whether such an action has an allowance, in words for whoever named another one.
pub(super) fn check(gate: &Gate, action: &str) -> Result<(), &'static str> {
    let known = gate.app.settings.guest.allowances.knows(action);
    known.then_some(()).ok_or("there is no such action in guest.allowances")
}

/// Lets a guest pass and counts the action, for the guest and for the address it comes from. Whoever demands a user, a
/// role or a payer demands a session.
pub(super) async fn pass(
    gate: &Gate,
    headers: &HeaderMap,
    demand: &Demand,
    action: &str,
    context: &RequestContext,
) -> Result<(GuestId, Standing), Failure> {
    let (app, now) = (&gate.app, context.now);
    if *demand != Demand::default() {
        return Err(Failure::Unauthenticated);
    }
    let guest = guest::presented(app, headers, now).ok_or(Failure::NoGuest)?;
    let asking = guest.clone();
    let exists = app.store.read(move |tx| guests::exists(tx, &asking)).await.map_err(Failure::Store)?;
    if !exists {
        return Err(Failure::NoGuest);
    }
    match app.settings.guest.allowances.take(&app.counters, action, &guest, context.client, now).await? {
        Asked::Allowed(standing) => Ok((guest, standing)),
        Asked::UsedUp { whose, standing } => {
            let wait = standing.resets_at.map_or(0, |at| at.0 - now.0);
            let seconds = (wait + time::SECOND - 1) / time::SECOND;
            Err(Failure::GuestLimitReached { whose, standing, seconds })
        }
        Asked::Unknown => Err(Failure::invalid("guest", "there is no such action in guest.allowances")),
    }
}
