//! What the deployment decided: units, prices, limits' time zone, the sign-up grant. From the configuration, checked
//! there.

use crate::command::{Charge, Period};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::Millis;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct Settings {
    /// The first is the default.
    pub units: Vec<String>,
    pub signup_grant: Option<SignupGrant>,
    /// Of accounts that have none of their own; 0 or below.
    pub negative_floor: i64,
    pub features: BTreeMap<String, Price>,
    pub models: BTreeMap<String, TokenPrices>,
    pub time_zone: jiff::tz::TimeZone,
    /// An event when what is available falls below this.
    pub low_balance: BTreeMap<String, i64>,
    /// Where a person buys more; stands in a 402.
    pub buy_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SignupGrant {
    pub amount: i64,
    pub unit: String,
    pub expires_in: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Price {
    pub amount: i64,
    pub unit: String,
}

/// What a model's tokens cost, in units for `per` tokens of each kind. The sum is rounded up to whole units.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TokenPrices {
    pub unit: String,
    /// 1,000 or 1,000,000.
    pub per: i64,
    pub input: i64,
    pub output: i64,
    pub cached: i64,
    pub reasoning: i64,
}

/// Tokens that a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    pub input: i64,
    pub output: i64,
    pub cached: i64,
    pub reasoning: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            units: vec!["credits".into()],
            signup_grant: None,
            negative_floor: 0,
            features: BTreeMap::new(),
            models: BTreeMap::new(),
            time_zone: jiff::tz::TimeZone::UTC,
            low_balance: BTreeMap::new(),
            buy_url: None,
        }
    }
}

/// Why a feature or model has no price for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPrice {
    Unknown,
    /// The product is over what an amount may be.
    TooMuch,
}

impl Settings {
    pub fn default_unit(&self) -> &str {
        self.units.first().map_or("credits", String::as_str)
    }

    pub fn has_unit(&self, unit: &str) -> bool {
        self.units.iter().any(|known| known == unit)
    }

    /// What so much of a feature costs, and in which unit.
    pub fn charge(&self, feature: &str, quantity: i64, version: i64) -> Result<(Charge, &str), NoPrice> {
        let price = self.features.get(feature).ok_or(NoPrice::Unknown)?;
        let amount = price.amount.checked_mul(quantity).filter(|amount| *amount <= crate::MAX_AMOUNT);
        let charge = Charge {
            amount: amount.ok_or(NoPrice::TooMuch)?,
            feature: Some(feature.into()),
            quantity: Some(quantity),
            price_version: Some(version),
            spender: None,
        };
        Ok((charge, &price.unit))
    }

    /// What a call to a model costs: each kind of token times its price, summed, divided by `per`, rounded up.
    pub fn charge_tokens(
        &self,
        model: &str,
        tokens: Tokens,
        version: i64,
    ) -> Result<(Charge, &str), NoPrice> {
        let prices = self.models.get(model).ok_or(NoPrice::Unknown)?;
        let pairs = [
            (tokens.input, prices.input),
            (tokens.output, prices.output),
            (tokens.cached, prices.cached),
            (tokens.reasoning, prices.reasoning),
        ];
        let sum: i128 = pairs.iter().map(|(count, price)| i128::from(*count) * i128::from(*price)).sum();
        let per = i128::from(prices.per);
        let amount = (sum + per - 1) / per;
        let amount = i64::try_from(amount).ok().filter(|amount| *amount <= crate::MAX_AMOUNT);
        let charge = Charge {
            amount: amount.ok_or(NoPrice::TooMuch)?,
            feature: Some(format!("model:{model}")),
            quantity: None,
            price_version: Some(version),
            spender: None,
        };
        Ok((charge, &prices.unit))
    }

    /// The price book as text: what its version is a version of.
    pub fn book(&self) -> String {
        #[derive(serde::Serialize)]
        struct Book<'a> {
            features: &'a BTreeMap<String, Price>,
            models: &'a BTreeMap<String, TokenPrices>,
        }
        let book = Book { features: &self.features, models: &self.models };
        serde_json::to_string(&book).expect("names and numbers are JSON")
    }

    pub fn book_hash(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.book()))
    }

    /// The window of a limit that `now` lies in: from its start to the start of the next.
    pub fn window(&self, period: Period, now: Millis) -> (Millis, Millis) {
        use jiff::{Timestamp, ToSpan as _};
        let zoned = Timestamp::from_millisecond(now.0)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_zoned(self.time_zone.clone());
        let (first, step) = match period {
            Period::Day => (zoned.date(), 1.day()),
            Period::Month => (zoned.date().first_of_month(), 1.month()),
        };
        let at = |date: jiff::civil::Date| {
            let start = self
                .time_zone
                .to_ambiguous_zoned(date.to_datetime(jiff::civil::Time::midnight()))
                .compatible();
            start.map_or(now, |start| Millis(start.timestamp().as_millisecond()))
        };
        let next = first.checked_add(step).unwrap_or(first);
        (at(first), at(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::time::{DAY, HOUR, MINUTE};

    fn settings(zone: &str) -> Settings {
        Settings { time_zone: jiff::tz::TimeZone::get(zone).unwrap(), ..Settings::default() }
    }

    fn at(text: &str) -> Millis {
        Millis::parse_iso(text).unwrap()
    }

    fn window(zone: &str, period: Period, now: &str) -> [String; 2] {
        let (start, end) = settings(zone).window(period, at(now));
        [start.iso(), end.iso()]
    }

    #[test]
    fn a_day_begins_at_midnight_where_the_deployment_counts() {
        for (zone, now, window_then) in [
            ("UTC", "2026-11-21T00:00:00Z", ["2026-11-21T00:00:00.000Z", "2026-11-22T00:00:00.000Z"]),
            ("UTC", "2026-11-20T23:59:59.999Z", ["2026-11-20T00:00:00.000Z", "2026-11-21T00:00:00.000Z"]),
            (
                "Europe/Berlin",
                "2026-11-20T23:00:00Z",
                ["2026-11-20T23:00:00.000Z", "2026-11-21T23:00:00.000Z"],
            ),
            (
                "Asia/Kolkata",
                "2026-11-20T18:29:59.999Z",
                ["2026-11-19T18:30:00.000Z", "2026-11-20T18:30:00.000Z"],
            ),
            // The day when clocks go forward has 23 hours, the one when they go back 25.
            (
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                ["2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"],
            ),
            (
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                ["2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z"],
            ),
            // Midnight itself was skipped, and there it came twice.
            (
                "America/Sao_Paulo",
                "2018-11-04T12:00:00Z",
                ["2018-11-04T03:00:00.000Z", "2018-11-05T02:00:00.000Z"],
            ),
            (
                "America/Havana",
                "2026-11-01T05:30:00Z",
                ["2026-11-01T04:00:00.000Z", "2026-11-02T05:00:00.000Z"],
            ),
        ] {
            assert_eq!(window(zone, Period::Day, now), window_then, "{zone} {now}");
        }
        let month = ["2026-02-28T23:00:00.000Z", "2026-03-31T22:00:00.000Z"];
        assert_eq!(window("Europe/Berlin", Period::Month, "2026-03-31T21:59:59.999Z"), month);
        let leap = ["2028-02-01T00:00:00.000Z", "2028-03-01T00:00:00.000Z"];
        assert_eq!(window("UTC", Period::Month, "2028-02-29T12:00:00Z"), leap);
    }

    #[test]
    fn every_moment_lies_in_one_window_and_windows_follow_each_other() {
        for zone in
            ["Europe/Berlin", "America/Havana", "America/Santiago", "Australia/Lord_Howe", "Pacific/Apia"]
        {
            let settings = settings(zone);
            for period in [Period::Day, Period::Month] {
                // Apia skipped a day at the end of 2011.
                for (first, days) in [("2011-12-20T00:00:00Z", 20), ("2026-01-01T00:00:00Z", 366)] {
                    let (first, mut known) = (at(first), None);
                    for step in 0..days * 48 {
                        let now = first.plus(step * DAY / 48 + 7 * MINUTE);
                        let (start, end) = settings.window(period, now);
                        assert!(start <= now && now < end, "{zone} {now}");
                        assert!(end.0 - start.0 >= 23 * HOUR, "{zone} {now}");
                        match known {
                            Some((first, last)) if now < last => {
                                assert_eq!((first, last), (start, end), "{zone} {now}")
                            }
                            Some((_, last)) => assert_eq!(last, start, "{zone} {now}"),
                            None => {}
                        }
                        known = Some((start, end));
                    }
                }
            }
        }
    }
}
