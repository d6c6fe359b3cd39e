//! What the adapter sends: an object whose known members are checked and whose others are kept as they are.

use super::refusal::Refusal;
use crate::service::json::{Members, check_text};
use crate::service::moment;
use identity::authjs::Document;
use kernel::Millis;
use serde_json::Value;

pub(super) const ID_CHARS: usize = 256;
/// Of tokens, addresses and credentials: a credential has up to 1,023 bytes, written as base64.
pub(super) const LONG_CHARS: usize = 2_048;
/// Of what a provider hands out, and of pictures that are data URLs: the whole body's bound.
pub(super) const ANY_CHARS: usize = 64 * 1024;

pub(super) struct Given(pub(super) Document);

impl Given {
    pub(super) fn read(bytes: &[u8]) -> Result<Given, Refusal> {
        Ok(Given(Members::parse(bytes)?.into_document()?))
    }

    /// A text; inner `None`: it is `null`.
    pub(super) fn maybe(&self, name: &'static str, max: usize) -> Result<Option<Option<String>>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => match check_text(text, max) {
                Ok(()) => Ok(Some(Some(text.clone()))),
                Err(message) => Err(Refusal::invalid(name, &message)),
            },
            Some(_) => Err(Refusal::invalid(name, "it must be a text or null")),
        }
    }

    /// A text that is needed.
    pub(super) fn text(&self, name: &'static str, max: usize) -> Result<String, Refusal> {
        let text = self.maybe(name, max)?.flatten().filter(|text| !text.is_empty());
        text.ok_or_else(|| Refusal::invalid(name, "a text is required"))
    }

    /// A time, which is written as all are from here on.
    pub(super) fn time(&mut self, name: &'static str) -> Result<Option<Option<Millis>>, Refusal> {
        let Some(text) = self.maybe(name, ID_CHARS)? else { return Ok(None) };
        let Some(text) = text else { return Ok(Some(None)) };
        let at = moment::parse(&text).ok_or_else(|| Refusal::invalid(name, moment::EXPECTED))?;
        self.0.insert(name.to_owned(), at.iso().into());
        Ok(Some(Some(at)))
    }

    pub(super) fn integer(&self, name: &'static str, max: i64) -> Result<i64, Refusal> {
        let number = self.0.get(name).and_then(Value::as_i64).filter(|number| (0..=max).contains(number));
        number.ok_or_else(|| Refusal::invalid(name, &format!("it must be an integer from 0 to {max}")))
    }

    /// Members that have to be of a kind when they are there.
    pub(super) fn check(
        &self,
        names: &[&'static str],
        fits: fn(&Value) -> bool,
        kind: &str,
    ) -> Result<(), Refusal> {
        let wrong = names
            .iter()
            .find(|name| self.0.get(**name).is_some_and(|value| !value.is_null() && !fits(value)));
        match wrong {
            None => Ok(()),
            Some(name) => Err(Refusal::invalid(name, &format!("it must be {kind}"))),
        }
    }
}
