//! `[credits]`: units, prices and grants. They are judged together, because prices name units.

use super::Builder;
use super::duration::parse_duration;
use super::keys::Key;
use super::nearest::nearest;
use super::value::{Checked, Value, example, misfit, shown};
use credits::{MAX_AMOUNT, Price, Settings, SignupGrant, TokenPrices};
use jiff::tz::{self, TimeZone};
use kernel::time::{DAY, MINUTE};
use std::collections::BTreeMap;
use toml::{Table, Value as Toml};
use url::Url;

/// A grant that ends sooner could not be seen, and one that ends later need not end.
const SHORTEST_GRANT: i64 = MINUTE;
const LONGEST_GRANT: i64 = 3_650 * DAY;

impl Builder {
    pub(super) fn credit_terms(&mut self) -> Settings {
        let units = self.units();
        Settings {
            signup_grant: self.signup_grant(&units),
            negative_floor: self.number("credits.negative_floor"),
            features: self.priced("credits.features", |name, price| feature_price(name, price, &units)),
            models: self.priced("credits.models", |name, prices| token_prices(name, prices, &units)),
            time_zone: self.time_zone(),
            low_balance: self.low_balance(&units),
            buy_url: self.buy_url(),
            units,
        }
    }

    fn number(&self, path: &str) -> i64 {
        match self.value(path) {
            Some(Value::Count(number)) => number,
            _ => 0,
        }
    }

    fn toml(&self, path: &str) -> Toml {
        match self.value(path) {
            Some(Value::Toml(value)) => value,
            _ => Toml::Integer(0),
        }
    }

    /// Also those that are refused, so that a price in one of them is not reported, too.
    fn units(&mut self) -> Vec<String> {
        let path = "credits.units";
        let units = self.list(path);
        let fix = "Write names of 1 to 32 of a to z, 0 to 9, `_` and `-`: units = [\"credits\", \"tokens\"].";
        if units.is_empty() {
            self.report(path, "There is no unit.", fix);
            return vec!["credits".to_owned()];
        }
        for (at, unit) in units.iter().enumerate() {
            if !is_unit(unit) {
                self.report(path, format!("`{}` is not the name of a unit.", shown(unit)), fix);
            } else if units[..at].contains(unit) {
                self.report(path, format!("`{unit}` stands here twice."), "Write it once.");
            }
        }
        units
    }

    fn signup_grant(&mut self, units: &[String]) -> Option<SignupGrant> {
        let path = "credits.signup_grant";
        match grant(&self.toml(path), units) {
            Ok(grant) => Some(grant).filter(|grant| grant.amount > 0),
            Err(wrong) => {
                self.report(path, wrong.what, &wrong.fix);
                None
            }
        }
    }

    /// A table by names; each member that is wrong is reported, and left out.
    pub(super) fn priced<T>(
        &mut self,
        path: &str,
        read: impl Fn(&str, &Toml) -> Checked<T>,
    ) -> BTreeMap<String, T> {
        let Toml::Table(table) = self.toml(path) else {
            let fix = Key::find(path).map(|key| example(key.kind)).unwrap_or_default();
            self.report(path, "This is not a table.", &fix);
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        for (name, value) in &table {
            match good_name(name).and_then(|()| read(name, value)) {
                Ok(price) => {
                    found.insert(name.clone(), price);
                }
                Err(wrong) => self.report(path, wrong.what, &wrong.fix),
            }
        }
        found
    }

    fn time_zone(&mut self) -> TimeZone {
        let path = "credits.time_zone";
        let name = self.text(path);
        TimeZone::get(&name).unwrap_or_else(|_| {
            let fix = match nearest_zone(&name) {
                Some(meant) => format!("Did you mean \"{meant}\"?"),
                None => "Write an IANA name, such as \"UTC\", \"Europe/Berlin\" or \"America/New_York\"."
                    .to_owned(),
            };
            self.report(path, format!("There is no time zone `{}`.", shown(&name)), &fix);
            TimeZone::UTC
        })
    }

    fn low_balance(&mut self, units: &[String]) -> BTreeMap<String, i64> {
        let path = "credits.low_balance";
        let table = match self.toml(path) {
            Toml::Table(table) => table,
            value => Table::from_iter([(units[0].clone(), value)]),
        };
        let mut found = BTreeMap::new();
        for (unit, value) in &table {
            let threshold = known_unit(unit, units).and_then(|_| amount(value, 0, "The line"));
            match threshold {
                Ok(0) => {}
                Ok(threshold) => {
                    found.insert(unit.clone(), threshold);
                }
                Err(wrong) => self.report(path, wrong.what, &wrong.fix),
            }
        }
        found
    }

    fn buy_url(&mut self) -> Option<String> {
        let path = "credits.buy_url";
        let text = self.optional_text(path)?;
        let web = Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        // Browsers take `//host` and `/\host` for another site.
        let within = text.starts_with('/') && !text[1..].starts_with(['/', '\\']);
        let plain = text.chars().all(|c| c.is_ascii_graphic());
        if !plain || !(within || (web && text.contains("://"))) {
            let fix =
                "Write a URL such as \"https://app.example.com/pricing\", or a path such as \"/pricing\".";
            self.report(path, "This is neither a web page nor a path.", fix);
            return None;
        }
        Some(text)
    }
}

fn is_unit(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=32).contains(&text.len()) && text.bytes().all(fits)
}

fn good_name(name: &str) -> Checked<()> {
    let good = (1..=100).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    let fix = "Write 1 to 100 visible ASCII characters without spaces, such as \"image.generate\".";
    if good { Ok(()) } else { Err(misfit(format!("`{}` is not a name.", shown(name)), fix)) }
}

fn known_unit(unit: &str, units: &[String]) -> Checked<String> {
    if units.iter().any(|known| known == unit) {
        return Ok(unit.to_owned());
    }
    let fix = match nearest(unit, units.iter().map(String::as_str)) {
        Some(meant) => format!("Did you mean `{meant}`?"),
        None => format!("Add it to credits.units, or write {}.", units.join(" or ")),
    };
    Err(misfit(format!("There is no unit `{}`.", shown(unit)), fix))
}

pub(super) fn amount(value: &Toml, least: i64, subject: &str) -> Checked<i64> {
    let amount = value.as_integer().filter(|amount| (least..=MAX_AMOUNT).contains(amount));
    let fix = || format!("Write a whole number from {least} to {MAX_AMOUNT}, without quotes.");
    amount.ok_or_else(|| misfit(format!("{subject} is not such an amount."), fix()))
}

/// A table without members that are not known.
pub(super) fn table<'a>(value: &'a Toml, members: &[&str], subject: &str, fix: &str) -> Checked<&'a Table> {
    let table = value.as_table();
    let table = table.ok_or_else(|| misfit(format!("{subject} is neither a number nor a table."), fix))?;
    match table.keys().find(|name| !members.contains(&name.as_str())) {
        None => Ok(table),
        Some(stranger) => {
            let what = format!("{subject} has an unknown member `{}`.", shown(stranger));
            Err(misfit(what, format!("It may have {}.", members.join(", "))))
        }
    }
}

pub(super) fn unit_of(table: &Table, units: &[String], subject: &str) -> Checked<String> {
    match table.get("unit") {
        None => Ok(units[0].clone()),
        Some(Toml::String(unit)) => known_unit(unit, units),
        Some(_) => Err(misfit(format!("{subject} has a unit that is no text."), "Write unit = \"credits\".")),
    }
}

fn grant(value: &Toml, units: &[String]) -> Checked<SignupGrant> {
    let subject = "The grant";
    if !value.is_table() {
        let amount = amount(value, 0, subject)?;
        return Ok(SignupGrant { amount, unit: units[0].clone(), expires_in: None });
    }
    let table = table(value, &["amount", "unit", "expires_in"], subject, "")?;
    let fix = "Write expires_in = \"30d\", from one minute to ten years; without it the grant never ends.";
    let expires_in = match table.get("expires_in") {
        None => None,
        Some(value) => {
            let length = value.as_str().and_then(parse_duration);
            let length = length.filter(|length| (SHORTEST_GRANT..=LONGEST_GRANT).contains(length));
            Some(length.ok_or_else(|| misfit("The grant's expires_in is not such a duration.", fix))?)
        }
    };
    let missing = || misfit("The grant has no amount.", "Write { amount = 100 }.");
    let amount = amount(table.get("amount").ok_or_else(missing)?, 0, "The grant's amount")?;
    Ok(SignupGrant { amount, unit: unit_of(table, units, subject)?, expires_in })
}

fn feature_price(name: &str, value: &Toml, units: &[String]) -> Checked<Price> {
    let subject = format!("The price of `{name}`");
    if value.is_integer() || value.is_float() {
        return Ok(Price { amount: amount(value, 1, &subject)?, unit: units[0].clone() });
    }
    let table = table(value, &["amount", "unit"], &subject, "Write 5 or { amount = 5, unit = \"tokens\" }.")?;
    let missing = || misfit(format!("{subject} has no amount."), "Write { amount = 5, unit = \"tokens\" }.");
    let amount = amount(table.get("amount").ok_or_else(missing)?, 1, &subject)?;
    Ok(Price { amount, unit: unit_of(table, units, &subject)? })
}

fn token_prices(name: &str, value: &Toml, units: &[String]) -> Checked<TokenPrices> {
    let subject = format!("The model `{name}`");
    let form = "Write { per = 1000000, input = 250, output = 1000 }.";
    if !value.is_table() {
        return Err(misfit(format!("{subject} has no table of prices."), form));
    }
    let members = ["unit", "per", "input", "output", "cached", "reasoning"];
    let table = table(value, &members, &subject, form)?;
    let price = |kind: &str, otherwise: Option<i64>| match (table.get(kind), otherwise) {
        (Some(value), _) => amount(value, 0, &format!("The price of `{name}` for {kind} tokens")),
        (None, Some(price)) => Ok(price),
        (None, None) => Err(misfit(format!("{subject} has no price for {kind} tokens."), form)),
    };
    let per = table.get("per").and_then(Toml::as_integer).filter(|per| [1_000, 1_000_000].contains(per));
    let per = per.ok_or_else(|| {
        let what = format!("{subject} does not say for how many tokens its prices are.");
        misfit(what, "Write per = 1000 or per = 1000000.")
    })?;
    let (input, output) = (price("input", None)?, price("output", None)?);
    Ok(TokenPrices {
        unit: unit_of(table, units, &subject)?,
        per,
        input,
        output,
        cached: price("cached", Some(input))?,
        reasoning: price("reasoning", Some(output))?,
    })
}

fn nearest_zone(name: &str) -> Option<String> {
    let names: Vec<String> = tz::db().available().map(|zone| zone.to_string()).collect();
    let small: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    // A city without its continent is the usual slip.
    let city = |zone: &str| zone.rsplit('/').next() == Some(name.to_ascii_lowercase().as_str());
    let meant = small.iter().find(|zone| city(zone)).map(String::as_str);
    let meant = meant.or_else(|| nearest(name, small.iter().map(String::as_str)))?;
    small.iter().position(|zone| zone == meant).map(|at| names[at].clone())
}

#[cfg(test)]
mod tests {
    use super::super::source::{Environment, read_file};
    use super::super::{Loaded, load};
    use super::*;

    fn with_terms(text: &str, variables: &[(&str, &str)]) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.toml");
        std::fs::write(&path, format!("[credits]\n{text}\n")).unwrap();
        load(Some(&path), &Environment::from(variables))
    }

    #[track_caller]
    fn terms(text: &str) -> Settings {
        let loaded = with_terms(text, &[]);
        assert_eq!(loaded.problems, []);
        loaded.config.credits
    }

    #[track_caller]
    fn refused(text: &str) -> Vec<String> {
        let problems = with_terms(text, &[]).problems;
        assert!(problems.iter().all(|problem| problem.place.is_some()), "{problems:?}");
        problems
            .iter()
            .map(|problem| format!("{}: {} {}", problem.setting, problem.what, problem.fix))
            .collect()
    }

    #[test]
    fn without_any_setting_there_are_credits_and_nothing_is_given() {
        let found = terms("");
        assert_eq!(
            (found.units, found.signup_grant, found.negative_floor),
            (vec!["credits".into()], None, 0)
        );
        assert!(found.features.is_empty() && found.models.is_empty() && found.low_balance.is_empty());
        assert_eq!((found.buy_url, found.time_zone.iana_name()), (None, Some("UTC")));
    }

    #[test]
    fn everything_is_read_and_units_default_to_the_first() {
        let found = terms(
            r#"units = ["tokens", "credits"]
            signup_grant = { amount = 100, unit = "credits", expires_in = "30d" }
            negative_floor = -50
            time_zone = "europe/berlin"
            low_balance = { credits = 10, tokens = 0 }
            buy_url = "/pricing"
            [credits.features]
            "image.generate" = 5
            search = { amount = 1, unit = "credits" }
            [credits.models.gpt-x]
            per = 1000
            input = 2
            output = 8
            cached = 0"#,
        );
        let grant = SignupGrant { amount: 100, unit: "credits".into(), expires_in: Some(30 * DAY) };
        assert_eq!((found.signup_grant, found.negative_floor), (Some(grant), -50));
        assert_eq!(found.features["image.generate"], Price { amount: 5, unit: "tokens".into() });
        assert_eq!(found.features["search"], Price { amount: 1, unit: "credits".into() });
        let model = &found.models["gpt-x"];
        assert_eq!((model.unit.as_str(), model.per, model.cached, model.reasoning), ("tokens", 1_000, 0, 8));
        assert_eq!(found.time_zone.iana_name(), Some("Europe/Berlin"));
        assert_eq!(found.low_balance, BTreeMap::from([("credits".to_owned(), 10)]));
        assert_eq!(found.buy_url.as_deref(), Some("/pricing"));
        assert_eq!(terms("signup_grant = 7").signup_grant.unwrap().amount, 7);
        assert_eq!(terms("low_balance = 7").low_balance["credits"], 7);
    }

    #[test]
    fn variables_hold_the_same_as_toml() {
        let variables = [
            ("TOLLGATE_CREDITS__UNITS", "credits,tokens"),
            ("TOLLGATE_CREDITS__SIGNUP_GRANT", "{ amount = 3, unit = \"tokens\" }"),
            ("TOLLGATE_CREDITS__FEATURES", "{ \"image.generate\" = 5 }"),
            ("TOLLGATE_CREDITS__NEGATIVE_FLOOR", "-5"),
        ];
        let loaded = with_terms("signup_grant = 9", &variables);
        assert_eq!(loaded.problems, []);
        let found = loaded.config.credits;
        assert_eq!(found.signup_grant.unwrap().unit, "tokens");
        assert_eq!((found.features["image.generate"].amount, found.negative_floor), (5, -5));
    }

    #[test]
    fn all_mistakes_are_told_at_once_each_with_what_to_write() {
        let found = refused(
            r#"units = ["credits", "Tokens", "credits"]
            signup_grant = { amount = "many" }
            negative_floor = 5
            features = { a = 0, b = 1.5, c = { amount = 5, unit = "credit" }, "d d" = 1, e = { price = 5 }, f = "5" }
            models = { m = { per = 100, input = 1, output = 1 }, n = { per = 1000, input = 1 }, o = 5 }
            time_zone = "Berlin"
            low_balance = -1
            buy_url = "//evil.example""#,
        );
        let expected = [
            "credits.negative_floor: 5 is out of bounds.",
            "credits.units: `Tokens` is not the name of a unit.",
            "credits.units: `credits` stands here twice.",
            "credits.signup_grant: The grant's amount is not such an amount.",
            "credits.features: The price of `a` is not such an amount. Write a whole number from 1 to",
            "credits.features: The price of `b` is not such an amount.",
            "credits.features: There is no unit `credit`. Did you mean `credits`?",
            "credits.features: `d d` is not a name.",
            "credits.features: The price of `e` has an unknown member `price`. It may have amount, unit.",
            "credits.features: The price of `f` is neither a number nor a table.",
            "credits.models: The model `m` does not say for how many tokens its prices are.",
            "credits.models: The model `n` has no price for output tokens.",
            "credits.models: The model `o` has no table of prices.",
            "credits.time_zone: There is no time zone `Berlin`. Did you mean \"Europe/Berlin\"?",
            "credits.low_balance: The line is not such an amount. Write a whole number from 0",
            "credits.buy_url: This is neither a web page nor a path.",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn values_that_no_setting_takes_are_refused_without_a_panic() {
        for text in [
            "units = []",
            "units = [\"\"]",
            "units = 5",
            "signup_grant = -1",
            "signup_grant = 99999999999999999999",
            "signup_grant = 9007199254740992",
            "signup_grant = { expires_in = \"30d\" }",
            "signup_grant = { amount = 1, expires_in = \"1s\" }",
            "signup_grant = { amount = 1, unit = 5 }",
            "signup_grant = true",
            "features = [1]",
            "features = 5",
            "features = { a = 2020-01-01 }",
            "models = { \"\" = { per = 1000, input = 1, output = 1 } }",
            "models = { m = { per = 1000, input = -1, output = 1 } }",
            "low_balance = { gems = 1 }",
            "time_zone = \"\"",
            "time_zone = \"Mars/Olympus\"",
            "buy_url = \"javascript:alert(1)\"",
            "buy_url = \"pricing\"",
            "buy_url = \"https:app.example\"",
            "buy_url = \"/a b\"",
            "unit = \"credits\"",
        ] {
            assert_eq!(refused(text).len(), 1, "{text}: {:?}", refused(text));
        }
        let mut gathered = Default::default();
        read_file(
            &mut gathered,
            std::path::Path::new("x"),
            "[credits]\nfeatures = { a = [[{ b = 1.0e99 }]] }",
        );
        assert_eq!(gathered.problems, []);
    }
}
