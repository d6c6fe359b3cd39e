//! Answers as text, member by member: a replay has to be the first answer to the byte, so nothing else orders them.

use crate::owner::{AccountId, Item, push_item_id};
use kernel::Millis;

pub struct Object(String);

impl Object {
    pub fn new() -> Object {
        let mut text = String::with_capacity(512);
        text.push('{');
        Object(text)
    }

    fn name(&mut self, name: &str) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        push_text(&mut self.0, value);
    }

    pub fn text_or_null(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    pub fn number(&mut self, name: &str, value: i64) {
        self.name(name);
        use std::fmt::Write as _;
        // Writing to a text cannot fail.
        let _ = write!(self.0, "{value}");
    }

    pub fn number_or_null(&mut self, name: &str, value: Option<i64>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.raw(name, "null"),
        }
    }

    pub fn time(&mut self, name: &str, at: Millis) {
        self.name(name);
        self.0.push('"');
        self.0.push_str(at.iso_text().as_str());
        self.0.push('"');
    }

    pub fn time_or_null(&mut self, name: &str, at: Option<Millis>) {
        match at {
            Some(at) => self.time(name, at),
            None => self.raw(name, "null"),
        }
    }

    /// A grant's, hold's or entry's id.
    pub fn id(&mut self, name: &str, account: &AccountId, item: Item, number: i64) {
        self.name(name);
        self.0.push('"');
        push_item_id(&mut self.0, account, item, number);
        self.0.push('"');
    }

    pub fn id_or_null(&mut self, name: &str, account: &AccountId, item: Item, number: Option<i64>) {
        match number {
            Some(number) => self.id(name, account, item, number),
            None => self.raw(name, "null"),
        }
    }

    /// An object within this one.
    pub fn object(&mut self, name: &str, members: impl FnOnce(&mut Object)) {
        self.name(name);
        self.0.push('{');
        members(self);
        self.0.push('}');
    }

    /// A list of objects.
    pub fn list<T>(&mut self, name: &str, items: impl Iterator<Item = T>, members: impl Fn(&mut Object, T)) {
        self.name(name);
        self.0.push('[');
        for item in items {
            if !self.0.ends_with('[') {
                self.0.push(',');
            }
            self.0.push('{');
            members(self, item);
            self.0.push('}');
        }
        self.0.push(']');
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push_str(value);
    }

    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

impl Default for Object {
    fn default() -> Self {
        Object::new()
    }
}

/// A text as JSON has it; most need no escape, and are copied as they are.
pub fn push_text(out: &mut String, value: &str) {
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(value);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(value).to_string());
    }
}
