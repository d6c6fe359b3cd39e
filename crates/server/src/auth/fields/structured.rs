//! Members that are more than one text: lists, objects, and what stands within them.

use super::{Fields, kind};
use crate::openapi::Kind;
use serde_json::Value;

impl Fields {
    fn is_a(&mut self, name: &'static str, required: bool, what: Kind) {
        self.ask(name, required, false);
        self.kinds.push((name, what));
    }

    /// An object with any members. What stands within is read by its path: `data.name`.
    pub fn maybe_record(&mut self, name: &'static str) -> Option<Value> {
        self.is_a(name, false, Kind::Object);
        self.read_record(name)
    }

    pub fn record(&mut self, name: &'static str) -> Value {
        self.is_a(name, true, Kind::Object);
        if self.member(name).is_none() {
            self.expected(name, "record", "undefined");
        }
        self.read_record(name).unwrap_or_default()
    }

    fn read_record(&mut self, name: &str) -> Option<Value> {
        let value = self.member(name)?.clone();
        if !value.is_object() {
            self.expected(name, "record", kind(&value));
        }
        Some(value)
    }

    /// A text, or a list of texts.
    pub fn maybe_texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        self.is_a(name, false, Kind::Any);
        self.read_texts(name)
    }

    pub fn texts(&mut self, name: &'static str) -> Vec<String> {
        self.is_a(name, true, Kind::Any);
        if self.member(name).is_none() && self.object().is_some() {
            self.problem(name, "Invalid input");
        }
        self.read_texts(name).unwrap_or_default()
    }

    fn read_texts(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.member(name)?;
        let texts = match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        if texts.is_none() {
            self.problem(name, "Invalid input");
        }
        texts
    }

    /// Names of things with what is to be done to each, as permissions are asked for. `None` where they stand under the
    /// name that they had once; exactly one of the two has to be there.
    pub fn permissions(&mut self) -> Option<Vec<(String, Vec<String>)>> {
        let name = "permissions";
        self.is_a(name, true, Kind::Object);
        let once = self.member("permission").is_some();
        let asked = self.member(name).cloned();
        if self.object().is_some() && once == asked.is_some() {
            self.issues.push("[body] Invalid input".into());
        }
        let asked = asked.filter(|_| !once)?;
        let texts = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let read: Option<Vec<_>> = asked.as_object().and_then(|asked| {
            asked.iter().map(|(resource, actions)| Some((resource.clone(), texts(actions)?))).collect()
        });
        if read.is_none() {
            self.issues.push("[body] Invalid input".into());
        }
        read
    }

    /// An id, which scripts also send as a number; whatever is no text finds nothing.
    pub fn id(&mut self, name: &'static str) -> String {
        self.ask(name, true, false);
        match self.member(name) {
            None => {
                self.expected(name, "string", "undefined");
                String::new()
            }
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }

    /// A text that is not empty, where there is one.
    pub fn maybe_some_text(&mut self, name: &'static str) -> Option<String> {
        let text = self.maybe_text(name)?;
        if matches!(self.member(name), Some(Value::String(text)) if text.is_empty()) {
            self.problem(name, "Too small: expected string to have >=1 characters");
        }
        Some(text)
    }

    /// Keeps texts that stand in an index as short as one takes.
    pub fn at_most(&mut self, name: &str, characters: usize) {
        let long =
            self.member(name).and_then(Value::as_str).is_some_and(|text| text.chars().count() > characters);
        if long {
            self.problem(name, &format!("Too big: expected string to have <={characters} characters"));
        }
    }

    /// All values of a parameter that may be repeated.
    pub fn query_list(&mut self, name: &'static str) -> Vec<String> {
        self.asked.push(super::Asked { name, in_query: true, flag: false, required: false });
        self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// A parameter whose value has to be one that the endpoint knows.
    pub fn query_problem(&mut self, name: &str, message: &str) {
        self.issues.push(format!("[query.{name}] {message}"));
    }
}
