//! Events: what happened, with the object as it was then; the list of them; their delivery.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::delivery::Posting;
use crate::lists::{self, Created};
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// How long the list of events reaches back, in seconds.
const REACH: i64 = 30 * 24 * 60 * 60;

/// The request that made an event happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestMark {
    pub(crate) id: String,
    pub(crate) idempotency_key: Option<String>,
}

pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) created: i64,
    pub(crate) api_version: String,
    /// `data`, as text: thousands of events are kept, and most are read never or once.
    data: String,
    request: Option<RequestMark>,
    pub(crate) posting: Posting,
}

impl Kept for Event {
    const KIND: &'static str = "event";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Event {
    pub(crate) fn shown(&self) -> Value {
        let data: Value = serde_json::from_str(&self.data).expect("the text was written from a JSON value");
        json!({
            "id": self.id,
            "object": "event",
            "api_version": self.api_version,
            "created": self.created,
            "data": data,
            "livemode": false,
            "pending_webhooks": i32::from(self.posting.is_pending()),
            "request": {
                "id": self.request.as_ref().map(|request| &request.id),
                "idempotency_key": self.request.as_ref().and_then(|request| request.idempotency_key.as_ref()),
            },
            "type": self.kind,
        })
    }
}

/// The newest events, up to a bound; the oldest leave first.
pub(crate) struct EventLog {
    events: VecDeque<Event>,
    most: usize,
}

impl EventLog {
    pub(crate) fn new(most: usize) -> EventLog {
        EventLog { events: VecDeque::new(), most: most.max(1) }
    }

    pub(crate) fn push(&mut self, event: Event) {
        if self.events.len() >= self.most {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// From the end: the events that are asked for are mostly new.
    pub(crate) fn get(&self, id: &str) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Event> {
        self.events.iter_mut().rev().find(|event| event.id == id)
    }

    pub(crate) fn newest_first(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter().rev()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Event> {
        self.events.iter_mut()
    }
}

impl Books {
    /// Notes that something happened to the object with this id.
    pub(crate) fn emit(&mut self, kind: &'static str, id: &str) {
        self.emit_with(kind, id, None);
    }

    /// The same with the values that the object had before.
    pub(crate) fn emit_changed(&mut self, kind: &'static str, id: &str, before: Value) {
        self.emit_with(kind, id, Some(before));
    }

    fn emit_with(&mut self, kind: &'static str, id: &str, before: Option<Value>) {
        let Some(object) = self.shown(id) else {
            // Every caller has just made or changed the object.
            debug_assert!(false, "{kind} of {id}, which is not there");
            tracing::error!(kind, id, "an event of an object that is not there");
            return;
        };
        self.emit_object(kind, object, before);
    }

    pub(crate) fn emit_object(&mut self, kind: &'static str, object: Value, before: Option<Value>) {
        let version = self.terms.event_version.clone();
        let mut data = json!({ "object": self.in_version(&version, object) });
        if let Some(before) = before {
            data["previous_attributes"] = before;
        }
        let event = Event {
            id: self.ids.next("evt"),
            kind,
            created: self.seconds(),
            api_version: version,
            data: data.to_string(),
            request: self.request.clone(),
            posting: self.post.new_posting(self.now),
        };
        let (id, posting) = (event.id.clone(), event.posting.state);
        self.events.push(event);
        self.enqueue_new(&id, posting);
    }

    pub(crate) fn retrieve_event(&mut self, call: &Call) -> Answer {
        let event = self.events.get(call.id()).ok_or_else(|| Refusal::not_found(Event::KIND, call.id()))?;
        Ok(event.shown())
    }

    pub(crate) fn list_events(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let kind = fields.filled("type");
        let kinds = fields.texts("types");
        if kind.is_some() && !kinds.is_empty() {
            return Err(Refusal::invalid("types", "You may pass either type or types, not both."));
        }
        let delivered = fields.boolean("delivery_success")?;
        let oldest = self.seconds() - REACH;
        let wanted = |event: &&Event| {
            event.created >= oldest
                && created.holds(event.created)
                && kind.is_none_or(|pattern| matches(pattern, event.kind))
                && (kinds.is_empty() || kinds.iter().any(|pattern| matches(pattern, event.kind)))
                && delivered.is_none_or(|delivered| delivered != event.posting.is_pending())
        };
        let found = self.events.newest_first().filter(wanted).map(|event| (event.id.clone(), event));
        lists::page(&fields, "/v1/events", found, Event::shown)
    }
}

/// `charge.*` stands for all that begins so.
fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == pattern,
    }
}
