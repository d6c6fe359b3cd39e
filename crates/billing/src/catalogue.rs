//! What is sold: packs of credits and plans that bring credits every period, as the configuration names them.

use std::collections::BTreeMap;

/// What may be bought. Browsers name an item; prices, credits and units never come from them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    pub packs: BTreeMap<String, Pack>,
    pub plans: BTreeMap<String, Plan>,
}

/// Credits for a single payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Stripe's id of the price.
    pub price: String,
    /// For each piece.
    pub credits: i64,
    pub unit: String,
    /// In the smallest unit of the currency. Only shown: what is charged stands at Stripe.
    pub amount: i64,
    /// As Stripe writes it: three small letters.
    pub currency: String,
    /// The buyer names the amount.
    pub custom: Option<Custom>,
}

/// Pay what you want, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Custom {
    /// In the smallest unit of the currency.
    pub min: i64,
    pub max: i64,
    /// Credits for 100 of the smallest unit.
    pub credits_per_100: i64,
}

/// Credits for every period that was paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub price: String,
    pub credits: i64,
    pub unit: String,
    pub amount: i64,
    pub currency: String,
    pub interval: Interval,
    pub trial_days: u32,
    pub trial_credits: i64,
    pub rollover: Rollover,
    /// What it turns on in the app, beside credits.
    pub features: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    Day,
    Week,
    Month,
    Year,
}

impl Interval {
    pub fn name(self) -> &'static str {
        match self {
            Interval::Day => "day",
            Interval::Week => "week",
            Interval::Month => "month",
            Interval::Year => "year",
        }
    }

    pub fn parse(text: &str) -> Option<Interval> {
        [Interval::Day, Interval::Week, Interval::Month, Interval::Year]
            .into_iter()
            .find(|interval| interval.name() == text)
    }
}

/// What becomes of a period's credits that nobody used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollover {
    None,
    /// They are carried over until the owner has so many that were.
    Capped(i64),
    Full,
}

impl Rollover {
    pub fn name(self) -> &'static str {
        match self {
            Rollover::None => "none",
            Rollover::Capped(_) => "capped",
            Rollover::Full => "full",
        }
    }

    /// The cap, if there is one.
    pub fn cap(self) -> Option<i64> {
        match self {
            Rollover::Capped(most) => Some(most),
            Rollover::None | Rollover::Full => None,
        }
    }

    /// As the ledger is told.
    pub(crate) fn most(self) -> Option<i64> {
        match self {
            Rollover::None => None,
            Rollover::Capped(most) => Some(most),
            Rollover::Full => Some(credits::MAX_AMOUNT),
        }
    }
}

impl Catalogue {
    /// Whether any plan turns something on in the app.
    pub fn has_features(&self) -> bool {
        self.plans.values().any(|plan| !plan.features.is_empty())
    }

    /// Whether any plan turns this on.
    pub fn knows_feature(&self, name: &str) -> bool {
        self.plans.values().any(|plan| plan.features.iter().any(|feature| feature == name))
    }

    /// The plan that a price of Stripe's stands for.
    pub fn plan_of_price(&self, price: &str) -> Option<(&str, &Plan)> {
        self.plans.iter().find(|(_, plan)| plan.price == price).map(|(name, plan)| (name.as_str(), plan))
    }
}
