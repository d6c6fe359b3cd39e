//! The way of events to the app: when each is due, what was tried, and how it ended. Sending is the business of
//! `postman`; here is no I/O.

use crate::books::Books;
use crate::events::Event;
use crate::refusal::Refusal;
use crate::shelf::Kept;
use crate::signature;
use kernel::{Millis, Secret};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// The gaps between attempts, three days in all.
const RETRY_AFTER: [i64; 10] = [
    MINUTE,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    12 * HOUR,
    14 * HOUR,
    14 * HOUR,
    14 * HOUR,
];

/// Where events go, and the secrets that sign them: several while one is being replaced.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) secrets: Vec<Secret<String>>,
}

/// One delivery of one event, as it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub event: String,
    /// `checkout.session.completed`
    pub kind: &'static str,
    /// On the till's clock.
    pub at: Millis,
    /// The status of the answer; none when there was no answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub problem: Option<String>,
}

impl Attempt {
    /// Whether the endpoint took the event.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "event": self.event, "type": self.kind, "at": self.at.iso(), "status": self.status, "problem": self.problem,
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Posting {
    pub(crate) state: PostingState,
    pub(crate) attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostingState {
    /// Nobody listens.
    NoEndpoint,
    /// Due at a time.
    Waiting(Millis),
    OnTheWay,
    /// Kept back until someone lets it go.
    Held,
    /// Will not arrive unless it is sent by hand.
    Lost,
    Delivered,
    /// Three days went by.
    GivenUp,
}

impl PostingState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PostingState::NoEndpoint => "no endpoint",
            PostingState::Waiting(_) => "waiting",
            PostingState::OnTheWay => "on the way",
            PostingState::Held => "held back",
            PostingState::Lost => "lost",
            PostingState::Delivered => "delivered",
            PostingState::GivenUp => "given up",
        }
    }
}

impl Posting {
    pub(crate) fn is_pending(&self) -> bool {
        !matches!(self.state, PostingState::NoEndpoint | PostingState::Delivered)
    }
}

/// A delivery, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) event: String,
    pub(crate) kind: &'static str,
    pub(crate) url: String,
    pub(crate) body: String,
    pub(crate) secrets: Vec<Secret<String>>,
}

impl Parcel {
    /// Every attempt is signed afresh.
    pub(crate) fn signature(&self, seconds: i64) -> String {
        signature::sign(&self.secrets, seconds, self.body.as_bytes())
    }
}

/// The switches of delivery, and what is due.
#[derive(Default)]
pub(crate) struct Post {
    endpoint: Option<Endpoint>,
    holding: bool,
    losing: u32,
    /// Events that wait, by when they are due and in the order they happened.
    waiting: BTreeSet<(Millis, u64, String)>,
    noted: u64,
    on_the_way: usize,
    has_work: bool,
}

impl Post {
    pub(crate) fn new(endpoint: Option<Endpoint>) -> Post {
        Post { endpoint, ..Post::default() }
    }

    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.holding
    }

    pub(crate) fn losing(&self) -> u32 {
        self.losing
    }

    pub(crate) fn new_posting(&mut self, now: Millis) -> Posting {
        let state = if self.endpoint.is_none() {
            PostingState::NoEndpoint
        } else if self.losing > 0 {
            self.losing -= 1;
            PostingState::Lost
        } else if self.holding {
            PostingState::Held
        } else {
            PostingState::Waiting(now)
        };
        Posting { state, attempts: Vec::new() }
    }

    pub(crate) fn take_has_work(&mut self) -> bool {
        std::mem::take(&mut self.has_work)
    }

    fn enqueue(&mut self, at: Millis, event: &str) {
        self.noted += 1;
        self.waiting.insert((at, self.noted, event.to_owned()));
        self.has_work = true;
    }
}

impl Books {
    pub(crate) fn set_endpoint(&mut self, endpoint: Option<Endpoint>) {
        self.post.endpoint = endpoint;
    }

    pub(crate) fn hold_deliveries(&mut self) {
        self.post.holding = true;
    }

    /// Lets go of what was held back, in the order it happened, and holds nothing any more.
    pub(crate) fn release_deliveries(&mut self) {
        self.post.holding = false;
        let now = self.now;
        let mut released = Vec::new();
        for event in self.events.iter_mut().filter(|event| event.posting.state == PostingState::Held) {
            event.posting.state = PostingState::Waiting(now);
            released.push(event.id.clone());
        }
        for id in released {
            self.post.enqueue(now, &id);
        }
    }

    pub(crate) fn lose_next(&mut self, count: u32) {
        self.post.losing = count;
    }

    /// The events that were held back, oldest first.
    pub(crate) fn held_events(&self) -> Vec<String> {
        let held = |event: &&Event| event.posting.state == PostingState::Held;
        self.events.newest_first().rev().filter(held).map(|event| event.id.clone()).collect()
    }

    /// Takes what is due by now. Every parcel must come back by [`Books::came_back`].
    pub(crate) fn take_parcels(&mut self) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        while let Some(first) = self.post.waiting.first().filter(|first| first.0 <= self.now).cloned() {
            self.post.waiting.remove(&first);
            let (at, _, id) = first;
            // It may have been delivered by hand meanwhile.
            let due =
                self.events.get(&id).is_some_and(|event| event.posting.state == PostingState::Waiting(at));
            if due && let Ok(parcel) = self.parcel(&id) {
                parcels.push(parcel);
                self.post.on_the_way += 1;
                self.set_posting(&id, PostingState::OnTheWay);
            }
        }
        parcels
    }

    pub(crate) fn next_delivery_at(&self) -> Option<Millis> {
        self.post.waiting.first().map(|(at, ..)| *at)
    }

    /// The delivery of an event, whatever its state.
    pub(crate) fn parcel(&self, id: &str) -> Result<Parcel, Refusal> {
        let event = self.events.get(id).ok_or_else(|| Refusal::not_found(Event::KIND, id))?;
        let Some(endpoint) = &self.post.endpoint else {
            return Err(Refusal::state("The till has no webhook URL to deliver to."));
        };
        let body = serde_json::to_string_pretty(&event.shown()).expect("a JSON value can be written");
        Ok(Parcel {
            event: event.id.clone(),
            kind: event.kind,
            url: endpoint.url.clone(),
            body,
            secrets: endpoint.secrets.clone(),
        })
    }

    fn set_posting(&mut self, id: &str, state: PostingState) {
        if let Some(event) = self.events.get_mut(id) {
            event.posting.state = state;
        }
    }

    pub(crate) fn came_back(&mut self, attempt: Attempt) {
        self.post.on_the_way -= 1;
        self.delivered(attempt);
    }

    /// Notes how a delivery went, and when the next one is due if it failed.
    pub(crate) fn delivered(&mut self, attempt: Attempt) {
        let Some(event) = self.events.get_mut(&attempt.event) else { return };
        let id = attempt.event.clone();
        let (succeeded, at) = (attempt.succeeded(), attempt.at);
        event.posting.attempts.push(attempt);
        let failures = event.posting.attempts.len();
        if succeeded {
            event.posting.state = PostingState::Delivered;
        } else if event.posting.state == PostingState::OnTheWay {
            match RETRY_AFTER.get(failures - 1) {
                Some(gap) => {
                    let next = at.plus(*gap);
                    event.posting.state = PostingState::Waiting(next);
                    self.post.enqueue(next, &id);
                }
                None => event.posting.state = PostingState::GivenUp,
            }
        }
    }

    /// Queues an event that was just made.
    pub(crate) fn enqueue_new(&mut self, id: &str, posting: PostingState) {
        if let PostingState::Waiting(at) = posting {
            self.post.enqueue(at, id);
        }
    }
}

impl Books {
    /// The same in an order that the seed decides.
    pub(crate) fn shuffled_held_events(&mut self) -> Vec<String> {
        let mut events = self.held_events();
        for place in (1..events.len()).rev() {
            let other = self.ids.below(place + 1);
            events.swap(place, other);
        }
        events
    }

    pub(crate) fn has_deliveries_now(&self) -> bool {
        self.next_delivery_at().is_some_and(|at| at <= self.now) || self.post.on_the_way > 0
    }
}
