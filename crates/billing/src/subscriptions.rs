//! Plans that run: what Stripe says about them, and what a paid invoice of theirs is worth.

use crate::books::{Problem, owner};
use crate::catalogue::{Catalogue, Plan, Rollover};
use crate::stripe::objects::{Invoice, InvoiceLine, Subscription};
use crate::worth;
use credits::Owner;
use kernel::Millis;
use std::collections::BTreeMap;
use store::{Error, Row, Tx, params};

macro_rules! columns {
    () => {
        "id, owner, plan, price, item_id, status, live, extra, cancel_at_period_end, period_end, trial_end, created_at"
    };
}

const OTHER_LIVE: &str = "
    SELECT id FROM billing_subscriptions WHERE owner = $1 AND live AND NOT extra AND id <> $2";
const PUT: &str = concat!(
    "INSERT INTO billing_subscriptions (",
    columns!(),
    ", updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (id) DO UPDATE SET plan = excluded.plan, price = excluded.price, item_id = excluded.item_id,
      status = excluded.status, live = excluded.live, extra = excluded.extra,
      cancel_at_period_end = excluded.cancel_at_period_end, period_end = excluded.period_end,
      trial_end = excluded.trial_end, updated_at = excluded.updated_at"
);
const ONE: &str = concat!("SELECT ", columns!(), " FROM billing_subscriptions WHERE id = $1");
const NEWEST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM billing_subscriptions WHERE owner = $1 ORDER BY live DESC, extra, created_at DESC, id LIMIT 1"
);
const LIVE_ONES: &str =
    concat!("SELECT ", columns!(), " FROM billing_subscriptions WHERE live AND id > $1 ORDER BY id LIMIT $2");
const EXTRA: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM billing_subscriptions WHERE live AND extra ORDER BY created_at, id LIMIT $1"
);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub id: String,
    pub owner: Owner,
    /// The name in the catalogue; none when its price stands for nothing there any more.
    pub plan: Option<String>,
    pub price: String,
    pub item_id: String,
    /// Stripe's word.
    pub status: String,
    pub live: bool,
    pub extra: bool,
    pub cancel_at_period_end: bool,
    pub period_end: Option<Millis>,
    pub trial_end: Option<Millis>,
    pub created_at: Millis,
}

impl Running {
    /// It is paid, tried, or within the time that a failed renewal is given.
    pub fn gives_access(&self) -> bool {
        gives_access(&self.status)
    }
}

/// By Stripe's word.
pub(crate) fn gives_access(status: &str) -> bool {
    matches!(status, "active" | "trialing" | "past_due")
}

/// Brings our row to what Stripe says. Gives the row if anything that people see has changed.
pub fn note(
    tx: &mut Tx<'_>,
    catalogue: &Catalogue,
    owner: &Owner,
    said: &Subscription,
    now: Millis,
) -> Result<Option<Running>, Problem> {
    let Some(item) = said.items.data.first() else {
        return Err(Problem::Odd(format!("subscription {} has no item", said.id)));
    };
    let known = find(tx, &said.id)?;
    let text = owner.to_string();
    let live = said.is_live();
    let other = tx.query_opt(OTHER_LIVE, params![&text, &said.id], |row| row.get::<String>(0))?;
    let plan = catalogue.plan_of_price(&item.price.id).map(|(name, _)| name.to_owned());
    let running = Running {
        id: said.id.clone(),
        owner: owner.clone(),
        plan,
        price: item.price.id.clone(),
        item_id: item.id.clone(),
        status: said.status.clone(),
        live,
        extra: live && other.is_some(),
        cancel_at_period_end: said.cancel_at_period_end || said.cancel_at.is_some(),
        period_end: said.period_end().map(from_seconds),
        trial_end: said.trial_end.map(from_seconds),
        created_at: from_seconds(said.created),
    };
    if known.as_ref() == Some(&running) {
        return Ok(None);
    }
    let values = params![
        &running.id,
        &text,
        &running.plan,
        &running.price,
        &running.item_id,
        &running.status,
        running.live,
        running.extra,
        running.cancel_at_period_end,
        running.period_end,
        running.trial_end,
        running.created_at,
        now
    ];
    tx.execute(PUT, values)?;
    Ok(Some(running))
}

pub fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Running>, Error> {
    tx.query_opt(ONE, params![id], read)
}

/// The one that counts for an owner: the live one, else the newest.
pub fn of_owner(tx: &mut Tx<'_>, owner: &Owner) -> Result<Option<Running>, Error> {
    tx.query_opt(NEWEST, params![&owner.to_string()], read)
}

/// For reconciliation, in pages.
pub fn live_after(tx: &mut Tx<'_>, last: &str, most: i64) -> Result<Vec<Running>, Error> {
    tx.query(LIVE_ONES, params![last, most], read)
}

/// Second ones of one owner, oldest first: somebody pays twice.
pub fn extra(tx: &mut Tx<'_>, most: i64) -> Result<Vec<Running>, Error> {
    tx.query(EXTRA, params![most], read)
}

/// Credits that one line, or a change of plan, of a paid invoice brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The part of the business key behind the invoice.
    pub line: String,
    pub plan: String,
    pub unit: String,
    pub credits: i64,
    pub expires_at: Millis,
    /// A trial's credits end with it.
    pub rollover: Rollover,
    pub reason: &'static str,
}

/// The price of a period on a subscription's invoice that stands for no plan of the catalogue.
pub fn unknown_price<'a>(catalogue: &Catalogue, invoice: &'a Invoice) -> Option<&'a str> {
    invoice.subscription()?;
    let periods = invoice.lines.data.iter().filter(|line| !line.is_proration());
    periods.filter_map(InvoiceLine::price).find(|price| catalogue.plan_of_price(price).is_none())
}

/// What a paid invoice is worth. `trial_end` is the subscription's.
pub fn dues(catalogue: &Catalogue, invoice: &Invoice, trial_end: Option<Millis>) -> Vec<Due> {
    let mut dues = Vec::new();
    let mut prorated: Vec<(&InvoiceLine, &str, &Plan)> = Vec::new();
    for line in &invoice.lines.data {
        let Some((name, plan)) = line.price().and_then(|price| catalogue.plan_of_price(price)) else {
            continue;
        };
        if line.is_proration() {
            prorated.push((line, name, plan));
            continue;
        }
        let expires_at = from_seconds(line.period.end);
        let in_trial = line.amount == 0 && trial_end.is_some_and(|end| expires_at <= end);
        let pieces = line.quantity.unwrap_or(1).max(0);
        let (credits, rollover, reason) = match in_trial {
            true => (plan.trial_credits, Rollover::None, "trial"),
            false => (plan.credits.saturating_mul(pieces), plan.rollover, "period"),
        };
        if (1..=credits::MAX_AMOUNT).contains(&credits) {
            let (plan, unit) = (name.to_owned(), plan.unit.clone());
            dues.push(Due { line: line.id.clone(), plan, unit, credits, expires_at, rollover, reason });
        }
    }
    dues.extend(upgrade(&prorated));
    dues
}

/// A change of plan within the period: old and new stand on lines of their own, and their sum is what was collected. Several
/// changes in one invoice count from the first plan to the last.
fn upgrade(lines: &[(&InvoiceLine, &str, &Plan)]) -> Option<Due> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (line, name, _) in lines {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(line.amount);
    }
    let of = |name: &str| lines.iter().find(|(_, other, _)| *other == name).map(|(_, _, plan)| *plan);
    let (old, _) = sums.iter().filter(|(_, sum)| **sum < 0).min_by_key(|(_, sum)| **sum)?;
    let (new, _) = sums.iter().filter(|(_, sum)| **sum > 0).max_by_key(|(_, sum)| **sum)?;
    let (before, after) = (of(old)?, of(new)?);
    let credits = worth::of_upgrade(before, after, sums.values().copied().fold(0, i64::saturating_add));
    if credits == 0 || before.unit != after.unit {
        return None;
    }
    let end = lines.iter().filter(|(_, name, _)| name == new).map(|(line, ..)| line.period.end).max()?;
    let (plan, unit) = ((*new).to_owned(), after.unit.clone());
    Some(Due {
        line: "upgrade".into(),
        plan,
        unit,
        credits,
        expires_at: from_seconds(end),
        rollover: after.rollover,
        reason: "upgrade",
    })
}

/// Stripe's times are seconds.
pub fn from_seconds(seconds: i64) -> Millis {
    Millis(seconds.saturating_mul(1_000))
}

fn read(row: &Row<'_>) -> Result<Running, Error> {
    Ok(Running {
        id: row.get(0)?,
        owner: owner(row.text(1)?)?,
        plan: row.get(2)?,
        price: row.get(3)?,
        item_id: row.get(4)?,
        status: row.get(5)?,
        live: row.get(6)?,
        extra: row.get(7)?,
        cancel_at_period_end: row.get(8)?,
        period_end: row.get(9)?,
        trial_end: row.get(10)?,
        created_at: row.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Interval;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn catalogue() -> Catalogue {
        let plan = |price: &str, credits, amount| Plan {
            price: price.into(),
            credits,
            unit: "credits".into(),
            amount,
            currency: "usd".into(),
            interval: Interval::Month,
            trial_days: 14,
            trial_credits: 50,
            rollover: Rollover::None,
            features: Vec::new(),
        };
        let plans = [("small", plan("price_s", 1_000, 1_000)), ("large", plan("price_l", 5_000, 5_000))];
        Catalogue {
            plans: plans.into_iter().map(|(name, plan)| (name.to_owned(), plan)).collect(),
            ..Catalogue::default()
        }
    }

    fn line(id: &str, price: &str, amount: i64, proration: bool) -> Value {
        json!({"id": id, "amount": amount, "quantity": 1, "period": {"start": 1_000, "end": 2_000},
            "pricing": {"price_details": {"price": price}},
            "parent": {"subscription_item_details": {"proration": proration}}})
    }

    fn worth_of(lines: Vec<Value>, trial_end: Option<i64>) -> Vec<(String, i64, &'static str)> {
        let invoice = json!({"id": "in_1", "status": "paid", "currency": "usd", "created": 1, "lines": {"data": lines}});
        let invoice: Invoice = serde_json::from_value(invoice).expect("it is an invoice");
        let dues = dues(&catalogue(), &invoice, trial_end.map(from_seconds));
        dues.into_iter().map(|due| (due.line, due.credits, due.reason)).collect()
    }

    #[test]
    fn a_paid_period_gives_the_months_credits_and_a_trial_its_own() {
        assert_eq!(
            worth_of(vec![line("il_1", "price_s", 1_000, false)], None),
            [("il_1".into(), 1_000, "period")]
        );
        // Paid with a coupon of all: the period is as good as any.
        assert_eq!(
            worth_of(vec![line("il_1", "price_s", 0, false)], None),
            [("il_1".into(), 1_000, "period")]
        );
        assert_eq!(
            worth_of(vec![line("il_1", "price_s", 0, false)], Some(2_000)),
            [("il_1".into(), 50, "trial")]
        );
        // The first paid period after a trial that is over.
        assert_eq!(
            worth_of(vec![line("il_1", "price_s", 1_000, false)], Some(900)),
            [("il_1".into(), 1_000, "period")]
        );
        assert_eq!(worth_of(vec![line("il_1", "price_other", 1_000, false)], None), []);
    }

    #[test]
    fn a_period_of_a_price_that_nobody_sells_is_noticed() {
        let invoice = |price: &str, proration, subscription: Option<&str>| -> Invoice {
            let lines =
                json!({"data": [line("il_1", "price_s", 1_000, false), line("il_2", price, 500, proration)]});
            let invoice = json!({"id": "in_1", "status": "paid", "currency": "usd", "created": 1,
                "subscription": subscription, "lines": lines});
            serde_json::from_value(invoice).expect("it is an invoice")
        };
        let unknown = |invoice: &Invoice| unknown_price(&catalogue(), invoice).map(str::to_owned);
        assert_eq!(unknown(&invoice("price_x", false, Some("sub_1"))).as_deref(), Some("price_x"));
        assert_eq!(unknown(&invoice("price_l", false, Some("sub_1"))), None);
        assert_eq!(unknown(&invoice("price_x", true, Some("sub_1"))), None);
        assert_eq!(unknown(&invoice("price_x", false, None)), None);
    }

    #[test]
    fn an_upgrade_gives_what_was_collected_for_it_and_a_downgrade_nothing() {
        let up = vec![line("il_1", "price_s", -100, true), line("il_2", "price_l", 500, true)];
        assert_eq!(worth_of(up.clone(), None), [("upgrade".into(), 400, "upgrade")]);
        let down = vec![line("il_1", "price_l", -500, true), line("il_2", "price_s", 100, true)];
        assert_eq!(worth_of(down, None), []);
        // With the next period on the same invoice both count.
        let both = [up, vec![line("il_3", "price_l", 5_000, false)]].concat();
        assert_eq!(
            worth_of(both, None),
            [("il_3".into(), 5_000, "period"), ("upgrade".into(), 400, "upgrade")]
        );
        // There and back again comes to nothing.
        let back = vec![
            line("il_1", "price_s", -100, true),
            line("il_2", "price_l", 500, true),
            line("il_3", "price_l", -500, true),
            line("il_4", "price_s", 100, true),
        ];
        assert_eq!(worth_of(back, None), []);
    }

    proptest! {
        /// Whatever an answer says, nobody gets more than the plans bring.
        #[test]
        fn no_amount_and_no_time_on_an_invoice_breaks_anything(
            amounts in proptest::collection::vec((any::<i64>(), any::<bool>(), any::<bool>(), any::<i64>()), 0..6),
            trial_end in proptest::option::of(any::<i64>()),
        ) {
            let line = |(at, (amount, large, proration, end)): (usize, &(i64, bool, bool, i64))| {
                let price = if *large { "price_l" } else { "price_s" };
                let mut line = line(&format!("il_{at}"), price, *amount, *proration);
                line["period"]["end"] = json!(end);
                line
            };
            let lines: Vec<Value> = amounts.iter().enumerate().map(line).collect();
            for (_, credits, reason) in worth_of(lines, trial_end) {
                prop_assert!((1..=5_000).contains(&credits), "{credits} for {reason}");
            }
        }
    }
}
