//! Reading an endpoint's input: members of the body and parameters of the query, checked as the original's schemas
//! check them, with their wording.

mod structured;

use super::error::Failure;
use crate::openapi::Kind;
use serde_json::{Map, Value};

/// The input of one request, and the problems found while reading it.
pub struct Fields {
    body: Option<Value>,
    query: Vec<(String, String)>,
    path: Vec<String>,
    issues: Vec<String>,
    failure: Option<Failure>,
    asked: Vec<Asked>,
    /// Of those that are neither texts nor flags.
    kinds: Vec<(&'static str, Kind)>,
}

/// A member or parameter that an endpoint looked for: the documentation is made of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub name: &'static str,
    pub in_query: bool,
    pub flag: bool,
    pub required: bool,
}

/// What a member may be besides a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Nullable {
    Absent,
    Null,
    Text(String),
}

impl Fields {
    pub fn new(body: Option<Value>, query: Vec<(String, String)>, path: Vec<String>) -> Fields {
        Fields { body, query, path, issues: Vec::new(), failure: None, asked: Vec::new(), kinds: Vec::new() }
    }

    /// The first failure of its own kind, or all problems in one.
    pub fn finish(self) -> Result<(), Failure> {
        match self.failure {
            Some(failure) if self.issues.is_empty() => Err(failure),
            _ if self.issues.is_empty() => Ok(()),
            _ => Err(Failure::Validation(self.issues.join("; "))),
        }
    }

    /// What the endpoint looked for, and what of it is neither a text nor a flag.
    pub fn into_asked(self) -> (Vec<Asked>, Vec<(&'static str, Kind)>) {
        (self.asked, self.kinds)
    }

    fn ask(&mut self, name: &'static str, required: bool, flag: bool) {
        // What stands within a member is part of it.
        if name.contains('.') {
            return;
        }
        self.asked.push(Asked { name, in_query: false, flag, required });
    }

    fn object(&self) -> Option<&Map<String, Value>> {
        self.body.as_ref()?.as_object()
    }

    /// A member, or one within a member: `data.name`.
    fn member(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.object()?.get(names.next()?)?;
        names.try_fold(first, |value, name| value.as_object()?.get(name))
    }

    /// The body must be an object; without this call a body may be absent altogether.
    pub fn need_object(&mut self) {
        self.need("object");
    }

    /// The same where any member may be sent; the original words it differently.
    pub fn need_record(&mut self) {
        self.need("record");
    }

    fn need(&mut self, wanted: &str) {
        if self.object().is_none() {
            let found = self.body.as_ref().map_or("undefined", kind);
            self.issues.push(format!("[body] Invalid input: expected {wanted}, received {found}"));
        }
    }

    /// A body that is there must be an object.
    pub fn maybe_object(&mut self) {
        if self.body.is_some() {
            self.need_object();
        }
    }

    fn expected(&mut self, name: &str, wanted: &str, found: &str) {
        // One problem is enough when there is no object to look into.
        if self.object().is_some() {
            self.issues.push(format!("[body.{name}] Invalid input: expected {wanted}, received {found}"));
        }
    }

    pub fn text(&mut self, name: &'static str) -> String {
        self.ask(name, true, false);
        self.read_text(name)
    }

    fn read_text(&mut self, name: &str) -> String {
        match self.member(name) {
            Some(Value::String(text)) => text.clone(),
            other => {
                let found = other.map_or("undefined", kind);
                self.expected(name, "string", found);
                String::new()
            }
        }
    }

    /// A string that must not be empty.
    pub fn some_text(&mut self, name: &'static str) -> String {
        let text = self.text(name);
        if matches!(self.member(name), Some(Value::String(text)) if text.is_empty()) {
            self.issues.push(format!("[body.{name}] Too small: expected string to have >=1 characters"));
        }
        text
    }

    pub fn maybe_text(&mut self, name: &'static str) -> Option<String> {
        self.ask(name, false, false);
        self.member(name).is_some().then(|| self.read_text(name))
    }

    /// A string that must look like an address; the problem is a validation problem here.
    /// A whole number from 1 on.
    pub fn maybe_amount(&mut self, name: &'static str) -> Option<i64> {
        self.ask(name, false, false);
        match self.member(name) {
            None => None,
            Some(value) => {
                let number = value.as_i64().filter(|number| *number >= 1);
                if number.is_none() {
                    let found = kind(value);
                    self.expected(name, "integer from 1 on", found);
                }
                number
            }
        }
    }

    pub fn email(&mut self, name: &'static str) -> String {
        let text = self.text(name);
        let is_text = matches!(self.member(name), Some(Value::String(_)));
        if is_text && identity::EmailAddress::parse(&text).is_none() {
            self.issues.push(format!("[body.{name}] Invalid email address"));
        }
        text
    }

    pub fn maybe_flag(&mut self, name: &'static str) -> Option<bool> {
        self.ask(name, false, true);
        match self.member(name) {
            None => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(other) => {
                let found = kind(other);
                self.expected(name, "boolean", found);
                None
            }
        }
    }

    pub fn nullable_text(&mut self, name: &'static str) -> Nullable {
        self.ask(name, false, false);
        match self.member(name) {
            None => Nullable::Absent,
            Some(Value::Null) => Nullable::Null,
            Some(_) => Nullable::Text(self.read_text(name)),
        }
    }

    /// Members that are stored as they are: a null character is refused on both engines, since PostgreSQL's texts
    /// cannot hold one.
    pub fn storable(&mut self, names: &[&'static str]) {
        for name in names {
            if self.member(name).and_then(Value::as_str).is_some_and(|text| text.contains('\0')) {
                self.issues.push(format!("[body.{name}] Invalid input: a null character cannot be stored"));
            }
        }
    }

    /// A number from `least` on.
    pub fn maybe_number(&mut self, name: &'static str, least: Option<i64>) -> Option<f64> {
        self.ask(name, false, false);
        let value = self.member(name)?;
        let Some(number) = value.as_f64() else {
            let found = kind(value);
            self.expected(name, "number", found);
            return None;
        };
        if let Some(least) = least.filter(|least| number < *least as f64) {
            self.problem(name, &format!("Too small: expected number to be >={least}"));
        }
        Some(number)
    }

    /// The same where null is another thing to say.
    pub fn nullable_number(&mut self, name: &'static str, least: Option<i64>) -> Option<Option<f64>> {
        if matches!(self.member(name), Some(Value::Null)) {
            self.ask(name, false, false);
            return Some(None);
        }
        self.maybe_number(name, least).map(Some)
    }

    /// There is an object to look into.
    pub fn has_object(&self) -> bool {
        self.object().is_some()
    }

    /// Members that nobody asked for, where the original takes none.
    pub fn has_more_than(&self, names: &[&str]) -> bool {
        self.object().is_some_and(|members| members.keys().any(|name| !names.contains(&name.as_str())))
    }

    /// The body or the query as a whole is not what it has to be.
    pub fn whole_problem(&mut self, place: &str, message: &str) {
        self.issues.push(format!("[{place}] {message}"));
    }

    /// A problem that only the endpoint knows of.
    pub fn problem(&mut self, name: &str, message: &str) {
        self.issues.push(format!("[body.{name}] {message}"));
    }

    /// A whole number in the query, not below zero.
    pub fn maybe_query_count(&mut self, name: &'static str) -> Option<usize> {
        let text = self.maybe_query(name)?;
        let count = text.parse().ok();
        if count.is_none() {
            self.issues.push(format!("[query.{name}] Invalid input: expected a whole number from 0 on"));
        }
        count
    }

    /// A parameter that must be one of these.
    pub fn maybe_query_of(&mut self, name: &'static str, options: &[&str]) -> Option<String> {
        let text = self.maybe_query(name)?;
        if !options.contains(&text.as_str()) {
            let listed = options.join("\"|\"");
            self.issues.push(format!("[query.{name}] Invalid option: expected one of \"{listed}\""));
        }
        Some(text)
    }

    pub fn is_text(&self, name: &str) -> bool {
        matches!(self.member(name), Some(Value::String(_)))
    }

    /// A member of any kind.
    pub fn any(&mut self, name: &'static str) -> Option<Value> {
        self.ask(name, false, false);
        self.member(name).cloned()
    }

    /// Whether a member says something: null, false, zero and the empty string count as absent in the original.
    pub fn says(&self, name: &str) -> bool {
        self.member(name).is_some_and(is_truthy)
    }

    /// Members that only the server sets: naming one is refused, not ignored.
    pub fn refuse(&mut self, names: &[&'static str]) {
        let refused = names.iter().find(|name| self.says(name));
        if let (Some(name), None) = (refused, &self.failure) {
            self.failure = Some(Failure::FieldNotAllowed(name));
        }
    }

    pub fn query(&mut self, name: &'static str) -> String {
        self.asked.push(Asked { name, in_query: true, flag: false, required: true });
        self.read_query(name).unwrap_or_else(|| {
            self.issues.push(format!("[query.{name}] Invalid input: expected string, received undefined"));
            String::new()
        })
    }

    pub fn maybe_query(&mut self, name: &'static str) -> Option<String> {
        self.asked.push(Asked { name, in_query: true, flag: false, required: false });
        self.read_query(name)
    }

    fn read_query(&mut self, name: &str) -> Option<String> {
        let mut values = self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        let (first, second) = (values.next(), values.next());
        if second.is_some() {
            self.issues.push(format!("[query.{name}] Invalid input: expected string, received array"));
        }
        first
    }

    /// The first of repeated parameters; what stands there is nobody's mistake.
    pub fn first_query(&mut self, name: &'static str) -> Option<String> {
        self.asked.push(Asked { name, in_query: true, flag: false, required: false });
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    pub fn query_flag(&mut self, name: &'static str) -> bool {
        self.asked.push(Asked { name, in_query: true, flag: false, required: false });
        has_flag(&self.query, name)
    }

    /// The text of a braced segment of the path, counted from 0.
    pub fn segment(&self, index: usize) -> String {
        self.path.get(index).cloned().unwrap_or_default()
    }
}

/// Any text is true, even `false`, and so is any repetition; only the empty text is not. Clients rely on it.
pub fn has_flag(query: &[(String, String)], name: &str) -> bool {
    let mut values = query.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    values.next().is_some_and(|first| !first.is_empty() || values.next().is_some())
}

/// As JavaScript judges a value where it expects a truth.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
