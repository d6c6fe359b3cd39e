//! What may be spent in a day or a month: from an account in all, and from it by one key or one member.

use super::{Done, Lack, Outcome, Stop};
use crate::account::{Account, Limit};
use crate::command::{Charge, Period, Refusal};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::spender::{Spender, SpentBy};
use kernel::Millis;

/// The limits of these spenders must be in memory before anything is changed. An account without limits has none for a
/// spender.
pub(super) fn lacks(account: &Account, spenders: impl Iterator<Item = Spender>) -> Result<(), Stop> {
    if !account.has_limits {
        return Ok(());
    }
    let missing = spenders.flat_map(|spender| spender.parts().collect::<Vec<_>>());
    match missing.into_iter().find(|part| !account.spenders.contains_key(part)) {
        Some(part) => Err(Stop::Lacks(Lack::Spender(part))),
        None => Ok(()),
    }
}

pub(super) fn may_spend(
    settings: &Settings,
    account: &mut Account,
    charge: &Charge,
    now: Millis,
) -> Result<(), Stop> {
    lacks(account, charge.spender.iter().cloned())?;
    roll(settings, account, now);
    within(settings, account, charge.spender.as_ref(), now, |_| charge.amount)
}

/// A limit refuses what `amount` asks of it.
pub(super) fn within(
    settings: &Settings,
    account: &Account,
    spender: Option<&Spender>,
    now: Millis,
    amount: impl Fn(&Limit) -> i64,
) -> Result<(), Stop> {
    let parts: Vec<SpentBy> = spender.map(|spender| spender.parts().collect()).unwrap_or_default();
    let own = account.limits.iter().map(|limit| (None, limit));
    let of_spender = parts.iter().flat_map(|part| {
        account.spenders.get(part).into_iter().flatten().map(move |limit| (Some(part), limit))
    });
    let over =
        own.chain(of_spender).filter(|(_, limit)| limit.used.saturating_add(amount(limit)) > limit.max);
    // Of two that are as tight, the one that lasts longer: the other's end would not help.
    let tightest = over.min_by_key(|(_, limit)| (limit.max - limit.used, limit.period == Period::Day));
    let Some((part, tightest)) = tightest else { return Ok(()) };
    let (scope, id) = whose(account, part);
    Err(Stop::Refused(Refusal::LimitReached {
        scope,
        owner_id: id.to_owned(),
        period: tightest.period,
        max: tightest.max,
        used: tightest.used,
        resets_at: settings.window(tightest.period, now).1,
    }))
}

/// Scope and id of a limit, as it is told of.
pub(crate) fn whose<'a>(account: &'a Account, part: Option<&'a SpentBy>) -> (&'static str, &'a str) {
    match (part, &account.owner) {
        (Some(part), _) => (part.scope(), part.id()),
        (None, Owner::Organization(id)) => ("organization", id),
        (None, owner) => ("user", owner.id()),
    }
}

pub(super) fn set(
    settings: &Settings,
    account: &mut Account,
    of: Option<&SpentBy>,
    (period, max): (Period, Option<i64>),
    now: Millis,
) -> Done {
    roll(settings, account, now);
    let limits = match of {
        None => &mut account.limits,
        Some(part) => match account.spenders.get_mut(part) {
            Some(limits) => limits,
            None => return Err(Stop::Lacks(Lack::Spender(part.clone()))),
        },
    };
    match (max, of) {
        (Some(max), _) => {
            let Some(limit) = limits.iter_mut().find(|limit| limit.period == period) else {
                return Err(Stop::Lacks(Lack::Limit(of.cloned(), period, settings.window(period, now).0)));
            };
            limit.max = max;
            match of {
                None => {
                    account.changed.dropped_limits.retain(|dropped| *dropped != period);
                    account.changed.limits = true;
                }
                Some(part) => {
                    account
                        .changed
                        .dropped_spender_limits
                        .retain(|(of, dropped)| (of, *dropped) != (part, period));
                    account.changed.spenders.insert(part.clone());
                }
            }
            account.has_limits = true;
        }
        (None, None) => {
            limits.retain(|limit| limit.period != period);
            account.changed.dropped_limits.push(period);
        }
        (None, Some(part)) => {
            limits.retain(|limit| limit.period != period);
            account.changed.dropped_spender_limits.push((part.clone(), period));
        }
    }
    account.changed.account = true;
    Ok(Outcome::default())
}

pub(super) fn roll(settings: &Settings, account: &mut Account, now: Millis) {
    account.changed.limits |= roll_all(settings, &mut account.limits, now);
    for (part, limits) in &mut account.spenders {
        if roll_all(settings, limits, now) {
            account.changed.spenders.insert(part.clone());
        }
    }
}

fn roll_all(settings: &Settings, limits: &mut [Limit], now: Millis) -> bool {
    let mut rolled = false;
    for limit in limits {
        let start = settings.window(limit.period, now).0;
        if start > limit.starts_at {
            (limit.starts_at, limit.used) = (start, 0);
            rolled = true;
        }
    }
    rolled
}

pub(super) fn count(account: &mut Account, spender: Option<&Spender>, amount: i64) {
    change(account, spender, |limit| limit.used = limit.used.saturating_add(amount));
}

pub(super) fn give_back(account: &mut Account, spender: Option<&Spender>, amount: i64, at: Millis) {
    change(account, spender, |limit| {
        if at >= limit.starts_at {
            limit.used = (limit.used - amount).max(0);
        }
    });
}

fn change(account: &mut Account, spender: Option<&Spender>, change: impl Fn(&mut Limit)) {
    account.limits.iter_mut().for_each(&change);
    account.changed.limits |= !account.limits.is_empty();
    for part in spender.into_iter().flat_map(Spender::parts) {
        let Some(limits) = account.spenders.get_mut(&part).filter(|limits| !limits.is_empty()) else {
            continue;
        };
        limits.iter_mut().for_each(&change);
        account.changed.spenders.insert(part);
    }
}
