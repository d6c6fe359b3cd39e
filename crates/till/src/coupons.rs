//! Coupons, the codes by which buyers name them, and the discounts that come of both.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::catalogue::currency_of;
use crate::form::{Fields, Metadata};
use crate::lists;
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

pub(crate) const COUPON: &[&str] = &[
    "amount_off",
    "currency",
    "duration",
    "duration_in_months",
    "id",
    "max_redemptions",
    "metadata",
    "metadata.*",
    "name",
    "percent_off",
];

pub(crate) const PROMOTION_CODE: &[&str] =
    &["active", "code", "max_redemptions", "metadata", "metadata.*", "promotion.coupon", "promotion.type"];

#[derive(Debug, Clone)]
pub(crate) struct Coupon {
    pub(crate) id: String,
    created: i64,
    off: Off,
    duration: Duration,
    name: Option<String>,
    max_redemptions: Option<i64>,
    times_redeemed: i64,
    metadata: Metadata,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Off {
    /// Hundredths of a percent.
    Percent(i64),
    Amount(i64, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duration {
    Once,
    Months(i64),
    Forever,
}

#[derive(Debug, Clone)]
pub(crate) struct PromotionCode {
    pub(crate) id: String,
    created: i64,
    pub(crate) code: String,
    pub(crate) coupon: String,
    active: bool,
    max_redemptions: Option<i64>,
    times_redeemed: i64,
    metadata: Metadata,
}

/// A coupon at work on a Checkout session or a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discount {
    pub(crate) id: String,
    pub(crate) coupon: String,
    pub(crate) promotion_code: Option<String>,
    pub(crate) start: i64,
    pub(crate) end: Option<i64>,
    pub(crate) customer: Option<String>,
    pub(crate) subscription: Option<String>,
    pub(crate) session: Option<String>,
}

impl Kept for Coupon {
    const KIND: &'static str = "coupon";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Kept for PromotionCode {
    const KIND: &'static str = "promotion code";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Coupon {
    pub(crate) fn shown(&self) -> Value {
        let (percent, amount, currency) = match &self.off {
            Off::Percent(hundredths) => (Some(*hundredths as f64 / 100.0), None, None),
            Off::Amount(amount, currency) => (None, Some(*amount), Some(currency)),
        };
        json!({
            "id": self.id,
            "object": "coupon",
            "amount_off": amount,
            "created": self.created,
            "currency": currency,
            "duration": match self.duration {
                Duration::Once => "once",
                Duration::Months(_) => "repeating",
                Duration::Forever => "forever",
            },
            "duration_in_months": match self.duration { Duration::Months(months) => Some(months), _ => None },
            "livemode": false,
            "max_redemptions": self.max_redemptions,
            "metadata": self.metadata,
            "name": self.name,
            "percent_off": percent,
            "redeem_by": null,
            "times_redeemed": self.times_redeemed,
            "valid": self.is_valid(),
        })
    }

    fn is_valid(&self) -> bool {
        self.max_redemptions.is_none_or(|most| self.times_redeemed < most)
    }

    /// What it takes off these amounts, line by line; never more than there is.
    fn off(&self, amounts: &[i64], currency: &str) -> Vec<i64> {
        match &self.off {
            Off::Percent(hundredths) => {
                amounts.iter().map(|amount| (amount.max(&0) * hundredths + 5_000) / 10_000).collect()
            }
            Off::Amount(off, of) if of == currency => spread(*off, amounts),
            Off::Amount(..) => vec![0; amounts.len()],
        }
    }
}

/// Shares `off` among the amounts in proportion, to the last cent.
fn spread(off: i64, amounts: &[i64]) -> Vec<i64> {
    let total: i64 = amounts.iter().map(|amount| amount.max(&0)).sum();
    let (mut left, mut above) = (off.min(total), total);
    amounts
        .iter()
        .map(|amount| {
            let amount = *amount.max(&0);
            let share = if above == 0 { 0 } else { left * amount / above };
            left -= share;
            above -= amount;
            share
        })
        .collect()
}

impl PromotionCode {
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "promotion_code",
            "active": self.active && self.max_redemptions.is_none_or(|most| self.times_redeemed < most),
            "code": self.code,
            "created": self.created,
            "customer": null,
            "customer_account": null,
            "expires_at": null,
            "livemode": false,
            "max_redemptions": self.max_redemptions,
            "metadata": self.metadata,
            "promotion": { "coupon": self.coupon, "type": "coupon" },
            "restrictions": {
                "first_time_transaction": false, "minimum_amount": null, "minimum_amount_currency": null,
            },
            "times_redeemed": self.times_redeemed,
        })
    }

    fn is_usable(&self) -> bool {
        self.active && self.max_redemptions.is_none_or(|most| self.times_redeemed < most)
    }
}

impl Discount {
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "discount",
            "checkout_session": self.session,
            "customer": self.customer,
            "customer_account": null,
            "end": self.end,
            "invoice": null,
            "invoice_item": null,
            "promotion_code": self.promotion_code,
            "source": { "coupon": self.coupon, "type": "coupon" },
            "start": self.start,
            "subscription": self.subscription,
            "subscription_item": null,
        })
    }
}

impl Books {
    pub(crate) fn create_coupon(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let id = match fields.filled("id") {
            Some(id) if self.coupons.get(id).is_some() => {
                let message = format!("Coupon already exists: {id}");
                return Err(Refusal::invalid("id", message).code("resource_already_exists"));
            }
            Some(id) => id.to_owned(),
            None => self.ids.next("coupon"),
        };
        let duration = match fields.one_of("duration", &["once", "repeating", "forever"])? {
            Some("repeating") => Duration::Months(
                fields
                    .integer_from("duration_in_months", 1)?
                    .ok_or_else(|| Refusal::missing("duration_in_months"))?,
            ),
            Some("forever") => Duration::Forever,
            _ => Duration::Once,
        };
        let coupon = Coupon {
            id: id.clone(),
            created: self.seconds(),
            off: off_of(&fields)?,
            duration,
            name: fields.filled("name").map(str::to_owned),
            max_redemptions: fields.integer_from("max_redemptions", 1)?,
            times_redeemed: 0,
            metadata: fields.metadata()?,
        };
        self.coupons.put(coupon)?;
        self.emit("coupon.created", &id);
        self.answer(&id)
    }

    pub(crate) fn retrieve_coupon(&mut self, call: &Call) -> Answer {
        Ok(self.coupons.at(call.id())?.shown())
    }

    pub(crate) fn create_promotion_code(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let promotion = fields.object("promotion").ok_or_else(|| Refusal::missing("promotion"))?;
        promotion.one_of("type", &["coupon"])?.ok_or_else(|| Refusal::missing("promotion[type]"))?;
        let coupon = self.coupons.named(promotion.required("coupon")?, "promotion[coupon]")?.id.clone();
        let id = self.ids.next("promo");
        let code = match fields.filled("code") {
            Some(code) => code.to_owned(),
            None => id[6..14].to_uppercase(),
        };
        if self.usable_code(&code).is_some() {
            let message = format!("An active promotion code with the code {code} exists already.");
            return Err(Refusal::invalid("code", message));
        }
        let code = PromotionCode {
            id: id.clone(),
            created: self.seconds(),
            code,
            coupon,
            active: fields.boolean("active")?.unwrap_or(true),
            max_redemptions: fields.integer_from("max_redemptions", 1)?,
            times_redeemed: 0,
            metadata: fields.metadata()?,
        };
        self.promotion_codes.put(code)?;
        self.emit("promotion_code.created", &id);
        self.answer(&id)
    }

    pub(crate) fn retrieve_promotion_code(&mut self, call: &Call) -> Answer {
        Ok(self.promotion_codes.at(call.id())?.shown())
    }

    pub(crate) fn list_promotion_codes(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let (code, active) = (fields.filled("code"), fields.boolean("active")?);
        let found = self
            .promotion_codes
            .newest_first()
            .filter(|known| code.is_none_or(|code| known.code.eq_ignore_ascii_case(code)))
            .filter(|known| active.is_none_or(|active| known.is_usable() == active))
            .map(|known| (known.id.clone(), known));
        lists::page(&fields, "/v1/promotion_codes", found, PromotionCode::shown)
    }

    pub(crate) fn usable_code(&self, code: &str) -> Option<&PromotionCode> {
        self.promotion_codes
            .newest_first()
            .find(|known| known.is_usable() && known.code.eq_ignore_ascii_case(code))
    }

    /// Reads `discounts[]`: coupons or promotion codes, which must be usable.
    pub(crate) fn discounts_of(&mut self, fields: &Fields<'_>) -> Result<Vec<Discount>, Refusal> {
        let mut discounts = Vec::new();
        for item in fields.list("discounts") {
            let (coupon, code) = match (item.filled("coupon"), item.filled("promotion_code")) {
                (Some(coupon), None) => (self.coupons.named(coupon, &item.name("coupon"))?, None),
                (None, Some(code)) => {
                    let code = self.promotion_codes.named(code, &item.name("promotion_code"))?;
                    if !code.is_usable() {
                        let message = format!("The promotion code {} is not active.", code.id);
                        return Err(Refusal::invalid(item.name("promotion_code"), message));
                    }
                    (self.coupons.named(&code.coupon, &item.name("coupon"))?, Some(code.id.clone()))
                }
                _ => {
                    let message = "You must pass one of coupon and promotion_code.";
                    return Err(Refusal::invalid(item.name("coupon"), message));
                }
            };
            if !coupon.is_valid() {
                let message = format!("Coupon expired: {}", coupon.id);
                return Err(Refusal::invalid(item.name("coupon"), message).code("coupon_expired"));
            }
            let coupon = coupon.id.clone();
            discounts.push(self.new_discount(coupon, code));
        }
        Ok(discounts)
    }

    pub(crate) fn new_discount(&mut self, coupon: String, promotion_code: Option<String>) -> Discount {
        Discount {
            id: self.ids.next("di"),
            coupon,
            promotion_code,
            start: self.seconds(),
            end: None,
            customer: None,
            subscription: None,
            session: None,
        }
    }

    /// How much each discount takes off each of these amounts; later ones work on what earlier ones left.
    pub(crate) fn taken_off(&self, discounts: &[Discount], amounts: &[i64], currency: &str) -> Vec<Vec<i64>> {
        let mut left = amounts.to_vec();
        discounts
            .iter()
            .map(|discount| {
                let off = match self.coupons.get(&discount.coupon) {
                    Some(coupon) => coupon.off(&left, currency),
                    None => vec![0; left.len()],
                };
                for (left, off) in left.iter_mut().zip(&off) {
                    *left -= off;
                }
                off
            })
            .collect()
    }

    /// Counts a use and sets the discount's end. A coupon for once ends with the first invoice.
    pub(crate) fn redeem(&mut self, discount: &mut Discount) {
        if let Some(coupon) = self.coupons.get_mut(&discount.coupon) {
            coupon.times_redeemed += 1;
            discount.end = match coupon.duration {
                Duration::Once => Some(discount.start),
                Duration::Months(months) => Some(crate::periods::months_after(discount.start, months)),
                Duration::Forever => None,
            };
        }
        if let Some(code) = discount.promotion_code.as_ref().and_then(|id| self.promotion_codes.get_mut(id)) {
            code.times_redeemed += 1;
        }
    }

    pub(crate) fn show_discount(&self, id: &str) -> Option<Value> {
        let of_subscriptions = self.subscriptions.newest_first().flat_map(|held| &held.discounts);
        let of_invoices = self.invoices.newest_first().flat_map(|held| &held.discounts);
        of_subscriptions.chain(of_invoices).find(|discount| discount.id == id).map(Discount::shown)
    }
}

fn off_of(fields: &Fields<'_>) -> Result<Off, Refusal> {
    let amount = fields.integer_from("amount_off", 1)?;
    match (fields.filled("percent_off"), amount) {
        (Some(text), None) => {
            let percent: f64 =
                text.parse().ok().filter(|percent| (0.01..=100.0).contains(percent)).ok_or_else(|| {
                    Refusal::invalid("percent_off", "Invalid percent_off: must be above 0 and at most 100.")
                })?;
            Ok(Off::Percent((percent * 100.0).round() as i64))
        }
        (None, Some(amount)) => Ok(Off::Amount(amount, currency_of(fields)?)),
        _ => Err(Refusal::invalid("percent_off", "You must pass one of percent_off and amount_off.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_add_up_and_stay_within_their_amounts(
            off in 0i64..100_000,
            amounts in proptest::collection::vec(0i64..50_000, 1..8),
        ) {
            let shares = spread(off, &amounts);
            prop_assert_eq!(shares.iter().sum::<i64>(), off.min(amounts.iter().sum()));
            for (share, amount) in shares.iter().zip(&amounts) {
                prop_assert!((0..=*amount).contains(share));
            }
        }
    }
}
