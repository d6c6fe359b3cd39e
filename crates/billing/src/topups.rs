//! Automatic top-ups: who wants what bought when little is left, the one payment that may be under way, and what follows from
//! its end. The calls to Stripe are in [`crate::topping_up`].
//!
//! Spending starts a payment; credits that end by themselves or are taken back do not. So whoever is away is not charged, and a
//! refund is not bought again at once.

use crate::books::{Books, Problem, owner};
use crate::catalogue::{Catalogue, Pack};
use crate::checkouts::{self, Checkout, Kind, Offer, Unsellable};
use credits::{AccountId, Owner, Period, reads};
use identity::users::{self, Standing};
use kernel::time::{HOUR, MINUTE, SECOND};
use kernel::{Millis, UserId, random};
use mail::{Address, Link, Message, Recipient};
use store::{Error, Row, Tx, params};

macro_rules! columns {
    () => {
        "owner, unit, pack, below, monthly_max, enabled, checkout_id, customer_id, payment_method, leased_until, attempts, \
         failures, retry_at, rests_until, error"
    };
}

const ONE: &str = concat!("SELECT ", columns!(), " FROM billing_topups WHERE owner = $1");
/// In one statement, so that state and count are of one moment.
const WITH_COUNT: &str = concat!(
    "SELECT ",
    columns!(),
    ", (SELECT COUNT(*) FROM billing_checkouts c
        WHERE c.owner = $1 AND c.created_at >= $2 AND c.created_at < $3 AND c.kind = 'topup'
          AND c.status IN ('open', 'processing', 'paid'))
    FROM billing_topups WHERE owner = $1"
);
const PUT: &str = "
    INSERT INTO billing_topups (owner, account_id, unit, pack, below, monthly_max, enabled, seen_seq, seen_holds, checkout_id,
      customer_id, payment_method, leased_until, attempts, failures, retry_at, rests_until, error, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, 0, NULL, NULL, NULL, 0, 0, 0, NULL, 0, NULL, $8, $8)
    ON CONFLICT (owner) DO UPDATE SET account_id = excluded.account_id, unit = excluded.unit, pack = excluded.pack,
      below = excluded.below, monthly_max = excluded.monthly_max, enabled = excluded.enabled, seen_seq = NULL, failures = 0,
      retry_at = NULL, rests_until = 0, error = NULL, updated_at = excluded.updated_at";
/// Little is left, and it was spent: by the last entry that spent something, or by a hold that is open.
const LOW: &str = "
    SELECT t.owner FROM billing_topups t LEFT JOIN credit_accounts a ON a.id = t.account_id
    WHERE t.enabled AND t.checkout_id IS NULL AND t.rests_until <= $1 AND COALESCE(t.retry_at, 0) <= $1
      AND COALESCE(a.balance - a.held, 0) < t.below
      AND (t.seen_seq IS NULL OR (a.held > 0 AND a.hold_count > t.seen_holds) OR t.below > (
        SELECT e.balance_after FROM credit_entries e
        WHERE e.account_id = t.account_id AND e.seq > t.seen_seq AND e.kind IN ('debit', 'capture')
        ORDER BY e.seq DESC LIMIT 1))
    ORDER BY t.updated_at, t.owner LIMIT $2";
const IS_LOW: &str = "
    SELECT 1 FROM billing_topups t LEFT JOIN credit_accounts a ON a.id = t.account_id
    WHERE t.owner = $2 AND t.enabled AND t.checkout_id IS NULL AND t.rests_until <= $1 AND COALESCE(t.retry_at, 0) <= $1
      AND (t.seen_seq IS NULL OR (a.held > 0 AND a.hold_count > t.seen_holds) OR t.below > (
        SELECT e.balance_after FROM credit_entries e
        WHERE e.account_id = t.account_id AND e.seq > t.seen_seq AND e.kind IN ('debit', 'capture')
        ORDER BY e.seq DESC LIMIT 1))";
const LEFT_LYING: &str = "
    SELECT owner FROM billing_topups WHERE checkout_id IS NOT NULL AND leased_until <= $1 ORDER BY leased_until LIMIT $2";
const TAKE_UP: &str = "
    UPDATE billing_topups SET leased_until = $3, attempts = attempts + 1
    WHERE owner = $1 AND checkout_id IS NOT NULL AND leased_until <= $2";
const BEGIN: &str = "
    UPDATE billing_topups SET checkout_id = $2, customer_id = NULL, payment_method = NULL, leased_until = $3, attempts = 1,
      retry_at = NULL, updated_at = $4,
      seen_seq = COALESCE((SELECT a.seq FROM credit_accounts a WHERE a.id = account_id), 0),
      seen_holds = COALESCE((SELECT a.hold_count FROM credit_accounts a WHERE a.id = account_id), 0)
    WHERE owner = $1 AND enabled AND checkout_id IS NULL";
const REST: &str = "UPDATE billing_topups SET rests_until = $2, error = $3, updated_at = $4 WHERE owner = $1";
const CALM: &str = "
    UPDATE billing_topups SET seen_seq = COALESCE((SELECT a.seq FROM credit_accounts a WHERE a.id = account_id), 0),
      seen_holds = COALESCE((SELECT a.hold_count FROM credit_accounts a WHERE a.id = account_id), 0), retry_at = NULL
    WHERE owner = $1 AND unit = $2";
const NAME_METHOD: &str = "
    UPDATE billing_topups SET customer_id = $3, payment_method = $4
    WHERE owner = $1 AND checkout_id = $2 AND payment_method IS NULL";
const PAUSE: &str =
    "UPDATE billing_topups SET leased_until = $3, error = $4 WHERE owner = $1 AND checkout_id = $2";
const SUCCEEDED: &str = "
    UPDATE billing_topups SET checkout_id = NULL, customer_id = NULL, payment_method = NULL, leased_until = 0, attempts = 0,
      failures = 0, retry_at = NULL, error = NULL, updated_at = $3
    WHERE owner = $1 AND checkout_id = $2";
const FAILED: &str = "
    UPDATE billing_topups SET checkout_id = NULL, customer_id = NULL, payment_method = NULL, leased_until = 0, attempts = 0,
      failures = $3, retry_at = $4, enabled = $5, error = $6, seen_seq = NULL, updated_at = $7
    WHERE owner = $1 AND checkout_id = $2";
const SWITCH_OFF: &str = "
    UPDATE billing_topups SET enabled = FALSE, retry_at = NULL, error = $2, updated_at = $3 WHERE owner = $1 AND enabled";
const ABANDON: &str = "
    UPDATE billing_topups SET checkout_id = NULL, customer_id = NULL, payment_method = NULL, leased_until = 0, attempts = 0
    WHERE owner = $1 AND checkout_id = $2";
const MADE: &str = "
    SELECT COUNT(*) FROM billing_checkouts
    WHERE owner = $1 AND created_at >= $2 AND created_at < $3 AND kind = 'topup' AND status IN ('open', 'processing', 'paid')";
const STATES: &str = "
    SELECT CASE WHEN checkout_id IS NOT NULL THEN 'in_flight' WHEN NOT enabled THEN 'disabled'
      WHEN retry_at IS NOT NULL THEN 'backing_off' ELSE 'idle' END AS state, COUNT(*)
    FROM billing_topups GROUP BY state ORDER BY state";

/// Pauses after a payment that failed; after one more it is switched off.
const BACK_OFF: [i64; 3] = [HOUR, 4 * HOUR, 24 * HOUR];
/// A crash leaves a payment lying for so long.
const LEASE: i64 = 2 * MINUTE;
/// Within this time a call is made again under its key, which Stripe remembers for a day; after it Stripe has said for certain
/// that there is no such payment, or there is one.
pub(crate) const ASK_AGAIN_WITHIN: i64 = HOUR;
/// A bank takes days; events tell of the end, and this finds it without.
pub(crate) const LOOK_AGAIN: i64 = HOUR;
/// Why it was switched off, beside what Stripe says of payments.
pub(crate) const DISPUTED: &str = "disputed";
const OWNER_GONE: &str = "owner_gone";
const PACK_GONE: &str = "pack_gone";
/// How long until a pack that is not sold is looked for again.
const PACK_PAUSE: i64 = 10 * MINUTE;

/// What somebody wants. What is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    pub below: Option<i64>,
    pub pack: Option<String>,
    pub monthly_max: Option<i64>,
    pub enabled: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    /// A payment is under way.
    InFlight,
    /// The last payment failed; the next one waits.
    BackingOff,
    /// By its owner, after payments that failed, or because one is disputed.
    Disabled,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::InFlight => "in_flight",
            State::BackingOff => "backing_off",
            State::Disabled => "disabled",
        }
    }
}

/// A row of `billing_topups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUp {
    pub owner: Owner,
    pub unit: String,
    pub pack: String,
    pub below: i64,
    pub monthly_max: i64,
    pub enabled: bool,
    pub(crate) checkout_id: Option<String>,
    pub(crate) customer_id: Option<String>,
    pub(crate) payment_method: Option<String>,
    leased_until: Millis,
    pub(crate) attempts: i64,
    failures: i64,
    pub retry_at: Option<Millis>,
    rests_until: Millis,
    /// What came of the last payment that failed: Stripe's code, or a word of ours.
    pub error: Option<String>,
}

impl TopUp {
    pub fn state(&self) -> State {
        if self.checkout_id.is_some() {
            State::InFlight
        } else if !self.enabled {
            State::Disabled
        } else if self.retry_at.is_some() {
            State::BackingOff
        } else {
            State::Idle
        }
    }
}

/// A payment that somebody works on under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnderWay {
    pub top_up: TopUp,
    pub checkout: Checkout,
}

/// Keeps what somebody wants. What is new is wanted from now on: earlier failures are forgotten, and if little is left already,
/// a pack is bought at once. The same once more changes nothing.
pub fn put(
    tx: &mut Tx<'_>,
    catalogue: &Catalogue,
    owner: &Owner,
    wanted: &Wanted,
    now: Millis,
) -> Result<Result<TopUp, Unsellable>, Error> {
    let text = owner.to_string();
    tx.lock("billing topup", &[&text])?;
    let known = find(tx, owner)?;
    let missing = |field| Unsellable { field, message: "it is required".into() };
    let known = known.as_ref();
    let Some(name) = wanted.pack.clone().or_else(|| known.map(|known| known.pack.clone())) else {
        return Ok(Err(missing("pack")));
    };
    let Some(below) = wanted.below.or_else(|| known.map(|known| known.below)) else {
        return Ok(Err(missing("below")));
    };
    let Some(monthly_max) = wanted.monthly_max.or_else(|| known.map(|known| known.monthly_max)) else {
        return Ok(Err(missing("monthly_max")));
    };
    let enabled = wanted.enabled.or_else(|| known.map(|known| known.enabled)).unwrap_or(true);
    // What is not sold any more can still be switched off.
    let unit = match sellable(catalogue, &name) {
        Ok(pack) => pack.unit.clone(),
        Err(unsellable) if enabled || wanted.pack.is_some() => return Ok(Err(unsellable)),
        Err(_) => known.map_or_else(String::new, |known| known.unit.clone()),
    };
    if let Some(known) = known
        && (known.pack == name && known.below == below && known.monthly_max == monthly_max)
        && (known.enabled == enabled && known.unit == unit && known.error.is_none())
    {
        return Ok(Ok(known.clone()));
    }
    let account = AccountId::of(owner, &unit);
    let values = params![&text, account.as_str(), &unit, &name, below, monthly_max, enabled, now];
    tx.execute(PUT, values)?;
    let kept = find(tx, owner)?;
    kept.map(Ok).ok_or_else(|| Error::Fault("an automatic top-up is gone as soon as it was written".into()))
}

/// A pack that costs what the catalogue says: nobody is there to name an amount.
fn sellable<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Pack, Unsellable> {
    let refused = |message: &str| Unsellable { field: "pack", message: message.into() };
    let pack = catalogue.packs.get(name).ok_or_else(|| refused("there is no pack of this name"))?;
    if pack.custom.is_some() {
        return Err(refused("the buyer names the amount of this pack, and nobody is there to name it"));
    }
    if pack.amount <= 0 {
        return Err(refused("this pack has no price that could be charged"));
    }
    Ok(pack)
}

pub fn find(tx: &mut Tx<'_>, owner: &Owner) -> Result<Option<TopUp>, Error> {
    tx.query_opt(ONE, params![&owner.to_string()], read)
}

/// Payments of the month that `now` lies in: made or under way.
fn made_this_month(
    tx: &mut Tx<'_>,
    terms: &credits::Settings,
    owner: &Owner,
    now: Millis,
) -> Result<i64, Error> {
    let (start, end) = terms.window(Period::Month, now);
    tx.query_one(MADE, params![&owner.to_string(), start, end], |row| row.get(0))
}

/// With the payments of the month that `now` lies in.
pub fn find_with_count(
    tx: &mut Tx<'_>,
    terms: &credits::Settings,
    owner: &Owner,
    now: Millis,
) -> Result<Option<(TopUp, i64)>, Error> {
    let (start, end) = terms.window(Period::Month, now);
    tx.query_opt(WITH_COUNT, params![&owner.to_string(), start, end], |row| Ok((read(row)?, row.get(15)?)))
}

/// How many there are in each state.
pub fn counts(tx: &mut Tx<'_>) -> Result<Vec<(String, i64)>, Error> {
    tx.query(STATES, params![], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Owners that may have something to do, without writing: those with little left, and those whose payment nobody works on.
pub(crate) fn due(tx: &mut Tx<'_>, most: i64, now: Millis) -> Result<Vec<Owner>, Error> {
    let mut owners = tx.query(LEFT_LYING, params![now, most], |row| owner(row.text(0)?))?;
    owners.extend(tx.query(LOW, params![now, most], |row| owner(row.text(0)?))?);
    Ok(owners)
}

/// Takes up the payment that was left lying, or begins one if there is reason to. Of all nodes that try at once one succeeds.
pub(crate) fn take(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    catalogue: &Catalogue,
    owner: &Owner,
) -> Result<Option<UnderWay>, Problem> {
    let (text, now) = (owner.to_string(), books.now);
    tx.lock("billing topup", &[&text])?;
    if tx.execute(TAKE_UP, params![&text, now, now.plus(LEASE)])? == 1 {
        return under_way(tx, owner);
    }
    if tx.query_opt(IS_LOW, params![now, &text], |_| Ok(()))?.is_none() {
        return Ok(None);
    }
    let Some(top_up) = find(tx, owner)? else { return Ok(None) };
    if reads::balance(tx, owner, &top_up.unit, now)?.available() >= top_up.below {
        return Ok(None);
    }
    if !(books.owner_exists)(tx, owner)? {
        tx.execute(SWITCH_OFF, params![&text, OWNER_GONE, now])?;
        return Ok(None);
    }
    if made_this_month(tx, books.terms, owner, now)? >= top_up.monthly_max {
        let (_, next) = books.terms.window(Period::Month, now);
        tx.execute(REST, params![&text, next, top_up.error.as_deref(), now])?;
        return Ok(None);
    }
    // Or it gives something else by now, so that what is watched would never rise. Another node may have another catalogue for
    // a while, so that nothing is switched off for it.
    let pack = sellable(catalogue, &top_up.pack).ok().filter(|pack| pack.unit == top_up.unit);
    let Some(pack) = pack else {
        tx.execute(REST, params![&text, now.plus(PACK_PAUSE), Some(PACK_GONE), now])?;
        return Ok(None);
    };
    let offer = Offer::Pack {
        name: &top_up.pack,
        pack,
        quantity: 1,
        amount: Some(pack.amount),
        credits: pack.credits,
    };
    let checkout = checkouts::open(tx, owner, Kind::TopUp, &offer, now, &mut random::secure())?;
    tx.execute(BEGIN, params![&text, &checkout.id, now.plus(LEASE), now])?;
    under_way(tx, owner)
}

/// What is under way for an owner as it stands now.
pub(crate) fn under_way(tx: &mut Tx<'_>, owner: &Owner) -> Result<Option<UnderWay>, Problem> {
    let Some(top_up) = find(tx, owner)? else { return Ok(None) };
    let Some(id) = top_up.checkout_id.clone() else { return Ok(None) };
    let checkout = checkouts::find(tx, &id)?;
    let checkout = checkout.ok_or_else(|| Problem::Odd(format!("the top-up's checkout {id} is gone")))?;
    Ok(Some(UnderWay { top_up, checkout }))
}

/// Who pays by which method, as it stands from now on; `None` when the payment is not under way any more. The last look before
/// Stripe is asked.
pub(crate) fn name_method(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    checkout: &Checkout,
    customer: &str,
    method: &str,
) -> Result<Option<TopUp>, Problem> {
    if !(books.owner_exists)(tx, &checkout.owner)? {
        tx.execute(SWITCH_OFF, params![&checkout.owner.to_string(), OWNER_GONE, books.now])?;
    }
    // Switched off meanwhile: what was not asked for yet is not asked for any more.
    if !find(tx, &checkout.owner)?.is_some_and(|top_up| top_up.enabled) {
        abandon(tx, checkout, books.now)?;
        return Ok(None);
    }
    tx.execute(NAME_METHOD, params![&checkout.owner.to_string(), &checkout.id, customer, method])?;
    let found = find(tx, &checkout.owner)?;
    Ok(found.filter(|top_up| top_up.checkout_id.as_ref() == Some(&checkout.id)))
}

/// Nothing is known yet; somebody looks again after a while.
pub(crate) fn pause(
    tx: &mut Tx<'_>,
    checkout: &Checkout,
    until: Millis,
    error: Option<&str>,
) -> Result<(), Error> {
    tx.execute(PAUSE, params![&checkout.owner.to_string(), &checkout.id, until, error]).map(|_| ())
}

/// How long until a call that came to nothing is tried again.
pub(crate) fn pause_after(attempts: i64) -> i64 {
    match attempts {
        ..=1 => 5 * SECOND,
        2 => 30 * SECOND,
        3 => 2 * MINUTE,
        _ => 10 * MINUTE,
    }
}

/// The payment arrived.
pub(crate) fn succeeded(tx: &mut Tx<'_>, checkout: &Checkout, now: Millis) -> Result<(), Error> {
    tx.execute(SUCCEEDED, params![&checkout.owner.to_string(), &checkout.id, now]).map(|_| ())
}

/// Nothing was paid, and nothing can be paid any more under this checkout. `page`: where the mail leads.
pub(crate) fn failed(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    checkout: &Checkout,
    page: Option<&Link>,
    reason: &str,
) -> Result<(), Error> {
    let Some(top_up) =
        find(tx, &checkout.owner)?.filter(|found| found.checkout_id.as_ref() == Some(&checkout.id))
    else {
        return Ok(());
    };
    let pause = usize::try_from(top_up.failures).ok().and_then(|failures| BACK_OFF.get(failures));
    let enabled = top_up.enabled && pause.is_some();
    let retry_at = pause.filter(|_| enabled).map(|pause| books.now.plus(*pause));
    let owner = checkout.owner.to_string();
    let values = params![&owner, &checkout.id, top_up.failures + 1, retry_at, enabled, reason, books.now];
    if tx.execute(FAILED, values)? == 1 && top_up.enabled && !enabled {
        tell(tx, books, &top_up, page)?;
    }
    Ok(())
}

/// It was switched off by us, and its owner has to know.
fn tell(tx: &mut Tx<'_>, books: Books<'_>, top_up: &TopUp, page: Option<&Link>) -> Result<(), Error> {
    let (Some(page), Owner::User(id)) = (page, &top_up.owner) else { return Ok(()) };
    let Some(user) = users::by_id(tx, &UserId::from_text(id.as_str()))? else { return Ok(()) };
    if user.standing(books.now) == Standing::Banned {
        return Ok(());
    }
    let Ok(address) = Address::parse(&user.email) else { return Ok(()) };
    let message = Message::TopUpOff { pack: top_up.pack.clone(), url: page.clone() };
    let recipient = Recipient::new(address, &user.name);
    mail::enqueue(tx, books.vault, &recipient, &message, books.now, &mut random::secure())
}

/// The call was never made, and is not made any more; nobody failed.
fn abandon(tx: &mut Tx<'_>, checkout: &Checkout, now: Millis) -> Result<(), Error> {
    tx.execute(ABANDON, params![&checkout.owner.to_string(), &checkout.id])?;
    checkouts::set_status(tx, checkout, checkouts::Status::Failed, None, now)
}

/// Money went back, and credits with it: that is no reason to buy again before something is spent.
pub(crate) fn calm(tx: &mut Tx<'_>, owner: &Owner, unit: &str) -> Result<(), Error> {
    tx.execute(CALM, params![&owner.to_string(), unit]).map(|_| ())
}

/// Whoever disputes a payment is not charged by itself any more.
pub(crate) fn switch_off(tx: &mut Tx<'_>, owner: &Owner, why: &str, now: Millis) -> Result<(), Error> {
    tx.execute(SWITCH_OFF, params![&owner.to_string(), why, now]).map(|_| ())
}

fn read(row: &Row<'_>) -> Result<TopUp, Error> {
    Ok(TopUp {
        owner: owner(row.text(0)?)?,
        unit: row.get(1)?,
        pack: row.get(2)?,
        below: row.get(3)?,
        monthly_max: row.get(4)?,
        enabled: row.get(5)?,
        checkout_id: row.get(6)?,
        customer_id: row.get(7)?,
        payment_method: row.get(8)?,
        leased_until: row.get(9)?,
        attempts: row.get(10)?,
        failures: row.get(11)?,
        retry_at: row.get(12)?,
        rests_until: row.get(13)?,
        error: row.get(14)?,
    })
}
