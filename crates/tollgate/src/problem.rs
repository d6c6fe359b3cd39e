//! Something a person has to change before Tollgate can do what was asked: what is wrong, and what to write instead.

use serde_json::{Value, json};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting's dotted path, or what else is meant (`database`, `clock`).
    pub setting: String,
    /// Where it was read: `tollgate.toml:12` or a variable's name. `None` when it was not set anywhere.
    pub place: Option<String>,
    /// One sentence.
    pub what: String,
    /// One sentence.
    pub fix: String,
}

impl Problem {
    pub fn new(setting: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem { setting: setting.into(), place: None, what: what.into(), fix: fix.into() }
    }

    pub fn at(mut self, place: impl Into<String>) -> Problem {
        self.place = Some(place.into());
        self
    }

    pub fn to_json(&self) -> Value {
        json!({"setting": self.setting, "place": self.place, "what": self.what, "fix": self.fix})
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) if *place != self.setting => write!(f, "{place}: {}: ", self.setting)?,
            _ => write!(f, "{}: ", self.setting)?,
        }
        write!(f, "{} {}", self.what, self.fix)
    }
}
