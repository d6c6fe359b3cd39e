//! Credits whose money is in doubt or went back: freezes, and claw-backs, which take what is frozen first.

use super::{
    Done, Header, Lack, Outcome, Stop, add_hold, fits, free, join, keep_back, live_hold, pick, split, take,
    take_held, taken, total, write,
};
use crate::account::{Account, Hold, HoldStatus, NEVER};
use crate::command::{Refusal, Shortfall};
use crate::entry::{Kind, Part};
use kernel::Millis;

/// A freeze, if it still lasts.
fn lasting_freeze(account: &Account, no: Option<i64>) -> Result<Option<Hold>, Stop> {
    let Some(no) = no else { return Ok(None) };
    match live_hold(account, no) {
        Ok(hold) => Ok(Some(hold).filter(Hold::is_freeze)),
        // Somebody ended it.
        Err(Stop::Refused(Refusal::Conflict { .. })) => Ok(None),
        Err(stop) => Err(stop),
    }
}

pub(super) fn freeze(
    account: &mut Account,
    amount: i64,
    instead_of: Option<i64>,
    reason: &str,
    now: Millis,
) -> Done {
    let old = lasting_freeze(account, instead_of)?;
    let parts = old.as_ref().map_or(&[][..], |old| &old.parts);
    let (kept, rest) = split(parts, amount);
    let more = pick(account, (amount - total(&kept)).min(account.available()).max(0))?;
    if let Some(old) = &old {
        if rest.is_empty() && more.is_empty() {
            return Ok(Outcome { hold: Some(old.no), ..Outcome::default() });
        }
        end_freeze(account, old.no, HoldStatus::Released, 0, now);
    }
    keep_back(account, &more);
    let mut fresh = keep_frozen(account, join(kept, more), reason, now);
    free(account, &rest, now);
    if fresh.is_none() {
        fresh = old.map(|old| old.no);
    }
    Ok(Outcome { hold: fresh, ..Outcome::default() })
}

fn end_freeze(account: &mut Account, no: i64, status: HoldStatus, captured: i64, now: Millis) {
    account.change_hold(no, |hold| {
        hold.status = status;
        hold.captured = captured;
        hold.ended_at = Some(now);
    });
}

/// A freeze of parts that are marked already; of nothing there is none.
fn keep_frozen(account: &mut Account, parts: Vec<Part>, reason: &str, now: Millis) -> Option<i64> {
    let amount = total(&parts);
    let hold = Hold {
        no: 0,
        amount,
        captured: 0,
        status: HoldStatus::Held,
        feature: None,
        quantity: None,
        price_version: None,
        reason: Some(reason.to_owned()),
        metadata: None,
        source_ref: None,
        parts,
        expires_at: NEVER,
        created_at: now,
        ended_at: None,
    };
    (amount > 0).then(|| add_hold(account, hold))
}

pub(super) fn claw_back(
    account: &mut Account,
    amount: i64,
    (frozen, grant): (Option<i64>, Option<i64>),
    shortfall: Shortfall,
    header: Header,
    now: Millis,
) -> Done {
    let freeze = lasting_freeze(account, frozen)?;
    let (kept, rest) = split(freeze.as_ref().map_or(&[][..], |freeze| &freeze.parts), amount);
    let amount_of_others = amount - total(&kept);
    let mut parts = Vec::new();
    if let Some(no) = grant.filter(|no| *no <= account.lot_count) {
        let Some(lot) = account.lots.get(&no) else { return Err(Stop::Lacks(Lack::TheseLots(vec![no]))) };
        let part = if lot.ended { 0 } else { lot.free().min(amount_of_others) };
        if part > 0 {
            parts.push(Part { lot: Some(no), amount: part });
        }
    }
    // The named grant may stand in the order as well; what is over is looked for behind it.
    let own = total(&parts);
    let picked = pick(account, amount_of_others)?;
    let mut left = amount_of_others - own;
    for part in picked.into_iter().filter(|part| own == 0 || part.lot != grant) {
        let here = part.amount.min(left);
        left -= here;
        if here > 0 {
            parts.push(Part { amount: here, ..part });
        }
    }
    let short = amount_of_others - total(&parts);
    let taken_now = match shortfall {
        Shortfall::Owe => amount,
        Shortfall::Clamp => amount - short,
    };
    fits(account, -taken_now)?;
    take_held(account, &kept);
    take(account, &parts, taken_now - total(&kept));
    let mut still_frozen = None;
    if let Some(freeze) = &freeze {
        end_freeze(account, freeze.no, HoldStatus::Captured, total(&kept), now);
        still_frozen = keep_frozen(account, rest, freeze.reason.as_deref().unwrap_or_default(), now);
    }
    let header = Header { hold_no: freeze.map(|freeze| freeze.no), ..header };
    let header = match short {
        0 => header,
        short => Header { metadata: Some(format!("{{\"shortfall\":{short}}}")), ..header },
    };
    let parts = taken(&join(kept, parts), taken_now);
    let entry = write(account, Kind::Clawback, "clawed", parts, header, now);
    Ok(Outcome { entry: Some(entry), hold: still_frozen, ..Outcome::default() })
}
