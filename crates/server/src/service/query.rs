//! Queries as strict as bodies: each parameter is known, and stands once unless it may be repeated.

use super::failure::Failure;
use super::json::{ID_CHARS, check_text, only_owner};
use super::moment;
use credits::Owner;
use kernel::Millis;
use std::ops::RangeInclusive;

/// A cursor names a place in each of an owner's accounts.
const CURSOR_CHARS: usize = 2_048;

/// The parameters of a query, taken one by one; what is left at the end was not asked for.
#[derive(Default)]
pub(crate) struct Query {
    rest: Vec<(String, String)>,
}

impl Query {
    pub fn read(uri: &http::Uri) -> Query {
        let query = uri.query().unwrap_or("");
        Query { rest: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect() }
    }

    /// Each value of a parameter that may be repeated.
    pub fn all(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        self.bounded(name, ID_CHARS)
    }

    fn bounded(&mut self, name: &str, max: usize) -> Result<Vec<String>, Failure> {
        let (taken, rest) = std::mem::take(&mut self.rest).into_iter().partition(|(known, _)| known == name);
        self.rest = rest;
        let taken: Vec<(String, String)> = taken;
        let values: Vec<String> = taken.into_iter().map(|(_, value)| value).collect();
        for value in &values {
            check_text(value, max).map_err(|message| Failure::invalid(name, message))?;
            if value.is_empty() {
                return Err(Failure::invalid(name, "it is empty"));
            }
        }
        Ok(values)
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let values = self.all(name)?;
        only(name, values)
    }

    /// The same where more may stand.
    pub fn long_text(&mut self, name: &str, max: usize) -> Result<Option<String>, Failure> {
        let values = self.bounded(name, max)?;
        only(name, values)
    }

    /// Where a list goes on.
    pub fn cursor(&mut self) -> Result<Option<String>, Failure> {
        let values = self.bounded("cursor", CURSOR_CHARS)?;
        only("cursor", values)
    }

    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let message = || format!("it must be an integer from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| Failure::invalid(name, message()))
    }

    pub fn time(&mut self, name: &str) -> Result<Option<Millis>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        // A plus sign in a query is a space, and few remember to escape it.
        let at = moment::parse(&text.replace(' ', "+"));
        at.map(Some).ok_or_else(|| Failure::invalid(name, moment::EXPECTED))
    }

    /// Exactly one of `user_id`, `organization_id` and `guest_id`.
    pub fn owner(&mut self) -> Result<Owner, Failure> {
        let ids = [self.text("user_id")?, self.text("organization_id")?, self.text("guest_id")?];
        only_owner(ids).map_err(|(field, message)| Failure::invalid(field, message))
    }

    /// A unit of this deployment.
    pub fn unit(&mut self, settings: &credits::Settings) -> Result<Option<String>, Failure> {
        match self.text("unit")? {
            Some(unit) if !settings.has_unit(&unit) => Err(Failure::invalid("unit", "there is no such unit")),
            unit => Ok(unit),
        }
    }

    /// Refuses what was not asked for.
    pub fn finish(self) -> Result<(), Failure> {
        match self.rest.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(ID_CHARS).collect();
                Err(Failure::invalid(name, "there is no such parameter"))
            }
        }
    }
}

fn only(name: &str, mut values: Vec<String>) -> Result<Option<String>, Failure> {
    match values.len() {
        0 | 1 => Ok(values.pop()),
        _ => Err(Failure::invalid(name, "it stands twice")),
    }
}
