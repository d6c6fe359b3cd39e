//! `expand[]`: objects in place of their ids, and lists that are shown only when they are asked for.

use crate::books::Books;
use crate::form::Fields;
use crate::refusal::Refusal;
use serde_json::Value;

const DEEPEST: usize = 4;

impl Books {
    pub(crate) fn expand(&self, value: &mut Value, fields: &Fields<'_>) -> Result<(), Refusal> {
        for wish in fields.texts("expand") {
            let path: Vec<&str> = wish.split('.').collect();
            if path.len() > DEEPEST {
                let message = format!("You cannot expand more than {DEEPEST} levels of a property ({wish}).");
                return Err(Refusal::invalid("expand", message));
            }
            if !self.expand_path(value, &path) {
                let message = format!("This property cannot be expanded ({wish}).");
                return Err(Refusal::invalid("expand", message));
            }
        }
        Ok(())
    }

    /// False when there is no such property.
    fn expand_path(&self, value: &mut Value, path: &[&str]) -> bool {
        let Some((name, rest)) = path.split_first() else { return true };
        match value {
            Value::Array(items) => items.iter_mut().all(|item| self.expand_path(item, path)),
            Value::Object(members) => {
                if !members.contains_key(*name) {
                    let Some(included) = self.included(members, name) else { return false };
                    members.insert((*name).to_owned(), included);
                }
                let member = &mut members[*name];
                let found = match member {
                    Value::String(id) => self.shown(id).map(|object| *member = object).is_some(),
                    Value::Array(ids) => {
                        for id in ids.iter_mut() {
                            if let Some(object) = id.as_str().and_then(|id| self.shown(id)) {
                                *id = object;
                            }
                        }
                        true
                    }
                    Value::Null => return true,
                    Value::Object(_) => true,
                    Value::Bool(_) | Value::Number(_) => false,
                };
                found && self.expand_path(member, rest)
            }
            _ => false,
        }
    }

    fn included(&self, members: &serde_json::Map<String, Value>, name: &str) -> Option<Value> {
        let text = |member: &str| members.get(member).and_then(Value::as_str);
        let id = text("id")?;
        match (text("object")?, name) {
            ("checkout.session", "line_items") => Some(self.line_items_within(self.sessions.get(id)?)),
            ("charge", "refunds") => Some(self.refunds_within(id)),
            ("invoice", "payments") => Some(self.payments_within(self.invoices.get(id)?)),
            _ => None,
        }
    }
}
